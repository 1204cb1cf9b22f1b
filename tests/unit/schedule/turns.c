/* Whose turn it is: owners, priorities, and that everybody comes to an end, with made-up tasks. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "../../../engine/schedule/scheduler.h"

#define MANY 120

static struct kv_blocks *kv;
static struct scheduler *scheduler;
static struct task task[MANY];
static int limit[MANY]; /* tokens at its end; 0: not there */
static struct err err;

static void create(int parallel, int rows)
{
    struct scheduler_options options = {.parallel = parallel, .step_rows = rows, .score_rows = 8};
    cr_assert_eq(kv_blocks_create(&kv, 4000, 4, &err), 0);
    cr_assert_eq(scheduler_create(&scheduler, &options, kv, &err), 0);
}

static void add(int i, uint64_t owner, int priority, int tokens, int output)
{
    limit[i] = tokens + output;
    task[i] = (struct task){.n_tokens = tokens, .turn = {owner, priority, tokens + output, 0, 0}};
    cr_assert_eq(kv_table_create(&task[i].kv, kv, limit[i], &err), 0);
    scheduler_add(scheduler, &task[i]);
}

static void drop(int i)
{
    scheduler_remove(scheduler, &task[i]);
    kv_table_destroy(&task[i].kv);
    limit[i] = 0;
}

/* One step; tasks that have all their tokens leave. */
static void step(void)
{
    const struct plan *plan = scheduler_plan(scheduler, &(struct plan_budget){.room = 1 << 20, .row = 1});
    for (int i = 0; i < plan->n_tasks; i++) {
        struct task *t = plan->task[i];
        int at = (int)(t - task);
        t->n_computed += t->rows;
        if (t->n_computed < t->n_tokens) continue;
        if (++t->n_tokens >= limit[at]) drop(at);
    }
}

static bool begun(int i)
{
    return limit[i] == 0 || !task[i].queued;
}

static int count_begun(int first, int n)
{
    int sum = 0;
    for (int i = first; i < first + n; i++) sum += begun(i);
    return sum;
}

static void destroy(void)
{
    for (int i = 0; i < MANY; i++) {
        if (limit[i]) drop(i);
    }
    scheduler_destroy(scheduler);
    cr_expect_eq(kv_blocks_free(kv), kv_blocks_total(kv));
    kv_blocks_destroy(kv);
}

Test(turns, a_newcomer_need_not_wait_for_anothers_long_queue)
{
    create(2, 64);
    for (int i = 0; i < 100; i++) add(i, 7, 0, 20, 10);
    for (int chat = 100; chat < 110; chat++) {
        for (int i = 0; i < 15; i++) step();
        int before = count_begun(0, 100);
        add(chat, 8, 0, 20, 10);
        while (!begun(chat)) step();
        cr_expect_leq(count_begun(0, 100) - before, 1, "chat %d", chat);
    }
    cr_expect_gt(count_begun(0, 100), 10, "the batch goes on");
    destroy();
}

Test(turns, owners_share_the_work_and_not_the_turns)
{
    create(1, 64);
    for (int i = 0; i < 50; i++) add(i, 1, 0, 30, 10);
    for (int i = 50; i < 100; i++) add(i, 2, 0, 90, 30);
    while (count_begun(0, 100) < 40) step();
    cr_expect_eq(count_begun(0, 50), 30);
    cr_expect_eq(count_begun(50, 50), 10);
    destroy();
}

Test(turns, one_owner_is_first_come_first_served)
{
    create(3, 64);
    for (int i = 0; i < 40; i++) add(i, 3, 0, 1 + i * 7 % 23, 1 + i * 5 % 11);
    for (int n = 0; n < 40; step()) {
        while (n < 40 && begun(n)) n++;
        cr_expect_eq(count_begun(n, 40 - n), 0);
    }
    destroy();
}

Test(turns, lower_priority_numbers_go_first)
{
    create(1, 64);
    add(0, 1, 0, 4, 4);
    step();
    int priority[] = {0, 5, -3, 2000000000, -3, 101};
    int order[] = {2, 4, 0, 1, 3, 5}; /* beyond 100 all are the same */
    for (int i = 0; i < 6; i++) add(i + 1, (uint64_t)i, priority[i], 4, 4);
    const struct task *t = NULL;
    for (int i = 0; i < 6; i++) cr_expect_eq(t = scheduler_queued(scheduler, t), &task[order[i] + 1], "%d", i);
    cr_expect_null(scheduler_queued(scheduler, t));
    destroy();
}

