/* A constant at file scope outside the constant address space (qualifiers.py). */
#include "compat.h"
#ifdef WRONG
static const int weights[2] = {1, 2};
#else
TABLE(int, weights, 2) = {1, 2};
#endif
KERNEL(reject, 32, int, BUF(0, float, y))
{
    KERNEL_IDS;
    y[ids.thread] = (float)weights[ids.thread % 2];
}
