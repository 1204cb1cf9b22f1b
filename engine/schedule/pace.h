/* How much prefill a step may have while others stream: learned from how long steps take, so that the time
 * between two tokens of a stream stays under a bound. A stream more or less is taken for a row more or less. */
#ifndef HEARTH_PACE_H
#define HEARTH_PACE_H

struct pace {
    double limit;  /* seconds that a step with streams in it may take; 0: PACE_FACTOR times `single` */
    double least;  /* that `decode` was so far; 0: none yet */
    double single; /* one stream on an empty context */
    double decode; /* seconds of a step of so many streams without prefill, lately */
    int streams;
    double row;    /* seconds that a row of prefill adds, lately */
    double spread; /* how far steps lie from what they should take, as a share of it, lately */
};
#define PACE_FACTOR 4

/* A step took `seconds`: one with `prefill` rows besides those of the streams. */
void pace_learn(struct pace *, int streams, int prefill, double seconds);
/* Rows of prefill for the next step, 1 … most. */
int pace_rows(const struct pace *, int streams, int most);

#endif
