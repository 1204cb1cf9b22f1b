/* How much of the machine's memory a cache may count on. */
#ifndef HEARTH_HOST_MEMORY_H
#define HEARTH_HOST_MEMORY_H

#include <stdint.h>

/* Bytes that can be taken without pushing others out: what the system says is available, within the
 * limit of a container; half of all memory where it does not say. */
uint64_t host_memory_available(void);
/* All of the machine's, or what a container may use of it. */
uint64_t host_memory_total(void);

#endif
