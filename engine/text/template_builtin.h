/* Filters, tests, methods and functions of the template interpreter: one table each, one way to
 * call them. */
#ifndef HEARTH_TEMPLATE_BUILTIN_H
#define HEARTH_TEMPLATE_BUILTIN_H

#include "template_value.h"

enum { PARAMETERS_MAX = 6 };

/* What a call is given. After binding `v` has one entry per parameter, VALUE_ABSENT where none
 * was given, and there are no named ones left. */
struct args {
    const struct value *v;
    size_t n;
    const struct str *const *names; /* [n_named] */
    const struct value *named;
    size_t n_named;
};

struct builtin {
    const char *name;
    int (*call)(struct run *, struct value self, const struct args *, struct value *out);
    const char *parameters; /* names with a space behind each; NULL: takes its arguments as they come */
    unsigned required;      /* how many of them must be given */
    unsigned kinds;         /* methods: bits of the enum value_kind they exist for */
};

#define KIND(kind) (1u << VALUE_##kind)

/* NULL where there is none of that name. */
const struct builtin *builtin_filter(const char *name, size_t length);
const struct builtin *builtin_test(const char *name, size_t length);
const struct builtin *builtin_function(const char *name, size_t length);
/* kinds: those that the receiver may be. */
const struct builtin *builtin_method(const char *name, size_t length, unsigned kinds);

/* The parts of those tables that lie in other files, and the search in one. */
const struct builtin *builtin_string_method(const char *name, size_t length);
const struct builtin *builtin_sequence_filter(const char *name, size_t length);
const struct builtin *builtin_find(const struct builtin *table, size_t n, const char *name, size_t length);

int builtin_call(struct run *, const struct builtin *, struct value self, const struct args *,
                 struct value *out) WARN_UNUSED;

/* The error of using an undefined value. */
int run_undefined(struct run *, struct value) WARN_UNUSED;

/* a.name and a["key"], a[1] as the reference environment looks them up: no such thing is an
 * undefined value, anything of an undefined value is an error. */
int value_attribute(struct run *, struct value, const struct str *name, struct value *out) WARN_UNUSED;
int value_item(struct run *, struct value, struct value key, struct value *out) WARN_UNUSED;
/* Follows "a.b.0"; with a fallback that stands in for what is undefined on the way. */
int value_path(struct run *, struct value, struct value path, const struct value *fallback,
               struct value *out) WARN_UNUSED;
/* a[from:to:step]; bounds of kind VALUE_ABSENT are open. */
int value_cut(struct run *, struct value, const struct value bounds[3], struct value *out) WARN_UNUSED;

/* Argument `v` as an integer or string; VALUE_ABSENT gives the fallback. ERR_INVALID names `what`. */
int arg_int(struct run *, struct value v, const char *what, int64_t fallback, int64_t *out) WARN_UNUSED;
int arg_str(struct run *, struct value v, const char *what, struct value *out) WARN_UNUSED;

/* Shared between methods and filters. A `chars` that is absent or none means white space;
 * sides: 1 left, 2 right. */
int text_strip(struct run *, struct value string, struct value chars, int sides,
               struct value *out) WARN_UNUSED;
int text_replace(struct run *, struct value string, struct value from, struct value to, int64_t count,
                 struct value *out) WARN_UNUSED;
int text_join(struct run *, struct value separator, const struct value *items, size_t n, bool strict,
              struct value *out) WARN_UNUSED;
/* Lines as Python splits them, with their ends where keep. */
int text_lines(struct run *, struct value string, bool keep, struct value *out) WARN_UNUSED;
enum text_case { CASE_UPPER, CASE_LOWER, CASE_CAPITALIZE, CASE_TITLE, CASE_FILTER_TITLE, CASE_SWAP };
int text_case(struct run *, struct value string, enum text_case, struct value *out) WARN_UNUSED;
/* "%s %d" % (…), and "{} {}".format(…). */
int text_percent(struct run *, struct value format, const struct value *v, size_t n, bool mapping,
                 struct value *out) WARN_UNUSED;
int text_format(struct run *, struct value format, const struct args *, struct value *out) WARN_UNUSED;
/* A list of (key, value) tuples in the given form. */
int dict_items(struct run *, const struct dict *, enum seq_form, struct value *out) WARN_UNUSED;
/* Adds members of `args` (mappings and pairs, then names) to a dictionary: dict() and namespace(). */
int dict_fill(struct run *, struct dict *, const struct args *) WARN_UNUSED;

/* +, -, *, … on values; `op` is a character or one of the two below. */
enum { OP_FLOOR_DIVIDE = 256, OP_POWER };
int value_arithmetic(struct run *, int op, struct value a, struct value b, struct value *out) WARN_UNUSED;

#endif
