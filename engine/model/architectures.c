/* The architectures: one table of tensors each, then the hyperparameters that all of them name alike. */
#include "architectures.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define MODEL(field, length) .slot = offsetof(struct weights, field), .whole = DIM_##length, .first = DIM_NONE
#define LAYER(field, length) \
    .per_layer = true, .slot = offsetof(struct layer, field), .whole = DIM_##length, .first = DIM_NONE
#define SEGMENT(field, length, begin) \
    .per_layer = true, .slot = offsetof(struct layer, field), .whole = DIM_##length, .first = DIM_##begin

static const struct tensor_rule qwen2_tensors[] = {
    /* name               class          rows       columns    required  into */
    {"token_embd.weight",  TENSOR_WEIGHT, DIM_VOCAB, DIM_WIDTH, true,  MODEL(embedding, NONE)},
    {"output_norm.weight", TENSOR_F32,    DIM_ONE,   DIM_WIDTH, true,  MODEL(output_norm, WIDTH)},
    {"output.weight",      TENSOR_WEIGHT, DIM_VOCAB, DIM_WIDTH, false, MODEL(output, NONE)},
    {"attn_norm.weight",   TENSOR_F32,    DIM_ONE,   DIM_WIDTH, true,  LAYER(attn_norm, WIDTH)},
    {"attn_q.weight",      TENSOR_WEIGHT, DIM_Q,     DIM_WIDTH, true,  LAYER(q, NONE)},
    {"attn_k.weight",      TENSOR_WEIGHT, DIM_KV,    DIM_WIDTH, true,  LAYER(k, NONE)},
    {"attn_v.weight",      TENSOR_WEIGHT, DIM_KV,    DIM_WIDTH, true,  LAYER(v, NONE)},
    {"attn_q.bias",        TENSOR_F32,    DIM_ONE,   DIM_Q,     true,  SEGMENT(qkv_bias, QKV, NONE)},
    {"attn_k.bias",        TENSOR_F32,    DIM_ONE,   DIM_KV,    true,  SEGMENT(qkv_bias, QKV, Q)},
    {"attn_v.bias",        TENSOR_F32,    DIM_ONE,   DIM_KV,    true,  SEGMENT(qkv_bias, QKV, QK)},
    {"attn_output.weight", TENSOR_WEIGHT, DIM_WIDTH, DIM_Q,     true,  LAYER(attn_out, NONE)},
    {"ffn_norm.weight",    TENSOR_F32,    DIM_ONE,   DIM_WIDTH, true,  LAYER(ffn_norm, WIDTH)},
    {"ffn_gate.weight",    TENSOR_WEIGHT, DIM_FF,    DIM_WIDTH, true,  LAYER(gate, NONE)},
    {"ffn_up.weight",      TENSOR_WEIGHT, DIM_FF,    DIM_WIDTH, true,  LAYER(up, NONE)},
    {"ffn_down.weight",    TENSOR_WEIGHT, DIM_WIDTH, DIM_FF,    true,  LAYER(down, NONE)},
};

