/* Methods that ask about strings or pad them, and those of lists, dictionaries and loops; and the
 * functions of the global scope: range, dict, namespace, raise_exception, strftime_now. */
#include <string.h>
#include <time.h>
#include <utf8proc.h>

#include "template_builtin.h"

/* ---- questions about strings ---- */

static bool affix(const struct str *s, const struct str *part, bool end)
{
    return part->length <= s->length &&
           memcmp(s->bytes + (end ? s->length - part->length : 0), part->bytes, part->length) == 0;
}

static int has_affix(struct run *run, struct value self, const struct args *args, bool end, struct value *out)
{
    struct value part = args->v[0];
    const struct value *items = &part;
    const struct value bounds[3] = {args->v[1], args->v[2], {.kind = VALUE_ABSENT}};
    size_t n = 1;
    bool found = false;
    int rc = value_cut(run, self, bounds, &self);
    if (rc == 0 && part.kind == VALUE_SEQ && part.seq->form == SEQ_TUPLE)
        rc = value_items(run, part, &items, &n);
    for (size_t i = 0; rc == 0 && i < n && !found; i++) {
        rc = arg_str(run, items[i], end ? "endswith()'s argument" : "startswith()'s argument", &part);
        if (rc == 0)
            rc = run_step(run, part.str->length);
        found = rc == 0 && affix(self.str, part.str, end);
    }
    *out = value_bool(found);
    return rc;
}

static int method_startswith(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return has_affix(run, self, args, false, out);
}

static int method_endswith(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return has_affix(run, self, args, true, out);
}

static int remove_affix(struct run *run, struct value self, const struct args *args, bool end,
                        struct value *out)
{
    struct value part;
    int rc = arg_str(run, args->v[0], "what to remove", &part);
    if (rc)
        return rc;
    size_t cut = affix(self.str, part.str, end) ? part.str->length : 0;
    return value_slice(run, self, end ? 0 : cut, self.str->length - (end ? cut : 0), out);
}

static int method_removeprefix(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return remove_affix(run, self, args, false, out);
}

static int method_removesuffix(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return remove_affix(run, self, args, true, out);
}

enum char_class { CLASS_DIGIT, CLASS_ALPHA, CLASS_ALNUM, CLASS_SPACE, CLASS_UPPER, CLASS_LOWER };

static bool in_class(int32_t c, enum char_class class)
{
    utf8proc_category_t category = utf8proc_category(c);
    bool alpha = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
    bool digit = category == UTF8PROC_CATEGORY_ND;
    if (class == CLASS_SPACE)
        return char_is_space(c);
    return class == CLASS_DIGIT ? digit : class == CLASS_ALPHA ? alpha : alpha || digit;
}

