/* Integer kernels for Arm with dot products: four vectors of 4 weight rows by 4 columns.
 *
 * Weights of up to 6 bits stay unsigned, accumulators start at -offset * (sum of the activations);
 * 8-bit ones become signed as they are unpacked. The order of float operations of an output is the
 * same in every kernel here. */
#include <arm_neon.h>

#include "dot.h"

#define VECTORS 4 /* of 4 rows, in a tile */

INLINE uint8x16_t shift_left(uint8x16_t v, int by)
{
    return vshlq_u8(v, vdupq_n_s8((int8_t)by));
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
        uint8x16_t both = vld1q_u8(p + 64 * (j % 4));
        w = j < 4 ? vandq_u8(both, vdupq_n_u8(15)) : vshrq_n_u8(both, 4);
        p += 256;
        shift = 4;
    }
    if (k.bits == 6 || k.bits < 4) {
        uint8x16_t two = shift_left(vld1q_u8(p + 64 * (j / 4)), shift - 2 * (j % 4));
        w = vorrq_u8(w, vandq_u8(two, vdupq_n_u8((uint8_t)(3 << shift))));
        p += 128;
        shift += 2;
    }
    if (k.bits & 1)
        w = vorrq_u8(w, vandq_u8(shift_left(vld1q_u8(p), shift - j), vdupq_n_u8((uint8_t)(1 << shift))));
    if (k.table)
        w = veorq_u8(vqtbl1q_u8(vld1q_u8(iq4_table), w), vdupq_n_u8(128));
    return vreinterpretq_s8_u8(w);
}

INLINE float32x4_t load_f16(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

INLINE float32x4_t load_8(const uint8_t *p, int mask, int shift)
{
    int32_t lane[4];
    for (int i = 0; i < 4; i++)
        lane[i] = mask == 255 ? (int8_t)p[i] : p[i] >> shift & mask;
    return vcvtq_f32_s32(vld1q_s32(lane));
}

/* Scale (and minimum) of sub-block i, rows 4v to 4v + 3: p points behind the block's values. */
INLINE void scales(const struct packing k, const int v, const int i, const uint8_t *header, const uint8_t *p,
                   float32x4_t *d, float32x4_t *m)
{
    if (k.super == 1) {
        *d = load_f16(p + 8 * v);
        if (k.minimum)
            *m = load_f16(p + 32 + 8 * v);
    } else if (k.bits == 2) {
        *d = vmulq_f32(load_f16(header + 8 * v), load_8(p + 16 * i + 4 * v, 15, 0));
        *m = vmulq_f32(load_f16(header + 32 + 8 * v), load_8(p + 16 * i + 4 * v, 15, 4));
    } else {
        *d = vmulq_f32(load_f16(header + 8 * v), load_8(p + 16 * i + 4 * v, 255, 0));
        if (k.minimum)
            *m = vmulq_f32(load_f16(header + 32 + 8 * v), load_8(p + 16 * (k.subs + i) + 4 * v, 255, 0));
    }
    if (k.minimum && k.offset)
        *m = vfmaq_n_f32(*m, *d, (float)k.offset);
}

INLINE float load_float(const void *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

/* Sub-block i for T rows; w holds its groups, four vectors each. */
INLINE void sub_dot(const struct packing k, const int T, const int i, const int8x16_t *w,
                    const float32x4_t *d, const float32x4_t *m, const uint8_t *q, const uint32_t *extra,
                    float32x4_t *f)
{
    int32x4_t acc[4][VECTORS];
    const int groups = 8 / k.subs;
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
        for (int v = 0; v < VECTORS; v++)
            acc[t][v] = vdupq_n_s32((int32_t)extra[i * T + t]);
    UNROLL
    for (int j = 0; j < groups; j++)
        UNROLL
        for (int t = 0; t < T; t++) {
            int8x16_t a = vreinterpretq_s8_s32(vdupq_n_s32(load_word(q + ((i * groups + j) * T + t) * 4)));
            UNROLL
            for (int v = 0; v < VECTORS; v++)
                acc[t][v] = vdotq_s32(acc[t][v], w[j * VECTORS + v], a);
        }
    UNROLL
    for (int t = 0; t < T; t++) {
        float scale = load_float(q + 32 * T + 4 * t),
              sum = k.minimum ? load_float(extra + (k.subs + i) * T + t) : 0;
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            float32x4_t scaled = vmulq_f32(vcvtq_f32_s32(acc[t][v]), d[v]);
            f[t * VECTORS + v] = vfmaq_n_f32(f[t * VECTORS + v], scaled, scale);
            if (k.minimum)
                f[t * VECTORS + v] = vfmaq_n_f32(f[t * VECTORS + v], m[v], sum);
        }
    }
}

INLINE void dot_packed(const struct packing k, const int T, const struct dot *a)
{
    float32x4_t f[4 * VECTORS], d[VECTORS], m[VECTORS];
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
            UNROLL
            for (int i = 0; i < k.subs; i++) {
                int8x16_t w[8 * VECTORS];
                UNROLL
                for (int j = 0; j < 8 / k.subs; j++)
                    UNROLL
                    for (int v = 0; v < VECTORS; v++)
                        w[j * VECTORS + v] = group_values(k, p, i * 8 / k.subs + j, v);
                UNROLL
                for (int v = 0; v < VECTORS; v++)
                    scales(k, v, i, header, p + 64 * k.bits, &d[v], &m[v]);
                sub_dot(k, T, i, w, d, m, q, extra, f);
            }
            p += dot_block_bytes(k);
            q += ACTIVATION_BYTES * T;
            extra += extra_words(&k) * T;
        }
    }
    UNROLL
    for (int i = 0; i < T * VECTORS; i++)
        vst1q_f32(a->sum + 4 * i, f[i]);
}

