/* Filters on sequences and mappings. What the reference makes lazily, an iterator that can be
 * walked once, is made at once here but still walks only once. */
#include <string.h>

#include "template_builtin.h"

static int filter_list(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct value *items;
    size_t n;
    (void)args;
    int rc = value_items(run, self, &items, &n);
    if (rc == 0)
        rc = run_step(run, n);
    if (rc == 0)
        rc = value_seq(run, SEQ_LIST, n, out);
    if (rc)
        return rc;
    if (n)
        memcpy(out->seq->items, items, n * sizeof *items);
    out->origin = self.origin;
    return 0;
}

static int filter_first(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct value *items;
    size_t n;
    (void)args;
    *out = value_undefined(NULL);
    if (self.kind == VALUE_STRING)
        return value_item(run, self, value_int(0), out);
    if (self.kind == VALUE_SEQ) { /* takes one off an iterator */
        if (self.seq->next < self.seq->n)
            *out = self.seq->items[self.seq->next];
        self.seq->next += self.seq->form == SEQ_ITERATOR && self.seq->next < self.seq->n;
        return 0;
    }
    int rc = value_items(run, self, &items, &n);
    if (rc == 0 && n)
        *out = items[0];
    return rc;
}

static int filter_last(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct value *items;
    size_t n;
    (void)args;
    *out = value_undefined(NULL);
    if (self.kind == VALUE_STRING)
        return value_item(run, self, value_int(-1), out);
    if (self.kind == VALUE_SEQ && self.seq->form == SEQ_ITERATOR)
        return run_error(run, ERR_INVALID, "'%s' object is not reversible", value_type(self));
    int rc = value_items(run, self, &items, &n);
    if (rc == 0 && n)
        *out = items[n - 1];
    return rc;
}

/* A step backwards through a string, the items of anything else from the last to the first. */
static int filter_reverse(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct value *items, bounds[3] = {{.kind = VALUE_ABSENT}, {.kind = VALUE_ABSENT}, value_int(-1)};
    size_t n;
    (void)args;
    if (self.kind == VALUE_STRING)
        return value_cut(run, self, bounds, out);
    bool list = self.kind == VALUE_SEQ && self.seq->form == SEQ_ITERATOR;
    int rc = value_items(run, self, &items, &n);
    if (rc == 0)
        rc = run_step(run, n);
    if (rc == 0)
        rc = value_seq(run, list ? SEQ_LIST : SEQ_ITERATOR, n, out);
    for (size_t i = 0; rc == 0 && i < n; i++)
        out->seq->items[i] = items[n - 1 - i];
    return rc;
}

static bool has_attribute(struct value attribute)
{
    return attribute.kind != VALUE_ABSENT && attribute.kind != VALUE_NONE;
}

static int filter_join(struct run *run, struct value self, const struct args *args, struct value *out)
{
    struct value separator;
    const struct value *items;
    size_t n;
    int rc = args->v[0].kind == VALUE_ABSENT ? value_text(run, "", 0, ORIGIN_TEMPLATE, &separator)
                                             : value_to_str(run, args->v[0], &separator);
    if (rc == 0)
        rc = value_items(run, self, &items, &n);
    if (rc || !has_attribute(args->v[1]))
        return rc ? rc : text_join(run, separator, items, n, false, out);
    struct value mapped;
    rc = value_seq(run, SEQ_LIST, n, &mapped);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = value_path(run, items[i], args->v[1], NULL, &mapped.seq->items[i]);
    return rc ? rc : text_join(run, separator, mapped.seq->items, n, false, out);
}

static int filter_sum(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct value *items;
    size_t n;
    int rc = value_items(run, self, &items, &n);
    *out = args->v[1].kind == VALUE_ABSENT ? value_int(0) : args->v[1];
    if (out->kind == VALUE_STRING)
        return run_error(run, ERR_INVALID, "sum() can't sum strings");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct value item = items[i];
        if (has_attribute(args->v[0]))
            rc = value_path(run, item, args->v[0], NULL, &item);
        if (rc == 0)
            rc = run_step(run, 0);
        if (rc == 0)
            rc = value_arithmetic(run, '+', *out, item, out);
    }
    return rc;
}

