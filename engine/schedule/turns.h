/* Whose turn it is among those who wait: a share of the work for every owner, earlier or later by priority, and
 * nobody for ever. Each task gets a place on a scale of work on arrival; the lowest place goes first.
 *
 * The places of one owner lie as far apart as its tasks cost. One who had nothing to do starts at the clock,
 * which is where those are that begin now: before most of another's long queue. A level of priority moves a place
 * by a fixed amount of work, and the clock goes on with everybody who begins, so that whoever waits is at some
 * time before all that still come. Knows places only, not the queue itself. */
#ifndef HEARTH_TURNS_H
#define HEARTH_TURNS_H

#include <stdbool.h>
#include <stdint.h>

#define TURN_OWNERS 256     /* owners are told apart by this many remainders; two with the same one share */
#define TURN_PRIORITIES 100 /* -100 … 100: what lies beyond counts as these */
#define TURN_LEVEL 16384.0  /* work that one level of priority is worth, in tokens */

struct turns { /* zero to begin with */
    double clock;
    double end[TURN_OWNERS]; /* where the owner's next task has its place, if that is behind the clock */
    int alive[TURN_OWNERS];  /* tasks, from turns_join to turns_leave */
    int n_owners;            /* with tasks alive */
};

struct turn {
    uint64_t owner;
    int priority; /* lower goes first */
    double cost;  /* about how much work it is, in tokens */
    /* ---- */
    double start; /* the owner's place on the scale */
    double place; /* the same with priority */
};

void turns_join(struct turns *, struct turn *);
void turns_begin(struct turns *, const struct turn *);
/* `begun`: else it goes without having had its turn. */
void turns_leave(struct turns *, const struct turn *, bool begun);

#endif
