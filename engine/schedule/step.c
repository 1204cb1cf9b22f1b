/* Steps of a model: the scheduler's plan becomes a batch, what it gives becomes events. Where the device
 * runs beside the host, the next step begins before the host has seen the tokens of the one under way: a
 * sequence whose token is chosen on the device goes on with a reference to it. What turns out to have ended
 * meanwhile (a stop string, a cancellation) discards what its row gives; its blocks may have other owners
 * by then, whose steps run behind it. */
#include <math.h>
#include <string.h>

#include "runner_private.h"

/* Rows of prompts beside streams while nobody knows what a row takes: */
#define FIRST_ROWS 64 /* beside streams of this model */
#define FEW_ROWS 8    /* beside those of others */

/* ---- the batch ---- */

void step_room_begin(struct runner *r, struct batch *b)
{
    struct step_room *m = &r->room;
    *b = (struct batch){.token = m->token, .position = m->position, .sequence = m->sequence, .slot = m->slot,
                        .table = m->table, .output = m->output, .sampling = m->sampling, .scale_stride = r->max_rows};
}

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

/* Tokens whose choice takes no more than the logits and a few numbers. */
static bool device_chooses(const struct runner *r, const struct sequence *s)
{
    const struct request *q = s->request;
    return r->depth > 1 && !s->counts && !q->breakers && q->sampling.xtc_probability <= 0 && !q->grammar &&
           !q->biased && !q->logprobs && !s->task.scored && q->thinking.n_end == 0 && (q->forked || q->choices == 1);
}

/* ---- drafts ---- */

/* As many tokens as the sequence may take in one step: what it may generate, what its reader has room for. */
static int most_drafts(const struct sequence *s)
{
    const struct request *q = s->request;
    int most = q->limit - s->n_known - 1, room = s->capacity - s->n_known;
    if (room < most) most = room;
    int credit = q->bounded ? q->credit / (q->choices - q->n_finished) - 1 : most;
    return credit < most ? credit : most;
}

/* A sequence with one token to go drafts what may follow behind it. Where steps are queued ahead, the tokens
 * before are not known here, and on GPUs a row depends on its neighbours: no drafts then. */
static void draft(struct runner *r)
{
    int streams = scheduler_running(r->scheduler);
    double price = r->speculate == SPECULATE_ALWAYS ? 0 : speculation_price(&r->cost, streams);
    for (struct request *q = r->first; q && r->speculates; q = q->next) {
        for (int i = 0; i < q->choices && q->forked && !q->over; i++) {
            struct sequence *s = &q->sequence[i];
            struct task *t = &s->task;
            t->drafts = 0;
            if (!s->scheduled || t->state != TASK_RUNNING || t->scored) continue;
            if (t->n_computed + 1 != s->n_known) continue;
            t->drafts = speculation_draft(&s->speculation, s->tokens, s->n_known, most_drafts(s), price,
                                          s->tokens + s->n_known);
        }
    }
}

/* A task whose last token is in the step gives the next one. */
static struct step_part part_of(const struct runner *r, struct task *t)
{
    struct step_part p = {.sequence = (struct sequence *)t, .first = t->n_computed, .rows = t->rows,
                          .completes = t->n_computed + t->rows >= t->n_tokens, .scored = t->scored};
    if (p.completes) p.drafts = p.first + p.rows - t->n_tokens;
    if (p.sequence->request->embed) {
        pooling_want(&p);
        return p;
    }
    p.chosen = p.completes && device_chooses(r, p.sequence);
    p.outputs = p.scored ? p.rows : p.completes && !p.chosen ? 1 + p.drafts : 0;
    return p;
}

static struct sample_row sample_row(const struct step_part *p)
{
    const struct sequence *s = p->sequence;
    const struct sampling *q = &s->request->sampling;
    return (struct sample_row){
        .temperature = (float)q->temperature, .top_p = (float)q->top_p, .min_p = (float)q->min_p,
        .top_k = q->top_k, .seed_low = (unsigned)q->seed, .seed_high = (unsigned)(q->seed >> 32),
        .choice = (unsigned)s->choice, .position = (unsigned)(p->first + p->rows)};
}

static void add_part(struct runner *r, struct batch *b, struct step_part *p, int index)
{
    struct step_room *m = &r->room;
    struct sequence *s = p->sequence;
    int row = b->n_rows;
    step_room_rows(r, b, &s->task.kv, index, s->tokens + p->first, p->first, p->rows);
    if (p->chosen) {
        p->place = b->n_sampled++;
        m->sampling[p->place] = sample_row(p);
        m->output[b->n_outputs++] = row + p->rows - 1;
    }
    const float *scale = s->request->scale;
    for (int a = 0; a < r->facts.limits.n_adapters; a++) {
        float *out = m->scale + (size_t)a * (size_t)r->max_rows;
        for (int i = row; i < row + p->rows; i++) out[i] = scale ? scale[a] : 0;
    }
    if (scale) b->scale = m->scale;
    for (int i = p->rows - p->outputs; i < p->rows; i++) m->output[b->n_outputs++] = row + i;
    for (int i = 0; i < p->states; i++) m->output[b->n_outputs++] = row + p->state + i;
    b->n_states += p->states;
}

