/* Values of the template interpreter: an arena that is freed at once, strings that know for each
 * byte where it came from, sequences and dictionaries, and Python's rules for truth, equality and
 * order. Values never change after they are made, except namespaces and iterators. */
#ifndef HEARTH_TEMPLATE_VALUE_H
#define HEARTH_TEMPLATE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kernels/err.h"
#include "tokenizer.h"

/* ---- arena ---- */

struct arena_chunk;
struct arena { /* zeroed but for `limit`: ready for use */
    struct arena_chunk *head;
    size_t total, limit; /* bytes */
};

/* Memory for `count` things of `size` bytes, aligned to 16, not cleared; NULL with *err filled. */
void *arena_alloc(struct arena *, size_t count, size_t size, struct err *);
void arena_free(struct arena *);
/* The code of the failure that was left in *err; never 0. */
static inline int arena_failed(const struct err *err)
{
    return err->code ? err->code : ERR_NOMEM;
}

/* ---- values ---- */

enum value_kind {
    VALUE_ABSENT, /* an argument that was not given, a variable that was never set */
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_SEQ,
    VALUE_DICT,
    VALUE_NAMESPACE,
    VALUE_MACRO,
    VALUE_BUILTIN,
    VALUE_METHOD,
    VALUE_LOOP
};

struct value {
    uint8_t kind;   /* enum value_kind */
    uint8_t origin; /* enum origin: the least trusted part of it */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct str *missing; /* undefined: the name that was looked up; may be NULL */
        struct str *str;
        struct seq *seq;
        struct dict *dict; /* VALUE_DICT, VALUE_NAMESPACE */
        struct macro *macro;
        const struct builtin *builtin;
        struct method *method;
        struct loop *loop;
    };
};

struct str {
    const char *bytes;           /* valid UTF-8, no NUL at the end */
    const unsigned char *origin; /* [length] enum origin */
    size_t length;
    size_t chars; /* code points; SIZE_MAX: not counted yet */
};

enum seq_form { SEQ_LIST, SEQ_TUPLE, SEQ_RANGE, SEQ_VIEW, SEQ_ITERATOR };

struct seq {
    enum seq_form form;
    size_t n;
    size_t next; /* SEQ_ITERATOR: how many have been taken */
    struct value *items;
};

struct pair {
    struct value key, value;
};

struct dict { /* in insertion order; few keys, so searched from the front */
    size_t n, capacity;
    struct pair *pairs;
};

struct macro {
    const struct node *node;
    struct scope *scope; /* where it was defined; NULL: the top level */
};

struct method {
    struct value self;
    const struct builtin *builtin;
};

struct loop {
    const struct value *items;
    size_t index, n;     /* index from 0 */
    struct value before; /* what changed() was last asked about, a tuple; VALUE_ABSENT: nothing yet */
};

/* The state of one rendering. */
struct run {
    const struct template *template;
    struct arena arena;
    struct err *err;
    char *text;            /* what has been written; strings being built lie at its end */
    unsigned char *origin; /* [capacity] */
    size_t length, capacity;
    uint64_t steps;
    int depth;             /* of evaluation */
    int line;              /* of the node being evaluated */
    struct scope *scope;   /* NULL: the top level */
    struct binding *spare; /* of scopes that are gone */
    struct value *globals; /* [symbols of the template] variables of the top level */
    struct value captured; /* what NODE_CAPTURED stands for */
    const unsigned char *uniform[ORIGIN_PLAIN + 1]; /* [uniform_length] bytes of one origin each */
    size_t uniform_length;
};

enum {
    RUN_STEPS = 10 * 1000 * 1000,
    RUN_DEPTH = 800,
    RUN_OUTPUT = 64 << 20,
    RUN_MEMORY = 512 << 20,
    VALUE_DEPTH = 200, /* nesting of lists and objects */
    RANGE_MAX = 100000 /* as the reference's sandbox */
};

