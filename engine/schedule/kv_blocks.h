/* Bookkeeping of the paged KV cache: which fixed-size blocks of tokens are free, which sequences
 * hold which. Blocks are reference-counted; a sequence that writes into a block it shares gets
 * its own copy first. The memory itself belongs to engine/model. */
#ifndef HEARTH_KV_BLOCKS_H
#define HEARTH_KV_BLOCKS_H

#include <stdint.h>

#include "../../kernels/err.h"

struct kv_blocks;

int kv_blocks_create(struct kv_blocks **out, int n_blocks, int block_tokens, struct err *) WARN_UNUSED;
void kv_blocks_destroy(struct kv_blocks *); /* NULL is fine */
int kv_blocks_total(const struct kv_blocks *);
int kv_blocks_free(const struct kv_blocks *);
int kv_blocks_tokens(const struct kv_blocks *); /* per block */

/* The blocks of one sequence, in order of position. */
struct kv_table {
    int32_t *block; /* [capacity] */
    int n, capacity;
};

/* Room for `tokens` positions, so that no step allocates memory. */
int kv_table_create(struct kv_table *, const struct kv_blocks *, int tokens, struct err *) WARN_UNUSED;
void kv_table_destroy(struct kv_table *); /* holds no blocks any more */
/* Gives all blocks back. */
void kv_table_clear(struct kv_table *, struct kv_blocks *);

/* KV blocks to be copied before a step writes. */
struct kv_copies {
    int32_t *pair; /* [capacity][2] from, to */
    int n, capacity;
};

/* Free blocks that positions first … first+rows-1 need: new ones and own copies of shared ones. */
int kv_table_need(const struct kv_table *, const struct kv_blocks *, int first, int rows);
/* Takes them. The caller has made sure that they are there. */
void kv_table_extend(struct kv_table *, struct kv_blocks *, int first, int rows, struct kv_copies *);
/* `to`, which is empty, shares the blocks of the first `tokens` positions of `from`. */
void kv_table_fork(struct kv_table *to, const struct kv_table *from, struct kv_blocks *, int tokens);
/* Where K and V of a position lie: block * block_tokens + offset. */
int32_t kv_table_slot(const struct kv_table *, const struct kv_blocks *, int position);

#endif
