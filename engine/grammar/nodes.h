/* The nodes of a grammar under construction, for build.c, nullable.c and nfa.c. */
#ifndef HEARTH_GRAMMAR_NODES_H
#define HEARTH_GRAMMAR_NODES_H

#include "build.h"

enum node_kind {
    NODE_NEVER, NODE_BYTES, NODE_BYTE, NODE_SET, NODE_SEQUENCE, NODE_ANY, NODE_REPEAT, NODE_RULE, NODE_GRAPH
};

struct node {
    enum node_kind kind;
    int depth;           /* of nodes within it, rules not entered */
    uint32_t size;       /* edges that it takes, about; rules count as one */
    size_t at, n;        /* BYTES: in `bytes`; SET: in `ranges`; SEQUENCE, ANY: in `lists`; GRAPH: in `edges` */
    int child, min, max; /* REPEAT; RULE: child is its definition or -1, min its number; BYTE: min to max */
    int n_states;        /* GRAPH; which are final: `finals` from `min` on */
    bool nullable;       /* has the empty string; known after nodes_analyse */
    bool productive;     /* has any string at all */
};

struct rule_name {
    char text[40];
};

struct grammar_build {
    struct err err;
    struct node *node;
    size_t n_nodes, node_capacity;
    char *bytes;
    size_t n_bytes, bytes_capacity;
    struct code_range *range;
    size_t n_ranges, range_capacity;
    int *list;
    size_t n_lists, list_capacity;
    struct graph_edge *edge;
    size_t n_edges, edge_capacity;
    bool *final;
    size_t n_finals, final_capacity;
    int *rule;              /* [n_rules] their nodes */
    struct rule_name *name; /* [n_rules] */
    size_t n_rules, rule_capacity, name_capacity;
    int json[8];            /* nodes of json.c; 0: not made yet */
    uint64_t work;          /* steps taken so far, of all that may take many: what bounds the time */
};

/* ERR_LIMIT where too many steps have been taken. */
void nodes_work(struct grammar_build *, uint64_t steps);
/* Which nodes can be empty, and which have a string at all. Errors are the builder's. */
void nodes_analyse(struct grammar_build *);

#endif
