/* One request in progress. job.c has its life: parsing, submitting, ending. answer.c turns the
 * engine's events into bytes. */
#ifndef HEARTH_API_JOB_H
#define HEARTH_API_JOB_H

#include <stdatomic.h>

#include "admission.h"
#include "format.h"
#include "shelf.h"

enum {
    JOB_MAX_TOP = 20,
    STREAM_CREDIT = 64 /* events of a stream that its reader has not taken; then its choices wait */
};

struct choice {
    struct job *job;
    int index;
    struct pieces *pieces;   /* the reader of its text */
    struct block *blocks;    /* what the reader made of it so far */
    int n_blocks, n_calls;
    json_t *logprobs;        /* whole answers: what has come so far; streams: what is not out yet */
    int64_t offset;          /* characters from the beginning of the prompt */
    int64_t bytes;           /* of its text */
    bool thought;            /* its reasoning has ended */
    bool begun;              /* role or echo are out */
    uint64_t last_event;     /* uv_hrtime of its last token; 0: none, or it waited for the reader then */
    struct bytes embedding;  /* as it is answered, in JSON */
    enum finish finish;      /* FINISH_NONE: goes on */
    int stop;                /* which of the request's stop strings ended it; -1: none */
};

struct part { /* one prompt: one request of the engine */
    struct job *job;
    uint64_t id;
    bool live;               /* submitted, and its last event has not come */
    bool begun;              /* its first token has come */
    uint64_t submitted;      /* uv_hrtime */
    int first_choice;
    int undelivered;         /* events whose credit has not been returned */
    int prompt_tokens;
    double prefill_seconds, decode_seconds; /* of its last choice that ended */
    json_t *echo;            /* logprobs of the prompt's tokens; NULL where not asked for */
    size_t n_echo;           /* prompt tokens that have come */
    int64_t offset;          /* characters in them */
    struct engine_top top[JOB_MAX_TOP]; /* what the last of them predicts */
    int n_top;
};

struct job {
    struct api *api;
    struct model *model;       /* that answers; NULL until it is known and loaded */
    struct served *asked;      /* whose model that is; NULL: not known yet */
    struct shelf_wait wait;    /* for it; holds it until the job is disposed of */
    struct job *next, *previous;
    struct http_request *http; /* NULL once the client is gone or served */
    struct api_request request;
    const struct answer_format *format;
    void *state;               /* the format's */
    struct api_error error;
    const char *body;          /* the request's, or `copy` */
    size_t body_length;
    char *copy;
    uv_work_t work;
    bool parsed;
    bool working;              /* on the thread pool */
    atomic_bool abandoned;     /* nobody wants what the thread pool makes */
    struct admission admission;
    double deadline;           /* on CLOCK_MONOTONIC; 0: none */
    int held;                  /* a function of ours is on the stack and uses it */
    bool over;                 /* answered, or nobody listens */
    bool streaming;            /* headers are out */
    bool answered;             /* some text has come */
    int status;
    uint64_t started, last_write; /* uv_hrtime */
    double load_seconds;       /* until the model was there */
    double prefill_seconds, decode_seconds; /* of all parts and choices that are over */

    struct part *parts;        /* [request.n_prompts] */
    struct choice *choices;    /* [request.n_prompts * request.n] */
    size_t next_part;          /* to be submitted */
    int live;                  /* parts that are */
    size_t finished;           /* choices that are */
    int64_t prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens;
    char id[48];
    uint64_t seed;
    json_t *head;              /* the object every chunk, or the whole answer, is made of */
    json_t *extension;         /* its member "hearth" at the end; NULL: none */
    struct bytes buffer;
};

/* Ends the job with an error: a status where none is out, in-band otherwise. */
void job_fail(struct job *, const struct api_error *);
void job_fail_memory(struct job *);
/* Answers what is asked about a prompt alone (about.c). */
void job_reply_prompt(struct job *);

/* Runs the format's `keep` on the thread pool, then answer_kept, or fails the job. */
void job_keep(struct job *);

/* Makes id and seed, where they are not there. */
void answer_name(struct job *);
/* Makes head and choices, too. Returns -1 without memory. */
int answer_begin(struct job *) WARN_UNUSED;
/* Frees what it made. */
void answer_dispose(struct job *);
/* What was to be kept is: the answer ends. */
void answer_kept(struct job *);
void answer_prompt(struct part *, const struct engine_event *);
void answer_text(struct part *, const struct engine_event *);
void answer_done(struct part *, const struct engine_event *);
/* format_embeddings.c */
void answer_embedding(struct part *, const struct engine_event *);
/* Tells a client that waits for its stream how many are before it. */
void answer_queued(struct part *, const struct engine_event *);
/* Everything written was handed to the socket: the engine gets its credit back. */
void answer_drained(void *job);
/* Writes a comment that keeps proxies and clients waiting. */
void answer_keep_alive(struct job *);
/* An error as the last event of a stream. */
void answer_stream_error(struct job *, const struct api_error *);

/* ---- between answer.c and answer_blocks.c ---- */

void answer_random(const struct job *, unsigned char random[24]);
/* The prefix, then the bytes in hex digits. */
void answer_id(char *out, size_t size, const char *prefix, const unsigned char *random, size_t n);
/* The sink of a choice's reader; `user` is the struct choice. */
int answer_piece(void *user, const struct piece *);
/* Streams: log-probabilities whose tokens gave no text go out with an empty one. -1: no memory. */
int answer_flush(struct choice *) WARN_UNUSED;
/* Text and tokens of an event. -1: no memory. */
int answer_add_text(struct choice *, const struct engine_event *) WARN_UNUSED;

#endif
