/* What a request says about waiting, and what it is told: whose turn it takes, by when it must have an answer, and
 * when to come again. */
#ifndef HEARTH_API_ADMISSION_H
#define HEARTH_API_ADMISSION_H

#include "internal.h"

/* What the headers say. */
struct admission {
    uint64_t key;       /* of Authorization, which cannot be told from it */
    double seconds;     /* X-Deadline-Ms; 0: none */
    bool explain;       /* X-Cache-Explain */
};
int admission_read(struct admission *, const struct http_request *, struct api_error *) WARN_UNUSED;

/* Whoever asks, as far as turns are shared: all with the same key and the same `user` (NULL: none). */
uint64_t admission_owner(const struct admission *, const char *user);
/* On CLOCK_MONOTONIC, 0 for none: the earlier one of the header and of `timeout` seconds (0: none), both counted
 * from `started` (uv_hrtime). */
double admission_deadline(const struct admission *, double timeout, uint64_t started);

/* Seconds after which one who is refused finds a place; each gets one of their own, as they become free. */
int admission_retry(struct api *);
/* Seconds until a request that comes now would begin. */
int admission_wait(const struct api *);

#endif
