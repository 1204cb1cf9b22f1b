/* What an answer looks like: one struct answer_format for each kind of API. answer.c reads the engine's events,
 * cuts each choice's text into blocks (pieces.h) and calls the format; the format makes JSON and hands it back.
 * Functions return 0, or -1 only without memory: the job is then failed by answer.c. NULL members do nothing. */
#ifndef HEARTH_API_FORMAT_H
#define HEARTH_API_FORMAT_H

#include "bytes.h"
#include "errors.h"
#include "pieces.h"
#include "request.h"

struct job;
struct choice;

/* A run of content, of reasoning, or one tool call. */
struct block {
    enum block_kind kind;
    int number;         /* among the choice's blocks, from 0 */
    int call;           /* BLOCK_CALL: among its calls, from 0 */
    char id[40];        /* BLOCK_CALL: the format's call_prefix and random digits */
    char *name;         /* BLOCK_CALL: the function's */
    struct bytes text;  /* so far; arguments of a call. In streams only where the format keeps_text */
    bool ended;
};

struct answer_format {
    const char *id_prefix;   /* of job->id: "chatcmpl-" */
    const char *call_prefix; /* of calls' ids: "call_"; NULL: the format has no calls */
    bool text_logprobs;      /* the older shape of logprobs; else chat's: {"content":[…],"refusal":null} */
    bool keeps_text;         /* streams: blocks keep their whole text until the job ends */
    bool lines;              /* streams: JSON objects, one a line; else server-sent events */

    /* Once, before anything: job->id, job->seed are there. Makes job->head or job->state. */
    int (*begin)(struct job *);
    void (*dispose)(struct job *); /* frees job->state */

    /* Streams. They write with answer_event. */
    int (*choice_begun)(struct job *, int choice);
    int (*block_begun)(struct job *, int choice, const struct block *);
    /* Text is valid UTF-8, possibly empty where there are logprobs. The reference to logprobs (NULL: none) is taken.
     * Without block_ended it is also called, with a block that was not begun, for logprobs outside of all. */
    int (*block_text)(struct job *, int choice, const struct block *, const char *text, size_t length,
                      json_t *logprobs);
    int (*block_ended)(struct job *, int choice, const struct block *);
    int (*choice_ended)(struct job *, int choice); /* answer_finish tells why */
    int (*ended)(struct job *);                    /* every choice has: usage, the last event */
    const char *keep_alive;                        /* instead of a comment, once a choice has begun; NULL: a comment */
    /* An error as the last event of a stream that has begun; of one that waited for its model, without `begin`. */
    int (*stream_error)(struct job *, const struct api_error *);

    /* Both: when every choice has ended, before what tells so. An answer that `keeps` goes on when `keep`, which blocks
     * on the thread pool, has returned 0; its failure fails the job. */
    int (*complete)(struct job *);
    bool (*keeps)(const struct job *);
    int (*keep)(struct job *, struct err *);

    /* Whole answers: the body, when every choice has ended. */
    int (*whole)(struct job *, struct bytes *body);
};

extern const struct answer_format format_chat, format_text, format_responses, format_messages, format_ollama,
    format_embeddings, format_infill;
/* By the endpoint of job->request; never NULL. */
const struct answer_format *answer_format_of(enum api_endpoint);

/* ---- for formats ---- */

/* Writes one event: "event: NAME\n" where name is not NULL, "data: …\n\n", or a line. Does nothing once the client is
 * gone. */
int answer_event(struct job *, const char *name, const json_t *object) WARN_UNUSED;
/* Writes bytes as they are: "data: [DONE]\n\n". */
void answer_write(struct job *, const char *text);
/* How many choices the answer has. */
size_t answer_choices(const struct job *);
/* All blocks of a kind as one string; null where there is none of it. A new reference; NULL without memory. */
json_t *answer_joined(const struct choice *, enum block_kind);
/* All content as one string; null where there is none, but calls. Likewise. */
json_t *answer_content(const struct choice *);
/* The arguments of a call, an object; those that max_tokens cut are an empty one. */
json_t *answer_arguments(const struct block *);
/* "stop", "length" or "tool_calls" of a choice that has ended, in OpenAI's words. */
const char *answer_finish(const struct choice *);

#endif
