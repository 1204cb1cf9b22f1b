/* 16-bit memory read as 32-bit floats. */
#include "compat.h"
static inline float first(GLOBAL(const float) p)
{
    return load_once(p);
}
KERNEL(reject, 32, int, BUF(0, const half_t, x), BUF(1, const float, z), BUF(2, float, y))
{
    KERNEL_IDS;
#ifdef WRONG
    y[0] = first(x);
#else
    y[0] = first(z) + half_to_float(x[0]);
#endif
}
