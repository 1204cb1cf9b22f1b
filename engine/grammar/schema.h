/* What the files of the JSON Schema compiler share. A schema is first read into rules: a rule is a set of
 * schemas that a value must satisfy together, and the cases by which it may do so, `allOf`, `anyOf` and
 * `$ref` resolved. Then rules that no value satisfies are found, `oneOf` is proven, and what is left is
 * written as a grammar.
 *
 * A grammar may say less than the schema, never more: whatever it lets through is valid. Keywords imply their
 * type where none is named: {"properties": …} means an object. */
#ifndef HEARTH_GRAMMAR_SCHEMA_H
#define HEARTH_GRAMMAR_SCHEMA_H

#include "build.h"

enum schema_type {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_OBJECT = 4,
    TYPE_ARRAY = 8,
    TYPE_STRING = 16,
    TYPE_NUMBER = 32,
    TYPE_ANY = 63
};

/* digits / 10^scale, in decimal: what the text of a number says. */
enum { DECIMAL_DIGITS = 40 };
struct decimal {
    bool negative;
    int n, scale; /* digits, how many of them are behind the point; no zeros at either end but for 0 */
    char digits[DECIMAL_DIGITS]; /* 0 … 9 */
};

struct number_bounds {
    bool has_lower, has_upper, lower_open, upper_open;
    struct decimal lower, upper;
    struct decimal step[4]; /* must be a multiple of each */
    int n_steps;
    bool integer;
};

struct schema_member {
    const char *name;
    int rule;
    bool required;
};

struct schema_pattern { /* members whose names match */
    const char *pattern;
    int rule;
    bool written; /* false: only to decide by */
};

/* Keywords of several schemas together, without those that combine schemas. Children are rules. */
struct schema_shape {
    unsigned types;   /* that values may have */
    unsigned implied; /* of them, those that are written */
    bool listed;      /* enum, const: one of the values, where the rest holds for it too */
    const json_t **values;
    size_t n_values;

    struct number_bounds number;

    int64_t min_length, max_length; /* maxima: -1 for none, here and below */
    const char *pattern, *format;

    int *prefix;
    size_t n_prefix;
    int rest; /* of the items behind the prefix */
    int64_t min_items, max_items;
    bool unique;

    struct schema_member *members;
    size_t n_members;
    struct schema_pattern *patterns;
    size_t n_patterns;
    int others; /* of members that have no schema of their own */
    bool open;  /* whether `others` are written */
    int64_t min_members, max_members;
};

struct schema_pick { /* a branch of a oneOf */
    const json_t *one_of;
    size_t branch;
};

struct schema_case {
    int unit; /* another rule, or -1: the shape */
    struct schema_shape *shape;
    struct schema_pick *picks; /* in the order of their schemas */
    size_t n_picks;
    bool possible; /* some value satisfies it */
};

struct schema_rule {
    const json_t **set; /* sorted by address; `true` is left out */
    size_t n_set;
    bool never; /* `false` is among them */
    struct schema_case *cases;
    size_t n_cases;
    int uses;
    bool possible;
    bool has_node, written;
    int node;
};

struct schema_chunk;
struct schema {
    struct grammar_build *build;
    const json_t *root;
    bool strict;
    struct schema_rule **rules;
    size_t n_rules, room;
    int *table;        /* of rules by their sets; -1: free */
    size_t table_size; /* a power of two */
    size_t n_cases;
    long steps; /* that are left */
    struct schema_chunk *chunks;
    size_t bytes; /* in them */
};

/* ---- schema.c ---- */

/* Zeroed, freed with the schema; NULL after an error, which the build has. */
void *schema_alloc(struct schema *, size_t count, size_t size);
/* False once there was an error, or when the work gets out of hand, which is one. */
bool schema_step(struct schema *, size_t steps);
/* The rule of a conjunction, made where it is new; -1 after an error. `set` may have any order and
 * repetitions. */
int schema_rule(struct schema *, const json_t *const *set, size_t n);
/* The node of a rule, written later where it is not yet. */
int schema_node(struct schema *, int rule);

/* ---- schema_read.c ---- */

/* Fails with "…at #/path…": `at` is a schema, `keyword` may be NULL. */
int schema_fail(struct schema *, int code, const json_t *at, const char *keyword, const char *what);
/* The cases of a rule, children as rules. */
void schema_read(struct schema *, struct schema_rule *);
/* Follows $ref while there is nothing else. */
const json_t *schema_target(struct schema *, const json_t *);
/* True, or an object of annotations. */
bool schema_says_nothing(const json_t *);
/* Types that a keyword is about; 0: all, or none. */
unsigned schema_keyword_types(const char *keyword);

/* ---- schema_merge.c ---- */

/* NULL: nothing satisfies all of them, or an error. */
struct schema_shape *schema_merge(struct schema *, const json_t *const *own, size_t n);

/* ---- schema_decide.c: all rules are read ---- */

/* Whether a value satisfies a rule, in JSON Schema's own meaning; a shape, apart from the values that it
 * lists. */
bool schema_holds(struct schema *, int rule, const json_t *value, int depth);
bool schema_limits_hold(struct schema *, const struct schema_shape *, const json_t *value, int depth);
/* Marks what is possible, and fails where a rule stands for itself or a oneOf is not proven. */
void schema_decide(struct schema *);

/* ---- schema_value.c ---- */

bool schema_equal(const json_t *, const json_t *, int depth);
/* The text of exactly this value, members in their order. */
int schema_exactly(struct schema *, const json_t *value);

/* ---- schema_number.c ---- */

/* False: too many digits. */
bool decimal_read(const json_t *number, struct decimal *out);
int decimal_compare(const struct decimal *, const struct decimal *);
/* Whether there is a number within, one that would be written. */
bool schema_number_possible(struct schema *, const struct number_bounds *);
bool schema_number_holds(const struct number_bounds *, const json_t *number);
int schema_number(struct schema *, const struct number_bounds *);

/* ---- schema_string.c ---- */

/* The regular expression of a format for strings; NULL: not known. */
const char *schema_format(const char *name);
/* 1 or 0; -1: an error, of the pattern or of its size. */
int schema_matches(struct schema *, const char *pattern, bool search, const char *text);
bool schema_string_holds(struct schema *, const struct schema_shape *, const char *text);
int schema_string(struct schema *, const struct schema_shape *);

/* ---- schema_object.c ---- */

/* Things in order, each skipped where it is not required, commas between them. `other`: a node repeated
 * behind them, or -1. max -1: no bound. Without brackets. */
struct schema_thing {
    int node;
    bool required;
};
int schema_in_order(struct schema *, const struct schema_thing *, size_t n, int other, int64_t min,
                    int64_t max);
int schema_object(struct schema *, const struct schema_shape *);
bool schema_object_possible(struct schema *, const struct schema_shape *);

/* ---- schema_array.c ---- */

int schema_array(struct schema *, const struct schema_shape *);
bool schema_array_possible(struct schema *, const struct schema_shape *);

#endif
