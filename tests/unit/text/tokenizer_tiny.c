/* Builds the tiny vocabularies of the tokenizer's tests and of its fuzzer. */
#include "tokenizer_tiny.h"

#include <string.h>

/* Writes one byte in GPT-2's printable alphabet, found by counting as its authors do. */
static char *write_byte(char *out, unsigned char byte)
{
    unsigned point = byte, others = 0;
    for (unsigned b = 0; b < 256; b++) {
        bool prints = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte && !prints) {
            point = 256 + others;
        }
        others += !prints;
    }
    if (point < 0x80) {
        *out++ = (char)point;
    } else {
        *out++ = (char)(0xc0 | point >> 6);
        *out++ = (char)(0x80 | (point & 0x3f));
    }
    return out;
}

static char *write_bytes(char *out, const char *bytes)
{
    while (*bytes) {
        out = write_byte(out, (unsigned char)*bytes++);
    }
    return out;
}

struct tiny_vocabulary tiny_vocabulary(const struct tiny_options *options)
{
    size_t n = 256 + options->n_merges + options->n_specials;
    size_t size = 1024;
    for (size_t i = 0; i < options->n_merges; i++) {
        size += 4 * (strlen(options->merges[i].left) + strlen(options->merges[i].right)) + 1;
    }
    size_t head = (n + options->n_merges) * sizeof(struct text) + n * sizeof(int32_t);
    struct text *pieces = malloc(head + size);
    REQUIRE(pieces);
    struct text *merges = pieces + n;
    int32_t *types = (int32_t *)(merges + options->n_merges);
    char *out = (char *)(types + n), *start;
    for (size_t i = 0; i < n; i++) {
        types[i] = TOKEN_NORMAL;
    }
    for (size_t i = 0; i < 256; i++) {
        start = out;
        bool missing = i == 0xff && options->no_byte_ff;
        out = missing ? write_bytes(out, "\xff\xff") : write_byte(out, (unsigned char)i);
        pieces[i] = (struct text){start, (size_t)(out - start)};
    }
    for (size_t i = 0; i < options->n_merges; i++) {
        start = out;
        out = write_bytes(write_bytes(out, options->merges[i].left), options->merges[i].right);
        pieces[256 + i] = (struct text){start, (size_t)(out - start)};
        start = out;
        out = write_bytes(out, options->merges[i].left);
        *out++ = ' ';
        out = write_bytes(out, options->merges[i].right);
        merges[i] = (struct text){start, (size_t)(out - start)};
    }
    for (size_t i = 0; i < options->n_specials; i++) {
        size_t at = 256 + options->n_merges + i;
        pieces[at] = (struct text){options->specials[i].text, strlen(options->specials[i].text)};
        types[at] = options->specials[i].type;
    }
    struct vocabulary vocabulary = {.pre = options->pre, .pieces = pieces, .types = types, .n = n,
                                    .merges = merges, .n_merges = options->n_merges, .bos = -1};
    return (struct tiny_vocabulary){vocabulary, pieces};
}

struct tokenizer *tiny_tokenizer(const struct tiny_options *options)
{
    struct tiny_vocabulary tiny = tiny_vocabulary(options);
    struct tokenizer *tokenizer = NULL;
    struct err err = {0};
    if (tokenizer_create(&tokenizer, &tiny.vocabulary, &err) < 0) {
        fprintf(stderr, "tiny tokenizer: %s\n", err.text);
        abort();
    }
    free(tiny.memory);
    return tokenizer;
}
