/* Kernels for the emulator's own tests: some do all that the dialect has, one breaks its rules. */
#ifndef HEARTH_EMULATOR_KERNELS_H
#define HEARTH_EMULATOR_KERNELS_H

#include "../../../kernels/emulator/emulator.h"

enum planted {
    PLANTED_ADD,
    PLANTED_REVERSE,
    PLANTED_LANES,
    PLANTED_TILES,
    PLANTED_ASYNC,
    PLANTED_BREAK,
    PLANTED_COUNT
};

#define BREAKS(X)                                                                                            \
    X(NOTHING) X(READ_OUTSIDE) X(READ_BEFORE) X(WRITE_OUTSIDE) X(WRITE_INPUT) X(MISALIGNED) X(SHARED_OUTSIDE) \
    X(SHARED_WRITE_READ) X(SHARED_READ_WRITE) X(SHARED_OTHER_SIMD) X(GLOBAL_RACE) X(GROUPS_WRITE)            \
    X(GROUPS_READ) X(BARRIER_SKIPPED) X(BARRIER_PLACES) X(BARRIER_ENDED) X(SIMD_PLACES) X(SIMD_SKIPPED)      \
    X(READ_EARLY) X(WRITE_EARLY) X(NO_WAIT) X(WAIT_TWICE) X(LAUNCH_FIRST) X(LAUNCH_EARLY) X(LANE_OUTSIDE)
enum breaks {
#define X(name) BREAK_##name,
    BREAKS(X)
#undef X
    BREAK_COUNT
};

struct planted_args {
    int n, breaks; /* of x and y; enum breaks */
};

#ifdef __cplusplus
extern "C" const struct emulator_kernel *const planted_kernels[PLANTED_COUNT];
#else
extern const struct emulator_kernel *const planted_kernels[PLANTED_COUNT];
#endif

#endif
