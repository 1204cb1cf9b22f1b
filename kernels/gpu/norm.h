/* RMSNorm: a group of threads normalises one row, or one head of one row. */
#ifndef HEARTH_GPU_NORM_H
#define HEARTH_GPU_NORM_H

#include "compat.h"
#include "forms.h"
#include "gpu_args.h"

#define NORM_THREADS 256

/* Elements of a row that the group's threads walk through. */
static inline int norm_count(int width)
{
    return FAULT(skipped_tail) ? width / NORM_THREADS * NORM_THREADS : width;
}

KERNEL(rms_norm, 256, gpu_norm_args, BUF(0, const float, x), BUF(1, const float, weight), BUF(2, float, y),
       BUF(3, half_t, half_y))
{
    KERNEL_IDS;
    SHARED(float, part, NORM_THREADS / 32);
    int width = args.norm.width, n = norm_count(width), group = ids.group.x, row = ids.group.y;
    GLOBAL(const float) from = x + ((long)row * args.norm.x_stride + args.norm.x_offset + group * width);
    GLOBAL(float) to = y + ((long)row * args.norm.y_stride + args.norm.y_offset + group * width);
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();

    float squares = 0;
    for (int i = ids.thread; i < n; i += NORM_THREADS) {
        float v = load_fresh(from + i);
        squares = k_fma(v, v, squares);
    }
    squares = simd_sum(squares);
    if (ids.lane == 0)
        part[ids.simd] = squares;
    if (!FAULT(missing_barrier))
        group_barrier();
    squares = simd_sum(ids.lane < NORM_THREADS / 32 ? part[ids.lane] : 0.0f);

    float scale = 1.0f / k_sqrt(squares / (float)width + args.norm.eps);
    for (int i = ids.thread; i < n; i += NORM_THREADS) {
        float v = load_fresh(from + i) * scale * weight[i];
        if (FAULT(stub_norm))
            v = load_fresh(x);
        to[i] = v;
        if (args.half_form)
            half_y[((long)row * args.norm.groups + group) * width + i] = saturated_half(v);
    }
}

#endif
