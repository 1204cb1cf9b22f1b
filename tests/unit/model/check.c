/* The comparison that `hearth check` makes: sound devices pass, a device with one tensor changed is found
 * out, with the layer and the stage. */
#include "../../../engine/check/check.h"

#include <criterion/criterion.h>
#include <string.h>

#include "../../support/tiny_model.h"

enum { PROMPT = 21, ROWS_MAX = 96 };

static unsigned char *bytes, *changed;
static struct gguf *g, *g_changed;
static struct engine_check_row rows[ROWS_MAX];
static int n_rows;
static struct err err;

static void close_all(void)
{
    gguf_close(g);
    gguf_close(g_changed);
    free(bytes);
    free(changed);
}

TestSuite(check, .fini = close_all);

static void keep_row(void *user, const struct engine_check_result *result, const struct engine_check_row *row)
{
    (void)user;
    cr_assert_lt(n_rows, ROWS_MAX);
    cr_assert_str_not_empty(result->device);
    rows[n_rows++] = *row;
}

/* A model, and the same with the elements of one tensor (NULL: none) negated. */
static void open_models(const char *architecture, const char *tensor)
{
    struct tiny_model_options o = {
        .architecture = architecture, .layers = 4, .width = 96, .heads = 6, .kv_heads = 3, .ff = 160};
    size_t size;
    cr_assert_eq(tiny_model_bytes(&o, 0, &bytes, &size, &err), 0, "%s", err.text);
    cr_assert_eq(gguf_open_memory(&g, bytes, size, &err), 0, "%s", err.text);
    changed = malloc(size);
    memcpy(changed, bytes, size);
    if (tensor) {
        const struct gguf_tensor *t = gguf_find_tensor(g, tensor);
        cr_assert(t && t->dtype == DTYPE_F32);
        unsigned char *at = changed + ((const unsigned char *)t->data - bytes);
        for (size_t i = 3; i < t->bytes; i += 4)
            at[i] ^= 0x80;
    }
    cr_assert_eq(gguf_open_memory(&g_changed, changed, size, &err), 0, "%s", err.text);
}

