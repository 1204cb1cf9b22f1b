/* Growing bytes, and JSON written into them. */
#include "bytes.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

void bytes_add(struct bytes *b, const void *data, size_t length)
{
    size_t wanted;
    if (b->failed || length == 0)
        return;
    if (__builtin_add_overflow(b->length, length, &wanted) || wanted > (size_t)-1 / 2) {
        b->failed = true;
        return;
    }
    if (wanted > b->capacity) {
        size_t capacity = wanted + wanted / 2 + 128;
        char *grown = realloc(b->data, capacity);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->capacity = capacity;
    }
    memcpy(b->data + b->length, data, length);
    b->length = wanted;
}

void bytes_add_base64(struct bytes *b, const unsigned char *data, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t at = 0; at < length; at += 3) {
        size_t n = length - at < 3 ? length - at : 3;
        unsigned three = (unsigned)data[at] << 16 | (n > 1 ? data[at + 1] : 0u) << 8 | (n > 2 ? data[at + 2] : 0u);
        char text[4] = {'=', '=', '=', '='};
        for (size_t i = 0; i <= n; i++)
            text[i] = digits[three >> (18 - 6 * i) & 63];
        bytes_add(b, text, 4);
    }
}

static int add_piece(const char *piece, size_t length, void *user)
{
    struct bytes *b = user;
    bytes_add(b, piece, length);
    return b->failed ? -1 : 0;
}

void bytes_add_json(struct bytes *b, const json_t *value)
{
    /* Nine digits hold a float exactly. */
    if (!value ||
        json_dump_callback(value, add_piece, b, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)))
        b->failed = true;
}

void bytes_add_event(struct bytes *b, const json_t *value)
{
    bytes_add(b, "data: ", 6);
    bytes_add_json(b, value);
    bytes_add(b, "\n\n", 2);
}

void bytes_add_utf8(struct bytes *b, const char *data, size_t length)
{
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t codepoint;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)data + at,
                                              (utf8proc_ssize_t)(length - at), &codepoint);
        if (n > 0)
            bytes_add(b, data + at, (size_t)n);
        else
            bytes_add(b, "\xEF\xBF\xBD", 3);
        at += n > 0 ? (size_t)n : 1;
    }
}

void bytes_dispose(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}
