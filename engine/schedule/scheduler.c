/* The scheduler: see scheduler.h for the policy. A plan is made in two passes, rows and promises
 * first, blocks after: a block that is given back while planning is never the source of a copy
 * in the same step. */
#include "scheduler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NO_BOUND 1e30 /* room for everything */

struct scheduler {
    struct scheduler_options options;
    struct kv_blocks *kv;
    struct task *oldest, *youngest; /* of those admitted */
    struct task *first, *last;      /* of the queue */
    struct turns turns;
    struct task **prefill; /* [parallel] */
    struct plan plan;
    int n_running;
    int promised;          /* blocks, sum over the tasks of the plan being made */
    int rows_left, score_left;
    struct plan_budget budget; /* of the plan being made: `room` is what is left */
    bool shared;           /* others wait for the steps' ends */
    uint64_t preemptions;
};

int scheduler_create(struct scheduler **out, const struct scheduler_options *options, struct kv_blocks *kv,
                     struct err *err)
{
    *out = NULL;
    REQUIRE(options->parallel > 0 && options->step_rows >= options->parallel && options->score_rows > 0);
    struct scheduler *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, ERR_NOMEM, "out of memory for the scheduler");
    s->options = *options;
    s->kv = kv;
    size_t n = (size_t)options->parallel;
    s->prefill = malloc(n * sizeof *s->prefill);
    s->plan.task = malloc(n * sizeof *s->plan.task);
    s->plan.copies.pair = malloc(n * 2 * sizeof *s->plan.copies.pair);
    s->plan.copies.capacity = options->parallel;
    if (!s->prefill || !s->plan.task || !s->plan.copies.pair) {
        scheduler_destroy(s);
        return err_set(err, ERR_NOMEM, "out of memory for the scheduler");
    }
    *out = s;
    return 0;
}

void scheduler_destroy(struct scheduler *s)
{
    if (!s) return;
    REQUIRE(!s->oldest && !s->first);
    free(s->prefill);
    free(s->plan.task);
    free(s->plan.copies.pair);
    free(s);
}

/* ---- the list of tasks ---- */

static void reset(struct task *t, bool queued)
{
    t->state = TASK_WAITING;
    t->queued = queued;
    t->rows = t->promised = 0;
    t->n_reached = t->n_computed;
    t->n_found = 0;
}

/* Puts it behind `before` (NULL: at the beginning) into the list that *first and *last are the ends of. */
static void link_behind(struct task *t, struct task *before, struct task **first, struct task **last)
{
    t->previous = before;
    t->next = before ? before->next : *first;
    *(t->previous ? &t->previous->next : first) = t;
    *(t->next ? &t->next->previous : last) = t;
}

static void unlink_from(struct task *t, struct task **first, struct task **last)
{
    *(t->previous ? &t->previous->next : first) = t->next;
    *(t->next ? &t->next->previous : last) = t->previous;
    t->next = t->previous = NULL;
}

void scheduler_add_behind(struct scheduler *s, struct task *t, struct task *elder)
{
    REQUIRE(!elder->queued);
    reset(t, false);
    t->turn = (struct turn){.cost = 0};
    t->turn.owner = elder->turn.owner;
    turns_join(&s->turns, &t->turn);
    link_behind(t, elder, &s->oldest, &s->youngest);
}

void scheduler_add(struct scheduler *s, struct task *t)
{
    REQUIRE(t->kv.n == 0 && t->n_computed == 0);
    reset(t, true);
    turns_join(&s->turns, &t->turn);
    struct task *before = s->last;
    while (before && before->turn.place > t->turn.place) before = before->previous;
    link_behind(t, before, &s->first, &s->last);
}

const struct task *scheduler_queued(const struct scheduler *s, const struct task *t)
{
    return t ? t->next : s->first;
}

static void set_state(struct scheduler *s, struct task *t, enum task_state state)
{
    s->n_running += (state == TASK_RUNNING) - (t->state == TASK_RUNNING);
    t->state = state;
}

void scheduler_remove(struct scheduler *s, struct task *t)
{
    kv_table_clear(&t->kv, s->kv);
    set_state(s, t, TASK_WAITING);
    turns_leave(&s->turns, &t->turn, !t->queued);
    if (t->queued) {
        unlink_from(t, &s->first, &s->last);
    } else {
        unlink_from(t, &s->oldest, &s->youngest);
    }
}

