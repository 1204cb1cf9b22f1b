/* Attention over one span of the context, compiled once per instruction set.
 *
 * Tiles of 64 keys at fixed positions. K is transposed as it is stored, so that lanes are keys; then
 * both products are small matrix multiplications whose sums run in one fixed order, whatever the number
 * of queries. Few queries widen K and V to f32 in the products, many do it once before. K and V of 8 bits
 * are multiplied as whole numbers: sums over a block of K get its scales, and V's scales go onto the
 * weights of the keys. */
#include "vector.h"

#include <math.h>

#define QUERIES 6 /* of one register tile */
#if VW == 8 || (VW == 4 && !defined(CPU_NEON))
#define WIDTH 2 /* vectors of one register tile */
#else
#define WIDTH 4
#endif
#define FEW (2 * QUERIES) /* queries that widen K and V in the products */
#define LINE 64

/* ---- products ---- */

enum element { WIDE, HALF, BYTE }; /* f32, f16, int8 */

struct product {
    const float *a;            /* [queries][a_stride] */
    const uint8_t *b;          /* [depth] rows of elements, b_stride bytes apart */
    const uint8_t *const *row; /* or where each of them lies, `offset` bytes before */
    size_t a_stride, b_stride, c_stride, offset;
    int depth;
    const float *scale;        /* [columns], of the sum over the rows; NULL: 1 */
    float *c;                  /* [queries][c_stride], added to */
};

INLINE vf load(const enum element e, const void *row, int i)
{
    switch (e) {
    case HALF: return vf_f16((const uint16_t *)row + i);
    case BYTE: return vf_i8((const int8_t *)row + i);
    default: return vf_load((const float *)row + i);
    }
}

