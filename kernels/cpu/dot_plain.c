/* Integer kernels in portable C: the same layouts and the same order of operations, loops over
 * the 16 rows of a tile that compilers can vectorise. */
#include "dot.h"

/* The 8 groups of 4 columns of a packed block. */
INLINE void block_values(const struct packing k, const uint8_t *p, uint8_t w[8][64])
{
    if (k.bits == 8) {
        memcpy(w, p, 512);
        return;
    }
    int shift = 0;
    memset(w, 0, 512);
    if (k.bits >= 4) {
        for (int j = 0; j < 4; j++)
            for (int i = 0; i < 64; i++) {
                w[j][i] = p[64 * j + i] & 15;
                w[j + 4][i] = p[64 * j + i] >> 4;
            }
        p += 256;
        shift = 4;
    }
    if (k.bits == 6 || k.bits < 4) {
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < 64; i++)
                w[j][i] |= (uint8_t)((p[j / 4 * 64 + i] >> 2 * (j % 4) & 3) << shift);
        p += 128;
        shift += 2;
    }
    if (k.bits & 1)
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < 64; i++)
                w[j][i] |= (uint8_t)((p[i] >> j & 1) << shift);
    if (k.table)
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < 64; i++)
                w[j][i] = iq4_table[w[j][i]];
}

INLINE float half(const uint8_t *p, int row)
{
    uint16_t h;
    memcpy(&h, p + 2 * row, 2);
    return f16_to_f32(h);
}

/* Scales (and minima) of a block: p points behind its values, header at the super-block. */
INLINE void block_scales(const struct packing k, const uint8_t *header, const uint8_t *p, float *d, float *m)
{
    for (int i = 0; i < k.subs; i++)
        for (int r = 0; r < TILE; r++) {
            float scale, least = 0;
            if (k.super == 1) {
                scale = half(p, r);
                if (k.minimum)
                    least = half(p + 2 * TILE, r);
            } else if (k.bits == 2) {
                scale = half(header, r) * (float)(p[i * TILE + r] & 15);
                least = half(header + 2 * TILE, r) * (float)(p[i * TILE + r] >> 4);
            } else {
                scale = half(header, r) * (float)(int8_t)p[i * TILE + r];
                if (k.minimum)
                    least = half(header + 2 * TILE, r) * (float)p[(k.subs + i) * TILE + r];
            }
            d[i * TILE + r] = scale;
            if (k.minimum)
                m[i * TILE + r] = least + scale * (float)k.offset;
        }
}

INLINE void block_dot(const struct packing k, const int T, const uint8_t *w, const float *d, const float *m,
                      const uint8_t *q, const uint32_t *extra, float *sum)
{
    for (int t = 0; t < T; t++)
        for (int i = 0; i < k.subs; i++) {
            float scale, total;
            int32_t acc[TILE];
            memcpy(&scale, q + 32 * T + 4 * t, 4);
            for (int r = 0; r < TILE; r++)
                acc[r] = (int32_t)extra[i * T + t];
            for (int j = i * 8 / k.subs; j < (i + 1) * 8 / k.subs; j++) {
                const int8_t *a = (const int8_t *)q + (j * T + t) * 4;
                for (int r = 0; r < TILE; r++) {
                    const uint8_t *u = w + 64 * j + 4 * r;
                    acc[r] += u[0] * a[0] + u[1] * a[1] + u[2] * a[2] + u[3] * a[3];
                }
            }
            for (int r = 0; r < TILE; r++)
                sum[t * TILE + r] += (float)acc[r] * d[i * TILE + r] * scale;
            if (!k.minimum)
                continue;
            memcpy(&total, &extra[(k.subs + i) * T + t], 4);
            for (int r = 0; r < TILE; r++)
                sum[t * TILE + r] += m[i * TILE + r] * total;
        }
}

INLINE void unpack_blocks(const struct packing k, const uint8_t *p, int blocks, const struct panel *out)
{
    uint8_t(*values)[8][64] = (uint8_t(*)[8][64])(void *)out->values;
    float *scale = out->scale, *minimum = out->minimum;
    for (int b = 0; b < blocks; b += k.super) {
        const uint8_t *header = p;
        p += dot_header_bytes(k);
        for (int i = 0; i < k.super; i++, p += dot_block_bytes(k)) {
            block_values(k, p, *values++);
            block_scales(k, header, p + 64 * k.bits, scale, minimum);
            scale += TILE * k.subs;
            minimum += TILE * k.subs;
        }
    }
}

INLINE void dot_unpacked(const struct packing k, const int T, const int N, const struct dot *a)
{
    (void)N;
    if (a->first)
        memset(a->sum, 0, (size_t)T * TILE * sizeof *a->sum);
    for (int b = 0; b < a->blocks; b++)
        block_dot(k, T, a->weights + 512 * b, a->scale + b * TILE * k.subs, a->minimum + b * TILE * k.subs,
                  a->q + b * ACTIVATION_BYTES * T, a->extra + b * extra_words(&k) * T, a->sum);
}

INLINE void dot_packed(const struct packing k, const int T, const struct dot *a)
{
    uint8_t values[8 * 8 * 64];
    float scale[8 * 2 * TILE], minimum[8 * 2 * TILE];
    const struct panel panel = {values, scale, minimum};
    struct dot part = *a;
    part.weights = values;
    part.scale = scale;
    part.minimum = minimum;
    part.blocks = k.super;
    const uint8_t *p = a->weights;
    for (int b = 0; b < a->blocks; b += k.super, p += dot_header_bytes(k) + k.super * dot_block_bytes(k)) {
        unpack_blocks(k, p, k.super, &panel);
        part.first = a->first && b == 0;
        part.q = a->q + b * ACTIVATION_BYTES * T;
        part.extra = a->extra + b * extra_words(&k) * T;
        dot_unpacked(k, T, 1, &part);
    }
}

#define PANEL_SHAPES(X, ...) \
    X(1, 1, __VA_ARGS__) X(2, 1, __VA_ARGS__) X(3, 1, __VA_ARGS__) X(4, 1, __VA_ARGS__)
#define DIRECT_ROWS(X, ...) X(1, __VA_ARGS__)
#include "dot_tables.h"

const struct dot_kernels NAME(dot_kernels) = {
    .panels = 2, .direct = 1, .group = 4, .tiles = 1, .panel_block = 512, .run = 4, .wide = false,
    .direct_tile = direct_tile, .unpack = unpack, .panel_tiles = panel_tiles,
};
