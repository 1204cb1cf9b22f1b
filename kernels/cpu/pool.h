/* Threads that run one function together. The caller is thread 0 of them. */
#ifndef HEARTH_CPU_POOL_H
#define HEARTH_CPU_POOL_H

#include "../err.h"

struct pool;

/* Threads that this process should compute with: physical cores, within the affinity mask and the
 * control group's limit. */
int pool_default_threads(void);
/* *out is the caller's (pool_close). Threads beyond the first are pinned where that is allowed. */
int pool_open(struct pool **out, int threads, struct err *) WARN_UNUSED;
void pool_close(struct pool *); /* NULL is fine */

/* Runs work(context, thread) on all threads, returns when all have returned. */
void pool_run(struct pool *, void (*work)(void *context, int thread), void *context);
/* Inside work: waits until all threads have come here. */
void pool_barrier(struct pool *);
/* Lets waiting threads sleep now rather than after their short spin. */
void pool_park(struct pool *);

#endif
