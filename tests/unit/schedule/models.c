/* Several models in one engine: loaded and unloaded while others stream, within a budget. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "../../../engine/log.h"
#include "../../support/answers.h"
#include "../../support/tiny_model.h"

#define PATIENCE 60.0
#define MODELS 3
#define STREAMS 3
#define TOKENS 60

static char path[MODELS][64];
static struct engine *engine;
static struct model *model[MODELS];
static struct err err;
static int32_t prompt[STREAMS][90];
static char alone[MODELS][STREAMS][4096]; /* what each stream says when nothing else is there */

static void setup(void)
{
    log_set_level(LOG_ERROR);
    for (int m = 0; m < MODELS; m++) {
        struct tiny_model_options tiny = {.seed = (uint64_t)m + 1, .layers = m + 1, .width = 64 * (m + 1)};
        snprintf(path[m], sizeof path[m], "/tmp/hearth-models-%d-%d.gguf", (int)getpid(), m);
        cr_assert_eq(tiny_model_write(&tiny, path[m], &err), 0, "%s", err.text);
    }
    for (int s = 0; s < STREAMS; s++)
        for (int i = 0; i < 90; i++) prompt[s][i] = (i * (31 + s) + 7 * s) % 250;
}

static void teardown(void)
{
    engine_close(engine);
    for (int m = 0; m < MODELS; m++) unlink(path[m]);
}

TestSuite(models, .init = setup, .fini = teardown, .timeout = 120);

static void open_engine(int in_flight)
{
    struct engine_options options = {.device = "reference", .threads = 1, .parallel = 4, .in_flight = in_flight};
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
}

static void load(int m)
{
    cr_assert_eq(engine_load(engine, path[m], NULL, &model[m], &err), 0, "%s", err.text);
}

static struct answer *stream(int m, int s, int tokens)
{
    struct answer *a = answer_create();
    struct engine_request q = answer_request(model[m], prompt[s], 90, tokens);
    q.ignore_eos = true;
    q.sampling.temperature = 0.9;
    q.sampling.seed = (uint64_t)(m * 10 + s);
    answer_submit(a, engine, q);
    return a;
}

static void finish(struct answer *a, const char *expected)
{
    cr_assert(answer_wait(a, engine, PATIENCE));
    cr_assert(!a->failed, "%s", a->end.err.text);
    if (expected) cr_assert_str_eq(a->choice[0].text, expected);
    free(a);
}

/* Each model alone in an engine of its own, each stream after the other. */
static void run_alone(int in_flight)
{
    for (int m = 0; m < MODELS; m++) {
        open_engine(in_flight);
        load(m);
        for (int s = 0; s < STREAMS; s++) {
            struct answer *a = stream(m, s, TOKENS);
            cr_assert(answer_wait(a, engine, PATIENCE));
            memcpy(alone[m][s], a->choice[0].text, a->choice[0].length + 1);
            cr_assert_gt(a->choice[0].length, 0);
            free(a);
        }
        engine_close(engine);
        engine = NULL;
    }
}

static void say_the_same_together(int in_flight)
{
    struct answer *a[MODELS][STREAMS];
    run_alone(in_flight);
    open_engine(in_flight);
    for (int m = 0; m < MODELS; m++) load(m);
    for (int round = 0; round < 2; round++) { /* the second finds prefixes in each model's own cache */
        for (int s = 0; s < STREAMS; s++)
            for (int m = 0; m < MODELS; m++) a[m][s] = stream(m, s, TOKENS);
        for (int s = 0; s < STREAMS; s++)
            for (int m = 0; m < MODELS; m++) finish(a[m][s], alone[m][s]);
    }
}

Test(models, say_the_same_together_as_alone)
{
    say_the_same_together(1);
}

Test(models, say_the_same_with_steps_in_flight)
{
    say_the_same_together(2);
}

/* ---- coming and going ---- */

struct coming {
    int rounds, failed;
};

/* What a server's thread pool does: loads model 1 and unloads it again. */
static void *come_and_go(void *argument)
{
    struct coming *c = argument;
    for (int i = 0; i < c->rounds; i++) {
        struct err e;
        struct model *m = NULL;
        c->failed += engine_load(engine, path[1], NULL, &m, &e) != 0;
        c->failed += m && engine_unload(engine, m, &e) != 0;
    }
    return NULL;
}

static void stream_meanwhile(int in_flight)
{
    struct coming coming = {.rounds = 20};
    pthread_t thread;
    run_alone(in_flight);
    open_engine(in_flight);
    load(0);
    cr_assert_eq(pthread_create(&thread, NULL, come_and_go, &coming), 0);
    for (int i = 0; i < 4; i++) {
        struct answer *a[STREAMS];
        for (int s = 0; s < STREAMS; s++) a[s] = stream(0, s, TOKENS);
        for (int s = 0; s < STREAMS; s++) finish(a[s], alone[0][s]);
    }
    pthread_join(thread, NULL);
    cr_assert_eq(coming.failed, 0);
}

