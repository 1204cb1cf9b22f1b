/* LoRA adapters: what they add is what merged weights would, each row has its own, nobody else notices. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../../engine/log.h"
#include "../../../engine/model/gguf.h"
#include "../../support/answers.h"
#include "../../support/gguf_writer.h"
#include "../../support/tiny_model.h"

#define PATIENCE 60.0
enum { PROMPT = 70, RANK = 4 };

static char base[64], merged[64], adapter[2][64];
static struct engine *engine;
static struct model *model;
static struct err err;
static int32_t prompt[PROMPT];

static void setup(void)
{
    log_set_level(LOG_ERROR);
    snprintf(base, sizeof base, "/tmp/hearth-lora-%d.gguf", (int)getpid());
    snprintf(merged, sizeof merged, "/tmp/hearth-lora-%d-merged.gguf", (int)getpid());
    for (int i = 0; i < 2; i++) {
        snprintf(adapter[i], sizeof adapter[i], "/tmp/hearth-lora-%d-%d.gguf", (int)getpid(), i);
    }
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
    unlink(base);
    unlink(merged);
    unlink(adapter[0]);
    unlink(adapter[1]);
}

TestSuite(adapters, .init = setup, .fini = teardown, .timeout = 120);

static void write_files(struct tiny_model_options o, enum dtype type, int rank)
{
    cr_assert_eq(tiny_model_write(&o, base, &err), 0, "%s", err.text);
    for (int i = 0; i < 2; i++) {
        struct tiny_model_options a = o;
        a.seed = o.seed + 100 + (uint64_t)i;
        a.mixed = false;
        a.matrix = a.output = type;
        a.lora_rank = rank + (type == DTYPE_Q8_0 ? 0 : i);
        a.lora_alpha = 3;
        cr_assert_eq(tiny_model_write(&a, adapter[i], &err), 0, "%s", err.text);
    }
}

static int open_with(const char *device, const char *path, int n_adapters)
{
    struct engine_options options = {.device = device, .threads = 1, .parallel = 4, .step_tokens = 32,
                                     .speculate = SPECULATE_OFF};
    struct engine_adapter list[2] = {{adapter[0], 1}, {adapter[1], 1}};
    close_engine();
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
    struct model_options load = {.name = "tiny", .adapters = list, .n_adapters = (size_t)n_adapters};
    return engine_load(engine, path, &load, &model, &err);
}

static struct answer *start(const struct engine_scale *scales, size_t n, bool cached)
{
    struct engine_request q = answer_request(model, prompt, PROMPT, 24);
    q.scales = scales;
    q.n_scales = n;
    q.ignore_eos = q.logprobs = true;
    q.prompt_logprobs = !cached;
    q.no_cache = !cached;
    struct answer *a = answer_create();
    answer_submit(a, engine, q);
    return a;
}

static struct answer *await(struct answer *a)
{
    cr_assert(answer_wait(a, engine, PATIENCE));
    cr_assert_not(a->failed, "%s", a->end.err.text);
    return a;
}

/* Adds scale · (alpha / rank) · B A to the weights of a model in memory. */
static void merge(unsigned char *bytes, size_t size, const char *path, float scale)
{
    struct gguf *to, *from;
    double alpha;
    char name[80];
    cr_assert_eq(gguf_open_memory(&to, bytes, size, &err), 0, "%s", err.text);
    cr_assert_eq(gguf_open(&from, path, &err), 0, "%s", err.text);
    cr_assert_eq(gguf_get_float(from, "adapter.lora.alpha", &alpha, &err), 0);
    for (size_t i = 0; i < gguf_n_tensors(from); i++) {
        const struct gguf_tensor *a = gguf_tensor(from, i);
        int stem = (int)a->name.length - 7;
        if (memcmp(a->name.bytes + stem, ".lora_a", 7)) continue;
        snprintf(name, sizeof name, "%.*s.lora_b", stem, a->name.bytes);
        const struct gguf_tensor *b = gguf_find_tensor(from, name);
        name[stem] = 0;
        const struct gguf_tensor *w = gguf_find_tensor(to, name);
        cr_assert(b && w && w->dtype == DTYPE_F32, "%s", name);
        size_t in = a->shape[0], rank = a->shape[1], out = b->shape[1];
        float *x = malloc(in * rank * sizeof *x), *y = malloc(out * rank * sizeof *y);
        dtype_to_f32(a->dtype, a->data, in * rank, x);
        dtype_to_f32(b->dtype, b->data, out * rank, y);
        float *weight = (float *)(bytes + ((const unsigned char *)w->data - bytes));
        for (size_t o = 0; o < out; o++) {
            for (size_t k = 0; k < rank; k++) {
                float factor = scale * (float)(alpha / (double)rank) * y[o * rank + k];
                for (size_t c = 0; c < in; c++) weight[o * in + c] += factor * x[k * in + c];
            }
        }
        free(x);
        free(y);
    }
    gguf_close(to);
    gguf_close(from);
}

