/* Special tokens in text: the longest one that begins at a place and that the text's origin allows. */
#include "tokenizer_parts.h"

#include <string.h>

/* Bounds the work at each byte of a text whose vocabulary is hostile. */
#define MAX_SPECIAL 512

static int compare_specials(const void *a, const void *b)
{
    const struct special *x = a, *y = b;
    size_t shared = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->bytes, y->bytes, shared);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

int text_specials_init(struct text_specials *specials, const struct text_tokens *tokens, struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < tokens->n; i++) {
        n += tokens->types[i] == TOKEN_CONTROL || tokens->types[i] == TOKEN_USER_DEFINED;
    }
    specials->sorted = calloc(n + 1, sizeof *specials->sorted);
    if (!specials->sorted) {
        return err_set(err, ERR_NOMEM, "out of memory for %zu special tokens", n);
    }
    for (size_t i = 0; i < tokens->n; i++) {
        bool control = tokens->types[i] == TOKEN_CONTROL;
        struct text bytes = tokens->bytes[i];
        if ((!control && tokens->types[i] != TOKEN_USER_DEFINED) || !bytes.length) {
            continue;
        }
        if (bytes.length > MAX_SPECIAL) {
            return err_set(err, ERR_FORMAT, "special token %zu is longer than %d bytes", i, MAX_SPECIAL);
        }
        enum origin least = control ? ORIGIN_TEMPLATE : ORIGIN_HISTORY;
        specials->sorted[specials->n++] = (struct special){bytes.bytes, bytes.length, (int32_t)i, least};
    }
    qsort(specials->sorted, specials->n, sizeof *specials->sorted, compare_specials);
    for (size_t i = 0; i < specials->n; i++) {
        specials->first[(unsigned char)specials->sorted[i].bytes[0] + 1] = (uint32_t)(i + 1);
    }
    for (int b = 1; b < 257; b++) { /* bytes that begin nothing have an empty range */
        if (specials->first[b] < specials->first[b - 1]) {
            specials->first[b] = specials->first[b - 1];
        }
    }
    return 0;
}

void text_specials_dispose(struct text_specials *specials)
{
    free(specials->sorted);
}

/* The first of [low, high), all equal before `depth` and longer, whose byte there is at least `byte`. */
static uint32_t lower_bound(const struct special *sorted, uint32_t low, uint32_t high, size_t depth, int byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((unsigned char)sorted[middle].bytes[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct special *text_specials_match(const struct text_specials *specials, struct text text,
                                          const unsigned char *origin, enum origin fallback)
{
    const struct special *longest = NULL;
    if (!text.length) {
        return NULL;
    }
    uint32_t low = specials->first[(unsigned char)text.bytes[0]];
    uint32_t high = specials->first[(unsigned char)text.bytes[0] + 1];
    unsigned worst = origin ? ORIGIN_TEMPLATE : (unsigned)fallback;
    for (size_t depth = 0; low < high; depth++) {
        if (specials->sorted[low].length == depth) {
            if (worst <= (unsigned)specials->sorted[low].least) {
                longest = &specials->sorted[low];
            }
            low++;
        }
        if (depth == text.length) {
            break;
        }
        if (origin && origin[depth] > worst) {
            worst = origin[depth];
        }
        if (worst >= ORIGIN_PLAIN) {
            break;
        }
        int byte = (unsigned char)text.bytes[depth];
        low = lower_bound(specials->sorted, low, high, depth, byte);
        high = lower_bound(specials->sorted, low, high, depth, byte + 1);
    }
    return longest;
}

const struct special *text_specials_find(const struct text_specials *specials, struct text text)
{
    struct special key = {.bytes = text.bytes, .length = text.length};
    return bsearch(&key, specials->sorted, specials->n, sizeof key, compare_specials);
}
