/* The runner's members, for runner.c, step.c and bench.c. */
#ifndef HEARTH_RUNNER_PRIVATE_H
#define HEARTH_RUNNER_PRIVATE_H

#include "runner.h"

#define BLOCK_TOKENS 32
#define SCORE_ROWS 32 /* prompt rows of one step whose logits are read: bounds the host buffer */
#define TOP_ROOM 128

/* Arrays of one step. */
struct step_room {
    int32_t *token, *position, *sequence, *slot; /* [max_rows] */
    int32_t *table;                              /* [parallel][stride] */
    int32_t *output;                             /* [max_outputs] */
    float *logits;                               /* [max_outputs][vocab] */
};

struct runner {
    struct device *device;
    const struct tokenizer *tokenizer;
    struct weights *weights;
    struct forward *forward;
    struct kv_blocks *kv;
    struct scheduler *scheduler;
    struct sampler *sampler;
    struct runner_facts facts;
    int32_t *end_ids;  /* [n_end_ids] */
    bool *end;         /* [vocab] */
    int parallel, max_rows, max_outputs, stride;
    struct step_room room;
    struct engine_top top[TOP_ROOM];
    struct request *first, *last; /* live ones, by age */
};

/* Rows of one sequence for the next batch: its table goes to row `index` of the tables. */
void step_room_rows(struct runner *, struct batch *, const struct kv_table *, int index,
                    const int32_t *tokens, int first, int rows);

#endif
