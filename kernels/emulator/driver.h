/* The parts of the emulator's driver that its unit tests and single kernels use besides gpu.h. */
#ifndef HEARTH_EMULATOR_DRIVER_H
#define HEARTH_EMULATOR_DRIVER_H

#include "../gpu/gpu.h"
#include "emulator.h"

/* Kernels that are in no list: a step of program GPU_PROGRAM_COUNT + i runs kernel[i]. */
void emulator_plant(void *state, const struct emulator_kernel *const *kernel, int n);

/* The bytes of an allocation, when nothing is queued. */
void *emulator_bytes(const struct gpu_memory *);

/* The modules: kernels by program, NULL where it is not of that kind. */
extern const struct emulator_kernel *const emulator_plain[];
#define GPU_WEIGHT(name, dtype, split) extern const struct emulator_kernel *const emulator_typed_##name[];
#include "../gpu/weights.def"
#undef GPU_WEIGHT

#endif
