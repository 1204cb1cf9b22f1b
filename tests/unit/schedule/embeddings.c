/* Embeddings: what they are made of, and that nothing else changes their bits. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../../engine/log.h"
#include "../../support/answers.h"
#include "../../support/tiny_model.h"

#define PATIENCE 60.0
enum { PROMPT = 100, WIDTH = ANSWER_WIDTH, MANY = 6 };

static char path[64];
static struct engine *engine;
static struct model *model;
static struct err err;
static int32_t prompt[PROMPT];

static void setup(void)
{
    log_set_level(LOG_ERROR);
    snprintf(path, sizeof path, "/tmp/hearth-embeddings-%d.gguf", (int)getpid());
    struct tiny_model_options tiny = {.seed = 7};
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * 41 + 7) % 250;
}

static void teardown(void)
{
    engine_close(engine);
    unlink(path);
}

TestSuite(embeddings, .init = setup, .fini = teardown, .timeout = 120);

static void open_engine(struct engine_options options, int context)
{
    engine_close(engine);
    options.device = options.device ? options.device : "reference";
    options.threads = 1;
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
    struct model_options load = {.context = context};
    cr_assert_eq(engine_load(engine, path, &load, &model, &err), 0, "%s", err.text);
}

static struct engine_request request(enum engine_pooling pooling, int first, int n)
{
    struct engine_request q = answer_request(model, prompt + first, (size_t)n, 0);
    q.embed = pooling;
    return q;
}

/* The embedding of prompt tokens; *cached gets those that the prefix cache had, where it is not NULL. */
static void embed(enum engine_pooling pooling, int first, int n, float out[WIDTH], int *cached)
{
    struct answer *a = answer_create();
    answer_submit(a, engine, request(pooling, first, n));
    cr_assert(answer_wait(a, engine, PATIENCE));
    cr_assert_not(a->failed, "%s", a->end.err.text);
    cr_expect(a->n_embeddings == 1 && a->n_text_events == 0 && a->n_prompt_events == 0);
    cr_expect(a->end.finish == FINISH_STOP && a->end.prompt_tokens == n && a->end.completion_tokens == 0);
    memcpy(out, a->embedding, WIDTH * sizeof *out);
    if (cached) *cached = a->end.cached_tokens;
    free(a);
}

static void expect_same(const float *a, const float *b, const char *what)
{
    cr_expect_arr_eq(a, b, WIDTH * sizeof *a, "%s", what);
}

/* Attention looks back only: the state of a token is the last one of the prompt that ends with it. */
Test(embeddings, pooling_is_of_the_tokens_states)
{
    float got[WIDTH], state[WIDTH];
    double sum[WIDTH] = {0};
    open_engine((struct engine_options){0}, 0);
    cr_expect_eq(engine_model_info(model)->width, WIDTH);
    cr_expect_eq(engine_model_info(model)->pooling, ENGINE_POOL_NONE);
    for (int n = 1; n <= 20; n++) {
        embed(ENGINE_POOL_LAST, 0, n, state, NULL);
        if (n == 1) {
            embed(ENGINE_POOL_CLS, 0, 20, got, NULL);
            expect_same(got, state, "cls");
        }
        for (int i = 0; i < WIDTH; i++) sum[i] += state[i];
    }
    for (int i = 0; i < WIDTH; i++) state[i] = (float)(sum[i] / 20);
    embed(ENGINE_POOL_MEAN, 0, 20, got, NULL);
    expect_same(got, state, "mean");
}

/* All kinds, alone, in large steps. */
static void expected_of(const char *device, float out[4][WIDTH])
{
    open_engine((struct engine_options){.device = device}, 0);
    for (int p = ENGINE_POOL_MEAN; p <= ENGINE_POOL_LAST; p++) embed((enum engine_pooling)p, 0, PROMPT, out[p], NULL);
}