/* Parts of which the device chooses a token come first and those whose states are wanted last, so that other logits
 * lie together. It chooses by one mask in a step: the oldest decides by which, those who need the other are chosen
 * here. */
static void fill(struct runner *r, const struct plan *plan, struct batch *b, struct step_record *record)
{
    int mask = -1;
    step_room_begin(r, b);
    record->n_parts = 0;
    for (int pass = 0; pass < 3; pass++) {
        for (int i = 0; i < plan->n_tasks; i++) {
            struct step_part p = part_of(r, plan->task[i]);
            if (pass == 0) r->streams += p.completes && p.rows - p.drafts == 1;
            int wanted = p.sequence->request->ignore_eos ? MASK_WITHOUT_ENDS : MASK_WITH_ENDS;
            if (p.chosen && mask < 0) mask = wanted;
            if (p.chosen && mask != wanted) {
                p.chosen = false;
                p.outputs = 1;
            }
            if (pass != (p.chosen ? 0 : p.states ? 2 : 1)) continue;
            add_part(r, b, &p, record->n_parts);
            record->part[record->n_parts++] = p;
        }
    }
    b->mask = mask < 0 ? 0 : mask;
    b->n_copies = plan->copies.n;
    b->copy = plan->copies.pair;
    REQUIRE(b->n_rows <= r->max_rows && b->n_outputs - b->n_states <= r->max_outputs);
}

/* ---- steps under way ---- */

/* The scheduler goes on as if the step were over: what it plans runs behind it. */
static void count_as_done(const struct step_part *p)
{
    struct sequence *s = p->sequence;
    struct request *q = s->request;
    int next = p->first + p->rows - p->drafts;
    s->task.n_computed = next;
    q->in_steps++;
    q->pending += p->completes;
    if (!p->chosen || next + 1 >= q->limit) return;
    s->tokens[next] = -1 - p->place;
    s->task.n_tokens = next + 1;
}

static struct pace_work streams_work(const struct runner *r)
{
    double tokens;
    int n = scheduler_streams(r->scheduler, &tokens);
    return (struct pace_work){.rows = n, .outputs = n, .tokens = tokens};
}

/* What prefill and drafts may add to the next step, in seconds; *aim: of the whole. */
static struct plan_budget budget_of(const struct runner *r, double bound, double *aim)
{
    const struct pace *p = &r->pace;
    struct pace_work streams = streams_work(r);
    double limit = pace_limit(p);
    *aim = 0;
    if (p->price[PACE_ROW] == 0) return (struct plan_budget){.room = bound > 0 ? FEW_ROWS : FIRST_ROWS, .row = 1};
    if (bound > 0 && bound < limit) limit = bound;
    *aim = pace_aim(p, &streams, limit);
    return (struct plan_budget){.room = *aim - pace_step(p, &streams), .row = p->price[PACE_ROW],
                                .output = p->price[PACE_OUTPUT], .token = p->price[PACE_TOKEN]};
}

static bool begin_step(struct runner *r, double bound, struct event_list *out, struct runner_counts *counts)
{
    struct err err = {0};
    struct batch batch;
    double now = clock_seconds(), aim;
    draft(r);
    scheduler_share(r->scheduler, bound > 0);
    struct plan_budget budget = budget_of(r, bound, &aim);
    const struct plan *plan = scheduler_plan(r->scheduler, &budget);
    r->streams = 0;
    if (plan->n_rows == 0) return false;
    struct step_record *record = &r->record[(r->first_record + r->n_records) % FORWARD_IN_FLIGHT];
    fill(r, plan, &batch, record);
    record->n_rows = plan->n_rows;
    if (counts->rows) atomic_store_explicit(counts->rows, plan->n_rows, memory_order_relaxed);
    record->began = now;
    record->aim = aim;
    for (int i = 0; i < record->n_parts; i++) {
        struct request *q = record->part[i].sequence->request;
        if (q->admitted > 0) continue;
        q->admitted = now;
        counts->prompt_tokens += (uint64_t)q->n_prompt;
    }
    int rc = forward_begin(r->forward, &batch, &err);
    for (int i = 0; i < record->n_parts; i++) {
        if (rc) {
            runner_end(record->part[i].sequence->request, &err, clock_seconds(), out);
        } else {
            count_as_done(&record->part[i]);
        }
    }
    if (rc) return true;
    counts->steps_ahead += r->n_records > 0;
    r->n_records++;
    for (int i = 0; r->depth > 1 && i < record->n_parts; i++) {
        runner_balance(record->part[i].sequence->request);
    }
    return true;
}

