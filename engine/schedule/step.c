/* One step of a model: the scheduler's plan becomes a batch, the logits become tokens and events. */
#include <math.h>
#include <string.h>

#include "runner_private.h"

/* ---- the ends of requests ---- */

static void unschedule(struct runner *r, struct sequence *s)
{
    if (!s->scheduled) return;
    scheduler_remove(r->scheduler, &s->task);
    s->scheduled = false;
}

static void finish(struct runner *r, struct sequence *s, enum finish why, struct event_list *out)
{
    unschedule(r, s);
    sequence_finish(s, why, clock_seconds(), out);
}

static void end(struct request *q, const struct err *failure, double now, struct event_list *out)
{
    if (q->over) return;
    for (int i = 0; i < q->choices; i++) unschedule(q->runner, &q->sequence[i]);
    request_end(q, failure, now, out);
}

void runner_cancel(struct request *q, double now, struct event_list *out)
{
    end(q, NULL, now, out);
}

/* ---- credit ---- */

/* As many choices go on as events may be undelivered; the others wait. */
static void balance(struct request *q)
{
    int credit = q->credit;
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
    balance(q);
}

/* ---- coming in ---- */

void runner_add(struct runner *r, struct request *q, double now, struct event_list *out)
{
    struct err err = {0};
    q->runner = r;
    q->next = NULL;
    *(r->last ? &r->last->next : &r->first) = q;
    r->last = q;
    if (q->max_tokens == 0 && !q->prompt_logprobs) {
        q->admitted = q->first_token = now;
        for (int i = 0; i < q->choices; i++) finish(r, &q->sequence[i], FINISH_LENGTH, out);
        return;
    }
    struct sequence *s = &q->sequence[0];
    if (sequence_start(s, &err)) {
        end(q, &err, now, out);
        return;
    }
    s->task.scored = q->prompt_logprobs;
    scheduler_add(r->scheduler, &s->task);
    s->scheduled = true;
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
                end(q, &err, now, out);
            } else {
                finish(r, s, FINISH_DEADLINE, out);
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

/* ---- the batch ---- */

void step_room_rows(struct runner *r, struct batch *b, const struct kv_table *kv, int index,
                    const int32_t *tokens, int first, int rows)
{
    struct step_room *m = &r->room;
    int32_t *table = m->table + (size_t)index * (size_t)r->stride;
    memcpy(table, kv->block, (size_t)kv->n * sizeof *table);
    memset(table + kv->n, 0, (size_t)(r->stride - kv->n) * sizeof *table);
    for (int i = 0; i < rows; i++, b->n_rows++) {
        m->token[b->n_rows] = tokens[i];
        m->position[b->n_rows] = first + i;
        m->sequence[b->n_rows] = index;
        m->slot[b->n_rows] = kv_table_slot(kv, r->kv, first + i);
    }
    b->n_sequences = index + 1;
}

/* A task whose last known token is in the step gives the next one. */
static bool completes(const struct task *t)
{
    return t->n_computed + t->rows == t->n_tokens;
}

static void fill(struct runner *r, const struct plan *plan, struct batch *b, double now,
                 struct runner_counts *counts)
{
    struct step_room *m = &r->room;
    *b = (struct batch){.token = m->token, .position = m->position, .sequence = m->sequence, .slot = m->slot,
                        .table = m->table, .output = m->output,
                        .n_copies = plan->copies.n, .copy = plan->copies.pair};
    for (int i = 0; i < plan->n_tasks; i++) {
        struct task *t = plan->task[i];
        struct sequence *s = (struct sequence *)t;
        if (s->request->admitted == 0) {
            s->request->admitted = now;
            counts->prompt_tokens += (uint64_t)s->request->n_prompt;
        }
        int row = b->n_rows;
        step_room_rows(r, b, &t->kv, i, s->tokens + t->n_computed, t->n_computed, t->rows);
        if (t->scored) {
            for (int j = 0; j < t->rows; j++) m->output[b->n_outputs++] = row + j;
        } else if (completes(t)) {
            m->output[b->n_outputs++] = row + t->rows - 1;
        }
    }
    REQUIRE(b->n_rows <= r->max_rows && b->n_outputs <= r->max_outputs);
}

/* ---- from logits to events ---- */

/* Log-probabilities of prompt tokens; `logits` are those of positions first … first+rows-1. */
static int score(struct runner *r, struct sequence *s, const float *logits, int first, int rows,
                 struct event_list *out, struct err *err)
{
    struct request *q = s->request;
    int from = q->n_scored > first ? q->n_scored : first, count = first + rows - from;
    if (count <= 0) return 0; /* computed again after a preemption */
    size_t wants = 0, n_top = (size_t)q->n_top;
    for (int i = from; q->want && i < from + count; i++) wants += q->want[i].n;
    struct engine_top *top;
    float *want;
    struct event *e = event_create(0, (size_t)count, (size_t)count * n_top, wants, &top, &want);
    if (!e) return err_set(err, ERR_NOMEM, "out of memory for log-probabilities");
    e->event.kind = ENGINE_PROMPT;
    e->event.id = q->id;
    e->event.user = q->user;
    struct engine_token *token = (struct engine_token *)e->event.tokens;
    for (int i = from; i < from + count; i++, token++, top += n_top) {
        const float *row = logits + (size_t)(i - first) * (size_t)r->facts.hyper->vocab;
        token->id = q->prompt[i];
        token->logprob = q->next_logprob;
        int32_t next = i + 1 < q->n_prompt ? q->prompt[i + 1] : -1;
        q->next_logprob = sampler_logprobs(r->sampler, row, next, top, q->n_top);
        if (isnan(q->next_logprob)) {
            engine_event_free(&e->event);
            return err_set(err, ERR_DEVICE, "the model's logits are not finite");
        }
        token->n_top = event_tops(top, q->n_top);
        token->top = token->n_top > 0 ? top : NULL;
        if (!q->want || q->want[i].n == 0) continue;
        sampler_want(r->sampler, row, q->want[i].ids, q->want[i].n, want);
        token->want = want;
        want += q->want[i].n;
    }
    q->n_scored = from + count;
    s->task.scored = q->n_scored < q->n_prompt;
    event_list_add(out, e);
    return 0;
}

static int sample(struct runner *r, struct sequence *s, const float *logits, struct event_list *out,
                  struct runner_counts *counts, struct err *err)
{
    struct request *q = s->request;
    int32_t id = sampler_choose(r->sampler, logits, &q->sampling, s->counts, s->choice, s->task.n_tokens,
                                err);
    if (id < 0) return id;
    if (r->end[id]) {
        int rc = sequence_flush(s, out, err);
        if (!rc) finish(r, s, FINISH_STOP, out);
        return rc;
    }
    float logprob = q->logprobs ? sampler_logprobs(r->sampler, logits, id, r->top, q->n_top) : 0;
    size_t n_bytes = 0;
    const char *bytes = tokenizer_bytes(r->tokenizer, id, &n_bytes);
    enum finish why;
    int rc = sequence_accept(s, id, bytes ? bytes : "", n_bytes, logprob, r->top, out, &why, err);
    if (rc) return rc;
    counts->completion_tokens++;
    if (why != FINISH_NONE) finish(r, s, why, out);
    return 0;
}

/* The prompt is computed: the other choices share its blocks from here on. */
static int fork_choices(struct runner *r, struct request *q, struct err *err)
{
    struct sequence *leader = &q->sequence[0];
    q->forked = true;
    for (int i = 1; i < q->choices; i++) {
        struct sequence *s = &q->sequence[i];
        int rc = sequence_start(s, err);
        if (rc) return rc;
        kv_table_fork(&s->task.kv, &leader->task.kv, r->kv, leader->task.n_computed);
        s->task.n_computed = leader->task.n_computed;
        scheduler_add_behind(r->scheduler, &s->task, &q->sequence[i - 1].task);
        s->scheduled = true;
    }
    return 0;
}

static int advance(struct runner *r, struct sequence *s, const float *logits, int first,
                   struct event_list *out, struct runner_counts *counts, struct err *err)
{
    struct request *q = s->request;
    struct task *t = &s->task;
    size_t vocab = (size_t)r->facts.hyper->vocab;
    int rows = t->n_computed - first, rc = 0;
    if (t->scored) {
        rc = score(r, s, logits, first, rows, out, err);
        if (rc) return rc;
        logits += (size_t)(rows - 1) * vocab;
    }
    if (t->n_computed < t->n_tokens) return 0;
    if (q->first_token == 0) q->first_token = clock_seconds();
    if (q->max_tokens == 0) {
        for (int i = 0; i < q->choices; i++) finish(r, &q->sequence[i], FINISH_LENGTH, out);
        return 0;
    }
    if (q->forked) return sample(r, s, logits, out, counts, err);
    rc = fork_choices(r, q, err);
    for (int i = 0; i < q->choices && !rc; i++) rc = sample(r, &q->sequence[i], logits, out, counts, err);
    return rc;
}

bool runner_step(struct runner *r, struct event_list *out, struct runner_counts *counts)
{
    struct err err = {0};
    struct batch batch;
    const struct plan *plan = scheduler_plan(r->scheduler);
    if (plan->n_rows == 0) return false;
    fill(r, plan, &batch, clock_seconds(), counts);
    int rc = forward_step(r->forward, &batch, r->room.logits, &err);
    if (rc) {
        for (int i = 0; i < plan->n_tasks; i++) {
            end(((struct sequence *)plan->task[i])->request, &err, clock_seconds(), out);
        }
        return true;
    }
    const float *logits = r->room.logits;
    size_t vocab = (size_t)r->facts.hyper->vocab;
    for (int i = 0; i < plan->n_tasks; i++) {
        struct task *t = plan->task[i];
        struct sequence *s = (struct sequence *)t;
        int first = t->n_computed, outputs = t->scored ? t->rows : completes(t);
        if (s->finished || s->request->over) {
            logits += (size_t)outputs * vocab;
            continue;
        }
        t->n_computed += t->rows;
        if (outputs > 0) {
            rc = advance(r, s, logits, first, out, counts, &err);
            if (rc) end(s->request, &err, clock_seconds(), out);
            balance(s->request);
        }
        logits += (size_t)outputs * vocab;
    }
    return true;
}
