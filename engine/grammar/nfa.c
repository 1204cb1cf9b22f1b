/* Nodes as states and edges, after Thompson. */
#include "nfa.h"

#include <string.h>

#define STATES_MAX 400000
#define EDGES_MAX 1000000

void nfa_init(struct nfa *a, struct grammar_build *b)
{
    *a = (struct nfa){.build = b};
}

void nfa_dispose(struct nfa *a)
{
    free(a->state);
    free(a->edge);
}

int32_t nfa_add_state(struct nfa *a)
{
    if (a->build->err.code) return 0;
    if (a->n_states == a->state_capacity) {
        int capacity = a->state_capacity ? a->state_capacity * 2 : 256;
        struct nfa_state *moved = capacity <= STATES_MAX * 2 ? realloc(a->state, (size_t)capacity * sizeof *moved) : NULL;
        if (!moved) return grammar_fail(a->build, ERR_LIMIT, "the grammar is too large");
        a->state = moved;
        a->state_capacity = capacity;
    }
    a->state[a->n_states] = (struct nfa_state){-1, -1};
    return a->n_states++;
}

static void add_edge(struct nfa *a, int32_t from, struct nfa_edge edge)
{
    if (a->build->err.code) return;
    if (a->n_edges == a->edge_capacity) {
        int capacity = a->edge_capacity ? a->edge_capacity * 2 : 256;
        struct nfa_edge *moved = capacity <= EDGES_MAX * 2 ? realloc(a->edge, (size_t)capacity * sizeof *moved) : NULL;
        if (!moved) {
            grammar_fail(a->build, ERR_LIMIT, "the grammar is too large");
            return;
        }
        a->edge = moved;
        a->edge_capacity = capacity;
    }
    int32_t *first = edge.kind == NFA_EMPTY ? &a->state[from].empty : &a->state[from].edge;
    edge.next = *first;
    *first = a->n_edges;
    a->edge[a->n_edges++] = edge;
}

void nfa_add_empty(struct nfa *a, int32_t from, int32_t to)
{
    if (from != to) add_edge(a, from, (struct nfa_edge){.kind = NFA_EMPTY, .to = to});
}

void nfa_add_bytes(struct nfa *a, int32_t from, int32_t to, int first, int last)
{
    add_edge(a, from, (struct nfa_edge){.kind = NFA_BYTES, .to = to, .first = (unsigned char)first,
                                        .last = (unsigned char)last});
}

/* ---- characters ---- */

static int encode(uint32_t c, unsigned char out[4])
{
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (unsigned char)(0x80 | (c & 0x3f));
    out[0] = (unsigned char)((0xf00 >> n & 0xff) | c);
    return n;
}

/* A range whose characters are as long as each other and differ in whole last bytes only becomes one path; any
 * other is cut into such. */
static void add_range(struct nfa *a, int32_t from, int32_t to, uint32_t first, uint32_t last)
{
    static const uint32_t end[] = {0x7f, 0x7ff, 0xffff};
    for (int i = 0; i < 3; i++) {
        if (first > end[i] || last <= end[i]) continue;
        add_range(a, from, to, first, end[i]);
        add_range(a, from, to, end[i] + 1, last);
        return;
    }
    for (int i = 1; i < 4 && last > 0x7f; i++) {
        uint32_t low = (1u << (6 * i)) - 1;
        if ((first & ~low) == (last & ~low)) continue;
        if ((first & low) != 0) {
            add_range(a, from, to, first, first | low);
            add_range(a, from, to, (first | low) + 1, last);
            return;
        }
        if ((last & low) != low) {
            add_range(a, from, to, first, (last & ~low) - 1);
            add_range(a, from, to, last & ~low, last);
            return;
        }
    }
    unsigned char low[4], high[4];
    int n = encode(first, low);
    encode(last, high);
    for (int i = 0; i < n; i++) {
        int32_t next = i + 1 < n ? nfa_add_state(a) : to;
        nfa_add_bytes(a, from, next, low[i], high[i]);
        from = next;
    }
}

/* ---- nodes ---- */

