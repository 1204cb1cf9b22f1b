/* Integer kernels for Arm with dot products. Panels are vectors of 4 rows by 4 columns, as packed. */
#include "dot_neon.h"

INLINE void store_values(const struct packing k, const uint8_t *p, int8_t *values)
{
    UNROLL
    for (int j = 0; j < 8; j++)
        UNROLL
        for (int v = 0; v < VECTORS; v++)
            vst1q_s8(values + (j * VECTORS + v) * 16, signed_values(k, p, j, v));
}

/* Half a tile, whose sums stay in registers over all blocks. */
INLINE void half_tile(const struct packing k, const int T, const int h, const struct dot *a)
{
    enum { V = VECTORS / 2 };
    const int groups = 8 / k.subs;
    float32x4_t f[ROWS * V], d[V], m[V];
    UNROLL
    for (int i = 0; i < T * V; i++)
        f[i] = a->first ? vdupq_n_f32(0) : vld1q_f32(a->sum + i / V * TILE + 8 * h + i % V * 4);
    const int8_t *values = (const int8_t *)a->weights + 32 * h;
    const float *scale = a->scale + 8 * h, *minimum = a->minimum + 8 * h;
    const uint8_t *q = a->q;
    const uint32_t *extra = a->extra;
    for (int b = 0; b < a->blocks; b++) {
        UNROLL
        for (int i = 0; i < k.subs; i++) {
            int32x4_t acc[ROWS][VECTORS];
            UNROLL
            for (int t = 0; t < T; t++)
                UNROLL
                for (int v = 0; v < V; v++)
                    acc[t][v] = vdupq_n_s32(0);
            UNROLL
            for (int j = i * groups; j < (i + 1) * groups; j++) {
                int8x16_t w[V];
                UNROLL
                for (int v = 0; v < V; v++)
                    w[v] = vld1q_s8(values + 64 * j + 16 * v);
                dot_group(T, V, j, q, w, acc);
            }
            UNROLL
            for (int v = 0; v < V; v++) {
                d[v] = vld1q_f32(scale + TILE * i + 4 * v);
                if (k.minimum)
                    m[v] = vld1q_f32(minimum + TILE * i + 4 * v);
            }
            add_rows(k, T, V, i, q, extra, acc, d, m, V, f);
        }
        values += 32 * TILE;
        scale += TILE * k.subs;
        minimum += TILE * k.subs;
        q += ACTIVATION_BYTES * T;
        extra += extra_words(&k) * T;
    }
    UNROLL
    for (int i = 0; i < T * V; i++)
        vst1q_f32(a->sum + i / V * TILE + 8 * h + i % V * 4, f[i]);
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
    .panels = ROWS + 1, .direct = ROWS, .group = ROWS, .tiles = 1, .panel_block = 32 * TILE, .run = 4, .wide = false,
    .direct_tile = direct_tile, .unpack = unpack, .panel_tiles = panel_tiles,
};
