/* Byte-level BPE tokenizer (GPT-2, Sennrich et al. arXiv:1508.07909) with split patterns by
 * `tokenizer.ggml.pre`. Immutable after creation: any number of threads may use it. */
#ifndef HEARTH_TOKENIZER_H
#define HEARTH_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kernels/err.h"

struct tokenizer;

enum token_type { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE };

struct text { /* not NUL-terminated */
    const char *bytes;
    size_t length;
};

/* What a model file says; nothing of it is needed after tokenizer_create. */
struct vocabulary {
    const char *pre;            /* "qwen2", "deepseek-r1-qwen", "smollm", "llama-bpe", "gpt2" */
    const struct text *pieces;  /* [n] in GPT-2's printable byte alphabet */
    const int32_t *types;       /* [n] enum token_type, or NULL: all normal */
    size_t n;
    const struct text *merges;  /* [n_merges] "left right" */
    size_t n_merges;
    int32_t bos;                /* -1: none */
    bool add_bos;
};

/* ERR_UNSUPPORTED: unknown `pre`. ERR_FORMAT: pieces that repeat or are not of the alphabet, a merge
 * whose parts or result are no pieces, types out of range. */
int tokenizer_create(struct tokenizer **out, const struct vocabulary *, struct err *) WARN_UNUSED;
void tokenizer_destroy(struct tokenizer *); /* NULL is fine */

/* Where text comes from decides which special tokens are recognised in it. One byte each. */
enum origin {
    ORIGIN_TEMPLATE = 0, /* the template's own: control and user-defined tokens */
    ORIGIN_HISTORY = 1,  /* assistant and tool turns: user-defined tokens */
    ORIGIN_PLAIN = 2     /* typed by somebody: none */
};

/* Tokenises `text`. `origin` gives one byte per byte of text, or NULL: all `fallback`. A special
 * token counts only where all of its bytes have an origin that allows it; the text between is
 * split and merged without regard to origins. *ids is malloc'd, the caller's. Near-linear in
 * `length`. ERR_LIMIT over 64 MiB, ERR_NOMEM. */
int tokenizer_encode(const struct tokenizer *, const char *text, size_t length,
                     const unsigned char *origin, enum origin fallback,
                     int32_t **ids, size_t *n, struct err *) WARN_UNUSED;

/* The bytes of one token; special ones give their text. NULL outside the vocabulary. */
const char *tokenizer_bytes(const struct tokenizer *, int32_t id, size_t *length);
/* True for tokens that must not appear in generated text: control, unknown, unused. */
bool tokenizer_is_hidden(const struct tokenizer *, int32_t id);
/* The id of a special or ordinary token by its exact text; -1 where there is none. */
int32_t tokenizer_find(const struct tokenizer *, const char *text);
size_t tokenizer_size(const struct tokenizer *);
int32_t tokenizer_bos(const struct tokenizer *);     /* -1: none */
bool tokenizer_adds_bos(const struct tokenizer *);

#endif