/* Sets the error with the line that is being evaluated. */
int run_error(struct run *, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Counts work: one step and one for every 32 bytes touched. ERR_LIMIT. */
int run_step(struct run *, size_t bytes) WARN_UNUSED;
void *run_alloc(struct run *, size_t count, size_t size);

/* ---- making values ---- */

static inline struct value value_none(void)
{
    return (struct value){.kind = VALUE_NONE};
}

static inline struct value value_bool(bool b)
{
    return (struct value){.kind = VALUE_BOOL, .boolean = b};
}

static inline struct value value_int(int64_t i)
{
    return (struct value){.kind = VALUE_INT, .integer = i};
}

static inline struct value value_real(double d)
{
    return (struct value){.kind = VALUE_FLOAT, .real = d};
}

static inline struct value value_undefined(const struct str *missing)
{
    return (struct value){.kind = VALUE_UNDEFINED, .missing = missing};
}

/* A string of one origin; `bytes` are not copied. */
int value_text(struct run *, const char *bytes, size_t length, enum origin, struct value *out) WARN_UNUSED;
/* The bytes [from, to) of a string, shared. */
int value_slice(struct run *, struct value string, size_t from, size_t to, struct value *out) WARN_UNUSED;
/* A sequence with room for n items, n of them to be filled by the caller. */
int value_seq(struct run *, enum seq_form, size_t n, struct value *out) WARN_UNUSED;
int value_dict(struct run *, size_t capacity, struct value *out) WARN_UNUSED;
int dict_set(struct run *, struct dict *, struct value key, struct value value) WARN_UNUSED;
/* *found is NULL where there is no such key. ERR_INVALID for keys that cannot be hashed. */
int dict_get(struct run *, const struct dict *, struct value key, struct value **found) WARN_UNUSED;
int dict_get_text(struct run *, const struct dict *, const char *key, size_t length,
                  struct value **found) WARN_UNUSED;

/* ---- strings under construction: a mark, bytes, then run_take ---- */

static inline size_t run_mark(const struct run *run)
{
    return run->length;
}

int run_add(struct run *, const char *bytes, size_t length, enum origin) WARN_UNUSED;
int run_add_str(struct run *, const struct str *) WARN_UNUSED;
/* Part of a string, with the origins it has there. */
int run_add_part(struct run *, const struct str *, size_t from, size_t to) WARN_UNUSED;
/* Cuts what was written since `mark` off the output and makes a string of it. */
int run_take(struct run *, size_t mark, struct value *out) WARN_UNUSED;

/* ---- questions ---- */

bool value_truth(struct value);
const char *value_type(struct value); /* Python's name of its type */
int value_equal(struct run *, struct value, struct value, bool *equal) WARN_UNUSED;
/* *order < 0, 0, > 0; ERR_INVALID where Python has no order. */
int value_compare(struct run *, struct value, struct value, int *order) WARN_UNUSED;
int value_contains(struct run *, struct value container, struct value item, bool *found) WARN_UNUSED;
/* Whether it is a number or a boolean; as an integer where it is none of the reals. */
bool value_is_number(struct value);
bool value_as_int(struct value, int64_t *out);
double value_as_real(struct value);
/* The items of anything that can be iterated: characters of a string, keys of a dictionary. An
 * iterator is used up by this. */
int value_items(struct run *, struct value, const struct value **items, size_t *n) WARN_UNUSED;
/* Python's len(). */
int value_length(struct run *, struct value, size_t *n) WARN_UNUSED;

static inline enum origin origin_worse(uint8_t a, uint8_t b)
{
    return (enum origin)(a > b ? a : b);
}

/* ---- code points ---- */

size_t str_chars(struct str *);
/* The byte offset of a code point's beginning; index ≤ str_chars. */
size_t str_offset(struct str *, size_t index);
/* Decodes the code point at bytes[*at] and moves *at behind it. The bytes are valid UTF-8. */
int32_t str_decode(const char *bytes, size_t *at);
size_t str_encode(int32_t c, char out[4]);
bool char_is_space(int32_t);
bool text_is_utf8(const char *bytes, size_t length);

/* ---- text of values (template_write.c), written at the end of the output ---- */

int write_str(struct run *, struct value) WARN_UNUSED;  /* str() */
int write_repr(struct run *, struct value) WARN_UNUSED; /* repr() */
/* str() as a string value; strings stay what they are. */
int value_to_str(struct run *, struct value, struct value *out) WARN_UNUSED;
size_t real_repr(double, char out[32]);

struct json_style {
    const struct str *indent; /* NULL: one line */
    const struct str *comma, *colon; /* NULL: ", " (with indent ",") and ": " */
    bool ascii, sort;
};
int write_json(struct run *, struct value, const struct json_style *) WARN_UNUSED;

#endif
