/* Filters on single values: strings, numbers, default, tojson. Those on sequences are in
 * template_sequence.c. */
#include <math.h>
#include <string.h>

#include "template_builtin.h"

/* ---- strings ---- */

static int case_filter(struct run *run, struct value self, enum text_case mode, struct value *out)
{
    int rc = value_to_str(run, self, &self);
    return rc ? rc : text_case(run, self, mode, out);
}

static int filter_upper(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return case_filter(run, self, CASE_UPPER, out);
}

static int filter_lower(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return case_filter(run, self, CASE_LOWER, out);
}

static int filter_capitalize(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return case_filter(run, self, CASE_CAPITALIZE, out);
}

static int filter_title(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return case_filter(run, self, CASE_FILTER_TITLE, out);
}

static int filter_trim(struct run *run, struct value self, const struct args *args, struct value *out)
{
    int rc = value_to_str(run, self, &self);
    return rc ? rc : text_strip(run, self, args->v[0], 3, out);
}

static int filter_string(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return value_to_str(run, self, out);
}

/* Nothing is escaped here, so everything is safe. */
static int filter_safe(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return filter_string(run, self, args, out);
}

static int filter_replace(struct run *run, struct value self, const struct args *args, struct value *out)
{
    struct value from, to;
    int64_t count = -1;
    int rc = value_to_str(run, self, &self);
    if (rc == 0)
        rc = value_to_str(run, args->v[0], &from);
    if (rc == 0)
        rc = value_to_str(run, args->v[1], &to);
    if (rc == 0 && args->v[2].kind != VALUE_NONE)
        rc = arg_int(run, args->v[2], "replace's count", -1, &count);
    return rc ? rc : text_replace(run, self, from, to, count, out);
}

static int filter_format(struct run *run, struct value self, const struct args *args, struct value *out)
{
    if (args->n_named)
        return run_error(run, ERR_UNSUPPORTED, "named arguments of the filter 'format'");
    int rc = value_to_str(run, self, &self);
    return rc ? rc : text_percent(run, self, args->v, args->n, false, out);
}

/* The reference adds a newline before it splits into lines; so a last line that is empty counts. */
static bool has_last_line(const struct str *s)
{
    if (s->length == 0)
        return true;
    size_t at = s->length - 1;
    while (((unsigned char)s->bytes[at] & 0xc0) == 0x80)
        at--;
    int32_t c = str_decode(s->bytes, &at);
    return (c >= 10 && c <= 12) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

static int filter_indent(struct run *run, struct value self, const struct args *args, struct value *out)
{
    struct value indent = args->v[0], lines;
    bool first = value_truth(args->v[1]), blank = value_truth(args->v[2]);
    int64_t width = 4;
    if (self.kind == VALUE_UNDEFINED)
        return run_undefined(run, self);
    int rc = arg_str(run, self, "what is indented", &self);
    size_t mark = run_mark(run);
    if (rc == 0 && indent.kind != VALUE_STRING) {
        rc = arg_int(run, indent, "indent's width", 4, &width);
        for (int64_t i = 0; rc == 0 && i < width; i++)
            rc = run_add(run, " ", 1, (enum origin)self.origin);
        if (rc == 0)
            rc = run_take(run, mark, &indent);
    }
    if (rc == 0)
        rc = text_lines(run, self, false, &lines);
    if (rc)
        return rc;
    size_t n = lines.seq->n + has_last_line(self.str);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct str *line = i < lines.seq->n ? lines.seq->items[i].str : NULL;
        bool full = line && line->length;
        if (i)
            rc = run_add(run, "\n", 1, (enum origin)self.origin);
        if (rc == 0 && (i ? full || blank : first))
            rc = run_add_str(run, indent.str);
        if (rc == 0 && full)
            rc = run_add_str(run, line);
    }
    return rc ? rc : run_take(run, mark, out);
}

/* ---- numbers ---- */

/* A string as Python's float() reads it. */
static bool parse_real(struct value v, double *out)
{
    char text[400];
    size_t n = 0, from = 0, to = v.str->length;
    while (from < to && char_is_space((unsigned char)v.str->bytes[from]))
        from++;
    while (to > from && char_is_space((unsigned char)v.str->bytes[to - 1]))
        to--;
    for (size_t i = from; i < to; i++) {
        char c = v.str->bytes[i];
        if (n + 1 == sizeof text || !c || !strchr("0123456789+-.eE_infatyINFATY", c))
            return false;
        if (c == '_' && (i == from || i + 1 == to || (unsigned)(v.str->bytes[i - 1] - '0') > 9 ||
                         (unsigned)(v.str->bytes[i + 1] - '0') > 9))
            return false;
        if (c != '_')
            text[n++] = c;
    }
    text[n] = 0;
    char *end;
    *out = strtod(text, &end);
    return n > 0 && *end == 0;
}

