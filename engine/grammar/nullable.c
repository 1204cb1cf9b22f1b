/* Which nodes can be empty and which have any string: least fixed points. Each node is looked at once, and again
 * when one that it depends on has changed. */
#include "nodes.h"

#define PASSES_MAX 64 /* to and fro through the edges of a graph */

/* States of a graph that can be reached from the first one by productive, and by empty, labels. */
static void walk_graph(struct grammar_build *b, struct node *graph)
{
    unsigned char *reached = calloc((size_t)graph->n_states, 1); /* 1: by productive labels; 2: by empty ones */
    if (!reached) {
        grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
        return;
    }
    reached[0] = 3;
    bool changed = true;
    for (int pass = 0; changed; pass++) {
        changed = false;
        if (pass == PASSES_MAX) {
            grammar_fail(b, ERR_LIMIT, "the grammar is too involved");
            break;
        }
        for (size_t i = 0; i < graph->n; i++) {
            const struct graph_edge *e = &b->edge[graph->at + (pass % 2 ? graph->n - 1 - i : i)];
            const struct node *label = &b->node[e->node];
            unsigned char gives = reached[e->from] & (unsigned char)(label->productive | label->nullable << 1);
            changed |= (reached[e->to] | gives) != reached[e->to];
            reached[e->to] |= gives;
        }
    }
    for (int s = 0; s < graph->n_states; s++) {
        if (!b->final[graph->min + s]) continue;
        graph->productive |= reached[s] & 1;
        graph->nullable |= (reached[s] & 2) != 0;
    }
    free(reached);
}

static void walk(struct grammar_build *b, struct node *n)
{
    const int *child = b->n_lists > 0 ? b->list + n->at : NULL;
    bool all_nullable = true, all_productive = true;
    switch (n->kind) {
    case NODE_NEVER:
        return;
    case NODE_BYTES:
        n->productive = true;
        n->nullable = n->n == 0;
        return;
    case NODE_BYTE:
        n->productive = true;
        return;
    case NODE_SET:
        n->productive = n->n > 0;
        return;
    case NODE_SEQUENCE:
        for (size_t i = 0; i < n->n; i++) {
            all_nullable &= b->node[child[i]].nullable;
            all_productive &= b->node[child[i]].productive;
        }
        n->nullable = all_nullable;
        n->productive = all_productive;
        return;
    case NODE_ANY:
        for (size_t i = 0; i < n->n; i++) {
            n->nullable |= b->node[child[i]].nullable;
            n->productive |= b->node[child[i]].productive;
        }
        return;
    case NODE_REPEAT:
        n->nullable = n->min == 0 || b->node[n->child].nullable;
        n->productive = n->min == 0 || b->node[n->child].productive;
        return;
    case NODE_RULE:
        n->nullable = b->node[n->child].nullable;
        n->productive = b->node[n->child].productive;
        return;
    case NODE_GRAPH:
        walk_graph(b, n);
        return;
    }
}

/* Who must be looked at again when a node has changed: dependent[first[node]] to first[node + 1]. */
struct dependents {
    uint32_t *first;
    int *dependent;
    int *pending;   /* a ring of nodes */
    bool *waits;    /* [n_nodes] is in it */
};

/* Counts the children of a node, or notes it at them. */
static void note(const struct grammar_build *b, int node, struct dependents *d, bool place)
{
    const struct node *n = &b->node[node];
    bool single = n->kind == NODE_REPEAT || n->kind == NODE_RULE;
    bool several = n->kind == NODE_SEQUENCE || n->kind == NODE_ANY || n->kind == NODE_GRAPH;
    for (size_t i = 0; i < (several ? n->n : single); i++) {
        int child = single ? n->child : n->kind == NODE_GRAPH ? b->edge[n->at + i].node : b->list[n->at + i];
        if (place) {
            d->dependent[d->first[child + 1]++] = node;
        } else {
            d->first[child + 2]++;
        }
    }
}

static void settle(struct grammar_build *b, struct dependents *d)
{
    size_t n = b->n_nodes, head = 0, waiting = n;
    for (size_t i = 0; i < n; i++) {
        d->pending[i] = (int)i;
        d->waits[i] = true;
    }
    while (waiting > 0 && !b->err.code) {
        int node = d->pending[head];
        struct node *at = &b->node[node], before = *at;
        head = (head + 1) % n;
        waiting--;
        d->waits[node] = false;
        walk(b, at);
        nodes_work(b, 1 + at->n / 4);
        if (before.nullable == at->nullable && before.productive == at->productive) continue;
        for (uint32_t i = d->first[node]; i < d->first[node + 1]; i++) {
            int dependent = d->dependent[i];
            if (d->waits[dependent]) continue;
            d->waits[dependent] = true;
            d->pending[(head + waiting++) % n] = dependent;
        }
    }
}

void nodes_analyse(struct grammar_build *b)
{
    struct dependents d = {0};
    size_t n = b->n_nodes;
    for (size_t i = 0; i < b->n_rules && !b->err.code; i++) {
        if (b->node[b->rule[i]].child < 0) {
            grammar_fail(b, ERR_INVALID, "the rule \"%s\" is not defined", b->name[i].text);
        }
    }
    if (b->err.code) return;
    d.first = calloc(n + 2, sizeof *d.first);
    d.dependent = malloc((b->n_lists + b->n_edges + n) * sizeof *d.dependent);
    d.pending = malloc(n * sizeof *d.pending);
    d.waits = malloc(n * sizeof *d.waits);
    if (d.first && d.dependent && d.pending && d.waits) {
        for (size_t i = 0; i < n; i++) note(b, (int)i, &d, false);
        for (size_t i = 2; i < n + 2; i++) d.first[i] += d.first[i - 1];
        for (size_t i = 0; i < n; i++) note(b, (int)i, &d, true);
        settle(b, &d);
    } else {
        grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
    }
    free(d.first);
    free(d.dependent);
    free(d.pending);
    free(d.waits);
}
