/* Walks of the trie and what they leave: entries, one for each run of frames from a top frame down that some mask
 * has needed. An entry has the tokens that its last frame adds to those of the frames above, and the nodes of
 * the trie where that frame may end, from which the next frame below goes on. */
#include "mask.h"

#include <string.h>

#include "places.h"

#define PLACES_MAX ((size_t)4 << 20) /* bytes; begun anew beyond */
#define LIKE_LEVEL 3                 /* states that are like at this level are worth comparing */

struct entry {
    int32_t up, key;  /* the entry of the frames above, -1: none; the state or its class */
    int32_t state;
    uint64_t *bits;   /* [words], or NULL: */
    int32_t *id;      /* [n_ids] */
    int n_ids;
    int32_t *pop;     /* [n_pops] nodes with tokens behind them, ascending */
    int n_pops;
};

struct masks {
    const struct automaton *automaton;
    const struct trie *trie;
    struct places places;
    struct entry *entry;
    int n, capacity;
    int32_t *slot;    /* [mask + 1] entry + 1; 0: empty */
    size_t mask;
    size_t bytes, most;
    int key_level;    /* at which states are alike for every token; -1: none */
    size_t words;
    uint64_t *bits;   /* [words] of the walk under way */
    int32_t *pop;     /* [n_nodes] likewise; NULL: there is none */
    int n_pops;
};

/* A walk under way: the places along the path from the node where it began, by depth. */
struct walk {
    int32_t state, begin; /* where nodes begin it, and the place of that */
    int32_t at[TRIE_DEPTH_MAX + 2];
    unsigned char path[TRIE_DEPTH_MAX + 2]; /* classes of the bytes */
    bool joins[TRIE_DEPTH_MAX + 2];         /* it began here too */
    int base;
};

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory for the masks of a grammar");
}

int masks_create(struct masks **out, const struct automaton *a, const struct trie *t, size_t most, struct err *err)
{
    *out = NULL;
    struct masks *m = calloc(1, sizeof *m);
    if (!m) return nomem(err);
    m->automaton = a;
    m->trie = t;
    m->most = most;
    m->words = ((size_t)t->vocab + 63) / 64;
    m->bits = malloc(m->words * sizeof *m->bits);
    m->key_level = -1;
    for (int level = AUTOMATON_LEVELS - 1; level >= 0 && t->height[0] <= 1 << level; level--) m->key_level = level;
    int rc = m->bits ? places_init(&m->places, a, err) : nomem(err);
    if (rc) {
        masks_destroy(m);
        return rc;
    }
    *out = m;
    return 0;
}

static void clear(struct masks *m)
{
    for (int i = 0; i < m->n; i++) {
        free(m->entry[i].bits);
        free(m->entry[i].id);
        free(m->entry[i].pop);
    }
    m->n = 0;
    m->bytes = 0;
    if (m->slot) memset(m->slot, 0, (m->mask + 1) * sizeof *m->slot);
}

void masks_destroy(struct masks *m)
{
    if (!m) return;
    clear(m);
    places_dispose(&m->places);
    free(m->entry);
    free(m->slot);
    free(m->bits);
    free(m);
}

size_t masks_bytes(const struct masks *m)
{
    return sizeof *m + m->bytes + m->words * sizeof *m->bits +
           (size_t)m->capacity * (sizeof *m->entry + 2 * sizeof *m->slot) + places_bytes(&m->places);
}

/* ---- walks ---- */

static int begin_walk(struct masks *m, struct walk *w, int32_t state, struct err *err)
{
    w->state = state;
    w->begin = places_begin(&m->places, state, err);
    return w->begin < 0 ? w->begin : 0;
}

/* The walk begins at a node. */
static void begin_at(struct masks *m, struct walk *w, int node)
{
    w->base = m->trie->depth[node];
    w->at[w->base] = w->begin;
    if (m->places.place[w->begin].pops) m->pop[m->n_pops++] = node;
}