void scheduler_pause(struct scheduler *s, struct task *t)
{
    set_state(s, t, TASK_PAUSED);
}

void scheduler_resume(struct scheduler *s, struct task *t)
{
    if (t->state == TASK_PAUSED) set_state(s, t, TASK_WAITING);
}

int scheduler_running(const struct scheduler *s)
{
    return s->n_running;
}

int scheduler_streams(const struct scheduler *s, double *tokens)
{
    int n = 0;
    *tokens = 0;
    for (const struct task *t = s->oldest; t; t = t->next) {
        if (t->state != TASK_RUNNING || t->scored || t->n_tokens - t->n_computed != 1) continue;
        *tokens += t->n_computed;
        n++;
    }
    return n;
}

uint64_t scheduler_preemptions(const struct scheduler *s)
{
    return s->preemptions;
}

/* ---- blocks ---- */

static int available(const struct scheduler *s)
{
    return kv_blocks_free(s->kv) - s->promised;
}

/* Takes a task's blocks away: what they held is computed again when it runs next. */
static void strip(struct scheduler *s, struct task *t)
{
    if (t->state == TASK_RUNNING) {
        set_state(s, t, TASK_WAITING);
        s->preemptions++;
    }
    s->promised -= t->promised;
    s->rows_left += t->rows;
    t->rows = t->promised = 0;
    kv_table_clear(&t->kv, s->kv);
    if (t->n_computed > t->n_reached) t->n_reached = t->n_computed;
    t->n_computed = 0;
}

/* The youngest task in `state` that is younger than `than` (NULL: any) and holds blocks or promises. */
static struct task *youngest_holder(const struct scheduler *s, enum task_state state, const struct task *than)
{
    for (struct task *t = s->youngest; t && t != than; t = t->previous) {
        if (t->state == state && (t->kv.n > 0 || t->promised > 0)) return t;
    }
    return NULL;
}

/* Makes `need` blocks available to the running task t: those who do not run lose theirs first, then
 * younger ones that do. */
static bool claim(struct scheduler *s, const struct task *t, int need)
{
    while (available(s) < need) {
        struct task *victim = youngest_holder(s, TASK_PAUSED, NULL);
        if (!victim) victim = youngest_holder(s, TASK_WAITING, NULL);
        if (!victim) victim = youngest_holder(s, TASK_RUNNING, t);
        if (!victim) return false;
        strip(s, victim);
    }
    return true;
}

static void promise(struct scheduler *s, struct task *t, int rows)
{
    t->rows = rows;
    t->promised = kv_table_need(&t->kv, s->kv, t->n_computed, rows);
    s->promised += t->promised;
    s->rows_left -= rows;
}

/* ---- the plan ---- */

static int remaining(const struct task *t)
{
    return t->n_tokens - t->n_computed;
}

static int blocks_to_go(const struct scheduler *s, const struct task *t)
{
    return kv_table_need(&t->kv, s->kv, t->n_computed, remaining(t));
}

/* Rows for those that only need their next token. */
static void plan_decode(struct scheduler *s)
{
    for (struct task *t = s->oldest, *next; t; t = next) {
        next = t->next;
        if (t->state != TASK_RUNNING || remaining(t) != 1 || t->scored) continue;
        if (claim(s, t, kv_table_need(&t->kv, s->kv, t->n_computed, 1))) {
            promise(s, t, 1);
        } else {
            strip(s, t);
        }
    }
}

/* ---- prefixes ---- */

/* How many full blocks of others hold the task's next tokens; *idle: how many of these count as free. */
static int find(const struct scheduler *s, const struct task *t, int *idle)
{
    *idle = 0;
    if (!t->finds || t->n_computed % kv_blocks_tokens(s->kv)) return 0;
    /* the last token is computed in any case: its logits are wanted, and it may be unknown */
    int n = t->n_tokens % kv_blocks_tokens(s->kv) ? t->n_tokens : t->n_tokens - 1;
    return kv_table_find(&t->kv, s->kv, t->tokens, n, idle);
}

