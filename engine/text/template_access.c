/* Attributes, subscripts and slices of values, and the one way builtins are called. */
#include <string.h>

#include "template_run.h"

int run_undefined(struct run *run, struct value v)
{
    if (!v.missing)
        return run_error(run, ERR_INVALID, "an undefined value is used");
    return run_error(run, ERR_INVALID, "'%.*s' is undefined", (int)v.missing->length, v.missing->bytes);
}

/* ---- calls ---- */

const struct builtin *builtin_find(const struct builtin *table, size_t n, const char *name, size_t length)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0)
            return &table[i];
    return NULL;
}

/* The index of a parameter in "chars count ", or -1. */
static int parameter_index(const char *parameters, const struct str *name)
{
    int index = 0;
    for (const char *p = parameters; *p; index++) {
        const char *end = strchr(p, ' ');
        if ((size_t)(end - p) == name->length && memcmp(p, name->bytes, name->length) == 0)
            return index;
        p = end + 1;
    }
    return -1;
}

int builtin_call(struct run *run, const struct builtin *builtin, struct value self, const struct args *args,
                 struct value *out)
{
    struct value bound[PARAMETERS_MAX];
    size_t n = 0;
    int rc = run_step(run, 0);
    if (rc || !builtin->parameters)
        return rc ? rc : builtin->call(run, self, args, out);
    for (const char *p = builtin->parameters; *p; p++)
        n += *p == ' ';
    if (args->n > n)
        return run_error(run, ERR_INVALID, "%s() takes at most %zu arguments (%zu given)", builtin->name, n,
                         args->n);
    for (size_t i = 0; i < n; i++)
        bound[i] = i < args->n ? args->v[i] : (struct value){.kind = VALUE_ABSENT};
    for (size_t i = 0; i < args->n_named; i++) {
        int index = parameter_index(builtin->parameters, args->names[i]);
        if (index < 0 || bound[index].kind != VALUE_ABSENT)
            return run_error(run, ERR_INVALID, "%s() got an unexpected argument '%.*s'", builtin->name,
                             (int)args->names[i]->length, args->names[i]->bytes);
        bound[index] = args->named[i];
    }
    for (size_t i = 0; i < builtin->required; i++)
        if (bound[i].kind == VALUE_ABSENT)
            return run_error(run, ERR_INVALID, "%s() needs %u argument%s", builtin->name, builtin->required,
                             builtin->required > 1 ? "s" : "");
    return builtin->call(run, self, &(struct args){.v = bound, .n = n}, out);
}

int arg_int(struct run *run, struct value v, const char *what, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (v.kind == VALUE_ABSENT || value_as_int(v, out))
        return 0;
    return run_error(run, ERR_INVALID, "%s must be an integer, not '%s'", what, value_type(v));
}

int arg_str(struct run *run, struct value v, const char *what, struct value *out)
{
    *out = v;
    if (v.kind == VALUE_STRING)
        return 0;
    return run_error(run, ERR_INVALID, "%s must be a string, not '%s'", what, value_type(v));
}

/* ---- lookups ---- */

static bool loop_attribute(const struct loop *loop, const struct str *name, struct value *out)
{
    static const char *const names[] = {"index",  "index0", "revindex", "revindex0", "first",    "last",
                                        "length", "depth",  "depth0",   "previtem",  "nextitem", NULL};
    int at = 0;
    while (names[at] &&
           (strlen(names[at]) != name->length || memcmp(names[at], name->bytes, name->length) != 0))
        at++;
    int64_t index = (int64_t)loop->index, n = (int64_t)loop->n;
    switch (at) {
    case 0:
    case 1:
        *out = value_int(index + (at == 0));
        break;
    case 2:
    case 3:
        *out = value_int(n - index - (at == 3));
        break;
    case 4:
        *out = value_bool(index == 0);
        break;
    case 5:
        *out = value_bool(index + 1 == n);
        break;
    case 6:
        *out = value_int(n);
        break;
    case 7:
    case 8:
        *out = value_int(at == 7); /* loops inside of loops do not count in the reference either */
        break;
    case 9:
        *out = index > 0 ? loop->items[index - 1] : value_undefined(name);
        break;
    case 10:
        *out = index + 1 < n ? loop->items[index + 1] : value_undefined(name);
        break;
    default:
        return false;
    }
    return true;
}

