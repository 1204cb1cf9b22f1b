/* The vocabulary: a hash index over byte strings, and every token turned from GPT-2's printable
 * alphabet into the bytes it stands for. */
#include "tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>
#include <xxhash.h>

int text_index_init(struct text_index *index, const struct text *keys, size_t n, struct err *err)
{
    size_t slots = 16;
    while (slots / 2 < n) {
        if (__builtin_mul_overflow(slots, 2, &slots)) {
            return err_set(err, ERR_NOMEM, "out of memory for an index of %zu strings", n);
        }
    }
    index->slots = calloc(slots, sizeof *index->slots);
    if (!index->slots) {
        return err_set(err, ERR_NOMEM, "out of memory for an index of %zu strings", n);
    }
    index->keys = keys;
    index->mask = slots - 1;
    return 0;
}

void text_index_dispose(struct text_index *index)
{
    free(index->slots);
    index->slots = NULL;
}

/* The slot that holds an equal key, or the empty one where it belongs. */
static uint32_t *index_slot(const struct text_index *index, const char *bytes, size_t length)
{
    size_t at = XXH3_64bits(bytes, length) & index->mask;
    while (index->slots[at]) {
        const struct text *key = &index->keys[index->slots[at] - 1];
        if (key->length == length && (!length || memcmp(key->bytes, bytes, length) == 0)) {
            break;
        }
        at = (at + 1) & index->mask;
    }
    return &index->slots[at];
}

int32_t text_index_add(struct text_index *index, uint32_t key)
{
    uint32_t *slot = index_slot(index, index->keys[key].bytes, index->keys[key].length);
    if (*slot) {
        return (int32_t)(*slot - 1);
    }
    *slot = key + 1;
    return -1;
}

int32_t text_index_find(const struct text_index *index, const char *bytes, size_t length)
{
    return (int32_t)*index_slot(index, bytes, length) - 1;
}

/* GPT-2's alphabet: bytes that print in Latin-1 stand for themselves, the others follow each other
 * from U+0100 on. -1: not of the alphabet. */
static int alphabet_byte(int32_t point)
{
    if (point >= 0x21 && point <= 0xff && (point <= 0x7e || point >= 0xa1) && point != 0xad) {
        return point;
    }
    if (point >= 0x100 && point <= 0x120) {
        return point - 0x100;
    }
    if (point >= 0x121 && point <= 0x142) {
        return point - 0x121 + 0x7f;
    }
    return point == 0x143 ? 0xad : -1;
}

/* Returns the number of bytes written, at most piece.length, or -1. */
static int64_t decode_piece(struct text piece, char *out)
{
    int64_t n = 0;
    for (size_t at = 0; at < piece.length;) {
        int32_t point;
        utf8proc_ssize_t step = utf8proc_iterate((const unsigned char *)piece.bytes + at,
                                                 (utf8proc_ssize_t)(piece.length - at), &point);
        int byte = step > 0 ? alphabet_byte(point) : -1;
        if (byte < 0) {
            return -1;
        }
        out[n++] = (char)byte;
        at += (size_t)step;
    }
    return n;
}

static int fill_tokens(struct text_tokens *tokens, const struct vocabulary *vocabulary, struct err *err)
{
    char *end = tokens->arena;
    for (size_t i = 0; i < tokens->n; i++) {
        struct text piece = vocabulary->pieces[i];
        int32_t type = vocabulary->types ? vocabulary->types[i] : TOKEN_NORMAL;
        if (type < TOKEN_NORMAL || type > TOKEN_BYTE) {
            return err_set(err, ERR_FORMAT, "token %zu has the unknown type %d", i, type);
        }
        int64_t length = (int64_t)piece.length;
        if (type == TOKEN_NORMAL) {
            length = decode_piece(piece, end);
        } else if (length) {
            memcpy(end, piece.bytes, piece.length);
        }
        if (length < 0) {
            return err_set(err, ERR_FORMAT, "token %zu is not written in the byte alphabet", i);
        }
        tokens->bytes[i] = (struct text){end, (size_t)length};
        tokens->types[i] = (unsigned char)type;
        end += length;
        if (type == TOKEN_NORMAL) {
            int32_t other = text_index_add(&tokens->normal, (uint32_t)i);
            if (other >= 0) {
                return err_set(err, ERR_FORMAT, "token %zu repeats token %d", i, other);
            }
        }
    }
    return 0;
}

int text_tokens_init(struct text_tokens *tokens, const struct vocabulary *vocabulary, struct err *err)
{
    size_t total = 1;
    for (size_t i = 0; i < vocabulary->n; i++) {
        if (__builtin_add_overflow(total, vocabulary->pieces[i].length, &total)) {
            return err_set(err, ERR_FORMAT, "the vocabulary's pieces are longer than memory");
        }
    }
    tokens->n = vocabulary->n;
    tokens->bytes = calloc(tokens->n, sizeof *tokens->bytes);
    tokens->types = calloc(tokens->n, sizeof *tokens->types);
    tokens->arena = malloc(total);
    if (!tokens->bytes || !tokens->types || !tokens->arena) {
        return err_set(err, ERR_NOMEM, "out of memory for a vocabulary of %zu tokens", tokens->n);
    }
    int code = text_index_init(&tokens->normal, tokens->bytes, tokens->n, err);
    if (code == 0) {
        code = fill_tokens(tokens, vocabulary, err);
    }
    if (code < 0) {
        return code;
    }
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        tokens->byte_ids[b] = text_index_find(&tokens->normal, &byte, 1);
    }
    return 0;
}

void text_tokens_dispose(struct text_tokens *tokens)
{
    text_index_dispose(&tokens->normal);
    free(tokens->bytes);
    free(tokens->types);
    free(tokens->arena);
}
