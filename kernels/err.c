/* Error codes to words, messages to valid one-line UTF-8. */
#include "err.h"

#include <stdarg.h>
#include <string.h>

const char *err_name(int code)
{
    switch (code) {
#define X(name, value, text) case ERR_##name: return text;
        ERR_LIST(X)
#undef X
    case 0: return "ok";
    default: return "unknown error";
    }
}

/* Length of the valid UTF-8 sequence at s, 0 where there is none. */
static int utf8_length(const unsigned char *s)
{
    int n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
          : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

int err_set(struct err *e, int code, const char *format, ...)
{
    if (!e)
        return code;
    e->code = code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(e->text, sizeof e->text, format, arguments);
    va_end(arguments);
    for (unsigned char *s = (unsigned char *)e->text; *s;) {
        int n = utf8_length(s);
        if (n == 0)
            *s = '?';
        else if (*s < 0x20 || *s == 0x7f)
            *s = ' ';
        s += n ? n : 1;
    }
    return code;
}