int value_attribute(struct run *run, struct value v, const struct str *name, struct value *out)
{
    struct value *found = NULL;
    int rc = 0;
    if (v.kind == VALUE_UNDEFINED)
        return run_undefined(run, v);
    const struct builtin *builtin = builtin_method(name->bytes, name->length, 1u << v.kind);
    if (builtin) {
        struct method *method = run_alloc(run, 1, sizeof *method);
        if (!method)
            return arena_failed(run->err);
        *method = (struct method){.self = v, .builtin = builtin};
        *out = (struct value){.kind = VALUE_METHOD, .method = method};
        return 0;
    }
    if (v.kind == VALUE_LOOP && loop_attribute(v.loop, name, out))
        return 0;
    if (v.kind == VALUE_DICT || v.kind == VALUE_NAMESPACE)
        rc = dict_get_text(run, v.dict, name->bytes, name->length, &found);
    *out = found ? *found : value_undefined(name);
    return rc;
}

int value_item(struct run *run, struct value v, struct value key, struct value *out)
{
    int64_t index;
    if (v.kind == VALUE_UNDEFINED)
        return run_undefined(run, v);
    if (v.kind == VALUE_DICT && key.kind != VALUE_DICT &&
        !(key.kind == VALUE_SEQ && key.seq->form == SEQ_LIST)) {
        struct value *found;
        int rc = dict_get(run, v.dict, key, &found);
        if (rc)
            return rc;
        if (found) {
            *out = *found;
            return 0;
        }
    }
    if (key.kind == VALUE_STRING)
        return value_attribute(run, v, key.str, out);
    *out = value_undefined(NULL);
    if (!value_as_int(key, &index))
        return 0;
    if (v.kind == VALUE_SEQ && v.seq->form <= SEQ_RANGE) {
        int64_t n = (int64_t)v.seq->n;
        index += index < 0 ? n : 0;
        if (index >= 0 && index < n)
            *out = v.seq->items[index];
    } else if (v.kind == VALUE_STRING) {
        int64_t n = (int64_t)str_chars(v.str);
        index += index < 0 ? n : 0;
        if (index >= 0 && index < n) {
            size_t from = str_offset(v.str, (size_t)index), to = from;
            str_decode(v.str->bytes, &to);
            int rc = run_step(run, from * 4);
            return rc ? rc : value_slice(run, v, from, to, out);
        }
    }
    return 0;
}

static int path_step(struct run *run, struct value v, struct value key, const struct value *fallback,
                     struct value *out)
{
    int rc = value_item(run, v, key, out);
    if (rc == 0 && fallback && out->kind == VALUE_UNDEFINED)
        *out = *fallback;
    return rc;
}

int value_path(struct run *run, struct value v, struct value path, const struct value *fallback,
               struct value *out)
{
    if (path.kind != VALUE_STRING)
        return path_step(run, v, path, fallback, out);
    const char *at = path.str->bytes, *end = at + path.str->length;
    for (;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const char *stop = dot ? dot : end;
        struct value key;
        bool number = stop > at && stop - at < 18;
        int64_t index = 0;
        for (const char *c = at; c < stop && number; c++) {
            number = *c >= '0' && *c <= '9';
            index = index * 10 + (*c - '0');
        }
        int rc = value_text(run, at, (size_t)(stop - at), ORIGIN_TEMPLATE, &key);
        if (rc == 0)
            rc = path_step(run, v, number ? value_int(index) : key, fallback, &v);
        if (rc)
            return rc;
        if (!dot)
            break;
        at = dot + 1;
    }
    *out = v;
    return 0;
}

