#include "pace.h"

#include <math.h>

#define LEAST_ROWS 8   /* prefill goes on, however long a step without it takes */
#define FIRST_ROWS 64  /* before anything is known */
#define KNOWN_ROWS 8   /* steps with fewer tell little of what a row costs */
#define FRESHNESS 0.25 /* weight of the newest measurement */
#define SPREADS 1.5    /* what is aimed at lies so many of them under the bound: few steps go beyond */
#define NEAREST 0.95   /* of the bound */
#define FARTHEST 0.8
#define GROWTH 1.25    /* what makes one stream slower than its best by more is a longer context */

static void blend(double *value, double measured)
{
    *value = *value > 0 ? *value + FRESHNESS * (measured - *value) : measured;
}

/* Seconds of a step with these streams alone. */
static double without_prefill(const struct pace *p, int streams)
{
    double seconds = p->decode + (streams - p->streams) * p->row;
    return seconds > p->single ? seconds : p->single;
}

static void learn_row(struct pace *p, int streams, int prefill, double seconds)
{
    double rest = seconds - without_prefill(p, streams);
    if (p->row > 0 && streams > 0) {
        double expected = without_prefill(p, streams) + prefill * p->row;
        blend(&p->spread, fabs(seconds / expected - 1));
    }
    if (rest > 0) blend(&p->row, rest / prefill);
}

void pace_learn(struct pace *p, int streams, int prefill, double seconds)
{
    if (prefill >= KNOWN_ROWS) {
        learn_row(p, streams, prefill, seconds);
    } else if (prefill == 0) {
        if (streams != p->streams && p->decode > 0) p->decode = without_prefill(p, streams);
        p->streams = streams;
        blend(&p->decode, seconds);
        if (p->least == 0 || p->decode < p->least) p->least = p->decode;
        if (streams == 1 || p->single == 0) p->single = p->decode;
        p->single = fmin(p->single, GROWTH * p->least);
    }
}

int pace_rows(const struct pace *p, int streams, int most)
{
    double limit = p->limit > 0 ? p->limit : PACE_FACTOR * p->single;
    int least = most < LEAST_ROWS ? most : LEAST_ROWS;
    if (limit == 0 || p->row == 0) return most < FIRST_ROWS ? most : FIRST_ROWS;
    double share = fmin(fmax(1 - SPREADS * p->spread, FARTHEST), NEAREST);
    double rows = (share * limit - without_prefill(p, streams)) / p->row;
    return rows > most ? most : rows > least ? (int)rows : least;
}