static bool parse_integer(struct value v, int64_t *out, bool *over)
{
    size_t from = 0, to = v.str->length;
    const char *s = v.str->bytes;
    while (from < to && char_is_space((unsigned char)s[from]))
        from++;
    while (to > from && char_is_space((unsigned char)s[to - 1]))
        to--;
    bool negative = from < to && s[from] == '-';
    from += from < to && (s[from] == '-' || s[from] == '+');
    bool digit = false;
    *out = 0;
    for (; from < to; from++) {
        if (s[from] == '_' && digit) {
            digit = false;
            continue;
        }
        digit = s[from] >= '0' && s[from] <= '9';
        if (!digit)
            return false;
        int value = negative ? '0' - s[from] : s[from] - '0';
        *over = *over || __builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, value, out);
    }
    return digit;
}

static int truncate_real(struct run *run, double d, struct value *out)
{
    if (!(fabs(d) < 9223372036854775808.0))
        return run_error(run, ERR_INVALID, "a number that is no 64-bit integer");
    *out = value_int((int64_t)d);
    return 0;
}

static int filter_int(struct run *run, struct value self, const struct args *args, struct value *out)
{
    int64_t base, integer;
    double real;
    bool over = false;
    int rc = arg_int(run, args->v[1], "int's base", 10, &base);
    if (rc)
        return rc;
    if (self.kind == VALUE_UNDEFINED)
        return run_undefined(run, self);
    if (base != 10)
        return run_error(run, ERR_UNSUPPORTED, "int with a base other than 10");
    *out = args->v[0].kind == VALUE_ABSENT ? value_int(0) : args->v[0];
    if (self.kind == VALUE_FLOAT) {
        rc = isnan(self.real) ? 0 : truncate_real(run, self.real, out);
    } else if (value_as_int(self, &integer)) {
        *out = value_int(integer);
    } else if (self.kind == VALUE_STRING && parse_integer(self, &integer, &over)) {
        *out = value_int(integer);
        if (over)
            return run_error(run, ERR_INVALID, "an integer beyond 64 bits");
    } else if (self.kind == VALUE_STRING && parse_real(self, &real) && isfinite(real)) {
        rc = truncate_real(run, real, out);
    }
    if (rc == 0)
        out->origin = origin_worse(out->origin, self.origin);
    return rc;
}

static int filter_float(struct run *run, struct value self, const struct args *args, struct value *out)
{
    double real;
    if (self.kind == VALUE_UNDEFINED)
        return run_undefined(run, self);
    *out = args->v[0].kind == VALUE_ABSENT ? value_real(0) : args->v[0];
    if (value_is_number(self))
        *out = value_real(value_as_real(self));
    else if (self.kind == VALUE_STRING && parse_real(self, &real))
        *out = value_real(real);
    out->origin = origin_worse(out->origin, self.origin);
    return 0;
}

static int filter_abs(struct run *run, struct value self, const struct args *args, struct value *out)
{
    int64_t integer;
    (void)args;
    if (self.kind == VALUE_UNDEFINED)
        return run_undefined(run, self);
    if (!value_is_number(self))
        return run_error(run, ERR_INVALID, "bad operand type for abs(): '%s'", value_type(self));
    *out = value_real(fabs(value_as_real(self)));
    if (value_as_int(self, &integer)) {
        if (integer == INT64_MIN)
            return run_error(run, ERR_INVALID, "an integer beyond 64 bits");
        *out = value_int(integer < 0 ? -integer : integer);
    }
    out->origin = self.origin;
    return 0;
}