/* Owners that nobody has seen before, or one with ever more, all more urgent: the one that waits has its turn. */
Test(turns, nobody_waits_for_ever)
{
    for (int all_new = 0; all_new < 2; all_new++) {
        create(2, 4096);
        add(0, 1, 3, 10, 10);
        int next = 1, others = 0;
        task[0].turn.cost = 1000;
        for (; !begun(0); step()) {
            cr_assert_lt(others, 20000, "all new: %d", all_new);
            for (int i = 0; i < 3; i++) {
                if (limit[1 + next % 60]) break;
                add(1 + next % 60, all_new ? (uint64_t)(100 + next) : 2, 0, 1000, 1);
                next++;
                others++;
            }
        }
        cr_expect_gt(others, 40, "three levels are worth something");
        destroy();
    }
}

Test(turns, who_leaves_the_queue_has_used_nothing)
{
    create(1, 64);
    for (int i = 0; i < 60; i++) add(i, 4, 0, 30, 10);
    step();
    for (int i = 1; i < 60; i++) drop(i);
    add(60, 5, 0, 30, 10);
    add(61, 5, 0, 30, 10);
    add(62, 4, 0, 30, 10);
    cr_expect_lt(task[62].turn.place, task[61].turn.place + 1);
    destroy();
}

/* Ever new short prompts beside a long one: they begin to answer at once, and it goes on. */
Test(turns, short_prompts_come_early_and_the_long_one_goes_on)
{
    create(8, 64);
    add(0, 1, 0, 3000, 8);
    step();
    int steps = 0, next = 1, since[MANY] = {0};
    for (; limit[0] && task[0].n_computed < 3000; steps++) {
        cr_assert_lt(steps, 3000 / 12, "a quarter of what streams leave");
        int at = 1 + next++ % 100;
        cr_assert_eq(limit[at], 0);
        add(at, (uint64_t)at, 0, 24, 3);
        since[at] = steps;
        step();
        for (int i = 1; i < MANY; i++) {
            if (limit[i] && task[i].n_computed < 24) cr_assert_leq(steps - since[i], 3, "short one %d", i);
        }
    }
    cr_expect_gt(next, 50);
    destroy();
}

/* Whether a prompt of 60 tokens is computed while ever new ones could take all the rows of a step. */
static void expect_progress(int rows, int others, bool scored)
{
    create(3, rows);
    add(0, 1, 0, 60, 8);
    task[0].scored = scored;
    step();
    for (int steps = 0; limit[0] && task[0].n_computed < 60; steps++) {
        cr_assert_lt(steps, 80, "%d rows, scored: %d", rows, scored);
        int at = 1 + steps % 100;
        add(at, 2, 0, others, 1);
        task[at].scored = scored;
        step();
    }
    destroy();
}

Test(turns, few_rows_and_scored_prompts_stop_nobody)
{
    expect_progress(3, 3, false);
    expect_progress(40, 8, true);
}

/* Its share of the time in which it wanted nothing is gone. */
Test(turns, who_was_idle_has_no_claim_on_the_past)
{
    create(1, 64);
    for (int i = 0; i < 40; i++) add(i, 1, 0, 30, 10);
    while (count_begun(0, 40) < 40) step();
    for (int i = 40; i < 60; i++) add(i, 1, 0, 30, 10);
    for (int i = 60; i < 80; i++) add(i, 2, 0, 30, 10);
    while (count_begun(40, 40) < 20) step();
    cr_expect_leq(abs(count_begun(40, 20) - count_begun(60, 20)), 2);
    destroy();
}

Test(turns, in_a_random_run_everybody_has_a_turn)
{
    for (unsigned seed = 1; seed <= 20; seed++) {
        srand(seed);
        create(1 + rand() % 4, 16 + rand() % 64);
        int waited[MANY] = {0}, worst = 0;
        for (int steps = 0; steps < 4000; steps++) {
            int i = rand() % MANY;
            if (!limit[i] && steps < 3000) {
                add(i, (uint64_t)rand() % 9, rand() % 3 - 1, 1 + rand() % 80, 1 + rand() % 20);
                task[i].scored = rand() % 8 == 0;
                waited[i] = 0;
            } else if (limit[i] && rand() % 20 == 0) {
                drop(i);
            }
            step();
            for (i = 0; i < MANY; i++) {
                if (limit[i] && task[i].queued && ++waited[i] > worst) worst = waited[i];
                if (limit[i] && task[i].n_computed + 1 >= task[i].n_tokens) task[i].scored = false;
            }
        }
        for (int i = 0; i < MANY; i++) cr_expect(!limit[i] || worst < 3500, "seed %u: %d is still there", seed, i);
        destroy();
    }
}