static const struct tensor_rule qwen3_tensors[] = {
    {"token_embd.weight",  TENSOR_WEIGHT, DIM_VOCAB, DIM_WIDTH, true,  MODEL(embedding, NONE)},
    {"output_norm.weight", TENSOR_F32,    DIM_ONE,   DIM_WIDTH, true,  MODEL(output_norm, WIDTH)},
    {"output.weight",      TENSOR_WEIGHT, DIM_VOCAB, DIM_WIDTH, false, MODEL(output, NONE)},
    {"attn_norm.weight",   TENSOR_F32,    DIM_ONE,   DIM_WIDTH, true,  LAYER(attn_norm, WIDTH)},
    {"attn_q.weight",      TENSOR_WEIGHT, DIM_Q,     DIM_WIDTH, true,  LAYER(q, NONE)},
    {"attn_k.weight",      TENSOR_WEIGHT, DIM_KV,    DIM_WIDTH, true,  LAYER(k, NONE)},
    {"attn_v.weight",      TENSOR_WEIGHT, DIM_KV,    DIM_WIDTH, true,  LAYER(v, NONE)},
    {"attn_q_norm.weight", TENSOR_F32,    DIM_ONE,   DIM_HEAD,  true,  LAYER(q_norm, HEAD)},
    {"attn_k_norm.weight", TENSOR_F32,    DIM_ONE,   DIM_HEAD,  true,  LAYER(k_norm, HEAD)},
    {"attn_output.weight", TENSOR_WEIGHT, DIM_WIDTH, DIM_Q,     true,  LAYER(attn_out, NONE)},
    {"ffn_norm.weight",    TENSOR_F32,    DIM_ONE,   DIM_WIDTH, true,  LAYER(ffn_norm, WIDTH)},
    {"ffn_gate.weight",    TENSOR_WEIGHT, DIM_FF,    DIM_WIDTH, true,  LAYER(gate, NONE)},
    {"ffn_up.weight",      TENSOR_WEIGHT, DIM_FF,    DIM_WIDTH, true,  LAYER(up, NONE)},
    {"ffn_down.weight",    TENSOR_WEIGHT, DIM_WIDTH, DIM_FF,    true,  LAYER(down, NONE)},
};

/* Some relatives of Llama have biases on Q, K and V. Q and K stand permuted in the file, which is
 * why the pairs that rotate together are neighbours here. */
static const struct tensor_rule llama_tensors[] = {
    {"token_embd.weight",  TENSOR_WEIGHT, DIM_VOCAB, DIM_WIDTH, true,  MODEL(embedding, NONE)},
    {"output_norm.weight", TENSOR_F32,    DIM_ONE,   DIM_WIDTH, true,  MODEL(output_norm, WIDTH)},
    {"output.weight",      TENSOR_WEIGHT, DIM_VOCAB, DIM_WIDTH, false, MODEL(output, NONE)},
    {"rope_freqs.weight",  TENSOR_F32,    DIM_ONE,   DIM_PAIRS, false, MODEL(rope_factors, PAIRS)},
    {"attn_norm.weight",   TENSOR_F32,    DIM_ONE,   DIM_WIDTH, true,  LAYER(attn_norm, WIDTH)},
    {"attn_q.weight",      TENSOR_WEIGHT, DIM_Q,     DIM_WIDTH, true,  LAYER(q, NONE)},
    {"attn_k.weight",      TENSOR_WEIGHT, DIM_KV,    DIM_WIDTH, true,  LAYER(k, NONE)},
    {"attn_v.weight",      TENSOR_WEIGHT, DIM_KV,    DIM_WIDTH, true,  LAYER(v, NONE)},
    {"attn_q.bias",        TENSOR_F32,    DIM_ONE,   DIM_Q,     false, SEGMENT(qkv_bias, QKV, NONE)},
    {"attn_k.bias",        TENSOR_F32,    DIM_ONE,   DIM_KV,    false, SEGMENT(qkv_bias, QKV, Q)},
    {"attn_v.bias",        TENSOR_F32,    DIM_ONE,   DIM_KV,    false, SEGMENT(qkv_bias, QKV, QK)},
    {"attn_output.weight", TENSOR_WEIGHT, DIM_WIDTH, DIM_Q,     true,  LAYER(attn_out, NONE)},
    {"ffn_norm.weight",    TENSOR_F32,    DIM_ONE,   DIM_WIDTH, true,  LAYER(ffn_norm, WIDTH)},
    {"ffn_gate.weight",    TENSOR_WEIGHT, DIM_FF,    DIM_WIDTH, true,  LAYER(gate, NONE)},
    {"ffn_up.weight",      TENSOR_WEIGHT, DIM_FF,    DIM_WIDTH, true,  LAYER(up, NONE)},
    {"ffn_down.weight",    TENSOR_WEIGHT, DIM_WIDTH, DIM_FF,    true,  LAYER(down, NONE)},
};

#define TENSORS(table) .tensors = table, .n_tensors = sizeof table / sizeof *table
static const struct architecture architectures[] = {
    {"qwen2", ROPE_HALVES, TENSORS(qwen2_tensors)},
    {"qwen3", ROPE_HALVES, TENSORS(qwen3_tensors)},
    {"llama", ROPE_INTERLEAVED, TENSORS(llama_tensors)},
};

