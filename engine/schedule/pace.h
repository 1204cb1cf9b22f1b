/* How much prefill a step may have while others stream: learned from how long steps take, so that the time
 * between two tokens of a stream stays under a bound. */
#ifndef HEARTH_PACE_H
#define HEARTH_PACE_H

struct pace {
    double limit;  /* seconds that a step with streams in it may take; 0: PACE_FACTOR times `single` */
    double single; /* the shortest step without prefill so far: one stream on an empty context; 0: none yet */
    double decode; /* seconds of a step without prefill, lately */
    double row;    /* seconds that a row of prefill adds, lately */
};
#define PACE_FACTOR 4

/* A step took `seconds`: one with `prefill` rows besides those of the streams. */
void pace_learn(struct pace *, int prefill, double seconds);
/* Rows of prefill for the next step, 1 … most. */
int pace_rows(const struct pace *, int most);

#endif