/* All characters are of the class, and there is one; for cases: all that have case. */
static bool is_all(const struct str *s, enum char_class class)
{
    size_t seen = 0;
    for (size_t at = 0; at < s->length;) {
        int32_t c = str_decode(s->bytes, &at);
        if (class < CLASS_UPPER) {
            if (!in_class(c, class))
                return false;
            seen++;
            continue;
        }
        utf8proc_category_t category = utf8proc_category(c);
        if (category == (class == CLASS_UPPER ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU) ||
            category == UTF8PROC_CATEGORY_LT)
            return false;
        seen += category == (class == CLASS_UPPER ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
    }
    return seen > 0;
}

static int ask_class(struct run *run, struct value self, enum char_class class, struct value *out)
{
    *out = value_bool(is_all(self.str, class));
    return run_step(run, self.str->length);
}

#define CLASS_METHOD(name, class)                                                                   \
    static int name(struct run *run, struct value self, const struct args *args, struct value *out) \
    {                                                                                               \
        (void)args;                                                                                 \
        return ask_class(run, self, class, out);                                                    \
    }
CLASS_METHOD(method_isdigit, CLASS_DIGIT)
CLASS_METHOD(method_isalpha, CLASS_ALPHA)
CLASS_METHOD(method_isalnum, CLASS_ALNUM)
CLASS_METHOD(method_isspace, CLASS_SPACE)
CLASS_METHOD(method_isupper, CLASS_UPPER)
CLASS_METHOD(method_islower, CLASS_LOWER)

/* ---- padding ---- */

static int fill(struct run *run, size_t n, const struct str *with)
{
    int rc = n > RUN_OUTPUT ? run_error(run, ERR_LIMIT, "more than %d MiB of text", RUN_OUTPUT >> 20) : 0;
    while (rc == 0 && n-- > 0)
        rc = run_add_str(run, with);
    return rc;
}

/* Python's odd rule puts the extra blank of center() left for odd widths. */
static int pad(struct run *run, struct value self, const struct args *args, int sides, struct value *out)
{
    struct value with;
    int64_t width;
    size_t mark = run_mark(run);
    int rc = arg_int(run, args->v[0], "the width", 0, &width);
    if (rc == 0 && args->v[1].kind != VALUE_ABSENT)
        rc = arg_str(run, args->v[1], "the fill character", &with);
    else if (rc == 0)
        rc = value_text(run, " ", 1, ORIGIN_TEMPLATE, &with);
    if (rc == 0 && str_chars(with.str) != 1)
        return run_error(run, ERR_INVALID, "the fill character must be exactly one character long");
    if (rc)
        return rc;
    int64_t chars = (int64_t)str_chars(self.str);
    size_t n = width > chars ? (size_t)(width - chars) : 0;
    size_t left = sides == 3 ? n / 2 + (n & (size_t)width & 1) : sides == 1 ? n : 0;
    rc = fill(run, left, with.str);
    if (rc == 0)
        rc = run_add_str(run, self.str);
    if (rc == 0)
        rc = fill(run, n - left, with.str);
    return rc ? rc : run_take(run, mark, out);
}

static int method_ljust(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return pad(run, self, args, 2, out);
}

static int method_rjust(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return pad(run, self, args, 1, out);
}

static int method_center(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return pad(run, self, args, 3, out);
}

static int method_zfill(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct str *s = self.str;
    struct value zero;
    int64_t width;
    size_t sign = s->length && (s->bytes[0] == '-' || s->bytes[0] == '+'), mark = run_mark(run);
    int rc = arg_int(run, args->v[0], "the width", 0, &width);
    if (rc == 0)
        rc = value_text(run, "0", 1, ORIGIN_TEMPLATE, &zero);
    if (rc == 0)
        rc = run_add_part(run, s, 0, sign);
    int64_t chars = (int64_t)str_chars(self.str);
    if (rc == 0 && width > chars)
        rc = fill(run, (size_t)(width - chars), zero.str);
    if (rc == 0)
        rc = run_add_part(run, s, sign, s->length);
    return rc ? rc : run_take(run, mark, out);
}

/* ---- lists, dictionaries, loops ---- */

static int method_count(struct run *run, struct value self, const struct args *args, struct value *out)
{
    int64_t n = 0;
    int rc = 0;
    if (self.kind == VALUE_STRING) {
        struct value part;
        rc = arg_str(run, args->v[0], "what to count", &part);
        if (rc == 0)
            rc = run_step(run, self.str->length);
        if (rc)
            return rc;
        const struct str *s = self.str, *needle = part.str;
        if (needle->length == 0)
            n = (int64_t)str_chars(self.str) + 1;
        for (size_t at = 0; needle->length; n++) {
            const char *hit = memmem(s->bytes + at, s->length - at, needle->bytes, needle->length);
            if (!hit)
                break;
            at = (size_t)(hit - s->bytes) + needle->length;
        }
    } else {
        for (size_t i = 0; rc == 0 && i < self.seq->n; i++) {
            bool equal;
            rc = value_equal(run, self.seq->items[i], args->v[0], &equal);
            n += rc == 0 && equal;
            if (rc == 0)
                rc = run_step(run, 0);
        }
    }
    *out = value_int(n);
    return rc;
}

static int method_list_index(struct run *run, struct value self, const struct args *args, struct value *out)
{
    for (size_t i = 0; i < self.seq->n; i++) {
        bool equal;
        int rc = value_equal(run, self.seq->items[i], args->v[0], &equal);
        if (rc == 0)
            rc = run_step(run, 0);
        if (rc)
            return rc;
        if (equal) {
            *out = value_int((int64_t)i);
            return 0;
        }
    }
    return run_error(run, ERR_INVALID, "value is not in list");
}

static int method_get(struct run *run, struct value self, const struct args *args, struct value *out)
{
    struct value *found;
    int rc = dict_get(run, self.dict, args->v[0], &found);
    if (rc)
        return rc;
    *out = found ? *found : args->v[1].kind != VALUE_ABSENT ? args->v[1] : value_none();
    return 0;
}

int dict_items(struct run *run, const struct dict *dict, enum seq_form form, struct value *out)
{
    int rc = value_seq(run, form, dict->n, out);
    if (rc == 0)
        rc = run_step(run, dict->n * 32);
    for (size_t i = 0; rc == 0 && i < dict->n; i++) {
        struct value *item = &out->seq->items[i];
        rc = value_seq(run, SEQ_TUPLE, 2, item);
        if (rc)
            break;
        item->seq->items[0] = dict->pairs[i].key;
        item->seq->items[1] = dict->pairs[i].value;
    }
    return rc;
}

static int method_items(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return dict_items(run, self.dict, SEQ_VIEW, out);
}

static int method_keys(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    int rc = value_seq(run, SEQ_VIEW, self.dict->n, out);
    for (size_t i = 0; rc == 0 && i < self.dict->n; i++)
        out->seq->items[i] = self.dict->pairs[i].key;
    return rc ? rc : run_step(run, self.dict->n * 32);
}

static int method_values(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    int rc = value_seq(run, SEQ_VIEW, self.dict->n, out);
    for (size_t i = 0; rc == 0 && i < self.dict->n; i++)
        out->seq->items[i] = self.dict->pairs[i].value;
    return rc ? rc : run_step(run, self.dict->n * 32);
}

/* Nothing changes in place, so a copy is the thing itself. */
static int method_copy(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)run;
    (void)args;
    *out = self;
    return 0;
}