/* ---- order ---- */

/* What an item is compared by: one of its attributes, strings in lower case unless `exact`. */
static int key_of(struct run *run, struct value item, struct value attribute, bool exact, struct value *out)
{
    int rc = run_step(run, 0);
    *out = item;
    if (rc == 0 && has_attribute(attribute))
        rc = value_path(run, item, attribute, NULL, out);
    if (rc == 0 && !exact && out->kind == VALUE_STRING)
        rc = text_case(run, *out, CASE_LOWER, out);
    return rc;
}

static int extreme(struct run *run, struct value self, const struct args *args, int sign, struct value *out)
{
    const struct value *items;
    struct value best, key;
    bool exact = value_truth(args->v[0]);
    size_t n;
    int rc = value_items(run, self, &items, &n);
    *out = value_undefined(NULL);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        int order = -sign;
        rc = key_of(run, items[i], args->v[1], exact, &key);
        if (rc == 0 && i)
            rc = value_compare(run, best, key, &order);
        if (rc == 0 && (i == 0 || order * sign < 0)) {
            best = key;
            *out = items[i];
        }
    }
    return rc;
}

static int filter_max(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return extreme(run, self, args, 1, out);
}

static int filter_min(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return extreme(run, self, args, -1, out);
}

struct sort_item {
    struct value key, value;
};

/* Merge sort, stable; equal items keep their order also when `reverse`. */
static int sort(struct run *run, struct sort_item *v, struct sort_item *spare, size_t n, bool reverse)
{
    if (n < 2)
        return 0;
    size_t half = n / 2, a = 0, b = half;
    int rc = sort(run, v, spare, half, reverse);
    if (rc == 0)
        rc = sort(run, v + half, spare, n - half, reverse);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        int order = a < half ? -1 : 1;
        rc = run_step(run, 0);
        if (rc == 0 && a < half && b < n) {
            rc = value_compare(run, v[a].key, v[b].key, &order);
            order = reverse ? -order : order;
        }
        spare[i] = order <= 0 ? v[a++] : v[b++];
    }
    if (rc == 0)
        memcpy(v, spare, n * sizeof *v);
    return rc;
}

/* Keys are lists, one item per attribute of "a,b": as in the reference, equal ones need no order. */
static int sort_key(struct run *run, struct value item, struct value attribute, bool exact, struct value *out)
{
    size_t n = 1;
    const struct str *s = attribute.kind == VALUE_STRING ? attribute.str : NULL;
    for (size_t i = 0; s && i < s->length; i++)
        n += s->bytes[i] == ',';
    int rc = value_seq(run, SEQ_LIST, n, out);
    size_t from = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct value part = attribute;
        if (s) {
            const char *comma = memchr(s->bytes + from, ',', s->length - from);
            size_t to = comma ? (size_t)(comma - s->bytes) : s->length;
            rc = value_slice(run, attribute, from, to, &part);
            from = to + 1;
        }
        if (rc == 0)
            rc = key_of(run, item, part, exact, &out->seq->items[i]);
    }
    return rc;
}

static int sort_values(struct run *run, struct sort_item *v, size_t n, bool reverse, struct value *out)
{
    struct sort_item *spare = run_alloc(run, n ? n : 1, sizeof *spare);
    if (!spare)
        return arena_failed(run->err);
    int rc = sort(run, v, spare, n, reverse);
    if (rc == 0)
        rc = value_seq(run, SEQ_LIST, n, out);
    for (size_t i = 0; rc == 0 && i < n; i++)
        out->seq->items[i] = v[i].value;
    return rc;
}

static int filter_sort(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct value *items;
    size_t n;
    int rc = value_items(run, self, &items, &n);
    struct sort_item *v = rc ? NULL : run_alloc(run, n ? n : 1, sizeof *v);
    if (!v)
        return arena_failed(run->err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        v[i].value = items[i];
        rc = sort_key(run, items[i], args->v[2], value_truth(args->v[1]), &v[i].key);
    }
    return rc ? rc : sort_values(run, v, n, value_truth(args->v[0]), out);
}

