/* The vocabulary of tiny models. */
#ifndef HEARTH_TINY_VOCAB_H
#define HEARTH_TINY_VOCAB_H

#include "gguf_writer.h"

/* The keys of tokenizer.ggml; `keys` counts them. Ids from tiny_model_tokens() to `listed` are unused
 * tokens. Skips the key `without` (may be NULL). */
void tiny_vocab_put(struct gguf_writer *, int listed, const char *pre, const char *chat_template,
                    const char *without, int *keys);

#endif
