/* What works row by row without any reduction: SwiGLU, gathering rows, adding them, copying blocks of the cache. */
#ifndef HEARTH_GPU_ROWS_H
#define HEARTH_GPU_ROWS_H

#include "compat.h"
#include "forms.h"
#include "gpu_args.h"
#include "norm.h"

#define ROWS_THREADS 256

/* A thread does four neighbours of a row. */
KERNEL(swiglu, 256, gpu_swiglu_args, BUF(0, const float, gate_up), BUF(1, float, y), BUF(2, half_t, half_y))
{
    KERNEL_IDS;
    int width = args.width, row = ids.group.y, first = (ids.group.x * ROWS_THREADS + ids.thread) * 4;
    GLOBAL(const float) gate = gate_up + ((long)row * 2 * width + first);
    long out = (long)row * width + first;
    float v[4];
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    if (width % 4 == 0 && first < width) {
        float4 g = load_fresh(GLOBAL_CAST(const float4, gate));
        float4 u = load_fresh(GLOBAL_CAST(const float4, gate + width));
        v[0] = silu(g.x) * u.x, v[1] = silu(g.y) * u.y;
        v[2] = silu(g.z) * u.z, v[3] = silu(g.w) * u.w;
        GLOBAL_CAST(float4, y + out)[0] = make_float4(v[0], v[1], v[2], v[3]);
    } else {
        for (int i = 0; i < 4 && first + i < width; i++) {
            v[i] = silu(load_fresh(gate + i)) * load_fresh(gate + width + i);
            y[out + i] = v[i];
        }
    }
    if (args.half_scale != 0)
        for (int i = 0; i < 4 && first + i < width; i++)
            half_y[out + i] = saturated_half(v[i] / args.half_scale);
}

KERNEL(gather, 256, gather_args, BUF(0, const float, x), BUF(1, const int, index), BUF(2, float, y))
{
    KERNEL_IDS;
    int width = args.width, row = ids.group.y, i = ids.group.x * ROWS_THREADS + ids.thread;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    if (i < width)
        y[(long)row * width + i] = load_fresh(x + (long)load_fresh(index + row) * width + i);
}

KERNEL(add_scaled, 256, add_scaled_args, BUF(0, const float, x), BUF(1, const int, scale), BUF(2, float, y))
{
    KERNEL_IDS;
    int row = ids.group.y, i = ids.group.x * ROWS_THREADS + ids.thread;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    float factor = bits_float((uint)load_fresh(scale + args.scale_first + row)) * args.factor;
    long at = (long)row * args.y_stride + args.y_offset + i;
    if (i < args.width && factor != 0)
        y[at] = y[at] + load_fresh(x + (long)row * args.width + i) * factor;
}

/* Words from or to memory of the host that the GPU sees. */
KERNEL(copy_words, 256, gpu_copy_args, BUF(0, const uint, from), BUF(1, uint, to))
{
    KERNEL_IDS;
    int i = ids.group.x * ROWS_THREADS + ids.thread;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    if (i < args.words)
        to[i] = load_fresh(from + i);
}

/* Pairs may build on each other: a thread does the same place of every block, in order. */
KERNEL(kv_copy, 256, kv_copy_args, BUF(0, const int, pair), BUF(1, half_t, kv))
{
    KERNEL_IDS;
    int n = args.block_elements, i = ids.group.x * ROWS_THREADS + ids.thread;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    for (int p = 0; p < args.pairs; p++) {
        long from = (long)load_fresh(pair + 2 * p) * n, to = (long)load_fresh(pair + 2 * p + 1) * n;
        if (n % 8 != 0) {
            for (int e = i * 8; e < n && e < i * 8 + 8; e++)
                kv[to + e] = kv[from + e];
        } else if (i * 8 < n) {
            GLOBAL_CAST(uint4, kv + to)[i] = GLOBAL_CAST(const uint4, kv + from)[i];
        }
    }
}

#endif
