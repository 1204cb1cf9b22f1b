/* See emulator_kernels.h. */
#include "../../../kernels/gpu/compat.h"

#include "emulator_kernels.h"

/* y = x + 1; n may be no multiple of the group */
KERNEL(add, 64, planted_args, BUF(0, const float, x), BUF(1, float, y))
{
    KERNEL_IDS;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    int i = ids.group.x * 64 + ids.thread;
    if (i < args.n)
        y[i] = x[i] + 1;
}

/* y = each group's x backwards, by way of shared memory, twice */
KERNEL(reverse, 256, planted_args, BUF(0, const float, x), BUF(1, float, y))
{
    KERNEL_IDS;
    SHARED(float, part, 256);
    SHARED(float4, wide, 64);
    DEPENDENCY_WAIT();
    int i = ids.group.x * 256;
    part[ids.thread] = x[i + ids.thread];
    group_barrier();
    if (ids.thread < 64) {
        SHARED_PTR(const float) from = part + ids.thread * 4;
        wide[ids.thread] = make_float4(from[0], from[1], from[2], from[3]);
    }
    group_barrier();
    SHARED_PTR(const float) narrow = SHARED_CAST(const float, wide);
    y[i + 255 - ids.thread] = narrow[ids.thread];
}

/* y[thread] = {sum, max, of lane ^ 5, of lane 7} of x over its simd group */
KERNEL(lanes, 64, planted_args, BUF(0, const float, x), BUF(1, float4, y))
{
    KERNEL_IDS;
    DEPENDENCY_WAIT();
    float v = x[ids.thread];
    float sum = simd_sum(v), greatest = simd_max(v);
    int other = simd_xor(ids.thread, 5);
    y[ids.thread] = make_float4(sum, greatest, (float)other, simd_broadcast(v, 7));
}

/* y = a b + a b' of 16 x 16 tiles: x holds a, then b */
KERNEL(tiles, 32, planted_args, BUF(0, const float, x), BUF(1, float, y))
{
    KERNEL_IDS;
    SHARED(half_t, tile, 512);
    SHARED(float, result, 256);
    DEPENDENCY_WAIT();
    for (int i = ids.thread; i < 512; i += 32)
        tile[i] = float_to_half(x[i]);
    group_barrier();
    frag_half a, b;
    frag_float c;
    frag_zero(c);
    frag_load(a, tile, 16);
    frag_load(b, tile + 256, 16);
    frag_mma(c, a, b);
    frag_load_t(b, tile + 256, 16);
    frag_mma(c, a, b);
    frag_store(c, result, 16);
    simd_barrier();
    for (int i = ids.thread; i < 256; i += 32)
        y[i] = result[i];
}

/* y = x by asynchronous copies in two groups, of which n are waited for */
KERNEL(async, 32, planted_args, BUF(0, const half_t, x), BUF(1, half_t, y))
{
    KERNEL_IDS;
    SHARED(half_t, part, 512);
    DEPENDENCY_WAIT();
    for (int k = 0; k < 2; k++) {
        copy_async16(part + (k * 256 + ids.thread * 8), x + (k * 256 + ids.thread * 8));
        copy_async_commit();
    }
    copy_async_wait(2 - args.n);
    group_barrier();
    for (int i = ids.thread; i < 512; i += 32)
        y[i] = part[i];
}

static inline void break_shared(THREAD_IDS ids, int breaks, SHARED_PTR(float) part)
{
    part[ids.thread] = 1;
    if (breaks == BREAK_SHARED_WRITE_READ && ids.thread == 9)
        part[8] += 1;
    if (breaks == BREAK_SHARED_READ_WRITE && ids.thread == 8)
        part[9] += 1;
    simd_barrier();
    float beside = part[ids.thread ^ 1]; /* the barrier orders lanes of one simd group */
    if (breaks == BREAK_SHARED_OTHER_SIMD)
        beside = part[ids.thread ^ 32];
    group_barrier();
    part[ids.thread ^ 32] = beside;
    if (breaks == BREAK_SHARED_OUTSIDE && ids.thread == 63)
        part[ids.thread + 1] = 0;
}

static inline void break_barriers(THREAD_IDS ids, int breaks)
{
    if (breaks == BREAK_BARRIER_SKIPPED && ids.thread != 3)
        group_barrier();
    if (breaks == BREAK_BARRIER_PLACES) {
        if (ids.thread < 32)
            group_barrier();
        else
            group_barrier();
    }
    if (breaks == BREAK_SIMD_PLACES) {
        if (ids.lane < 8)
            simd_sum(1);
        else
            simd_max(1);
    }
    if (breaks == BREAK_SIMD_SKIPPED && ids.lane != 3)
        simd_barrier();
    if (breaks == BREAK_LANE_OUTSIDE)
        simd_broadcast(1.0f, 32);
}

/* Two groups or more; x is what the kernel before wrote */
KERNEL(breaker, 64, planted_args, BUF(0, const float, x), BUF(1, float, y))
{
    KERNEL_IDS;
    SHARED(float, part, 64);
    int i = ids.group.x * 64 + ids.thread, breaks = args.breaks;
    if (breaks == BREAK_READ_EARLY && x[i] > 0)
        i += 0;
    if (breaks == BREAK_WRITE_EARLY)
        y[i] = 0;
    if (breaks == BREAK_LAUNCH_FIRST)
        DEPENDENCY_LAUNCH();
    if (breaks == BREAK_LAUNCH_EARLY)
        DEPENDENCY_LAUNCH_EARLY();
    if (breaks == BREAK_NO_WAIT)
        return;
    DEPENDENCY_WAIT();
    if (breaks == BREAK_WAIT_TWICE)
        DEPENDENCY_WAIT();
    if (breaks == BREAK_BARRIER_ENDED && ids.thread == 40)
        return;
    break_shared(ids, breaks, part);
    break_barriers(ids, breaks);
    y[i] = 2;
    if (breaks == BREAK_READ_OUTSIDE)
        y[i] = x[i + 1];
    if (breaks == BREAK_READ_BEFORE)
        y[i] = x[i - 1];
    if (breaks == BREAK_WRITE_OUTSIDE)
        y[i + args.n] = 0;
    if (breaks == BREAK_MISALIGNED)
        y[i] = GLOBAL_CAST(const float4, x + 1)[0].x;
    if (breaks == BREAK_GLOBAL_RACE)
        y[i ^ 1] = 3;
    if (breaks == BREAK_GROUPS_WRITE)
        y[ids.thread] = 3;
    if (breaks == BREAK_GROUPS_READ && y[(i + 64) % args.n] > 0)
        y[i] = 3;
}

extern "C" const struct emulator_kernel *const planted_kernels[PLANTED_COUNT] = {
    &emulator_add, &emulator_reverse, &emulator_lanes, &emulator_tiles, &emulator_async, &emulator_breaker,
};
