/* Tensors against the architectures' tables: what fits loads, what does not is named. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "../../../engine/model/architectures.h"
#include "../../support/tiny_model.h"

static struct device *device;
static struct gguf *g;
static struct weights *weights;
static unsigned char *bytes;
static size_t size;
static struct err err;

static void open_device(void)
{
    struct device_options o = {.name = "reference"};
    cr_assert_eq(device_open(&device, &o, &err), 0, "%s", err.text);
}

static void close_model(void)
{
    weights_free(weights);
    gguf_close(g);
    free(bytes);
    weights = NULL;
    g = NULL;
    bytes = NULL;
}

static void close_device(void)
{
    close_model();
    device_close(device);
}

TestSuite(weights, .init = open_device, .fini = close_device);

static int load(const struct tiny_model_options *o)
{
    close_model();
    cr_assert_eq(tiny_model_bytes(o, 0, &bytes, &size, &err), 0, "%s", err.text);
    int rc = gguf_open_memory(&g, bytes, size, &err);
    return rc ? rc : weights_load(&weights, device, g, &err);
}

static void expect_refused(const struct tiny_model_options *o, int code, const char *words)
{
    int rc = load(o);
    cr_assert_eq(rc, code, "%d, wanted %d: %s", rc, code, rc ? err.text : "loaded");
    cr_assert(strstr(err.text, words), "\"%s\" lacks \"%s\"", err.text, words);
}

#define OPTIONS(...) &(struct tiny_model_options){__VA_ARGS__}

Test(weights, hyperparameters_of_each_architecture)
{
    cr_assert_eq(load(OPTIONS(0)), 0, "%s", err.text);
    const struct hyperparameters *hp = weights_hyperparameters(weights);
    cr_assert(!strcmp(hp->architecture, "qwen2") && hp->n_layers == 2 && hp->width == 64 && hp->n_heads == 4);
    cr_assert(hp->n_kv_heads == 2 && hp->head_dim == 16 && hp->ff_width == 128 && hp->vocab == 320);
    cr_assert(hp->context == 512 && hp->rope_dim == 16 && hp->rope_style == ROPE_HALVES);
    cr_assert(hp->qkv_bias && !hp->qk_norm && hp->tied && hp->rope_scale == 1 && hp->rope_magnitude == 1);
    cr_assert_eq(weights_bytes(weights), weights_decode_bytes(weights));
    size_t tied = weights_bytes(weights);
    cr_assert_eq(weights_parameters(weights), tied / 4);

    cr_assert_eq(load(OPTIONS(.architecture = "llama", .untied = true)), 0, "%s", err.text);
    hp = weights_hyperparameters(weights);
    cr_assert(hp->rope_style == ROPE_INTERLEAVED && !hp->qkv_bias && !hp->tied);
    cr_assert_eq(weights_bytes(weights) - weights_decode_bytes(weights), 319 * 64 * 4); /* one row is read */
    cr_assert_eq(load(OPTIONS(.architecture = "llama", .llama_bias = true, .rope_factors = true)), 0, "%s",
                 err.text);
    cr_assert(weights_hyperparameters(weights)->qkv_bias);

    cr_assert_eq(load(OPTIONS(.architecture = "qwen3", .head_dim = 32)), 0, "%s", err.text);
    hp = weights_hyperparameters(weights);
    cr_assert(hp->head_dim == 32 && hp->qk_norm && !hp->qkv_bias && hp->rope_style == ROPE_HALVES);
}

