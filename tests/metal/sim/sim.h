/* A simulated Metal framework: the classes behind tests/metal/include/Metal/Metal.h on emulated GPU
 * threads. Nothing runs before somebody waits for a committed command buffer, so a result that is read too
 * early is never there. What Apple's validation layer would stop at, and dependent dispatches without a
 * barrier, fail the command buffer with a message.
 *
 * For tests: what to fail, and what was counted. One thread uses it all. */
#ifndef HEARTH_TEST_SIM_H
#define HEARTH_TEST_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_control {
    int fail_after;          /* command buffers until one fails with fail_code; -1: never */
    int fail_code;           /* MTLCommandBufferError… */
    bool no_memory;          /* new buffers: nil */
    bool no_apple_gpu;       /* another GPU family */
    bool no_compile;         /* libraries do not compile */
    bool no_residency;       /* as before macOS 15 */
    bool pressure;           /* memory is short */
    int simd_width;          /* of pipelines; 0: 32 */
    size_t max_buffer;       /* 0: 1 GiB */
    double slow;             /* GPU seconds of every dispatch; 0: as measured */
};

struct sim_counts {
    int buffers, objects;    /* alive */
    int command_buffers, dispatches, barriers, violations, libraries, wrapped;
    bool resident;
    double longest;          /* GPU seconds of a command buffer */
    char violation[400];     /* the last */
};

extern struct sim_control sim_control;
extern struct sim_counts sim_counts;

#endif
