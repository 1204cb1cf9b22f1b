/* Byte-pair merging. The pairs of a piece wait in a heap by rank and place while the symbols form a
 * linked list, so that a piece of a megabyte costs n·log n and not n². */
#include "tokenizer_parts.h"

#include <string.h>

#define NONE UINT32_MAX

static struct merge_slot *find_slot(const struct text_merges *merges, uint32_t left, uint32_t right)
{
    uint64_t hash = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    size_t at = (hash ^ hash >> 32) & merges->mask;
    struct merge_slot *slots = merges->slots;
    while (slots[at].left != NONE && (slots[at].left != left || slots[at].right != right)) {
        at = (at + 1) & merges->mask;
    }
    return &slots[at];
}

/* Parts and result are looked up as the file writes them. A control token is none of them, or plain
 * text could become one. */
static int32_t find_part(const struct text_index *pieces, const struct vocabulary *vocabulary,
                         const char *bytes, size_t length)
{
    int32_t id = text_index_find(pieces, bytes, length);
    return id >= 0 && vocabulary->types && vocabulary->types[id] == TOKEN_CONTROL ? -1 : id;
}

static int add_merge(struct text_merges *merges, const struct vocabulary *vocabulary,
                     const struct text_index *pieces, size_t rank, char *joined, struct err *err)
{
    struct text merge = vocabulary->merges[rank];
    const char *space = merge.length ? memchr(merge.bytes, ' ', merge.length) : NULL;
    if (!space) {
        return err_set(err, ERR_FORMAT, "merge %zu has no space between its parts", rank);
    }
    size_t n_left = (size_t)(space - merge.bytes), n_right = merge.length - n_left - 1;
    memcpy(joined, merge.bytes, n_left);
    memcpy(joined + n_left, space + 1, n_right);
    int32_t left = find_part(pieces, vocabulary, joined, n_left);
    int32_t right = find_part(pieces, vocabulary, joined + n_left, n_right);
    int32_t result = find_part(pieces, vocabulary, joined, n_left + n_right);
    if (!n_left || !n_right || left < 0 || right < 0 || result < 0) {
        return err_set(err, ERR_FORMAT, "merge %zu does not fit the vocabulary", rank);
    }
    struct merge_slot *slot = find_slot(merges, (uint32_t)left, (uint32_t)right);
    if (slot->left == NONE) { /* of equal merges the first counts */
        *slot = (struct merge_slot){(uint32_t)left, (uint32_t)right, (uint32_t)rank};
    }
    merges->results[rank] = result;
    return 0;
}

static int index_pieces(struct text_index *pieces, const struct vocabulary *vocabulary, struct err *err)
{
    int code = text_index_init(pieces, vocabulary->pieces, vocabulary->n, err);
    for (size_t i = 0; code == 0 && i < vocabulary->n; i++) {
        int32_t other = text_index_add(pieces, (uint32_t)i);
        if (other >= 0) {
            code = err_set(err, ERR_FORMAT, "token %zu repeats token %d", i, other);
        }
    }
    return code;
}

int text_merges_init(struct text_merges *merges, const struct vocabulary *vocabulary, struct err *err)
{
    size_t n_slots = 16, longest = 1, bytes;
    while (n_slots / 2 < vocabulary->n_merges) {
        n_slots *= 2;
    }
    for (size_t i = 0; i < vocabulary->n_merges; i++) {
        if (vocabulary->merges[i].length > longest) {
            longest = vocabulary->merges[i].length;
        }
    }
    struct text_index pieces = {0};
    char *joined = malloc(longest);
    merges->results = calloc(vocabulary->n_merges + 1, sizeof *merges->results);
    merges->slots = __builtin_mul_overflow(n_slots, sizeof *merges->slots, &bytes) ? NULL : malloc(bytes);
    int code;
    if (!joined || !merges->results || !merges->slots) {
        code = err_set(err, ERR_NOMEM, "out of memory for %zu merges", vocabulary->n_merges);
        goto done;
    }
    memset(merges->slots, 0xff, bytes);
    merges->mask = n_slots - 1;
    code = index_pieces(&pieces, vocabulary, err);
    for (size_t i = 0; code == 0 && i < vocabulary->n_merges; i++) {
        code = add_merge(merges, vocabulary, &pieces, i, joined, err);
    }
done:
    text_index_dispose(&pieces);
    free(joined);
    return code;
}

void text_merges_dispose(struct text_merges *merges)
{
    free(merges->slots);
    free(merges->results);
}

int text_ids_push(struct text_ids *out, int32_t id, struct err *err)
{
    if (out->n == out->capacity) {
        size_t capacity = out->capacity ? out->capacity * 2 : 64;
        int32_t *ids = realloc(out->ids, capacity * sizeof *ids);
        if (!ids) {
            return err_set(err, ERR_NOMEM, "out of memory for %zu token ids", capacity);
        }
        out->ids = ids;
        out->capacity = capacity;
    }
    out->ids[out->n++] = id;
    return 0;
}

static void sift_down(uint64_t *heap, size_t n, size_t at)
{
    uint64_t moving = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) {
            child++;
        }
        if (moving <= heap[child]) {
            break;
        }
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

