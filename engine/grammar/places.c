/* Places are found by the hash of their stacks' numbers, which are sorted. */
#include "places.h"

#include <string.h>
#include <xxhash.h>

#define MEMBERS_MAX ((size_t)1 << 24)

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory for the places in a grammar");
}

static int compare(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t hash(const int32_t *member, size_t n, bool pops)
{
    return XXH3_64bits_withSeed(member, n * sizeof *member, pops);
}

/* ---- likeness ---- */

/* A stack is like another when their frames are, one by one. */
static bool liken_frames(struct places *p)
{
    const struct automaton *a = p->stacks.automaton;
    if ((size_t)p->stacks.n > p->frame_capacity) {
        size_t capacity = (size_t)p->stacks.capacity;
        uint64_t *grown = realloc(p->frame_like, capacity * AUTOMATON_LEVELS * sizeof *grown);
        if (!grown) return false;
        p->frame_like = grown;
        p->frame_capacity = capacity;
    }
    for (; p->n_frames < p->stacks.n; p->n_frames++) {
        struct stack_frame f = p->stacks.frame[p->n_frames];
        uint64_t *like = p->frame_like + (size_t)p->n_frames * AUTOMATON_LEVELS;
        for (size_t level = 0; level < AUTOMATON_LEVELS; level++) {
            uint64_t words[2] = {a->like[level * (size_t)a->n_states + (size_t)f.state], 0};
            if (f.parent >= 0) words[1] = p->frame_like[(size_t)f.parent * AUTOMATON_LEVELS + level];
            like[level] = XXH3_64bits(words, sizeof words);
        }
    }
    return true;
}

static void liken(struct places *p, int32_t place)
{
    const struct place *at = &p->place[place];
    uint64_t *like = p->like + (size_t)place * AUTOMATON_LEVELS;
    for (size_t level = 0; level < AUTOMATON_LEVELS; level++) {
        like[level] = at->pops;
        for (uint32_t i = at->first; i < at->first + at->n; i++) {
            like[level] += p->frame_like[(size_t)p->member[i] * AUTOMATON_LEVELS + level];
        }
    }
}

/* ---- places ---- */

static bool grow(struct places *p)
{
    size_t capacity = p->capacity ? (size_t)p->capacity * 2 : 64, mask = capacity * 2 - 1;
    size_t classes = (size_t)p->stacks.automaton->n_classes;
    struct place *place = realloc(p->place, capacity * sizeof *place);
    if (place) p->place = place;
    int32_t *next = realloc(p->next, capacity * classes * sizeof *next);
    if (next) p->next = next;
    uint64_t *like = realloc(p->like, capacity * AUTOMATON_LEVELS * sizeof *like);
    if (like) p->like = like;
    int32_t *slot = calloc(mask + 1, sizeof *slot);
    if (!place || !next || !like || !slot) {
        free(slot);
        return false;
    }
    for (int i = 0; i < p->n; i++) {
        size_t at = hash(p->member + place[i].first, place[i].n, place[i].pops) & mask;
        while (slot[at]) at = (at + 1) & mask;
        slot[at] = i + 1;
    }
    free(p->slot);
    p->slot = slot;
    p->mask = mask;
    p->capacity = (int)capacity;
    return true;
}

static int32_t place_of(struct places *p, struct stack_set *set, struct err *err)
{
    size_t n = (size_t)set->n, classes = (size_t)p->stacks.automaton->n_classes;
    if (n > 1) qsort(set->frame, n, sizeof *set->frame, compare);
    if (p->n == p->capacity && !grow(p)) return nomem(err);
    size_t at = hash(set->frame, n, set->pops) & p->mask;
    for (; p->slot[at]; at = (at + 1) & p->mask) {
        const struct place *found = &p->place[p->slot[at] - 1];
        if (found->n != n || found->pops != set->pops) continue;
        if (n == 0 || !memcmp(p->member + found->first, set->frame, n * sizeof *set->frame)) return p->slot[at] - 1;
    }
    if (p->n_members + n > p->member_capacity) {
        size_t capacity = (p->n_members + n) * 2 + 64;
        int32_t *grown = capacity < MEMBERS_MAX ? realloc(p->member, capacity * sizeof *grown) : NULL;
        if (!grown) return nomem(err);
        p->member = grown;
        p->member_capacity = capacity;
    }
    if (!liken_frames(p)) return nomem(err);
    if (n > 0) memcpy(p->member + p->n_members, set->frame, n * sizeof *set->frame);
    p->place[p->n] = (struct place){.first = (uint32_t)p->n_members, .n = (uint32_t)n, .pops = set->pops};
    p->n_members += n;
    /* Where there is no stack, nothing follows: the dead place is number 0. */
    memset(p->next + (size_t)p->n * classes, n == 0 ? 0 : -1, classes * sizeof *p->next);
    liken(p, p->n);
    p->slot[at] = p->n + 1;
    return p->n++;
}

int places_init(struct places *p, const struct automaton *a, struct err *err)
{
    *p = (struct places){.n = 0};
    stacks_init(&p->stacks, a);
    return places_clear(p, err);
}

void places_dispose(struct places *p)
{
    stacks_dispose(&p->stacks);
    stack_set_dispose(&p->from);
    stack_set_dispose(&p->to);
    free(p->place);
    free(p->next);
    free(p->like);
    free(p->member);
    free(p->frame_like);
    free(p->slot);
}

int places_clear(struct places *p, struct err *err)
{
    stacks_clear(&p->stacks);
    p->n = p->n_frames = 0;
    p->n_members = 0;
    if (p->slot) memset(p->slot, 0, (p->mask + 1) * sizeof *p->slot);
    p->to.n = 0;
    p->to.pops = false;
    int32_t dead = place_of(p, &p->to, err);
    return dead < 0 ? dead : 0;
}

size_t places_bytes(const struct places *p)
{
    size_t each = sizeof *p->place + 2 * sizeof *p->slot + AUTOMATON_LEVELS * sizeof *p->like +
                  (size_t)p->stacks.automaton->n_classes * sizeof *p->next;
    return (size_t)p->n * each + p->n_members * sizeof *p->member +
           (size_t)p->stacks.n * (AUTOMATON_LEVELS * sizeof *p->frame_like + 24);
}

int32_t places_begin(struct places *p, int32_t state, struct err *err)
{
    int rc = stacks_begin(&p->stacks, &p->to, state, err);
    return rc ? rc : place_of(p, &p->to, err);
}

int32_t places_find(struct places *p, int32_t place, int class, struct err *err)
{
    const struct automaton *a = p->stacks.automaton;
    const struct place *at = &p->place[place];
    if ((int)at->n > p->from.capacity) {
        int32_t *grown = realloc(p->from.frame, at->n * sizeof *grown);
        if (!grown) return nomem(err);
        p->from.frame = grown;
        p->from.capacity = (int)at->n;
    }
    p->from.n = (int)at->n;
    memcpy(p->from.frame, p->member + at->first, at->n * sizeof *p->from.frame);
    int rc = stacks_advance(&p->stacks, &p->from, a->byte_of[class], &p->to, err);
    if (rc) return rc;
    int32_t next = place_of(p, &p->to, err);
    if (next >= 0) p->next[(size_t)place * (size_t)a->n_classes + (size_t)class] = next;
    return next;
}

int32_t places_join(struct places *p, int32_t a, int32_t b, struct err *err)
{
    size_t n = (size_t)p->place[a].n + p->place[b].n;
    if (a == b || b == PLACE_DEAD) return a;
    if (a == PLACE_DEAD) return b;
    if (n > STACKS_MOST) return err_set(err, ERR_LIMIT, "the grammar has too many readings of the text");
    if ((int)n > p->to.capacity) {
        int32_t *grown = realloc(p->to.frame, n * sizeof *grown);
        if (!grown) return nomem(err);
        p->to.frame = grown;
        p->to.capacity = (int)n;
    }
    p->to.n = 0;
    p->to.pops = p->place[a].pops || p->place[b].pops;
    for (int pass = 0; pass < 2; pass++) {
        const struct place *from = &p->place[pass ? b : a];
        for (uint32_t i = 0; i < from->n; i++) p->to.frame[p->to.n++] = p->member[from->first + i];
    }
    qsort(p->to.frame, n, sizeof *p->to.frame, compare);
    p->to.n = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t frame = p->to.frame[i];
        if (p->to.n == 0 || frame != p->to.frame[p->to.n - 1]) p->to.frame[p->to.n++] = frame;
    }
    return place_of(p, &p->to, err);
}
