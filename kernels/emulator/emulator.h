/* What the emulated kernels and the emulator's runtime know of each other: C and C++.
 *
 * A core is a system thread that runs groups, one at a time; the threads of a group are fibers. Every
 * access to memory goes through an emulator_memory, which knows its bounds and who may do what. */
#ifndef HEARTH_EMULATOR_H
#define HEARTH_EMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMULATOR_THREADS 1024
#define EMULATOR_SIMDS (EMULATOR_THREADS / 32)
#define EMULATOR_METAL_SHARED 32768 /* bytes of shared memory that a group may have on Metal */
#define EMULATOR_SHARED 49152       /* and on CUDA: the kernels of split weights run there alone */
#define EMULATOR_ARRAYS 16

/* An operand of a dispatch, or a shared array of a group. */
struct emulator_memory {
    char *base; /* NULL: absent */
    size_t bytes;
    const char *name;
    unsigned slow_read, slow_write; /* accesses that emulator_access must look at; EMULATOR_… bits */
    bool shared;
    uint64_t *shadow; /* who touched it, two words for each aligned 4 bytes from `origin`; NULL: unchecked */
    char *origin;
    const char *before; /* what may still run when the kernel begins, and uses it; or NULL */
};
#define EMULATOR_RACES 1u     /* it has a shadow */
#define EMULATOR_EARLY 2u     /* not before DEPENDENCY_WAIT */
#define EMULATOR_FORBIDDEN 4u /* bound for reading only */

extern bool emulator_fused; /* x86-64: the processor has fused multiply-add */
extern const struct emulator_memory emulator_nowhere; /* of pointers that were never set */

/* An entry point. */
struct emulator_kernel {
    const char *name;
    int threads;
    size_t args_bytes;
    int operands;
    void (*run)(const void *args, const struct emulator_memory *operands); /* one thread */
};

/* Where in the source a collective operation stands. */
struct emulator_place {
    const char *file;
    int line;
};

enum emulator_meeting {
    EMULATOR_BARRIER,
    EMULATOR_SUM,
    EMULATOR_MAX,
    EMULATOR_XOR,
    EMULATOR_BROADCAST,
    EMULATOR_MMA
};

struct emulator_ids {
    struct {
        int x, y, z;
    } group;
    int thread, lane, simd;
};

/* Of the thread that runs. */
struct emulator_ids emulator_ids(void);

/* An access that is not plainly allowed, of `size` bytes at p. Returns if it is legal; `element` is the
 * size that indices in messages count. */
void emulator_access(const struct emulator_memory *, const void *p, size_t size, size_t element, bool write);
void emulator_misaligned(const struct emulator_memory *, const void *p, size_t alignment);

void emulator_group_barrier(struct emulator_place);

/* A meeting of the 32 lanes: `value` goes in, and what the lane gets comes out. */
uint32_t emulator_meet(enum emulator_meeting, uint32_t value, int argument, struct emulator_place);

/* c += a b of 16 x 16 tiles, lane i holding elements 8i … 8i + 7; *_turned: held column by column. */
void emulator_mma(float *c, const float *a, bool a_turned, const float *b, bool b_turned,
                  struct emulator_place);

/* The next shared array of the thread; arrays follow one another in the order of the declarations. */
const struct emulator_memory *emulator_shared(const char *name, size_t bytes);

void emulator_dependency_wait(void);
void emulator_dependency_launch(void);
void emulator_dependency_launch_early(void);

void emulator_copy_async(void *to, const void *from, const struct emulator_memory *shared);
void emulator_copy_commit(void);
void emulator_copy_wait(int groups);

#ifdef __cplusplus
}
#endif
#endif
