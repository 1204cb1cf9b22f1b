/* Runs one dispatch of a kernel on emulated threads, for the simulated framework. */
#ifndef HEARTH_TEST_SIM_RUN_H
#define HEARTH_TEST_SIM_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_BUFFERS 31 /* buffer arguments of a function */

/* Bytes [begin, end) of a buffer; nothing where end is 0. */
struct sim_range {
    size_t begin, end;
};

/* A buffer argument: everything from its offset to the buffer's end is there. */
struct sim_argument {
    char *memory; /* NULL: the null buffer, which stands for an absent operand */
    size_t bytes;
    bool read_only;                  /* pages of a file */
    struct sim_range read, written;  /* set: what the dispatch touched, if `memory` is not read-only */
};

struct emulator_kernel;

/* NULL where the library has no such function: "matvec_Q8_0". weight is what the library was compiled for;
 * NULL for the plain kernels. */
const struct emulator_kernel *sim_function(const char *name, const char *weight);

/* Returns false with a message where the kernel does what it must not. */
bool sim_run(const struct emulator_kernel *, const uint32_t grid[3], const void *args,
             struct sim_argument *arguments, char *message, size_t message_bytes);
void sim_run_end(void); /* frees what runs keep */

#endif
