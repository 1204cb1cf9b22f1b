/* The tokenizer's parts, seen by tokenizer*.c only. What is built at creation is immutable
 * afterwards; scratch memory belongs to one call of tokenizer_encode. */
#ifndef HEARTH_TOKENIZER_PARTS_H
#define HEARTH_TOKENIZER_PARTS_H

#include "tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Finds byte strings in an array of keys that belongs to somebody else. */
struct text_index {
    const struct text *keys; /* borrowed */
    uint32_t *slots;         /* [mask + 1] key number + 1; 0: empty */
    size_t mask;
};

int text_index_init(struct text_index *, const struct text *keys, size_t n, struct err *) WARN_UNUSED;
void text_index_dispose(struct text_index *);
/* The number of an equal key that was there already, or -1: this one is in now. */
int32_t text_index_add(struct text_index *, uint32_t key);
int32_t text_index_find(const struct text_index *, const char *bytes, size_t length); /* -1: none */

/* All tokens as the bytes they stand for. */
struct text_tokens {
    size_t n;
    struct text *bytes;       /* [n] into `arena` */
    unsigned char *types;     /* [n] enum token_type */
    char *arena;
    struct text_index normal; /* over `bytes`: only those of type normal */
    int32_t byte_ids[256];    /* the token of each single byte; -1: the vocabulary lacks it */
};

int text_tokens_init(struct text_tokens *, const struct vocabulary *, struct err *) WARN_UNUSED;
void text_tokens_dispose(struct text_tokens *);

/* Which pairs of tokens merge, by rank. */
struct text_merges {
    struct merge_slot {
        uint32_t left, right, rank; /* left UINT32_MAX: empty */
    } *slots;                       /* [mask + 1] */
    size_t mask;
    int32_t *results;               /* [n_merges] by rank */
};

int text_merges_init(struct text_merges *, const struct vocabulary *, struct err *) WARN_UNUSED;
void text_merges_dispose(struct text_merges *);

struct text_ids {
    int32_t *ids;
    size_t n, capacity;
};

int text_ids_push(struct text_ids *, int32_t id, struct err *) WARN_UNUSED;

/* Scratch memory of text_merges_apply; starts zeroed. */
struct merge_scratch {
    struct merge_symbol {
        int32_t id;
        uint32_t previous, next; /* positions; UINT32_MAX: none */
        uint32_t rank;           /* of the pair that begins here; UINT32_MAX: none */
    } *symbols;
    size_t n_symbols;
    uint64_t *heap; /* rank << 32 | position, smallest first */
    size_t n_heap, heap_capacity;
};

/* Merges the bytes of one piece into tokens: O(length · log length). */
int text_merges_apply(const struct text_merges *, const int32_t byte_ids[256], struct text piece,
                      struct merge_scratch *, struct text_ids *out, struct err *) WARN_UNUSED;
void merge_scratch_dispose(struct merge_scratch *);

/* Control and user-defined tokens, recognised in text. */
struct text_specials {
    struct special {
        const char *bytes; /* borrowed from text_tokens */
        size_t length;
        int32_t id;
        enum origin least; /* the least trusted origin that it is recognised in */
    } *sorted;             /* [n] by bytes */
    uint32_t first[257];   /* those that begin with byte b: [first[b], first[b + 1]) */
    size_t n;
};

int text_specials_init(struct text_specials *, const struct text_tokens *, struct err *) WARN_UNUSED;
void text_specials_dispose(struct text_specials *);
/* The longest special token that `text` begins with and that its origins allow; NULL: none.
 * `origin` may be NULL: all `fallback`. */
const struct special *text_specials_match(const struct text_specials *, struct text text,
                                          const unsigned char *origin, enum origin fallback);
const struct special *text_specials_find(const struct text_specials *, struct text text);

/* How text is cut into pieces before merging. */
struct text_split {
    pcre2_code *pattern;
    pcre2_match_context *limits;
    bool compose;      /* the model was trained on text in NFC */
    bool whole_pieces; /* a piece that is a token is taken without looking at merges */
};

int text_split_init(struct text_split *, const char *pre, struct err *) WARN_UNUSED;
void text_split_dispose(struct text_split *);
/* The end of the piece that begins at `start` < length, or a negative code. `text` is valid UTF-8. */
int64_t text_split_next(const struct text_split *, pcre2_match_data *, struct text text, size_t start,
                        struct err *) WARN_UNUSED;

/* Scratch memory of text_compose; starts zeroed. */
struct compose_scratch {
    int32_t *points;
    size_t points_capacity;
    char *bytes;
    size_t n_bytes, bytes_capacity;
};

/* Normalization form C of valid UTF-8: `*out` is `in` itself or lies in the scratch memory. */
int text_compose(struct text in, struct compose_scratch *, struct text *out, struct err *) WARN_UNUSED;
void compose_scratch_dispose(struct compose_scratch *);

#endif
