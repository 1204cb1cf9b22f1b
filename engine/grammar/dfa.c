/* The subset construction. A set is a sorted array of the states of the other automaton that have edges of their
 * own or are final; sets lie one behind another and are found by hash. */
#include "dfa.h"

#include <string.h>
#include <xxhash.h>

#define SETS_MAX ((size_t)2 << 20) /* members of all sets of a rule */
#define STATES_MAX 60000

struct subset {
    const struct nfa *nfa;
    struct dfa *dfa;
    int32_t *member;             /* of all sets */
    size_t *first;               /* [states + 1] where a set's members begin */
    size_t n_members, member_capacity, first_capacity;
    int32_t *slot;               /* [mask + 1] state + 1; 0: empty */
    size_t mask;
    uint32_t *seen;              /* [nfa states] == stamp: in the set being made */
    uint32_t stamp;
    int32_t *pending, *target;   /* [nfa states] */
    size_t n_target;
    struct nfa_edge *edge;       /* those of the set in hand */
    size_t n_edges, edge_capacity;
    uint64_t work;               /* not reported yet */
};

static void limit(struct subset *s)
{
    grammar_fail(s->nfa->build, ERR_LIMIT, "the grammar is too large");
}

static bool failed(const struct subset *s)
{
    return s->nfa->build->err.code != 0;
}

/* Makes room in an array for one more element than n. */
static bool grow(struct subset *s, void *array, size_t n, size_t *capacity, size_t size)
{
    void **at = array;
    if (n < *capacity) return true;
    size_t grown = *capacity ? *capacity * 2 : 64;
    void *moved = realloc(*at, grown * size);
    if (!moved) {
        grammar_fail(s->nfa->build, ERR_NOMEM, "out of memory for a grammar");
        return false;
    }
    *at = moved;
    *capacity = grown;
    return true;
}

/* ---- sets ---- */

static void begin_set(struct subset *s)
{
    s->stamp++;
    s->n_target = 0;
}

/* Puts a state into the set being made, with all that is reached from it without a text. */
static void put(struct subset *s, int32_t state)
{
    size_t n = 0;
    if (s->seen[state] == s->stamp) return;
    s->seen[state] = s->stamp;
    s->pending[n++] = state;
    while (n > 0) {
        int32_t at = s->pending[--n];
        if (at == NFA_FINAL || s->nfa->state[at].edge >= 0) s->target[s->n_target++] = at;
        for (int32_t i = s->nfa->state[at].empty; i >= 0; i = s->nfa->edge[i].next) {
            int32_t to = s->nfa->edge[i].to;
            s->work++;
            if (s->seen[to] == s->stamp) continue;
            s->seen[to] = s->stamp;
            s->pending[n++] = to;
        }
    }
}

