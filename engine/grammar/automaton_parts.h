/* Steps of automaton_create that have files of their own. Errors are the builder's. */
#ifndef HEARTH_GRAMMAR_AUTOMATON_PARTS_H
#define HEARTH_GRAMMAR_AUTOMATON_PARTS_H

#include "automaton.h"
#include "dfa.h"

/* The places of states in an order from the ends backwards; -1: no end is reached from it. False: no memory. */
bool automaton_order(const struct dfa *, int *order /* [n_states] */);
/* Fills `begins`. No rule begins with itself, and none can begin in too many ways. node[n_rules]: of which nodes. */
void automaton_check(struct automaton *, struct grammar_build *, const int *node);
/* Fills `like`. */
void automaton_liken(struct automaton *, struct grammar_build *);

#endif
