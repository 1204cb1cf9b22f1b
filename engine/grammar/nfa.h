/* The texts of one rule as an automaton that is not deterministic: what nodes become first. */
#ifndef HEARTH_GRAMMAR_NFA_H
#define HEARTH_GRAMMAR_NFA_H

#include "nodes.h"

enum nfa_kind { NFA_EMPTY, NFA_BYTES, NFA_CALL };

struct nfa_edge {
    int32_t next; /* in the same list; -1: the last */
    int32_t to;
    int32_t rule; /* node of a call */
    unsigned char kind, first, last;
};

struct nfa_state {
    int32_t edge, empty; /* the first of bytes and calls, the first of neither; -1: none */
};

struct nfa {
    struct nfa_state *state; /* [n_states] */
    struct nfa_edge *edge;
    int n_states, state_capacity, n_edges, edge_capacity;
    struct grammar_build *build; /* gets errors */
};

enum { NFA_START, NFA_FINAL };

void nfa_init(struct nfa *, struct grammar_build *);
void nfa_dispose(struct nfa *);
/* Empties it and puts in the texts of a node, from NFA_START to NFA_FINAL. */
void nfa_of(struct nfa *, int node);

/* For those who make one themselves: empty it first by nfa_clear, which leaves NFA_START and NFA_FINAL. */
void nfa_clear(struct nfa *);
int32_t nfa_add_state(struct nfa *);
void nfa_add_empty(struct nfa *, int32_t from, int32_t to);
void nfa_add_bytes(struct nfa *, int32_t from, int32_t to, int first, int last);

#endif
