/* Values as text: str(), repr(), and JSON as Python's json.dumps writes it. All of it goes to the
 * end of the output; every byte keeps the origin of the value it stands for. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <utf8proc.h>

#include "template_builtin.h"

/* The shortest digits that read back as the same number, laid out as Python does. */
size_t real_repr(double d, char out[32])
{
    if (isnan(d))
        return (size_t)snprintf(out, 32, "nan");
    if (isinf(d))
        return (size_t)snprintf(out, 32, d < 0 ? "-inf" : "inf");
    char digits[32];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, d);
        if (strtod(digits, NULL) == d)
            break;
    }
    char *e = strchr(digits, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) {
        int n = snprintf(out, 32, "%.*se%c%02d", (int)(e - digits), digits, exponent < 0 ? '-' : '+',
                         abs(exponent));
        return (size_t)n;
    }
    int fraction = (int)(e - digits) - (signbit(d) != 0) - 2; /* digits behind the point */
    fraction = (fraction < 0 ? 0 : fraction) - exponent;
    return (size_t)snprintf(out, 32, "%.*f", fraction < 1 ? 1 : fraction, d);
}

static int add(struct run *run, const char *text, enum origin origin)
{
    return run_add(run, text, strlen(text), origin);
}

static int write_scalar(struct run *run, struct value v, bool json)
{
    char text[32];
    enum origin origin = (enum origin)v.origin;
    switch ((enum value_kind)v.kind) {
    case VALUE_NONE:
        return add(run, json ? "null" : "None", origin);
    case VALUE_BOOL:
        return add(run, json ? v.boolean ? "true" : "false" : v.boolean ? "True" : "False", origin);
    case VALUE_INT:
        return run_add(run, text, (size_t)snprintf(text, sizeof text, "%" PRId64, v.integer), origin);
    default:
        if (json && !isfinite(v.real))
            return add(run, isnan(v.real) ? "NaN" : v.real < 0 ? "-Infinity" : "Infinity", origin);
        return run_add(run, text, real_repr(v.real, text), origin);
    }
}

