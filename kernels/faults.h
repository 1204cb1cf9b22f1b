/* The bug of faults.def that a build with -Dfaults=true plants: HEARTH_FAULT names it. */
#ifndef HEARTH_FAULTS_H
#define HEARTH_FAULTS_H

#ifdef HEARTH_FAULTS

#ifdef __cplusplus
extern "C" {
#endif

enum fault {
    FAULT_none,
#define FAULT_LINE(name, text) FAULT_##name,
#include "gpu/faults.def"
#undef FAULT_LINE
};
extern enum fault hearth_fault; /* set before main */
#define FAULT(name) __builtin_expect(hearth_fault == FAULT_##name, 0)

#ifdef __cplusplus
}
#endif

#else
#define FAULT(name) 0
#endif

#endif
