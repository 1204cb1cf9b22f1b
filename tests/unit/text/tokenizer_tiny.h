/* A vocabulary small enough to read: the 256 bytes have their own value as id, merges follow from 256
 * on in the order of their ranks, then come the special tokens. */
#ifndef HEARTH_TESTS_TOKENIZER_TINY_H
#define HEARTH_TESTS_TOKENIZER_TINY_H

#include "../../../engine/text/tokenizer.h"

struct tiny_merge {
    const char *left, *right; /* bytes, not in the printable alphabet */
};

struct tiny_special {
    const char *text;
    enum token_type type;
};

struct tiny_options {
    const char *pre;
    const struct tiny_merge *merges; /* [n_merges] */
    size_t n_merges;
    const struct tiny_special *specials; /* [n_specials] */
    size_t n_specials;
    bool no_byte_ff; /* byte 0xff has a piece that says something else */
};

/* All of its memory is in one block, the caller's to free. */
struct tiny_vocabulary {
    struct vocabulary vocabulary;
    void *memory;
};

struct tiny_vocabulary tiny_vocabulary(const struct tiny_options *);
/* Aborts where the tokenizer cannot be created. */
struct tokenizer *tiny_tokenizer(const struct tiny_options *);

#endif
