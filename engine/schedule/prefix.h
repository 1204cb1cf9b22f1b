/* Finds KV blocks by what they hold. A block's key is a hash of its parent's key and of its tokens, so one
 * key stands for everything from the beginning of the text to the end of the block; the first parent is a
 * root, which stands for everything else that K and V depend on. A hit compares tokens too. */
#ifndef HEARTH_PREFIX_H
#define HEARTH_PREFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kernels/err.h"

struct prefix_key {
    uint64_t low, high;
};
/* A root: `text` is any bytes. */
struct prefix_key prefix_root(const void *text, size_t length);
/* A key for `parent` and any bytes with it. */
struct prefix_key prefix_root_behind(struct prefix_key parent, const void *bytes, size_t length);
/* Another root, for those who know the salt; the same one where it is empty. */
struct prefix_key prefix_salted(struct prefix_key root, const char *salt);
struct prefix_key prefix_extend(struct prefix_key, const int32_t *tokens, int n);
static inline bool prefix_same(struct prefix_key a, struct prefix_key b)
{
    return a.low == b.low && a.high == b.high;
}

struct prefix_index;
int prefix_index_create(struct prefix_index **out, int n_blocks, int block_tokens, struct err *) WARN_UNUSED;
void prefix_index_destroy(struct prefix_index *); /* NULL is fine */

/* The block that holds `tokens` behind `parent`, or -1. */
int32_t prefix_find(const struct prefix_index *, struct prefix_key parent, const int32_t *tokens);
int32_t prefix_find_key(const struct prefix_index *, struct prefix_key);
/* From now on `block`, which is not there yet, holds them: `owner`'s text, with `position` blocks before it. */
void prefix_put(struct prefix_index *, int32_t block, struct prefix_key parent, const int32_t *tokens,
                int position, uint64_t owner);
bool prefix_holds(const struct prefix_index *, int32_t block);
void prefix_drop(struct prefix_index *, int32_t block);

/* A block that is there. */
struct prefix_entry {
    struct prefix_key parent, key;
    int position;
    uint64_t owner;        /* whose text it was first */
    bool saved;            /* a mark for whoever keeps copies; not set at first */
    const int32_t *tokens; /* [block_tokens] */
};
struct prefix_entry prefix_entry(const struct prefix_index *, int32_t block);
void prefix_mark_saved(struct prefix_index *, int32_t block, bool saved);

/* Of the owner's blocks behind `parent`, the one that shares the longest beginning with tokens[n]: *same of them.
 * -1 where there is none. */
int32_t prefix_nearest(const struct prefix_index *, struct prefix_key parent, uint64_t owner,
                       const int32_t *tokens, int n, int *same);

#endif