Test(models, others_stream_while_one_comes_and_goes)
{
    stream_meanwhile(1);
}

Test(models, others_stream_with_steps_in_flight_meanwhile)
{
    stream_meanwhile(2);
}

Test(models, unloading_waits_for_nobody)
{
    struct engine_status before, after;
    open_engine(1);
    load(0);
    engine_status(engine, &before);
    load(1);
    struct answer *a = stream(1, 0, 300);
    cr_assert_eq(engine_unload(engine, model[1], &err), ERR_BUSY);
    finish(a, NULL);
    finish(stream(1, 0, 5), NULL); /* it is still there */
    cr_assert_eq(engine_unload(engine, model[1], &err), 0, "%s", err.text);
    engine_status(engine, &after);
    cr_assert_eq(after.kv_blocks, before.kv_blocks);
    cr_assert_eq(after.kv_blocks_cached, 0);
    finish(stream(0, 0, 5), NULL);
    load(1);
    finish(stream(1, 0, 5), NULL);
}

Test(models, what_only_warms_the_cache_does_not_hold_a_model)
{
    static const char *const warm[] = {"a system prompt that is long enough to fill more than one block of the cache, "
                                       "so that it is worth being computed before anybody asks for it", NULL};
    open_engine(1);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(engine_load(engine, path[0], &(struct model_options){.warm = warm}, &model[0], &err), 0);
        cr_assert_eq(engine_unload(engine, model[0], &err), 0, "%s", err.text);
    }
}

/* ---- memory ---- */

Test(models, what_is_measured_is_what_is_taken)
{
    open_engine(1);
    for (int m = 0; m < MODELS; m++) {
        struct model_needs needs;
        cr_assert_eq(engine_measure(engine, path[m], &(struct model_options){0}, &needs, &err), 0, "%s", err.text);
        load(m);
        uint64_t taken = engine_model_info(model[m])->resident_bytes;
        cr_assert_leq(taken, needs.fixed + needs.kv_most);
        cr_assert_geq(taken + (64 << 10), needs.fixed + needs.kv_most);
        cr_assert_leq(needs.kv_least, needs.kv_most);
    }
}

Test(models, a_model_stays_within_its_share)
{
    struct model_needs needs;
    open_engine(1);
    cr_assert_eq(engine_measure(engine, path[2], &(struct model_options){0}, &needs, &err), 0, "%s", err.text);
    struct model_options options = {.memory = needs.fixed + needs.kv_least};
    cr_assert_eq(engine_load(engine, path[2], &options, &model[2], &err), 0, "%s", err.text);
    cr_assert_leq(engine_model_info(model[2])->resident_bytes, options.memory);
    finish(stream(2, 0, 20), NULL);
    cr_assert_eq(engine_unload(engine, model[2], &err), 0);

    options.memory -= 1 << 20;
    cr_assert_eq(engine_load(engine, path[2], &options, &model[2], &err), ERR_NOMEM);
    cr_assert(strstr(err.text, "1 MiB are missing"), "%s", err.text);
}

Test(models, a_file_that_is_none_harms_nobody)
{
    open_engine(1);
    load(0);
    struct answer *a = stream(0, 0, TOKENS);
    cr_assert_eq(truncate(path[1], 5000), 0);
    cr_assert_lt(engine_load(engine, path[1], NULL, &model[1], &err), 0);
    cr_assert_eq(model[1], NULL);
    finish(a, NULL);
}

Test(models, a_budget_is_chosen_or_given)
{
    struct engine_budget b;
    open_engine(1);
    engine_budget(engine, &b);
    cr_assert(!b.given && b.bytes > 0 && b.bytes < b.available);
    engine_close(engine);
    struct engine_options options = {.device = "reference", .threads = 1, .memory_share = 0.25};
    cr_assert_eq(engine_open(&engine, &options, &err), 0);
    engine_budget(engine, &b);
    cr_assert(b.given && b.bytes > 0);
    engine_close(engine);
    options = (struct engine_options){.device = "reference", .threads = 1, .memory = 12345678};
    cr_assert_eq(engine_open(&engine, &options, &err), 0);
    engine_budget(engine, &b);
    cr_assert(b.given && b.bytes == 12345678);
    engine_close(engine);
    engine = NULL;
    options.memory_share = 1.5;
    cr_assert_eq(engine_open(&engine, &options, &err), ERR_INVALID);
}