static void adopt(struct scheduler *s, struct task *t, int blocks)
{
    if (blocks == 0) return;
    int known = t->n_reached > t->n_computed ? t->n_reached : t->n_computed;
    kv_table_adopt(&t->kv, s->kv, t->tokens, blocks);
    t->n_computed = t->kv.n * kv_blocks_tokens(s->kv);
    if (t->n_computed <= known) return;
    t->n_found += t->n_computed - known;
    t->n_reached = t->n_computed;
}

/* Whether the step being planned computes t's next block in another task. */
static bool is_underway(const struct scheduler *s, const struct task *t)
{
    int end = t->n_computed + kv_blocks_tokens(s->kv);
    if (!t->finds || t->n_computed % kv_blocks_tokens(s->kv) || end >= t->n_tokens) return false;
    for (const struct task *o = s->oldest; o; o = o->next) {
        if (o == t || o->rows == 0 || !o->finds || o->n_computed + o->rows <= t->n_computed || end >= o->n_tokens ||
            !prefix_same(o->kv.root, t->kv.root)) {
            continue;
        }
        if (!memcmp(o->tokens, t->tokens, (size_t)end * sizeof *t->tokens)) return true;
    }
    return false;
}

/* Lets a waiting task run, unless those who run would miss the blocks. */
static bool let_in(struct scheduler *s, struct task *t, int *owed)
{
    if (s->options.ready && !s->options.ready(s->options.user, t)) return false;
    int need = blocks_to_go(s, t), idle, found = find(s, t, &idle);
    while (available(s) < need - found + idle + *owed) {
        struct task *victim = youngest_holder(s, TASK_PAUSED, NULL);
        if (!victim && s->n_running == 0) victim = youngest_holder(s, TASK_WAITING, t);
        if (!victim) return false;
        strip(s, victim);
        found = find(s, t, &idle);
    }
    adopt(s, t, found);
    set_state(s, t, TASK_RUNNING);
    *owed += need - found + 1;
    return true;
}

/* Those that had begun go on, in order of age; then those begin whose turn it is. */
static void admit(struct scheduler *s)
{
    int owed = 0; /* to those who run: what their present tokens lack, and a block of output each */
    for (struct task *t = s->oldest; t; t = t->next) {
        if (t->state == TASK_RUNNING) owed += blocks_to_go(s, t) - t->promised + 1;
    }
    for (struct task *t = s->oldest; t && s->n_running < s->options.parallel; t = t->next) {
        if (t->state == TASK_WAITING && !let_in(s, t, &owed)) return;
    }
    for (struct task *t = s->first, *next; t && s->n_running < s->options.parallel; t = next) {
        next = t->next;
        if (t->state != TASK_WAITING) continue;
        if (!let_in(s, t, &owed)) return;
        turns_begin(&s->turns, &t->turn);
        unlink_from(t, &s->first, &s->last);
        link_behind(t, s->youngest, &s->oldest, &s->youngest);
        t->queued = false;
    }
}

/* What the row behind `first` computed ones takes. */
static double row_price(const struct scheduler *s, const struct task *t, double first)
{
    return s->budget.row + (t->scored ? s->budget.output : 0) + first * s->budget.token;
}

/* As many rows as `room` is enough for, each with one token more before it: n first + n²/2 token = room. */
static int affordable(const struct scheduler *s, const struct task *t, double room)
{
    double first = row_price(s, t, t->n_computed);
    double rows = 2 * room / (first + sqrt(first * first + 2 * s->budget.token * fmax(room, 0)));
    return rows < 0 ? 0 : rows < s->rows_left ? (int)rows : s->rows_left;
}

/* A prefill chunk of at most `limit` rows, shortened to the blocks that are there. */
static void plan_chunk(struct scheduler *s, struct task *t, int limit)
{
    int rows = remaining(t) < limit ? remaining(t) : limit;
    if (t->scored && rows > s->score_left) rows = s->score_left;
    while (rows > 0 && kv_table_need(&t->kv, s->kv, t->n_computed, rows) > available(s)) {
        int end = (t->n_computed + rows - 1) / kv_blocks_tokens(s->kv) * kv_blocks_tokens(s->kv);
        rows = end - t->n_computed;
    }
    if (rows <= 0) return;
    promise(s, t, rows);
    s->budget.room -= rows * row_price(s, t, t->n_computed + rows / 2.0);
    if (t->scored) s->score_left -= rows;
}

static bool wants_chunk(const struct task *t)
{
    return t->state == TASK_RUNNING && t->rows == 0 && remaining(t) > 0;
}

