/* Another type that the language has not (qualifiers.py). */
#include "compat.h"
KERNEL(reject, 32, int, BUF(0, float, y))
{
    KERNEL_IDS;
#ifdef WRONG
    long long sum = 0;
#else
    long sum = 0;
#endif
    y[ids.thread] = (float)sum;
}
