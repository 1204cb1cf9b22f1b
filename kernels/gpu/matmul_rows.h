/* What stands around the tiles of matmul.h: rows to halves before, sums of partial results after. */
#ifndef HEARTH_GPU_MATMUL_ROWS_H
#define HEARTH_GPU_MATMUL_ROWS_H

#include "compat.h"
#include "forms.h"
#include "gpu_args.h"

/* Rows of x as halves, normalised where args.norm says so; a group for each row. */
KERNEL(to_half, 256, struct gpu_to_half_args, BUF(0, const float, x), BUF(1, const float, weight), BUF(2, half_t, y))
{
    KERNEL_IDS;
    SHARED(float, part, 8);
    GLOBAL(const float) from = x + (long)ids.group.x * args.width;
    GLOBAL(half_t) to = y + (long)ids.group.x * args.stride;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    float scale = 1;
    if (args.norm) {
        float squares = 0;
        for (int i = ids.thread; i < args.width; i += 256) {
            float v = load_fresh(from + i);
            squares = k_fma(v, v, squares);
        }
        squares = simd_sum(squares);
        if (ids.lane == 0)
            part[ids.simd] = squares;
        group_barrier();
        squares = simd_sum(ids.lane < 8 ? part[ids.lane] : 0.0f);
        scale = 1.0f / k_sqrt(squares / (float)args.width + args.eps);
    }
    for (int i = ids.thread; i < args.stride; i += 256) {
        float v = 0;
        if (i < args.width) {
            v = load_fresh(from + i) * scale;
            if (args.norm)
                v *= weight[i];
        }
        to[i] = saturated_half(v);
    }
}

/* y = the sum of the parts (+ bias) (+ add) */
KERNEL(matmul_sum, 256, struct gpu_matmul_sum_args, BUF(0, const float, part), BUF(1, const float, bias),
       BUF(2, const float, add), BUF(3, float, y))
{
    KERNEL_IDS;
    int output = ids.group.x * 256 + ids.thread, row = ids.group.y;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    if (output >= args.outputs)
        return;
    float sum = 0;
    for (int z = 0; z < args.parts; z++)
        sum += load_fresh(part + (((long)z * args.rows + row) * args.outputs + output));
    long at = (long)row * args.y_stride + args.y_first + output;
    if (args.flags & MATMUL_BIAS)
        sum += bias[args.y_first + output];
    if (args.flags & MATMUL_ADD)
        sum += load_fresh(add + (FAULT(wrong_stride) ? at - (long)row * (args.y_stride / 2) : at));
    y[at] = sum;
}

#endif