/* ---- slices ---- */

/* One bound, brought into 0 … n as Python does; -1 … n-1 for steps backwards. */
static int slice_bound(struct run *run, struct value bound, int64_t n, bool backwards, int64_t open,
                       int64_t *out)
{
    if (bound.kind == VALUE_ABSENT || bound.kind == VALUE_NONE) {
        *out = open;
        return 0;
    }
    if (bound.kind == VALUE_UNDEFINED)
        return run_undefined(run, bound);
    int rc = arg_int(run, bound, "a slice's bound", 0, out);
    if (rc)
        return rc;
    int64_t low = backwards ? -1 : 0, high = backwards ? n - 1 : n;
    if (*out < 0)
        *out = *out + n < low ? low : *out + n;
    if (*out > high)
        *out = high;
    return 0;
}

static int cut_string(struct run *run, struct value v, int64_t from, int64_t step, int64_t n,
                      struct value *out)
{
    struct str *s = v.str;
    if (step == 1 || n <= 1) {
        size_t begin = n ? str_offset(s, (size_t)from) : 0,
               end = n ? str_offset(s, (size_t)(from + n - 1)) : 0;
        if (n)
            str_decode(s->bytes, &end);
        int rc = run_step(run, end);
        return rc ? rc : value_slice(run, v, begin, end, out);
    }
    size_t *offsets = run_alloc(run, str_chars(s) + 1, sizeof *offsets);
    if (!offsets)
        return arena_failed(run->err);
    size_t at = 0, count = 0;
    for (; at < s->length; count++) {
        offsets[count] = at;
        str_decode(s->bytes, &at);
    }
    offsets[count] = at;
    size_t mark = run_mark(run);
    int rc = 0;
    for (int64_t i = from; rc == 0 && n > 0; i += step, n--)
        rc = run_add_part(run, s, offsets[i], offsets[i + 1]);
    return rc ? rc : run_take(run, mark, out);
}

int value_cut(struct run *run, struct value v, const struct value bounds[3], struct value *out)
{
    int64_t step = 1, from, to, n;
    if (v.kind == VALUE_UNDEFINED)
        return run_undefined(run, v);
    if (v.kind != VALUE_STRING && (v.kind != VALUE_SEQ || v.seq->form > SEQ_RANGE))
        return run_error(run, ERR_INVALID, "'%s' object cannot be sliced", value_type(v));
    int rc = bounds[2].kind == VALUE_NONE ? 0 : arg_int(run, bounds[2], "a slice's step", 1, &step);
    if (rc)
        return rc;
    if (step == 0)
        return run_error(run, ERR_INVALID, "slice step cannot be zero");
    int64_t length = (int64_t)(v.kind == VALUE_STRING ? str_chars(v.str) : v.seq->n);
    rc = slice_bound(run, bounds[0], length, step < 0, step < 0 ? length - 1 : 0, &from);
    if (rc == 0)
        rc = slice_bound(run, bounds[1], length, step < 0, step < 0 ? -1 : length, &to);
    if (rc)
        return rc;
    if (step > length + 1 || step < -length - 1) /* one item at most: keeps the sums below in range */
        step = step > 0 ? length + 1 : -length - 1;
    n = step > 0 ? (to - from + step - 1) / step : (from - to - step - 1) / -step;
    if (n < 0)
        n = 0;
    if (v.kind == VALUE_STRING)
        return cut_string(run, v, from, step, n, out);
    rc = run_step(run, (size_t)n);
    if (rc == 0)
        rc = value_seq(run, v.seq->form, (size_t)n, out);
    if (rc)
        return rc;
    for (int64_t i = 0; i < n; i++)
        out->seq->items[i] = v.seq->items[from + i * step];
    out->origin = v.origin;
    return 0;
}
