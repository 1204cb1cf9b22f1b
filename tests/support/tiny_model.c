/* Random weights in GGUF files. The tensors are listed here once more, apart from the engine's
 * tables, so that a mistake there shows. */
#include "tiny_model.h"

#include <math.h>
#include <string.h>

#include "gguf_writer.h"
#include "tiny_vocab.h"

enum { MAX_TENSORS = 512, ALIGNMENT = 32 };

struct tensor {
    char name[64];
    uint32_t n_dims;
    uint64_t shape[2]; /* columns, rows */
    enum dtype dtype;
    float center, spread; /* values are uniform around center */
    uint64_t offset;
    size_t bytes;
};

struct model {
    struct tiny_model_options o; /* defaults filled in */
    struct tensor tensors[MAX_TENSORS];
    int n, matrices;
};

/* SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static float random_float(uint64_t *state) /* in [-1, 1) */
{
    return (float)(random_bits(state) >> 40) * 0x1p-23f - 1;
}

static struct tiny_model_options with_defaults(const struct tiny_model_options *given)
{
    struct tiny_model_options o = *given;
    if (!o.architecture)
        o.architecture = "qwen2";
    int *const sizes[] = {&o.layers, &o.width, &o.heads, &o.kv_heads, &o.ff, &o.context, &o.vocab, &o.parts};
    static const int defaults[] = {2, 64, 4, 2, 128, 512, 320, 1};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        if (*sizes[i] == 0)
            *sizes[i] = defaults[i];
    if (o.head_dim == 0)
        o.head_dim = o.width / o.heads;
    return o;
}

/* Offsets of the f16 scales inside the blocks of types that have no simple encoder: random bits
 * with small scales are as good as any weights. */
static bool scale_offsets(enum dtype type, int offsets[2])
{
    offsets[1] = -1;
    switch (type) {
    case DTYPE_Q2_K: offsets[0] = 80, offsets[1] = 82; return true;
    case DTYPE_Q3_K: offsets[0] = 108; return true;
    case DTYPE_Q4_K: case DTYPE_Q5_K: offsets[0] = 0, offsets[1] = 2; return true;
    case DTYPE_Q6_K: offsets[0] = 208; return true;
    case DTYPE_IQ4_NL: case DTYPE_IQ4_XS: offsets[0] = 0; return true;
    default: return false;
    }
}

static int put_values(struct gguf_writer *w, const struct tensor *t, uint64_t seed, struct err *err)
{
    uint64_t state = seed;
    for (const char *c = t->name; *c; c++)
        state = state * 31 + (unsigned char)*c;
    size_t count = t->shape[0] * t->shape[1];
    int offsets[2], rc = 0;
    unsigned char *bytes = malloc(t->bytes);
    float *values = malloc(count * sizeof *values);
    if (!bytes || !values) {
        rc = err_set(err, ERR_NOMEM, "no memory for %s", t->name);
    } else if (scale_offsets(t->dtype, offsets)) {
        static const uint16_t scale = 0x0a00; /* 2^-12.4 as f16 */
        for (size_t i = 0; i < t->bytes; i++)
            bytes[i] = (unsigned char)(random_bits(&state) >> 56);
        for (size_t at = 0; at < t->bytes; at += dtype_block_bytes(t->dtype))
            for (int i = 0; i < 2 && offsets[i] >= 0; i++)
                memcpy(bytes + at + offsets[i], &scale, sizeof scale);
    } else {
        for (size_t i = 0; i < count; i++)
            values[i] = t->center + t->spread * random_float(&state);
        rc = dtype_from_f32(t->dtype, values, count, bytes);
        if (rc)
            err_set(err, rc, "%s cannot be made as %s", t->name, dtype_name(t->dtype));
    }
    if (rc == 0)
        gguf_put(w, bytes, t->bytes);
    free(values);
    free(bytes);
    return rc;
}

