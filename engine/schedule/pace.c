#include "pace.h"

#define LEAST_ROWS 8   /* prefill goes on, however long a step without it takes */
#define FIRST_ROWS 64  /* before anything is known */
#define KNOWN_ROWS 8   /* steps with fewer tell little of what a row costs */
#define SHARE 0.85     /* of the bound is aimed at: steps vary */
#define FRESHNESS 0.25 /* weight of the newest measurement */

static void blend(double *value, double measured)
{
    *value = *value > 0 ? *value + FRESHNESS * (measured - *value) : measured;
}

void pace_learn(struct pace *p, int prefill, double seconds)
{
    if (prefill == 0) {
        if (p->single == 0 || seconds < p->single) p->single = seconds;
        blend(&p->decode, seconds);
    } else if (prefill >= KNOWN_ROWS && seconds > p->decode) {
        blend(&p->row, (seconds - p->decode) / prefill);
    }
}

int pace_rows(const struct pace *p, int most)
{
    double limit = p->limit > 0 ? p->limit : PACE_FACTOR * p->single;
    int least = most < LEAST_ROWS ? most : LEAST_ROWS;
    if (limit == 0 || p->row == 0) return most < FIRST_ROWS ? most : FIRST_ROWS;
    double rows = (SHARE * limit - p->decode) / p->row;
    return rows > most ? most : rows > least ? (int)rows : least;
}
