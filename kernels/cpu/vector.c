/* The operators that work on rows of floats, compiled once per instruction set. */
#include "vector.h"

#include <math.h>

void NAME(rms_norm)(const float *x, const float *weight, float eps, int n, float *y)
{
    vf sum[4] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
    int i = 0;
    for (; i + 4 * VW <= n; i += 4 * VW)
        for (int j = 0; j < 4; j++) {
            vf v = vf_load(x + i + j * VW);
            sum[j] = vf_fma(v, v, sum[j]);
        }
    for (; i < n; i += VW) {
        vf v = n - i >= VW ? vf_load(x + i) : vf_load_some(x + i, n - i);
        sum[0] = vf_fma(v, v, sum[0]);
    }
    vf scale = vf_set(1.0f / sqrtf(vf_sum((sum[0] + sum[1]) + (sum[2] + sum[3])) / (float)n + eps));
    for (i = 0; i + VW <= n; i += VW)
        vf_store(y + i, vf_load(x + i) * scale * vf_load(weight + i));
    if (i < n)
        vf_store_some(y + i, vf_load_some(x + i, n - i) * scale * vf_load_some(weight + i, n - i), n - i);
}

static vf silu_times(vf gate, vf up)
{
    return gate / (vf_set(1.0f) + vf_exp(vf_set(0) - gate)) * up;
}

void NAME(swiglu)(const float *gate, const float *up, float *y, int n)
{
    int i = 0;
    for (; i + VW <= n; i += VW)
        vf_store(y + i, silu_times(vf_load(gate + i), vf_load(up + i)));
    if (i < n)
        vf_store_some(y + i, silu_times(vf_load_some(gate + i, n - i), vf_load_some(up + i, n - i)), n - i);
}

/* Rotates pairs; halves are contiguous, so they are worth vectors. */
void NAME(rope)(float *x, const float *cs, int rope_dim, int style)
{
    int half = rope_dim / 2, i = 0;
    if (style == ROPE_HALVES)
        for (; i + VW <= half; i += VW) {
            float c[VW], s[VW];
            for (int j = 0; j < VW; j++) {
                c[j] = cs[2 * (i + j)];
                s[j] = cs[2 * (i + j) + 1];
            }
            vf a = vf_load(x + i), b = vf_load(x + half + i), cosine = vf_load(c), sine = vf_load(s);
            vf_store(x + i, a * cosine - b * sine);
            vf_store(x + half + i, a * sine + b * cosine);
        }
    for (; i < half; i++) {
        float *p = style == ROPE_HALVES ? x + i : x + 2 * i, *q = style == ROPE_HALVES ? x + half + i : p + 1;
        float a = *p, b = *q, cosine = cs[2 * i], sine = cs[2 * i + 1];
        *p = a * cosine - b * sine;
        *q = a * sine + b * cosine;
    }
}

void NAME(to_f16)(const float *x, uint16_t *y, int n)
{
    const vf limit = vf_set(65504.0f), least = vf_set(-65504.0f);
    int i = 0;
    for (; i + VW <= n; i += VW)
        vf_to_f16(y + i, vf_max(least, vf_min(limit, vf_load(x + i))));
    for (; i < n; i++)
        y[i] = f32_to_f16(x[i] > 65504.0f ? 65504.0f : x[i] < -65504.0f ? -65504.0f : x[i]);
}

/* What is beyond n is left out. */
INLINE vf load_up_to(const float *p, int n)
{
    return n >= VW ? vf_load(p) : vf_load_some(p, n);
}

void NAME(finish)(const struct finish *f)
{
    for (int t = 0; t < f->rows; t++) {
        vf scale = vf_set(f->scale[t]);
        size_t row = (size_t)t * f->stride;
        for (int i = 0; i < f->n; i += VW) {
            int at = (i / TILE * f->rows + t) * TILE + i % TILE, left = f->n - i;
            vf v = vf_load(f->sum + at) * scale;
            if (f->bias)
                v += load_up_to(f->bias + i, left);
            if (f->up) {
                vf up = vf_load(f->up + at) * scale;
                if (f->up_bias)
                    up += load_up_to(f->up_bias + i, left);
                v = silu_times(v, up);
            }
            if (f->add)
                v += load_up_to(f->add + row + (size_t)i, left);
            if (left >= VW)
                vf_store(f->y + row + (size_t)i, v);
            else
                vf_store_some(f->y + row + (size_t)i, v, left);
        }
    }
}

INLINE vf load_element(enum dtype dtype, const uint8_t *p)
{
    if (dtype == DTYPE_F32)
        return vf_load((const float *)(const void *)p);
    if (dtype == DTYPE_F16)
        return vf_f16((const uint16_t *)(const void *)p);
    uint16_t half[VW];
    uint32_t word[VW];
    vf v;
    memcpy(half, p, sizeof half);
    for (int i = 0; i < VW; i++)
        word[i] = (uint32_t)half[i] << 16;
    memcpy(&v, word, sizeof v);
    return v;
}

INLINE void dot_rows(enum dtype dtype, const int T, const uint8_t *tile, int columns, const float *x,
                     float *sum)
{
    const int vectors = TILE / VW, step = dtype == DTYPE_F32 ? 4 : 2;
    vf acc[FLOAT_ROWS][TILE / VW];
    UNROLL
    for (int t = 0; t < T; t++)
        for (int v = 0; v < vectors; v++)
            acc[t][v] = vf_set(0);
    for (int k = 0; k < columns; k++, tile += TILE * step) {
        vf w[TILE / VW];
        UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = load_element(dtype, tile + v * VW * step);
        UNROLL
        for (int t = 0; t < T; t++) {
            vf a = vf_set(x[(size_t)t * (size_t)columns + (size_t)k]);
            UNROLL
            for (int v = 0; v < vectors; v++)
                acc[t][v] = vf_fma(w[v], a, acc[t][v]);
        }
    }
    UNROLL
    for (int t = 0; t < T; t++)
        for (int v = 0; v < vectors; v++)
            vf_store(sum + t * TILE + v * VW, acc[t][v]);
}

INLINE void dot_typed(enum dtype dtype, int rows, const uint8_t *tile, int columns, const float *x,
                      float *sum)
{
    switch (rows) {
    case 1: dot_rows(dtype, 1, tile, columns, x, sum); break;
    case 2: dot_rows(dtype, 2, tile, columns, x, sum); break;
    case 3: dot_rows(dtype, 3, tile, columns, x, sum); break;
    default: dot_rows(dtype, 4, tile, columns, x, sum); break;
    }
}

void NAME(dot_float)(enum dtype dtype, int rows, const uint8_t *tile, int columns, const float *x, float *sum)
{
    switch (dtype) {
    case DTYPE_F32: dot_typed(DTYPE_F32, rows, tile, columns, x, sum); break;
    case DTYPE_F16: dot_typed(DTYPE_F16, rows, tile, columns, x, sum); break;
    default: dot_typed(DTYPE_BF16, rows, tile, columns, x, sum); break;
    }
}

uint64_t NAME(read)(const void *memory, size_t bytes)
{
    const char *p = memory;
    vi sum[4] = {0};
    for (size_t i = 0; i + sizeof sum <= bytes; i += sizeof sum)
        for (size_t j = 0; j < 4; j++) {
            vi v;
            memcpy(&v, p + i + j * sizeof v, sizeof v);
            sum[j] ^= v;
        }
    vi all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
    uint64_t folded = 0;
    for (int i = 0; i < VW; i++)
        folded ^= (uint64_t)(uint32_t)all[i];
    return folded;
}