static int filter_dictsort(struct run *run, struct value self, const struct args *args, struct value *out)
{
    struct value by, items;
    size_t at = 0;
    if (self.kind == VALUE_UNDEFINED)
        return run_undefined(run, self);
    if (self.kind != VALUE_DICT)
        return run_error(run, ERR_INVALID, "'%s' object has no items to sort", value_type(self));
    if (args->v[1].kind != VALUE_ABSENT) {
        int rc = arg_str(run, args->v[1], "dictsort's 'by'", &by);
        if (rc)
            return rc;
        at = by.str->length == 5 && memcmp(by.str->bytes, "value", 5) == 0;
        if (!at && (by.str->length != 3 || memcmp(by.str->bytes, "key", 3) != 0))
            return run_error(run, ERR_INVALID, "You can only sort by either \"key\" or \"value\"");
    }
    int rc = dict_items(run, self.dict, SEQ_LIST, &items);
    struct sort_item *v = rc ? NULL : run_alloc(run, self.dict->n ? self.dict->n : 1, sizeof *v);
    if (!v)
        return arena_failed(run->err);
    for (size_t i = 0; rc == 0 && i < self.dict->n; i++) {
        v[i].value = items.seq->items[i];
        rc = key_of(run, v[i].value.seq->items[at], value_none(), value_truth(args->v[0]), &v[i].key);
    }
    return rc ? rc : sort_values(run, v, self.dict->n, value_truth(args->v[2]), out);
}

static int filter_unique(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct value *items;
    struct value seen, key, *found;
    size_t n, kept = 0;
    int rc = value_items(run, self, &items, &n);
    if (rc == 0)
        rc = value_seq(run, SEQ_ITERATOR, n, out);
    if (rc == 0)
        rc = value_dict(run, 16, &seen);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = key_of(run, items[i], args->v[1], value_truth(args->v[0]), &key);
        if (rc == 0)
            rc = dict_get(run, seen.dict, key, &found);
        if (rc || found)
            continue;
        rc = dict_set(run, seen.dict, key, value_none());
        out->seq->items[kept++] = items[i];
    }
    if (rc == 0)
        out->seq->n = kept;
    return rc;
}

static int filter_items(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    if (self.kind == VALUE_UNDEFINED)
        return value_seq(run, SEQ_ITERATOR, 0, out);
    if (self.kind != VALUE_DICT)
        return run_error(run, ERR_INVALID, "Can only get item pairs from a mapping.");
    return dict_items(run, self.dict, SEQ_ITERATOR, out);
}

/* ---- map, select and their kin ---- */

static int named_builtin(struct run *run, struct value name, bool test, const struct builtin **out)
{
    struct value v;
    int rc = arg_str(run, name, test ? "the name of a test" : "the name of a filter", &v);
    if (rc)
        return rc;
    *out = test ? builtin_test(v.str->bytes, v.str->length) : builtin_filter(v.str->bytes, v.str->length);
    if (!*out)
        return run_error(run, ERR_UNSUPPORTED, "%s '%.*s' is not supported", test ? "test" : "filter",
                         (int)v.str->length, v.str->bytes);
    return 0;
}

/* The arguments `attribute` and `default` of map. */
static int map_attribute(struct run *run, const struct args *args, struct value *attribute,
                         struct value *fallback)
{
    *attribute = *fallback = (struct value){.kind = VALUE_ABSENT};
    for (size_t i = 0; i < args->n_named; i++) {
        const struct str *name = args->names[i];
        if (name->length == 9 && memcmp(name->bytes, "attribute", 9) == 0)
            *attribute = args->named[i];
        else if (name->length == 7 && memcmp(name->bytes, "default", 7) == 0)
            *fallback = args->named[i];
        else
            return run_error(run, ERR_INVALID, "map() got an unexpected argument '%.*s'", (int)name->length,
                             name->bytes);
    }
    if (attribute->kind == VALUE_ABSENT)
        return run_error(run, ERR_INVALID, "map requires a filter argument");
    return 0;
}

