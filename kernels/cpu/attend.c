/* Attention over one span of the context, compiled once per instruction set.
 *
 * Tiles of 64 keys at fixed positions: K is transposed and V widened to f32 once for all queries,
 * then both products are small matrix multiplications whose sums run in one fixed order, whatever
 * the number of queries. */
#include "vector.h"

#include <math.h>

#define QUERIES 6 /* of one register tile */
#if VW == 8 || (VW == 4 && !defined(CPU_NEON))
#define WIDTH 2 /* vectors of one register tile */
#else
#define WIDTH 4
#endif

struct product {
    const float *a, *b; /* [queries][a_stride] times [depth][b_stride] */
    float *c;           /* [queries][c_stride], added to */
    size_t a_stride, b_stride, c_stride;
    int depth;
};

INLINE void product_tile(const int T, const int V, const struct product *p, int query, int column)
{
    const float *a = p->a + (size_t)query * p->a_stride, *b = p->b + column;
    float *c = p->c + (size_t)query * p->c_stride + column;
    vf acc[QUERIES][WIDTH];
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
        for (int v = 0; v < V; v++)
            acc[t][v] = vf_load(c + (size_t)t * p->c_stride + v * VW);
    for (int k = 0; k < p->depth; k++, b += p->b_stride) {
        vf row[WIDTH];
        UNROLL
        for (int v = 0; v < V; v++)
            row[v] = vf_load(b + v * VW);
        UNROLL
        for (int t = 0; t < T; t++) {
            vf x = vf_set(a[(size_t)t * p->a_stride + (size_t)k]);
            UNROLL
            for (int v = 0; v < V; v++)
                acc[t][v] = vf_fma(x, row[v], acc[t][v]);
        }
    }
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
        for (int v = 0; v < V; v++)
            vf_store(c + (size_t)t * p->c_stride + v * VW, acc[t][v]);
}

INLINE void product_columns(const int V, const struct product *p, int query, int T, int column)
{
    switch (T) {
    case 1: product_tile(1, V, p, query, column); break;
    case 2: product_tile(2, V, p, query, column); break;
    case 3: product_tile(3, V, p, query, column); break;
    case 4: product_tile(4, V, p, query, column); break;
    case 5: product_tile(5, V, p, query, column); break;
    default: product_tile(6, V, p, query, column); break;
    }
}

/* c += a b; columns is a multiple of 16. */
static void multiply(const struct product *p, int queries, int columns)
{
    int groups = (queries + QUERIES - 1) / QUERIES, column = 0;
    for (; column + WIDTH * VW <= columns; column += WIDTH * VW)
        for (int g = 0; g < groups; g++) {
            int first = group_start(queries, groups, g);
            product_columns(WIDTH, p, first, group_start(queries, groups, g + 1) - first, column);
        }
    for (; column < columns; column += VW)
        for (int g = 0; g < groups; g++) {
            int first = group_start(queries, groups, g);
            product_columns(1, p, first, group_start(queries, groups, g + 1) - first, column);
        }
}

static void widen(const uint16_t *in, int n, int width, float *out)
{
    int i = 0;
    for (; i + VW <= n; i += VW)
        vf_store(out + i, vf_f16(in + i));
    for (; i < n; i++)
        out[i] = f16_to_f32(in[i]);
    for (; i < width; i++)
        out[i] = 0;
}

