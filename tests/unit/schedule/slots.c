/* engine_slots and engine_status as somebody who looks on sees them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../../engine/log.h"
#include "../../support/answers.h"
#include "../../support/tiny_model.h"

#define PATIENCE 60.0
enum { PROMPT = 70 };

static char path[64];
static struct engine *engine;
static struct model *model;
static struct err err;
static int32_t prompt[PROMPT];

static void setup(void)
{
    log_set_level(LOG_WARNING);
    snprintf(path, sizeof path, "/tmp/hearth-slots-%d.gguf", (int)getpid());
    struct tiny_model_options tiny = {.seed = 5};
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * 41 + 7) % 250;
    struct engine_options options = {.device = "reference", .threads = 1, .parallel = 1};
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
    struct model_options load = {.context = 160};
    cr_assert_eq(engine_load(engine, path, &load, &model, &err), 0, "%s", err.text);
}

static void teardown(void)
{
    engine_close(engine);
    unlink(path);
}

TestSuite(slots, .init = setup, .fini = teardown, .timeout = 120);

static struct answer *ask(int n_prompt, int credit)
{
    struct engine_request q = answer_request(model, prompt, (size_t)n_prompt, 80);
    struct answer *a = answer_create();
    q.ignore_eos = true;
    q.credit = credit;
    answer_submit(a, engine, q);
    return a;
}

/* Looks until the oldest request is in a state. */
static void expect_state(enum engine_slot_state state, struct engine_slot *slot)
{
    slot->state = ENGINE_SLOT_PREEMPTED;
    for (int i = 0; i < 20000 && slot->state != state; i++) {
        engine_slots(engine, slot, 1);
        usleep(500);
    }
    cr_assert_eq(slot->state, state, "%d", slot->state);
}

Test(slots, paused)
{
    struct engine_slot slot[3];
    cr_expect_eq(engine_slots(engine, slot, 3), 0);
    struct answer *first = ask(PROMPT, 5);
    expect_state(ENGINE_SLOT_PAUSED, slot);
    cr_expect_eq(slot[0].id, first->id);
    cr_expect_eq(slot[0].user, first);
    cr_expect_eq(slot[0].prompt_tokens, PROMPT);
    cr_expect_geq(slot[0].generated_tokens, 5);
    cr_expect_geq(slot[0].computed_tokens, PROMPT + slot[0].generated_tokens - 1);
    cr_expect_eq(slot[0].max_tokens, 80);
    cr_expect_eq(slot[0].choices, 1);
    cr_expect_gt(slot[0].age, 0);

    struct answer *second = ask(10, 0), *third = ask(20, 0); /* one of them may need the first one's blocks */
    cr_expect(answer_wait(second, engine, PATIENCE), "it runs while the other one is paused");
    cr_expect(answer_wait(third, engine, PATIENCE));
    cr_expect_eq(engine_slots(engine, slot, 3), 1, "those that are over are gone");
    engine_cancel(engine, first->id);
    cr_expect(answer_wait(first, engine, PATIENCE));
    cr_expect_eq(engine_slots(engine, slot, 3), 0);
    free(first);
    free(second);
    free(third);
}

Test(slots, the_oldest_first)
{
    struct engine_slot slot[3] = {0};
    struct answer *a[3];
    for (int i = 0; i < 3; i++) a[i] = ask(40 - 10 * i, 5);
    cr_expect_eq(engine_slots(engine, slot, 2), 3);
    for (int i = 0; i < 2; i++) {
        cr_expect_eq(slot[i].id, a[i]->id);
        cr_expect_eq(slot[i].prompt_tokens, 40 - 10 * i);
    }
    cr_expect_null(slot[2].user, "no more than there is room for");
    for (int i = 0; i < 3; i++) {
        engine_cancel(engine, a[i]->id);
        cr_expect(answer_wait(a[i], engine, PATIENCE));
        free(a[i]);
    }
}

Test(slots, steps_and_cached_tokens)
{
    struct engine_status before, after;
    struct engine_slot slot;
    struct answer *warm = ask(PROMPT, 0);
    cr_assert(answer_wait(warm, engine, PATIENCE));
    engine_status(engine, &before);
    struct answer *a = ask(PROMPT, 2);
    expect_state(ENGINE_SLOT_PAUSED, &slot);
    cr_expect_eq(slot.cached_tokens, 64, "two blocks");
    uint64_t n = 0;
    for (int looks = 0; looks < 5000; looks++) { /* the last step may still be being counted */
        engine_status(engine, &after);
        n = 0;
        for (int i = 0; i < ENGINE_BUCKETS; i++) n += after.step_time.count[i];
        if (n == after.steps && after.step_seconds == 0) break;
        usleep(1000);
    }
    cr_expect_eq(n, after.steps);
    cr_expect_gt(after.steps, before.steps);
    cr_expect_gt(after.step_time.sum, before.step_time.sum);
    cr_expect_eq(after.step_seconds, 0, "nothing runs");
    cr_expect_null(after.step_stage);
    cr_expect_gt(before.kv_blocks_cached, 0);
    engine_cancel(engine, a->id);
    cr_expect(answer_wait(a, engine, PATIENCE));
    free(a);
    free(warm);
}

Test(slots, buckets)
{
    cr_expect_eq(engine_bucket(0), 0);
    cr_expect_eq(engine_bucket(engine_bounds[0]), 0, "up to and with the bound");
    cr_expect_eq(engine_bucket(engine_bounds[0] * 1.01), 1);
    cr_expect_eq(engine_bucket(engine_bounds[ENGINE_BUCKETS - 2]), ENGINE_BUCKETS - 2);
    cr_expect_eq(engine_bucket(1e9), ENGINE_BUCKETS - 1);
    for (int i = 1; i < ENGINE_BUCKETS - 1; i++) cr_expect_gt(engine_bounds[i], engine_bounds[i - 1]);
}
