/* Steps that are queued before their predecessors have ended give the same tokens as steps that are not: on
 * the reference device, which does both when told to. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../../engine/log.h"
#include "../../../engine/model/gguf.h"
#include "../../support/answers.h"
#include "../../support/tiny_model.h"

#define PATIENCE 60.0
enum { MANY = 14, PROMPT = 300 };

static char path[64];
static struct engine *engine;
static struct model *model;
static struct err err;
static int32_t prompt[PROMPT];
static struct answer *answer[2][MANY];

static void setup(void)
{
    log_set_level(LOG_WARNING);
    snprintf(path, sizeof path, "/tmp/hearth-queued-%d.gguf", (int)getpid());
    struct tiny_model_options tiny = {.seed = 5};
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * 41 + 7) % 250;
}

static void close_engine(void)
{
    engine_close(engine);
    engine = NULL;
}

static void teardown(void)
{
    close_engine();
    unlink(path);
    for (int i = 0; i < 2 * MANY; i++) free(answer[i / MANY][i % MANY]);
}

TestSuite(queued, .init = setup, .fini = teardown, .timeout = 120);

static void open_engine(int in_flight, int parallel, int kv_tokens)
{
    close_engine();
    struct engine_options options = {.device = "reference", .threads = 1, .in_flight = in_flight,
                                     .parallel = parallel, .step_tokens = 32, .context = kv_tokens};
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
    struct model_options load = {.context = 160};
    cr_assert_eq(engine_load(engine, path, &load, &model, &err), 0, "%s", err.text);
}

/* One of each kind: what the device chooses, and what waits for its last token. */
static struct engine_request request(int i)
{
    static const struct logit_bias bias = {97, 3};
    static const char *const stop[] = {"e", "th"};
    struct engine_request q = answer_request(model, prompt + i, (size_t)(10 + 9 * i), 40);
    q.sampling.temperature = i % 4 ? 0.9 : 0;
    q.sampling.seed = (uint64_t)i;
    q.ignore_eos = i % 3 != 0;
    switch (i) {
    case 1: q.sampling.top_k = 20; break;
    case 2: q.sampling.top_p = 0.8; break;
    case 3: q.sampling.min_p = 0.05; break;
    case 4: q.sampling.presence_penalty = 0.5; break;
    case 5: q.sampling.bias = &bias, q.sampling.n_bias = 1; break;
    case 6: q.logprobs = true, q.n_top = 3; break;
    case 7: q.choices = 3; break;
    case 8: q.stop = stop, q.n_stop = 2; break;
    case 9: q.prompt_logprobs = true; break;
    case 10: q.max_tokens = 1; break;
    case 11: q.max_tokens = -1; break;
    case 12:
        q.sampling.dry_multiplier = 5;
        q.sampling.dry_base = 2;
        q.sampling.dry_allowed_length = 1;
        break;
    case 13: q.max_tokens = 20, q.sampling.xtc_probability = 0.5; break;
    }
    return q;
}

static uint64_t run_all(int round)
{
    for (int i = 0; i < MANY; i++) {
        answer[round][i] = answer_create();
        answer_submit(answer[round][i], engine, request(i));
    }
    for (int i = 0; i < MANY; i++) {
        cr_assert(answer_wait(answer[round][i], engine, PATIENCE), "request %d", i);
        cr_expect_eq(answer[round][i]->events_after_end, 0);
    }
    struct engine_status status;
    engine_status(engine, &status);
    return status.steps_ahead;
}

static void expect_same(void)
{
    for (int i = 0; i < MANY; i++) {
        const struct answer *a = answer[0][i], *b = answer[1][i];
        cr_expect_eq(a->end.kind, ENGINE_DONE, "request %d: %s", i, a->end.err.text);
        cr_expect_eq(b->end.kind, ENGINE_DONE, "request %d: %s", i, b->end.err.text);
        for (int c = 0; c < (i == 7 ? 3 : 1); c++) {
            const struct answer_choice *x = &a->choice[c], *y = &b->choice[c];
            cr_expect(x->done && y->done);
            cr_expect_eq(x->finish, y->finish, "request %d, choice %d", i, c);
            cr_expect_eq(x->completion_tokens, y->completion_tokens, "request %d, choice %d", i, c);
            cr_assert_eq(x->n_ids, y->n_ids, "request %d, choice %d", i, c);
            size_t bytes = (size_t)x->n_ids * sizeof *x->ids;
            cr_expect_arr_eq(x->ids, y->ids, bytes, "request %d, choice %d", i, c);
            cr_expect_eq(x->length, y->length);
        }
    }
}