static void write_merged(struct tiny_model_options o, const float scale[2])
{
    struct gguf_writer w = {0};
    cr_assert_eq(tiny_model_bytes(&o, 0, &w.bytes, &w.length, &err), 0, "%s", err.text);
    for (int i = 0; i < 2; i++) {
        if (scale[i] != 0) merge(w.bytes, w.length, adapter[i], scale[i]);
    }
    cr_assert_eq(gguf_writer_save(&w, merged, &err), 0, "%s", err.text);
    free(w.bytes);
}

/* The largest difference between the log-probabilities of the prompt. */
static double difference(const struct answer *a, const struct answer *b)
{
    double most = 0;
    cr_assert_eq(a->n_prompt, PROMPT);
    for (int i = 1; i < PROMPT; i++) {
        double d = fabs((double)a->prompt_logprobs[i] - (double)b->prompt_logprobs[i]);
        most = d > most ? d : most;
    }
    return most;
}

static void expect_same(const struct answer *a, const struct answer *b)
{
    const struct answer_choice *x = &a->choice[0], *y = &b->choice[0];
    cr_expect_arr_eq(a->prompt_logprobs + 1, b->prompt_logprobs + 1, (PROMPT - 1) * sizeof(float));
    cr_assert_eq(x->n_ids, y->n_ids);
    cr_expect_arr_eq(x->ids, y->ids, (size_t)x->n_ids * sizeof *x->ids);
    cr_expect_arr_eq(x->logprobs, y->logprobs, (size_t)x->n_ids * sizeof *x->logprobs);
}

static void compare_with_merged(const char *device, struct tiny_model_options o, enum dtype type, int rank, double bound)
{
    static const float scale[2] = {0.5f, -0.75f};
    const struct engine_scale scales[2] = {{1, scale[1]}, {0, scale[0]}};
    write_files(o, type, rank);
    write_merged(o, scale);
    cr_assert_eq(open_with(device, merged, 0), 0, "%s", err.text);
    struct answer *wanted = await(start(NULL, 0, false));
    cr_assert_eq(open_with(device, base, 2), 0, "%s", err.text);
    struct answer *got = await(start(scales, 2, false)), *without = await(start(NULL, 0, false));
    cr_expect_lt(difference(wanted, got), bound, "%s, %s: %g", device, dtype_name(type), difference(wanted, got));
    cr_expect_gt(difference(without, got), 0.1);
    free(wanted);
    free(got);
    free(without);
}

Test(adapters, are_what_merged_weights_are)
{
    static const struct tiny_model_options models[] = {
        {.seed = 3}, {.seed = 4, .architecture = "qwen3", .head_dim = 32},
        {.seed = 5, .architecture = "llama", .untied = true}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        compare_with_merged("reference", models[i], DTYPE_F32, RANK, 2e-4);
        compare_with_merged("cpu", models[i], DTYPE_F32, RANK, 2e-2);
    }
}

