/* The compiled form of a grammar: a pushdown automaton over bytes, immutable. Each rule is a deterministic finite
 * automaton whose edges take a byte or a whole text of another rule (a call). No rule that is called is empty
 * as a call (the empty case is an edge less), none begins with itself, and from every state a text can be ended,
 * so that whatever a walk has not refused can become a text of the grammar. Equal states of all rules are one. */
#ifndef HEARTH_GRAMMAR_AUTOMATON_H
#define HEARTH_GRAMMAR_AUTOMATON_H

#include "build.h"

struct automaton_edge {
    unsigned char first, last; /* of the byte */
    int32_t to;
};

struct automaton_call {
    int32_t rule;
    int32_t back; /* the state after it */
};

struct automaton_state {
    uint32_t edge, call; /* where its edges and calls begin; they end where the next state's begin */
    bool final;
};

/* Levels of likeness: states of one class at level l cannot be told apart by texts of up to 1 << l bytes. */
#define AUTOMATON_LEVELS 8

struct automaton {
    struct automaton_state *state; /* [n_states + 1] */
    struct automaton_edge *edge;   /* ascending within a state */
    struct automaton_call *call;   /* by rule within a state */
    int32_t *start;                /* [n_rules]; the text is of rule 0 */
    uint64_t (*begins)[4];         /* [n_rules] bits: the bytes that a text of a rule may begin with */
    int n_states, n_rules;
    unsigned char byte_class[256]; /* bytes that no edge tells apart */
    unsigned char byte_of[256];    /* [n_classes] one of each */
    int n_classes;
    uint32_t *like;                /* [AUTOMATON_LEVELS][n_states] */
};

/* Of the texts of a node. ERR_INVALID: it has none, a rule begins with itself or is not defined; ERR_LIMIT; or
 * the builder's error. */
int automaton_create(struct automaton **out, struct grammar_build *, int root, struct err *) WARN_UNUSED;
void automaton_destroy(struct automaton *); /* NULL is fine */
size_t automaton_bytes(const struct automaton *);

/* The state behind a byte in the same rule; -1: none. */
int32_t automaton_next(const struct automaton *, int32_t state, unsigned char byte);
/* Whether a text of the rule may begin with the byte. */
static inline bool automaton_starts(const struct automaton *a, int32_t rule, unsigned char byte)
{
    return a->begins[rule][byte / 64] >> byte % 64 & 1;
}
/* Whether a text may go on from the state within its rule. */
bool automaton_goes_on(const struct automaton *, int32_t state);

#endif
