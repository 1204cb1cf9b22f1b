/* sysctlbyname, which Linux has not: the simulated framework answers it. */
#ifndef HEARTH_TEST_SYSCTL_H
#define HEARTH_TEST_SYSCTL_H

#ifdef __APPLE__
#include_next <sys/sysctl.h>
#else
#include <stddef.h>

int sysctlbyname(const char *name, void *value, size_t *size, void *new_value, size_t new_size);
#endif

#endif