Test(queued, the_same_tokens)
{
    open_engine(1, 4, 0);
    cr_expect_eq(run_all(0), 0);
    open_engine(2, 4, 0);
    cr_expect_gt(run_all(1), 20);
    expect_same();
}

Test(queued, the_same_tokens_where_blocks_are_short)
{
    open_engine(1, 4, 0);
    run_all(0);
    open_engine(2, 6, 224);
    cr_expect_gt(run_all(1), 20);
    expect_same();
}

/* Rows of requests that are over are under way when others take their blocks. */
Test(queued, cancelled_among_others)
{
    open_engine(1, 4, 0);
    run_all(0);
    open_engine(2, 4, 256);
    struct answer *gone[4];
    for (int round = 0; round < 4; round++) {
        struct engine_request q = request(2);
        q.max_tokens = 90;
        gone[round] = answer_create();
        answer_submit(gone[round], engine, q);
        while (gone[round]->n_text_events < 2) answer_wait(gone[round], engine, 0.001);
        engine_cancel(engine, gone[round]->id);
    }
    run_all(1);
    expect_same();
    for (int round = 0; round < 4; round++) {
        cr_assert(answer_wait(gone[round], engine, PATIENCE));
        cr_expect(gone[round]->end.finish == FINISH_CANCELLED || gone[round]->choice[0].n_ids == 90);
        free(gone[round]);
    }
    struct engine_status status;
    engine_status(engine, &status);
    cr_expect_eq(status.kv_blocks_used, 0);
    cr_expect_eq(status.running, 0);
}

/* Steps of two models on one device are not under way together. */
Test(queued, two_models)
{
    open_engine(1, 4, 0);
    run_all(0);
    open_engine(2, 4, 0);
    struct model *other;
    struct model_options load = {.name = "other", .context = 160};
    cr_assert_eq(engine_load(engine, path, &load, &other, &err), 0, "%s", err.text);
    struct answer *beside[MANY];
    for (int i = 0; i < MANY; i++) {
        struct engine_request q = request(i);
        q.model = other;
        beside[i] = answer_create();
        answer_submit(beside[i], engine, q);
    }
    run_all(1);
    expect_same();
    for (int i = 0; i < MANY; i++) {
        cr_assert(answer_wait(beside[i], engine, PATIENCE), "request %d", i);
        cr_expect_eq(beside[i]->choice[0].n_ids, answer[0][i]->choice[0].n_ids, "request %d", i);
        free(beside[i]);
    }
}

/* A weight that is infinite: the request fails, with a word, and the process does not. */
static void break_model(void)
{
    static const uint16_t infinite = 0x7c00;
    unsigned char *bytes;
    size_t size;
    struct gguf *g;
    struct tiny_model_options tiny = {.matrix = DTYPE_Q4_0, .vector = DTYPE_F16};
    cr_assert_eq(tiny_model_bytes(&tiny, 0, &bytes, &size, &err), 0, "%s", err.text);
    cr_assert_eq(gguf_open_memory(&g, bytes, size, &err), 0, "%s", err.text);
    memcpy((unsigned char *)gguf_find_tensor(g, "blk.0.attn_q.weight")->data, &infinite, sizeof infinite);
    gguf_close(g);
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
    free(bytes);
}

Test(queued, logits_that_are_not_finite)
{
    break_model();
    for (int in_flight = 1; in_flight <= 2; in_flight++) {
        open_engine(in_flight, 4, 0);
        for (int round = 0; round < 3; round++) {
            struct answer *a = answer_create();
            answer_submit(a, engine, request(2));
            cr_assert(answer_wait(a, engine, PATIENCE));
            cr_expect(a->failed);
            cr_expect_eq(a->end.err.code, ERR_DEVICE);
            cr_expect_str_eq(a->end.err.text, "the model's logits are not finite");
            free(a);
        }
        struct engine_status status;
        engine_status(engine, &status);
        cr_expect_eq(status.kv_blocks_used, 0);
    }
}
