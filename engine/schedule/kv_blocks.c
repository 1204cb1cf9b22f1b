/* Paged KV bookkeeping: a stack of free blocks, a reference count for each block, and a list of those that
 * are idle: held by nobody, but still to be found. */
#include "kv_blocks.h"

#include <stdlib.h>

struct kv_blocks {
    int n_blocks, block_tokens;
    int n_free, n_idle;
    int32_t *free_block; /* [n_blocks] the first n_free are free */
    int32_t *references; /* [n_blocks] */
    int32_t (*beside)[2]; /* [n_blocks + 2] of an idle block: the one before and after it; the last two are
                           * the ends of the rings, of others and of pinned ones: behind an end stands the
                           * block that is idle longest */
    bool *pinned;         /* [n_blocks] */
    struct prefix_key *pin; /* [n_pins] */
    int n_pins;
    struct prefix_index *index;
};

int kv_blocks_create(struct kv_blocks **out, int n_blocks, int block_tokens, struct err *err)
{
    *out = NULL;
    struct kv_blocks *kv = calloc(1, sizeof *kv);
    if (!kv) return err_set(err, ERR_NOMEM, "out of memory for KV blocks");
    kv->n_blocks = kv->n_free = n_blocks;
    kv->block_tokens = block_tokens;
    kv->free_block = malloc((size_t)n_blocks * sizeof *kv->free_block);
    kv->references = calloc((size_t)n_blocks, sizeof *kv->references);
    kv->beside = malloc(((size_t)n_blocks + 2) * sizeof *kv->beside);
    kv->pinned = calloc((size_t)n_blocks, sizeof *kv->pinned);
    int rc = 0;
    if (!kv->free_block || !kv->references || !kv->beside || !kv->pinned) {
        rc = err_set(err, ERR_NOMEM, "out of memory for %d KV blocks", n_blocks);
    }
    if (!rc) rc = prefix_index_create(&kv->index, n_blocks, block_tokens, err);
    if (rc) {
        kv_blocks_destroy(kv);
        return rc;
    }
    for (int end = n_blocks; end < n_blocks + 2; end++) kv->beside[end][0] = kv->beside[end][1] = end;
    for (int i = 0; i < n_blocks; i++) kv->free_block[i] = n_blocks - 1 - i;
    *out = kv;
    return 0;
}

void kv_blocks_destroy(struct kv_blocks *kv)
{
    if (!kv) return;
    free(kv->free_block);
    free(kv->references);
    free(kv->beside);
    free(kv->pinned);
    free(kv->pin);
    prefix_index_destroy(kv->index);
    free(kv);
}

int kv_blocks_total(const struct kv_blocks *kv)
{
    return kv->n_blocks;
}

int kv_blocks_free(const struct kv_blocks *kv)
{
    return kv->n_free + kv->n_idle;
}

int kv_blocks_cached(const struct kv_blocks *kv)
{
    return kv->n_idle;
}

int kv_blocks_tokens(const struct kv_blocks *kv)
{
    return kv->block_tokens;
}

struct prefix_index *kv_blocks_index(const struct kv_blocks *kv)
{
    return kv->index;
}

static void idle_begin(struct kv_blocks *kv, int32_t block)
{
    int32_t end = kv->n_blocks + kv->pinned[block], newest = kv->beside[end][0];
    kv->beside[block][0] = newest;
    kv->beside[block][1] = end;
    kv->beside[newest][1] = kv->beside[end][0] = block;
    kv->n_idle++;
}

static void idle_end(struct kv_blocks *kv, int32_t block)
{
    int32_t before = kv->beside[block][0], after = kv->beside[block][1];
    kv->beside[before][1] = after;
    kv->beside[after][0] = before;
    kv->n_idle--;
}

static int32_t take(struct kv_blocks *kv)
{
    if (kv->n_free == 0) {
        REQUIRE(kv->n_idle > 0);
        int32_t oldest = kv->beside[kv->n_blocks][1];
        if (oldest == kv->n_blocks) oldest = kv->beside[kv->n_blocks + 1][1];
        idle_end(kv, oldest);
        prefix_drop(kv->index, oldest);
        kv->pinned[oldest] = false;
        kv->free_block[kv->n_free++] = oldest;
    }
    int32_t block = kv->free_block[--kv->n_free];
    kv->references[block] = 1;
    return block;
}

static void share(struct kv_blocks *kv, int32_t block)
{
    if (kv->references[block]++ == 0) idle_end(kv, block);
}

static void give(struct kv_blocks *kv, int32_t block)
{
    REQUIRE(kv->references[block] > 0);
    if (--kv->references[block] > 0) return;
    if (prefix_holds(kv->index, block)) {
        idle_begin(kv, block);
    } else {
        kv->free_block[kv->n_free++] = block;
    }
}

static bool is_pin(const struct kv_blocks *kv, struct prefix_key key)
{
    int i = 0;
    while (i < kv->n_pins && !prefix_same(kv->pin[i], key)) i++;
    return i < kv->n_pins;
}

int kv_blocks_pin(struct kv_blocks *kv, const struct prefix_key *key, struct err *err)
{
    if (is_pin(kv, *key)) return 0;
    struct prefix_key *pin = realloc(kv->pin, ((size_t)kv->n_pins + 1) * sizeof *pin);
    if (!pin) return err_set(err, ERR_NOMEM, "out of memory for a pinned block");
    kv->pin = pin;
    pin[kv->n_pins++] = *key;
    int32_t block = prefix_find_key(kv->index, *key);
    if (block < 0) return 0;
    bool idle = kv->references[block] == 0;
    if (idle) idle_end(kv, block);
    kv->pinned[block] = true;
    if (idle) idle_begin(kv, block);
    return 0;
}

