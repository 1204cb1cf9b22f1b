/* Regular expressions as trees, for regex*.c. */
#ifndef HEARTH_GRAMMAR_REGEX_H
#define HEARTH_GRAMMAR_REGEX_H

#include "nfa.h"

enum regex_kind { REGEX_EMPTY, REGEX_SET, REGEX_BEGIN, REGEX_END, REGEX_SEQUENCE, REGEX_EITHER, REGEX_REPEAT };

struct regex_node {
    enum regex_kind kind;
    int a, b;     /* SEQUENCE, EITHER; REPEAT: a; SET: its number */
    int min, max; /* REPEAT; max -1: no bound */
};

/* Characters of one kind: sorted, apart from each other. */
struct regex_set {
    size_t first, n; /* in `range` */
};

struct regex {
    struct grammar_build *build; /* gets errors */
    const char *pattern;
    size_t length, at;
    struct regex_node *node;
    struct regex_set *set;
    struct code_range *range;
    size_t n_nodes, node_capacity, n_sets, set_capacity, n_ranges, range_capacity;
    bool anchored; /* has ^ or $ */
};

/* Returns the root. */
int regex_parse(struct regex *);
void regex_dispose(struct regex *);
/* A set of ranges in any order; `negated`: of all others. */
int regex_add_set(struct regex *, const struct code_range *, size_t n, bool negated);

/* The ranges being collected for a set. */
struct range_list {
    struct code_range *range;
    size_t n, capacity;
    bool failed; /* no memory */
};
void range_list_add(struct range_list *, uint32_t first, uint32_t last);
/* Those of a class by its letter (d, w, s; capitals: all others), and of a category by its one or two letters, as
 * in \p{Lu}. False: there is none of that name. */
bool range_list_add_class(struct range_list *, char letter);
bool range_list_add_category(struct range_list *, const char *name, bool negated);

#endif