static bool printable(int32_t c)
{
    if (c < 0x7f)
        return c >= ' ';
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

/* The escape sequence for a character, or "" where it stands for itself. */
static void repr_escape(int32_t c, char quote, char out[16])
{
    out[0] = 0;
    if (c == '\n' || c == '\r' || c == '\t')
        snprintf(out, 16, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    else if (c == '\\' || c == quote)
        snprintf(out, 16, "\\%c", (char)c);
    else if (!printable(c))
        snprintf(out, 16, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
}

static void json_escape(int32_t c, bool ascii, char out[16])
{
    static const char named[] = "btn?fr"; /* from 8 on */
    out[0] = 0;
    if (c == '"' || c == '\\')
        snprintf(out, 16, "\\%c", (char)c);
    else if (c >= 8 && c <= 13 && c != 11)
        snprintf(out, 16, "\\%c", named[c - 8]);
    else if (c < ' ')
        snprintf(out, 16, "\\u%04x", (unsigned)c);
    else if (ascii && c >= 0x10000)
        snprintf(out, 16, "\\u%04x\\u%04x", 0xd800u + (((unsigned)c - 0x10000) >> 10),
                 0xdc00u + ((unsigned)c & 0x3ff));
    else if (ascii && c >= 0x7f)
        snprintf(out, 16, "\\u%04x", (unsigned)c);
}

/* A quoted string; quote '"' with `json`, else as repr() chooses. */
static int write_quoted(struct run *run, struct value v, bool json, bool ascii)
{
    const struct str *s = v.str;
    enum origin origin = (enum origin)v.origin;
    char quote = '"', escape[16];
    if (!json) {
        bool single = memchr(s->bytes, '\'', s->length) != NULL;
        quote = single && !memchr(s->bytes, '"', s->length) ? '"' : '\'';
    }
    int rc = run_add(run, &quote, 1, origin);
    size_t clean = 0; /* everything before has been written */
    for (size_t at = 0; rc == 0 && at < s->length;) {
        size_t from = at;
        int32_t c = str_decode(s->bytes, &at);
        if (json)
            json_escape(c, ascii, escape);
        else
            repr_escape(c, quote, escape);
        if (!escape[0])
            continue;
        rc = run_add_part(run, s, clean, from);
        if (rc == 0)
            rc = add(run, escape, (enum origin)s->origin[from]);
        clean = at;
    }
    if (rc == 0)
        rc = run_add_part(run, s, clean, s->length);
    return rc ? rc : run_add(run, &quote, 1, origin);
}

/* ---- str and repr ---- */

static int write_pairs(struct run *run, const struct dict *dict, enum origin origin)
{
    int rc = add(run, "{", origin);
    for (size_t i = 0; rc == 0 && i < dict->n; i++) {
        if (i)
            rc = add(run, ", ", origin);
        if (rc == 0)
            rc = write_repr(run, dict->pairs[i].key);
        if (rc == 0)
            rc = add(run, ": ", origin);
        if (rc == 0)
            rc = write_repr(run, dict->pairs[i].value);
    }
    return rc ? rc : add(run, "}", origin);
}

static int write_items(struct run *run, const struct seq *seq, enum origin origin)
{
    bool tuple = seq->form == SEQ_TUPLE;
    int rc = add(run, tuple ? "(" : "[", origin);
    for (size_t i = 0; rc == 0 && i < seq->n; i++) {
        if (i)
            rc = add(run, ", ", origin);
        if (rc == 0)
            rc = write_repr(run, seq->items[i]);
    }
    if (rc == 0 && tuple && seq->n == 1)
        rc = add(run, ",", origin);
    return rc ? rc : add(run, tuple ? ")" : "]", origin);
}

static int write_container(struct run *run, struct value v)
{
    enum origin origin = (enum origin)v.origin;
    if (v.kind == VALUE_DICT)
        return write_pairs(run, v.dict, origin);
    if (v.kind == VALUE_SEQ && v.seq->form <= SEQ_TUPLE)
        return write_items(run, v.seq, origin);
    if (v.kind == VALUE_NAMESPACE) {
        int rc = add(run, "<Namespace ", origin);
        if (rc == 0)
            rc = write_pairs(run, v.dict, origin);
        return rc ? rc : add(run, ">", origin);
    }
    return run_error(run, ERR_UNSUPPORTED, "text of a '%s' object", value_type(v));
}

int write_repr(struct run *run, struct value v)
{
    int rc = run_step(run, 0);
    if (rc)
        return rc;
    if (v.kind == VALUE_STRING)
        return write_quoted(run, v, false, false);
    if (v.kind == VALUE_UNDEFINED)
        return add(run, "Undefined", ORIGIN_TEMPLATE);
    if (v.kind == VALUE_NONE || value_is_number(v))
        return write_scalar(run, v, false);
    if (run->depth >= RUN_DEPTH)
        return run_error(run, ERR_LIMIT, "values are nested too deeply");
    run->depth++;
    rc = write_container(run, v);
    run->depth--;
    return rc;
}

int write_str(struct run *run, struct value v)
{
    if (v.kind == VALUE_STRING)
        return run_add_str(run, v.str);
    if (v.kind == VALUE_UNDEFINED)
        return 0;
    return write_repr(run, v);
}

int value_to_str(struct run *run, struct value v, struct value *out)
{
    if (v.kind == VALUE_STRING) {
        *out = v;
        return 0;
    }
    size_t mark = run_mark(run);
    int rc = write_str(run, v);
    return rc ? rc : run_take(run, mark, out);
}

/* ---- JSON ---- */

static int write_json_at(struct run *, struct value, const struct json_style *, int level);

static int write_separator(struct run *run, const struct str *chosen, const char *standard,
                           enum origin origin)
{
    return chosen ? run_add_str(run, chosen) : add(run, standard, origin);
}

static int write_break(struct run *run, const struct json_style *style, int level, enum origin origin)
{
    if (!style->indent)
        return 0;
    int rc = add(run, "\n", origin);
    for (int i = 0; rc == 0 && i < level; i++)
        rc = run_add_str(run, style->indent);
    return rc;
}

/* Keys are strings in JSON: Python turns numbers, booleans and None into them. */
static int write_json_key(struct run *run, struct value key, bool ascii)
{
    if (key.kind == VALUE_STRING)
        return write_quoted(run, key, true, ascii);
    if (key.kind != VALUE_NONE && !value_is_number(key))
        return run_error(run, ERR_INVALID, "keys of JSON objects must not be '%s'", value_type(key));
    int rc = add(run, "\"", (enum origin)key.origin);
    if (rc == 0)
        rc = write_scalar(run, key, true);
    return rc ? rc : add(run, "\"", (enum origin)key.origin);
}

static int key_order(struct run *run, const struct pair *pairs, size_t n, size_t *order)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0; at--) {
            int sign;
            int rc = run_step(run, 0);
            if (rc == 0)
                rc = value_compare(run, pairs[order[at - 1]].key, pairs[i].key, &sign);
            if (rc)
                return rc;
            if (sign <= 0)
                break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    return 0;
}

static int write_json_object(struct run *run, struct value v, const struct json_style *style, int level)
{
    const struct dict *dict = v.dict;
    enum origin origin = (enum origin)v.origin;
    size_t *order = NULL;
    int rc = 0;
    if (style->sort) {
        order = run_alloc(run, dict->n, sizeof *order);
        rc = order ? key_order(run, dict->pairs, dict->n, order) : arena_failed(run->err);
    }
    if (rc == 0)
        rc = add(run, "{", origin);
    for (size_t i = 0; rc == 0 && i < dict->n; i++) {
        const struct pair *pair = &dict->pairs[order ? order[i] : i];
        if (i)
            rc = write_separator(run, style->comma, style->indent ? "," : ", ", origin);
        if (rc == 0)
            rc = write_break(run, style, level + 1, origin);
        if (rc == 0)
            rc = write_json_key(run, pair->key, style->ascii);
        if (rc == 0)
            rc = write_separator(run, style->colon, ": ", origin);
        if (rc == 0)
            rc = write_json_at(run, pair->value, style, level + 1);
    }
    if (rc == 0 && dict->n)
        rc = write_break(run, style, level, origin);
    return rc ? rc : add(run, "}", origin);
}

static int write_json_array(struct run *run, struct value v, const struct json_style *style, int level)
{
    enum origin origin = (enum origin)v.origin;
    int rc = add(run, "[", origin);
    for (size_t i = 0; rc == 0 && i < v.seq->n; i++) {
        if (i)
            rc = write_separator(run, style->comma, style->indent ? "," : ", ", origin);
        if (rc == 0)
            rc = write_break(run, style, level + 1, origin);
        if (rc == 0)
            rc = write_json_at(run, v.seq->items[i], style, level + 1);
    }
    if (rc == 0 && v.seq->n)
        rc = write_break(run, style, level, origin);
    return rc ? rc : add(run, "]", origin);
}

static int write_json_at(struct run *run, struct value v, const struct json_style *style, int level)
{
    int rc = run_step(run, 0);
    if (rc)
        return rc;
    if (v.kind == VALUE_STRING)
        return write_quoted(run, v, true, style->ascii);
    if (v.kind == VALUE_NONE || value_is_number(v))
        return write_scalar(run, v, true);
    if (v.kind != VALUE_DICT && (v.kind != VALUE_SEQ || v.seq->form > SEQ_TUPLE))
        return run_error(run, ERR_INVALID, "Object of type %s is not JSON serializable", value_type(v));
    if (run->depth >= RUN_DEPTH)
        return run_error(run, ERR_LIMIT, "values are nested too deeply");
    run->depth++;
    rc = v.kind == VALUE_DICT ? write_json_object(run, v, style, level)
                              : write_json_array(run, v, style, level);
    run->depth--;
    return rc;
}

int write_json(struct run *run, struct value v, const struct json_style *style)
{
    return write_json_at(run, v, style, 0);
}
