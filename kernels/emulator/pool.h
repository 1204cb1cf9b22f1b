/* Cores side by side: the groups of a dispatch spread over system threads. Private to the emulator. */
#ifndef HEARTH_EMULATOR_POOL_H
#define HEARTH_EMULATOR_POOL_H

#include "core.h"

struct emulator_pool;

/* `threads` cores: one is the caller of emulator_pool_run, the others threads of the pool's own. */
int emulator_pool_create(struct emulator_pool **out, int threads, struct err *) WARN_UNUSED;
void emulator_pool_free(struct emulator_pool *); /* NULL is fine */
int emulator_pool_threads(const struct emulator_pool *);

/* Runs all groups of the dispatch in an order that `seed` shuffles; after a violation no more of them. */
int emulator_pool_run(struct emulator_pool *, const struct emulator_dispatch *, uint32_t seed,
             struct err *) WARN_UNUSED;

/* Reads `bytes` at `memory` with all threads. */
void emulator_pool_read(struct emulator_pool *, const void *memory, size_t bytes);

#endif
