/* What steps cost, and how much prefill one may have while others stream, so that the time between two tokens of a
 * stream stays under a bound.
 *
 * The seconds of a step are taken for a sum of four terms: the step itself, each row, each row whose logits come
 * back, and each token that a row looks back at, which is most of it in a long context. Their prices are fitted to
 * what steps take (a Kalman filter: recent steps count most, and what they say nothing about stays as it was). How
 * far steps beside prefill lie beyond what was aimed at, lately, is what is left free under the bound. */
#ifndef HEARTH_PACE_H
#define HEARTH_PACE_H

#define PACE_FACTOR 4   /* the bound, where none is given: so many times one stream on an empty context */
#define PACE_EXCESSES 256

enum { PACE_STEP, PACE_ROW, PACE_OUTPUT, PACE_TOKEN, PACE_TERMS };

/* What a step has, or a part of it. */
struct pace_work {
    double rows;
    double outputs; /* of them, those whose logits come back */
    double tokens;  /* that its rows look back at: of each row those before it */
};

struct pace { /* zero to begin with */
    double limit; /* seconds that a step with streams in it may take; 0: PACE_FACTOR times one stream */
    /* ---- */
    double price[PACE_TERMS];             /* seconds; of a row 0: nothing is known */
    double doubt[PACE_TERMS][PACE_TERMS]; /* their covariance */
    double noise;                         /* how far steps lie from what is expected, as a share of it */
    double excess[PACE_EXCESSES];         /* measured by aimed at, of the newest steps that used their room */
    unsigned n_excesses, n_steps;         /* so far */
    double single;                        /* seconds of one stream on an empty context; soon lower, slowly higher */
};

/* A step with this work took `seconds`; `aim`: what pace_aim gave for it, 0 where it had no streams or no prefill. */
void pace_learn(struct pace *, const struct pace_work *, double aim, double seconds);
/* Seconds of a step; 0: nothing known. */
double pace_step(const struct pace *, const struct pace_work *);
/* Seconds that a step with streams in it may take; 0: any, as nothing is known. */
double pace_limit(const struct pace *);
/* Seconds for a step of these streams and prefill, so that it takes at most `limit`; more than the streams alone. */
double pace_aim(const struct pace *, const struct pace_work *streams, double limit);

#endif