INLINE void dot_unpacked(const struct packing k, const int T, const int N, const struct dot *a)
{
    (void)N;
    float32x4_t f[4 * VECTORS], d[VECTORS], m[VECTORS];
    UNROLL
    for (int i = 0; i < T * VECTORS; i++)
        f[i] = a->first ? vdupq_n_f32(0) : vld1q_f32(a->sum + 4 * i);
    for (int b = 0; b < a->blocks; b++)
        UNROLL
        for (int i = 0; i < k.subs; i++) {
            const int at = (b * k.subs + i) * TILE;
            UNROLL
            for (int v = 0; v < VECTORS; v++) {
                d[v] = vld1q_f32(a->scale + at + 4 * v);
                if (k.minimum)
                    m[v] = vld1q_f32(a->minimum + at + 4 * v);
            }
            const int8x16_t *w =
                (const int8x16_t *)(const void *)(a->weights + 512 * b) + i * 8 / k.subs * VECTORS;
            sub_dot(k, T, i, w, d, m, a->q + b * ACTIVATION_BYTES * T, a->extra + b * extra_words(&k) * T, f);
        }
    UNROLL
    for (int i = 0; i < T * VECTORS; i++)
        vst1q_f32(a->sum + 4 * i, f[i]);
}

INLINE void unpack_blocks(const struct packing k, const uint8_t *p, int blocks, const struct panel *out)
{
    int8_t *values = (int8_t *)out->values;
    float *scale = out->scale, *minimum = out->minimum;
    for (int b = 0; b < blocks; b += k.super) {
        const uint8_t *header = p;
        p += dot_header_bytes(k);
        for (int s = 0; s < k.super; s++) {
            UNROLL
            for (int j = 0; j < 8; j++)
                UNROLL
                for (int v = 0; v < VECTORS; v++)
                    vst1q_s8(values + (j * VECTORS + v) * 16, group_values(k, p, j, v));
            for (int i = 0; i < k.subs * VECTORS; i++) {
                float32x4_t d, m = vdupq_n_f32(0);
                scales(k, i % VECTORS, i / VECTORS, header, p + 64 * k.bits, &d, &m);
                vst1q_f32(scale + 4 * i, d);
                if (k.minimum)
                    vst1q_f32(minimum + 4 * i, m);
            }
            values += 512;
            scale += TILE * k.subs;
            minimum += TILE * k.subs;
            p += dot_block_bytes(k);
        }
    }
}

#define DIRECT_ROWS(X, ...) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) X(4, __VA_ARGS__)
#define PANEL_SHAPES(X, ...) \
    X(1, 1, __VA_ARGS__) X(2, 1, __VA_ARGS__) X(3, 1, __VA_ARGS__) X(4, 1, __VA_ARGS__)
#include "dot_tables.h"

const struct dot_kernels NAME(dot_kernels) = {
    .direct = 4, .group = 4, .tiles = 1, .panel_block = 512, .run = 4, .wide = false,
    .direct_tile = direct_tile, .unpack = unpack, .panel_tiles = panel_tiles,
};