Test(embeddings, chunks_and_neighbours_change_nothing)
{
    static const char *const devices[] = {"reference", "cpu"};
    float expected[4][WIDTH], got[WIDTH];
    for (int d = 0; d < 2; d++) {
        expected_of(devices[d], expected);
        for (int in_flight = 1; in_flight <= 2; in_flight++) {
            open_engine((struct engine_options){.device = devices[d], .step_tokens = 13 * in_flight, .parallel = 4,
                                                .in_flight = in_flight}, 0);
            struct answer *stream[MANY];
            for (int i = 0; i < MANY; i++) { /* tokens for some, scores and embeddings for others */
                struct engine_request q = answer_request(model, prompt + i, (size_t)(20 + 9 * i), 60);
                q.ignore_eos = true;
                q.prompt_logprobs = i == 2;
                answer_submit(stream[i] = answer_create(), engine,
                              i % 3 == 1 ? request(ENGINE_POOL_MEAN, i, 50) : q);
            }
            for (int p = ENGINE_POOL_MEAN; p <= ENGINE_POOL_LAST; p++) {
                embed((enum engine_pooling)p, 0, PROMPT, got, NULL);
                expect_same(got, expected[p], devices[d]);
            }
            for (int i = 0; i < MANY; i++) {
                cr_assert(answer_wait(stream[i], engine, PATIENCE));
                cr_expect_not(stream[i]->failed);
                free(stream[i]);
            }
        }
    }
}

/* Of rows that the cache has there are no states: the mean computes them again. */
Test(embeddings, only_the_last_state_uses_the_prefix_cache)
{
    float expected[4][WIDTH], got[WIDTH];
    int cached;
    expected_of("reference", expected);
    open_engine((struct engine_options){0}, 0);
    struct answer *a = answer_create();
    answer_submit(a, engine, answer_request(model, prompt, PROMPT, 4));
    cr_assert(answer_wait(a, engine, PATIENCE));
    free(a);
    for (int p = ENGINE_POOL_MEAN; p <= ENGINE_POOL_LAST; p++) {
        embed((enum engine_pooling)p, 0, PROMPT, got, &cached);
        expect_same(got, expected[p], "cached");
        cr_expect_eq(cached, p == ENGINE_POOL_LAST ? 96 : 0);
    }
}

/* Beside three streams there is one row for it in each step, and when these need its blocks it gives them back: rows
 * are computed twice and count once. Where the streams are far ahead when it comes there is no need: then again. */
Test(embeddings, preempted_ones_go_on)
{
    float expected[4][WIDTH];
    struct engine_status status = {0};
    expected_of("reference", expected);
    open_engine((struct engine_options){.step_tokens = 4, .parallel = 4, .context = 352}, 160);
    for (int round = 0; round < 50 && status.preempted == 0; round++) {
        struct answer *stream[3], *mean = answer_create();
        for (int i = 0; i < 3; i++) {
            struct engine_request q = answer_request(model, prompt + 5 * i, 4, 120);
            q.ignore_eos = true;
            answer_submit(stream[i] = answer_create(), engine, q);
        }
        answer_submit(mean, engine, request(ENGINE_POOL_MEAN, 0, PROMPT));
        cr_assert(answer_wait(mean, engine, PATIENCE));
        expect_same(mean->embedding, expected[ENGINE_POOL_MEAN], "preempted");
        for (int i = 0; i < 3; i++) {
            cr_assert(answer_wait(stream[i], engine, PATIENCE));
            free(stream[i]);
        }
        free(mean);
        engine_status(engine, &status);
    }
    cr_expect_gt(status.preempted, 0);
}