static int filter_map(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct builtin *filter = NULL;
    struct args rest = {0};
    struct value attribute, fallback;
    const struct value *items;
    size_t n;
    int rc = value_truth(self) ? value_items(run, self, &items, &n) : value_seq(run, SEQ_ITERATOR, 0, out);
    if (rc || !value_truth(self))
        return rc;
    if (args->n) {
        rc = named_builtin(run, args->v[0], false, &filter);
        rest = (struct args){args->v + 1, args->n - 1, args->names, args->named, args->n_named};
    } else {
        rc = map_attribute(run, args, &attribute, &fallback);
    }
    if (rc == 0)
        rc = value_seq(run, SEQ_ITERATOR, n, out);
    bool stands_in = !filter && has_attribute(fallback);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct value *item = &out->seq->items[i];
        rc = filter ? builtin_call(run, filter, items[i], &rest, item)
                    : value_path(run, items[i], attribute, stands_in ? &fallback : NULL, item);
        if (rc == 0)
            rc = run_step(run, 0);
    }
    return rc;
}

static int select_items(struct run *run, struct value self, const struct args *args, bool attribute,
                        bool keep, struct value *out)
{
    const struct builtin *test = NULL;
    const struct value *items;
    size_t n, kept = 0, skip = attribute;
    if (!value_truth(self))
        return value_seq(run, SEQ_ITERATOR, 0, out);
    int rc = value_items(run, self, &items, &n);
    if (rc)
        return rc;
    if (attribute && args->n == 0)
        return run_error(run, ERR_INVALID, "Missing parameter for attribute name");
    struct args rest = {0};
    if (args->n > skip) {
        rc = named_builtin(run, args->v[skip], true, &test);
        rest = (struct args){args->v + skip + 1, args->n - skip - 1, args->names, args->named, args->n_named};
    }
    if (rc == 0)
        rc = value_seq(run, SEQ_ITERATOR, n, out);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct value v = items[i], result;
        rc = run_step(run, 0);
        if (rc == 0 && attribute)
            rc = value_path(run, v, args->v[0], NULL, &v);
        result = v;
        if (rc == 0 && test)
            rc = builtin_call(run, test, v, &rest, &result);
        if (rc == 0 && value_truth(result) == keep)
            out->seq->items[kept++] = items[i];
    }
    if (rc == 0)
        out->seq->n = kept;
    return rc;
}

static int filter_select(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return select_items(run, self, args, false, true, out);
}

static int filter_reject(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return select_items(run, self, args, false, false, out);
}

static int filter_selectattr(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return select_items(run, self, args, true, true, out);
}

static int filter_rejectattr(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return select_items(run, self, args, true, false, out);
}

static const struct builtin filters[] = {
    {"list", filter_list, "", 0, 0},
    {"first", filter_first, "", 0, 0},
    {"last", filter_last, "", 0, 0},
    {"reverse", filter_reverse, "", 0, 0},
    {"join", filter_join, "d attribute ", 0, 0},
    {"sum", filter_sum, "attribute start ", 0, 0},
    {"max", filter_max, "case_sensitive attribute ", 0, 0},
    {"min", filter_min, "case_sensitive attribute ", 0, 0},
    {"sort", filter_sort, "reverse case_sensitive attribute ", 0, 0},
    {"dictsort", filter_dictsort, "case_sensitive by reverse ", 0, 0},
    {"unique", filter_unique, "case_sensitive attribute ", 0, 0},
    {"items", filter_items, "", 0, 0},
    {"map", filter_map, NULL, 0, 0},
    {"select", filter_select, NULL, 0, 0},
    {"reject", filter_reject, NULL, 0, 0},
    {"selectattr", filter_selectattr, NULL, 0, 0},
    {"rejectattr", filter_rejectattr, NULL, 0, 0},
};

const struct builtin *builtin_sequence_filter(const char *name, size_t length)
{
    return builtin_find(filters, sizeof filters / sizeof *filters, name, length);
}
