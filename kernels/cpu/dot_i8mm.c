/* Integer kernels for Arm with int8 matrix instructions, which multiply two rows of activations by
 * two of weights over 8 columns. Only panels are laid out for that: [4][8 row pairs][2][8 columns].
 * Few rows use dot products, and all sums have the same bits as theirs. */
#include "dot_neon.h"

#define PAIRS 4 /* of weight rows, in half a tile */

INLINE void store_values(const struct packing k, const uint8_t *p, int8_t *values)
{
    UNROLL
    for (int g = 0; g < 4; g++)
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            int32x4_t even = vreinterpretq_s32_s8(signed_values(k, p, 2 * g, v)),
                      odd = vreinterpretq_s32_s8(signed_values(k, p, 2 * g + 1, v));
            int8_t *out = values + (g * VECTORS + v) * 32;
            vst1q_s8(out, vreinterpretq_s8_s32(vzip1q_s32(even, odd)));
            vst1q_s8(out + 16, vreinterpretq_s8_s32(vzip2q_s32(even, odd)));
        }
}

/* Two floats of each of two rows; of the last of an odd number the same twice. */
INLINE float32x4_t load_sums(const float *p, bool odd)
{
    return vcombine_f32(vld1_f32(p), vld1_f32(odd ? p : p + TILE));
}

INLINE void store_sums(float *p, bool odd, float32x4_t f)
{
    vst1_f32(p, vget_low_f32(f));
    if (!odd)
        vst1_f32(p + TILE, vget_high_f32(f));
}

/* Two rows' scales or sums, each for two weights. */
INLINE float32x4_t each_twice(const void *p, bool odd)
{
    if (odd)
        return vdupq_n_f32(load_float(p));
    float32x2_t two;
    memcpy(&two, p, sizeof two);
    float32x4_t both = vcombine_f32(two, two);
    return vzip1q_f32(both, both);
}

/* Two weights' scales or minima, for two rows. */
INLINE float32x4_t both_twice(const float *p)
{
    float32x2_t two = vld1_f32(p);
    return vcombine_f32(two, two);
}

INLINE int8x16_t load_rows(const uint8_t *q, bool odd)
{
    if (!odd)
        return vreinterpretq_s8_u8(vld1q_u8(q));
    int8x8_t one = vreinterpret_s8_u8(vld1_u8(q));
    return vcombine_s8(one, one);
}

/* Half a tile, whose sums stay in registers over all blocks. */
INLINE void half_tile(const struct packing k, const int T, const int h, const struct dot *a)
{
    const int R = (T + 1) / 2, groups = 4 / k.subs; /* pairs of rows */
    float32x4_t f[ROWS / 2][PAIRS];
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int w = 0; w < PAIRS; w++)
            f[r][w] = a->first ? vdupq_n_f32(0)
                               : load_sums(a->sum + 2 * r * TILE + 8 * h + 2 * w, 2 * r + 1 == T);
    const int8_t *values = (const int8_t *)a->weights + 16 * PAIRS * h;
    const float *scale = a->scale + 8 * h, *minimum = a->minimum + 8 * h;
    const uint8_t *q = a->q;
    const uint32_t *extra = a->extra;
    for (int b = 0; b < a->blocks; b++) {
        UNROLL
        for (int i = 0; i < k.subs; i++) {
            int32x4_t acc[ROWS / 2][PAIRS];
            UNROLL
            for (int r = 0; r < R; r++)
                UNROLL
                for (int w = 0; w < PAIRS; w++)
                    acc[r][w] = vdupq_n_s32(0);
            UNROLL
            for (int g = i * groups; g < (i + 1) * groups; g++)
                UNROLL
                for (int r = 0; r < R; r++) {
                    int8x16_t rows = load_rows(q + (g * T + 2 * r) * 8, 2 * r + 1 == T);
                    UNROLL
                    for (int w = 0; w < PAIRS; w++)
                        acc[r][w] = vmmlaq_s32(acc[r][w], rows, vld1q_s8(values + 128 * g + 16 * w));
                }
            UNROLL
            for (int r = 0; r < R; r++) {
                bool odd = 2 * r + 1 == T;
                float32x4_t by = each_twice(q + 32 * T + 8 * r, odd),
                            sum = k.minimum ? each_twice(extra + (k.subs + i) * T + 2 * r, odd) : by;
                UNROLL
                for (int w = 0; w < PAIRS; w++)
                    f[r][w] = add_block(k, f[r][w], acc[r][w], both_twice(scale + TILE * i + 2 * w),
                                        k.minimum ? both_twice(minimum + TILE * i + 2 * w) : by, by, sum);
            }
        }
        values += 32 * TILE;
        scale += TILE * k.subs;
        minimum += TILE * k.subs;
        q += ACTIVATION_BYTES * T;
        extra += extra_words(&k) * T;
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int w = 0; w < PAIRS; w++)
            store_sums(a->sum + 2 * r * TILE + 8 * h + 2 * w, 2 * r + 1 == T, f[r][w]);
}

INLINE void dot_unpacked(const struct packing k, const int T, const int N, const struct dot *a)
{
    (void)N;
    for (int h = 0; h < 2; h++)
        half_tile(k, T, h, a);
}

#define DIRECT_ROWS(X, ...) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) X(4, __VA_ARGS__)
#define PANEL_SHAPES(X, ...) \
    X(1, 1, __VA_ARGS__) X(2, 1, __VA_ARGS__) X(3, 1, __VA_ARGS__) X(4, 1, __VA_ARGS__)
#include "dot_tables.h"

const struct dot_kernels NAME(dot_kernels) = {
    .panels = ROWS + 1, .direct = ROWS, .group = ROWS, .tiles = 1, .panel_block = 32 * TILE, .run = 8, .wide = false,
    .direct_tile = direct_tile, .unpack = unpack, .panel_tiles = panel_tiles,
};
