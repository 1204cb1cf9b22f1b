/* Sets of stacks by number, and what each byte makes of them: the automaton made deterministic as far as walks
 * of the vocabulary go. */
#ifndef HEARTH_GRAMMAR_PLACES_H
#define HEARTH_GRAMMAR_PLACES_H

#include "stacks.h"

#define PLACE_DEAD 0

struct place {
    uint32_t first, n; /* its stacks */
    bool pops;
};

struct places {
    struct stacks stacks;
    struct place *place; /* [n]; 0 is dead: no stack, pops nothing */
    int32_t *next;       /* [n][classes] by class of byte; -1: not known yet */
    uint64_t *like;      /* [n][AUTOMATON_LEVELS] equal: texts of up to 1 << level bytes do not tell them apart */
    int32_t *member;     /* the stacks of all places */
    uint64_t *frame_like; /* [frames][AUTOMATON_LEVELS] */
    int32_t *slot;
    size_t mask, n_members, member_capacity, frame_capacity;
    int n, capacity, n_frames;
    struct stack_set from, to;
};

int places_init(struct places *, const struct automaton *, struct err *) WARN_UNUSED;
void places_dispose(struct places *);
/* Forgets all places but the dead one. */
int places_clear(struct places *, struct err *) WARN_UNUSED;
size_t places_bytes(const struct places *); /* that are in use, about */

/* The place of one stack of one frame; negative: ERR_NOMEM, ERR_LIMIT. */
int32_t places_begin(struct places *, int32_t state, struct err *) WARN_UNUSED;
/* The place of the stacks of both. */
int32_t places_join(struct places *, int32_t a, int32_t b, struct err *) WARN_UNUSED;
/* What places_next does where it is not known yet. */
int32_t places_find(struct places *, int32_t place, int class, struct err *) WARN_UNUSED;

static inline int32_t places_next(struct places *p, int32_t place, int class, struct err *err)
{
    int32_t next = p->next[(size_t)place * (size_t)p->stacks.automaton->n_classes + (size_t)class];
    return next >= 0 ? next : places_find(p, place, class, err);
}

#endif