static void plan_prefill(struct scheduler *s)
{
    int n = 0;
    for (struct task *t = s->oldest; t; t = t->next) {
        if (!wants_chunk(t)) continue;
        int i = n++;
        for (; i > 0 && remaining(s->prefill[i - 1]) > remaining(t); i--) s->prefill[i] = s->prefill[i - 1];
        s->prefill[i] = t;
    }
    if (n == 0) return;

    struct task *oldest = s->oldest;
    while (!wants_chunk(oldest)) oldest = oldest->next;
    int share = (s->rows_left + 3) / 4, score_share = oldest->scored ? (s->score_left + 3) / 4 : 0;
    double set_aside = fmax(s->budget.room / 4, row_price(s, oldest, oldest->n_computed));
    for (int i = 0; i < n; i++) {
        struct task *t = s->prefill[i];
        if (t == oldest) set_aside = share = score_share = 0; /* its turn comes here, with all that is left */
        int idle, found = find(s, t, &idle), limit = s->rows_left - share;
        if (idle <= available(s)) adopt(s, t, found);
        int most = affordable(s, t, s->budget.room - set_aside);
        if (t == oldest && most == 0) most = 1;
        if (limit > most) limit = most;
        if (t->scored && limit > s->score_left - score_share) limit = s->score_left - score_share;
        if (!is_underway(s, t)) plan_chunk(s, t, limit);
    }
}

/* When no chunk found a block: the oldest gets room at the cost of the youngest. */
static void plan_rescue(struct scheduler *s)
{
    for (struct task *t = s->oldest; t; t = t->next) {
        if (t->state != TASK_RUNNING) continue;
        if (remaining(t) > 0 && claim(s, t, kv_table_need(&t->kv, s->kv, t->n_computed, 1))) {
            int most = affordable(s, t, s->budget.room);
            plan_chunk(s, t, most > 0 ? most : 1);
        }
        return;
    }
}

/* ---- drafts ---- */

/* Drafts get what all others left; a block of output for each task that runs stays untouched. */
static void plan_drafts(struct scheduler *s)
{
    int bound = s->rows_left < s->score_left ? s->rows_left : s->score_left;
    for (struct task *t = s->oldest; t && bound > 0; t = t->next) {
        if (t->rows != 1 || t->drafts <= 0 || remaining(t) != 1 || t->scored) continue;
        double price = row_price(s, t, t->n_tokens) + s->budget.output;
        if (bound * price > s->budget.room) bound = (int)fmax(s->budget.room / price, 0);
        int rows = 1 + (t->drafts < bound ? t->drafts : bound), spare = available(s) - s->n_running;
        int size = kv_blocks_tokens(s->kv), need;
        while ((need = kv_table_need(&t->kv, s->kv, t->n_computed, rows) - t->promised) > 0 && need > spare) {
            rows = (t->n_computed + rows - 1) / size * size - t->n_computed;
        }
        s->promised += need;
        t->promised += need;
        bound -= rows - 1;
        s->budget.room -= (rows - 1) * price;
        t->rows = rows;
    }
}

void scheduler_share(struct scheduler *s, bool shared)
{
    s->shared = shared;
}

const struct plan *scheduler_plan(struct scheduler *s, const struct plan_budget *budget)
{
    s->promised = 0;
    s->rows_left = s->options.step_rows;
    s->score_left = s->options.score_rows;
    for (struct task *t = s->oldest; t; t = t->next) t->rows = t->promised = 0;

    plan_decode(s);
    s->budget = *budget;
    if (!s->shared && s->rows_left == s->options.step_rows) s->budget.room = NO_BOUND;
    admit(s);
    plan_prefill(s);
    bool any = false;
    for (struct task *t = s->oldest; t; t = t->next) any |= t->rows > 0;
    if (!any) plan_rescue(s);
    plan_drafts(s);

    s->plan.n_tasks = s->plan.n_rows = s->plan.copies.n = 0;
    for (struct task *t = s->oldest; t; t = t->next) {
        if (t->rows == 0) continue;
        kv_table_extend(&t->kv, s->kv, t->n_computed, t->rows, &s->plan.copies);
        s->plan.task[s->plan.n_tasks++] = t;
        s->plan.n_rows += t->rows;
    }
    return &s->plan;
}