/* Integers under the architecture's name. A fallback of 0 means required, -1 that the caller derives it. */
static const struct {
    const char *key;
    size_t field;
    int min, max, fallback;
} sizes[] = {
    {"block_count", offsetof(struct hyperparameters, n_layers), 1, 1024, 0},
    {"context_length", offsetof(struct hyperparameters, context), 1, 1 << 28, 0},
    {"embedding_length", offsetof(struct hyperparameters, width), 1, 1 << 18, 0},
    {"feed_forward_length", offsetof(struct hyperparameters, ff_width), 1, 1 << 20, 0},
    {"attention.head_count", offsetof(struct hyperparameters, n_heads), 1, 1024, 0},
    {"attention.head_count_kv", offsetof(struct hyperparameters, n_kv_heads), 1, 1024, -1},
    {"attention.key_length", offsetof(struct hyperparameters, head_dim), 2, 1024, -1},
    {"rope.dimension_count", offsetof(struct hyperparameters, rope_dim), 2, 1024, -1},
};

enum { MAX_VOCAB = 1 << 24, KEY_SIZE = 96 };

static bool equals(struct gguf_string a, const char *b)
{
    return a.length == strlen(b) && memcmp(a.bytes, b, a.length) == 0;
}

/* "qwen2.block_count" from "block_count". */
static const char *full_key(char *key, const struct hyperparameters *hp, const char *suffix)
{
    snprintf(key, KEY_SIZE, "%s.%s", hp->architecture, suffix);
    return key;
}

/* An integer, or an array of equal ones (head counts may be given per layer). */
static int get_size(const struct gguf *g, const char *key, uint64_t *out, struct err *err)
{
    struct gguf_value array;
    int rc = gguf_get_array(g, key, GGUF_I32, &array, NULL);
    if (rc)
        rc = gguf_get_array(g, key, GGUF_U32, &array, NULL);
    if (rc)
        return gguf_get_uint(g, key, UINT32_MAX, out, err);
    if (array.length == 0)
        return err_set(err, ERR_FORMAT, "key %s is an empty array", key);
    for (uint64_t i = 0; i < array.length; i++) {
        uint32_t value;
        memcpy(&value, (const char *)array.data + i * sizeof value, sizeof value);
        if (i > 0 && value != *out)
            return err_set(err, ERR_UNSUPPORTED, "key %s differs between layers", key);
        *out = value;
    }
    return 0;
}

static int read_sizes(const struct gguf *g, struct hyperparameters *hp, struct err *err)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char key[KEY_SIZE];
        uint64_t value;
        int rc = get_size(g, full_key(key, hp, sizes[i].key), &value, err);
        int *field = (int *)((char *)hp + sizes[i].field);
        if (rc == ERR_NOT_FOUND && sizes[i].fallback) {
            *field = sizes[i].fallback;
            continue;
        }
        if (rc)
            return gguf_required(rc, err);
        if (value < (uint64_t)sizes[i].min || value > (uint64_t)sizes[i].max)
            return err_set(err, ERR_FORMAT, "key %s is %" PRIu64 ", not within %d to %d", key, value,
                           sizes[i].min, sizes[i].max);
        *field = (int)value;
    }
    return 0;
}

