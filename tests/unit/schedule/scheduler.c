/* The scheduler with made-up tasks: who gets rows, who waits, who gives way; and a random run in which
 * everybody has to come to an end. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "../../../engine/schedule/scheduler.h"

#define MANY 24

static struct kv_blocks *kv;
static struct scheduler *scheduler;
static struct task task[MANY];
static struct err err;

static void create(int blocks, int parallel, int rows)
{
    struct scheduler_options options = {parallel, rows, 8};
    cr_assert_eq(kv_blocks_create(&kv, blocks, 4, &err), 0);
    cr_assert_eq(scheduler_create(&scheduler, &options, kv, &err), 0);
}

static void add(int i, int tokens, int limit)
{
    task[i] = (struct task){.n_tokens = tokens};
    cr_assert_eq(kv_table_create(&task[i].kv, kv, limit, &err), 0);
    scheduler_add(scheduler, &task[i]);
}

static void drop(int i)
{
    scheduler_remove(scheduler, &task[i]);
    kv_table_destroy(&task[i].kv);
}

static void destroy(void)
{
    scheduler_destroy(scheduler);
    cr_expect_eq(kv_blocks_free(kv), kv_blocks_total(kv));
    kv_blocks_destroy(kv);
}

static const struct plan *plan_rows(int rows)
{
    return scheduler_plan(scheduler, &(struct plan_budget){.room = rows, .row = 1});
}

/* Plans and computes; tasks whose last token was in the step get one more. */
static const struct plan *step(void)
{
    const struct plan *plan = plan_rows(1 << 20);
    for (int i = 0; i < plan->n_tasks; i++) {
        struct task *t = plan->task[i];
        t->n_computed += t->rows;
        if (t->n_computed == t->n_tokens) t->n_tokens++;
    }
    return plan;
}

Test(scheduler, prefill_then_decode)
{
    create(100, 4, 16);
    add(0, 40, 100);
    int want[] = {16, 16, 8, 1, 1};
    for (int i = 0; i < 5; i++) cr_expect_eq(step()->n_rows, want[i], "step %d", i);
    drop(0);
    cr_expect_eq(plan_rows(1 << 20)->n_rows, 0);
    destroy();
}

Test(scheduler, decode_rows_come_before_prefill)
{
    create(100, 4, 16);
    add(0, 8, 100);
    step();
    add(1, 100, 120);
    step();
    cr_expect_eq(task[0].rows, 1);
    cr_expect_eq(task[1].rows, 15);
    drop(0);
    drop(1);
    destroy();
}

Test(scheduler, short_prompts_pass_long_ones_without_stopping_them)
{
    create(100, 4, 16);
    add(0, 200, 220);
    add(1, 12, 40);
    step();
    cr_expect_eq(task[1].rows, 12, "the short one is done at once");
    cr_expect_eq(task[0].rows, 4, "the oldest gets its quarter");
    step();
    cr_expect_eq(task[0].rows, 15);
    drop(0);
    drop(1);
    destroy();
}

Test(scheduler, at_most_parallel_and_first_come)
{
    create(100, 2, 16);
    for (int i = 0; i < 4; i++) add(i, 4, 40);
    step();
    cr_expect_eq(scheduler_running(scheduler), 2);
    cr_expect_eq(task[2].rows, 0);
    drop(0);
    step();
    cr_expect_eq(task[2].rows, 4);
    cr_expect_eq(task[3].rows, 0);
    for (int i = 1; i < 4; i++) drop(i);
    destroy();
}

Test(scheduler, paused_tasks_give_up_their_turn_and_keep_their_blocks)
{
    create(100, 1, 16);
    add(0, 4, 40);
    add(1, 4, 40);
    step();
    scheduler_pause(scheduler, &task[0]);
    step();
    cr_expect_eq(task[0].rows, 0);
    cr_expect_eq(task[1].rows, 4);
    cr_expect_eq(task[0].kv.n, 1);
    scheduler_resume(scheduler, &task[0]);
    drop(1);
    step();
    cr_expect_eq(task[0].rows, 1, "nothing is computed twice");
    drop(0);
    destroy();
}

/* Its last token is in a step under way and its next one is not known: nobody loses blocks for it. */
Test(scheduler, a_task_that_waits_for_its_token_is_left_out)
{
    struct kv_table rest;
    struct kv_copies none = {0};
    create(5, 4, 16);
    add(0, 8, 16);
    add(1, 8, 16);
    const struct plan *plan = plan_rows(1 << 20);
    cr_expect_eq(plan->n_rows, 16);
    for (int i = 0; i < 2; i++) task[i].n_computed += task[i].rows;
    cr_assert_eq(kv_table_create(&rest, kv, 4, &err), 0);
    kv_table_extend(&rest, kv, 0, 4, &none);
    cr_expect_eq(kv_blocks_free(kv), 0);
    cr_expect_eq(plan_rows(1 << 20)->n_rows, 0);
    cr_expect_eq(task[1].kv.n, 2);
    cr_expect_eq(scheduler_running(scheduler), 2);
    cr_expect_eq(scheduler_preemptions(scheduler), 0);
    for (int i = 0; i < 2; i++) drop(i);
    kv_table_clear(&rest, kv);
    kv_table_destroy(&rest);
    destroy();
}