Test(embeddings, end_like_other_requests)
{
    open_engine((struct engine_options){.step_tokens = 8, .parallel = 1}, 0);
    struct answer *busy = answer_create(), *cancelled = answer_create(), *late = answer_create();
    struct engine_request q = answer_request(model, prompt, 50, 300);
    q.ignore_eos = true;
    answer_submit(busy, engine, q);
    answer_submit(cancelled, engine, request(ENGINE_POOL_MEAN, 0, PROMPT));
    engine_cancel(engine, cancelled->id);
    q = request(ENGINE_POOL_MEAN, 0, PROMPT);
    q.deadline = 1e-3;
    answer_submit(late, engine, q);
    cr_assert(answer_wait(cancelled, engine, PATIENCE) && answer_wait(late, engine, PATIENCE));
    cr_expect(cancelled->end.finish == FINISH_CANCELLED && cancelled->n_embeddings == 0);
    cr_expect(late->failed ? late->end.err.code == ERR_DEADLINE : late->end.finish == FINISH_DEADLINE);
    cr_expect_eq(late->n_embeddings, 0);
    engine_cancel(engine, busy->id);
    cr_assert(answer_wait(busy, engine, PATIENCE));
    free(busy);
    free(cancelled);
    free(late);
}

static void expect_refused(struct engine_request q, int code)
{
    uint64_t id;
    cr_expect_eq(engine_submit(engine, &q, &id, &err), code);
}

Test(embeddings, what_makes_no_sense_is_refused)
{
    open_engine((struct engine_options){0}, 64);
    expect_refused(request(ENGINE_POOL_MEAN, 0, 65), ERR_TOO_LONG);
    expect_refused(request((enum engine_pooling)4, 0, 10), ERR_INVALID);
    struct engine_request q = request(ENGINE_POOL_MEAN, 0, 10);
    q.max_tokens = 1;
    expect_refused(q, ERR_INVALID);
    q = request(ENGINE_POOL_LAST, 0, 10);
    q.choices = 2;
    expect_refused(q, ERR_INVALID);
    q = request(ENGINE_POOL_LAST, 0, 10);
    q.prompt_logprobs = true;
    expect_refused(q, ERR_INVALID);
    float whole[WIDTH];
    embed(ENGINE_POOL_MEAN, 0, 64, whole, NULL); /* the whole context */
}

Test(embeddings, files_say_how)
{
    struct tiny_model_options tiny = {.more_keys = true};
    struct ids ids;
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
    open_engine((struct engine_options){0}, 0);
    cr_expect_eq(engine_model_info(model)->pooling, ENGINE_POOL_LAST);
    cr_assert_eq(engine_tokenize(model, "ab", 2, TOKENIZE_PLAIN | TOKENIZE_EOS, &ids, &err), 0);
    cr_expect_eq(ids.n, 3);
    cr_expect_eq(ids.ids[2], tiny_model_token("<|im_end|>"));
    free(ids.ids);
    cr_assert_eq(engine_tokenize(model, "a<|im_end|>", 11, TOKENIZE_SPECIAL | TOKENIZE_EOS, &ids, &err), 0);
    cr_expect_eq(ids.n, 2, "it is there already");
    free(ids.ids);
}

/* Which marks stand where, and what people wrote never becomes one. */
Test(embeddings, gaps_have_marks_by_key_or_text)
{
    struct tiny_model_options tiny = {.more_keys = true};
    static const char *const marks[] = {"<|repo_name|>", "<|file_sep|>", "<|file_sep|>", "<|file_sep|>", "<|fim_pad|>",
                                        "<|fim_suffix|>", "<|fim_middle|>"};
    const struct engine_gap_file files[] = {{"a.c", "<|file_sep|>"}, {"<|fim_suffix|>", "b"}};
    struct ids ids;
    int n = 0;
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
    open_engine((struct engine_options){0}, 0);
    struct engine_gap gap = {"x<|fim_middle|>", "<|fim_pad|>", files, 2};
    cr_assert_eq(engine_fim(model, &gap, &ids, &err), 0, "%s", err.text);
    for (size_t i = 0; i < ids.n; i++) {
        if (ids.ids[i] < tiny_model_token("<|endoftext|>")) continue;
        cr_assert_lt(n, 7);
        cr_expect_eq(ids.ids[i], tiny_model_token(marks[n]), "%s", marks[n]);
        n++;
    }
    cr_expect_eq(n, 7);
    free(ids.ids);
}