/* What follows from the sizes that were given, and whether they fit together. */
static int derive_sizes(const struct gguf *g, struct hyperparameters *hp, struct err *err)
{
    const char *arch = hp->architecture;
    if (hp->n_kv_heads < 0)
        hp->n_kv_heads = hp->n_heads;
    if (hp->n_heads % hp->n_kv_heads != 0)
        return err_set(err, ERR_FORMAT, "%s.attention.head_count %d is no multiple of head_count_kv %d", arch,
                       hp->n_heads, hp->n_kv_heads);
    if (hp->head_dim < 0) {
        if (hp->width % hp->n_heads != 0)
            return err_set(err, ERR_FORMAT, "%s.embedding_length %d is no multiple of head_count %d",
                           arch, hp->width, hp->n_heads);
        hp->head_dim = hp->width / hp->n_heads;
    }
    if (hp->head_dim > 1024)
        return err_set(err, ERR_FORMAT, "%s: heads of %d elements are too large", arch, hp->head_dim);
    if (hp->rope_dim < 0)
        hp->rope_dim = hp->head_dim;
    if (hp->rope_dim % 2 != 0 || hp->rope_dim > hp->head_dim)
        return err_set(err, ERR_FORMAT, "%s.rope.dimension_count %d does not fit heads of %d", arch,
                       hp->rope_dim, hp->head_dim);
    char key[KEY_SIZE];
    uint64_t value_length;
    int rc = gguf_get_uint(g, full_key(key, hp, "attention.value_length"), UINT32_MAX, &value_length, err);
    if (rc == 0 && value_length != (uint64_t)hp->head_dim)
        return err_set(err, ERR_UNSUPPORTED, "%s differs from the keys' %d", key, hp->head_dim);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* A number under the architecture's name, within [min, max]; `fallback` where the key is absent. */
static int get_number(const struct gguf *g, const struct hyperparameters *hp, const char *suffix, double min,
                      double max, double fallback, float *out, struct err *err)
{
    char key[KEY_SIZE];
    double value;
    int rc = gguf_get_float(g, full_key(key, hp, suffix), &value, err);
    if (rc == ERR_NOT_FOUND) {
        *out = (float)fallback;
        return 0;
    }
    if (rc)
        return rc;
    if (value < min || value > max)
        return err_set(err, ERR_FORMAT, "key %s is %g, not within %g to %g", key, value, min, max);
    *out = (float)value;
    return 0;
}

/* The pair, as a real number, whose wave turns `turns` times within the original context. */
static double yarn_pair(const struct hyperparameters *hp, double original_context, double turns)
{
    return hp->rope_dim * log(original_context / (turns * 2 * M_PI)) / (2 * log(hp->rope_base));
}

/* YaRN (arXiv:2309.00071): which pairs keep their frequency and which are stretched. */
static int read_yarn(const struct gguf *g, struct hyperparameters *hp, float factor, struct err *err)
{
    char key[KEY_SIZE];
    uint64_t original = 0;
    float fast = 0, slow = 0, attention = 0;
    full_key(key, hp, "rope.scaling.original_context_length");
    int rc = gguf_get_uint(g, key, 1 << 28, &original, err);
    if (rc == ERR_NOT_FOUND)
        original = (uint64_t)hp->context;
    else if (rc)
        return rc;
    if (original == 0)
        return err_set(err, ERR_FORMAT, "key %s is 0", key);
    if ((rc = get_number(g, hp, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32, &fast, err)) != 0 ||
        (rc = get_number(g, hp, "rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1, &slow, err)) != 0 ||
        (rc = get_number(g, hp, "rope.scaling.attn_factor", 1e-3, 1e3, 1, &attention, err)) != 0)
        return rc;
    hp->yarn_ext = 1;
    hp->yarn_low = (float)fmax(0, floor(yarn_pair(hp, (double)original, fast)));
    hp->yarn_high = (float)fmin(hp->rope_dim - 1, ceil(yarn_pair(hp, (double)original, slow)));
    hp->rope_magnitude = attention * (0.1f * logf(factor) + 1);
    return 0;
}

static int read_rope(const struct gguf *g, struct hyperparameters *hp, struct err *err)
{
    char key[KEY_SIZE];
    struct gguf_string type = {"linear", 6};
    float factor = 1;
    /* The logarithm of the base is divided by. */
    int rc = get_number(g, hp, "rope.freq_base", 1.001, 1e15, 10000, &hp->rope_base, err);
    if (rc == 0)
        rc = get_number(g, hp, "rope.scaling.factor", 1, 1e6, 1, &factor, err);
    if (rc)
        return rc;
    rc = gguf_get_string(g, full_key(key, hp, "rope.scaling.type"), &type, err);
    if (rc && rc != ERR_NOT_FOUND)
        return rc;
    hp->rope_scale = 1 / factor;
    hp->rope_magnitude = 1;
    if (equals(type, "linear"))
        return 0;
    if (equals(type, "yarn"))
        return read_yarn(g, hp, factor, err);
    if (equals(type, "none")) {
        hp->rope_scale = 1;
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED, "RoPE scaling \"%.*s\" is not supported",
                   type.length < 64 ? (int)type.length : 64, type.bytes);
}

/* The embedding decides; the tokenizer may know fewer (the rest is padding), never more. */
static int read_vocab(const struct gguf *g, struct hyperparameters *hp, struct err *err)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, "token_embd.weight");
    struct gguf_value tokens;
    if (!t)
        return err_set(err, ERR_FORMAT, "tensor token_embd.weight is missing");
    if (t->n_dims != 2 || t->shape[1] > MAX_VOCAB)
        return err_set(err, ERR_FORMAT, "tensor token_embd.weight has not the shape [width, vocabulary]");
    hp->vocab = (int)t->shape[1];
    int rc = gguf_get_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, err);
    if (rc)
        return gguf_required(rc, err);
    if (tokens.length > t->shape[1])
        return err_set(err, ERR_FORMAT, "tokenizer.ggml.tokens has %" PRIu64 " entries for %d embeddings",
                       tokens.length, hp->vocab);
    return 0;
}