static int32_t next_place(struct masks *m, struct walk *w, int depth, struct err *err)
{
    int32_t next = places_next(&m->places, w->at[depth - 1], w->path[depth], err);
    return next >= 0 && w->joins[depth] ? places_join(&m->places, next, w->begin, err) : next;
}

/* The places of a path are found again after all were forgotten. */
static int again(struct masks *m, struct walk *w, int depth, struct err *err)
{
    int rc = begin_walk(m, w, w->state, err);
    if (!rc) w->at[w->base] = w->begin;
    for (int d = w->base + 1; d <= depth && !rc; d++) {
        w->at[d] = next_place(m, w, d, err);
        rc = w->at[d] < 0 ? w->at[d] : 0;
    }
    return rc;
}

/* Begins the places anew where there are too many: those of two walks (`other` may be NULL) down to `depth`. */
static int bound(struct masks *m, struct walk *w, struct walk *other, int depth, struct err *err)
{
    if (places_bytes(&m->places) <= PLACES_MAX || m->places.n < 64) return 0;
    int rc = places_clear(&m->places, err);
    if (!rc) rc = again(m, w, depth, err);
    return !rc && other ? again(m, other, depth, err) : rc;
}

static inline void set_tokens(struct masks *m, int32_t from, int32_t to)
{
    for (int32_t i = from; i < to; i++) {
        uint32_t id = (uint32_t)m->trie->id[i];
        m->bits[id / 64] |= (uint64_t)1 << id % 64;
    }
}

static inline void clear_tokens(struct masks *m, int32_t from, int32_t to)
{
    for (int32_t i = from; i < to; i++) {
        uint32_t id = (uint32_t)m->trie->id[i];
        m->bits[id / 64] &= ~((uint64_t)1 << id % 64);
    }
}

/* Decides the nodes below those of from[n], ascending, at each of which the walk begins. */
static int walk_below(struct masks *m, struct walk *w, const int32_t *from, int n, struct err *err)
{
    const struct trie *t = m->trie;
    const unsigned char *class = m->automaton->byte_class;
    for (int j = 0; j < n;) {
        int top = from[j++], end = t->end[top];
        begin_at(m, w, top);
        for (int i = top + 1; i < end;) {
            int depth = t->depth[i], before = m->places.n;
            w->path[depth] = class[t->byte[i]];
            w->joins[depth] = j < n && from[j] == i;
            int32_t next = next_place(m, w, depth, err);
            if (next < 0) return next;
            j += w->joins[depth];
            w->at[depth] = next;
            if (next != PLACE_DEAD) set_tokens(m, t->token[i], t->token[i + 1]);
            if (m->places.place[next].pops && t->end[i] > i + 1) m->pop[m->n_pops++] = i;
            if (m->places.n > before) {
                int rc = bound(m, w, NULL, depth, err);
                if (rc) return rc;
            }
            if (m->places.place[w->at[depth]].n > 0) {
                i++;
            } else if (j < n && from[j] < t->end[i]) { /* nothing goes on, but something begins further below */
                i = from[j];
                for (int d = depth + 1; d < t->depth[i]; d++) {
                    w->at[d] = PLACE_DEAD;
                    w->path[d] = 0;
                    w->joins[d] = false;
                }
            } else {
                i = t->end[i];
            }
        }
    }
    return 0;
}

static inline uint64_t likeness(const struct masks *m, int32_t place, int level)
{
    return m->places.like[(size_t)place * AUTOMATON_LEVELS + (size_t)level];
}

/* Copies the nodes of `from` below `end`, from *at on; those below `begin` are passed over. */
static void copy_pops(struct masks *m, const struct entry *from, int *at, int begin, int end)
{
    while (*at < from->n_pops && from->pop[*at] < begin) ++*at;
    while (*at < from->n_pops && from->pop[*at] < end) m->pop[m->n_pops++] = from->pop[(*at)++];
}

/* Decides all nodes beside a walk whose outcome is known: where the two places are alike as far as the tokens
 * below are long, nothing needs to be done. m->bits are those of `known` at first. */
