/* Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996), with a clock that does not stand still. */
#include "turns.h"

static int slot(const struct turn *t)
{
    return (int)(t->owner % TURN_OWNERS);
}

void turns_join(struct turns *s, struct turn *t)
{
    int i = slot(t), p = t->priority;
    if (s->alive[i]++ == 0) s->n_owners++;
    t->start = s->end[i] > s->clock ? s->end[i] : s->clock;
    s->end[i] = t->start + t->cost;
    p = p < -TURN_PRIORITIES ? -TURN_PRIORITIES : p > TURN_PRIORITIES ? TURN_PRIORITIES : p;
    t->place = t->start + TURN_LEVEL * p;
}

/* The clock also goes on where new owners come all the time, who all start where it stands. */
void turns_begin(struct turns *s, const struct turn *t)
{
    s->clock += t->cost / s->n_owners;
    if (s->clock < t->start) s->clock = t->start;
}

void turns_leave(struct turns *s, const struct turn *t, bool begun)
{
    int i = slot(t);
    if (!begun) s->end[i] -= t->cost;
    if (--s->alive[i] == 0) s->n_owners--;
}
