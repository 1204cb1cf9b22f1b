/* Paged KV bookkeeping: a stack of free blocks and a reference count for each block. */
#include "kv_blocks.h"

struct kv_blocks {
    int n_blocks, block_tokens;
    int n_free;
    int32_t *free_block; /* [n_blocks] the first n_free are free */
    int32_t *references; /* [n_blocks] */
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
    if (!kv->free_block || !kv->references) {
        kv_blocks_destroy(kv);
        return err_set(err, ERR_NOMEM, "out of memory for %d KV blocks", n_blocks);
    }
    for (int i = 0; i < n_blocks; i++) kv->free_block[i] = n_blocks - 1 - i;
    *out = kv;
    return 0;
}

void kv_blocks_destroy(struct kv_blocks *kv)
{
    if (!kv) return;
    free(kv->free_block);
    free(kv->references);
    free(kv);
}

int kv_blocks_total(const struct kv_blocks *kv)
{
    return kv->n_blocks;
}

int kv_blocks_free(const struct kv_blocks *kv)
{
    return kv->n_free;
}

int kv_blocks_tokens(const struct kv_blocks *kv)
{
    return kv->block_tokens;
}

static int32_t take(struct kv_blocks *kv)
{
    REQUIRE(kv->n_free > 0);
    int32_t block = kv->free_block[--kv->n_free];
    kv->references[block] = 1;
    return block;
}

static void give(struct kv_blocks *kv, int32_t block)
{
    REQUIRE(kv->references[block] > 0);
    if (--kv->references[block] == 0) kv->free_block[kv->n_free++] = block;
}

int kv_table_create(struct kv_table *t, const struct kv_blocks *kv, int tokens, struct err *err)
{
    t->n = 0;
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

void kv_table_clear(struct kv_table *t, struct kv_blocks *kv)
{
    while (t->n > 0) give(kv, t->block[--t->n]);
}

int kv_table_need(const struct kv_table *t, const struct kv_blocks *kv, int first, int rows)
{
    if (rows <= 0) return 0;
    int need = 0, last = (first + rows - 1) / kv->block_tokens;
    for (int i = first / kv->block_tokens; i <= last; i++) {
        need += i >= t->n || kv->references[t->block[i]] > 1;
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
        if (kv->references[shared] == 1) continue;
        REQUIRE(copies->n < copies->capacity);
        t->block[i] = take(kv);
        copies->pair[2 * copies->n] = shared;
        copies->pair[2 * copies->n + 1] = t->block[i];
        copies->n++;
        give(kv, shared);
    }
}

void kv_table_fork(struct kv_table *to, const struct kv_table *from, struct kv_blocks *kv, int tokens)
{
    int n = (tokens + kv->block_tokens - 1) / kv->block_tokens;
    REQUIRE(to->n == 0 && n <= from->n && n <= to->capacity);
    for (; to->n < n; to->n++) {
        to->block[to->n] = from->block[to->n];
        kv->references[to->block[to->n]]++;
    }
}

int32_t kv_table_slot(const struct kv_table *t, const struct kv_blocks *kv, int position)
{
    int i = position / kv->block_tokens;
    REQUIRE(i < t->n);
    return t->block[i] * kv->block_tokens + position % kv->block_tokens;
}