static uint64_t heap_pop(struct merge_scratch *scratch)
{
    uint64_t top = scratch->heap[0];
    scratch->heap[0] = scratch->heap[--scratch->n_heap];
    if (scratch->n_heap) {
        sift_down(scratch->heap, scratch->n_heap, 0);
    }
    return top;
}

static int heap_reserve(struct merge_scratch *scratch, size_t capacity, struct err *err)
{
    if (capacity <= scratch->heap_capacity) {
        return 0;
    }
    if (capacity < scratch->heap_capacity * 2) {
        capacity = scratch->heap_capacity * 2;
    }
    uint64_t *heap = realloc(scratch->heap, capacity * sizeof *heap);
    if (!heap) {
        return err_set(err, ERR_NOMEM, "out of memory for merging a long word");
    }
    scratch->heap = heap;
    scratch->heap_capacity = capacity;
    return 0;
}

static void heap_push(struct merge_scratch *scratch, uint64_t entry)
{
    uint64_t *heap = scratch->heap;
    size_t at = scratch->n_heap++;
    for (; at > 0 && entry < heap[(at - 1) / 2]; at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
    }
    heap[at] = entry;
}

/* Looks up the pair that begins at `at`; true where it merges. */
static bool rank_pair(const struct text_merges *merges, struct merge_symbol *symbols, uint32_t at)
{
    uint32_t next = symbols[at].next;
    symbols[at].rank = NONE;
    if (next != NONE) {
        uint32_t left = (uint32_t)symbols[at].id, right = (uint32_t)symbols[next].id;
        const struct merge_slot *slot = find_slot(merges, left, right);
        if (slot->left != NONE) {
            symbols[at].rank = slot->rank;
        }
    }
    return symbols[at].rank != NONE;
}

static uint64_t heap_entry(const struct merge_symbol *symbols, uint32_t at)
{
    return (uint64_t)symbols[at].rank << 32 | at;
}

/* One symbol per byte; a byte that the vocabulary lacks leaves no trace, as in training. */
static uint32_t fill_symbols(const int32_t byte_ids[256], struct text piece, struct merge_symbol *symbols)
{
    uint32_t n = 0;
    for (size_t i = 0; i < piece.length; i++) {
        int32_t id = byte_ids[(unsigned char)piece.bytes[i]];
        if (id >= 0) {
            symbols[n] = (struct merge_symbol){id, n - 1, n + 1, NONE};
            n++;
        }
    }
    if (n) {
        symbols[n - 1].next = NONE; /* and the first one's previous is 0 - 1: NONE */
    }
    return n;
}

static int run_merges(const struct text_merges *merges, struct merge_scratch *scratch, uint32_t n,
                      struct err *err)
{
    struct merge_symbol *symbols = scratch->symbols;
    scratch->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (rank_pair(merges, symbols, i)) {
            scratch->heap[scratch->n_heap++] = heap_entry(symbols, i);
        }
    }
    for (size_t i = scratch->n_heap / 2; i-- > 0;) {
        sift_down(scratch->heap, scratch->n_heap, i);
    }
    while (scratch->n_heap) {
        uint64_t top = heap_pop(scratch);
        uint32_t at = (uint32_t)top, rank = (uint32_t)(top >> 32);
        if (symbols[at].rank != rank) {
            continue; /* an earlier merge took one of the two */
        }
        int code = heap_reserve(scratch, scratch->n_heap + 2, err);
        if (code < 0) {
            return code;
        }
        uint32_t gone = symbols[at].next, previous = symbols[at].previous;
        symbols[at].id = merges->results[rank];
        symbols[at].next = symbols[gone].next;
        symbols[gone].rank = NONE;
        if (symbols[at].next != NONE) {
            symbols[symbols[at].next].previous = at;
        }
        if (rank_pair(merges, symbols, at)) {
            heap_push(scratch, heap_entry(symbols, at));
        }
        if (previous != NONE && rank_pair(merges, symbols, previous)) {
            heap_push(scratch, heap_entry(symbols, previous));
        }
    }
    return 0;
}

int text_merges_apply(const struct text_merges *merges, const int32_t byte_ids[256], struct text piece,
                      struct merge_scratch *scratch, struct text_ids *out, struct err *err)
{
    if (piece.length > scratch->n_symbols) {
        size_t n = piece.length + piece.length / 2 + 64;
        free(scratch->symbols);
        scratch->n_symbols = 0;
        scratch->symbols = malloc(n * sizeof *scratch->symbols);
        if (!scratch->symbols) {
            return err_set(err, ERR_NOMEM, "out of memory for merging a long word");
        }
        scratch->n_symbols = n;
    }
    uint32_t n = fill_symbols(byte_ids, piece, scratch->symbols);
    int code = heap_reserve(scratch, n, err);
    if (code == 0) {
        code = run_merges(merges, scratch, n, err);
    }
    for (uint32_t at = n ? 0 : NONE; code == 0 && at != NONE; at = scratch->symbols[at].next) {
        code = text_ids_push(out, scratch->symbols[at].id, err);
    }
    return code;
}

void merge_scratch_dispose(struct merge_scratch *scratch)
{
    free(scratch->symbols);
    free(scratch->heap);
}
