/* Methods of strings that cut, search and change them, named and behaving as Python's. The others
 * are in template_member.c. */
#include <string.h>

#include "template_builtin.h"

/* ---- strip, case, replace ---- */

static int method_strip(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return text_strip(run, self, args->v[0], 3, out);
}

static int method_lstrip(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return text_strip(run, self, args->v[0], 1, out);
}

static int method_rstrip(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return text_strip(run, self, args->v[0], 2, out);
}

static int method_upper(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return text_case(run, self, CASE_UPPER, out);
}

static int method_lower(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return text_case(run, self, CASE_LOWER, out);
}

static int method_title(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return text_case(run, self, CASE_TITLE, out);
}

static int method_capitalize(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return text_case(run, self, CASE_CAPITALIZE, out);
}

static int method_swapcase(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return text_case(run, self, CASE_SWAP, out);
}

static int method_replace(struct run *run, struct value self, const struct args *args, struct value *out)
{
    struct value from, to;
    int64_t count;
    int rc = arg_str(run, args->v[0], "replace() argument 1", &from);
    if (rc == 0)
        rc = arg_str(run, args->v[1], "replace() argument 2", &to);
    if (rc == 0)
        rc = arg_int(run, args->v[2], "replace() argument 3", -1, &count);
    return rc ? rc : text_replace(run, self, from, to, count, out);
}

static int method_join(struct run *run, struct value self, const struct args *args, struct value *out)
{
    const struct value *items;
    size_t n;
    int rc = value_items(run, args->v[0], &items, &n);
    return rc ? rc : text_join(run, self, items, n, true, out);
}

static int method_format(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return text_format(run, self, args, out);
}

/* ---- split ---- */

struct pieces { /* grows in the arena */
    struct value *v;
    size_t n, capacity;
};

static int add_piece(struct run *run, struct pieces *p, struct value string, size_t from, size_t to)
{
    if (p->n == p->capacity) {
        size_t capacity = p->capacity * 2 + 8;
        struct value *v = run_alloc(run, capacity, sizeof *v);
        if (!v)
            return arena_failed(run->err);
        if (p->n)
            memcpy(v, p->v, p->n * sizeof *v);
        p->v = v;
        p->capacity = capacity;
    }
    int rc = run_step(run, 0);
    return rc ? rc : value_slice(run, string, from, to, &p->v[p->n++]);
}

static size_t skip(const struct str *s, size_t at, bool spaces)
{
    while (at < s->length) {
        size_t next = at;
        if (char_is_space(str_decode(s->bytes, &next)) != spaces)
            break;
        at = next;
    }
    return at;
}

static size_t skip_back(const struct str *s, size_t end, bool spaces)
{
    while (end > 0) {
        size_t at = end - 1;
        while (((unsigned char)s->bytes[at] & 0xc0) == 0x80)
            at--;
        size_t next = at;
        if (char_is_space(str_decode(s->bytes, &next)) != spaces)
            break;
        end = at;
    }
    return end;
}

static int split_spaces(struct run *run, struct value self, int64_t limit, struct pieces *p)
{
    const struct str *s = self.str;
    int rc = 0;
    for (size_t at = skip(s, 0, true); rc == 0 && at < s->length; limit--) {
        size_t end = limit == 0 ? s->length : skip(s, at, false);
        rc = add_piece(run, p, self, at, end);
        at = skip(s, end, true);
    }
    return rc;
}

static int rsplit_spaces(struct run *run, struct value self, int64_t limit, struct pieces *p)
{
    const struct str *s = self.str;
    int rc = 0;
    for (size_t end = skip_back(s, s->length, true); rc == 0 && end > 0; limit--) {
        size_t at = limit == 0 ? 0 : skip_back(s, end, false);
        rc = add_piece(run, p, self, at, end);
        end = skip_back(s, at, true);
    }
    return rc;
}

