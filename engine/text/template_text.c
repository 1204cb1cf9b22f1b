/* What methods and filters do with strings: strip, replace, join, lines, upper and lower case.
 * Every byte of a result has the origin of the byte it was made from. */
#include <string.h>
#include <utf8proc.h>

#include "template_builtin.h"

/* ---- strip ---- */

static bool strips(int32_t c, const struct str *chars)
{
    if (!chars)
        return char_is_space(c);
    for (size_t at = 0; at < chars->length;)
        if (str_decode(chars->bytes, &at) == c)
            return true;
    return false;
}

int text_strip(struct run *run, struct value string, struct value chars, int sides, struct value *out)
{
    const struct str *s = string.str;
    const struct str *set = NULL;
    size_t from = 0, to = s->length;
    if (chars.kind != VALUE_ABSENT && chars.kind != VALUE_NONE) {
        int rc = arg_str(run, chars, "what to strip", &chars);
        if (rc)
            return rc;
        set = chars.str;
    }
    while ((sides & 1) && from < to) {
        size_t next = from;
        if (!strips(str_decode(s->bytes, &next), set))
            break;
        from = next;
    }
    while ((sides & 2) && to > from) {
        size_t at = to - 1;
        while (((unsigned char)s->bytes[at] & 0xc0) == 0x80)
            at--;
        size_t next = at;
        if (!strips(str_decode(s->bytes, &next), set))
            break;
        to = at;
    }
    int rc = run_step(run, (s->length - (to - from)) * (1 + (set ? set->length : 0)));
    return rc ? rc : value_slice(run, string, from, to, out);
}

/* ---- replace ---- */

static int replace_everywhere(struct run *run, const struct str *s, const struct str *to, int64_t count)
{
    int rc = 0;
    for (size_t at = 0; rc == 0; count--) {
        size_t from = at;
        if (count == 0)
            return run_add_part(run, s, at, s->length);
        rc = run_add_str(run, to);
        if (at >= s->length)
            break;
        str_decode(s->bytes, &at);
        if (rc == 0)
            rc = run_add_part(run, s, from, at);
    }
    return rc;
}

int text_replace(struct run *run, struct value string, struct value from, struct value to, int64_t count,
                 struct value *out)
{
    const struct str *s = string.str, *old = from.str;
    size_t mark = run_mark(run), at = 0;
    int rc = run_step(run, s->length);
    if (rc == 0 && old->length == 0) {
        rc = replace_everywhere(run, s, to.str, count);
        return rc ? rc : run_take(run, mark, out);
    }
    for (; rc == 0 && count != 0; count--) {
        const char *hit = memmem(s->bytes + at, s->length - at, old->bytes, old->length);
        if (!hit)
            break;
        size_t found = (size_t)(hit - s->bytes);
        rc = run_add_part(run, s, at, found);
        if (rc == 0)
            rc = run_add_str(run, to.str);
        at = found + old->length;
    }
    if (rc == 0 && at == 0 && run_mark(run) == mark) { /* nothing was there */
        *out = string;
        return 0;
    }
    if (rc == 0)
        rc = run_add_part(run, s, at, s->length);
    return rc ? rc : run_take(run, mark, out);
}

/* ---- join ---- */

int text_join(struct run *run, struct value separator, const struct value *items, size_t n, bool strict,
              struct value *out)
{
    size_t mark = run_mark(run);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (strict && items[i].kind != VALUE_STRING)
            return run_error(run, ERR_INVALID, "sequence item %zu: expected str instance, %s found", i,
                             value_type(items[i]));
        rc = run_step(run, 0);
        if (rc == 0 && i)
            rc = run_add_str(run, separator.str);
        if (rc == 0)
            rc = write_str(run, items[i]);
    }
    return rc ? rc : run_take(run, mark, out);
}

/* ---- lines ---- */

static bool ends_line(int32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

/* The end of the line that begins at `at`, and what follows its line break. */
static size_t line_end(const struct str *s, size_t at, size_t *next)
{
    while (at < s->length) {
        size_t behind = at;
        int32_t c = str_decode(s->bytes, &behind);
        if (ends_line(c)) {
            *next = behind + (c == '\r' && behind < s->length && s->bytes[behind] == '\n');
            return at;
        }
        at = behind;
    }
    *next = s->length;
    return s->length;
}

int text_lines(struct run *run, struct value string, bool keep, struct value *out)
{
    const struct str *s = string.str;
    size_t n = 0, next;
    for (size_t at = 0; at < s->length; at = next, n++)
        line_end(s, at, &next);
    int rc = run_step(run, s->length + n * 32);
    if (rc == 0)
        rc = value_seq(run, SEQ_LIST, n, out);
    n = 0;
    for (size_t at = 0; rc == 0 && at < s->length; at = next) {
        size_t end = line_end(s, at, &next);
        rc = value_slice(run, string, at, keep ? next : end, &out->seq->items[n++]);
    }
    return rc;
}

/* ---- case ---- */

static bool is_cased(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
           category == UTF8PROC_CATEGORY_LT;
}

enum letter { LETTER_UPPER, LETTER_LOWER, LETTER_TITLE };

/* Which form the next character takes; *begin tells whether a word begins with it. */
static enum letter letter_for(enum text_case mode, int32_t c, bool *begin)
{
    bool first = *begin;
    switch (mode) {
    case CASE_UPPER:
        return LETTER_UPPER;
    case CASE_LOWER:
        return LETTER_LOWER;
    case CASE_SWAP:
        return utf8proc_category(c) == UTF8PROC_CATEGORY_LU ? LETTER_LOWER : LETTER_UPPER;
    case CASE_CAPITALIZE:
        *begin = false;
        return first ? LETTER_TITLE : LETTER_LOWER;
    case CASE_TITLE:
        *begin = !is_cased(c);
        return first ? LETTER_TITLE : LETTER_LOWER;
    case CASE_FILTER_TITLE:
        *begin = char_is_space(c) || (c < 0x80 && c > 0 && strchr("-({[<", c));
        return first ? LETTER_UPPER : LETTER_LOWER;
    }
    return LETTER_LOWER;
}

/* Character by character; the one letter whose upper case is two, and that people write, is ß. */
int text_case(struct run *run, struct value string, enum text_case mode, struct value *out)
{
    const struct str *s = string.str;
    size_t mark = run_mark(run);
    bool begin = true;
    int rc = run_step(run, s->length * 2);
    for (size_t at = 0; rc == 0 && at < s->length;) {
        enum origin origin = (enum origin)s->origin[at];
        char bytes[4];
        int32_t c = str_decode(s->bytes, &at);
        enum letter letter = letter_for(mode, c, &begin);
        if (c == 0xdf && letter != LETTER_LOWER) {
            rc = run_add(run, letter == LETTER_UPPER ? "SS" : "Ss", 2, origin);
            continue;
        }
        c = letter == LETTER_UPPER   ? utf8proc_toupper(c)
            : letter == LETTER_LOWER ? utf8proc_tolower(c)
                                     : utf8proc_totitle(c);
        rc = run_add(run, bytes, str_encode(c, bytes), origin);
    }
    return rc ? rc : run_take(run, mark, out);
}
