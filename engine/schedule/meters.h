/* What the worker tells of itself: written by the worker, and `requests` by whoever submits; read by anybody
 * at any time. No reader makes the worker wait or sees a number half written. */
#ifndef HEARTH_METERS_H
#define HEARTH_METERS_H

#include <stdatomic.h>

#include "runner.h"

struct meters {
    atomic_int running, waiting, blocks, blocks_used, blocks_cached, step_rows;
    atomic_uint_fast64_t requests, started; /* submitted; of them, those that the runners have seen */
    atomic_uint_fast64_t prompt_tokens, completion_tokens, cancelled, preempted, steps, steps_ahead;
    atomic_uint_fast64_t drafted, accepted;
    atomic_uint_fast64_t step_count[ENGINE_BUCKETS];
    _Atomic double step_sum;
    _Atomic double begins, ends; /* forecasts, in seconds */
    _Atomic double step_began; /* 0: no step in progress */
};

void meters_count(atomic_uint_fast64_t *); /* one more */
double meters_step_begins(struct meters *);
/* `worked`: something was computed, so that the step counts. */
void meters_step_ends(struct meters *, double began, bool worked, const struct runner_counts *);
void meters_load(struct meters *, const struct runner_load *);
/* Sets what the meters know. */
void meters_read(const struct meters *, struct engine_status *);

#endif