Test(weights, optional_keys)
{
    cr_assert_eq(load(OPTIONS(.without = "qwen2.rope.dimension_count")), 0, "%s", err.text);
    cr_assert_eq(load(OPTIONS(.without = "qwen2.rope.freq_base")), 0, "%s", err.text);
    cr_assert_eq(weights_hyperparameters(weights)->rope_base, 10000);
    cr_assert_eq(load(OPTIONS(.kv_heads = 4, .without = "qwen2.attention.head_count_kv")), 0, "%s", err.text);
    cr_assert_eq(weights_hyperparameters(weights)->n_kv_heads, 4);
    cr_assert_eq(load(OPTIONS(.kv_heads_array = true)), 0, "%s", err.text);
    cr_assert_eq(weights_hyperparameters(weights)->n_kv_heads, 2);
    struct tiny_model_options o = {.kv_heads_array = true, .replace = "qwen2.attention.head_count_kv",
                                   .replacement = 4};
    expect_refused(&o, ERR_UNSUPPORTED, "differs between layers");
    cr_assert_eq(load(OPTIONS(.unlisted_padding = true)), 0, "%s", err.text);
}

Test(weights, yarn)
{
    cr_assert_eq(load(OPTIONS(.yarn = 4, .context = 2048)), 0, "%s", err.text);
    const struct hyperparameters *hp = weights_hyperparameters(weights);
    cr_assert_float_eq(hp->rope_scale, 0.25, 1e-9);
    cr_assert_float_eq(hp->rope_magnitude, 1.138629436, 1e-6); /* 0.1 ln 4 + 1 */
    cr_assert_eq(hp->yarn_ext, 1);
    /* 16 ln(1024 / (2 pi beta)) / (2 ln 10000): 1.41 for beta 32, 4.42 for beta 1 */
    cr_assert_eq(hp->yarn_low, 1);
    cr_assert_eq(hp->yarn_high, 5);
}

/* 8 pairs at base 10000: pair i turns by 10000^(-i/8) per position, to far more digits than a float has. */
static void expect_frequencies(double (*of)(int pair))
{
    float table[16];
    cr_assert_eq(buffer_read(weights->rope_frequency, 0, 16, table, &err), 0, "%s", err.text);
    for (int i = 0; i < 8; i++) {
        double sum = (double)table[2 * i] + (double)table[2 * i + 1];
        cr_expect(fabs(sum / of(i) - 1) < 1e-12, "pair %d: %.17g", i, sum);
    }
}

static double plain(int pair)
{
    return pow(10000, -pair / 8.0);
}

static double stretched(int pair) /* YaRN of the test above: full below pair 1, a quarter from pair 5 on */
{
    double kept = fmin(1, fmax(0, (5 - pair) / 4.0));
    return plain(pair) * (kept + (1 - kept) / 4);
}

static double by_factor(int pair)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, "rope_freqs.weight");
    float factor;
    memcpy(&factor, (const char *)t->data + (size_t)pair * sizeof factor, sizeof factor);
    return plain(pair) / (double)factor;
}

Test(weights, rope_frequencies)
{
    cr_assert_eq(load(OPTIONS(0)), 0, "%s", err.text);
    expect_frequencies(plain);
    cr_assert_eq(load(OPTIONS(.yarn = 4, .context = 2048)), 0, "%s", err.text);
    expect_frequencies(stretched);
    cr_assert_eq(load(OPTIONS(.architecture = "llama", .rope_factors = true)), 0, "%s", err.text);
    expect_frequencies(by_factor);
}