static int method_cycle(struct run *run, struct value self, const struct args *args, struct value *out)
{
    if (args->n == 0)
        return run_error(run, ERR_INVALID, "no items for cycling given");
    *out = args->v[self.loop->index % args->n];
    return 0;
}

static int method_changed(struct run *run, struct value self, const struct args *args, struct value *out)
{
    struct value asked;
    bool same = false;
    int rc = value_seq(run, SEQ_TUPLE, args->n, &asked);
    if (rc == 0 && args->n)
        memcpy(asked.seq->items, args->v, args->n * sizeof *args->v);
    if (rc == 0 && self.loop->before.kind != VALUE_ABSENT)
        rc = value_equal(run, self.loop->before, asked, &same);
    if (rc)
        return rc;
    self.loop->before = asked;
    *out = value_bool(!same);
    return 0;
}

/* ---- functions ---- */

static int function_range(struct run *run, struct value self, const struct args *args, struct value *out)
{
    int64_t first = 0, last, step, n = 0;
    (void)self;
    int rc = arg_int(run, args->v[0], "range()'s argument", 0, &last);
    if (rc == 0 && args->v[1].kind != VALUE_ABSENT) {
        first = last;
        rc = arg_int(run, args->v[1], "range()'s argument", 0, &last);
    }
    if (rc == 0)
        rc = arg_int(run, args->v[2], "range()'s argument", 1, &step);
    if (rc)
        return rc;
    if (step == 0)
        return run_error(run, ERR_INVALID, "range() arg 3 must not be zero");
    double count = ((double)last - (double)first) / (double)step;
    if (count > RANGE_MAX)
        return run_error(run, ERR_LIMIT, "a range of more than %d items", RANGE_MAX);
    if (count > 0) /* at most RANGE_MAX steps: the difference fits */
        n = (last - first) / step + ((last - first) % step != 0);
    rc = run_step(run, (size_t)n * 8);
    if (rc == 0)
        rc = value_seq(run, SEQ_RANGE, (size_t)n, out);
    for (int64_t i = 0; rc == 0 && i < n; i++)
        out->seq->items[i] = value_int(first + i * step);
    return rc;
}

int dict_fill(struct run *run, struct dict *dict, const struct args *args)
{
    if (args->n > 1)
        return run_error(run, ERR_INVALID, "one argument is expected at most, %zu were given", args->n);
    if (args->n == 1 && args->v[0].kind == VALUE_UNDEFINED)
        return run_undefined(run, args->v[0]);
    int rc = 0;
    if (args->n == 1 && args->v[0].kind == VALUE_DICT) {
        const struct dict *from = args->v[0].dict;
        for (size_t i = 0; rc == 0 && i < from->n; i++)
            rc = dict_set(run, dict, from->pairs[i].key, from->pairs[i].value);
    } else if (args->n == 1) {
        const struct value *items;
        size_t n;
        rc = value_items(run, args->v[0], &items, &n);
        for (size_t i = 0; rc == 0 && i < n; i++) {
            const struct value *pair;
            size_t two;
            rc = value_items(run, items[i], &pair, &two);
            if (rc == 0 && two != 2)
                rc = run_error(run, ERR_INVALID, "a pair is expected, not %zu values", two);
            if (rc == 0)
                rc = dict_set(run, dict, pair[0], pair[1]);
        }
    }
    for (size_t i = 0; rc == 0 && i < args->n_named; i++) {
        struct value key;
        size_t mark = run_mark(run);
        rc = run_add_str(run, args->names[i]); /* from ** it may be anybody's text */
        if (rc == 0)
            rc = run_take(run, mark, &key);
        if (rc == 0)
            rc = dict_set(run, dict, key, args->named[i]);
    }
    return rc;
}

