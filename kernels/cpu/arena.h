/* Memory for packed weights: pieces of large blocks in huge pages, where the system has them. Decoding
 * streams through all weights; with small pages it would stop every 4 KiB for a walk of the page tables. */
#ifndef HEARTH_CPU_ARENA_H
#define HEARTH_CPU_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *newest; /* all zero: empty */
};

/* `bytes` aligned to 64, not zeroed; NULL where there is no memory. Given back by arena_give. */
void *arena_take(struct arena *, size_t bytes);
/* A block is freed with its last piece. NULL is fine. */
void arena_give(struct arena *, void *piece);

#endif
