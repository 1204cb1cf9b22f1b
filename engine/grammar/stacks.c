/* Frames are found by hash; a step of a byte goes along edges, down into calls and up out of what may end. */
#include "stacks.h"

#include <string.h>

#define FRAMES_MAX (1 << 24)

void stacks_init(struct stacks *s, const struct automaton *a)
{
    *s = (struct stacks){.automaton = a};
}

void stacks_dispose(struct stacks *s)
{
    free(s->frame);
    free(s->slot);
    free(s->mark);
}

void stacks_clear(struct stacks *s)
{
    s->n = 0;
    if (s->slot) memset(s->slot, 0, (s->mask + 1) * sizeof *s->slot);
}

void stack_set_dispose(struct stack_set *set)
{
    free(set->frame);
}

/* ---- frames ---- */

static bool grow(struct stacks *s)
{
    int capacity = s->capacity ? s->capacity * 2 : 64;
    size_t mask = (size_t)capacity * 2 - 1;
    if (capacity > FRAMES_MAX) return false;
    struct stack_frame *frame = realloc(s->frame, (size_t)capacity * sizeof *frame);
    if (frame) s->frame = frame;
    uint32_t *mark = realloc(s->mark, (size_t)capacity * sizeof *mark);
    if (mark) s->mark = mark;
    int32_t *slot = calloc(mask + 1, sizeof *slot);
    if (!frame || !mark || !slot) {
        free(slot);
        return false;
    }
    memset(mark + s->capacity, 0, (size_t)(capacity - s->capacity) * sizeof *mark);
    for (int i = 0; i < s->n; i++) {
        size_t at = pair_hash(frame[i].state, frame[i].parent) & mask;
        while (slot[at]) at = (at + 1) & mask;
        slot[at] = i + 1;
    }
    free(s->slot);
    s->slot = slot;
    s->mask = mask;
    s->capacity = capacity;
    return true;
}

/* -1: no memory. */
static int32_t frame_of(struct stacks *s, int32_t state, int32_t parent)
{
    if (s->n == s->capacity && !grow(s)) return -1;
    size_t at = pair_hash(state, parent) & s->mask;
    for (; s->slot[at]; at = (at + 1) & s->mask) {
        const struct stack_frame *f = &s->frame[s->slot[at] - 1];
        if (f->state == state && f->parent == parent) return s->slot[at] - 1;
    }
    s->frame[s->n] = (struct stack_frame){state, parent};
    s->mark[s->n] = 0;
    s->slot[at] = s->n + 1;
    return s->n++;
}

/* ---- sets ---- */

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory for the places in a grammar");
}

static bool ends(const struct stacks *s, int32_t state)
{
    return s->automaton->state[state].final && !automaton_goes_on(s->automaton, state);
}

/* Puts a stack in: without the frames on top that can only be popped, and noting what may be popped besides. */
static int put(struct stacks *s, struct stack_set *set, int32_t state, int32_t parent, struct err *err)
{
    while (ends(s, state) && parent >= 0) {
        state = s->frame[parent].state;
        parent = s->frame[parent].parent;
    }
    bool final = s->automaton->state[state].final;
    for (int32_t up = parent; final && up >= 0; up = s->frame[up].parent) {
        final = s->automaton->state[s->frame[up].state].final;
    }
    set->pops |= final;
    if (!automaton_goes_on(s->automaton, state)) return 0;
    int32_t frame = frame_of(s, state, parent);
    if (frame < 0) return nomem(err);
    if (s->mark[frame] == s->stamp) return 0;
    s->mark[frame] = s->stamp;
    if (set->n == set->capacity) {
        if (set->n >= STACKS_MOST) return err_set(err, ERR_LIMIT, "the grammar has too many readings of the text");
        int capacity = set->capacity ? set->capacity * 2 : 8;
        int32_t *grown = realloc(set->frame, (size_t)capacity * sizeof *grown);
        if (!grown) return nomem(err);
        set->frame = grown;
        set->capacity = capacity;
    }
    set->frame[set->n++] = frame;
    return 0;
}

static void begin_set(struct stacks *s, struct stack_set *set)
{
    set->n = 0;
    set->pops = false;
    if (++s->stamp == 0) {
        memset(s->mark, 0, (size_t)s->capacity * sizeof *s->mark);
        s->stamp = 1;
    }
}

int stacks_begin(struct stacks *s, struct stack_set *out, int32_t state, struct err *err)
{
    begin_set(s, out);
    return put(s, out, state, -1, err);
}

/* From a state with `parent` below it: along its edge, and into what it calls. As deep as rules begin with
 * other rules, which is bounded. */
static int follow(struct stacks *s, int32_t state, int32_t parent, unsigned char byte, struct stack_set *out,
                  struct err *err)
{
    const struct automaton *a = s->automaton;
    int32_t next = automaton_next(a, state, byte);
    int rc = next >= 0 ? put(s, out, next, parent, err) : 0;
    for (uint32_t i = a->state[state].call; i < a->state[state + 1].call && !rc; i++) {
        const struct automaton_call *c = &a->call[i];
        if (!automaton_starts(a, c->rule, byte)) continue;
        bool returns = !ends(s, c->back); /* else whoever waits for this rule waits for the called one */
        int32_t below = returns ? frame_of(s, c->back, parent) : parent;
        rc = returns && below < 0 ? nomem(err) : follow(s, a->start[c->rule], below, byte, out, err);
    }
    return rc;
}

int stacks_advance(struct stacks *s, const struct stack_set *from, unsigned char byte, struct stack_set *out,
                   struct err *err)
{
    int rc = 0;
    begin_set(s, out);
    for (int i = 0; i < from->n && !rc; i++) {
        for (int32_t at = from->frame[i]; at >= 0 && !rc; at = s->frame[at].parent) {
            int32_t state = s->frame[at].state, parent = s->frame[at].parent;
            rc = follow(s, state, parent, byte, out, err);
            if (!s->automaton->state[state].final) break;
        }
    }
    return rc;
}

int stacks_collect(struct stacks *s, struct stack_set *set, struct err *err)
{
    struct stacks kept;
    int32_t *number = malloc(((size_t)s->n + 1) * sizeof *number);
    if (!number) return nomem(err);
    stacks_init(&kept, s->automaton);
    memset(number, -1, ((size_t)s->n + 1) * sizeof *number);
    for (int i = 0; i < set->n; i++) {
        for (int32_t at = set->frame[i]; at >= 0 && number[at] == -1; at = s->frame[at].parent) number[at] = -2;
    }
    for (int i = 0; i < s->n; i++) { /* a parent is older than its frames */
        if (number[i] == -1) continue;
        int32_t parent = s->frame[i].parent;
        number[i] = frame_of(&kept, s->frame[i].state, parent < 0 ? -1 : number[parent]);
        if (number[i] >= 0) continue;
        free(number);
        stacks_dispose(&kept);
        return nomem(err);
    }
    for (int i = 0; i < set->n; i++) set->frame[i] = number[set->frame[i]];
    free(number);
    stacks_dispose(s);
    *s = kept;
    return 0;
}
