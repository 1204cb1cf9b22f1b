/* A core of the emulator: what runs one group at a time. Private to the emulator. */
#ifndef HEARTH_EMULATOR_CORE_H
#define HEARTH_EMULATOR_CORE_H

#include "../err.h"
#include "emulator.h"
#include "fiber.h"

#define EMULATOR_OPERANDS 12
#define EMULATOR_COPIES 64        /* asynchronous ones of a thread that are under way */
#define EMULATOR_POISON 0x7fbf7fbfu /* a signalling NaN, a NaN in both halves, far off as an index */

/* What all groups of a dispatch share. */
struct emulator_dispatch {
    const struct emulator_kernel *kernel;
    const void *args;
    uint32_t grid[3];
    uint32_t first_run;     /* groups are numbered through all dispatches: those of this one begin here */
    size_t shared_limit;
    bool launches_early;    /* as the step says */
    bool races;
    struct emulator_memory operand[EMULATOR_OPERANDS];
};

/* A thread that waits stands at a place for a reason. */
enum emulator_state {
    EMULATOR_READY,
    EMULATOR_AT_BARRIER,
    EMULATOR_AT_MEETING,
    EMULATOR_AT_DEPENDENCY,
    EMULATOR_ENDED
};

struct emulator_thread {
    enum emulator_state state;
    enum emulator_meeting meeting;
    struct emulator_place place;
    bool waited, launched;
    int arrays;             /* declared so far */
    size_t shared_used;
    int copies, commits;    /* asynchronous copies under way, groups of them committed */
    struct {
        void *to;
        const struct emulator_memory *shared;
        int group;
        char data[16];
    } copy[EMULATOR_COPIES];
};

struct emulator_simd {
    uint32_t ready, arrived; /* lanes */
    uint32_t clock;          /* counts barriers that order its lanes */
    uint32_t barrier_clock;  /* value after the last one that orders the group */
    enum emulator_meeting meeting;
    int argument[32];
    struct emulator_place place;
    uint32_t in[32], out[32];
    struct {
        float *c;
        const float *a, *b;
        bool a_turned, b_turned;
    } tile[32];
};

struct emulator_core {
    const struct emulator_dispatch *dispatch;
    uint32_t group[3], run;
    int current, n_simds, ended, at_barrier, at_dependency;
    struct emulator_place barrier;
    struct emulator_memory operand[EMULATOR_OPERANDS]; /* as the group's threads may use them now */
    struct emulator_memory array[EMULATOR_ARRAYS];     /* the group's shared arrays */
    int arrays;
    struct emulator_simd simd[EMULATOR_SIMDS];
    struct fiber home;      /* the system thread's own */
    struct err err;
    char *shared;           /* EMULATOR_SHARED bytes */
    uint64_t *shared_shadow;
    struct fiber fiber[EMULATOR_THREADS];
    struct emulator_thread thread[EMULATOR_THREADS];
};

int core_create(struct emulator_core **, struct err *) WARN_UNUSED;
void core_free(struct emulator_core *);

/* Runs one group to its end; on a violation stops it and leaves the message in core->err. */
int core_run(struct emulator_core *, const struct emulator_dispatch *, const uint32_t group[3],
             uint32_t run) WARN_UNUSED;

/* The core that this system thread is. */
extern _Thread_local struct emulator_core *emulator_here;

/* Ends the group: a thread did what no GPU promises to survive. */
__attribute__((noreturn, format(printf, 2, 3))) void core_fail(struct emulator_core *, const char *format,
                                                               ...);

/* shadow.c: looks for a race of the current thread's access with an earlier one. */
#define SHADOW_WORDS 2 /* for each aligned 4 bytes */
#define SHADOW_RUNS (1u << 28)
void shadow_access(struct emulator_core *, const struct emulator_memory *, const void *p, size_t size,
                   size_t element, bool write);

#endif
