/* Which fault is planted: read before anything runs. */
#include "../faults.h"

#ifdef HEARTH_FAULTS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum fault hearth_fault;

__attribute__((constructor)) static void choose(void)
{
    static const char *const names[] = {
        [FAULT_none] = "",
#define FAULT_LINE(name, text) [FAULT_##name] = #name,
#include "../gpu/faults.def"
#undef FAULT_LINE
    };
    const char *wanted = getenv("HEARTH_FAULT");
    for (size_t i = 0; wanted && i < sizeof names / sizeof *names; i++)
        if (!strcmp(wanted, names[i])) {
            hearth_fault = (enum fault)i;
            return;
        }
    if (wanted) { /* a drill that plants nothing would pass for the wrong reason */
        fprintf(stderr, "HEARTH_FAULT=%s: no such fault\n", wanted);
        abort();
    }
}
#endif
