/* Fibers: threads of execution with stacks of their own that one system thread runs in turn. */
#ifndef HEARTH_EMULATOR_FIBER_H
#define HEARTH_EMULATOR_FIBER_H

#include <stddef.h>

struct fiber {
    void *stack_pointer; /* while it does not run */
    char *stack;         /* lowest usable byte; NULL: the system thread's own */
    size_t bytes;
    const void *bottom;  /* of the system thread's own stack, as the address sanitizer tells it */
    void *sanitizer;     /* its state for the address or thread sanitizer */
    void *context;       /* where there is no switch in assembly */
};

/* `n` stacks with a guard page below each. 0 or -1. */
int fiber_stacks_create(struct fiber *, int n, size_t bytes);
void fiber_stacks_free(struct fiber *, int n);

/* Makes `entry` what runs when the fiber is next switched to; it never returns. */
void fiber_prepare(struct fiber *, void (*entry)(void));

/* Leaves `from` and goes on in `to`. `ends`: nobody comes back to where `from` is now. */
void fiber_switch(struct fiber *from, struct fiber *to, int ends);

/* The first call in a new fiber; `from` is whoever switched to it. */
void fiber_entered(struct fiber *self);

/* Forgets the frames of a fiber that was left in the middle of something. */
void fiber_abandon(struct fiber *);

#endif
