/* All rules of a grammar become one automaton: each is made deterministic, and its states are put in from the
 * ends backwards, so that a state that is equal to one that is there already becomes that one. */
#include "automaton.h"

#include <string.h>
#include <xxhash.h>

#include "automaton_parts.h"

#define STATES_MAX 80000

struct compile {
    struct grammar_build *build;
    struct automaton *automaton;
    struct nfa nfa;
    struct dfa dfa;
    int32_t *number;   /* [nodes] of the rule that a node is; -1: none yet */
    int *node;         /* [n_rules] */
    int *order;        /* [dfa states] those that an end is reached from, each behind what it leads to as far as
                        * that can be */
    int32_t *id;       /* [dfa states] in the automaton; -1: not there */
    size_t local_capacity;
    int n_rules;
    size_t rule_capacity, start_capacity;
    int32_t *slot;     /* [mask + 1] state + 1; 0: empty */
    size_t mask;
    size_t n_edges, n_calls, state_capacity, edge_capacity, call_capacity;
};

static bool failed(const struct compile *c)
{
    return c->build->err.code != 0;
}

static bool grow(struct compile *c, void *array, size_t n, size_t *capacity, size_t size)
{
    void **at = array;
    if (n < *capacity) return true;
    size_t grown = n * 2 + 64;
    void *moved = realloc(*at, grown * size);
    if (!moved) {
        grammar_fail(c->build, ERR_NOMEM, "out of memory for a grammar");
        return false;
    }
    *at = moved;
    *capacity = grown;
    return true;
}

/* ---- rules ---- */

/* The number of a rule, which is compiled in its turn. */
static int32_t rule_number(struct compile *c, int node)
{
    if (c->number[node] >= 0) return c->number[node];
    if (!grow(c, &c->node, (size_t)c->n_rules, &c->rule_capacity, sizeof *c->node)) return 0;
    c->node[c->n_rules] = node;
    return c->number[node] = c->n_rules++;
}

/* ---- putting states in ---- */

#define SELF -2 /* stands for the state itself, so that loops of two rules can be found equal */

static int32_t target(const struct compile *c, size_t from, int32_t to)
{
    return (size_t)to == from ? SELF : c->id[to];
}

static uint64_t hash_edge(uint64_t hash, int32_t to, int32_t rule, unsigned char first, unsigned char last)
{
    int32_t words[4] = {to, rule, first, last};
    return XXH3_64bits_withSeed(words, sizeof words, hash);
}

/* Of a state that is to be put in; *whole: all that it leads to is there. */
static uint64_t hash_local(struct compile *c, size_t state, bool *whole)
{
    const struct dfa *d = &c->dfa;
    uint64_t hash = d->state[state].final;
    *whole = true;
    for (uint32_t i = d->state[state].edge; i < d->state[state + 1].edge; i++) {
        const struct dfa_edge *e = &d->edge[i];
        if (c->order[e->to] < 0) continue;
        int32_t to = target(c, state, e->to), rule = e->rule < 0 ? -1 : rule_number(c, e->rule);
        *whole &= to != -1;
        hash = hash_edge(hash, to, rule, e->first, e->last);
    }
    return hash;
}

static uint64_t hash_global(const struct automaton *a, int32_t state)
{
    const struct automaton_state *s = &a->state[state];
    uint64_t hash = s->final;
    for (uint32_t i = s->edge; i < s[1].edge; i++) {
        const struct automaton_edge *e = &a->edge[i];
        hash = hash_edge(hash, e->to == state ? SELF : e->to, -1, e->first, e->last);
    }
    for (uint32_t i = s->call; i < s[1].call; i++) {
        const struct automaton_call *e = &a->call[i];
        hash = hash_edge(hash, e->back == state ? SELF : e->back, e->rule, 0, 0);
    }
    return hash;
}

/* The state of the automaton is what the local one would become. */
static bool equal(const struct compile *c, size_t local, int32_t state)
{
    const struct automaton *a = c->automaton;
    const struct automaton_state *s = &a->state[state];
    const struct dfa *d = &c->dfa;
    uint32_t edge = s->edge, call = s->call;
    if (s->final != d->state[local].final) return false;
    for (uint32_t i = d->state[local].edge; i < d->state[local + 1].edge; i++) {
        const struct dfa_edge *e = &d->edge[i];
        if (c->order[e->to] < 0) continue;
        int32_t to = target(c, local, e->to);
        if (to == SELF) to = state;
        if (e->rule >= 0) {
            if (call == s[1].call || a->call[call].back != to || a->call[call].rule != c->number[e->rule]) return false;
            call++;
        } else {
            if (edge == s[1].edge || a->edge[edge].to != to || a->edge[edge].first != e->first ||
                a->edge[edge].last != e->last) {
                return false;
            }
            edge++;
        }
    }
    return edge == s[1].edge && call == s[1].call;
}

