/* What the Arm kernels share: how packed tiles become vectors of 4 weight rows by 4 columns, the
 * kernels that read them directly, and the frame of unpacking. Included by one source per
 * instruction set, which defines store_values.
 *
 * Direct kernels leave weights of up to 6 bits unsigned and start at -offset * (sum of the
 * activations); in panels, and with 8 bits, all values are signed. The order of float operations
 * of an output is the same in every kernel: those of add_block, block by block. */
#ifndef HEARTH_CPU_DOT_NEON_H
#define HEARTH_CPU_DOT_NEON_H

#include <arm_neon.h>

#include "dot.h"

#define VECTORS 4 /* of 4 rows, in a tile */
#define ROWS 4    /* of one kernel call, at most */

INLINE uint8x16_t shift_left(uint8x16_t v, const int by)
{
    return by >= 0 ? v << (uint8_t)by : v >> (uint8_t)-by;
}

/* Bits of `mask` from a, the others from b. */
INLINE uint8x16_t merge(const int mask, uint8x16_t a, uint8x16_t b)
{
    return vbslq_u8(vdupq_n_u8((uint8_t)mask), a, b);
}

/* Group j of 4 columns, rows 4v to 4v + 3, of a packed block. */
INLINE int8x16_t group_values(const struct packing k, const uint8_t *p, const int j, const int v)
{
    p += 16 * v;
    if (k.bits == 8)
        return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p + 64 * j), vdupq_n_u8(128)));
    uint8x16_t w = vdupq_n_u8(0);
    int shift = 0;
    if (k.bits >= 4) {
        w = vld1q_u8(p + 64 * (j % 4));
        w = j < 4 ? w : shift_left(w, -4);
        p += 256;
        shift = 4;
    }
    if (k.bits == 6 || k.bits < 4) {
        uint8x16_t two = shift_left(vld1q_u8(p + 64 * (j / 4)), shift - 2 * (j % 4));
        w = shift ? merge(3 << shift, two, w) : two;
        p += 128;
        shift += 2;
    }
    if (k.bits & 1)
        w = merge(1 << shift, shift_left(vld1q_u8(p), shift - j), w);
    if (k.bits != 4 || j < 4) /* otherwise nothing stands above */
        w = vandq_u8(w, vdupq_n_u8((uint8_t)((1 << k.bits) - 1)));
    if (k.table)
        w = veorq_u8(vqtbl1q_u8(vld1q_u8(iq4_table), w), vdupq_n_u8(128));
    return vreinterpretq_s8_u8(w);
}

/* Eight f16, or 8-bit integers, as floats. */
INLINE void floats_of_f16(const uint8_t *p, float32x4_t *f)
{
    float16x8_t half = vreinterpretq_f16_u8(vld1q_u8(p));
    f[0] = vcvt_f32_f16(vget_low_f16(half));
    f[1] = vcvt_high_f32_f16(half);
}

