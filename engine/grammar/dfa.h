/* One rule made deterministic: the subset construction over bytes and calls alike. */
#ifndef HEARTH_GRAMMAR_DFA_H
#define HEARTH_GRAMMAR_DFA_H

#include "nfa.h"

struct dfa_edge {
    int32_t to;
    int32_t rule; /* node of a call; -1: bytes */
    unsigned char first, last;
};

struct dfa_state {
    uint32_t edge; /* its edges end where the next state's begin; ascending, bytes first */
    bool final;
};

struct dfa {
    struct dfa_state *state; /* [n_states + 1]; 0 is the start */
    struct dfa_edge *edge;
    size_t n_states, n_edges, state_capacity, edge_capacity;
};

/* Errors are the builder's: ERR_LIMIT after too much work. States from which no end is reached may be there. */
void dfa_of(struct dfa *, const struct nfa *);
void dfa_dispose(struct dfa *);

#endif