INLINE void product_tile(const enum element e, const bool scattered, const int T, const int V,
                         const struct product *p, int query, int column)
{
    const float *a = p->a + (size_t)query * p->a_stride;
    float *c = p->c + (size_t)query * p->c_stride + column;
    vf acc[QUERIES][WIDTH];
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
        for (int v = 0; v < V; v++)
            acc[t][v] = p->scale ? vf_set(0) : vf_load(c + (size_t)t * p->c_stride + v * VW);
    const uint8_t *b = p->b;
    for (int k = 0; k < p->depth; k++, b += p->b_stride) {
        vf row[WIDTH];
        UNROLL
        for (int v = 0; v < V; v++)
            row[v] = load(e, scattered ? p->row[k] + p->offset : b, column + v * VW);
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
        for (int v = 0; v < V; v++) {
            float *to = c + (size_t)t * p->c_stride + v * VW;
            vf_store(to, p->scale ? vf_fma(acc[t][v], vf_load(p->scale + column + v * VW), vf_load(to))
                                  : acc[t][v]);
        }
}

INLINE void product_columns(const enum element e, const bool scattered, const int V, const struct product *p,
                            int query, int T, int column)
{
    switch (T) {
    case 1: product_tile(e, scattered, 1, V, p, query, column); break;
    case 2: product_tile(e, scattered, 2, V, p, query, column); break;
    case 3: product_tile(e, scattered, 3, V, p, query, column); break;
    case 4: product_tile(e, scattered, 4, V, p, query, column); break;
    case 5: product_tile(e, scattered, 5, V, p, query, column); break;
    default: product_tile(e, scattered, 6, V, p, query, column); break;
    }
}

/* columns is a multiple of 16. */
INLINE void product_all(const enum element e, const bool scattered, const struct product *p, int queries,
                        int columns)
{
    int groups = (queries + QUERIES - 1) / QUERIES, column = 0;
    for (; column + WIDTH * VW <= columns; column += WIDTH * VW)
        for (int g = 0; g < groups; g++) {
            int first = group_start(queries, groups, g);
            product_columns(e, scattered, WIDTH, p, first, group_start(queries, groups, g + 1) - first,
                            column);
        }
#if WIDTH * VW > 16
    for (; column < columns; column += VW)
        for (int g = 0; g < groups; g++) {
            int first = group_start(queries, groups, g);
            product_columns(e, scattered, 1, p, first, group_start(queries, groups, g + 1) - first, column);
        }
#endif
}

/* c += a b, or c += scale (a b). */
static void multiply(enum element e, const struct product *p, int queries, int columns)
{
    switch (e) {
    case WIDE: product_all(WIDE, false, p, queries, columns); break;
    case HALF:
        if (p->row)
            product_all(HALF, true, p, queries, columns);
        else
            product_all(HALF, false, p, queries, columns);
        break;
    case BYTE:
        if (p->row)
            product_all(BYTE, true, p, queries, columns);
        else
            product_all(BYTE, false, p, queries, columns);
        break;
    }
}

/* ---- K and V as they are stored ---- */

#if defined(__AVX2__)
#define LANES 2 /* of 16 bytes, which shuffles do not leave */
typedef __m256i raw;
INLINE raw raw_load(const uint8_t *const *row, int apart, size_t offset)
{
    const __m128i *low = (const void *)(row[0] + offset), *high = (const void *)(row[apart] + offset);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)), _mm_loadu_si128(high), 1);
}
INLINE void raw_store(uint8_t *p, raw r) { _mm256_storeu_si256((__m256i *)(void *)p, r); }
INLINE raw zip_low(const bool bytes, raw a, raw b)
{
    return bytes ? _mm256_unpacklo_epi8(a, b) : _mm256_unpacklo_epi16(a, b);
}
INLINE raw zip_high(const bool bytes, raw a, raw b)
{
    return bytes ? _mm256_unpackhi_epi8(a, b) : _mm256_unpackhi_epi16(a, b);
}
#elif defined(CPU_NEON)
#define LANES 1
typedef uint8x16_t raw;
INLINE raw raw_load(const uint8_t *const *row, int apart, size_t offset)
{
    (void)apart;
    return vld1q_u8(row[0] + offset);
}
INLINE void raw_store(uint8_t *p, raw r) { vst1q_u8(p, r); }
INLINE raw zip_low(const bool bytes, raw a, raw b)
{
    return bytes ? vzip1q_u8(a, b)
                 : vreinterpretq_u8_u16(vzip1q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
}
INLINE raw zip_high(const bool bytes, raw a, raw b)
{
    return bytes ? vzip2q_u8(a, b)
                 : vreinterpretq_u8_u16(vzip2q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
}
#else
#define LANES 1
typedef struct {
    uint8_t byte[16];
} raw;
INLINE raw raw_load(const uint8_t *const *row, int apart, size_t offset)
{
    raw r;
    (void)apart;
    memcpy(&r, row[0] + offset, sizeof r);
    return r;
}
INLINE void raw_store(uint8_t *p, raw r) { memcpy(p, &r, sizeof r); }
INLINE raw zip_half(const bool bytes, raw a, raw b, int from)
{
    raw r;
    for (int i = 0; i < 16; i++) {
        int at = bytes ? from + i / 2 : from + i / 4 * 2 + i % 2;
        r.byte[i] = (bytes ? i % 2 : i / 2 % 2) ? b.byte[at] : a.byte[at];
    }
    return r;
}
INLINE raw zip_low(const bool bytes, raw a, raw b) { return zip_half(bytes, a, b, 0); }
INLINE raw zip_high(const bool bytes, raw a, raw b) { return zip_half(bytes, a, b, 8); }
#endif

/* 16 bytes of each of LANES * 8 rows of f16, or LANES * 16 of bytes, as columns every `stride` bytes. */
INLINE void transpose(const bool bytes, const uint8_t *const *row, size_t offset, uint8_t *out,
                      size_t stride)
{
    const int R = bytes ? 16 : 8;
    raw a[16], b[16];
    UNROLL
    for (int i = 0; i < R; i++)
        a[i] = raw_load(row + i, R, offset);
    UNROLL
    for (int n = 1; n < R; n *= 2) {
        UNROLL
        for (int i = 0; i < R / 2; i++) {
            b[2 * i] = zip_low(bytes, a[i], a[i + R / 2]);
            b[2 * i + 1] = zip_high(bytes, a[i], a[i + R / 2]);
        }
        UNROLL
        for (int i = 0; i < R; i++)
            a[i] = b[i];
    }
    UNROLL
    for (int i = 0; i < R; i++)
        raw_store(out + (size_t)i * stride, a[i]);
}

/* Where the rows of a tile lie: as GGUF's F16, or Q8_0's blocks of a scale and 32 bytes. */
struct rows {
    const uint8_t *key[ATTENTION_TILE], *value[ATTENTION_TILE];
    int n;
};
#define SCALE_BYTES 2
#define BLOCK_BYTES (SCALE_BYTES + BLOCK)

/* What attend works with, in s->scratch. */
struct span_work {
    enum element element;      /* of the products */
    bool bytes;                /* K and V are Q8_0 */
    size_t row_bytes;
    int queries, width;
    float *q, *score, *scaled; /* [queries][width], [queries][64] twice */
    float *k, *v;              /* widened: [head_dim][64], [64][width] */
    float *k_scale, *v_scale;  /* of bytes: [head_dim / 32][64] */
    uint8_t *raw;              /* K as it is stored, but [head_dim][64] */
    struct rows *now, *next;   /* of this tile, and of the one whose memory is on its way */
};

static void find(const struct attention_span *s, const struct span_work *w, int start, int end,
                 struct rows *t)
{
    const struct attention_args *a = s->args;
    size_t tokens = (size_t)a->block_tokens, heads = (size_t)a->n_kv_heads;
    t->n = start >= end ? 0 : end - start < ATTENTION_TILE ? end - start : ATTENTION_TILE;
    for (int i = 0; i < t->n; i++) {
        size_t position = (size_t)(start + i), block = (size_t)s->table[position / tokens];
        t->key[i] = (const uint8_t *)s->kv +
                    ((block * 2 * heads + (size_t)s->head) * tokens + position % tokens) * w->row_bytes;
        t->value[i] = t->key[i] + heads * tokens * w->row_bytes;
    }
    for (int i = t->n; i < ATTENTION_TILE && t->n; i++)
        t->key[i] = t->key[0]; /* scored, but not seen */
}

/* Calls a part of the next tile's rows into the second-level cache: as many at a time as go without a
 * stop. */
static void prefetch(const struct span_work *w, const uint8_t *const *row, int part, int parts)
{
    int end = w->next->n * (part + 1) / parts;
    for (int i = w->next->n * part / parts; i < end; i++)
        for (size_t at = 0; at < w->row_bytes; at += LINE)
            __builtin_prefetch(row[i] + at, 0, 2);
}

static void load_keys(const struct attention_args *a, const struct span_work *w)
{
    int keys = round_up(w->now->n, 16), columns = w->bytes ? 16 : 8, c = 0;
    size_t size = w->bytes ? 1 : 2, stride = ATTENTION_TILE * size;
    for (; c + columns <= a->head_dim; c += columns) {
        uint8_t *out = w->raw + (size_t)c * stride;
        size_t block = (size_t)(c / BLOCK), column = (size_t)(c % BLOCK);
        for (int i = 0; i < keys; i += LANES * columns)
            if (w->bytes)
                transpose(true, w->now->key + i, block * BLOCK_BYTES + SCALE_BYTES + column, out + i, stride);
            else
                transpose(false, w->now->key + i, (size_t)c * size, out + (size_t)i * size, stride);
        prefetch(w, w->next->key, c / columns, a->head_dim / columns);
    }
    for (; c < a->head_dim; c++) /* of f16 */
        for (int i = 0; i < keys; i++)
            memcpy(w->raw + (size_t)c * stride + (size_t)i * size, w->now->key[i] + (size_t)c * size, size);
}

static void load_scales(int blocks, const uint8_t *const *row, int n, float *scale)
{
    for (int b = 0; b < blocks; b++, scale += ATTENTION_TILE)
        for (int i = 0; i < ATTENTION_TILE; i++) {
            uint16_t half = 0;
            if (i < n)
                memcpy(&half, row[i] + (size_t)b * BLOCK_BYTES, sizeof half);
            scale[i] = f16_to_f32(half);
        }
}

INLINE void widen(const enum element e, const void *in, int n, int width, float *out)
{
    int i = 0;
    for (; i + VW <= n; i += VW)
        vf_store(out + i, load(e, in, i));
    for (; i < n; i++)
        out[i] = f16_to_f32(((const uint16_t *)in)[i]);
    for (; i < width; i++)
        out[i] = 0;
}

static void widen_tile(const struct attention_args *a, const struct span_work *w)
{
    int n = a->head_dim * ATTENTION_TILE;
    if (w->bytes)
        widen(BYTE, w->raw, n, n, w->k);
    else
        widen(HALF, w->raw, n, n, w->k);
    for (int i = 0; i < w->now->n; i++) {
        const uint8_t *value = w->now->value[i];
        float *v = w->v + (size_t)i * (size_t)w->width;
        for (int b = 0; w->bytes && b < w->width / BLOCK; b++)
            widen(BYTE, value + b * BLOCK_BYTES + SCALE_BYTES, BLOCK, BLOCK, v + b * BLOCK);
        if (!w->bytes)
            widen(HALF, value, a->head_dim, w->width, v);
    }
}

/* ---- a span ---- */

/* Turns a query's scores of a tile into weights relative to the new maximum and brings its state
 * up to it. `seen` of n keys count. */
static void soften(float *score, int seen, int n, float *state, int width)
{
    int end = round_up(seen > 0 ? seen : 0, VW);
    if (end < n)
        memset(score + end, 0, (size_t)(n - end) * sizeof *score);
    if (seen <= 0)
        return;
    for (int i = seen; i < end; i++)
        score[i] = -INFINITY;
    vf peak = vf_load(score), sum = vf_set(0);
    for (int i = VW; i < end; i += VW)
        peak = vf_max(peak, vf_load(score + i));
    float before = state[width], now = fmaxf(before, vf_peak(peak));
    for (int i = 0; i < end; i += VW) {
        vf weight = vf_exp(vf_load(score + i) - vf_set(now));
        vf_store(score + i, weight);
        sum += weight;
    }
    if (now > before) {
        float factor[VW];
        vf_store(factor, vf_exp(vf_set(before - now)));
        state[width] = now;
        state[width + 1] *= factor[0];
        for (int i = 0; i < width; i += VW)
            vf_store(state + i, vf_load(state + i) * vf_set(factor[0]));
    }
    state[width + 1] += vf_sum(sum);
}

/* Scores of a tile: over all columns, or over each block of bytes. */
static void score_keys(const struct attention_args *a, const struct span_work *w)
{
    struct product p = {.b = w->element == WIDE ? (const void *)w->k : w->raw,
                        .a_stride = (size_t)w->width,
                        .b_stride = ATTENTION_TILE * (w->element == WIDE ? sizeof(float) : w->bytes ? 1 : 2),
                        .c_stride = ATTENTION_TILE,
                        .depth = w->bytes ? BLOCK : a->head_dim,
                        .c = w->score};
    memset(w->score, 0, (size_t)w->queries * ATTENTION_TILE * sizeof *w->score);
    for (int c = 0; c < a->head_dim; c += p.depth, p.b += (size_t)p.depth * p.b_stride) {
        p.a = w->q + c;
        p.scale = w->bytes ? w->k_scale + c / BLOCK * ATTENTION_TILE : NULL;
        multiply(w->element, &p, w->queries, round_up(w->now->n, 16));
    }
}

static void scale_weights(const struct span_work *w, const float *scale)
{
    for (int q = 0; q < w->queries; q++)
        for (int i = 0; i < ATTENTION_TILE; i += VW)
            vf_store(w->scaled + q * ATTENTION_TILE + i,
                     vf_load(w->score + q * ATTENTION_TILE + i) * vf_load(scale + i));
}

/* Adds V times the weights of the keys to the states. */
static void add_values(const struct attention_args *a, const struct span_work *w, float *state)
{
    int columns = w->bytes ? BLOCK : w->width;
    for (int c = 0; c < w->width; c += columns) {
        struct product p = {.a = w->bytes ? w->scaled : w->score,
                            .b = (const void *)(w->v + c),
                            .row = w->element == WIDE ? NULL : w->now->value,
                            .a_stride = ATTENTION_TILE,
                            .b_stride = (size_t)w->width * sizeof(float),
                            .c_stride = attention_stride(a),
                            .offset = w->bytes ? (size_t)(c / BLOCK) * BLOCK_BYTES + SCALE_BYTES : 0,
                            .depth = w->now->n,
                            .c = state + c};
        if (w->bytes)
            scale_weights(w, w->v_scale + c / BLOCK * ATTENTION_TILE);
        multiply(w->element, &p, w->queries, columns);
    }
}

static void prepare(const struct attention_span *s, struct span_work *w)
{
    const struct attention_args *a = s->args;
    int heads = a->n_heads / a->n_kv_heads, queries = s->rows * heads, width = attention_width(a);
    bool bytes = s->kv_type == DTYPE_Q8_0, direct = queries <= FEW && width == a->head_dim;
    size_t stride = attention_stride(a);
    w->element = !direct ? WIDE : bytes ? BYTE : HALF;
    w->bytes = bytes;
    w->row_bytes = dtype_bytes(s->kv_type, (size_t)a->head_dim);
    w->queries = queries;
    w->width = width;
    w->q = s->scratch;
    w->score = w->q + queries * width;
    w->scaled = w->score + queries * ATTENTION_TILE;
    w->k = w->scaled + queries * ATTENTION_TILE;
    w->v = w->k + width * ATTENTION_TILE;
    w->k_scale = w->v + width * ATTENTION_TILE;
    w->v_scale = w->k_scale + width / BLOCK * ATTENTION_TILE;
    w->raw = (uint8_t *)(w->v_scale + width / BLOCK * ATTENTION_TILE);
    for (int i = 0; i < queries; i++) {
        const float *in =
            s->q + (size_t)(i / heads) * (size_t)a->q_stride + (size_t)(i % heads) * (size_t)a->head_dim;
        float *state = s->state + (size_t)i * stride;
        for (int c = 0; c < a->head_dim; c++)
            w->q[i * width + c] = in[c] * a->scale;
        memset(state, 0, stride * sizeof *state);
        state[width] = -INFINITY;
    }
}

void NAME(attend)(const struct attention_span *s)
{
    const struct attention_args *a = s->args;
    struct rows rows[2];
    struct span_work w;
    prepare(s, &w);
    int heads = a->n_heads / a->n_kv_heads, end = 0;
    for (int r = 0; r < s->rows; r++)
        end = s->position[r] >= end ? s->position[r] + 1 : end;
    end = end < s->last ? end : s->last;
    find(s, &w, s->first, end, &rows[0]);
    for (int start = s->first, i = 0; start < end; start += ATTENTION_TILE, i++) {
        w.now = &rows[i % 2];
        w.next = &rows[(i + 1) % 2];
        find(s, &w, start + ATTENTION_TILE, end, w.next);
        load_keys(a, &w);
        if (w.bytes) {
            load_scales(a->head_dim / BLOCK, w.now->key, w.now->n, w.k_scale);
            load_scales(a->head_dim / BLOCK, w.now->value, w.now->n, w.v_scale);
        }
        if (w.element == WIDE)
            widen_tile(a, &w);
        score_keys(a, &w);
        for (int q = 0; q < w.queries; q++) {
            int seen = s->position[q / heads] + 1 - start;
            soften(w.score + q * ATTENTION_TILE, seen < ATTENTION_TILE ? seen : ATTENTION_TILE, w.now->n,
                   s->state + (size_t)q * attention_stride(a), w.width);
            prefetch(&w, w.next->value, q, w.queries);
        }
        add_values(a, &w, s->state);
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
