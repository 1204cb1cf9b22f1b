/* The kernels, compiled for the emulator: the plain ones, or with GPU_TYPED those of one weight layout. */
#include "../gpu/compat.h"

namespace { /* modules have structs and templates of the same names that differ */
#include "../gpu/all.h"
}

#define JOIN(a, b) a##b
#define NAMED(a, b) JOIN(a, b)

extern "C" {
#ifdef GPU_TYPED
#define PROGRAM(name, threads) nullptr,
#define TYPED_PROGRAM(name, threads) &emulator_##name,
extern const struct emulator_kernel *const NAMED(emulator_typed_, GPU_WEIGHT_NAME)[];
const struct emulator_kernel *const NAMED(emulator_typed_, GPU_WEIGHT_NAME)[] = {
#else
#define PROGRAM(name, threads) &emulator_##name,
#define TYPED_PROGRAM(name, threads) nullptr,
extern const struct emulator_kernel *const emulator_plain[];
const struct emulator_kernel *const emulator_plain[] = {
#endif
#include "../gpu/programs.def"
};
}