int architecture_read(const struct gguf *g, const struct architecture **out, struct hyperparameters *hp,
                      struct err *err)
{
    *hp = (struct hyperparameters){0};
    struct gguf_string name;
    struct err none;
    if (gguf_get_string(g, "general.type", &name, &none) == 0 && equals(name, "adapter"))
        return err_set(err, ERR_UNSUPPORTED, "key general.type is \"adapter\": it goes with a model, and is none");
    int rc = gguf_get_string(g, "general.architecture", &name, err);
    if (rc)
        return gguf_required(rc, err);
    const struct architecture *a = NULL;
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures && !a; i++)
        if (equals(name, architectures[i].name))
            a = &architectures[i];
    if (!a)
        return err_set(err, ERR_UNSUPPORTED, "architecture \"%.*s\" is not known (qwen2, qwen3, llama are)",
                       name.length < 64 ? (int)name.length : 64, name.bytes);
    snprintf(hp->architecture, sizeof hp->architecture, "%s", a->name);
    hp->rope_style = a->rope_style;
    if ((rc = read_sizes(g, hp, err)) != 0 || (rc = derive_sizes(g, hp, err)) != 0)
        return rc;
    char key[KEY_SIZE];
    double eps;
    rc = gguf_get_float(g, full_key(key, hp, "attention.layer_norm_rms_epsilon"), &eps, err);
    if (rc)
        return gguf_required(rc, err);
    if (eps < 0 || eps > 1)
        return err_set(err, ERR_FORMAT, "key %s is %g, not within 0 to 1", key, eps);
    hp->rms_eps = (float)eps;
    bool causal = true;
    rc = gguf_get_bool(g, full_key(key, hp, "attention.causal"), &causal, err);
    if (rc && rc != ERR_NOT_FOUND)
        return rc;
    if (!causal)
        return err_set(err, ERR_UNSUPPORTED, "key %s is false: attention to later tokens is not supported", key);
    if ((rc = read_rope(g, hp, err)) != 0 || (rc = read_vocab(g, hp, err)) != 0)
        return rc;
    *out = a;
    return 0;
}

size_t architecture_dimension(const struct hyperparameters *hp, enum dimension d)
{
    size_t q = (size_t)hp->n_heads * (size_t)hp->head_dim, kv = (size_t)hp->n_kv_heads * (size_t)hp->head_dim;
    switch (d) {
    case DIM_ONE: return 1;
    case DIM_WIDTH: return (size_t)hp->width;
    case DIM_Q: return q;
    case DIM_KV: return kv;
    case DIM_QK: return q + kv;
    case DIM_QKV: return q + 2 * kv;
    case DIM_HEAD: return (size_t)hp->head_dim;
    case DIM_PAIRS: return (size_t)hp->rope_dim / 2;
    case DIM_FF: return (size_t)hp->ff_width;
    case DIM_VOCAB: return (size_t)hp->vocab;
    case DIM_NONE: break;
    }
    return 0;
}