Test(scheduler, the_youngest_gives_way)
{
    create(6, 4, 64);
    add(0, 8, 24);
    add(1, 7, 24);
    step();
    cr_expect_eq(scheduler_running(scheduler), 2);
    for (int i = 0; i < 12; i++) {
        step();
        cr_expect_eq(task[0].rows, 1, "the oldest never waits");
    }
    cr_expect_eq(task[1].kv.n, 0);
    cr_expect_geq(scheduler_preemptions(scheduler), 1);
    int tokens = task[1].n_tokens;
    drop(0);
    step();
    cr_expect_eq(task[1].rows, tokens, "all its tokens are computed again");
    drop(1);
    destroy();
}

Test(scheduler, paused_tasks_lose_their_blocks_first)
{
    create(6, 4, 64);
    add(0, 8, 24);
    add(1, 8, 24);
    step();
    scheduler_pause(scheduler, &task[0]);
    for (int i = 0; i < 16; i++) {
        step();
        cr_expect_eq(task[1].rows, 1);
    }
    cr_expect_eq(task[0].kv.n, 0);
    drop(0);
    drop(1);
    destroy();
}

Test(scheduler, scored_rows_are_bounded)
{
    create(100, 4, 64);
    add(0, 30, 40);
    add(1, 30, 40);
    task[0].scored = task[1].scored = true;
    cr_expect_eq(plan_rows(1 << 20)->n_rows, 8);
    drop(0);
    drop(1);
    destroy();
}

Test(scheduler, everybody_comes_to_an_end)
{
    for (unsigned seed = 1; seed <= 60; seed++) {
        srand(seed);
        int blocks = 8 + rand() % 12, limit[MANY], alive = MANY, steps = 0;
        create(blocks, 1 + rand() % 6, 6 + rand() % 20);
        for (int i = 0; i < MANY; i++) {
            limit[i] = 2 + rand() % (blocks * 4 - 1);
            add(i, 1 + rand() % (limit[i] - 1), limit[i]);
            task[i].scored = rand() % 5 == 0;
        }
        for (; alive > 0; steps++) {
            cr_assert_lt(steps, 20000, "seed %u: %d tasks never end", seed, alive);
            const struct plan *plan = step();
            for (int i = 0; i < plan->n_tasks; i++) {
                struct task *t = plan->task[i];
                int at = (int)(t - task);
                cr_assert_leq(t->kv.n * 4 - 4, t->n_computed);
                if (t->n_computed + 1 == t->n_tokens) t->scored = false;
                if (t->n_tokens >= limit[at]) {
                    drop(at);
                    limit[at] = 0;
                    alive--;
                }
            }
            int i = rand() % MANY;
            if (limit[i] > 0 && rand() % 4 == 0) scheduler_pause(scheduler, &task[i]);
            for (i = 0; i < MANY; i++) {
                if (limit[i] > 0 && rand() % 8 == 0) scheduler_resume(scheduler, &task[i]);
            }
        }
        destroy();
    }
}

/* ---- prefixes ---- */

static int32_t words[MANY][64];

/* A task whose first `common` tokens are those of all others. */
static void add_text(int i, int common, int tokens, int limit)
{
    for (int j = 0; j < 64; j++) words[i][j] = j < common ? j : 100 * (i + 1) + j;
    task[i] = (struct task){.n_tokens = tokens, .finds = true, .tokens = words[i]};
    cr_assert_eq(kv_table_create(&task[i].kv, kv, limit, &err), 0);
    scheduler_add(scheduler, &task[i]);
}

/* As step(), and what was computed can be found. */
static const struct plan *step_text(void)
{
    const struct plan *plan = plan_rows(1 << 20);
    for (int i = 0; i < plan->n_tasks; i++) {
        struct task *t = plan->task[i];
        t->n_computed += t->rows;
        kv_table_publish(&t->kv, kv, t->tokens, t->n_computed);
        if (t->n_computed == t->n_tokens) t->n_tokens++;
    }
    return plan;
}

Test(scheduler, a_prefix_is_computed_once)
{
    create(100, 4, 64);
    add_text(0, 20, 30, 60);
    cr_expect_eq(step_text()->n_rows, 30);
    add_text(1, 20, 27, 60);
    cr_expect_eq(step_text()->n_rows, 1 + 7);
    cr_expect_eq(task[1].n_found, 20);
    drop(0);
    drop(1);
    add_text(2, 20, 20, 60); /* all of it is there, but the last token's logits are wanted */
    cr_expect_eq(step_text()->n_rows, 4);
    cr_expect_eq(task[2].n_found, 16);
    drop(2);
    destroy();
}

Test(scheduler, one_of_several_that_come_together_computes_the_prefix)
{
    create(100, 4, 64);
    for (int i = 0; i < 3; i++) add_text(i, 16, 22 + i, 60);
    cr_expect_eq(step_text()->n_rows, 22);
    cr_expect_eq(step_text()->n_rows, 1 + 7 + 8);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(task[i].n_found, i ? 16 : 0);
        drop(i);
    }
    destroy();
}

