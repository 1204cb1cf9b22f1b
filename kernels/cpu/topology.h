/* Which cores there are to compute on, and being on one of them. */
#ifndef HEARTH_CPU_TOPOLOGY_H
#define HEARTH_CPU_TOPOLOGY_H

/* Physical cores within the affinity mask and the control group's limit; at least 1. */
int topology_threads(void);

/* Called by thread number `thread` (> 0) of a pool: takes a core of its own where the system lets
 * it. Number 0, the caller of the pool, stays where the system puts it. */
void topology_enter(int thread);

#endif