static void add(struct model *m, const char *name, enum dtype dtype, int columns, int rows, float center,
                float spread)
{
    if (m->o.without && strcmp(m->o.without, name) == 0)
        return;
    for (int copies = m->o.twice && strcmp(m->o.twice, name) == 0 ? 2 : 1; copies > 0; copies--) {
        REQUIRE(m->n < MAX_TENSORS);
        struct tensor *t = &m->tensors[m->n++];
        *t = (struct tensor){.n_dims = rows > 1 || m->o.lora_rank ? 2 : 1, .shape = {(uint64_t)columns, (uint64_t)rows},
                             .dtype = dtype, .center = center, .spread = spread};
        snprintf(t->name, sizeof t->name, "%s", name);
        if (m->o.reshape && strcmp(m->o.reshape, name) == 0)
            t->shape[t->n_dims - 1]++;
    }
}

/* The two parts of an adapter for a matrix; what they make together is about as large as the matrix. */
static void add_pair(struct model *m, const char *name, enum dtype dtype, int columns, int rows)
{
    char part[80];
    int rank = m->o.lora_rank;
    snprintf(part, sizeof part, "%s.lora_a", name);
    add(m, part, dtype, columns, rank, 0, sqrtf(3 / (float)columns));
    snprintf(part, sizeof part, "%s.lora_b", name);
    add(m, part, dtype, rank, rows, 0, sqrtf(3 / (float)rank));
}

static void add_matrix(struct model *m, const char *name, enum dtype dtype, int columns, int rows)
{
    if (m->o.lora_rank) {
        add_pair(m, name, dtype, columns, rows);
        return;
    }
    if (m->o.mixed)
        do
            dtype = (enum dtype)(m->matrices++ % DTYPE_COUNT);
        while (!dtype_is_weight(dtype) || (size_t)columns % dtype_block(dtype) != 0);
    add(m, name, dtype, columns, rows, 0, sqrtf(3 / (float)columns));
}

static void add_layer(struct model *m, int layer)
{
    const struct tiny_model_options *o = &m->o;
    int q = o->heads * o->head_dim, kv = o->kv_heads * o->head_dim;
    bool qwen2 = strcmp(o->architecture, "qwen2") == 0, qwen3 = strcmp(o->architecture, "qwen3") == 0;
    const struct {
        const char *name;
        int columns, rows; /* rows 0: a vector around 1; -1: around 0 */
        bool wanted;
    } list[] = {
        {"attn_norm.weight", o->width, 0, true},
        {"attn_q.weight", o->width, q, true}, {"attn_k.weight", o->width, kv, true},
        {"attn_v.weight", o->width, kv, true},
        {"attn_q.bias", q, -1, qwen2 || o->llama_bias}, {"attn_k.bias", kv, -1, qwen2 || o->llama_bias},
        {"attn_v.bias", kv, -1, qwen2 || o->llama_bias},
        {"attn_q_norm.weight", o->head_dim, 0, qwen3}, {"attn_k_norm.weight", o->head_dim, 0, qwen3},
        {"attn_output.weight", q, o->width, true},
        {"ffn_norm.weight", o->width, 0, true},
        {"ffn_gate.weight", o->width, o->ff, true}, {"ffn_up.weight", o->width, o->ff, true},
        {"ffn_down.weight", o->ff, o->width, true},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s", layer, list[i].name);
        if (!list[i].wanted)
            continue;
        if (list[i].rows > 0)
            add_matrix(m, name, o->matrix, list[i].columns, list[i].rows);
        else if (!o->lora_rank)
            add(m, name, o->vector, list[i].columns, 1, list[i].rows == 0 ? 1 : 0, 0.2f);
    }
}

static void add_tensors(struct model *m)
{
    const struct tiny_model_options *o = &m->o;
    if (!o->lora_rank)
        add_matrix(m, "token_embd.weight", o->embedding, o->width, o->vocab);
    for (int layer = 0; layer < o->layers; layer++)
        add_layer(m, layer);
    if (o->rope_factors && !o->lora_rank)
        add(m, "rope_freqs.weight", DTYPE_F32, o->head_dim / 2, 1, 4, 3);
    if (!o->lora_rank)
        add(m, "output_norm.weight", o->vector, o->width, 1, 1, 0.2f);
    if (o->untied)
        add_matrix(m, "output.weight", o->output, o->width, o->vocab);
    if (o->extra)
        add(m, o->extra, DTYPE_F32, 32, 1, 0, 1);
}

