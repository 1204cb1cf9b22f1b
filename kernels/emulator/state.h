/* The driver's state, shared by its files. Private to the emulator. */
#ifndef HEARTH_EMULATOR_STATE_H
#define HEARTH_EMULATOR_STATE_H

#include <pthread.h>

#include "driver.h"
#include "pool.h"

struct gpu_memory {
    char *base;
    size_t bytes;
    bool wrapped;
    uint64_t *shadow; /* for races; made when a dispatch first writes it */
    struct gpu_memory *next;
};

struct emulator_list;

#define EMULATOR_BEFORE 8 /* steps that may still run */

struct emulator {
    struct emulator_pool *pool;
    bool unified, races;
    const struct emulator_kernel *const *planted;
    int n_planted;
    pthread_t worker;
    pthread_mutex_t lock; /* of what follows, up to profile */
    pthread_cond_t changed;
    struct gpu_memory *memory;
    struct emulator_list *first, *last; /* submitted and not waited for, in order */
    uint64_t queued, done;     /* tickets */
    bool stop;
    double profile[OPERATOR_COUNT];
    /* the worker's */
    uint32_t run, seed;
    /* What may still run when the next step begins: the last one that did not launch early, and all after it. */
    struct gpu_step before[EMULATOR_BEFORE];
    int n_before;
};

/* memory.c: of struct gpu_driver */
int emulator_alloc(void *state, size_t bytes, struct gpu_memory **out, struct err *) WARN_UNUSED;
int emulator_wrap(void *state, const void *data, size_t bytes, struct gpu_memory **out, size_t *offset,
                  struct err *) WARN_UNUSED;
void emulator_free(void *state, struct gpu_memory *);

void emulator_poison(char *at, size_t bytes);
/* Room for the records of races in memory that kernels write; 0 where it is there already. */
int emulator_make_shadow(struct gpu_memory *, struct err *) WARN_UNUSED;
void emulator_drop_shadows(struct emulator *);

/* step.c: does the step fit its kernel and the device's memory? */
int emulator_check_step(struct emulator *, const struct gpu_step *, struct err *) WARN_UNUSED;
/* Runs it, in the worker; what a download fetched is left in *result, the caller's. */
int emulator_run_step(struct emulator *, const struct gpu_step *, char **result, struct err *) WARN_UNUSED;

double emulator_now(void);

#endif
