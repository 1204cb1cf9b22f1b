/* Requests in a runner: how they come in, wait for their readers, and end. */
#include "runner_private.h"

/* ---- the ends of requests ---- */

static void unschedule(struct sequence *s)
{
    if (!s->scheduled) return;
    scheduler_remove(s->request->runner->scheduler, &s->task);
    s->scheduled = false;
}

void runner_finish(struct sequence *s, enum finish why, struct event_list *out)
{
    unschedule(s);
    if (why != FINISH_DEADLINE && s->n_output > 0) forecast_learn(s->request->runner, s->n_output);
    sequence_finish(s, why, clock_seconds(), out);
}

void runner_end(struct request *q, const struct err *failure, double now, struct event_list *out)
{
    if (q->over) return;
    for (int i = 0; i < q->choices; i++) unschedule(&q->sequence[i]);
    request_end(q, failure, now, out);
}

void runner_cancel(struct request *q, double now, struct event_list *out)
{
    runner_end(q, NULL, now, out);
}

/* ---- credit ---- */

void runner_balance(struct request *q)
{
    int credit = q->credit - q->pending;
    for (int i = 0; q->bounded && i < q->choices; i++) {
        struct sequence *s = &q->sequence[i];
        if (!s->scheduled) continue;
        if (credit-- > 0) {
            scheduler_resume(q->runner->scheduler, &s->task);
        } else {
            scheduler_pause(q->runner->scheduler, &s->task);
        }
    }
}

void runner_credit(struct request *q, int events)
{
    if (!q->bounded || q->over) return;
    if (__builtin_add_overflow(q->credit, events, &q->credit)) q->credit = INT32_MAX;
    runner_balance(q);
}

/* ---- coming in ---- */

void runner_add(struct runner *r, struct request *q, double now, struct event_list *out)
{
    struct err err = {0};
    q->runner = r;
    q->next = NULL;
    *(r->last ? &r->last->next : &r->first) = q;
    r->last = q;
    if (q->max_tokens == 0 && !q->prompt_logprobs && !q->warm && !q->embed) {
        q->admitted = q->first_token = now;
        for (int i = 0; i < q->choices; i++) runner_finish(&q->sequence[i], FINISH_LENGTH, out);
        return;
    }
    struct sequence *s = &q->sequence[0];
    if (sequence_start(s, r->tokenizer, &err)) {
        runner_end(q, &err, now, out);
        return;
    }
    s->task.scored = q->prompt_logprobs;
    s->task.turn = (struct turn){.owner = q->owner, .priority = q->priority, .cost = forecast_cost(r, q)};
    scheduler_add(r->scheduler, &s->task);
    s->scheduled = true;
    if (q->deadline > 0 && forecast_misses(r, q, now)) {
        err_set(&err, ERR_DEADLINE, "the request would not begin to answer before its deadline");
        runner_end(q, &err, now, out);
    }
}

double runner_expire(struct runner *r, double now, struct event_list *out)
{
    double next = 0;
    for (struct request *q = r->first; q; q = q->next) {
        if (q->over || q->deadline <= 0) continue;
        if (q->deadline > now) {
            if (next == 0 || q->deadline < next) next = q->deadline;
            continue;
        }
        for (int i = 0; i < q->choices && !q->over; i++) {
            struct sequence *s = &q->sequence[i];
            struct err err = {0};
            if (s->finished) continue;
            if (sequence_flush(s, out, &err)) {
                runner_end(q, &err, now, out);
            } else {
                runner_finish(s, FINISH_DEADLINE, out);
            }
        }
    }
    return next;
}

struct request *runner_reap(struct runner *r)
{
    struct request *reaped = NULL, **from = &r->first, **to = &reaped;
    r->last = NULL;
    while (*from) {
        struct request *q = *from;
        if (q->over) {
            *from = q->next;
            q->next = NULL;
            *to = q;
            to = &q->next;
        } else {
            r->last = q;
            from = &q->next;
        }
    }
    return reaped;
}

void runner_release(struct request *q)
{
    if (q->in_steps == 0) {
        request_free(q);
    } else {
        q->released = true;
    }
}
