/* A pointer without an address space: C++ takes it, the language does not (qualifiers.py). */
#include "compat.h"
#ifdef WRONG
static inline void twice(float *p)
#else
static inline void twice(PRIVATE(float) p)
#endif
{
    *p *= 2;
}
KERNEL(reject, 32, int, BUF(0, float, y))
{
    KERNEL_IDS;
    float own = y[0];
    twice(&own);
    y[0] = own;
}