/* Whether others may read the block: then nobody writes into it. */
static bool is_shared(const struct kv_blocks *kv, int32_t block)
{
    return kv->references[block] > 1 || prefix_holds(kv->index, block);
}

int kv_table_create(struct kv_table *t, const struct kv_blocks *kv, int tokens, struct err *err)
{
    *t = (struct kv_table){.n = 0};
    t->capacity = (tokens + kv->block_tokens - 1) / kv->block_tokens;
    t->block = malloc((size_t)t->capacity * sizeof *t->block);
    return t->block ? 0 : err_set(err, ERR_NOMEM, "out of memory for a block table");
}

void kv_table_destroy(struct kv_table *t)
{
    REQUIRE(t->n == 0);
    free(t->block);
    t->block = NULL;
}

void kv_table_root(struct kv_table *t, struct prefix_key root, uint64_t owner)
{
    REQUIRE(t->n == 0);
    t->root = t->key = root;
    t->owner = owner;
}

/* The last block first: of one text the beginning stays longest. */
void kv_table_clear(struct kv_table *t, struct kv_blocks *kv)
{
    while (t->n > 0) give(kv, t->block[--t->n]);
    t->n_keyed = 0;
    t->key = t->root;
}

int kv_table_need(const struct kv_table *t, const struct kv_blocks *kv, int first, int rows)
{
    if (rows <= 0) return 0;
    int need = 0, last = (first + rows - 1) / kv->block_tokens;
    for (int i = first / kv->block_tokens; i <= last; i++) {
        need += i >= t->n || is_shared(kv, t->block[i]);
    }
    return need;
}

void kv_table_extend(struct kv_table *t, struct kv_blocks *kv, int first, int rows, struct kv_copies *copies)
{
    int last = (first + rows - 1) / kv->block_tokens;
    REQUIRE(rows > 0 && last < t->capacity && first / kv->block_tokens <= t->n);
    for (int i = first / kv->block_tokens; i <= last; i++) {
        if (i >= t->n) {
            t->block[t->n++] = take(kv);
            continue;
        }
        int32_t shared = t->block[i];
        if (!is_shared(kv, shared)) continue;
        REQUIRE(copies->n < copies->capacity);
        t->block[i] = take(kv);
        copies->pair[2 * copies->n] = shared;
        copies->pair[2 * copies->n + 1] = t->block[i];
        copies->n++;
        give(kv, shared);
    }
}

int kv_table_find(const struct kv_table *t, const struct kv_blocks *kv, const int32_t *tokens, int n_tokens,
                  int *idle)
{
    int n = 0;
    struct prefix_key key = t->key;
    *idle = 0;
    if (t->n_keyed < t->n) return 0;
    for (int i = t->n; (i + 1) * kv->block_tokens <= n_tokens; i++, n++) {
        const int32_t *own = tokens + i * kv->block_tokens;
        int32_t block = prefix_find(kv->index, key, own);
        if (block < 0) break;
        *idle += kv->references[block] == 0;
        key = prefix_entry(kv->index, block).key;
    }
    return n;
}

void kv_table_adopt(struct kv_table *t, struct kv_blocks *kv, const int32_t *tokens, int n)
{
    REQUIRE(t->n_keyed == t->n && t->n + n <= t->capacity);
    for (int i = 0; i < n; i++) {
        const int32_t *own = tokens + t->n * kv->block_tokens;
        int32_t block = prefix_find(kv->index, t->key, own);
        REQUIRE(block >= 0);
        share(kv, block);
        t->block[t->n++] = block;
        t->n_keyed++;
        t->key = prefix_entry(kv->index, block).key;
    }
}

/* Where another block holds the same already, that one goes on being found. */
void kv_table_publish(struct kv_table *t, struct kv_blocks *kv, const int32_t *tokens, int n_tokens)
{
    for (; t->n_keyed < t->n && (t->n_keyed + 1) * kv->block_tokens <= n_tokens; t->n_keyed++) {
        const int32_t *own = tokens + t->n_keyed * kv->block_tokens;
        int32_t block = t->block[t->n_keyed];
        if (!prefix_holds(kv->index, block) && prefix_find(kv->index, t->key, own) < 0) {
            prefix_put(kv->index, block, t->key, own, t->n_keyed, t->owner);
            kv->pinned[block] = is_pin(kv, prefix_entry(kv->index, block).key);
        }
        t->key = prefix_extend(t->key, own, kv->block_tokens);
    }
}

void kv_table_fork(struct kv_table *to, const struct kv_table *from, struct kv_blocks *kv, int tokens)
{
    int n = (tokens + kv->block_tokens - 1) / kv->block_tokens;
    REQUIRE(to->n == 0 && n <= from->n && n <= to->capacity);
    for (; to->n < n; to->n++) {
        to->block[to->n] = from->block[to->n];
        share(kv, to->block[to->n]);
    }
    REQUIRE(from->n_keyed <= n);
    to->n_keyed = from->n_keyed;
    to->root = from->root;
    to->owner = from->owner;
    to->key = from->key;
}

int32_t kv_table_slot(const struct kv_table *t, const struct kv_blocks *kv, int position)
{
    int i = position / kv->block_tokens;
    REQUIRE(i < t->n);
    return t->block[i] * kv->block_tokens + position % kv->block_tokens;
}