static int walk_beside(struct masks *m, struct walk *w, struct walk *k, const struct entry *known, struct err *err)
{
    static const unsigned char level_of[8] = {0, 0, 1, 2, 2, 3, 3, 3};
    const struct trie *t = m->trie;
    const unsigned char *class = m->automaton->byte_class;
    int copied = 0;
    for (int i = 1; i < t->n_nodes;) {
        int depth = t->depth[i], before = m->places.n;
        k->path[depth] = w->path[depth] = class[t->byte[i]];
        k->joins[depth] = w->joins[depth] = false;
        int32_t next = next_place(m, w, depth, err);
        int32_t other = next < 0 ? next : next_place(m, k, depth, err);
        if (other < 0) return other;
        int height = t->height[i], level = height < 8 ? level_of[height] : 4;
        while (level < AUTOMATON_LEVELS && 1 << level < height) level++;
        if (next == other || (level < AUTOMATON_LEVELS && likeness(m, next, level) == likeness(m, other, level))) {
            copy_pops(m, known, &copied, i, t->end[i]);
            i = t->end[i];
            continue;
        }
        if (next == PLACE_DEAD) {
            clear_tokens(m, t->token[i], t->token[t->end[i]]);
            i = t->end[i];
            continue;
        }
        w->at[depth] = next;
        k->at[depth] = other;
        set_tokens(m, t->token[i], t->token[i + 1]);
        if (m->places.place[next].pops && t->end[i] > i + 1) m->pop[m->n_pops++] = i;
        if (m->places.n > before) {
            int rc = bound(m, w, k, depth, err);
            if (rc) return rc;
        }
        if (m->places.place[w->at[depth]].n > 0) {
            i++;
        } else {
            clear_tokens(m, t->token[i + 1], t->token[t->end[i]]);
            i = t->end[i];
        }
    }
    return 0;
}

/* ---- entries ---- */

static uint32_t like(const struct masks *m, int32_t state, int level)
{
    return m->automaton->like[(size_t)level * (size_t)m->automaton->n_states + (size_t)state];
}

/* Of the entries of one frame the one whose state is most like; NULL where none is worth it. */
static const struct entry *nearest(const struct masks *m, int32_t state)
{
    const struct entry *best = NULL;
    int best_level = LIKE_LEVEL - 1;
    for (int i = 0; i < m->n; i++) {
        const struct entry *e = &m->entry[i];
        if (e->up >= 0 || !e->bits) continue;
        int level = best_level;
        while (level + 1 < AUTOMATON_LEVELS && like(m, e->state, level + 1) == like(m, state, level + 1)) level++;
        if (level == best_level) continue;
        best = e;
        best_level = level;
    }
    return best;
}

/* What the state decides on top of a stack. */
static int walk_top(struct masks *m, int32_t state, struct err *err)
{
    struct walk w, k;
    static const int32_t root = 0;
    const struct entry *known = nearest(m, state);
    int rc = begin_walk(m, &w, state, err);
    if (rc) return rc;
    if (!known) return walk_below(m, &w, &root, 1, err);
    rc = begin_walk(m, &k, known->state, err);
    if (rc) return rc;
    memcpy(m->bits, known->bits, m->words * sizeof *m->bits);
    begin_at(m, &k, root);
    m->n_pops = 0;
    begin_at(m, &w, root);
    return walk_beside(m, &w, &k, known, err);
}

/* What it adds where the frame above ends. */
static int walk_next(struct masks *m, const struct entry *up, int32_t state, struct err *err)
{
    struct walk w;
    int rc = begin_walk(m, &w, state, err);
    return rc ? rc : walk_below(m, &w, up->pop, up->n_pops, err);
}

