/* Questions about template values, answered as Python does: truth, equality, order, membership,
 * length, iteration; and the code points of strings. */
#include "template_value.h"

#include <math.h>
#include <string.h>
#include <utf8proc.h>

#include "template_builtin.h"

/* ---- code points ---- */

int32_t str_decode(const char *bytes, size_t *at)
{
    const unsigned char *b = (const unsigned char *)bytes + *at;
    if (b[0] < 0x80) {
        *at += 1;
        return b[0];
    }
    if (b[0] < 0xe0) {
        *at += 2;
        return (b[0] & 0x1f) << 6 | (b[1] & 0x3f);
    }
    if (b[0] < 0xf0) {
        *at += 3;
        return (b[0] & 0x0f) << 12 | (b[1] & 0x3f) << 6 | (b[2] & 0x3f);
    }
    *at += 4;
    return (b[0] & 0x07) << 18 | (b[1] & 0x3f) << 12 | (b[2] & 0x3f) << 6 | (b[3] & 0x3f);
}

size_t str_encode(int32_t c, char out[4])
{
    return (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)out);
}

bool text_is_utf8(const char *bytes, size_t length)
{
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)bytes + at, (utf8proc_ssize_t)(length - at), &c);
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

bool char_is_space(int32_t c)
{
    if (c < 0x80)
        return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t str_chars(struct str *str)
{
    if (str->chars == SIZE_MAX) {
        size_t n = 0;
        for (size_t i = 0; i < str->length; i++)
            n += ((unsigned char)str->bytes[i] & 0xc0) != 0x80;
        str->chars = n;
    }
    return str->chars;
}

size_t str_offset(struct str *str, size_t index)
{
    if (str_chars(str) == str->length)
        return index;
    size_t at = 0;
    for (; index > 0; index--)
        str_decode(str->bytes, &at);
    return at;
}

/* ---- kinds ---- */

bool value_truth(struct value v)
{
    switch ((enum value_kind)v.kind) {
    case VALUE_ABSENT:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return v.boolean;
    case VALUE_INT:
        return v.integer != 0;
    case VALUE_FLOAT:
        return v.real != 0;
    case VALUE_STRING:
        return v.str->length != 0;
    case VALUE_SEQ:
        return v.seq->form == SEQ_ITERATOR || v.seq->n != 0;
    case VALUE_DICT:
        return v.dict->n != 0;
    case VALUE_NAMESPACE:
    case VALUE_MACRO:
    case VALUE_BUILTIN:
    case VALUE_METHOD:
        return true;
    case VALUE_LOOP:
        return v.loop->n != 0;
    }
    return false;
}

const char *value_type(struct value v)
{
    static const char *const forms[] = {"list", "tuple", "range", "dict_items", "generator"};
    switch ((enum value_kind)v.kind) {
    case VALUE_ABSENT:
    case VALUE_UNDEFINED:
        return "Undefined";
    case VALUE_NONE:
        return "NoneType";
    case VALUE_BOOL:
        return "bool";
    case VALUE_INT:
        return "int";
    case VALUE_FLOAT:
        return "float";
    case VALUE_STRING:
        return "str";
    case VALUE_SEQ:
        return forms[v.seq->form];
    case VALUE_DICT:
        return "dict";
    case VALUE_NAMESPACE:
        return "Namespace";
    case VALUE_MACRO:
        return "Macro";
    case VALUE_BUILTIN:
        return "function";
    case VALUE_METHOD:
        return "method";
    case VALUE_LOOP:
        return "LoopContext";
    }
    return "object";
}

bool value_is_number(struct value v)
{
    return v.kind == VALUE_BOOL || v.kind == VALUE_INT || v.kind == VALUE_FLOAT;
}

bool value_as_int(struct value v, int64_t *out)
{
    if (v.kind != VALUE_BOOL && v.kind != VALUE_INT)
        return false;
    *out = v.kind == VALUE_BOOL ? v.boolean : v.integer;
    return true;
}

double value_as_real(struct value v)
{
    int64_t i;
    return value_as_int(v, &i) ? (double)i : v.real;
}

/* ---- equality and order ---- */

static int compare_numbers(struct value a, struct value b)
{
    int64_t i, j;
    if (value_as_int(a, &i) && value_as_int(b, &j))
        return (i > j) - (i < j);
    double x = value_as_real(a), y = value_as_real(b);
    return (x > y) - (x < y);
}

static int compare_text(const struct str *a, const struct str *b)
{
    size_t n = a->length < b->length ? a->length : b->length;
    int order = n ? memcmp(a->bytes, b->bytes, n) : 0;
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int dicts_equal(struct run *run, const struct dict *a, const struct dict *b, bool *equal)
{
    *equal = a->n == b->n;
    for (size_t i = 0; i < a->n && *equal; i++) {
        struct value *other;
        int rc = dict_get(run, b, a->pairs[i].key, &other);
        if (rc)
            return rc;
        if (!other)
            *equal = false;
        else if ((rc = value_equal(run, a->pairs[i].value, *other, equal)) != 0)
            return rc;
    }
    return 0;
}

/* Lists and tuples: the first items that differ, or n where one is the beginning of the other. */
static int first_difference(struct run *run, const struct seq *a, const struct seq *b, size_t *at)
{
    size_t n = a->n < b->n ? a->n : b->n;
    for (*at = 0; *at < n; ++*at) {
        bool equal;
        int rc = value_equal(run, a->items[*at], b->items[*at], &equal);
        if (rc || !equal)
            return rc;
    }
    return 0;
}

int value_equal(struct run *run, struct value a, struct value b, bool *equal)
{
    *equal = false;
    if (value_is_number(a) && value_is_number(b)) {
        bool nan = (a.kind == VALUE_FLOAT && isnan(a.real)) || (b.kind == VALUE_FLOAT && isnan(b.real));
        *equal = !nan && compare_numbers(a, b) == 0;
        return 0;
    }
    if (a.kind != b.kind)
        return 0;
    if (run->depth >= RUN_DEPTH)
        return run_error(run, ERR_LIMIT, "values are nested too deeply");
    int rc = 0;
    run->depth++;
    switch ((enum value_kind)a.kind) {
    case VALUE_ABSENT:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        *equal = true;
        break;
    case VALUE_STRING:
        rc = run_step(run, a.str->length);
        *equal = a.str->length == b.str->length && compare_text(a.str, b.str) == 0;
        break;
    case VALUE_SEQ: {
        size_t at;
        if (a.seq == b.seq) {
            *equal = true;
        } else if (a.seq->form == b.seq->form && a.seq->form != SEQ_ITERATOR && a.seq->n == b.seq->n) {
            rc = run_step(run, a.seq->n);
            if (rc == 0)
                rc = first_difference(run, a.seq, b.seq, &at);
            *equal = rc == 0 && at == a.seq->n;
        }
        break;
    }
    case VALUE_DICT:
        rc = dicts_equal(run, a.dict, b.dict, equal);
        break;
    default:
        *equal = a.dict == b.dict; /* all the rest are pointers */
    }
    run->depth--;
    return rc;
}

int value_compare(struct run *run, struct value a, struct value b, int *order)
{
    if (value_is_number(a) && value_is_number(b)) {
        *order = compare_numbers(a, b);
        return 0;
    }
    if (a.kind == VALUE_STRING && b.kind == VALUE_STRING) {
        *order = compare_text(a.str, b.str);
        return run_step(run, a.str->length);
    }
    if (a.kind == VALUE_SEQ && b.kind == VALUE_SEQ && a.seq->form == b.seq->form &&
        a.seq->form <= SEQ_TUPLE) {
        size_t at;
        int rc = first_difference(run, a.seq, b.seq, &at);
        if (rc)
            return rc;
        if (at < a.seq->n && at < b.seq->n) {
            if (run->depth >= RUN_DEPTH)
                return run_error(run, ERR_LIMIT, "values are nested too deeply");
            run->depth++;
            rc = value_compare(run, a.seq->items[at], b.seq->items[at], order);
            run->depth--;
            return rc;
        }
        *order = (a.seq->n > b.seq->n) - (a.seq->n < b.seq->n);
        return 0;
    }
    if (a.kind == VALUE_UNDEFINED || b.kind == VALUE_UNDEFINED)
        return run_undefined(run, a.kind == VALUE_UNDEFINED ? a : b);
    return run_error(run, ERR_INVALID, "'%s' and '%s' have no order", value_type(a), value_type(b));
}

int value_contains(struct run *run, struct value container, struct value item, bool *found)
{
    *found = false;
    if (container.kind == VALUE_STRING) {
        if (item.kind == VALUE_UNDEFINED)
            return run_undefined(run, item);
        if (item.kind != VALUE_STRING)
            return run_error(run, ERR_INVALID, "'in <string>' needs a string, not '%s'", value_type(item));
        *found = item.str->length == 0 || memmem(container.str->bytes, container.str->length, item.str->bytes,
                                                 item.str->length) != NULL;
        return run_step(run, container.str->length);
    }
    if (container.kind == VALUE_DICT) {
        struct value *value;
        int rc = dict_get(run, container.dict, item, &value);
        *found = rc == 0 && value;
        return rc;
    }
    const struct value *items;
    size_t n;
    int rc = value_items(run, container, &items, &n);
    for (size_t i = 0; rc == 0 && i < n && !*found; i++) {
        rc = run_step(run, 0);
        if (rc == 0)
            rc = value_equal(run, items[i], item, found);
    }
    return rc;
}

/* ---- iteration ---- */

static int string_items(struct run *run, struct value v, const struct value **items, size_t *n)
{
    size_t chars = str_chars(v.str), at = 0;
    struct value list;
    int rc = run_step(run, v.str->length * 8);
    if (rc == 0)
        rc = value_seq(run, SEQ_LIST, chars, &list);
    for (size_t i = 0; rc == 0 && i < chars; i++) {
        size_t from = at;
        str_decode(v.str->bytes, &at);
        rc = value_slice(run, v, from, at, &list.seq->items[i]);
    }
    if (rc)
        return rc;
    *items = list.seq->items;
    *n = chars;
    return 0;
}

int value_items(struct run *run, struct value v, const struct value **items, size_t *n)
{
    *items = NULL;
    *n = 0;
    switch ((enum value_kind)v.kind) {
    case VALUE_UNDEFINED:
        return 0;
    case VALUE_STRING:
        return string_items(run, v, items, n);
    case VALUE_SEQ:
        *items = v.seq->items + v.seq->next;
        *n = v.seq->n - v.seq->next;
        if (v.seq->form == SEQ_ITERATOR)
            v.seq->next = v.seq->n;
        return 0;
    case VALUE_DICT: {
        struct value keys;
        int rc = value_seq(run, SEQ_LIST, v.dict->n, &keys);
        if (rc == 0)
            rc = run_step(run, v.dict->n * 8);
        if (rc)
            return rc;
        for (size_t i = 0; i < v.dict->n; i++)
            keys.seq->items[i] = v.dict->pairs[i].key;
        *items = keys.seq->items;
        *n = v.dict->n;
        return 0;
    }
    default:
        return run_error(run, ERR_INVALID, "'%s' object is not iterable", value_type(v));
    }
}

int value_length(struct run *run, struct value v, size_t *n)
{
    *n = 0;
    switch ((enum value_kind)v.kind) {
    case VALUE_UNDEFINED:
        return 0;
    case VALUE_STRING:
        *n = str_chars(v.str);
        return run_step(run, v.str->length);
    case VALUE_SEQ:
        if (v.seq->form == SEQ_ITERATOR)
            break;
        *n = v.seq->n;
        return 0;
    case VALUE_DICT:
        *n = v.dict->n;
        return 0;
    case VALUE_LOOP:
        *n = v.loop->n;
        return 0;
    default:
        break;
    }
    return run_error(run, ERR_INVALID, "object of type '%s' has no len()", value_type(v));
}
