/* An array parameter is a pointer without an address space (qualifiers.py). */
#include "compat.h"
#ifdef WRONG
static inline float second(const float p[2])
#else
static inline float second(PRIVATE(const float) p)
#endif
{
    return p[1];
}
KERNEL(reject, 32, int, BUF(0, float, y))
{
    KERNEL_IDS;
    float own[2] = {0, y[0]};
    y[0] = second(own);
}