static int split_at(struct run *run, struct value self, const struct str *separator, int64_t limit,
                    struct pieces *p)
{
    const struct str *s = self.str;
    size_t at = 0;
    int rc = 0;
    for (; rc == 0 && limit != 0; limit--) {
        const char *hit = memmem(s->bytes + at, s->length - at, separator->bytes, separator->length);
        if (!hit)
            break;
        rc = add_piece(run, p, self, at, (size_t)(hit - s->bytes));
        at = (size_t)(hit - s->bytes) + separator->length;
    }
    return rc ? rc : add_piece(run, p, self, at, s->length);
}

/* The last place before `end` where `needle` ends there or before; SIZE_MAX: none. */
static size_t find_back(const struct str *s, size_t end, const struct str *needle)
{
    for (size_t at = end; at >= needle->length; at--)
        if (memcmp(s->bytes + at - needle->length, needle->bytes, needle->length) == 0)
            return at - needle->length;
    return SIZE_MAX;
}

/* What find_back over the whole of `s` may touch. */
static size_t back_cost(const struct str *s, const struct str *needle)
{
    return s->length * (1 + needle->length / 8);
}

static int rsplit_at(struct run *run, struct value self, const struct str *separator, int64_t limit,
                     struct pieces *p)
{
    size_t end = self.str->length;
    int rc = 0;
    for (; rc == 0 && limit != 0; limit--) {
        size_t hit = find_back(self.str, end, separator);
        if (hit == SIZE_MAX)
            break;
        rc = add_piece(run, p, self, hit + separator->length, end);
        end = hit;
    }
    return rc ? rc : add_piece(run, p, self, 0, end);
}

static int split(struct run *run, struct value self, const struct args *args, bool back, struct value *out)
{
    struct pieces p = {0};
    struct value separator = args->v[0];
    int64_t limit;
    int rc = arg_int(run, args->v[1], "maxsplit", -1, &limit);
    if (rc == 0)
        rc = run_step(run, self.str->length);
    if (rc)
        return rc;
    if (separator.kind == VALUE_ABSENT || separator.kind == VALUE_NONE) {
        rc = back ? rsplit_spaces(run, self, limit, &p) : split_spaces(run, self, limit, &p);
    } else {
        rc = arg_str(run, separator, "the separator", &separator);
        if (rc == 0 && separator.str->length == 0)
            return run_error(run, ERR_INVALID, "empty separator");
        if (rc == 0 && back)
            rc = run_step(run, back_cost(self.str, separator.str));
        if (rc == 0)
            rc = back ? rsplit_at(run, self, separator.str, limit, &p)
                      : split_at(run, self, separator.str, limit, &p);
    }
    if (rc == 0)
        rc = value_seq(run, SEQ_LIST, p.n, out);
    for (size_t i = 0; rc == 0 && i < p.n; i++)
        out->seq->items[i] = p.v[back ? p.n - 1 - i : i];
    return rc;
}

static int method_split(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return split(run, self, args, false, out);
}

static int method_rsplit(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return split(run, self, args, true, out);
}

static int method_splitlines(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return text_lines(run, self, value_truth(args->v[0]), out);
}

static int partition(struct run *run, struct value self, const struct args *args, bool back,
                     struct value *out)
{
    struct value separator;
    const struct str *s = self.str;
    int rc = arg_str(run, args->v[0], "the separator", &separator);
    if (rc)
        return rc;
    if (separator.str->length == 0)
        return run_error(run, ERR_INVALID, "empty separator");
    rc = run_step(run, back ? back_cost(s, separator.str) : s->length);
    if (rc)
        return rc;
    const char *hit = memmem(s->bytes, s->length, separator.str->bytes, separator.str->length);
    size_t from = hit ? (size_t)(hit - s->bytes) : back ? 0 : s->length;
    size_t to = hit ? from + separator.str->length : from;
    if (hit && back) {
        from = find_back(s, s->length, separator.str);
        to = from + separator.str->length;
    }
    rc = value_seq(run, SEQ_TUPLE, 3, out);
    if (rc == 0)
        rc = value_slice(run, self, 0, from, &out->seq->items[0]);
    if (rc == 0)
        rc = value_slice(run, self, from, to, &out->seq->items[1]);
    return rc ? rc : value_slice(run, self, to, s->length, &out->seq->items[2]);
}

static int method_partition(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return partition(run, self, args, false, out);
}

