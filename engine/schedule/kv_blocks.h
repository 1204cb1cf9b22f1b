/* Bookkeeping of the paged KV cache: which fixed-size blocks of tokens are free, which sequences
 * hold which, and what the full ones hold. Blocks are reference-counted; a sequence that writes into a
 * block that others share or may find gets its own copy first. Blocks that nobody holds any more stay
 * findable until their room is needed, the least recently used ones going first; until then they count as
 * free. The memory itself belongs to engine/model. */
#ifndef HEARTH_KV_BLOCKS_H
#define HEARTH_KV_BLOCKS_H

#include "prefix.h"

struct kv_blocks;

int kv_blocks_create(struct kv_blocks **out, int n_blocks, int block_tokens, struct err *) WARN_UNUSED;
void kv_blocks_destroy(struct kv_blocks *); /* NULL is fine */
int kv_blocks_total(const struct kv_blocks *);
int kv_blocks_free(const struct kv_blocks *);   /* those that are only found count as free */
int kv_blocks_cached(const struct kv_blocks *); /* of the free ones, how many can be found */
int kv_blocks_tokens(const struct kv_blocks *); /* per block */
/* What the blocks hold that can be found. */
struct prefix_index *kv_blocks_index(const struct kv_blocks *);
/* Blocks with this key, now or later, go last of all when room is needed. */
int kv_blocks_pin(struct kv_blocks *, const struct prefix_key *, struct err *) WARN_UNUSED;

/* The blocks of one sequence, in order of position. */
struct kv_table {
    int32_t *block; /* [capacity] */
    int n, capacity;
    int n_keyed;    /* the first so many were found, or made to be found: */
    struct prefix_key key; /* what they hold; the root where there are none */
    struct prefix_key root;
    uint64_t owner; /* whose text it is */
};

/* Room for `tokens` positions, so that no step allocates memory. */
int kv_table_create(struct kv_table *, const struct kv_blocks *, int tokens, struct err *) WARN_UNUSED;
/* What its K and V depend on besides the tokens, and whose these are; the table is empty. */
void kv_table_root(struct kv_table *, struct prefix_key root, uint64_t owner);
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
/* How many blocks that hold the beginning of `tokens` can be found behind those that the table has, all of
 * which are keyed. *idle: how many of them nobody holds, so that taking them leaves so many fewer free. */
int kv_table_find(const struct kv_table *, const struct kv_blocks *, const int32_t *tokens, int n_tokens, int *idle);
/* Shares the next `n` of those blocks. */
void kv_table_adopt(struct kv_table *, struct kv_blocks *, const int32_t *tokens, int n);
/* Makes the blocks that hold the first n_tokens to be found by others, as far as they are full. */
void kv_table_publish(struct kv_table *, struct kv_blocks *, const int32_t *tokens, int n_tokens);

/* `to`, which is empty, shares the blocks of the first `tokens` positions of `from`. */
void kv_table_fork(struct kv_table *to, const struct kv_table *from, struct kv_blocks *, int tokens);
/* Where K and V of a position lie: block * block_tokens + offset. */
int32_t kv_table_slot(const struct kv_table *, const struct kv_blocks *, int position);

#endif