/* One integer key under the architecture's name, unless it is left out or replaced. */
static void put_size(struct gguf_writer *w, const struct tiny_model_options *o, const char *suffix, int value,
                     int *keys)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", o->architecture, suffix);
    if (o->without && strcmp(o->without, key) == 0)
        return;
    uint32_t number = o->replace && strcmp(o->replace, key) == 0 ? o->replacement : (uint32_t)value;
    for (int copies = o->twice && strcmp(o->twice, key) == 0 ? 2 : 1; copies > 0; copies--, ++*keys) {
        if (o->kv_heads_array && strcmp(suffix, "attention.head_count_kv") == 0) {
            gguf_put_key_array(w, key, GGUF_I32, (uint64_t)o->layers);
            for (int i = 0; i < o->layers; i++)
                gguf_put_u32(w, i == 0 ? number : (uint32_t)value);
        } else {
            gguf_put_key_uint(w, key, number);
        }
    }
}

static void put_number(struct gguf_writer *w, const struct tiny_model_options *o, const char *suffix,
                       float value, int *keys)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", o->architecture, suffix);
    if (o->without && strcmp(o->without, key) == 0)
        return;
    gguf_put_key_float(w, key, value);
    ++*keys;
}

static void put_metadata(struct gguf_writer *w, const struct tiny_model_options *o, int *keys)
{
    if (!o->without || strcmp(o->without, "general.architecture") != 0) {
        gguf_put_key_string(w, "general.architecture", o->architecture);
        ++*keys;
    }
    gguf_put_key_string(w, "general.name", "tiny");
    ++*keys;
    put_size(w, o, "block_count", o->layers, keys);
    put_size(w, o, "context_length", o->context, keys);
    put_size(w, o, "embedding_length", o->width, keys);
    put_size(w, o, "feed_forward_length", o->ff, keys);
    put_size(w, o, "attention.head_count", o->heads, keys);
    put_size(w, o, "attention.head_count_kv", o->kv_heads, keys);
    if (o->head_dim * o->heads != o->width || strcmp(o->architecture, "qwen3") == 0) {
        put_size(w, o, "attention.key_length", o->head_dim, keys);
        put_size(w, o, "attention.value_length", o->head_dim, keys);
    }
    put_size(w, o, "rope.dimension_count", o->head_dim, keys);
    put_number(w, o, "rope.freq_base", 10000, keys);
    put_number(w, o, "attention.layer_norm_rms_epsilon", 1e-6f, keys);
    if (o->yarn > 0) {
        char key[96];
        snprintf(key, sizeof key, "%s.rope.scaling.type", o->architecture);
        gguf_put_key_string(w, key, "yarn");
        ++*keys;
        put_number(w, o, "rope.scaling.factor", o->yarn, keys);
        put_size(w, o, "rope.scaling.original_context_length", o->context / 2, keys);
    }
    if (o->more_keys) {
        put_size(w, o, "pooling_type", 3, keys);
        gguf_put_key_bool(w, "tokenizer.ggml.add_eos_token", true);
        gguf_put_key_uint(w, "tokenizer.ggml.fim_pre_token_id", (uint32_t)tiny_model_token("<|fim_pad|>"));
        *keys += 2;
    }
    int listed = o->unlisted_padding ? tiny_model_tokens() : o->vocab;
    tiny_vocab_put(w, listed, o->pre, o->chat_template, o->without, keys);
}