static void rehash(struct compile *c)
{
    size_t mask = c->mask ? c->mask * 2 + 1 : 1023;
    int32_t *slot = calloc(mask + 1, sizeof *slot);
    if (!slot) {
        grammar_fail(c->build, ERR_NOMEM, "out of memory for a grammar");
        return;
    }
    for (size_t i = 0; c->slot && i <= c->mask; i++) {
        if (!c->slot[i]) continue;
        size_t at = hash_global(c->automaton, c->slot[i] - 1) & mask;
        while (slot[at]) at = (at + 1) & mask;
        slot[at] = c->slot[i];
    }
    free(c->slot);
    c->slot = slot;
    c->mask = mask;
}

/* Edges to states that are not there yet get -3 - their local number. */
static int32_t add_state(struct compile *c, size_t local)
{
    struct automaton *a = c->automaton;
    const struct dfa *d = &c->dfa;
    int32_t made = a->n_states;
    if (made >= STATES_MAX) return grammar_fail(c->build, ERR_LIMIT, "the grammar is too large");
    if (!grow(c, &a->state, (size_t)made + 1, &c->state_capacity, sizeof *a->state)) return 0;
    for (uint32_t i = d->state[local].edge; i < d->state[local + 1].edge; i++) {
        const struct dfa_edge *e = &d->edge[i];
        if (c->order[e->to] < 0) continue;
        int32_t to = target(c, local, e->to);
        if (to == SELF) to = made;
        if (to < 0) to = -3 - e->to;
        if (e->rule >= 0) {
            if (!grow(c, &a->call, c->n_calls, &c->call_capacity, sizeof *a->call)) return 0;
            a->call[c->n_calls++] = (struct automaton_call){.rule = rule_number(c, e->rule), .back = to};
        } else {
            if (!grow(c, &a->edge, c->n_edges, &c->edge_capacity, sizeof *a->edge)) return 0;
            a->edge[c->n_edges++] = (struct automaton_edge){.first = e->first, .last = e->last, .to = to};
        }
    }
    a->state[made].final = d->state[local].final;
    a->state[made + 1] = (struct automaton_state){.edge = (uint32_t)c->n_edges, .call = (uint32_t)c->n_calls};
    a->n_states++;
    return made;
}

static int32_t put_in(struct compile *c, size_t local)
{
    bool whole;
    uint64_t hash = hash_local(c, local, &whole);
    if ((size_t)c->automaton->n_states * 2 >= c->mask) rehash(c);
    if (failed(c)) return 0;
    if (!whole) return add_state(c, local);
    size_t at = hash & c->mask;
    for (; c->slot[at]; at = (at + 1) & c->mask) {
        if (equal(c, local, c->slot[at] - 1)) return c->slot[at] - 1;
    }
    int32_t made = add_state(c, local);
    c->slot[at] = made + 1;
    return made;
}

static void compile_rule(struct compile *c, int32_t rule)
{
    struct automaton *a = c->automaton;
    const struct node *n = &c->build->node[c->node[rule]];
    nfa_of(&c->nfa, n->kind == NODE_RULE ? n->child : c->node[rule]);
    dfa_of(&c->dfa, &c->nfa);
    if (failed(c)) return;
    size_t n_local = c->dfa.n_states;
    if (n_local > c->local_capacity) {
        free(c->order);
        free(c->id);
        c->local_capacity = n_local * 2;
        c->order = malloc(c->local_capacity * sizeof *c->order);
        c->id = malloc(c->local_capacity * sizeof *c->id);
    }
    if (!c->order || !c->id || !automaton_order(&c->dfa, c->order)) {
        grammar_fail(c->build, ERR_NOMEM, "out of memory for a grammar");
        return;
    }
    int32_t *by_place = malloc((n_local + 1) * sizeof *by_place);
    if (!by_place) {
        grammar_fail(c->build, ERR_NOMEM, "out of memory for a grammar");
        return;
    }
    memset(by_place, -1, (n_local + 1) * sizeof *by_place);
    memset(c->id, -1, n_local * sizeof *c->id);
    for (size_t i = 0; i < n_local; i++) {
        if (c->order[i] >= 0) by_place[c->order[i]] = (int32_t)i;
    }
    size_t edges = c->n_edges, calls = c->n_calls;
    for (size_t i = 0; by_place[i] >= 0 && !failed(c); i++) c->id[by_place[i]] = put_in(c, (size_t)by_place[i]);
    free(by_place);
    if (failed(c)) return;
    for (size_t i = edges; i < c->n_edges; i++) {
        if (a->edge[i].to <= -3) a->edge[i].to = c->id[-3 - a->edge[i].to];
    }
    for (size_t i = calls; i < c->n_calls; i++) {
        if (a->call[i].back <= -3) a->call[i].back = c->id[-3 - a->call[i].back];
    }
    if (grow(c, &a->start, (size_t)rule, &c->start_capacity, sizeof *a->start)) a->start[rule] = c->id[0];
}