INLINE void floats_of_8(int8x8_t bytes, float32x4_t *f)
{
    int16x8_t wide = vmovl_s8(bytes);
    f[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
    f[1] = vcvtq_f32_s32(vmovl_high_s16(wide));
}

/* Scales (and minima) of sub-block i, rows 8h to 8h + 7: p points behind the block's values. */
INLINE void scales(const struct packing k, const int h, const int i, const uint8_t *header, const uint8_t *p,
                   float32x4_t *d, float32x4_t *m)
{
    if (k.super == 1) {
        floats_of_f16(p + 16 * h, d);
        if (k.minimum)
            floats_of_f16(p + 32 + 16 * h, m);
    } else {
        float32x4_t factor[2];
        uint8x8_t first = vld1_u8(p + TILE * i + 8 * h);
        floats_of_8(vreinterpret_s8_u8(k.bits == 2 ? vand_u8(first, vdup_n_u8(15)) : first), d);
        floats_of_f16(header + 16 * h, factor);
        UNROLL
        for (int v = 0; v < 2; v++)
            d[v] = vmulq_f32(factor[v], d[v]);
        if (k.minimum) {
            uint8x8_t second = k.bits == 2 ? vshr_n_u8(first, 4) : vld1_u8(p + TILE * (k.subs + i) + 8 * h);
            floats_of_8(vreinterpret_s8_u8(second), m);
            floats_of_f16(header + 2 * TILE + 16 * h, factor);
            UNROLL
            for (int v = 0; v < 2; v++)
                m[v] = vmulq_f32(factor[v], m[v]);
        }
    }
    if (k.minimum && k.offset)
        UNROLL
        for (int v = 0; v < 2; v++)
            m[v] = vfmaq_n_f32(m[v], d[v], (float)k.offset);
}

INLINE float load_float(const void *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

/* What a sub-block adds to four outputs. */
INLINE float32x4_t add_block(const struct packing k, float32x4_t f, int32x4_t acc, float32x4_t d,
                             float32x4_t m, float32x4_t scale, float32x4_t sum)
{
    f = vfmaq_f32(f, vmulq_f32(vcvtq_f32_s32(acc), d), scale);
    return k.minimum ? vfmaq_f32(f, m, sum) : f;
}

INLINE int32x4_t dot_lane(int32x4_t acc, int8x16_t w, int8x16_t a, const int lane)
{
    switch (lane) {
    case 0: return vdotq_laneq_s32(acc, w, a, 0);
    case 1: return vdotq_laneq_s32(acc, w, a, 1);
    case 2: return vdotq_laneq_s32(acc, w, a, 2);
    default: return vdotq_laneq_s32(acc, w, a, 3);
    }
}

/* Columns of group j, T rows times V vectors of weights. A load brings four rows or groups. */
INLINE void dot_group(const int T, const int V, const int j, const uint8_t *q, const int8x16_t *w,
                      int32x4_t (*acc)[VECTORS])
{
    UNROLL
    for (int t = 0; t < T; t++) {
        const int at = j * T + t;
        int8x16_t a = vreinterpretq_s8_u8(vld1q_u8(q + at / 4 * 16));
        UNROLL
        for (int v = 0; v < V; v++)
            acc[t][v] = dot_lane(acc[t][v], w[v], a, at % 4);
    }
}

/* The end of sub-block i: f is [T][of] vectors, of which V are added to. */
INLINE void add_rows(const struct packing k, const int T, const int V, const int i, const uint8_t *q,
                     const uint32_t *extra, int32x4_t (*acc)[VECTORS], const float32x4_t *d,
                     const float32x4_t *m, const int of, float32x4_t *f)
{
    UNROLL
    for (int t = 0; t < T; t++) {
        float32x4_t scale = vdupq_n_f32(load_float(q + 32 * T + 4 * t)),
                    sum = k.minimum ? vdupq_n_f32(load_float(extra + (k.subs + i) * T + t)) : scale;
        UNROLL
        for (int v = 0; v < V; v++)
            f[t * of + v] = add_block(k, f[t * of + v], acc[t][v], d[v], m[v], scale, sum);
    }
}

/* One block; with more than two rows the accumulators of half a tile are what registers hold. */
INLINE void packed_block(const struct packing k, const int T, const uint8_t *header, const uint8_t *p,
                         const uint8_t *q, const uint32_t *extra, float32x4_t *f)
{
    const int V = T <= 2 ? VECTORS : VECTORS / 2, groups = 8 / k.subs;
    UNROLL
    for (int i = 0; i < k.subs; i++)
        UNROLL
        for (int first = 0; first < VECTORS; first += V) {
            int32x4_t acc[ROWS][VECTORS];
            float32x4_t d[VECTORS], m[VECTORS];
            UNROLL
            for (int t = 0; t < T; t++)
                UNROLL
                for (int v = 0; v < V; v++)
                    acc[t][v] = vdupq_n_s32(k.offset && !is_byte_wide(&k) ? (int32_t)extra[i * T + t] : 0);
            UNROLL
            for (int n = 0; n < groups; n++) { /* of a byte's two nibbles one after the other */
                const int j = k.subs == 1 ? n / 2 + n % 2 * 4 : i * groups + n;
                int8x16_t w[VECTORS];
                UNROLL
                for (int v = 0; v < V; v++)
                    w[v] = group_values(k, p, j, first + v);
                dot_group(T, V, j, q, w, acc);
            }
            UNROLL
            for (int v = 0; v < V; v += 2)
                scales(k, (first + v) / 2, i, header, p + 64 * k.bits, d + v, m + v);
            add_rows(k, T, V, i, q, extra, acc, d, m, VECTORS, f + first);
        }
}

INLINE void dot_packed(const struct packing k, const int T, const struct dot *a)
{
    float32x4_t f[ROWS * VECTORS];
    UNROLL
    for (int i = 0; i < T * VECTORS; i++)
        f[i] = a->first ? vdupq_n_f32(0) : vld1q_f32(a->sum + 4 * i);
    const uint8_t *p = a->weights, *q = a->q;
    const uint32_t *extra = a->extra;
    for (int b = 0; b < a->blocks; b += k.super) {
        const uint8_t *header = p;
        p += dot_header_bytes(k);
        for (int s = 0; s < k.super; s++) {
            UNROLL
            for (int c = 0; c < dot_block_bytes(k); c += 64)
                __builtin_prefetch(p + PREFETCH + c);
            packed_block(k, T, header, p, q, extra, f);
            p += dot_block_bytes(k);
            q += ACTIVATION_BYTES * T;
            extra += extra_words(&k) * T;
        }
    }
    UNROLL
    for (int i = 0; i < T * VECTORS; i++)
        vst1q_f32(a->sum + 4 * i, f[i]);
}

/* A group's values as panels have them. */
INLINE int8x16_t signed_values(const struct packing k, const uint8_t *p, const int j, const int v)
{
    int8x16_t w = group_values(k, p, j, v);
    return k.offset && !is_byte_wide(&k) ? vsubq_s8(w, vdupq_n_s8((int8_t)k.offset)) : w;
}

/* Lays a block's 512 values out for the panel kernels. */
INLINE void store_values(const struct packing, const uint8_t *p, int8_t *values);

INLINE void unpack_blocks(const struct packing k, const uint8_t *p, int blocks, const struct panel *out)
{
    int8_t *values = (int8_t *)out->values;
    float *scale = out->scale, *minimum = out->minimum;
    for (int b = 0; b < blocks; b += k.super) {
        const uint8_t *header = p;
        p += dot_header_bytes(k);
        for (int s = 0; s < k.super; s++) {
            UNROLL
            for (int c = 0; c < dot_block_bytes(k); c += 64)
                __builtin_prefetch(p + PREFETCH + c);
            store_values(k, p, values);
            UNROLL
            for (int i = 0; i < k.subs * 2; i++) {
                float32x4_t d[2], m[2];
                scales(k, i % 2, i / 2, header, p + 64 * k.bits, d, m);
                UNROLL
                for (int v = 0; v < 2; v++) {
                    vst1q_f32(scale + 8 * i + 4 * v, d[v]);
                    if (k.minimum)
                        vst1q_f32(minimum + 8 * i + 4 * v, m[v]);
                }
            }
            values += 32 * TILE;
            scale += TILE * k.subs;
            minimum += TILE * k.subs;
            p += dot_block_bytes(k);
        }
    }
}

#endif
