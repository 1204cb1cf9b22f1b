/* An input that is written. */
#include "compat.h"
KERNEL(reject, 32, int, BUF(0, const float, x), BUF(1, float, y))
{
    KERNEL_IDS;
#ifdef WRONG
    x[0] = y[0];
#else
    y[0] = x[0];
#endif
}
