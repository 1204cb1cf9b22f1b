/* The runner's members, for runner.c, live.c, step.c, outcome.c, pooling.c and bench.c. */
#ifndef HEARTH_RUNNER_PRIVATE_H
#define HEARTH_RUNNER_PRIVATE_H

#include "pace.h"
#include "runner.h"
#include "tier.h"

#define BLOCK_TOKENS 32
#define SCORE_ROWS 32 /* prompt rows of one step whose logits are read: bounds the host buffer */
#define TOP_ROOM 128

/* Which tokens the device may choose. */
enum { MASK_WITH_ENDS, MASK_WITHOUT_ENDS };

/* Arrays of one step. */
struct step_room {
    int32_t *token, *position, *sequence, *slot; /* [max_rows] */
    int32_t *table;                              /* [parallel][stride] */
    int32_t *output;                             /* [max_rows] */
    struct sample_row *sampling;                 /* [max_outputs] */
    float *scale;                                /* [n_adapters][max_rows] */
};

/* One sequence in a step under way. */
struct step_part {
    struct sequence *sequence; /* stays until the step has ended, whatever becomes of the request */
    int first, rows;           /* positions */
    int drafts;                /* the last so many rows are of guessed tokens */
    bool completes;            /* gives the token at position first + rows - drafts */
    bool scored;               /* logits of all its rows come back */
    bool chosen;               /* on the device: ids[place] */
    int place;
    int outputs;               /* rows of logits that come back */
    int states;                /* rows whose states come back instead, */
    int state;                 /* from this one on */
};

struct step_record {
    struct step_part *part; /* [parallel] */
    int n_parts;
    int n_rows;
    int streams;       /* once it is over: of a step without prefill; else 0 */
    double aim;        /* seconds that it was to take, for its streams' sake; 0: as long as it likes */
    double began, seconds;
};

struct runner {
    struct device *device;
    const struct runner_options *options; /* NULL once it is open */
    struct prefix_key digest;             /* of the tensors, where there is a store */
    const struct tokenizer *tokenizer;
    struct weights *weights;
    struct adapter *const *adapters;      /* [facts.limits.n_adapters]; NULL until they are being put on the device */
    struct forward *forward;
    struct kv_blocks *kv;
    struct scheduler *scheduler;
    struct sampler *sampler;
    struct runner_facts facts;
    int32_t *end_ids;  /* [n_end_ids] */
    bool *end;         /* [vocab] */
    int32_t *mask[FORWARD_MASKS]; /* [(vocab + 31) / 32] bits */
    int parallel, max_rows, max_outputs, stride;
    int depth;         /* steps under way at once */
    bool speculates;
    enum engine_speculate speculate;
    struct tier tier;
    struct pace pace;
    struct speculation_cost cost;
    double last_end;   /* when the newest step that is over ended */
    struct step_room room;
    struct step_record record[FORWARD_IN_FLIGHT]; /* of the steps under way, from first_record on */
    int first_record, n_records;
    struct engine_top top[TOP_ROOM];
    struct request *first, *last; /* live ones, by age */
    int streams;       /* in the newest step: sequences with one token to go */
    double output;     /* tokens of a choice, lately; 0: none has ended */
    double token;      /* seconds of a stream's token, lately, with what drafts save; 0: none yet */
    double reported;   /* when places in the queue were told last */
};

/* ---- live.c ---- */

/* The end of a choice, and of a request: out of the scheduler, then the event. */
void runner_finish(struct sequence *, enum finish, struct event_list *out);
void runner_end(struct request *, const struct err *failure, double now, struct event_list *out);
/* As many choices go on as events may be undelivered; the others wait. */
void runner_balance(struct request *);

/* ---- forecast.c ---- */

/* A choice has ended with so many tokens. */
void forecast_learn(struct runner *, int output);
/* A step of streams alone took `seconds` and gave so many tokens. */
void forecast_learn_step(struct runner *, int streams, double seconds, int tokens);
/* Tokens of prompt and answers that a new request is likely to have. */
double forecast_cost(const struct runner *, const struct request *);
/* Seconds until a request that comes now would begin, and between two ends of requests; not lowered. */
void forecast_all(const struct runner *, double now, double *begins, double *ends);
/* Whether a request in the queue will have no token before its deadline. */
bool forecast_misses(const struct runner *, const struct request *, double now);

/* ---- step.c ---- */

/* An empty batch in the runner's room, and rows of one sequence for it: its table goes to row `index` of the
 * tables. */
void step_room_begin(struct runner *, struct batch *);
void step_room_rows(struct runner *, struct batch *, const struct kv_table *, int index,
                    const int32_t *tokens, int first, int rows);

/* ---- outcome.c ---- */

/* What a part of a step gave becomes events. `logits` [outputs][vocab]; `id`: what the device chose. */
int step_outcome(struct runner *, const struct step_part *, const float *logits, int32_t id,
                 struct event_list *out, struct runner_counts *, struct err *) WARN_UNUSED;

/* ---- pooling.c ---- */

/* Sets which rows' states the part of an embedding needs. */
void pooling_want(struct step_part *);
/* Takes these, [states][width], and ends the request with its embedding when they are the last. */
int pooling_take(struct runner *, const struct step_part *, const float *states, struct event_list *out,
                 struct err *) WARN_UNUSED;

#endif
