/* Which states cannot be told apart by texts of up to 1, 2, 4 … 128 bytes: what is known of the tokens that
 * may follow one of them holds for the others, so that of the thousand states of a string of a bounded length
 * few are different. Moore's refinement, where a round looks only at states that lead to one whose class has
 * changed in the round before. */
#include <string.h>
#include <xxhash.h>

#include "automaton_parts.h"

#define WORK_MAX 4000000 /* edges looked at; levels behind it tell all states apart */

struct dirty {
    uint32_t class;
    int32_t state;
    uint64_t signature;
};

struct liken {
    const struct automaton *a;
    uint32_t *first;       /* [n_states + 2] */
    int32_t *from;         /* where edges to a state come from: from first[s] to first[s + 1] */
    uint32_t *class, *count; /* [n_states]; [classes] */
    uint32_t n_classes;
    struct dirty *dirty;   /* [n_states] */
    size_t n_dirty;
    int32_t *changed;      /* [n_states] */
    size_t n_changed;
    uint32_t *stamp;       /* [n_states] == round: is dirty already */
    uint64_t work;
};

static void add_sources(struct liken *l, bool place)
{
    const struct automaton *a = l->a;
    for (int32_t s = 0; s < a->n_states; s++) {
        const struct automaton_state *at = &a->state[s];
        for (uint32_t i = at->edge; i < at[1].edge; i++) {
            if (place) l->from[l->first[a->edge[i].to + 1]++] = s;
            else l->first[a->edge[i].to + 2]++;
        }
        for (uint32_t i = at->call; i < at[1].call; i++) {
            if (place) l->from[l->first[a->call[i].back + 1]++] = s;
            else l->first[a->call[i].back + 2]++;
        }
    }
}

/* What a byte or a call leads to, by classes; neighbouring bytes of one class are one. */
static uint64_t signature(struct liken *l, int32_t state)
{
    const struct automaton *a = l->a;
    const struct automaton_state *s = &a->state[state];
    uint64_t hash = 1;
    for (uint32_t i = s->edge, end; i < s[1].edge; i = end) {
        uint32_t class = l->class[a->edge[i].to];
        end = i + 1;
        while (end < s[1].edge && l->class[a->edge[end].to] == class && a->edge[end].first == a->edge[end - 1].last + 1) {
            end++;
        }
        uint32_t words[3] = {class, a->edge[i].first, a->edge[end - 1].last};
        hash = XXH3_64bits_withSeed(words, sizeof words, hash);
    }
    for (uint32_t i = s->call; i < s[1].call; i++) {
        uint32_t words[2] = {l->class[a->call[i].back], (uint32_t)a->call[i].rule};
        hash = XXH3_64bits_withSeed(words, sizeof words, hash);
    }
    l->work += 1 + s[1].edge - s->edge + s[1].call - s->call;
    return hash;
}

static int compare(const void *a, const void *b)
{
    const struct dirty *x = a, *y = b;
    if (x->class != y->class) return x->class < y->class ? -1 : 1;
    if (x->signature != y->signature) return x->signature < y->signature ? -1 : 1;
    return x->state < y->state ? -1 : x->state > y->state;
}

/* The dirty states of one class: those of one signature become a class of their own, but for the most numerous
 * where all of the class are dirty. */
static void split_class(struct liken *l, size_t begin, size_t end)
{
    uint32_t class = l->dirty[begin].class;
    size_t stays = end, most = 0;
    for (size_t i = begin, next; i < end && end - begin == l->count[class]; i = next) {
        for (next = i; next < end && l->dirty[next].signature == l->dirty[i].signature;) next++;
        if (next - i <= most) continue;
        most = next - i;
        stays = i;
    }
    for (size_t i = begin; i < end; i++) {
        if (i >= stays && i < stays + most) continue;
        bool first = i == begin || l->dirty[i].signature != l->dirty[i - 1].signature;
        if (first) l->count[l->n_classes++] = 0;
        l->count[class]--;
        l->count[l->n_classes - 1]++;
        l->class[l->dirty[i].state] = l->n_classes - 1;
        l->changed[l->n_changed++] = l->dirty[i].state;
    }
}

static void split(struct liken *l)
{
    l->n_changed = 0;
    qsort(l->dirty, l->n_dirty, sizeof *l->dirty, compare);
    for (size_t i = 0, end; i < l->n_dirty; i = end) {
        for (end = i; end < l->n_dirty && l->dirty[end].class == l->dirty[i].class;) end++;
        split_class(l, i, end);
    }
}

static void refine(struct liken *l, uint32_t round)
{
    for (size_t i = 0; i < l->n_dirty; i++) {
        l->dirty[i].class = l->class[l->dirty[i].state];
        l->dirty[i].signature = signature(l, l->dirty[i].state);
    }
    split(l);
    l->n_dirty = 0;
    for (size_t i = 0; i < l->n_changed; i++) {
        int32_t s = l->changed[i];
        for (uint32_t j = l->first[s]; j < l->first[s + 1]; j++) {
            if (l->stamp[l->from[j]] == round) continue;
            l->stamp[l->from[j]] = round;
            l->dirty[l->n_dirty++].state = l->from[j];
        }
        l->work += l->first[s + 1] - l->first[s];
    }
}

static void fill(struct liken *l, uint32_t *like)
{
    const struct automaton *a = l->a;
    size_t n = (size_t)a->n_states;
    l->n_classes = 2;
    for (int32_t s = 0; s < a->n_states; s++) {
        l->class[s] = a->state[s].final;
        l->count[l->class[s]]++;
        l->dirty[l->n_dirty++].state = s;
    }
    uint32_t round = 1;
    for (int level = 0; level < AUTOMATON_LEVELS; level++, like += n) {
        for (; round <= 1u << level && l->n_dirty > 0 && l->work < WORK_MAX; round++) refine(l, round);
        bool known = l->n_dirty == 0 || round > 1u << level;
        for (size_t s = 0; s < n; s++) like[s] = known ? l->class[s] : (uint32_t)s;
    }
}

void automaton_liken(struct automaton *a, struct grammar_build *b)
{
    size_t n = (size_t)a->n_states, edges = a->state[n].edge + a->state[n].call;
    struct liken l = {.a = a};
    a->like = malloc(AUTOMATON_LEVELS * n * sizeof *a->like);
    l.first = calloc(n + 2, sizeof *l.first);
    l.from = malloc((edges + 1) * sizeof *l.from);
    l.class = malloc(n * sizeof *l.class);
    l.count = calloc(n + 2, sizeof *l.count);
    l.dirty = malloc(n * sizeof *l.dirty);
    l.changed = malloc(n * sizeof *l.changed);
    l.stamp = calloc(n, sizeof *l.stamp);
    if (a->like && l.first && l.from && l.class && l.count && l.dirty && l.changed && l.stamp) {
        add_sources(&l, false);
        for (size_t i = 2; i < n + 2; i++) l.first[i] += l.first[i - 1];
        add_sources(&l, true);
        fill(&l, a->like);
    } else {
        grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
    }
    free(l.first);
    free(l.from);
    free(l.class);
    free(l.count);
    free(l.dirty);
    free(l.changed);
    free(l.stamp);
}