Test(adapters, of_every_type)
{
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};
    struct tiny_model_options o = {.seed = 6, .untied = true};
    for (size_t i = 0; i < 3; i++) {
        compare_with_merged("reference", o, types[i], 32, 2e-4);
        compare_with_merged("cpu", o, types[i], 32, 2e-2);
    }
}

/* All at once and one by one; those without an adapter as if there were none. */
static void check_batches(const char *device, struct tiny_model_options o)
{
    static const struct engine_scale scales[4][2] = {{{0, 1}}, {{0, -0.5f}, {1, 2}}, {{1, 0.25f}}, {{0, 0}, {1, 0}}};
    static const size_t n[4] = {1, 2, 1, 2};
    struct answer *alone[4], *together[4];
    write_files(o, DTYPE_F16, 32);
    cr_assert_eq(open_with(device, base, 0), 0, "%s", err.text);
    struct answer *plain = await(start(NULL, 0, false));
    cr_assert_eq(open_with(device, base, 2), 0, "%s", err.text);
    for (int i = 0; i < 4; i++) alone[i] = await(start(scales[i], n[i], false));
    for (int i = 0; i < 4; i++) together[i] = start(scales[i], n[i], false);
    for (int i = 0; i < 4; i++) expect_same(alone[i], await(together[i]));
    expect_same(plain, alone[3]);
    cr_expect_gt(difference(alone[0], alone[1]), 0.05);
    cr_expect_gt(difference(alone[0], plain), 0.05);
    for (int i = 0; i < 4; i++) {
        free(alone[i]);
        free(together[i]);
    }
    free(plain);
}

Test(adapters, rows_of_one_batch_have_their_own)
{
    check_batches("reference", (struct tiny_model_options){.seed = 7});
    check_batches("cpu", (struct tiny_model_options){.seed = 8});
    check_batches("cpu", (struct tiny_model_options){.seed = 9, .mixed = true, .width = 256, .ff = 512});
    check_batches("cpu", (struct tiny_model_options){.seed = 9, .matrix = DTYPE_Q8_0, .untied = true});
}

Test(adapters, prefixes_are_not_shared_between_scales)
{
    const struct engine_scale one = {0, 1}, half = {0, 0.5f}, other = {1, 1}, none = {1, 0};
    write_files((struct tiny_model_options){.seed = 10}, DTYPE_F32, RANK);
    cr_assert_eq(open_with("reference", base, 2), 0, "%s", err.text);
    const struct engine_scale *all[] = {&one, &half, &other, &none};
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 4; i++) {
            struct answer *a = await(start(all[i], 1, true));
            cr_expect_eq(a->end.cached_tokens > 0, round == 1, "round %d, scale %d: %d", round, i, a->end.cached_tokens);
            free(a);
        }
    }
    struct answer *plain = await(start(NULL, 0, true)); /* as with a scale of 0 */
    cr_expect_gt(plain->end.cached_tokens, 0);
    free(plain);
}

Test(adapters, drafts_are_exact)
{
    const struct engine_scale scale = {1, 0.7f};
    struct answer *a[2];
    write_files((struct tiny_model_options){.seed = 11}, DTYPE_F32, RANK);
    for (int i = 0; i < PROMPT; i++) prompt[i] = 65 + i % 3;
    for (int i = 0; i < 2; i++) {
        struct engine_options options = {.device = "reference", .threads = 1,
                                         .speculate = i ? SPECULATE_ALWAYS : SPECULATE_OFF};
        struct engine_adapter list[2] = {{adapter[0], 1}, {adapter[1], 1}};
        struct model_options load = {.adapters = list, .n_adapters = 2};
        close_engine();
        cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
        cr_assert_eq(engine_load(engine, base, &load, &model, &err), 0, "%s", err.text);
        struct engine_request q = answer_request(model, prompt, PROMPT, 60);
        q.scales = &scale;
        q.n_scales = 1;
        q.ignore_eos = q.logprobs = true;
        a[i] = answer_create();
        answer_submit(a[i], engine, q);
        await(a[i]);
    }
    cr_assert_eq(a[0]->choice[0].n_ids, 60);
    cr_expect_arr_eq(a[0]->choice[0].ids, a[1]->choice[0].ids, 60 * sizeof(int32_t));
    cr_expect_arr_eq(a[0]->choice[0].logprobs, a[1]->choice[0].logprobs, 60 * sizeof(float));
    free(a[0]);
    free(a[1]);
}

