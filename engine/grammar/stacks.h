/* Places in a pushdown automaton: sets of stacks, whose frames are shared, each one there once. A stack is the
 * number of its top frame. The bottom frame has no parent: what pops it has come to the end. */
#ifndef HEARTH_GRAMMAR_STACKS_H
#define HEARTH_GRAMMAR_STACKS_H

#include "automaton.h"

#define STACKS_MOST 2048 /* in a set; more are an error of the grammar */

struct stack_frame {
    int32_t state;
    int32_t parent; /* -1: none */
};

struct stacks {
    const struct automaton *automaton;
    struct stack_frame *frame; /* [n] */
    int32_t *slot;             /* [mask + 1] frame + 1; 0: empty */
    uint32_t *mark;            /* [capacity] == stamp: in the set being made */
    uint32_t stamp;
    int n, capacity;
    size_t mask;
};

struct stack_set {
    int32_t *frame; /* [n] */
    int n, capacity;
    bool pops;      /* the bottom frame may be popped: what is below it, if anything, may go on */
};

/* Where a pair begins to look for its slot in an open-addressed table. */
static inline size_t pair_hash(int32_t a, int32_t b)
{
    uint64_t x = ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) * 0x9e3779b97f4a7c15u;
    return (size_t)(x ^ x >> 29);
}

void stacks_init(struct stacks *, const struct automaton *);
void stacks_dispose(struct stacks *);
void stacks_clear(struct stacks *); /* no frame is left */
void stack_set_dispose(struct stack_set *);

/* The set of one stack of one frame. */
int stacks_begin(struct stacks *, struct stack_set *out, int32_t state, struct err *) WARN_UNUSED;
/* The set behind a byte; an empty one that does not pop where the byte cannot follow. ERR_LIMIT: too many. */
int stacks_advance(struct stacks *, const struct stack_set *from, unsigned char byte, struct stack_set *out,
                   struct err *) WARN_UNUSED;
/* Forgets the frames that a set does not need, and numbers the others anew. */
int stacks_collect(struct stacks *, struct stack_set *, struct err *) WARN_UNUSED;

#endif