Test(scheduler, what_was_taken_away_is_found_again_and_not_counted_twice)
{
    create(10, 2, 64);
    add_text(0, 0, 16, 40);
    add_text(1, 0, 12, 40);
    step_text();
    while (scheduler_preemptions(scheduler) == 0) step_text(); /* the younger one gives way */
    drop(0);
    int before = task[1].n_tokens;
    const struct plan *plan = step_text();
    cr_expect_lt(plan->n_rows, before);
    cr_expect_eq(task[1].n_found, 0);
    drop(1);
    destroy();
}

Test(scheduler, streams_bound_the_prefill_of_others)
{
    create(100, 4, 64);
    add(0, 8, 60);
    cr_expect_eq(plan_rows(5)->n_rows, 8); /* nobody streams yet */
    task[0].n_computed = 8;
    task[0].n_tokens = 9;
    add(1, 40, 60);
    cr_expect_eq(plan_rows(5)->n_rows, 1 + 5);
    drop(0);
    drop(1);
    destroy();
}

/* A row far inside a text costs more: its prompt gets fewer. */
Test(scheduler, the_budget_counts_what_rows_look_back_at)
{
    struct plan_budget budget = {.room = 20, .row = 1, .token = 0.1};
    create(200, 4, 64);
    add(0, 8, 60);
    step();
    add(1, 300, 320);
    cr_expect_eq(scheduler_plan(scheduler, &budget)->n_rows, 1 + 12); /* 12 (1 + 0.1 (0 … 12) / 2) = 19.2 */
    for (int i = 0; i < 4; i++) {
        cr_expect_eq(plan_rows(50)->n_rows, 1 + 50);
        task[1].n_computed += task[1].rows;
    }
    cr_expect_eq(scheduler_plan(scheduler, &budget)->n_rows, 1 + 1, "one of 21: prompts go on");
    budget.room = 100;
    cr_expect_eq(scheduler_plan(scheduler, &budget)->n_rows, 1 + 4);
    add(2, 30, 60);
    scheduler_plan(scheduler, &budget);
    cr_expect_eq(task[1].rows, 1, "a quarter is for the oldest");
    cr_expect_eq(task[2].rows, 30, "a short prompt's rows cost less");
    for (int i = 0; i < 3; i++) drop(i);
    destroy();
}

Test(scheduler, rows_whose_logits_are_wanted_cost_more)
{
    struct plan_budget budget = {.room = 12, .row = 1, .output = 2};
    create(100, 4, 64);
    add(0, 8, 60);
    step();
    task[0].drafts = 7;
    cr_expect_eq(scheduler_plan(scheduler, &budget)->n_rows, 1 + 4);
    task[0].drafts = 0;
    add(1, 30, 60);
    task[1].scored = true;
    cr_expect_eq(scheduler_plan(scheduler, &budget)->n_rows, 1 + 4);
    task[1].scored = false;
    cr_expect_eq(scheduler_plan(scheduler, &budget)->n_rows, 1 + 12);
    drop(0);
    drop(1);
    destroy();
}

Test(scheduler, drafts_take_the_rows_that_are_left)
{
    create(100, 4, 64);
    add(0, 8, 60);
    add(1, 8, 60);
    step();
    task[0].drafts = 7;
    cr_expect_eq(plan_rows(20)->n_rows, 2 + 7);
    cr_expect_eq(task[0].rows, 1 + 7);
    task[1].drafts = 7;
    cr_expect_eq(plan_rows(20)->n_rows, 2 + 8, "no more than may be scored");
    cr_expect_eq(plan_rows(3)->n_rows, 2 + 3, "no more than the bound leaves");
    add(2, 40, 60);
    cr_expect_eq(plan_rows(20)->n_rows, 2 + 20);
    cr_expect_eq(task[2].rows, 20, "prompts go first");
    drop(2);
    add(2, 16, 60);
    cr_expect_eq(plan_rows(20)->n_rows, 2 + 20);
    cr_expect_eq(task[2].rows, 16);
    cr_expect_eq(task[0].rows + task[1].rows, 2 + 4, "what it leaves");
    for (int i = 0; i < 3; i++) drop(i);
    destroy();
}

Test(scheduler, drafts_take_nobodys_blocks)
{
    create(5, 4, 64);
    add(0, 7, 40);
    add(1, 7, 40);
    step();
    task[0].drafts = 7;
    cr_expect_eq(kv_blocks_free(kv), 1);
    const struct plan *plan = plan_rows(20);
    cr_expect_eq(plan->n_rows, 2, "the last block may be anybody's");
    cr_expect_eq(kv_blocks_free(kv), 1);
    task[0].n_computed = 8;
    task[0].n_tokens = 9;
    plan_rows(20);
    cr_expect_eq(task[0].rows, 1 + 3, "as far as its own reach");
    cr_expect_eq(scheduler_preemptions(scheduler), 0);
    drop(1);
    plan_rows(20);
    cr_expect_eq(task[0].rows, 1 + 7);
    drop(0);
    destroy();
}