/* What the step computed can be found from now on, as far as its tokens are known. The sequence may have lost
 * its blocks meanwhile, and have others. */
static void publish(struct runner *r, const struct step_part *p)
{
    struct sequence *s = p->sequence;
    int n = p->first + p->rows;
    if (n > s->task.n_computed) n = s->task.n_computed;
    if (n > s->n_known) n = s->n_known;
    kv_table_publish(&s->task.kv, r->kv, s->tokens, n);
}

/* `failed` is what became of the whole step. */
static void end_part(struct runner *r, const struct step_part *p, const struct err *failed,
                     const float *logits, const float *states, int32_t id, struct event_list *out,
                     struct runner_counts *counts)
{
    struct err err = {0};
    struct request *q = p->sequence->request;
    q->in_steps--;
    q->pending -= p->completes;
    if (q->released && q->in_steps == 0) {
        request_free(q);
        return;
    }
    if (!failed && !q->private && p->sequence->scheduled) publish(r, p);
    if (failed) {
        runner_end(q, failed, clock_seconds(), out);
    } else if (!q->over && !p->sequence->finished && (p->completes || p->scored || p->states)) {
        int rc = q->embed ? pooling_take(r, p, states, out, &err)
                          : step_outcome(r, p, logits, id, out, counts, &err);
        if (rc) runner_end(q, &err, clock_seconds(), out);
    }
    if (p->completes || p->scored) runner_balance(q);
}

/* How long the step took, from its plan to what became of its tokens, as far as its predecessor was over: between
 * two tokens of a stream lies all of it. */
static void learn(struct runner *r, struct step_record *record)
{
    double now = clock_seconds();
    double seconds = now - fmax(record->began, r->last_end);
    int streams = 0, drafts = 0;
    struct pace_work work = {.rows = record->n_rows};
    for (int i = 0; i < record->n_parts; i++) {
        const struct step_part *p = &record->part[i];
        streams += p->completes && p->rows - p->drafts == 1;
        drafts += p->drafts;
        work.outputs += p->scored ? p->rows : p->completes ? 1 + p->drafts : 0;
        work.tokens += p->rows * (p->first + p->rows / 2.0);
    }
    int others = record->n_rows - streams; /* prefill and drafts */
    if (others == drafts) speculation_cost_learn(&r->cost, streams, drafts, seconds);
    pace_learn(&r->pace, &work, streams > 0 && others > drafts ? record->aim : 0, seconds);
    record->streams = others == drafts ? streams : 0;
    record->seconds = seconds;
    r->last_end = now;
}

static void end_step(struct runner *r, struct event_list *out, struct runner_counts *counts)
{
    struct err err = {0};
    struct forward_result result;
    struct step_record *record = &r->record[r->first_record];
    r->first_record = (r->first_record + 1) % FORWARD_IN_FLIGHT;
    r->n_records--;
    int rc = forward_end(r->forward, &result, &err);
    uint64_t tokens = counts->completion_tokens;
    const float *logits = result.logits, *states = result.states;
    for (int i = 0; i < record->n_parts; i++) {
        const struct step_part *p = &record->part[i];
        int32_t id = p->chosen && !rc ? result.ids[p->place] : -1;
        end_part(r, p, rc ? &err : NULL, logits, states, id, out, counts);
        logits += (size_t)p->outputs * (size_t)r->facts.hyper->vocab;
        states += (size_t)p->states * (size_t)r->facts.hyper->width;
    }
    if (rc) return;
    learn(r, record);
    if (record->streams > 0) {
        forecast_learn_step(r, record->streams, record->seconds, (int)(counts->completion_tokens - tokens));
    }
}

void runner_settle(struct runner *r, struct event_list *out, struct runner_counts *counts)
{
    while (r->n_records > 0) end_step(r, out, counts);
}

bool runner_is_busy(const struct runner *r)
{
    return r->first || r->n_records > 0;
}

void runner_patience(const struct runner *r, double *limit, double *step)
{
    struct pace_work streams = streams_work(r);
    *limit = pace_limit(&r->pace);
    *step = pace_step(&r->pace, &streams);
    if (r->streams == 0 || !runner_is_busy(r)) *limit = *step = 0;
}

bool runner_step(struct runner *r, bool others, double bound, struct event_list *out,
                 struct runner_counts *counts)
{
    int depth = others ? 1 : r->depth;
    if (tier_begin(r) || others) runner_settle(r, out, counts);
    tier_save_between(r);
    bool began = begin_step(r, bound, out, counts);
    if (r->n_records == depth || (!began && r->n_records > 0)) {
        end_step(r, out, counts);
        return true;
    }
    return began || r->tier.fetching;
}
