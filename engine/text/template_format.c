/* String formatting: "%s: %d" % (…) and "{} {name}".format(…), the simple forms. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "template_builtin.h"

/* One "%…" directive. */
struct directive {
    bool left, plus, space, zero, alternate;
    int width, precision; /* -1: none */
    char type;
};

struct percent {
    struct run *run;
    struct value format;
    size_t at;
    const struct value *v;
    size_t n, used;
    bool mapping;
};

static int bad_format(struct run *run)
{
    return run_error(run, ERR_INVALID, "a malformed or incomplete format");
}

/* Digits at the current place, up to a width nobody needs more of. */
static int number_at(struct percent *p, int *out)
{
    const struct str *s = p->format.str;
    *out = 0;
    while (p->at < s->length && s->bytes[p->at] >= '0' && s->bytes[p->at] <= '9') {
        *out = *out * 10 + (s->bytes[p->at++] - '0');
        if (*out > 1000)
            return run_error(p->run, ERR_UNSUPPORTED, "a format wider than 1000");
    }
    return 0;
}

static int parse_directive(struct percent *p, struct directive *d)
{
    const struct str *s = p->format.str;
    *d = (struct directive){.width = -1, .precision = -1};
    for (; p->at < s->length; p->at++) {
        char c = s->bytes[p->at];
        if (c == '-')
            d->left = true;
        else if (c == '+')
            d->plus = true;
        else if (c == ' ')
            d->space = true;
        else if (c == '0')
            d->zero = true;
        else if (c == '#')
            d->alternate = true;
        else
            break;
    }
    int rc = number_at(p, &d->width);
    if (rc == 0 && p->at < s->length && s->bytes[p->at] == '.') {
        p->at++;
        rc = number_at(p, &d->precision);
    }
    if (rc)
        return rc;
    if (p->at >= s->length)
        return bad_format(p->run);
    d->type = s->bytes[p->at++];
    return 0;
}

static int pad(struct run *run, size_t have, int width, enum origin origin)
{
    int rc = 0;
    for (size_t i = have; rc == 0 && width > 0 && i < (size_t)width; i++)
        rc = run_add(run, " ", 1, origin);
    return rc;
}

static int write_text(struct percent *p, const struct directive *d, struct value v)
{
    size_t mark = run_mark(p->run);
    int rc = d->type == 's' ? write_str(p->run, v) : write_repr(p->run, v);
    if (rc == 0)
        rc = run_take(p->run, mark, &v);
    if (rc)
        return rc;
    size_t chars = str_chars(v.str);
    if (d->precision >= 0 && (size_t)d->precision < chars)
        chars = (size_t)d->precision;
    enum origin origin = (enum origin)p->format.origin;
    if (!d->left)
        rc = pad(p->run, chars, d->width, origin);
    if (rc == 0)
        rc = run_add_part(p->run, v.str, 0, str_offset(v.str, chars));
    return rc || !d->left ? rc : pad(p->run, chars, d->width, origin);
}

static int write_number(struct percent *p, const struct directive *d, struct value v)
{
    char format[32], text[1400]; /* 309 digits before the point and 1000 behind it fit */
    int64_t integer = 0;
    bool whole = strchr("diuxXo", d->type) != NULL;
    if (v.kind == VALUE_UNDEFINED)
        return run_undefined(p->run, v);
    if (!value_is_number(v))
        return run_error(p->run, ERR_INVALID, "%%%c format: a number is required, not %s", d->type,
                         value_type(v));
    if (whole && v.kind == VALUE_FLOAT) {
        if (strchr("xXo", d->type) || !(fabs(v.real) < 9.2e18))
            return run_error(p->run, ERR_INVALID, "%%%c format: an integer is required", d->type);
        integer = (int64_t)v.real;
    } else {
        value_as_int(v, &integer);
    }
    if (strchr("xXo", d->type) && integer < 0)
        return run_error(p->run, ERR_UNSUPPORTED, "%%%c of a negative number", d->type);
    if (d->alternate)
        return run_error(p->run, ERR_UNSUPPORTED, "'#' in a format");
    char type = d->type == 'i' || d->type == 'u' ? 'd' : d->type;
    snprintf(format, sizeof format, "%%%s%s%s%s*.*%s%c", d->left ? "-" : "", d->plus ? "+" : "",
             d->space ? " " : "", d->zero ? "0" : "", whole ? "j" : "", type);
    int width = d->width < 0 ? 0 : d->width;
    int length = whole ? snprintf(text, sizeof text, format, width, d->precision, (intmax_t)integer)
                       : snprintf(text, sizeof text, format, width, d->precision, value_as_real(v));
    if (length < 0 || length >= (int)sizeof text)
        return run_error(p->run, ERR_LIMIT, "a formatted number is too long");
    return run_add(p->run, text, (size_t)length, origin_worse(p->format.origin, v.origin));
}

