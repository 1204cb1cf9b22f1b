/* Characters of texts that people write: patterns and grammars. */
#ifndef HEARTH_GRAMMAR_UTF8_H
#define HEARTH_GRAMMAR_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define UTF8_NONE UINT32_MAX

/* The character at *at, which is moved behind it; UTF8_NONE at the end and where the bytes are no UTF-8. */
static inline uint32_t utf8_next(const char *text, size_t length, size_t *at)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)text;
    if (*at >= length) return UTF8_NONE;
    uint32_t c = s[*at];
    size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (n == 0 || length - *at < n) return UTF8_NONE;
    if (n > 1) c &= 0x7fu >> n;
    for (size_t i = 1; i < n; i++) {
        if ((s[*at + i] & 0xc0) != 0x80) return UTF8_NONE;
        c = c << 6 | (s[*at + i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return UTF8_NONE;
    *at += n;
    return c;
}

/* At most `most` hexadecimal digits at *at, at least `least`; UTF8_NONE where there are fewer. */
static inline uint32_t utf8_hexadecimal(const char *text, size_t length, size_t *at, int least, int most)
{
    uint32_t value = 0;
    int n = 0;
    for (; n < most && *at < length; n++, ++*at) {
        char c = text[*at];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) break;
        value = value << 4 | digit;
    }
    return n < least ? UTF8_NONE : value;
}

#endif
