/* Running other programs, without a shell. */
#ifndef HEARTH_CLI_PROCESS_H
#define HEARTH_CLI_PROCESS_H

#include "../kernels/err.h"

enum process_output {
    PROCESS_PLAIN, /* its outputs are ours */
    PROCESS_SHOW,  /* its standard output goes to our standard error */
    PROCESS_SILENT /* neither output is seen */
};
/* Runs argv (argv[0] looked for in PATH) and waits. *status is its exit status, 128 + n after
 * signal n. ERR_NOT_FOUND: there is no such program. */
int process_run(const char *const *argv, enum process_output, int *status, struct err *) WARN_UNUSED;

#endif
