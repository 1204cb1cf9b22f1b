/* A word of the language as a name. */
#include "compat.h"
KERNEL(reject, 32, int, BUF(0, float, y))
{
    KERNEL_IDS;
#ifdef WRONG
    int device = ids.thread;
    y[device] = 0;
#else
    int at = ids.thread;
    y[at] = 0;
#endif
}
