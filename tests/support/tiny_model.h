/* Small models with random weights for tests: GGUF files of any architecture, with a complete
 * byte-level vocabulary, so that a whole server runs on them in no time. */
#ifndef HEARTH_TINY_MODEL_H
#define HEARTH_TINY_MODEL_H

#include "../../kernels/device.h"

/* All zeros: a tied qwen2 of 2 layers, 64 wide, F32. Equal options give equal bytes. */
struct tiny_model_options {
    const char *architecture;  /* NULL: "qwen2"; "llama", "qwen3" */
    int layers, width, heads, kv_heads, head_dim, ff, context; /* 0: 2, 64, 4, 2, width/heads, 128, 512 */
    int vocab;                 /* rows of the embedding, at least tiny_model_tokens(); 0: 320 */
    bool unlisted_padding;     /* rows beyond the tokens are unknown to the tokenizer, not unused tokens */
    enum dtype matrix;         /* every matrix but the next two */
    enum dtype embedding, output, vector;
    bool mixed;                /* matrices take all types that fit their width in turn */
    bool untied;               /* an output.weight of its own */
    bool llama_bias, rope_factors; /* the optional tensors of llama */
    float yarn;                /* scaling factor, with half the context as original; 0: none */
    int parts;                 /* files; 0: 1 */
    const char *pre;           /* NULL: "qwen2" */
    const char *chat_template; /* NULL: ChatML; "": none */
    bool kv_heads_array;       /* head_count_kv as one number per layer */
    bool more_keys;            /* pooling of the last token, EOS behind texts, <|fim_pad|> as what fills in begin with */
    uint64_t seed;
    int lora_rank;             /* not 0: a LoRA adapter for such a model instead, of every matrix but the embedding */
    float lora_alpha;

    /* To make files that are wrong in one place. */
    const char *without;       /* a key or tensor that is left out */
    const char *twice;         /* a key or tensor that is written again */
    const char *replace;       /* an integer key that gets another value */
    uint32_t replacement;
    const char *reshape;       /* a tensor whose last dimension is one larger */
    const char *extra;         /* one more tensor of that name */
};

/* Ids 0..255 are the bytes; merged pieces follow, then special tokens. */
int tiny_model_tokens(void);
/* The id of a piece or special token by its text in the file's alphabet; -1. */
int tiny_model_token(const char *piece);

/* One part (0: the first) as bytes; *out is the caller's (free). ERR_INVALID where sizes do not fit. */
int tiny_model_bytes(const struct tiny_model_options *, int part, unsigned char **out, size_t *size,
                     struct err *) WARN_UNUSED;
/* Writes the file; of several parts `path`-0000I-of-0000N.gguf each. */
int tiny_model_write(const struct tiny_model_options *, const char *path, struct err *) WARN_UNUSED;

#endif