static void put_adapter_metadata(struct gguf_writer *w, const struct tiny_model_options *o, int *keys)
{
    const char *const texts[][2] = {
        {"general.type", "adapter"}, {"general.architecture", o->architecture}, {"adapter.type", "lora"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (o->without && strcmp(o->without, texts[i][0]) == 0)
            continue;
        gguf_put_key_string(w, texts[i][0], texts[i][1]);
        ++*keys;
    }
    if (o->without && strcmp(o->without, "adapter.lora.alpha") == 0)
        return;
    gguf_put_key_float(w, "adapter.lora.alpha", o->lora_alpha);
    ++*keys;
}

static int put_split(struct gguf_writer *w, const struct model *m, int part)
{
    if (m->o.parts == 1)
        return 0;
    gguf_put_key(w, "split.no", GGUF_U16);
    gguf_put(w, &(uint16_t){(uint16_t)part}, 2);
    gguf_put_key(w, "split.count", GGUF_U16);
    gguf_put(w, &(uint16_t){(uint16_t)m->o.parts}, 2);
    gguf_put_key(w, "split.tensors.count", GGUF_I32);
    gguf_put_u32(w, (uint32_t)m->n);
    return 3;
}

static int write_part(struct model *m, int part, struct gguf_writer *w, struct err *err)
{
    int first = m->n * part / m->o.parts, end = m->n * (part + 1) / m->o.parts;
    struct gguf_writer metadata = {0};
    int keys = put_split(&metadata, m, part);
    if (part == 0 && m->o.lora_rank)
        put_adapter_metadata(&metadata, &m->o, &keys);
    else if (part == 0)
        put_metadata(&metadata, &m->o, &keys);
    gguf_put_header(w, 3, (uint64_t)(end - first), (uint64_t)keys);
    gguf_put(w, metadata.bytes, metadata.length);
    free(metadata.bytes);

    static const uint32_t numbers[] = {
#define X(name, gguf, block, size) [DTYPE_##name] = gguf,
#include "../../kernels/dtype.def"
#undef X
    };
    uint64_t offset = 0;
    for (int i = first; i < end; i++) {
        struct tensor *t = &m->tensors[i];
        if (t->shape[0] % dtype_block(t->dtype) != 0)
            return err_set(err, ERR_INVALID, "%s of %llu columns cannot be %s", t->name,
                           (unsigned long long)t->shape[0], dtype_name(t->dtype));
        t->bytes = t->shape[0] / dtype_block(t->dtype) * dtype_block_bytes(t->dtype) * t->shape[1];
        gguf_put_tensor(w, t->name, t->n_dims, t->shape, numbers[t->dtype], offset);
        offset += (t->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    for (int i = first; i < end; i++) {
        gguf_put_padding(w, ALIGNMENT);
        int rc = put_values(w, &m->tensors[i], m->o.seed, err);
        if (rc)
            return rc;
    }
    return 0;
}

int tiny_model_bytes(const struct tiny_model_options *options, int part, unsigned char **out, size_t *size,
                     struct err *err)
{
    struct model *m = calloc(1, sizeof *m);
    REQUIRE(m);
    m->o = with_defaults(options);
    if (m->o.vocab < tiny_model_tokens() || part < 0 || part >= m->o.parts || m->o.layers > 32) {
        free(m);
        return err_set(err, ERR_INVALID, "no tiny model has these sizes");
    }
    add_tensors(m);
    struct gguf_writer w = {0};
    int rc = write_part(m, part, &w, err);
    free(m);
    if (rc) {
        free(w.bytes);
        return rc;
    }
    *out = w.bytes;
    *size = w.length;
    return 0;
}

int tiny_model_write(const struct tiny_model_options *options, const char *path, struct err *err)
{
    int parts = options->parts > 1 ? options->parts : 1;
    for (int part = 0; part < parts; part++) {
        char name[4096];
        if (parts == 1)
            snprintf(name, sizeof name, "%s", path);
        else
            snprintf(name, sizeof name, "%s-%05d-of-%05d.gguf", path, part + 1, parts);
        struct gguf_writer w = {0};
        int rc = tiny_model_bytes(options, part, &w.bytes, &w.length, err);
        if (rc == 0)
            rc = gguf_writer_save(&w, name, err);
        free(w.bytes);
        if (rc)
            return rc;
    }
    return 0;
}
