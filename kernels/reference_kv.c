/* The reference device's operators on the KV cache: RoPE with append, attention, block copies. */
#include <math.h>
#include <string.h>

#include "host.h"
#include "reference.h"

static void rotate(const struct rope_kv_args *a, float *head, const float *cs)
{
    int half = a->rope_dim / 2;
    for (int i = 0; i < half; i++) {
        float *p = a->style == ROPE_HALVES ? &head[i] : &head[2 * i];
        float *q = a->style == ROPE_HALVES ? &head[i + half] : &head[2 * i + 1];
        float c = cs[2 * i], s = cs[2 * i + 1], u = *p, v = *q;
        *p = u * c - v * s;
        *q = u * s + v * c;
    }
}

/* One head of K or V, as stored. F16 stops at its largest number. */
static void store_head(struct buffer *kv, size_t at, const float *x, size_t n)
{
    if (kv->dtype == DTYPE_F32) {
        memcpy((float *)kv->memory + at, x, n * sizeof *x);
        return;
    }
    if (kv->dtype == DTYPE_Q8_0) {
        host_store_q8(x, n, (uint8_t *)kv->memory + dtype_bytes(DTYPE_Q8_0, at));
        return;
    }
    for (size_t i = 0; i < n; i++)
        ((uint16_t *)kv->memory)[at + i] = f32_to_f16(fminf(fmaxf(x[i], -65504), 65504));
}

static const float *load_head(const struct buffer *kv, size_t at, float *own, size_t n)
{
    if (kv->dtype == DTYPE_F32)
        return (const float *)kv->memory + at;
    dtype_to_f32(kv->dtype, (const char *)kv->memory + dtype_bytes(kv->dtype, at), n, own);
    return own;
}

int reference_rope_kv(struct reference *s, const struct command *c, struct err *err)
{
    const struct rope_kv_args *a = &c->args.rope_kv;
    struct buffer *const *b = c->buffer;
    const int32_t *position = b[1]->memory, *slot = b[2]->memory;
    size_t dim = (size_t)a->head_dim, heads = (size_t)a->n_heads, kv_heads = (size_t)a->n_kv_heads;
    size_t tokens = (size_t)a->block_tokens;
    int rc = reference_reserve(&s->own[0], (size_t)a->rope_dim, err);
    if (rc < 0)
        return rc;
    float *cs = s->own[0].memory;
    for (int r = 0; r < a->rows; r++) {
        float *row = (float *)b[0]->memory + (size_t)r * (heads + 2 * kv_heads) * dim;
        rope_angles(a, position[r], b[3]->memory, cs);
        for (size_t h = 0; h < heads + kv_heads; h++)
            rotate(a, row + h * dim, cs);
        size_t block = (size_t)slot[r] / tokens, offset = (size_t)slot[r] % tokens;
        REQUIRE(slot[r] >= 0 && (block + 1) * 2 * kv_heads * tokens * dim <= b[4]->count);
        for (size_t h = 0; h < 2 * kv_heads; h++) /* K of each head, then V of each */
            store_head(b[4], ((block * 2 * kv_heads + h) * tokens + offset) * dim, row + (heads + h) * dim,
                       dim);
    }
    return 0;
}

/* One row and the query heads of one KV head. own: a decoded head, then scores [queries][n]. */
static void attend(const struct command *c, int r, int kv_head, float *own)
{
    const struct attention_args *a = &c->args.attention;
    size_t dim = (size_t)a->head_dim, tokens = (size_t)a->block_tokens, kv_heads = (size_t)a->n_kv_heads;
    size_t queries = (size_t)(a->n_heads / a->n_kv_heads),
           n = (size_t)((int32_t *)c->buffer[1]->memory)[r] + 1;
    size_t sequence = (size_t)((int32_t *)c->buffer[2]->memory)[r], first = (size_t)kv_head * queries;
    const int32_t *blocks = (int32_t *)c->buffer[3]->memory + sequence * (size_t)a->table_stride;
    const float *q = (float *)c->buffer[0]->memory + (size_t)r * (size_t)a->q_stride + first * dim;
    float *out = (float *)c->buffer[5]->memory + ((size_t)r * (size_t)a->n_heads + first) * dim,
          *scores = own + dim;
    REQUIRE((sequence + 1) * (size_t)a->table_stride <= c->buffer[3]->count);
    for (size_t t = 0; t < n; t++) {
        size_t at = ((size_t)blocks[t / tokens] * 2 * kv_heads + (size_t)kv_head) * tokens + t % tokens;
        const float *k = load_head(c->buffer[4], at * dim, own, dim);
        for (size_t h = 0; h < queries; h++)
            scores[h * n + t] = reference_dot(q + h * dim, k, dim) * a->scale;
    }
    for (size_t h = 0; h < queries; h++) {
        float *p = scores + h * n, peak = -INFINITY;
        double sum = 0;
        for (size_t t = 0; t < n; t++)
            peak = fmaxf(peak, p[t]);
        for (size_t t = 0; t < n; t++)
            sum += (double)(p[t] = expf(p[t] - peak));
        for (size_t t = 0; t < n; t++)
            p[t] = (float)(p[t] / sum);
    }
    memset(out, 0, queries * dim * sizeof *out);
    for (size_t t = 0; t < n; t++) {
        size_t at = (((size_t)blocks[t / tokens] * 2 + 1) * kv_heads + (size_t)kv_head) * tokens + t % tokens;
        const float *v = load_head(c->buffer[4], at * dim, own, dim);
        for (size_t h = 0; h < queries; h++)
            for (size_t i = 0; i < dim; i++)
                out[h * dim + i] += scores[h * n + t] * v[i];
    }
}

static void attention_share(void *context, int thread)
{
    struct reference *s = context;
    const struct attention_args *a = &s->command->args.attention;
    size_t units = (size_t)a->rows * (size_t)a->n_kv_heads;
    for (size_t i = (size_t)thread; i < units; i += (size_t)s->threads)
        attend(s->command, (int)(i / (size_t)a->n_kv_heads), (int)(i % (size_t)a->n_kv_heads),
               s->own[thread].memory);
}

int reference_attention(struct reference *s, const struct command *c, struct err *err)
{
    const struct attention_args *a = &c->args.attention;
    const int32_t *position = c->buffer[1]->memory;
    size_t longest = 0;
    for (int r = 0; r < a->rows; r++) {
        REQUIRE(position[r] >= 0 && position[r] < a->table_stride * a->block_tokens);
        longest = (size_t)position[r] > longest ? (size_t)position[r] : longest;
    }
    size_t queries = (size_t)(a->n_heads / a->n_kv_heads);
    return reference_run(s, attention_share, (size_t)a->head_dim + queries * (longest + 1), err);
}

void reference_kv_copy(const struct command *c)
{
    const struct kv_copy_args *a = &c->args.kv_copy;
    const int32_t *pair = c->buffer[0]->memory;
    const struct buffer *kv = c->buffer[1];
    size_t block = (size_t)a->block_elements, bytes = dtype_bytes(kv->dtype, block);
    for (int i = 0; i < a->pairs; i++) {
        size_t from = (size_t)pair[2 * i], to = (size_t)pair[2 * i + 1];
        REQUIRE(pair[2 * i] >= 0 && pair[2 * i + 1] >= 0 && (from + 1) * block <= kv->count &&
                (to + 1) * block <= kv->count);
        memmove((char *)kv->memory + to * bytes, (char *)kv->memory + from * bytes, bytes);
    }
}