Test(weights, missing_keys)
{
    static const char *const keys[] = {
        "general.architecture", "qwen2.block_count", "qwen2.context_length", "qwen2.embedding_length",
        "qwen2.feed_forward_length", "qwen2.attention.head_count", "qwen2.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.tokens"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        expect_refused(OPTIONS(.without = keys[i]), ERR_FORMAT, keys[i]);
    expect_refused(OPTIONS(.twice = "qwen2.block_count"), ERR_FORMAT, "qwen2.block_count occurs twice");
}

Test(weights, missing_and_surplus_tensors)
{
    static const char *const tensors[] = {"token_embd.weight", "output_norm.weight", "blk.1.attn_norm.weight",
                                          "blk.0.attn_q.bias", "blk.1.ffn_down.weight"};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        expect_refused(OPTIONS(.without = tensors[i]), ERR_FORMAT, tensors[i]);
    expect_refused(OPTIONS(.architecture = "qwen3", .without = "blk.0.attn_k_norm.weight"), ERR_FORMAT,
                   "blk.0.attn_k_norm.weight is missing");
    expect_refused(OPTIONS(.twice = "blk.0.attn_q.weight"), ERR_FORMAT, "occurs twice");
    expect_refused(OPTIONS(.extra = "blk.0.attn_output.bias"), ERR_UNSUPPORTED, "blk.0.attn_output.bias");
    expect_refused(OPTIONS(.extra = "blk.2.attn_norm.weight"), ERR_UNSUPPORTED, "blk.2.attn_norm.weight");
}

Test(weights, wrong_numbers)
{
    static const struct {
        const char *key;
        uint32_t value;
    } wrong[] = {
        {"qwen2.attention.head_count", 0}, {"qwen2.attention.head_count", 5},
        {"qwen2.attention.head_count", 1u << 31},
        {"qwen2.attention.head_count_kv", 0}, {"qwen2.attention.head_count_kv", 3},
        {"qwen2.block_count", 0}, {"qwen2.block_count", UINT32_MAX}, {"qwen2.context_length", 0},
        {"qwen2.embedding_length", 0}, {"qwen2.embedding_length", UINT32_MAX},
        {"qwen2.feed_forward_length", 0}, {"qwen2.rope.dimension_count", 0},
        {"qwen2.rope.dimension_count", 7}, {"qwen2.rope.dimension_count", 18},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int rc = load(OPTIONS(.replace = wrong[i].key, .replacement = wrong[i].value));
        cr_assert_eq(rc, ERR_FORMAT, "%s = %u: %d", wrong[i].key, wrong[i].value, rc);
        cr_assert(strstr(err.text, "qwen2."), "%s", err.text);
    }
    expect_refused(OPTIONS(.replace = "qwen2.block_count", .replacement = 3), ERR_FORMAT, "blk.2.attn_norm");
    expect_refused(OPTIONS(.replace = "qwen2.block_count", .replacement = 1), ERR_UNSUPPORTED, "blk.1.");
}

Test(weights, wrong_shapes_name_both)
{
    expect_refused(OPTIONS(.reshape = "blk.1.attn_q.weight"), ERR_FORMAT,
                   "blk.1.attn_q.weight has the shape [64, 65], wanted [64, 64]");
    expect_refused(OPTIONS(.reshape = "output_norm.weight"), ERR_FORMAT, "has the shape [65], wanted [64]");
    expect_refused(OPTIONS(.reshape = "blk.0.attn_v.bias"), ERR_FORMAT, "has the shape [33], wanted [32]");
    expect_refused(OPTIONS(.replace = "qwen2.feed_forward_length", .replacement = 96), ERR_FORMAT,
                   "blk.0.ffn_gate.weight has the shape [64, 128], wanted [64, 96]");
    expect_refused(OPTIONS(.untied = true, .reshape = "output.weight"), ERR_FORMAT, "wanted [64, 320]");
}

Test(weights, unknown_architecture)
{
    expect_refused(OPTIONS(.architecture = "mamba"), ERR_UNSUPPORTED, "mamba");
}

Test(weights, every_type_beside_every_other)
{
    struct tiny_model_options o = {.mixed = true, .width = 256, .ff = 512, .layers = 3, .vector = DTYPE_F16};
    cr_assert_eq(load(&o), 0, "%s", err.text);
}

Test(weights, a_file_shortened_before_loading)
{
    char path[] = "/tmp/hearth-weights-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert_eq(tiny_model_write(OPTIONS(0), path, &err), 0, "%s", err.text);
    cr_assert_eq(gguf_open(&g, path, &err), 0, "%s", err.text);
    cr_assert_eq(truncate(path, (off_t)(gguf_file_bytes(g) / 2)), 0);
    int rc = weights_load(&weights, device, g, &err);
    unlink(path);
    cr_assert_eq(rc, ERR_IO, "%d", rc);
    cr_assert(strstr(err.text, "changed"));
}
