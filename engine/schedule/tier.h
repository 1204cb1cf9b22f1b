/* The prefix cache behind the one in memory: blocks that a waiting prompt needs are fetched from the store
 * before it is admitted, and blocks of long prefixes are saved when there is nothing else to do, and a few
 * between steps. Also what stands at the root of every key. On the worker thread. */
#ifndef HEARTH_TIER_H
#define HEARTH_TIER_H

#include "../model/forward.h"
#include "kv_blocks.h"
#include "scheduler.h"
#include "store.h"

struct runner;

struct tier {
    struct store *store;   /* not owned; NULL: memory is all there is */
    char *model;           /* a name for people; owned */
    size_t block_bytes;
    void *block;           /* [block_bytes] on its way from the store */
    struct kv_table table; /* holds a chain while more of it is fetched; else empty */
    double read_time;      /* seconds per block, lately */
    int left;              /* blocks that may yet be fetched before this step */
    bool fetching;         /* a prompt waits for the rest of its blocks */
    bool due;              /* a block is to be saved before this step */
    double saved;          /* when one was, between steps */
    int32_t cursor;        /* where the search for unsaved blocks goes on */
};

/* Of everything that is in the tensors; reads the whole file. On any thread. */
struct prefix_key tier_digest(const struct gguf *);
/* After everything else of the runner is there. `digest`: of its model, where there is a store. */
int tier_create(struct runner *, struct store *, const struct prefix_key *digest, const char *model,
                struct err *) WARN_UNUSED;
/* Saves what is not saved yet, unless that takes seconds. */
void tier_destroy(struct runner *);

/* Before each step: whether a fetch waits or a block is to be saved, for which no step may be under way. */
bool tier_begin(struct runner *);
/* Then: saves a block, now and then; who is never idle keeps prefixes too. */
void tier_save_between(struct runner *);
/* Asked by the scheduler before it admits a task: false while blocks for it are being fetched. */
bool tier_ready(void *runner, struct task *);
/* Saves one block. Seconds until the next call can do something; negative: all is saved. */
double tier_save(struct runner *);

#endif
