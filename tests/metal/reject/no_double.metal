/* A type that the language has not. */
#include "compat.h"
KERNEL(reject, 32, int, BUF(0, float, y))
{
    KERNEL_IDS;
#ifdef WRONG
    double sum = 0;
#else
    float sum = 0;
#endif
    y[ids.thread] = sum;
}