static void add_node(struct nfa *a, int node, int32_t from, int32_t to);

static void add_bytes_node(struct nfa *a, const struct node *n, int32_t from, int32_t to)
{
    if (n->n == 0) nfa_add_empty(a, from, to);
    for (size_t i = 0; i < n->n; i++) {
        int32_t next = i + 1 < n->n ? nfa_add_state(a) : to;
        unsigned char byte = (unsigned char)a->build->bytes[n->at + i];
        nfa_add_bytes(a, from, next, byte, byte);
        from = next;
    }
}

static void add_sequence(struct nfa *a, const struct node *n, int32_t from, int32_t to)
{
    if (n->n == 0) nfa_add_empty(a, from, to);
    for (size_t i = 0; i < n->n; i++) {
        int32_t next = i + 1 < n->n ? nfa_add_state(a) : to;
        add_node(a, a->build->list[n->at + i], from, next);
        from = next;
    }
}

static void add_repeat(struct nfa *a, const struct node *n, int32_t from, int32_t to)
{
    bool possible = a->build->node[n->child].productive;
    for (int i = 0; i < n->min && !a->build->err.code; i++) {
        int32_t next = nfa_add_state(a);
        add_node(a, n->child, from, next);
        from = next;
    }
    if (n->max < 0 && possible) {
        int32_t loop = nfa_add_state(a);
        nfa_add_empty(a, from, loop);
        add_node(a, n->child, loop, loop);
        from = loop;
    }
    for (int i = n->min; i < n->max && possible && !a->build->err.code; i++) {
        int32_t next = nfa_add_state(a);
        nfa_add_empty(a, from, to);
        add_node(a, n->child, from, next);
        from = next;
    }
    nfa_add_empty(a, from, to);
}

/* The graph has states of its own: an edge back to its first one is no edge back to what is before it. */
static void add_graph(struct nfa *a, const struct node *n, int32_t from, int32_t to)
{
    int32_t first = a->n_states;
    for (int i = 0; i < n->n_states && !a->build->err.code; i++) nfa_add_state(a);
    nfa_add_empty(a, from, first);
    for (int i = 0; i < n->n_states && !a->build->err.code; i++) {
        if (a->build->final[n->min + i]) nfa_add_empty(a, first + i, to);
    }
    for (size_t i = 0; i < n->n && !a->build->err.code; i++) {
        const struct graph_edge *e = &a->build->edge[n->at + i];
        add_node(a, e->node, first + e->from, first + e->to);
    }
}

static void add_node(struct nfa *a, int node, int32_t from, int32_t to)
{
    const struct grammar_build *b = a->build;
    const struct node *n = &b->node[node];
    if (b->err.code || !n->productive) return;
    switch (n->kind) {
    case NODE_NEVER:
        return;
    case NODE_BYTES:
        add_bytes_node(a, n, from, to);
        return;
    case NODE_BYTE:
        nfa_add_bytes(a, from, to, n->min, n->max);
        return;
    case NODE_SET:
        for (size_t i = 0; i < n->n; i++) {
            add_range(a, from, to, b->range[n->at + i].first, b->range[n->at + i].last);
        }
        return;
    case NODE_SEQUENCE:
        add_sequence(a, n, from, to);
        return;
    case NODE_ANY:
        for (size_t i = 0; i < n->n; i++) add_node(a, b->list[n->at + i], from, to);
        return;
    case NODE_REPEAT:
        add_repeat(a, n, from, to);
        return;
    case NODE_RULE:
        add_edge(a, from, (struct nfa_edge){.kind = NFA_CALL, .to = to, .rule = node});
        if (n->nullable) nfa_add_empty(a, from, to);
        return;
    case NODE_GRAPH:
        add_graph(a, n, from, to);
        return;
    }
}

void nfa_clear(struct nfa *a)
{
    a->n_states = a->n_edges = 0;
    nfa_add_state(a);
    nfa_add_state(a);
}

void nfa_of(struct nfa *a, int node)
{
    nfa_clear(a);
    add_node(a, node, NFA_START, NFA_FINAL);
}
