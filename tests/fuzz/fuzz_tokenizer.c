/* libFuzzer target: vocabularies and texts for the tokenizer, and the text stream on what comes out.
 * The first byte chooses pattern and origin, the second how much of the rest is a vocabulary. */
#include "../../engine/text/stream.h"
#include "../unit/text/tokenizer_tiny.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pres[] = {"qwen2", "llama-bpe", "smollm", "gpt2"};

static const struct tiny_merge merges[] = {
    {"a", "a"}, {"aa", "aa"}, {" ", " "}, {" ", "a"},
    {"\xcc", "\x81"}, {"e", "\xcc\x81"}, {"\n", "\n"}, {"1", "1"},
};

static const struct tiny_special specials[] = {
    {"<a>", TOKEN_CONTROL}, {"<a", TOKEN_USER_DEFINED}, {"<a>a", TOKEN_USER_DEFINED}, {"\xcc", TOKEN_CONTROL},
};

static struct tokenizer *fixed[sizeof pres / sizeof *pres];

/* Lines up to an empty one are pieces, those after it are merges. */
static struct tokenizer *from_lines(const char *pre, const char *bytes, size_t size)
{
    struct text lines[512];
    int32_t types[512];
    size_t n = 0, n_pieces = 0;
    while (size && n < 512) {
        const char *end = memchr(bytes, '\n', size);
        size_t length = end ? (size_t)(end - bytes) : size;
        if (!length && !n_pieces) {
            n_pieces = n;
        }
        types[n] = length && !n_pieces && bytes[0] == '<' ? TOKEN_CONTROL : TOKEN_NORMAL;
        lines[n++] = (struct text){bytes, length};
        size -= length + (end != NULL);
        bytes += length + (end != NULL);
    }
    bool has_merges = n_pieces > 0;
    struct vocabulary vocabulary = {
        .pre = pre, .pieces = lines, .types = types, .n = has_merges ? n_pieces : n, .bos = -1,
        .merges = lines + n_pieces + 1, .n_merges = has_merges ? n - n_pieces - 1 : 0};
    struct tokenizer *tokenizer = NULL;
    return tokenizer_create(&tokenizer, &vocabulary, NULL) == 0 ? tokenizer : NULL;
}

/* Pushes `text` in pieces that end at `ends` [n]; returns whether a stop string was found. */
static bool run_stream(struct text_stream *stream, const char *text, const size_t *ends, size_t n, char *out,
                       size_t *n_out)
{
    int found = 0;
    size_t length, released, total = 0;
    const char *given;
    *n_out = 0;
    for (size_t i = 0, at = 0; i < n && !found; at = ends[i++]) {
        found = text_stream_push(stream, text + at, ends[i] - at, &given, &length, &released, NULL);
        REQUIRE(found >= 0);
        memcpy(out + *n_out, given, length);
        *n_out += length;
        total += released;
        REQUIRE(total <= i + 1);
    }
    if (!found) {
        REQUIRE(text_stream_flush(stream, &given, &length, &released, NULL) == 0);
        memcpy(out + *n_out, given, length);
        *n_out += length;
        REQUIRE(total + released == n);
    }
    text_stream_destroy(stream);
    return found;
}

/* What a stream gives must not depend on where tokens end. */
static void compare_streams(const char *text, size_t length, const size_t *ends, size_t n)
{
    static const char *const stop[] = {"aa\n", "\xcc\x81", "aaaa ", "a1\xef\xbf\xbd"};
    struct text_stream *in_tokens, *at_once;
    REQUIRE(text_stream_create(&in_tokens, stop, 4, NULL) == 0);
    REQUIRE(text_stream_create(&at_once, stop, 4, NULL) == 0);
    char *a = malloc(3 * length + 1), *b = malloc(3 * length + 1);
    size_t n_a, n_b;
    bool found_a = run_stream(in_tokens, text, ends, n, a, &n_a);
    bool found_b = run_stream(at_once, text, &length, 1, b, &n_b);
    REQUIRE(found_a == found_b && n_a == n_b && memcmp(a, b, n_a) == 0);
    free(a);
    free(b);
}

static void check_text(const struct tokenizer *tokenizer, const char *text, size_t length, unsigned origins,
                       bool lossless)
{
    unsigned char *origin = malloc(length + 1);
    for (size_t i = 0; i < length; i++) {
        origin[i] = (unsigned char)(origins == 3 ? (text[i] & 1) : origins);
    }
    int32_t *ids;
    size_t n, at = 0, size;
    REQUIRE(tokenizer_encode(tokenizer, text, length, origin, ORIGIN_PLAIN, &ids, &n, NULL) == 0);
    size_t *ends = malloc((n + 1) * sizeof *ends);
    char *joined = malloc(3 * length + 1024); /* normalization may lengthen */
    for (size_t i = 0; i < n; i++) {
        const char *bytes = tokenizer_bytes(tokenizer, ids[i], &size);
        REQUIRE(bytes && at + size <= 3 * length + 1024);
        memcpy(joined + at, bytes, size);
        ends[i] = at += size;
    }
    if (lossless) {
        REQUIRE(at == length && memcmp(joined, text, length) == 0);
    }
    if (n) {
        compare_streams(joined, at, ends, n);
    }
    free(origin);
    free(ids);
    free(ends);
    free(joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t which = data[0] % 4;
    unsigned origins = data[0] / 4 % 4;
    size_t n_lines = (size - 2) * data[1] / 256;
    const char *text = (const char *)data + 2;
    if (data[1] >= 128) {
        struct tokenizer *own = from_lines(pres[which], text, n_lines);
        if (own) {
            check_text(own, text + n_lines, size - 2 - n_lines, origins, false);
        }
        tokenizer_destroy(own);
        return 0;
    }
    if (!fixed[which]) {
        fixed[which] = tiny_tokenizer(&(struct tiny_options){
            .pre = pres[which], .merges = merges, .n_merges = 8, .specials = specials, .n_specials = 4});
    }
    check_text(fixed[which], text, size - 2, origins, which != 0);
    return 0;
}