static struct engine_check_result run(const char *device, int tokens)
{
    struct engine_check_result result;
    int32_t prompt[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = (i * i * 7 + 5) % 300;
    struct check_options o = {.device = {.name = device},
                              .gguf = g_changed,
                              .reference_gguf = g,
                              .prompt = prompt,
                              .n_prompt = PROMPT,
                              .tokens = tokens,
                              .row = keep_row};
    cr_assert_eq(check_run(&o, &result, &err), 0, "%s", err.text);
    return result;
}

static void expect_failure(const char *tensor, const char *where)
{
    open_models("qwen2", tensor);
    struct engine_check_result result = run("reference", 2);
    cr_assert_not(result.ok);
    cr_assert_eq(strncmp(result.failure, where, strlen(where)), 0, "%s", result.failure);
    cr_assert(strstr(result.failure, "max ") || strstr(result.failure, "RMS "), "%s", result.failure);
}

Test(check, the_reference_is_itself)
{
    open_models("qwen2", NULL);
    struct engine_check_result result = run("reference", 6);
    cr_assert(result.ok, "%s", result.failure);
    cr_assert_eq(result.agreed, 6);
    cr_assert_eq(result.tokens, 6);
    cr_assert_gt(n_rows, 20);
    for (int i = 0; i < n_rows; i++)
        cr_assert(rows[i].ok && rows[i].max == 0, "%s, %s", rows[i].pass, rows[i].stage);
}

Test(check, the_cpu_passes)
{
    static const char *const architectures[] = {"qwen2", "llama", "qwen3"};
    for (size_t i = 0; i < 3; i++) {
        n_rows = 0;
        open_models(architectures[i], NULL);
        struct engine_check_result result = run("cpu", 6);
        cr_assert(result.ok, "%s: %s", architectures[i], result.failure);
        close_all();
        g = g_changed = NULL;
        bytes = changed = NULL;
    }
}

Test(check, every_layer_is_compared_by_every_operator)
{
    open_models("qwen2", NULL);
    cr_assert(run("cpu", 1).ok);
    static const char *const stages[] = {"attention norm", "Q/K/V",   "RoPE",   "attention", "O",
                                         "FFN norm",       "gate/up", "SwiGLU", "down"};
    for (size_t s = 0; s < sizeof stages / sizeof *stages; s++) {
        int passes = 0;
        for (int i = 0; i < n_rows; i++)
            passes += !strcmp(rows[i].stage, stages[s]) && rows[i].compared == 4;
        cr_assert_eq(passes, 2, "%s: %d", stages[s], passes);
    }
}

Test(check, a_wrong_embedding_is_found)
{
    expect_failure("token_embd.weight", "embedding: ");
}

Test(check, a_wrong_norm_is_found)
{
    expect_failure("blk.2.attn_norm.weight", "layer 2, attention norm: ");
}

Test(check, a_wrong_bias_is_found)
{
    expect_failure("blk.1.attn_k.bias", "layer 1, Q/K/V: ");
}

Test(check, a_wrong_output_projection_is_found)
{
    expect_failure("blk.3.attn_output.weight", "layer 3, O: ");
}

Test(check, a_wrong_ffn_is_found)
{
    expect_failure("blk.0.ffn_up.weight", "layer 0, gate/up: ");
}

Test(check, a_wrong_last_stage_is_found)
{
    expect_failure("output_norm.weight", "output norm: ");
}

Test(check, the_failing_line_is_in_the_report)
{
    expect_failure("blk.2.ffn_down.weight", "layer 2, down: ");
    int wrong = 0;
    for (int i = 0; i < n_rows; i++)
        wrong += !rows[i].ok && rows[i].worst_layer == 2 && !strcmp(rows[i].stage, "down");
    cr_assert_eq(wrong, 1);
}

/* The short form takes layers 0, 2 and 3 of four, and the head. */
static int start(const char *tensor)
{
    struct device *device;
    struct weights *weights;
    struct device_options o = {.name = "reference"};
    open_models("qwen2", tensor);
    cr_assert_eq(device_open(&device, &o, &err), 0, "%s", err.text);
    cr_assert_eq(weights_load(&weights, device, g_changed, &err), 0, "%s", err.text);
    int rc = check_start(device, weights, g, &err);
    weights_free(weights);
    device_close(device);
    return rc;
}

Test(check, a_sound_device_may_start)
{
    cr_assert_eq(start(NULL), 0, "%s", err.text);
}

Test(check, start_finds_a_wrong_first_layer)
{
    cr_assert_eq(start("blk.0.attn_q.weight"), ERR_DEVICE);
    cr_assert(strstr(err.text, "reference computes wrongly: layer 0, Q/K/V: "), "%s", err.text);
}

Test(check, start_finds_a_wrong_last_layer)
{
    cr_assert_eq(start("blk.3.ffn_gate.weight"), ERR_DEVICE);
    cr_assert(strstr(err.text, "layer 3, gate/up: "), "%s", err.text);
}

Test(check, start_finds_a_wrong_head)
{
    cr_assert_eq(start("output_norm.weight"), ERR_DEVICE);
    cr_assert(strstr(err.text, "output norm and logits: "), "%s", err.text);
}

Test(check, what_cannot_run_is_an_error)
{
    struct engine_check_result result;
    int32_t prompt[] = {1};
    open_models("qwen2", NULL);
    struct check_options o = {
        .device = {.name = "abacus"}, .gguf = g, .prompt = prompt, .n_prompt = 1, .tokens = 1};
    cr_assert_eq(check_run(&o, &result, &err), ERR_UNSUPPORTED);
    o.device.name = "reference";
    o.tokens = 100000;
    cr_assert_eq(check_run(&o, &result, &err), ERR_INVALID);
    cr_assert(strstr(err.text, "context"), "%s", err.text);
}
