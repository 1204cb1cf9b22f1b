/* An index by hash of the KV blocks whose tokens are known. */
#include "prefix.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct entry {
    struct prefix_key parent, key;
    int32_t next;    /* in the bucket of its key; -1 at its end */
    int32_t sibling; /* in the bucket of its parent's */
    int32_t position;
    uint64_t owner;
    bool there, saved;
};

struct prefix_index {
    int block_tokens;
    uint32_t mask;     /* buckets - 1 */
    int32_t *bucket;   /* [mask + 1] the first block with such a key, or -1 */
    int32_t *children; /* [mask + 1] the first one with such a parent */
    struct entry *entry; /* [n_blocks] */
    int32_t *tokens;   /* [n_blocks][block_tokens] */
};

static struct prefix_key from_hash(XXH128_hash_t h)
{
    return (struct prefix_key){h.low64, h.high64};
}

struct prefix_key prefix_root(const void *text, size_t length)
{
    return from_hash(XXH3_128bits(text, length));
}

struct prefix_key prefix_root_behind(struct prefix_key parent, const void *bytes, size_t length)
{
    uint64_t seed = parent.low ^ parent.high * 0x9e3779b97f4a7c15u;
    return from_hash(XXH3_128bits_withSeed(bytes, length, seed));
}

struct prefix_key prefix_salted(struct prefix_key root, const char *salt)
{
    return salt && *salt ? prefix_root_behind(root, salt, strlen(salt)) : root;
}

struct prefix_key prefix_extend(struct prefix_key parent, const int32_t *tokens, int n)
{
    return prefix_root_behind(parent, tokens, (size_t)n * sizeof *tokens);
}

int prefix_index_create(struct prefix_index **out, int n_blocks, int block_tokens, struct err *err)
{
    *out = NULL;
    struct prefix_index *x = calloc(1, sizeof *x);
    if (!x) return err_set(err, ERR_NOMEM, "out of memory for the prefix cache");
    size_t buckets = 16, n = (size_t)n_blocks;
    while (buckets < 2 * n) buckets *= 2;
    x->block_tokens = block_tokens;
    x->mask = (uint32_t)(buckets - 1);
    x->bucket = malloc(buckets * sizeof *x->bucket);
    x->children = malloc(buckets * sizeof *x->children);
    x->entry = calloc(n, sizeof *x->entry);
    x->tokens = malloc(n * (size_t)block_tokens * sizeof *x->tokens);
    if (!x->bucket || !x->children || !x->entry || !x->tokens) {
        prefix_index_destroy(x);
        return err_set(err, ERR_NOMEM, "out of memory for the index of %d KV blocks", n_blocks);
    }
    for (size_t i = 0; i < buckets; i++) x->bucket[i] = x->children[i] = -1;
    *out = x;
    return 0;
}

void prefix_index_destroy(struct prefix_index *x)
{
    if (!x) return;
    free(x->bucket);
    free(x->children);
    free(x->entry);
    free(x->tokens);
    free(x);
}

static int32_t *bucket_of(const struct prefix_index *x, struct prefix_key key)
{
    return &x->bucket[key.low & x->mask];
}

static int32_t *children_of(const struct prefix_index *x, struct prefix_key parent)
{
    return &x->children[parent.low & x->mask];
}

static int32_t *tokens_of(const struct prefix_index *x, int32_t block)
{
    return x->tokens + (size_t)block * (size_t)x->block_tokens;
}

int32_t prefix_find(const struct prefix_index *x, struct prefix_key parent, const int32_t *tokens)
{
    struct prefix_key key = prefix_extend(parent, tokens, x->block_tokens);
    for (int32_t b = *bucket_of(x, key); b >= 0; b = x->entry[b].next) {
        const struct entry *e = &x->entry[b];
        if (prefix_same(e->key, key) && prefix_same(e->parent, parent) &&
            !memcmp(tokens_of(x, b), tokens, (size_t)x->block_tokens * sizeof *tokens)) {
            return b;
        }
    }
    return -1;
}

int32_t prefix_find_key(const struct prefix_index *x, struct prefix_key key)
{
    int32_t b = *bucket_of(x, key);
    while (b >= 0 && !prefix_same(x->entry[b].key, key)) b = x->entry[b].next;
    return b;
}

void prefix_put(struct prefix_index *x, int32_t block, struct prefix_key parent, const int32_t *tokens,
                int position, uint64_t owner)
{
    struct entry *e = &x->entry[block];
    REQUIRE(!e->there);
    struct prefix_key key = prefix_extend(parent, tokens, x->block_tokens);
    int32_t *first = bucket_of(x, key), *child = children_of(x, parent);
    *e = (struct entry){parent, key, *first, *child, position, owner, true, false};
    *first = *child = block;
    memcpy(tokens_of(x, block), tokens, (size_t)x->block_tokens * sizeof *tokens);
}

bool prefix_holds(const struct prefix_index *x, int32_t block)
{
    return x->entry[block].there;
}

void prefix_drop(struct prefix_index *x, int32_t block)
{
    struct entry *e = &x->entry[block];
    REQUIRE(e->there);
    int32_t *at = bucket_of(x, e->key);
    while (*at != block) at = &x->entry[*at].next;
    *at = e->next;
    at = children_of(x, e->parent);
    while (*at != block) at = &x->entry[*at].sibling;
    *at = e->sibling;
    e->there = false;
}

struct prefix_entry prefix_entry(const struct prefix_index *x, int32_t block)
{
    const struct entry *e = &x->entry[block];
    REQUIRE(e->there);
    return (struct prefix_entry){e->parent, e->key, e->position, e->owner, e->saved, tokens_of(x, block)};
}

void prefix_mark_saved(struct prefix_index *x, int32_t block, bool saved)
{
    x->entry[block].saved = saved;
}

int32_t prefix_nearest(const struct prefix_index *x, struct prefix_key parent, uint64_t owner,
                       const int32_t *tokens, int n, int *same)
{
    int32_t nearest = -1;
    if (n > x->block_tokens) n = x->block_tokens;
    *same = 0;
    for (int32_t b = *children_of(x, parent); b >= 0; b = x->entry[b].sibling) {
        if (x->entry[b].owner != owner || !prefix_same(x->entry[b].parent, parent)) continue;
        int i = 0;
        while (i < n && tokens_of(x, b)[i] == tokens[i]) i++;
        if (nearest >= 0 && i <= *same) continue;
        nearest = b;
        *same = i;
    }
    return nearest;
}
