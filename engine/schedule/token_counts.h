/* Walking over the counts that sampler.h makes; private to the sampler. */
#ifndef HEARTH_TOKEN_COUNTS_H
#define HEARTH_TOKEN_COUNTS_H

#include <stdbool.h>

#include "sampler.h"

struct token_count {
    int32_t id; /* -1: an empty place */
    int32_t output, prompt; /* both 0: seen no more */
};

/* The next token seen, starting from *at = 0; false at the end. NULL counts are empty. */
bool token_counts_next(const struct token_counts *, size_t *at, struct token_count *out);

#endif
