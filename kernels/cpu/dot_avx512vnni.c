/* Integer kernels for AVX-512 VNNI: a vector is 16 weight rows by 4 columns.
 *
 * Accumulators start at -offset * (sum of the activations), so that unsigned weights act as signed
 * ones. The order of float operations of an output is the same in every kernel here: results do
 * not depend on how many rows are computed together. */
#include <immintrin.h>

#include "dot.h"

/* Keeps the compiler from mixing the chains of products, which costs it registers. */
#define IN_ORDER(acc) __asm__ volatile("" : "+v"(acc))

INLINE __m512i shift_left(__m512i v, int by)
{
    return by >= 0 ? _mm512_slli_epi16(v, (unsigned)by) : _mm512_srli_epi16(v, (unsigned)-by);
}

INLINE __m512i load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

/* The 8 groups of 4 columns of a packed block. */
INLINE void block_values(const struct packing k, const uint8_t *p, __m512i w[8])
{
    if (k.bits == 8) {
        for (int j = 0; j < 8; j++)
            w[j] = load(p + 64 * j);
        return;
    }
    int shift = 0;
    if (k.bits >= 4) {
        const __m512i nibble = _mm512_set1_epi8(15);
        for (int j = 0; j < 4; j++) {
            __m512i v = load(p + 64 * j);
            w[j] = _mm512_and_si512(v, nibble);
            w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble);
        }
        p += 256;
        shift = 4;
    } else {
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_setzero_si512();
    }
    if (k.bits == 6 || k.bits < 4) {
        const __m512i mask = _mm512_set1_epi8((char)(3 << shift));
        for (int c = 0; c < 2; c++) {
            __m512i v = load(p + 64 * c);
            for (int i = 0; i < 4; i++) /* w | (v shifted & mask) */
                w[4 * c + i] =
                    _mm512_ternarylogic_epi32(w[4 * c + i], shift_left(v, shift - 2 * i), mask, 0xf8);
        }
        p += 128;
        shift += 2;
    }
    if (k.bits & 1) {
        const __m512i mask = _mm512_set1_epi8((char)(1 << shift));
        __m512i v = load(p);
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_ternarylogic_epi32(w[j], shift_left(v, shift - j), mask, 0xf8);
    }
    if (k.table) {
        const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)iq4_table));
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_shuffle_epi8(table, w[j]);
    }
}

INLINE __m512 load_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE __m512 from_i8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* Scales (and minima) of a block: p points behind its values, header at the super-block. */
INLINE void block_scales(const struct packing k, const uint8_t *header, const uint8_t *p, __m512 *d,
                         __m512 *m)
{
    for (int i = 0; i < k.subs; i++) {
        if (k.super == 1) {
            d[i] = load_f16(p);
            if (k.minimum)
                m[i] = load_f16(p + 32);
        } else if (k.bits == 2) {
            __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p + 16 * i)));
            d[i] = _mm512_mul_ps(load_f16(header),
                                 _mm512_cvtepi32_ps(_mm512_and_si512(both, _mm512_set1_epi32(15))));
            m[i] = _mm512_mul_ps(load_f16(header + 32), _mm512_cvtepi32_ps(_mm512_srli_epi32(both, 4)));
        } else {
            d[i] = _mm512_mul_ps(load_f16(header), from_i8(p + 16 * i));
            if (k.minimum)
                m[i] = _mm512_mul_ps(load_f16(header + 32), from_i8(p + 16 * (k.subs + i)));
        }
        if (k.minimum && k.offset)
            m[i] = _mm512_fmadd_ps(d[i], _mm512_set1_ps((float)k.offset), m[i]);
    }
}

/* Adds sub-block i of N tiles and T rows to f: the 8 groups w[n], scales d[n], minima m[n]. */
INLINE void sub_dot(const struct packing k, const int T, const int N, const int i, const __m512i *const *w,
                    const __m512 *const *d, const __m512 *const *m, const uint8_t *q, const uint32_t *extra,
                    __m512 *f)
{
    const int first = i * 8 / k.subs, last = first + 8 / k.subs;
    __m512i acc[2 * GROUP_MAX];
    UNROLL
    for (int t = 0; t < N * T; t++)
        acc[t] = _mm512_set1_epi32((int)extra[i * T + t % T]);
    UNROLL
    for (int j = first; j < last; j++)
        UNROLL
        for (int t = 0; t < T; t++) {
            __m512i a = _mm512_set1_epi32(load_word(q + (j * T + t) * 4));
            UNROLL
            for (int n = 0; n < N; n++) {
                acc[n * T + t] = _mm512_dpbusd_epi32(acc[n * T + t], w[n][j], a);
                IN_ORDER(acc[n * T + t]);
            }
        }
    UNROLL
    for (int t = 0; t < T; t++) {
        __m512 scale = _mm512_castsi512_ps(_mm512_set1_epi32(load_word(q + 32 * T + 4 * t)));
        UNROLL
        for (int n = 0; n < N; n++) {
            __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[n * T + t]), d[n][i]);
            f[n * T + t] = _mm512_fmadd_ps(scaled, scale, f[n * T + t]);
        }
        if (!k.minimum)
            continue;
        __m512 sum = _mm512_castsi512_ps(_mm512_set1_epi32((int)extra[(k.subs + i) * T + t]));
        UNROLL
        for (int n = 0; n < N; n++)
            f[n * T + t] = _mm512_fmadd_ps(m[n][i], sum, f[n * T + t]);
    }
}

