/* Looks after the engine's steps and tells the service manager that all is well. Runs on the loop. */
#ifndef HEARTH_WATCHDOG_H
#define HEARTH_WATCHDOG_H

#include <uv.h>

#include "../engine/engine.h"

struct watchdog {
    uv_timer_t timer;
    const struct engine *engine; /* NULL: none yet */
    double limit;                /* seconds that a step may take; 0: any number */
    bool stalled;
    uint64_t steps;              /* that were over at the last look */
    uint64_t looked;             /* uv_hrtime of it */
    double seen;                 /* seconds for which the present step was seen not to return */
    uint64_t interval;           /* ms between two looks; 0: it does not look */
    bool report;                 /* to the service manager */
};

/* The timer is the caller's to close. */
void watchdog_start(struct watchdog *, uv_loop_t *, double limit);
/* The engine works from now on, or (NULL) is about to be closed. */
void watchdog_engine(struct watchdog *, const struct engine *);
/* Looks now. True: a step has not returned in time. */
bool watchdog_stalled(struct watchdog *);

#endif
