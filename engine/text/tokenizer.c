/* The tokenizer's door: special tokens are cut out first, then the text between them is normalized
 * where the model wants that, split into pieces and merged. */
#include "tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>

#define MAX_TEXT ((size_t)64 << 20)

struct tokenizer {
    struct text_tokens tokens;
    struct text_merges merges;
    struct text_specials specials;
    struct text_split split;
    int32_t bos;
    bool add_bos;
};

/* All memory of one call. */
struct encoder {
    const struct tokenizer *tokenizer;
    pcre2_match_data *match;
    struct compose_scratch compose;
    struct merge_scratch merge;
    struct text_ids out;
};

int tokenizer_create(struct tokenizer **out, const struct vocabulary *vocabulary, struct err *err)
{
    if (!vocabulary->n || vocabulary->n > INT32_MAX || vocabulary->n_merges >= UINT32_MAX) {
        return err_set(err, ERR_FORMAT, "a vocabulary of %zu tokens and %zu merges is not possible",
                       vocabulary->n, vocabulary->n_merges);
    }
    if (vocabulary->bos < -1 || vocabulary->bos >= (int64_t)vocabulary->n) {
        return err_set(err, ERR_FORMAT, "the first token %d is outside the vocabulary", vocabulary->bos);
    }
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) {
        return err_set(err, ERR_NOMEM, "out of memory for the tokenizer");
    }
    tokenizer->bos = vocabulary->bos;
    tokenizer->add_bos = vocabulary->add_bos;
    int code = text_split_init(&tokenizer->split, vocabulary->pre, err);
    if (code == 0) {
        code = text_tokens_init(&tokenizer->tokens, vocabulary, err);
    }
    if (code == 0) {
        code = text_merges_init(&tokenizer->merges, vocabulary, err);
    }
    if (code == 0) {
        code = text_specials_init(&tokenizer->specials, &tokenizer->tokens, err);
    }
    if (code < 0) {
        tokenizer_destroy(tokenizer);
        return code;
    }
    *out = tokenizer;
    return 0;
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (!tokenizer) {
        return;
    }
    text_specials_dispose(&tokenizer->specials);
    text_merges_dispose(&tokenizer->merges);
    text_tokens_dispose(&tokenizer->tokens);
    text_split_dispose(&tokenizer->split);
    free(tokenizer);
}

static int encode_piece(struct encoder *encoder, struct text piece, struct err *err)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    if (tokenizer->split.whole_pieces) {
        int32_t id = text_index_find(&tokenizer->tokens.normal, piece.bytes, piece.length);
        if (id >= 0) {
            return text_ids_push(&encoder->out, id, err);
        }
    }
    return text_merges_apply(&tokenizer->merges, tokenizer->tokens.byte_ids, piece, &encoder->merge,
                             &encoder->out, err);
}

static int encode_valid(struct encoder *encoder, struct text text, struct err *err)
{
    int code = 0;
    if (encoder->tokenizer->split.compose) {
        code = text_compose(text, &encoder->compose, &text, err);
    }
    for (size_t start = 0; code == 0 && start < text.length;) {
        int64_t end = text_split_next(&encoder->tokenizer->split, encoder->match, text, start, err);
        if (end < 0) {
            return (int)end;
        }
        code = encode_piece(encoder, (struct text){text.bytes + start, (size_t)end - start}, err);
        start = (size_t)end;
    }
    return code;
}

/* How many bytes from the start are valid UTF-8. */
static size_t valid_prefix(struct text text)
{
    size_t at = 0;
    while (at < text.length) {
        int32_t point;
        utf8proc_ssize_t step = 1;
        if ((unsigned char)text.bytes[at] >= 0x80) {
            step = utf8proc_iterate((const unsigned char *)text.bytes + at,
                                    (utf8proc_ssize_t)(text.length - at), &point);
        }
        if (step <= 0) {
            break;
        }
        at += (size_t)step;
    }
    return at;
}

/* Text without special tokens. Bytes that are no UTF-8 become one token each. */
static int encode_plain(struct encoder *encoder, struct text text, struct err *err)
{
    int code = 0;
    while (code == 0 && text.length) {
        size_t n = valid_prefix(text);
        if (n) {
            code = encode_valid(encoder, (struct text){text.bytes, n}, err);
        } else {
            int32_t id = encoder->tokenizer->tokens.byte_ids[(unsigned char)text.bytes[0]];
            n = 1;
            code = id >= 0 ? text_ids_push(&encoder->out, id, err) : 0;
        }
        text = (struct text){text.bytes + n, text.length - n};
    }
    return code;
}

static int encode_text(struct encoder *encoder, struct text text, const unsigned char *origin,
                       enum origin fallback, struct err *err)
{
    size_t start = 0, at = 0;
    int code = 0;
    while (code == 0 && at < text.length) {
        struct text rest = {text.bytes + at, text.length - at};
        const struct special *special = text_specials_match(&encoder->tokenizer->specials, rest,
                                                            origin ? origin + at : NULL, fallback);
        if (!special) {
            at++;
            continue;
        }
        code = encode_plain(encoder, (struct text){text.bytes + start, at - start}, err);
        if (code == 0) {
            code = text_ids_push(&encoder->out, special->id, err);
        }
        at += special->length;
        start = at;
    }
    if (code == 0) {
        code = encode_plain(encoder, (struct text){text.bytes + start, text.length - start}, err);
    }
    return code;
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                     const unsigned char *origin, enum origin fallback,
                     int32_t **ids, size_t *n, struct err *err)
{
    if (length > MAX_TEXT) {
        return err_set(err, ERR_LIMIT, "text of %zu bytes is longer than the limit of %zu", length, MAX_TEXT);
    }
    struct encoder encoder = {.tokenizer = tokenizer};
    int code;
    text = length ? text : "";
    encoder.out.capacity = length / 3 + 16;
    encoder.out.ids = malloc(encoder.out.capacity * sizeof *encoder.out.ids);
    encoder.match = pcre2_match_data_create(1, NULL);
    if (!encoder.out.ids || !encoder.match) {
        code = err_set(err, ERR_NOMEM, "out of memory for tokenizing %zu bytes", length);
    } else {
        code = encode_text(&encoder, (struct text){text, length}, origin, fallback, err);
    }
    pcre2_match_data_free(encoder.match);
    compose_scratch_dispose(&encoder.compose);
    merge_scratch_dispose(&encoder.merge);
    if (code < 0) {
        free(encoder.out.ids);
        return code;
    }
    *ids = encoder.out.ids;
    *n = encoder.out.n;
    return 0;
}

const char *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *length)
{
    if (id < 0 || (size_t)id >= tokenizer->tokens.n) {
        *length = 0;
        return NULL;
    }
    *length = tokenizer->tokens.bytes[id].length;
    return tokenizer->tokens.bytes[id].bytes;
}

bool tokenizer_is_hidden(const struct tokenizer *tokenizer, int32_t id)
{
    if (id < 0 || (size_t)id >= tokenizer->tokens.n) {
        return true;
    }
    int type = tokenizer->tokens.types[id];
    return type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_UNUSED;
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text)
{
    struct text key = {text, strlen(text)};
    const struct special *special = text_specials_find(&tokenizer->specials, key);
    return special ? special->id : text_index_find(&tokenizer->tokens.normal, key.bytes, key.length);
}

size_t tokenizer_size(const struct tokenizer *tokenizer)
{
    return tokenizer->tokens.n;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

bool tokenizer_adds_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->add_bos;
}
