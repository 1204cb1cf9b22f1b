/* How far a runner's requests are, for those who look on. */
#include "runner_private.h"

static enum engine_slot_state state_of(const struct request *q)
{
    bool running = false, paused = false;
    if (q->admitted == 0) return ENGINE_SLOT_WAITING;
    for (int i = 0; i < q->choices; i++) {
        const struct sequence *s = &q->sequence[i];
        running |= s->scheduled && s->task.state == TASK_RUNNING;
        paused |= s->scheduled && s->task.state == TASK_PAUSED;
    }
    if (running || !paused) {
        if (q->sequence[0].task.n_reached < q->n_prompt && !q->forked) return ENGINE_SLOT_PREFILL;
        return running ? ENGINE_SLOT_DECODE : ENGINE_SLOT_PREEMPTED;
    }
    return ENGINE_SLOT_PAUSED;
}

static void note(struct request *q)
{
    int computed = 0, generated = 0, cached = q->sequence[0].task.n_found;
    for (int i = 0; i < q->choices; i++) {
        const struct sequence *s = &q->sequence[i];
        if (s->task.n_computed > computed) computed = s->task.n_computed;
        generated += s->n_output;
    }
    if (cached > q->n_prompt) cached = q->n_prompt;
    atomic_store_explicit(&q->progress.computed, computed, memory_order_relaxed);
    atomic_store_explicit(&q->progress.cached, cached, memory_order_relaxed);
    atomic_store_explicit(&q->progress.generated, generated, memory_order_relaxed);
    /* who sees a state sees numbers that are no older */
    atomic_store_explicit(&q->progress.state, (int)state_of(q), memory_order_release);
}

void runner_observe(const struct runner *r, struct runner_load *load)
{
    load->running += scheduler_running(r->scheduler);
    load->blocks_used += kv_blocks_total(r->kv) - kv_blocks_free(r->kv);
    load->blocks_cached += kv_blocks_cached(r->kv);
    load->preempted += scheduler_preemptions(r->scheduler);
    forecast_all(r, clock_seconds(), &load->begins, &load->ends);
    for (struct request *q = r->first; q; q = q->next) {
        if (q->over) continue;
        load->waiting += q->admitted == 0;
        note(q);
    }
}
