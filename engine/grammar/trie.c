/* Tokens are sorted by their bytes; neighbours then share their path. */
#include "trie.h"

#include <string.h>

struct entry {
    const unsigned char *bytes;
    size_t length;
    int32_t id;
};

static int compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    size_t shorter = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->bytes, y->bytes, shorter);
    if (order) return order;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static size_t shared(const struct entry *a, const struct entry *b)
{
    size_t n = 0;
    while (n < a->length && n < b->length && a->bytes[n] == b->bytes[n]) n++;
    return n;
}

static int collect(struct entry *entry, const struct tokenizer *t, const int32_t *end_ids, int n_end_ids)
{
    int n = 0;
    for (int32_t id = 0; (size_t)id < tokenizer_size(t); id++) {
        size_t length;
        const char *bytes = tokenizer_bytes(t, id, &length);
        bool ends = false;
        for (int i = 0; i < n_end_ids; i++) ends |= end_ids[i] == id;
        if (!bytes || length == 0 || length > TRIE_DEPTH_MAX || ends || tokenizer_is_hidden(t, id)) continue;
        entry[n++] = (struct entry){(const unsigned char *)bytes, length, id};
    }
    qsort(entry, (size_t)n, sizeof *entry, compare);
    return n;
}

/* Fills the arrays, where there are any; returns the number of nodes. */
static int place(struct trie *t, const struct entry *entry, int n_entries)
{
    int n = 1, open[TRIE_DEPTH_MAX + 1] = {0}; /* the nodes of the last token's path, by depth */
    size_t depth = 0;
    for (int i = 0; i < n_entries; i++) {
        size_t from = i > 0 ? shared(&entry[i - 1], &entry[i]) : 0;
        for (; t->byte && depth > from; depth--) t->end[open[depth]] = n;
        depth = from;
        for (; depth < entry[i].length; n++) {
            open[++depth] = n;
            if (!t->byte) continue;
            t->byte[n] = entry[i].bytes[depth - 1];
            t->depth[n] = (unsigned char)depth;
            t->token[n] = i;
        }
        if (t->byte) t->id[i] = entry[i].id;
    }
    for (; t->byte && depth > 0; depth--) t->end[open[depth]] = n;
    return n;
}

static void find_heights(struct trie *t)
{
    int open[TRIE_DEPTH_MAX + 1] = {0};
    for (int i = 1; i < t->n_nodes; i++) {
        open[t->depth[i]] = i;
        for (int d = t->depth[i] - 1, height = 1; d >= 0 && t->height[open[d]] < height; d--, height++) {
            t->height[open[d]] = (unsigned char)height;
        }
    }
}

int trie_create(struct trie **out, const struct tokenizer *tokenizer, int vocab, const int32_t *end_ids,
                int n_end_ids, struct err *err)
{
    struct trie *t = calloc(1, sizeof *t);
    struct entry *entry = malloc((tokenizer_size(tokenizer) + 1) * sizeof *entry);
    *out = NULL;
    if (!t || !entry) goto fail;
    t->vocab = vocab;
    t->tokenizer = tokenizer;
    t->n_tokens = collect(entry, tokenizer, end_ids, n_end_ids);
    t->n_nodes = place(t, entry, t->n_tokens);
    size_t n = (size_t)t->n_nodes;
    t->depth = calloc(n, 1);
    t->height = calloc(n, 1);
    t->end = malloc(n * sizeof *t->end);
    t->token = calloc(n + 1, sizeof *t->token);
    t->id = malloc(((size_t)t->n_tokens + 1) * sizeof *t->id);
    t->end_id = malloc(((size_t)n_end_ids + 1) * sizeof *t->end_id);
    unsigned char *byte = calloc(n, 1);
    if (!t->depth || !t->height || !t->end || !t->token || !t->id || !t->end_id || !byte) {
        free(byte);
        goto fail;
    }
    t->byte = byte;
    for (int i = 0; i < n_end_ids; i++) t->end_id[t->n_end_ids++] = end_ids[i];
    place(t, entry, t->n_tokens);
    t->end[0] = t->n_nodes;
    t->token[n] = t->n_tokens;
    find_heights(t);
    free(entry);
    *out = t;
    return 0;

fail:
    free(entry);
    trie_destroy(t);
    return err_set(err, ERR_NOMEM, "out of memory for the tokens of a vocabulary");
}

void trie_destroy(struct trie *t)
{
    if (!t) return;
    free(t->byte);
    free(t->depth);
    free(t->height);
    free(t->end);
    free(t->token);
    free(t->id);
    free(t->end_id);
    free(t);
}