/* Rounding in decimal, ties of the exact binary value to even: what printf does. */
static int filter_round(struct run *run, struct value self, const struct args *args, struct value *out)
{
    char text[400];
    struct value method;
    int64_t digits, integer;
    int rc = arg_int(run, args->v[0], "round's precision", 0, &digits);
    if (rc == 0)
        rc = value_text(run, "common", 6, ORIGIN_TEMPLATE, &method);
    if (rc == 0 && args->v[1].kind != VALUE_ABSENT)
        rc = arg_str(run, args->v[1], "round's method", &method);
    if (rc)
        return rc;
    if (self.kind == VALUE_UNDEFINED)
        return run_undefined(run, self);
    if (!value_is_number(self))
        return run_error(run, ERR_INVALID, "'%s' cannot be rounded", value_type(self));
    if (digits < 0 || digits > 22)
        return run_error(run, ERR_UNSUPPORTED, "round with a precision outside of 0 to 22");
    double d = value_as_real(self), scale = pow(10, (double)digits);
    bool up = method.str->length == 4 && memcmp(method.str->bytes, "ceil", 4) == 0;
    if (up || (method.str->length == 5 && memcmp(method.str->bytes, "floor", 5) == 0)) {
        *out = value_real((up ? ceil(d * scale) : floor(d * scale)) / scale);
    } else if (method.str->length != 6 || memcmp(method.str->bytes, "common", 6) != 0) {
        return run_error(run, ERR_INVALID, "method must be common, ceil or floor");
    } else if (value_as_int(self, &integer)) {
        *out = value_int(integer);
    } else {
        snprintf(text, sizeof text, "%.*f", (int)digits, d);
        *out = value_real(strtod(text, NULL));
    }
    out->origin = self.origin;
    return 0;
}

/* ---- any value ---- */

static int filter_default(struct run *run, struct value self, const struct args *args, struct value *out)
{
    *out = self;
    if (self.kind != VALUE_UNDEFINED && !(value_truth(args->v[1]) && !value_truth(self)))
        return 0;
    if (args->v[0].kind == VALUE_ABSENT)
        return value_text(run, "", 0, ORIGIN_TEMPLATE, out);
    *out = args->v[0];
    return 0;
}

static int filter_length(struct run *run, struct value self, const struct args *args, struct value *out)
{
    size_t n;
    (void)args;
    int rc = value_length(run, self, &n);
    *out = value_int((int64_t)n);
    return rc;
}

static int json_indent(struct run *run, struct value indent, enum origin origin, const struct str **out)
{
    int64_t width;
    *out = NULL;
    if (indent.kind == VALUE_ABSENT || indent.kind == VALUE_NONE)
        return 0;
    size_t mark = run_mark(run);
    int rc = 0;
    if (indent.kind != VALUE_STRING) {
        rc = arg_int(run, indent, "tojson's indent", 0, &width);
        for (int64_t i = 0; rc == 0 && i < width; i++)
            rc = run_add(run, " ", 1, origin);
        if (rc == 0)
            rc = run_take(run, mark, &indent);
    }
    if (rc == 0)
        *out = indent.str;
    return rc;
}

static int filter_tojson(struct run *run, struct value self, const struct args *args, struct value *out)
{
    struct json_style style = {.ascii = value_truth(args->v[0]), .sort = value_truth(args->v[3])};
    struct value separators = args->v[2];
    int rc = json_indent(run, args->v[1], (enum origin)self.origin, &style.indent);
    if (rc)
        return rc;
    if (separators.kind != VALUE_ABSENT && separators.kind != VALUE_NONE) {
        const struct value *items;
        size_t n;
        rc = value_items(run, separators, &items, &n);
        if (rc)
            return rc;
        if (n != 2 || items[0].kind != VALUE_STRING || items[1].kind != VALUE_STRING)
            return run_error(run, ERR_INVALID, "tojson's separators must be two strings");
        style.comma = items[0].str;
        style.colon = items[1].str;
    }
    size_t mark = run_mark(run);
    rc = write_json(run, self, &style);
    return rc ? rc : run_take(run, mark, out);
}

static const struct builtin filters[] = {
    {"upper", filter_upper, "", 0, 0},
    {"lower", filter_lower, "", 0, 0},
    {"capitalize", filter_capitalize, "", 0, 0},
    {"title", filter_title, "", 0, 0},
    {"trim", filter_trim, "chars ", 0, 0},
    {"string", filter_string, "", 0, 0},
    {"safe", filter_safe, "", 0, 0},
    {"replace", filter_replace, "old new count ", 2, 0},
    {"format", filter_format, NULL, 0, 0},
    {"indent", filter_indent, "width first blank ", 0, 0},
    {"int", filter_int, "default base ", 0, 0},
    {"float", filter_float, "default ", 0, 0},
    {"abs", filter_abs, "", 0, 0},
    {"round", filter_round, "precision method ", 0, 0},
    {"default", filter_default, "default_value boolean ", 0, 0},
    {"d", filter_default, "default_value boolean ", 0, 0},
    {"length", filter_length, "", 0, 0},
    {"count", filter_length, "", 0, 0},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys ", 0, 0},
};

const struct builtin *builtin_filter(const char *name, size_t length)
{
    const struct builtin *found = builtin_find(filters, sizeof filters / sizeof *filters, name, length);
    return found ? found : builtin_sequence_filter(name, length);
}
