/* Shared memory where device memory is wanted; casts keep the address space too. */
#include "compat.h"
KERNEL(reject, 32, int, BUF(0, float, y))
{
    KERNEL_IDS;
    SHARED(float, part, 32);
    part[ids.thread] = y[ids.thread];
    group_barrier();
#ifdef WRONG
    GLOBAL(const int) p = GLOBAL_CAST(const int, &part[0]);
#else
    SHARED_PTR(const int) p = SHARED_CAST(const int, &part[0]);
#endif
    y[0] = (float)p[1];
}