static int method_rpartition(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return partition(run, self, args, true, out);
}

/* ---- find ---- */

/* Cuts self to [start, end] as the search methods take them. */
static int search_range(struct run *run, struct value self, const struct args *args, struct value *out,
                        size_t *start)
{
    const struct value bounds[3] = {args->v[1], args->v[2], {.kind = VALUE_ABSENT}};
    int64_t from, length = (int64_t)str_chars(self.str);
    int rc = args->v[1].kind == VALUE_NONE ? 0 : arg_int(run, args->v[1], "start", 0, &from);
    if (rc)
        return rc;
    if (args->v[1].kind == VALUE_NONE)
        from = 0;
    from += from < 0 ? length : 0;
    *start = from < 0 ? 0 : (size_t)from;
    if (from > length)
        *start = SIZE_MAX; /* behind the end not even "" is found */
    return value_cut(run, self, bounds, out);
}

static int search(struct run *run, struct value self, const struct args *args, bool back, bool must,
                  struct value *out)
{
    struct value needle, part;
    size_t start;
    int rc = arg_str(run, args->v[0], "what to find", &needle);
    if (rc == 0)
        rc = search_range(run, self, args, &part, &start);
    if (rc == 0)
        rc = run_step(run, back ? back_cost(part.str, needle.str) : part.str->length);
    if (rc)
        return rc;
    size_t at = SIZE_MAX;
    if (back && start != SIZE_MAX) {
        at = find_back(part.str, part.str->length, needle.str);
    } else if (start != SIZE_MAX) {
        const char *hit =
            part.str->length + needle.str->length
                ? memmem(part.str->bytes, part.str->length, needle.str->bytes, needle.str->length)
                : part.str->bytes;
        at = hit ? (size_t)(hit - part.str->bytes) : SIZE_MAX;
    }
    if (at == SIZE_MAX && must)
        return run_error(run, ERR_INVALID, "substring not found");
    struct str before = {.bytes = part.str->bytes, .length = at, .chars = SIZE_MAX};
    *out = value_int(at == SIZE_MAX ? -1 : (int64_t)(start + str_chars(&before)));
    return 0;
}

static int method_find(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return search(run, self, args, false, false, out);
}

static int method_rfind(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return search(run, self, args, true, false, out);
}

static int method_index(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return search(run, self, args, false, true, out);
}

static int method_rindex(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return search(run, self, args, true, true, out);
}

static const struct builtin methods[] = {
    {"strip", method_strip, "chars ", 0, KIND(STRING)},
    {"lstrip", method_lstrip, "chars ", 0, KIND(STRING)},
    {"rstrip", method_rstrip, "chars ", 0, KIND(STRING)},
    {"upper", method_upper, "", 0, KIND(STRING)},
    {"lower", method_lower, "", 0, KIND(STRING)},
    {"title", method_title, "", 0, KIND(STRING)},
    {"capitalize", method_capitalize, "", 0, KIND(STRING)},
    {"swapcase", method_swapcase, "", 0, KIND(STRING)},
    {"replace", method_replace, "old new count ", 2, KIND(STRING)},
    {"join", method_join, "iterable ", 1, KIND(STRING)},
    {"format", method_format, NULL, 0, KIND(STRING)},
    {"split", method_split, "sep maxsplit ", 0, KIND(STRING)},
    {"rsplit", method_rsplit, "sep maxsplit ", 0, KIND(STRING)},
    {"splitlines", method_splitlines, "keepends ", 0, KIND(STRING)},
    {"partition", method_partition, "sep ", 1, KIND(STRING)},
    {"rpartition", method_rpartition, "sep ", 1, KIND(STRING)},
    {"find", method_find, "sub start end ", 1, KIND(STRING)},
    {"rfind", method_rfind, "sub start end ", 1, KIND(STRING)},
    {"index", method_index, "sub start end ", 1, KIND(STRING)},
    {"rindex", method_rindex, "sub start end ", 1, KIND(STRING)},
};

const struct builtin *builtin_string_method(const char *name, size_t length)
{
    return builtin_find(methods, sizeof methods / sizeof *methods, name, length);
}