Test(adapters, requests_that_are_wrong)
{
    static const struct engine_scale wrong[][2] = {
        {{2, 1}, {0, 1}}, {{-1, 1}, {0, 1}}, {{0, 1}, {0, 1}}, {{0, NAN}, {1, 1}}, {{0, 1e9f}, {1, 1}}};
    uint64_t id;
    write_files((struct tiny_model_options){.seed = 12}, DTYPE_F32, RANK);
    cr_assert_eq(open_with("reference", base, 2), 0, "%s", err.text);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct engine_request q = answer_request(model, prompt, PROMPT, 6);
        q.scales = wrong[i];
        q.n_scales = 2;
        cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_INVALID, "%zu", i);
    }
}

Test(adapters, files_that_are_wrong)
{
    static const struct {
        struct tiny_model_options o;
        const char *words;
    } wrong[] = {
        {{.without = "general.type"}, "general.type"},
        {{.without = "adapter.type"}, "adapter.type"},
        {{.without = "adapter.lora.alpha"}, "adapter.lora.alpha"},
        {{.architecture = "llama"}, "general.architecture"},
        {{.lora_alpha = 1e9f}, "alpha"},
        {{.without = "blk.1.ffn_up.weight.lora_a"}, "blk.1.ffn_up.weight.lora_a is missing"},
        {{.without = "blk.1.ffn_up.weight.lora_b"}, "blk.1.ffn_up.weight.lora_b is missing"},
        {{.reshape = "blk.0.attn_q.weight.lora_b"}, "blk.0.attn_q.weight.lora_b has the shape [4, 65], wanted [4, 64]"},
        {{.reshape = "blk.0.attn_q.weight.lora_a"}, "blk.0.attn_q.weight.lora_b has the shape [4, 64], wanted [5, 64]"},
        {{.width = 128}, "shape"},
        {{.layers = 3}, "blk.2."},
        {{.extra = "blk.0.attn_norm.weight.lora_a"}, "blk.0.attn_norm.weight.lora_a"},
        {{.extra = "token_embd.weight.lora_a"}, "token_embd.weight.lora_a"},
        {{.extra = "blk.0.attn_q.weight"}, "blk.0.attn_q.weight"},
        {{.untied = true}, "the model has no output.weight"},
        {{.lora_rank = 5000}, "rank 5000"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tiny_model_options a = wrong[i].o;
        write_files((struct tiny_model_options){.seed = 13}, DTYPE_F32, RANK);
        a.lora_rank = a.lora_rank ? a.lora_rank : RANK;
        cr_assert_eq(tiny_model_write(&a, adapter[1], &err), 0, "%s", err.text);
        int rc = open_with("reference", base, 2);
        cr_expect_neq(rc, 0, "%s", wrong[i].words);
        cr_expect(strstr(err.text, wrong[i].words) && strstr(err.text, adapter[1]), "%zu: %s", i, err.text);
    }
    cr_expect_neq(open_with("reference", adapter[0], 0), 0, "an adapter is no model");
    cr_expect(strstr(err.text, "adapter"), "%s", err.text);
    unlink(adapter[1]);
    int rc = open_with("reference", base, 2);
    cr_expect(rc == ERR_IO || rc == ERR_NOT_FOUND, "%d", rc);
}