static int function_dict(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)self;
    int rc = value_dict(run, args->n_named, out);
    return rc ? rc : dict_fill(run, out->dict, args);
}

static int function_namespace(struct run *run, struct value self, const struct args *args, struct value *out)
{
    int rc = function_dict(run, self, args, out);
    if (rc == 0)
        out->kind = VALUE_NAMESPACE;
    return rc;
}

static int function_raise_exception(struct run *run, struct value self, const struct args *args,
                                    struct value *out)
{
    (void)self;
    int rc = value_to_str(run, args->v[0], out);
    if (rc)
        return rc;
    int length = out->str->length < 300 ? (int)out->str->length : 300;
    return err_set(run->err, ERR_INVALID, "%.*s", length, out->str->bytes);
}

static int function_strftime_now(struct run *run, struct value self, const struct args *args,
                                 struct value *out)
{
    char format[256], text[1024];
    struct value v;
    struct tm tm;
    time_t now = time(NULL);
    (void)self;
    int rc = arg_str(run, args->v[0], "strftime_now()'s format", &v);
    if (rc)
        return rc;
    if (v.str->length >= sizeof format)
        return run_error(run, ERR_LIMIT, "a time format longer than %zu bytes", sizeof format - 1);
    memcpy(format, v.str->bytes, v.str->length);
    format[v.str->length] = 0;
    size_t mark = run_mark(run), n = localtime_r(&now, &tm) ? strftime(text, sizeof text, format, &tm) : 0;
    rc = run_add(run, text, n, (enum origin)v.origin);
    return rc ? rc : run_take(run, mark, out);
}

/* ---- tables ---- */

static const struct builtin methods[] = {
    {"startswith", method_startswith, "prefix start end ", 1, KIND(STRING)},
    {"endswith", method_endswith, "suffix start end ", 1, KIND(STRING)},
    {"removeprefix", method_removeprefix, "prefix ", 1, KIND(STRING)},
    {"removesuffix", method_removesuffix, "suffix ", 1, KIND(STRING)},
    {"isdigit", method_isdigit, "", 0, KIND(STRING)},
    {"isalpha", method_isalpha, "", 0, KIND(STRING)},
    {"isalnum", method_isalnum, "", 0, KIND(STRING)},
    {"isspace", method_isspace, "", 0, KIND(STRING)},
    {"isupper", method_isupper, "", 0, KIND(STRING)},
    {"islower", method_islower, "", 0, KIND(STRING)},
    {"ljust", method_ljust, "width fillchar ", 1, KIND(STRING)},
    {"rjust", method_rjust, "width fillchar ", 1, KIND(STRING)},
    {"center", method_center, "width fillchar ", 1, KIND(STRING)},
    {"zfill", method_zfill, "width ", 1, KIND(STRING)},
    {"count", method_count, "value ", 1, KIND(STRING) | KIND(SEQ)},
    {"index", method_list_index, "value ", 1, KIND(SEQ)},
    {"get", method_get, "key default ", 1, KIND(DICT)},
    {"items", method_items, "", 0, KIND(DICT)},
    {"keys", method_keys, "", 0, KIND(DICT)},
    {"values", method_values, "", 0, KIND(DICT)},
    {"copy", method_copy, "", 0, KIND(DICT) | KIND(SEQ)},
    {"cycle", method_cycle, NULL, 0, KIND(LOOP)},
    {"changed", method_changed, NULL, 0, KIND(LOOP)},
};

static const struct builtin functions[] = {
    {"range", function_range, "start stop step ", 1, 0},
    {"dict", function_dict, NULL, 0, 0},
    {"namespace", function_namespace, NULL, 0, 0},
    {"raise_exception", function_raise_exception, "message ", 1, 0},
    {"strftime_now", function_strftime_now, "format ", 1, 0},
};

const struct builtin *builtin_method(const char *name, size_t length, unsigned kinds)
{
    const struct builtin *found = kinds & KIND(STRING) ? builtin_string_method(name, length) : NULL;
    if (found)
        return found;
    found = builtin_find(methods, sizeof methods / sizeof *methods, name, length);
    return found && (found->kinds & kinds) ? found : NULL;
}

const struct builtin *builtin_function(const char *name, size_t length)
{
    return builtin_find(functions, sizeof functions / sizeof *functions, name, length);
}
