#include "pace.h"

#include <math.h>
#include <stdbool.h>

#define TOGETHER 0.03 /* share by which all prices may move from one step to the next: the machine is busy or not */
#define APART 0.001   /* and each of them on its own: their ratios are the model's, and stay */
#define SURPRISE 3.0  /* standard deviations beyond which a step counts as if it lay there: outliers */
#define CALM 0.02     /* least noise, and */
#define ROUGH 0.3     /* most */
#define NOISE 0.1     /* before it is known */
#define FRESHNESS 0.05
#define USED 0.75     /* of what is aimed at: steps that take less had too little to do */
#define FARTHEST 1.25 /* times what is aimed at makes the bound, at most; */
#define DISTANCE 1.08 /* at least, until enough steps are known, */
#define NEAREST 1.03  /* and then */
#define FIRST 32      /* steps after which the machine is warm; then the chosen bound follows */
#define EASED 0.05    /* soon where it becomes faster, */
#define SLOWED 0.0005 /* and after minutes where it becomes slower: not for a moment's sake */
#define LEAST 0.5     /* prefill goes on, however long the streams take: by this share of that */

/* What prices are like before anything is known, in rows. */
static const double usual[PACE_TERMS] = {4, 1, 0.25, 1.0 / 4096};

static const struct pace_work one = {.rows = 1, .outputs = 1};

static void terms(const struct pace_work *w, double x[PACE_TERMS])
{
    x[PACE_STEP] = 1;
    x[PACE_ROW] = w->rows;
    x[PACE_OUTPUT] = w->outputs;
    x[PACE_TOKEN] = w->tokens;
}

static double sum(const double *a, const double *b)
{
    double s = 0;
    for (int i = 0; i < PACE_TERMS; i++) s += a[i] * b[i];
    return s;
}

double pace_step(const struct pace *p, const struct pace_work *w)
{
    double x[PACE_TERMS];
    terms(w, x);
    return sum(p->price, x);
}

/* ---- prices ---- */

static void begin(struct pace *p, const double x[PACE_TERMS], double seconds)
{
    double unit = seconds / sum(usual, x);
    for (int i = 0; i < PACE_TERMS; i++) {
        p->price[i] = usual[i] * unit;
        p->doubt[i][i] = p->price[i] * p->price[i];
    }
    p->noise = NOISE;
    p->single = pace_step(p, &one);
}

/* Time goes by: the prices may have changed. No doubt exceeds the price itself, so that terms which steps say
 * nothing about for long keep their prices. */
static void drift(struct pace *p)
{
    for (int i = 0; i < PACE_TERMS; i++) {
        double size = fmax(p->price[i], 0.1 * usual[i] * p->price[PACE_ROW]);
        for (int j = 0; j < PACE_TERMS; j++) {
            p->doubt[i][j] += TOGETHER * TOGETHER * p->price[i] * p->price[j];
        }
        p->doubt[i][i] += APART * APART * size * size;
        if (p->doubt[i][i] <= size * size) continue;
        double less = size / sqrt(p->doubt[i][i]);
        for (int j = 0; j < PACE_TERMS; j++) {
            p->doubt[i][j] *= less;
            p->doubt[j][i] *= less;
        }
    }
}

static void correct(struct pace *p, const double x[PACE_TERMS], double seconds)
{
    double expected = sum(p->price, x), along[PACE_TERMS];
    for (int i = 0; i < PACE_TERMS; i++) along[i] = sum(p->doubt[i], x);
    double spread = p->noise * expected, variance = sum(along, x) + spread * spread;
    double most = SURPRISE * sqrt(variance), error = fmax(fmin(seconds - expected, most), -most);
    for (int i = 0; i < PACE_TERMS; i++) {
        p->price[i] = fmax(p->price[i] + along[i] / variance * error, 0);
        for (int j = 0; j < PACE_TERMS; j++) p->doubt[i][j] -= along[i] * along[j] / variance;
    }
    if (p->price[PACE_ROW] == 0) p->price[PACE_ROW] = 1e-3 * seconds / x[PACE_ROW];
    p->noise += FRESHNESS * (fmin(fabs(seconds / expected - 1), ROUGH) - p->noise);
    p->noise = fmax(p->noise, CALM);
}

void pace_learn(struct pace *p, const struct pace_work *w, double aim, double seconds)
{
    double x[PACE_TERMS];
    terms(w, x);
    if (w->rows < 1 || !(seconds > 0)) return;
    if (p->price[PACE_ROW] == 0) {
        begin(p, x, seconds);
    } else {
        bool used = aim > 0 && sum(p->price, x) > USED * aim;
        if (used) p->excess[p->n_excesses++ % PACE_EXCESSES] = seconds / aim;
        drift(p);
        correct(p, x, seconds);
    }
    double single = pace_step(p, &one), share = single < p->single ? EASED : SLOWED;
    p->single += (p->n_steps++ < FIRST ? 1 : share) * (single - p->single);
}

/* ---- the bound ---- */

double pace_limit(const struct pace *p)
{
    return p->limit > 0 ? p->limit : PACE_FACTOR * p->single;
}

/* What but one of the newest steps did not exceed: one of a hundred may lie beyond, and a single one that was
 * held up by chance is no reason to go slowly. */
static double distance(const struct pace *p)
{
    double most = 0, second = 0;
    for (unsigned i = 0; i < p->n_excesses && i < PACE_EXCESSES; i++) {
        second = fmax(second, fmin(most, p->excess[i]));
        most = fmax(most, p->excess[i]);
    }
    return fmin(fmax(second, p->n_excesses < PACE_EXCESSES ? DISTANCE : NEAREST), FARTHEST);
}

double pace_aim(const struct pace *p, const struct pace_work *streams, double limit)
{
    return fmax(limit / distance(p), (1 + LEAST) * pace_step(p, streams));
}
