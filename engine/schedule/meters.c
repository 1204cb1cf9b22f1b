/* Counters and the times of steps. */
#include "meters.h"

#include <time.h>

const double engine_bounds[ENGINE_BUCKETS - 1] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                  0.5,   1,      2.5,   5,    10,    30,   60,  120};

int engine_bucket(double seconds)
{
    int i = 0;
    while (i < ENGINE_BUCKETS - 1 && seconds > engine_bounds[i]) i++;
    return i;
}

/* A clock that stands still while the machine sleeps: a step must not seem to hang on waking. */
static double awake_seconds(void)
{
    struct timespec now;
#ifdef __APPLE__
    clock_gettime(CLOCK_UPTIME_RAW, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void add(atomic_uint_fast64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t get(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void set(atomic_int *gauge, int value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

void meters_count(atomic_uint_fast64_t *counter)
{
    add(counter, 1);
}

double meters_step_begins(struct meters *m)
{
    double now = awake_seconds();
    atomic_store_explicit(&m->step_began, now, memory_order_relaxed);
    return now;
}

void meters_step_ends(struct meters *m, double began, bool worked, const struct runner_counts *counts)
{
    atomic_store_explicit(&m->step_began, 0, memory_order_relaxed);
    add(&m->prompt_tokens, counts->prompt_tokens);
    add(&m->completion_tokens, counts->completion_tokens);
    add(&m->steps_ahead, counts->steps_ahead);
    add(&m->drafted, counts->drafted_tokens);
    add(&m->accepted, counts->accepted_tokens);
    if (!worked) return;
    double seconds = awake_seconds() - began;
    add(&m->steps, 1);
    add(&m->step_count[engine_bucket(seconds)], 1);
    double sum = atomic_load_explicit(&m->step_sum, memory_order_relaxed);
    atomic_store_explicit(&m->step_sum, sum + seconds, memory_order_relaxed);
}

void meters_load(struct meters *m, const struct runner_load *load)
{
    set(&m->running, load->running);
    set(&m->waiting, load->waiting);
    set(&m->blocks_used, load->blocks_used);
    set(&m->blocks_cached, load->blocks_cached);
    atomic_store_explicit(&m->preempted, load->preempted, memory_order_relaxed);
    atomic_store_explicit(&m->begins, load->begins, memory_order_relaxed);
    atomic_store_explicit(&m->ends, load->ends, memory_order_relaxed);
}

void meters_read(const struct meters *m, struct engine_status *out)
{
    double began = atomic_load_explicit(&m->step_began, memory_order_relaxed);
    double age = began > 0 ? awake_seconds() - began : 0;
    uint64_t started = get(&m->started); /* before requests, which is never smaller */
    *out = (struct engine_status){
        .running = atomic_load_explicit(&m->running, memory_order_relaxed),
        .waiting = atomic_load_explicit(&m->waiting, memory_order_relaxed),
        .kv_blocks = atomic_load_explicit(&m->blocks, memory_order_relaxed),
        .kv_blocks_used = atomic_load_explicit(&m->blocks_used, memory_order_relaxed),
        .kv_blocks_cached = atomic_load_explicit(&m->blocks_cached, memory_order_relaxed),
        .requests = get(&m->requests),
        .prompt_tokens = get(&m->prompt_tokens),
        .completion_tokens = get(&m->completion_tokens),
        .cancelled = get(&m->cancelled),
        .preempted = get(&m->preempted),
        .steps = get(&m->steps),
        .steps_ahead = get(&m->steps_ahead),
        .drafted_tokens = get(&m->drafted),
        .accepted_tokens = get(&m->accepted),
        .step_time.sum = atomic_load_explicit(&m->step_sum, memory_order_relaxed),
        .step_seconds = age > 0 ? age : 0,
        .step_rows = atomic_load_explicit(&m->step_rows, memory_order_relaxed),
        .step_layer = -1,
        .begins_seconds = atomic_load_explicit(&m->begins, memory_order_relaxed),
        .ends_seconds = atomic_load_explicit(&m->ends, memory_order_relaxed),
    };
    out->waiting += out->requests > started ? (int)(out->requests - started) : 0;
    for (int i = 0; i < ENGINE_BUCKETS; i++) out->step_time.count[i] = get(&m->step_count[i]);
}
