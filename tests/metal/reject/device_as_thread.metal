/* Device memory where the thread's own is wanted. */
#include "compat.h"
static inline void twice(PRIVATE(float) p)
{
    *p *= 2;
}
KERNEL(reject, 32, int, BUF(0, float, y))
{
    KERNEL_IDS;
#ifdef WRONG
    twice(y);
#else
    float own = y[0];
    twice(&own);
    y[0] = own;
#endif
}