#if defined(__AVX2__)
#define STEP 8
/* out[c][r] = in[r][c] of 8 rows and columns; rows of f16 in, f32 out. */
INLINE void transpose(const uint16_t *const *in, int column, float *out, size_t stride)
{
    __m256 r[8], s[8];
    for (int i = 0; i < 8; i++)
        r[i] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(in[i] + column)));
    for (int i = 0; i < 4; i++) {
        s[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        s[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            r[4 * i + 2 * j] = _mm256_shuffle_ps(s[4 * i + j], s[4 * i + 2 + j], 0x44);
            r[4 * i + 2 * j + 1] = _mm256_shuffle_ps(s[4 * i + j], s[4 * i + 2 + j], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(out + (size_t)i * stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(out + (size_t)(i + 4) * stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}
#else
#define STEP 4
INLINE void transpose(const uint16_t *const *in, int column, float *out, size_t stride)
{
    float r[4][VW];
    for (int i = 0; i < 4; i++)
        vf_store(r[i], vf_f16(in[i] + column));
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            out[(size_t)i * stride + (size_t)j] = r[j][i];
}
#endif

/* K of n <= 64 keys as [head_dim][64], V as [64][width] with zero rows beyond n. */
static void load_tile(const struct attention_span *s, int start, int n, float *k, float *v)
{
    const struct attention_args *a = s->args;
    size_t dim = (size_t)a->head_dim, tokens = (size_t)a->block_tokens, heads = (size_t)a->n_kv_heads;
    int width = attention_width(a);
    const uint16_t *keys[ATTENTION_TILE], *kv = s->kv;
    for (int i = 0; i < n; i++) {
        size_t position = (size_t)(start + i), block = (size_t)s->table[position / tokens];
        const uint16_t *key =
            kv + ((block * 2 * heads + (size_t)s->head) * tokens + position % tokens) * dim;
        keys[i] = key;
        widen(key + heads * tokens * dim, a->head_dim, width, v + (size_t)i * (size_t)width);
    }
    for (int i = n; i < ATTENTION_TILE; i++)
        keys[i] = keys[0]; /* scored, but not seen */
    memset(v + (size_t)n * (size_t)width, 0, (size_t)(ATTENTION_TILE - n) * (size_t)width * sizeof *v);
    int c = 0;
    for (; c + STEP <= a->head_dim; c += STEP)
        for (int i = 0; i < ATTENTION_TILE; i += STEP)
            transpose(keys + i, c, k + c * ATTENTION_TILE + i, ATTENTION_TILE);
    for (; c < a->head_dim; c++)
        for (int i = 0; i < ATTENTION_TILE; i++)
            k[c * ATTENTION_TILE + i] = f16_to_f32(keys[i][c]);
}

/* Turns a query's scores of a tile into weights relative to the new maximum and brings its state
 * up to it. `seen` keys count. */
static void soften(float *score, int seen, float *state, int width)
{
    if (seen <= 0) {
        memset(score, 0, ATTENTION_TILE * sizeof *score);
        return;
    }
    for (int i = seen; i < ATTENTION_TILE; i++)
        score[i] = -INFINITY;
    vf peak = vf_load(score), sum = vf_set(0);
    for (int i = VW; i < ATTENTION_TILE; i += VW)
        peak = vf_max(peak, vf_load(score + i));
    float before = state[width], now = fmaxf(before, vf_peak(peak));
    for (int i = 0; i < ATTENTION_TILE; i += VW) {
        vf weight = vf_exp(vf_load(score + i) - vf_set(now));
        vf_store(score + i, weight);
        sum += weight;
    }
    float factor[VW];
    vf_store(factor, vf_exp(vf_set(before - now)));
    state[width] = now;
    state[width + 1] = state[width + 1] * factor[0] + vf_sum(sum);
    if (now > before)
        for (int i = 0; i < width; i += VW)
            vf_store(state + i, vf_load(state + i) * vf_set(factor[0]));
}

void NAME(attend)(const struct attention_span *s)
{
    const struct attention_args *a = s->args;
    int heads = a->n_heads / a->n_kv_heads, queries = s->rows * heads, width = attention_width(a), end = 0;
    size_t stride = attention_stride(a);
    float *q = s->scratch, *k = q + queries * width, *v = k + width * ATTENTION_TILE;
    float *score = v + width * ATTENTION_TILE;
    for (int i = 0; i < queries; i++) {
        const float *in =
            s->q + (size_t)(i / heads) * (size_t)a->q_stride + (size_t)(i % heads) * (size_t)a->head_dim;
        float *state = s->state + (size_t)i * stride;
        for (int c = 0; c < a->head_dim; c++)
            q[i * width + c] = in[c] * a->scale;
        memset(state, 0, stride * sizeof *state);
        state[width] = -INFINITY;
        int p = s->position[i / heads] + 1;
        end = p > end ? p : end;
    }
    end = end < s->last ? end : s->last;
    for (int start = s->first; start < end; start += ATTENTION_TILE) {
        load_tile(s, start, end - start < ATTENTION_TILE ? end - start : ATTENTION_TILE, k, v);
        memset(score, 0, (size_t)queries * ATTENTION_TILE * sizeof *score);
        struct product scores = {q, k, score, (size_t)width, ATTENTION_TILE, ATTENTION_TILE, a->head_dim};
        multiply(&scores, queries, ATTENTION_TILE);
        for (int i = 0; i < queries; i++) {
            int seen = s->position[i / heads] + 1 - start;
            soften(score + i * ATTENTION_TILE, seen < ATTENTION_TILE ? seen : ATTENTION_TILE,
                   s->state + (size_t)i * stride, width);
        }
        struct product output = {score, v, s->state, ATTENTION_TILE, (size_t)width, stride, ATTENTION_TILE};
        multiply(&output, queries, width);
    }
}

void NAME(attend_merge)(float *total, const float *state, int width)
{
    float before = total[width], more = state[width], now = fmaxf(before, more), factor[VW], other[VW];
    if (more == -INFINITY)
        return;
    vf_store(factor, vf_exp(vf_set(before - now)));
    vf_store(other, vf_exp(vf_set(more - now)));
    total[width] = now;
    total[width + 1] = total[width + 1] * factor[0] + state[width + 1] * other[0];
    for (int i = 0; i < width; i += VW)
        vf_store(total + i,
                 vf_fma(vf_load(state + i), vf_set(other[0]), vf_load(total + i) * vf_set(factor[0])));
}