/* Keeps the outcome of a walk. */
static int fill(struct masks *m, struct entry *e, struct err *err)
{
    size_t count = 0;
    for (size_t i = 0; i < m->words; i++) count += (size_t)__builtin_popcountll(m->bits[i]);
    if (m->n_pops > 0) {
        e->pop = malloc((size_t)m->n_pops * sizeof *e->pop);
        if (!e->pop) return nomem(err);
        memcpy(e->pop, m->pop, (size_t)m->n_pops * sizeof *e->pop);
        e->n_pops = m->n_pops;
    }
    m->bytes += (size_t)m->n_pops * sizeof *e->pop;
    if (count > m->words * 2) { /* the bits take less than the ids */
        e->bits = malloc(m->words * sizeof *e->bits);
        if (!e->bits) return nomem(err);
        memcpy(e->bits, m->bits, m->words * sizeof *e->bits);
        m->bytes += m->words * sizeof *e->bits;
        return 0;
    }
    e->id = malloc((count + 1) * sizeof *e->id);
    if (!e->id) return nomem(err);
    for (size_t i = 0; i < m->words; i++) {
        for (uint64_t word = m->bits[i]; word; word &= word - 1) {
            e->id[e->n_ids++] = (int32_t)(i * 64) + __builtin_ctzll(word);
        }
    }
    m->bytes += (count + 1) * sizeof *e->id;
    return 0;
}

static bool grow(struct masks *m)
{
    int capacity = m->capacity ? m->capacity * 2 : 64;
    size_t mask = (size_t)capacity * 2 - 1;
    struct entry *entry = realloc(m->entry, (size_t)capacity * sizeof *entry);
    if (entry) m->entry = entry;
    int32_t *slot = calloc(mask + 1, sizeof *slot);
    if (!entry || !slot) {
        free(slot);
        return false;
    }
    for (int i = 0; i < m->n; i++) {
        size_t at = pair_hash(entry[i].up, entry[i].key) & mask;
        while (slot[at]) at = (at + 1) & mask;
        slot[at] = i + 1;
    }
    free(m->slot);
    m->slot = slot;
    m->mask = mask;
    m->capacity = capacity;
    return true;
}

/* The entry of a state below those of `up`, made where it is not there yet. */
static int32_t entry_of(struct masks *m, int32_t up, int32_t state, struct err *err)
{
    int32_t key = m->key_level < 0 ? state : (int32_t)like(m, state, m->key_level);
    if (m->n == m->capacity && !grow(m)) return nomem(err);
    size_t at = pair_hash(up, key) & m->mask;
    for (; m->slot[at]; at = (at + 1) & m->mask) {
        const struct entry *e = &m->entry[m->slot[at] - 1];
        if (e->up == up && e->key == key) return m->slot[at] - 1;
    }
    struct entry made = {.up = up, .key = key, .state = state};
    m->pop = malloc((size_t)m->trie->n_nodes * sizeof *m->pop);
    if (!m->pop) return nomem(err);
    m->n_pops = 0;
    memset(m->bits, 0, m->words * sizeof *m->bits);
    int rc = up < 0 ? walk_top(m, state, err) : walk_next(m, &m->entry[up], state, err);
    if (!rc) rc = fill(m, &made, err);
    free(m->pop);
    m->pop = NULL;
    if (rc) {
        free(made.pop);
        return rc;
    }
    m->bytes += sizeof made;
    m->entry[m->n] = made;
    m->slot[at] = m->n + 1;
    return m->n++;
}

static void add(const struct masks *m, const struct entry *e, uint64_t *bits)
{
    for (size_t i = 0; e->bits && i < m->words; i++) bits[i] |= e->bits[i];
    for (int i = 0; i < e->n_ids; i++) bits[(uint32_t)e->id[i] / 64] |= (uint64_t)1 << e->id[i] % 64;
}

int masks_of(struct masks *m, const struct stacks *s, const struct stack_set *set, uint64_t *bits, struct err *err)
{
    if (m->bytes > m->most) clear(m);
    memset(bits, 0, m->words * sizeof *bits);
    for (int i = 0; i < set->n; i++) {
        int32_t entry = -1;
        for (int32_t at = set->frame[i]; at >= 0; at = s->frame[at].parent) {
            entry = entry_of(m, entry, s->frame[at].state, err);
            if (entry < 0) return entry;
            add(m, &m->entry[entry], bits);
            if (m->entry[entry].n_pops == 0) break;
        }
    }
    return 0;
}
