/* What the devices that compute on the host share: memory, copies, angles. */
#ifndef HEARTH_HOST_H
#define HEARTH_HOST_H

#include "backend.h"

/* struct backend's functions for buffers in plain memory; weights are the device's own business. */
int host_alloc(struct buffer *, struct err *) WARN_UNUSED;
void host_free(struct buffer *); /* of host_alloc */
void host_view(struct buffer *);
int host_read(struct buffer *, size_t first, size_t count, void *out, struct err *) WARN_UNUSED;
int host_write(struct buffer *, size_t first, size_t count, const void *in, struct err *) WARN_UNUSED;
/* Submitting runs everything there, so there is nothing to wait for. */
int host_wait(struct device *, uint64_t ticket, struct err *) WARN_UNUSED;

/* Runs a copy command. */
void host_copy(const struct command *);

/* K or V as Q8_0, n a multiple of 32: d = max|x| / 127, nearest even; x stops at f16's largest number. */
void host_store_q8(const float *x, size_t n, uint8_t *out);

/* What ids[r] of an embed command means: itself, or one of `sampled`. */
int32_t host_token(const struct command *, int r);

void *host_memory(size_t bytes); /* aligned to 64 bytes; freed by free */
double host_now(void);           /* seconds */

#endif
