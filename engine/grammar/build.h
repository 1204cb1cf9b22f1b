/* Building blocks of grammars: what compilers of schemas, GBNF and regular expressions write to.
 *
 * A node is a number that stands for a set of byte strings. Nodes are immutable and may be used any number of
 * times, in any other node: what is large and used often is cheaper as a rule. Errors stay: after the first one
 * every call does nothing and gives node 0, so that callers check once, at the end. ERR_LIMIT: too large.
 * The texts in arguments are copied. Lengths and counts of characters are code points. */
#ifndef HEARTH_GRAMMAR_BUILD_H
#define HEARTH_GRAMMAR_BUILD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kernels/err.h"

struct grammar_build;

int grammar_build_create(struct grammar_build **out, struct err *) WARN_UNUSED;
void grammar_build_destroy(struct grammar_build *); /* NULL is fine */

/* The first error is kept; returns 0, a node, so that a compiler can `return grammar_fail(…)`. */
int grammar_fail(struct grammar_build *, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* 0, or the code of the error, whose text is copied to err. */
int grammar_failure(const struct grammar_build *, struct err *);

/* ---- nodes ---- */

struct code_range {
    uint32_t first, last; /* both included; surrogates in it are left out */
};

int grammar_nothing(struct grammar_build *); /* the empty string */
int grammar_never(struct grammar_build *);   /* no string: an alternative that cannot be */
int grammar_bytes(struct grammar_build *, const char *bytes, size_t n);
/* One character in UTF-8 of the ranges, in any order, or of none of them. */
int grammar_set(struct grammar_build *, const struct code_range *, size_t n, bool negated);
/* One byte, of any text: not only of valid UTF-8. */
int grammar_byte(struct grammar_build *, unsigned char first, unsigned char last);
int grammar_sequence(struct grammar_build *, const int *nodes, size_t n);
int grammar_any(struct grammar_build *, const int *nodes, size_t n);
int grammar_optional(struct grammar_build *, int node);
/* max -1: no bound. */
int grammar_repeat(struct grammar_build *, int node, int min, int max);

/* A node that may be used, in its own definition too, before grammar_define says what it is. A rule that begins
 * with itself is an error of the whole grammar, found at the end. `name` is for messages and may be NULL. */
int grammar_rule(struct grammar_build *, const char *name);
void grammar_define(struct grammar_build *, int rule, int node);
/* A new rule that is defined as the node. */
int grammar_share(struct grammar_build *, int node);

/* States 0 … n_states-1 from the first on, an edge taken by a text of its node. */
struct graph_edge {
    int from, to, node;
};
int grammar_graph(struct grammar_build *, int n_states, const struct graph_edge *, size_t n_edges,
                  const bool *final /* [n_states] */);

/* ---- regular expressions ---- */

/* All zero but max_chars: the whole text matches. */
struct regex_bounds {
    int min_chars, max_chars; /* max_chars -1: no bound */
    bool json;   /* each character as a JSON string writes it (the shortest escape), without the quotes */
    bool search; /* the pattern may match anywhere in the text, as JSON Schema's `pattern` does; ^ and $ bind it */
};
/* PCRE's syntax without backreferences, lookaround, \b and what else is not regular: named in the error, which
 * is ERR_INVALID for malformed patterns, ERR_UNSUPPORTED for unknown constructs. */
int grammar_regex(struct grammar_build *, const char *pattern, size_t length, struct regex_bounds);

/* ---- JSON (json.c): the one place for how much whitespace and which numbers are written ---- */

/* What may stand after ':' and ',': nothing or one space. No other whitespace is written between tokens. */
int grammar_json_space(struct grammar_build *);
/* A string with its quotes, any escapes; no lone surrogates, no U+0000. max -1: no bound. */
int grammar_json_string(struct grammar_build *, int min_chars, int max_chars);
/* Numbers that a double holds: at most 16 digits before the point and 17 behind it, exponents of two digits. */
int grammar_json_integer(struct grammar_build *);
int grammar_json_number(struct grammar_build *);
int grammar_json_value(struct grammar_build *);  /* any value, nested as deep as the text goes */
int grammar_json_object(struct grammar_build *); /* any object */
int grammar_json_array(struct grammar_build *);  /* any array */
/* Exactly this value: strings with the shortest escapes, members in their order, no spaces. */
int grammar_json_exactly(struct grammar_build *, const json_t *value);

/* ---- other languages ---- */

/* A JSON Schema, a boolean or an object (schema.c). */
int grammar_schema(struct grammar_build *, const json_t *schema, bool strict);
/* llama.cpp's GBNF: its rule `root` (gbnf.c). */
int grammar_gbnf(struct grammar_build *, const char *text, size_t length);
/* What engine_grammar takes (compose.c). `depth`: of specs within specs, 0 at the outermost. */
int grammar_spec(struct grammar_build *, const json_t *spec, int depth);

#endif
