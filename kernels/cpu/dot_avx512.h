/* What the AVX-512 kernels share: how packed tiles become vectors of 16 weight rows by 4 columns, and
 * panels of them. */
#ifndef HEARTH_CPU_DOT_AVX512_H
#define HEARTH_CPU_DOT_AVX512_H

#include <immintrin.h>

#include "dot.h"

/* Keeps the compiler from mixing chains of products, which costs it registers, and loads. */
#define IN_ORDER(acc) __asm__ volatile("" : "+v"(acc))

INLINE __m512i shift_left(__m512i v, int by)
{
    return by >= 0 ? _mm512_slli_epi16(v, (unsigned)by) : _mm512_srli_epi16(v, (unsigned)-by);
}

/* The lines of a packed block, read in ascending order whatever the compiler would make of it: out
 * of order the processor does not recognise a stream and fetches a third less ahead. */
INLINE void load_lines(const uint8_t *p, const int n, __m512i line[8])
{
    UNROLL
    for (int i = 0; i < n; i++) {
        line[i] = _mm512_loadu_si512(p + 64 * i);
        IN_ORDER(line[i]);
    }
}

/* The 8 groups of 4 columns of a packed block. */
INLINE void block_values(const struct packing k, const uint8_t *p, __m512i w[8])
{
    __m512i lines[8], *line = lines;
    load_lines(p, k.bits, lines);
    if (k.bits == 8) {
        memcpy(w, lines, sizeof lines);
        return;
    }
    int shift = 0;
    if (k.bits >= 4) {
        const __m512i nibble = _mm512_set1_epi8(15);
        for (int j = 0; j < 4; j++) {
            w[j] = _mm512_and_si512(line[j], nibble);
            w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(line[j], 4), nibble);
        }
        line += 4;
        shift = 4;
    } else {
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_setzero_si512();
    }
    if (k.bits == 6 || k.bits < 4) {
        const __m512i mask = _mm512_set1_epi8((char)(3 << shift));
        for (int j = 0; j < 8; j++) /* w | (line shifted & mask) */
            w[j] = _mm512_ternarylogic_epi32(w[j], shift_left(line[j / 4], shift - 2 * (j % 4)), mask, 0xf8);
        line += 2;
        shift += 2;
    }
    if (k.bits & 1) {
        const __m512i mask = _mm512_set1_epi8((char)(1 << shift));
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_ternarylogic_epi32(w[j], shift_left(line[0], shift - j), mask, 0xf8);
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

/* Few rows are done so fast that the processor's own prefetching is ahead of this. */
INLINE void prefetch_block(const struct packing k, const uint8_t *p, const int T)
{
    if (T <= 4)
        return;
    UNROLL
    for (int c = 0; c < dot_block_bytes(k); c += 64)
        _mm_prefetch((const char *)p + PREFETCH + c, _MM_HINT_T0);
}

/* Values become u - less. */
INLINE void unpack_panel(const struct packing k, const int less, const uint8_t *p, int blocks,
                         const struct panel *out)
{
    __m512i *values = (__m512i *)(void *)out->values;
    __m512 *scale = (__m512 *)(void *)out->scale, *minimum = (__m512 *)(void *)out->minimum, unused[2];
    for (int b = 0; b < blocks; b += k.super) {
        const uint8_t *header = p;
        p += dot_header_bytes(k);
        for (int i = 0; i < k.super; i++) {
            prefetch_block(k, p, GROUP_MAX);
            __m512i w[8];
            block_values(k, p, w);
            UNROLL
            for (int j = 0; j < 8; j++)
                values[j] = less ? _mm512_sub_epi8(w[j], _mm512_set1_epi8((char)less)) : w[j];
            block_scales(k, header, p + 64 * k.bits, scale, k.minimum ? minimum : unused);
            values += 8;
            scale += k.subs;
            minimum += k.subs;
            p += dot_block_bytes(k);
        }
    }
}

#endif
