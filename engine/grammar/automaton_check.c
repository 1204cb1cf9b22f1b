/* The order in which states are put into an automaton, and what is refused of the whole. */
#include <string.h>

#include "automaton_parts.h"

#define DEPTH_MAX 1000   /* of rules that begin with rules */
#define LEAVES_MAX 1000 /* ways in which a text may go on at one place, rules within rules */

/* ---- order ---- */

/* An end is reached from these: found backwards, over the edges sorted by where they lead. */
static bool mark_alive(const struct dfa *d, bool *alive)
{
    size_t n = d->n_states;
    uint32_t *first = calloc(n + 2, sizeof *first);
    int32_t *from = malloc((d->n_edges + 1) * sizeof *from), *pending = malloc(n * sizeof *pending);
    bool ok = first && from && pending;
    if (ok) {
        for (size_t i = 0; i < d->n_edges; i++) first[d->edge[i].to + 2]++;
        for (size_t i = 2; i < n + 2; i++) first[i] += first[i - 1];
        for (size_t s = 0; s < n; s++) {
            for (uint32_t i = d->state[s].edge; i < d->state[s + 1].edge; i++) {
                from[first[d->edge[i].to + 1]++] = (int32_t)s;
            }
        }
        size_t n_pending = 0;
        for (size_t s = 0; s < n; s++) {
            alive[s] = d->state[s].final;
            if (alive[s]) pending[n_pending++] = (int32_t)s;
        }
        while (n_pending > 0) {
            int32_t s = pending[--n_pending];
            for (uint32_t i = first[s]; i < first[s + 1]; i++) {
                if (alive[from[i]]) continue;
                alive[from[i]] = true;
                pending[n_pending++] = from[i];
            }
        }
    }
    free(first);
    free(from);
    free(pending);
    return ok;
}

bool automaton_order(const struct dfa *d, int *order)
{
    size_t n = d->n_states, depth = 0;
    int place = 0;
    bool *alive = calloc(n, sizeof *alive);
    int32_t *path = malloc(n * sizeof *path);
    uint32_t *next = malloc(n * sizeof *next); /* the edge to follow next; UINT32_MAX: not entered */
    bool ok = alive && path && next && mark_alive(d, alive);
    for (size_t i = 0; i < n; i++) order[i] = -1;
    if (ok && alive[0]) {
        for (size_t i = 0; i < n; i++) next[i] = UINT32_MAX;
        path[depth++] = 0;
        next[0] = d->state[0].edge;
    }
    while (depth > 0) {
        int32_t s = path[depth - 1];
        if (next[s] == d->state[s + 1].edge) {
            order[s] = place++;
            depth--;
            continue;
        }
        int32_t to = d->edge[next[s]++].to;
        if (!alive[to] || next[to] != UINT32_MAX) continue;
        next[to] = d->state[to].edge;
        path[depth++] = to;
    }
    free(alive);
    free(path);
    free(next);
    return ok;
}

/* ---- checks ---- */

static int calls_of(const struct automaton *a, int rule)
{
    const struct automaton_state *s = &a->state[a->start[rule]];
    return (int)(s[1].call - s->call);
}

static void refuse_loop(struct grammar_build *b, int node)
{
    const char *name = b->node[node].kind == NODE_RULE ? b->name[b->node[node].min].text : "";
    grammar_fail(b, ERR_INVALID, "the grammar is left-recursive: %s%s%s begins with itself",
                 name[0] ? "the rule \"" : "a rule", name, name[0] ? "\"" : "");
}

/* How rules begin. */
struct beginning {
    uint64_t leaves; /* in how many ways; 0: not known yet */
    int depth;       /* of rules that begin with rules */
    int next;        /* the call to look at next; -1: never looked at */
    int below;       /* the rule whose calls are looked at when this one is done */
};

static uint64_t leaves_of(const struct automaton *a, const struct beginning *b, int32_t state)
{
    uint64_t n = 1;
    const struct automaton_state *s = &a->state[state];
    for (uint32_t i = s->call; i < s[1].call && n <= LEAVES_MAX; i++) n += b[a->call[i].rule].leaves;
    return n;
}

/* What a rule begins with is known. */
static void finish(struct automaton *a, struct beginning *b, int rule)
{
    const struct automaton_state *s = &a->state[a->start[rule]];
    b[rule].leaves = leaves_of(a, b, a->start[rule]);
    b[rule].depth = 1;
    for (uint32_t i = s->edge; i < s[1].edge; i++) {
        for (int byte = a->edge[i].first; byte <= a->edge[i].last; byte++) {
            a->begins[rule][byte / 64] |= (uint64_t)1 << byte % 64;
        }
    }
    for (uint32_t i = s->call; i < s[1].call; i++) {
        int to = a->call[i].rule;
        if (b[rule].depth <= b[to].depth) b[rule].depth = b[to].depth + 1;
        for (int word = 0; word < 4; word++) a->begins[rule][word] |= a->begins[to][word];
    }
}

/* Rules in the order of what they begin with; a rule that is met while it is open begins with itself. */
static void check_starts(struct automaton *a, struct grammar_build *build, const int *node, struct beginning *b)
{
    for (int root = 0; root < a->n_rules; root++) {
        if (b[root].leaves > 0) continue;
        b[root].next = 0;
        b[root].below = -1;
        for (int rule = root; rule >= 0;) {
            if (b[rule].next == calls_of(a, rule)) {
                finish(a, b, rule);
                rule = b[rule].below;
                continue;
            }
            int to = a->call[a->state[a->start[rule]].call + (uint32_t)b[rule].next++].rule;
            if (b[to].leaves > 0) continue;
            if (b[to].next >= 0) {
                refuse_loop(build, node[to]);
                return;
            }
            b[to].next = 0;
            b[to].below = rule;
            rule = to;
        }
    }
}

void automaton_check(struct automaton *a, struct grammar_build *build, const int *node)
{
    size_t n = (size_t)a->n_rules;
    struct beginning *b = calloc(n, sizeof *b);
    a->begins = calloc(n, sizeof *a->begins);
    if (!b || !a->begins) {
        free(b);
        grammar_fail(build, ERR_NOMEM, "out of memory for a grammar");
        return;
    }
    for (size_t i = 0; i < n; i++) b[i].next = -1;
    check_starts(a, build, node, b);
    for (size_t i = 0; i < n && !build->err.code; i++) {
        if (b[i].depth > DEPTH_MAX) grammar_fail(build, ERR_LIMIT, "the grammar is nested too deep");
    }
    for (int32_t s = 0; s < a->n_states && !build->err.code; s++) {
        if (leaves_of(a, b, s) <= LEAVES_MAX) continue;
        grammar_fail(build, ERR_LIMIT, "the grammar can go on in too many ways at one place");
    }
    free(b);
}