static int compare(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

static bool same_set(const struct subset *s, int32_t state)
{
    size_t first = s->first[state], n = s->first[state + 1] - first;
    return n == s->n_target && !memcmp(s->member + first, s->target, n * sizeof *s->target);
}

static uint64_t hash_set(const int32_t *member, size_t n)
{
    return XXH3_64bits(member, n * sizeof *member);
}

static void rehash(struct subset *s)
{
    size_t mask = s->mask ? s->mask * 2 + 1 : 255;
    int32_t *slot = calloc(mask + 1, sizeof *slot);
    if (!slot) {
        grammar_fail(s->nfa->build, ERR_NOMEM, "out of memory for a grammar");
        return;
    }
    for (size_t i = 0; i < s->dfa->n_states; i++) {
        size_t at = hash_set(s->member + s->first[i], s->first[i + 1] - s->first[i]) & mask;
        while (slot[at]) at = (at + 1) & mask;
        slot[at] = (int32_t)i + 1;
    }
    free(s->slot);
    s->slot = slot;
    s->mask = mask;
}

/* The state of the set that is made, a new one where there is none. */
static int32_t end_set(struct subset *s)
{
    struct dfa *d = s->dfa;
    qsort(s->target, s->n_target, sizeof *s->target, compare);
    s->work += 2 * s->n_target;
    if (d->n_states * 2 >= s->mask) rehash(s);
    if (failed(s)) return 0;
    size_t at = hash_set(s->target, s->n_target) & s->mask;
    for (; s->slot[at]; at = (at + 1) & s->mask) {
        if (same_set(s, s->slot[at] - 1)) return s->slot[at] - 1;
    }
    s->work += s->n_target;
    if (d->n_states >= STATES_MAX || s->n_members + s->n_target > SETS_MAX) {
        limit(s);
        return 0;
    }
    if (!grow(s, &d->state, d->n_states + 1, &d->state_capacity, sizeof *d->state) ||
        !grow(s, &s->first, d->n_states + 1, &s->first_capacity, sizeof *s->first)) {
        return 0;
    }
    bool final = false;
    for (size_t i = 0; i < s->n_target; i++) {
        if (!grow(s, &s->member, s->n_members, &s->member_capacity, sizeof *s->member)) return 0;
        s->member[s->n_members++] = s->target[i];
        final |= s->target[i] == NFA_FINAL;
    }
    s->slot[at] = (int32_t)d->n_states + 1;
    d->state[d->n_states] = (struct dfa_state){.final = final};
    s->first[d->n_states + 1] = s->n_members;
    return (int32_t)d->n_states++;
}

/* ---- edges ---- */

static void add_edge(struct subset *s, struct dfa_edge edge)
{
    struct dfa *d = s->dfa;
    if (!failed(s) && grow(s, &d->edge, d->n_edges, &d->edge_capacity, sizeof *d->edge)) d->edge[d->n_edges++] = edge;
}

static int compare_edges(const void *a, const void *b)
{
    const struct nfa_edge *x = a, *y = b;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->kind == NFA_CALL && x->rule != y->rule) return x->rule < y->rule ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static void collect_edges(struct subset *s, size_t state)
{
    s->n_edges = 0;
    for (size_t i = s->first[state]; i < s->first[state + 1]; i++) {
        for (int32_t e = s->nfa->state[s->member[i]].edge; e >= 0; e = s->nfa->edge[e].next) {
            if (!grow(s, &s->edge, s->n_edges, &s->edge_capacity, sizeof *s->edge)) return;
            s->edge[s->n_edges++] = s->nfa->edge[e];
        }
    }
    s->work += s->n_edges;
    if (s->n_edges > 1) qsort(s->edge, s->n_edges, sizeof *s->edge, compare_edges);
}

/* The bytes between two boundaries lead to the same set; neighbours with one target are one edge. */
static void expand_bytes(struct subset *s, size_t n)
{
    bool boundary[257] = {false};
    for (size_t i = 0; i < n; i++) boundary[s->edge[i].first] = boundary[s->edge[i].last + 1] = true;
    size_t own = s->dfa->n_edges, next = 0, open = 0; /* edges before `open` may reach on */
    for (int low = 0, high; low < 256 && !failed(s); low = high) {
        for (high = low + 1; high < 256 && !boundary[high];) high++;
        size_t kept = 0;
        for (size_t i = 0; i < open; i++) {
            if (s->edge[i].last >= low) s->edge[kept++] = s->edge[i];
        }
        while (next < n && s->edge[next].first <= low) s->edge[kept++] = s->edge[next++];
        open = kept;
        s->work += open;
        begin_set(s);
        for (size_t i = 0; i < open; i++) put(s, s->edge[i].to);
        if (s->n_target == 0) continue;
        int32_t to = end_set(s);
        if (failed(s)) return;
        struct dfa_edge *last = s->dfa->n_edges > own ? &s->dfa->edge[s->dfa->n_edges - 1] : NULL;
        if (last && last->to == to && last->last + 1 == low) {
            last->last = (unsigned char)(high - 1);
        } else {
            add_edge(s, (struct dfa_edge){.to = to, .rule = -1, .first = (unsigned char)low,
                                          .last = (unsigned char)(high - 1)});
        }
    }
}

static void expand_calls(struct subset *s, size_t from)
{
    for (size_t i = from, end; i < s->n_edges && !failed(s); i = end) {
        begin_set(s);
        for (end = i; end < s->n_edges && s->edge[end].rule == s->edge[i].rule; end++) put(s, s->edge[end].to);
        int32_t to = end_set(s);
        add_edge(s, (struct dfa_edge){.to = to, .rule = s->edge[i].rule});
    }
}

static void expand(struct subset *s)
{
    struct dfa *d = s->dfa;
    begin_set(s);
    put(s, NFA_START);
    end_set(s);
    for (size_t i = 0; i < d->n_states && !failed(s); i++) {
        d->state[i].edge = (uint32_t)d->n_edges;
        collect_edges(s, i);
        size_t n = 0;
        while (n < s->n_edges && s->edge[n].kind == NFA_BYTES) n++;
        if (n > 0) expand_bytes(s, n);
        expand_calls(s, n);
        nodes_work(s->nfa->build, s->work);
        s->work = 0;
    }
    if (!failed(s)) d->state[d->n_states] = (struct dfa_state){.edge = (uint32_t)d->n_edges};
}

void dfa_of(struct dfa *d, const struct nfa *nfa)
{
    struct subset s = {.nfa = nfa, .dfa = d};
    size_t n = (size_t)nfa->n_states;
    d->n_states = d->n_edges = 0;
    if (failed(&s)) return;
    s.seen = calloc(n, sizeof *s.seen);
    s.pending = malloc(n * sizeof *s.pending);
    s.target = malloc(n * sizeof *s.target);
    s.first = calloc(64, sizeof *s.first);
    s.first_capacity = 64;
    if (s.seen && s.pending && s.target && s.first) {
        expand(&s);
    } else {
        grammar_fail(nfa->build, ERR_NOMEM, "out of memory for a grammar");
    }
    free(s.member);
    free(s.first);
    free(s.slot);
    free(s.seen);
    free(s.pending);
    free(s.target);
    free(s.edge);
}

void dfa_dispose(struct dfa *d)
{
    free(d->state);
    free(d->edge);
}
