/* Integer kernels for AVX-512 VNNI: a vector is 16 weight rows by 4 columns.
 *
 * Accumulators start at -offset * (sum of the activations), so that unsigned weights act as signed
 * ones. The order of float operations of an output is the same in every kernel here: results do
 * not depend on how many rows are computed together. */
#include "dot_avx512.h"

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
            prefetch_block(k, p, T);
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
    unpack_panel(k, 0, p, blocks, out);
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
    .panels = 33, .direct = 8, .group = 6, .tiles = 2, .panel_block = 512, .run = 4, .wide = false,
    .direct_tile = direct_tile, .unpack = unpack, .panel_tiles = panel_tiles,
};