INLINE void dot_packed(const struct packing k, const int T, const struct dot *a)
{
    __m512 f[GROUP_MAX], d[2], m[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    __m512i w[8];
    UNROLL
    for (int t = 0; t < T; t++)
        f[t] = a->first ? _mm512_setzero_ps() : _mm512_loadu_ps(a->sum + 16 * t);
    const uint8_t *p = a->weights, *q = a->q;
    const uint32_t *extra = a->extra;
    for (int b = 0; b < a->blocks; b += k.super) {
        const uint8_t *header = p;
        p += dot_header_bytes(k);
        for (int i = 0; i < k.super; i++) {
            UNROLL
            for (int c = 0; c < dot_block_bytes(k); c += 64)
                _mm_prefetch((const char *)p + PREFETCH + c, _MM_HINT_T0);
            block_values(k, p, w);
            block_scales(k, header, p + 64 * k.bits, d, m);
            UNROLL
            for (int n = 0; n < k.subs; n++)
                sub_dot(k, T, 1, n, (const __m512i *const[]){w}, (const __m512 *const[]){d},
                        (const __m512 *const[]){m}, q, extra, f);
            p += dot_block_bytes(k);
            q += ACTIVATION_BYTES * T;
            extra += extra_words(&k) * T;
        }
    }
    UNROLL
    for (int t = 0; t < T; t++)
        _mm512_storeu_ps(a->sum + 16 * t, f[t]);
}

INLINE void dot_unpacked(const struct packing k, const int T, const int N, const struct dot *a)
{
    __m512 f[2 * GROUP_MAX];
    UNROLL
    for (int t = 0; t < N * T; t++)
        f[t] = a->first ? _mm512_setzero_ps() : _mm512_loadu_ps(a->sum + 16 * t);
    const uint8_t *p = a->weights, *q = a->q;
    const uint32_t *extra = a->extra;
    for (int b = 0; b < a->blocks; b++) {
        const __m512i *w[2];
        const __m512 *d[2], *m[2];
        UNROLL
        for (int n = 0; n < N; n++) {
            size_t floats = (size_t)n * a->next_floats + (size_t)(16 * k.subs * b);
            w[n] = (const __m512i *)(const void *)(p + (size_t)n * a->next_values);
            d[n] = (const __m512 *)(const void *)(a->scale + floats);
            m[n] = (const __m512 *)(const void *)(a->minimum + floats);
        }
        UNROLL
        for (int i = 0; i < k.subs; i++)
            sub_dot(k, T, N, i, w, d, m, q, extra, f);
        p += 512;
        q += ACTIVATION_BYTES * T;
        extra += extra_words(&k) * T;
    }
    UNROLL
    for (int t = 0; t < N * T; t++)
        _mm512_storeu_ps(a->sum + 16 * t, f[t]);
}

INLINE void unpack_blocks(const struct packing k, const uint8_t *p, int blocks, const struct panel *out)
{
    __m512i *values = (__m512i *)(void *)out->values;
    __m512 *scale = (__m512 *)(void *)out->scale, *minimum = (__m512 *)(void *)out->minimum, unused[2];
    for (int b = 0; b < blocks; b += k.super) {
        const uint8_t *header = p;
        p += dot_header_bytes(k);
        for (int i = 0; i < k.super; i++) {
            UNROLL
            for (int c = 0; c < dot_block_bytes(k); c += 64)
                _mm_prefetch((const char *)p + PREFETCH + c, _MM_HINT_T0);
            __m512i w[8];
            block_values(k, p, w);
            UNROLL
            for (int j = 0; j < 8; j++)
                values[j] = w[j];
            block_scales(k, header, p + 64 * k.bits, scale, k.minimum ? minimum : unused);
            values += 8;
            scale += k.subs;
            minimum += k.subs;
            p += dot_block_bytes(k);
        }
    }
}

#define DIRECT_ROWS(X, ...) \
    X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) X(4, __VA_ARGS__) \
    X(5, __VA_ARGS__) X(6, __VA_ARGS__) X(7, __VA_ARGS__) X(8, __VA_ARGS__)
#define PANEL_SHAPES(X, ...) \
    X(1, 1, __VA_ARGS__) X(2, 1, __VA_ARGS__) X(3, 1, __VA_ARGS__) \
    X(4, 1, __VA_ARGS__) X(5, 1, __VA_ARGS__) X(6, 1, __VA_ARGS__) \
    X(1, 2, __VA_ARGS__) X(2, 2, __VA_ARGS__) X(3, 2, __VA_ARGS__) \
    X(4, 2, __VA_ARGS__) X(5, 2, __VA_ARGS__) X(6, 2, __VA_ARGS__)
#include "dot_tables.h"

const struct dot_kernels NAME(dot_kernels) = {
    .direct = 8, .group = 6, .tiles = 2, .panel_block = 512, .run = 4, .wide = false,
    .direct_tile = direct_tile, .unpack = unpack, .panel_tiles = panel_tiles,
};