/* ---- the whole ---- */

static void find_classes(struct automaton *a, size_t n_edges)
{
    bool boundary[257] = {false};
    for (size_t i = 0; i < n_edges; i++) boundary[a->edge[i].first] = boundary[a->edge[i].last + 1] = true;
    for (int byte = 0; byte < 256; byte++) {
        if (byte == 0 || boundary[byte]) a->byte_of[a->n_classes++] = (unsigned char)byte;
        a->byte_class[byte] = (unsigned char)(a->n_classes - 1);
    }
}

static void compile(struct compile *c, int root)
{
    struct automaton *a = c->automaton;
    struct grammar_build *b = c->build;
    nodes_analyse(b);
    if (failed(c)) return;
    if (!b->node[root].productive) {
        grammar_fail(b, ERR_INVALID, "no text fits the grammar");
        return;
    }
    c->number = malloc(b->n_nodes * sizeof *c->number);
    a->state = calloc(1, sizeof *a->state);
    c->state_capacity = a->state != NULL;
    if (!c->number || !a->state) {
        grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
        return;
    }
    memset(c->number, -1, b->n_nodes * sizeof *c->number);
    rule_number(c, root);
    for (int i = 0; i < c->n_rules && !failed(c); i++) compile_rule(c, i);
    if (failed(c)) return;
    a->n_rules = c->n_rules;
    find_classes(a, c->n_edges);
    automaton_check(a, b, c->node);
    if (!failed(c)) automaton_liken(a, b);
}

int automaton_create(struct automaton **out, struct grammar_build *b, int root, struct err *err)
{
    struct compile c = {.build = b, .automaton = calloc(1, sizeof *c.automaton)};
    *out = NULL;
    if (!c.automaton) return err_set(err, ERR_NOMEM, "out of memory for a grammar");
    nfa_init(&c.nfa, b);
    if (!failed(&c)) compile(&c, root);
    nfa_dispose(&c.nfa);
    dfa_dispose(&c.dfa);
    free(c.number);
    free(c.node);
    free(c.order);
    free(c.id);
    free(c.slot);
    if (failed(&c)) {
        automaton_destroy(c.automaton);
        return grammar_failure(b, err);
    }
    *out = c.automaton;
    return 0;
}

void automaton_destroy(struct automaton *a)
{
    if (!a) return;
    free(a->state);
    free(a->edge);
    free(a->call);
    free(a->start);
    free(a->begins);
    free(a->like);
    free(a);
}

size_t automaton_bytes(const struct automaton *a)
{
    const struct automaton_state *end = &a->state[a->n_states];
    return sizeof *a + (size_t)a->n_states * (sizeof *end + AUTOMATON_LEVELS * sizeof *a->like) +
           end->edge * sizeof *a->edge + end->call * sizeof *a->call + (size_t)a->n_rules * (sizeof *a->start + sizeof *a->begins);
}

int32_t automaton_next(const struct automaton *a, int32_t state, unsigned char byte)
{
    uint32_t low = a->state[state].edge, high = a->state[state + 1].edge;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (a->edge[middle].last < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < a->state[state + 1].edge && a->edge[low].first <= byte ? a->edge[low].to : -1;
}

bool automaton_goes_on(const struct automaton *a, int32_t state)
{
    const struct automaton_state *s = &a->state[state];
    return s->edge < s[1].edge || s->call < s[1].call;
}