/* The value a directive stands for: the next one, or with "(name)" a member of the mapping. */
static int directive_value(struct percent *p, struct value *out)
{
    const struct str *s = p->format.str;
    if (p->at < s->length && s->bytes[p->at] == '(') {
        const char *close = memchr(s->bytes + p->at, ')', s->length - p->at);
        struct value *found;
        if (!close || !p->mapping || p->v[0].kind != VALUE_DICT)
            return bad_format(p->run);
        size_t from = p->at + 1, to = (size_t)(close - s->bytes);
        int rc = dict_get_text(p->run, p->v[0].dict, s->bytes + from, to - from, &found);
        if (rc)
            return rc;
        if (!found)
            return run_error(p->run, ERR_INVALID, "a format names a key that the mapping lacks");
        *out = *found;
        p->at = to + 1;
        p->used = p->n;
        return 0;
    }
    *out = (struct value){.kind = VALUE_ABSENT};
    if (p->used < p->n)
        *out = p->v[p->used];
    return 0;
}

static int write_directive(struct percent *p)
{
    struct directive d;
    struct value v;
    bool named = p->at < p->format.str->length && p->format.str->bytes[p->at] == '(';
    int rc = directive_value(p, &v);
    if (rc == 0)
        rc = parse_directive(p, &d);
    if (rc)
        return rc;
    if (d.type == '%')
        return run_add(p->run, "%", 1, (enum origin)p->format.origin);
    if (v.kind == VALUE_ABSENT)
        return run_error(p->run, ERR_INVALID, "not enough arguments for format string");
    p->used += !named;
    if (d.type == 's' || d.type == 'r')
        return write_text(p, &d, v);
    if (d.type && strchr("diuxXofFeEgG", d.type))
        return write_number(p, &d, v);
    return run_error(p->run, ERR_UNSUPPORTED, "format character '%c'",
                     d.type > ' ' && d.type < 127 ? d.type : '?');
}

int text_percent(struct run *run, struct value format, const struct value *v, size_t n, bool mapping,
                 struct value *out)
{
    struct percent p = {.run = run, .format = format, .v = v, .n = n, .mapping = mapping};
    const struct str *s = format.str;
    size_t mark = run_mark(run);
    int rc = 0;
    while (rc == 0 && p.at < s->length) {
        const char *percent = memchr(s->bytes + p.at, '%', s->length - p.at);
        size_t to = percent ? (size_t)(percent - s->bytes) : s->length;
        rc = run_add_part(run, s, p.at, to);
        p.at = to;
        if (rc || !percent)
            break;
        p.at++;
        rc = write_directive(&p);
    }
    if (rc == 0 && p.used < n && !mapping)
        return run_error(run, ERR_INVALID, "not all arguments converted during string formatting");
    return rc ? rc : run_take(run, mark, out);
}

/* ---- str.format ---- */

/* What "{…}" with that between its braces stands for. */
static int field_value(struct run *run, const char *field, size_t length, size_t *next,
                       const struct args *args, struct value *out)
{
    size_t index = 0;
    bool number = length < 6;
    for (size_t i = 0; i < length; i++) {
        if (strchr("!:.[{", field[i]))
            return run_error(run, ERR_UNSUPPORTED, "'%c' in a field of format()", field[i]);
        number = number && field[i] >= '0' && field[i] <= '9';
        index = number ? index * 10 + (size_t)(field[i] - '0') : 0;
    }
    if (number) {
        if (length == 0)
            index = (*next)++;
        if (index >= args->n)
            return run_error(run, ERR_INVALID, "format() has no argument %zu", index);
        *out = args->v[index];
        return 0;
    }
    for (size_t i = 0; i < args->n_named; i++) {
        if (args->names[i]->length == length && memcmp(args->names[i]->bytes, field, length) == 0) {
            *out = args->named[i];
            return 0;
        }
    }
    return run_error(run, ERR_INVALID, "format() has no argument '%.*s'", (int)length, field);
}

int text_format(struct run *run, struct value format, const struct args *args, struct value *out)
{
    const struct str *s = format.str;
    size_t mark = run_mark(run), next = 0;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < s->length;) {
        size_t from = at;
        while (at < s->length && s->bytes[at] != '{' && s->bytes[at] != '}')
            at++;
        rc = run_add_part(run, s, from, at);
        if (rc || at == s->length)
            break;
        if (at + 1 < s->length && s->bytes[at + 1] == s->bytes[at]) {
            rc = run_add_part(run, s, at, at + 1);
            at += 2;
            continue;
        }
        const char *close = s->bytes[at] == '{' ? memchr(s->bytes + at, '}', s->length - at) : NULL;
        struct value v;
        if (!close)
            return bad_format(run);
        size_t end = (size_t)(close - s->bytes);
        rc = field_value(run, s->bytes + at + 1, end - at - 1, &next, args, &v);
        if (rc == 0)
            rc = write_str(run, v);
        at = end + 1;
    }
    return rc ? rc : run_take(run, mark, out);
}
