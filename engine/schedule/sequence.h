/* A request while the engine works on it, and its choices: one sequence of tokens each. */
#ifndef HEARTH_SEQUENCE_H
#define HEARTH_SEQUENCE_H

#include <stdatomic.h>

#include "../grammar/grammar.h"
#include "../text/stream.h"
#include "dry.h"
#include "event.h"
#include "sampler.h"
#include "scheduler.h"
#include "speculate.h"

struct request;
struct tokenizer;

struct held_token {
    int32_t id;
    float logprob;
};

/* One choice. Owned by its request. */
struct sequence {
    struct task task; /* first: the scheduler's plan names tasks */
    struct request *request;
    int choice;
    bool scheduled, finished;
    bool fetched;     /* the store has been asked for its blocks */
    int32_t *tokens;  /* [capacity] prompt and output: n_known of them; then -1 - i for the one that the
                       * step under way puts at place i of its ids, and room for the step behind it; or
                       * drafts */
    int capacity, n_known;
    int n_output;
    int n_end;        /* of the tokens that end its thinking, those that were put in */
    bool thought;     /* it does not think any more */
    struct text_stream *stream;
    struct token_counts *counts;  /* of the penalties' window; NULL without penalties */
    struct dry_place dry;         /* behind its last sequence breaker; unused without DRY */
    struct speculation speculation;
    struct grammar_state *grammar; /* where the output stands in it; NULL: free text */
    struct held_token *held;      /* [held_capacity] tokens whose text is not out yet */
    struct engine_top *held_top;  /* [held_capacity][n_top] */
    int n_held, held_capacity;
    char *text;                   /* [text_capacity] of the event being made */
    size_t text_length, text_capacity;
};

/* Owned by the worker from submit to its last event. */
struct request {
    struct request *next;  /* in the runner's list */
    uint64_t id;
    void *user;
    struct runner *runner;
    struct sampling sampling;
    struct logit_bias *bias;
    float *scale;          /* [n_adapters] of the model's adapters; NULL: none is at work */
    struct dry_breakers *breakers; /* NULL without DRY */
    int32_t *prompt;       /* [n_prompt] */
    int n_prompt;
    int choices;
    int max_tokens;        /* -1: to the end of the context */
    struct engine_thinking thinking;
    int limit;             /* tokens of a sequence at most, prompt included */
    struct grammar *grammar; /* a reference; NULL: free text */
    bool ignore_eos, logprobs, prompt_logprobs;
    bool private;          /* neither finds nor leaves anything in the prefix cache */
    bool warm;             /* fills the prefix cache and says nothing */
    enum engine_pooling embed; /* NONE: tokens are wanted */
    double *pooled;        /* [width] sum of the states wanted; NULL: none are */
    int n_pooled;          /* prompt tokens whose states are in it, or were passed over */
    bool explains;         /* tells where the prompt left what is cached: */
    struct engine_explain explain; /* as of its turn; only `diverges` and `cached` before the end */
    bool biased;           /* by logit_bias: more than ignore_eos does */
    int n_top;
    struct want *want;     /* [n_prompt] or NULL */
    int32_t *want_ids;     /* where their ids lie */
    bool bounded;
    int credit;
    double deadline;
    int priority;
    uint64_t owner;
    bool tells_place;
    int told_ahead;        /* the place that was told last; -1: none */
    double submitted, admitted, first_token; /* seconds; 0: not yet */
    struct sequence *sequence; /* [choices]; the first computes the prompt, the others fork from it */
    int n_finished;
    int n_scored;          /* prompt tokens whose log-probabilities are out */
    float next_logprob;    /* of the prompt token after them */
    bool forked;           /* all choices have begun */
    bool over;             /* its last event is made */
    bool released;         /* nobody wants it any more: freed when no step refers to it */
    int in_steps;          /* how often steps under way refer to it */
    int pending;           /* tokens that they will give */
    struct event_list farewell; /* one ready-made event per choice: an end needs no memory */
    struct {
        atomic_int state, computed, cached, generated; /* as of the last step, for engine_slots */
    } progress;

    /* Guarded by the worker's mutex. */
    struct request *live_next, *live_previous;
    bool cancel_asked;
    int credit_given;
};

/* What a request must fit. */
struct request_limits {
    int context;             /* tokens of one sequence */
    int vocab, width;
    const int32_t *end_ids;  /* tokens that end a text */
    int n_end_ids;
    const struct kv_blocks *kv;
    const struct prefix_key *adapter_keys; /* [n_adapters] */
    int n_adapters;
    struct prefix_key root;  /* what K and V depend on besides the tokens, all but adapters and the salt */
};

/* Checks and copies. ERR_INVALID, ERR_TOO_LONG, ERR_NOMEM. */
int request_create(struct request **out, const struct engine_request *, const struct request_limits *,
                   struct err *) WARN_UNUSED;
/* The root with the adapters that are at work. */
struct prefix_key request_root(const struct request_limits *, const struct engine_scale *, size_t n);
void request_free(struct request *); /* no task is scheduled any more */

/* Adds a generated token to a choice and what text it completes to `out`. `top` as the request's n_top.
 * *finish is FINISH_NONE while it goes on. */
int sequence_accept(struct sequence *, int32_t id, const char *bytes, size_t n_bytes, float logprob,
                    const struct engine_top *top, struct event_list *out, enum finish *finish,
                    struct err *) WARN_UNUSED;
/* What the next token is where `id` was chosen: that one, or the next of those that end too long a thinking. */
int32_t sequence_think(struct sequence *, int32_t id);
/* Sends what text is held back: the choice ends without a stop string. */
int sequence_flush(struct sequence *, struct event_list *out, struct err *) WARN_UNUSED;
/* A choice starts where the prompt ends: takes over its tokens and counts. */
int sequence_start(struct sequence *, const struct tokenizer *, struct err *) WARN_UNUSED;
/* What its sampling parameters see of it. */
struct sampler_past sequence_past(const struct sequence *);

/* The end of one choice (ENGINE_DONE), and of the whole request with the last. */
void sequence_finish(struct sequence *, enum finish, double now, struct event_list *out);
/* The end of the whole request, whatever its choices do: ENGINE_FAILED with `failure`, or without one
 * ENGINE_DONE with FINISH_CANCELLED. */
void request_end(struct request *, const struct err *failure, double now, struct event_list *out);

#endif
