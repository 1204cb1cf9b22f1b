/* From generated tokens to text that may be sent: holds back half characters and anything that
 * could begin a stop string. One per choice; owned by its sequence. */
#ifndef HEARTH_STREAM_H
#define HEARTH_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "../../kernels/err.h"

struct text_stream;

/* Stop strings are copied. */
int text_stream_create(struct text_stream **out, const char *const *stop, size_t n_stop, struct err *) WARN_UNUSED;
void text_stream_destroy(struct text_stream *); /* NULL is fine */

/* Adds the bytes of one token. On return *text and *length are what can be sent now (whole valid
 * UTF-8 characters, invalid bytes as U+FFFD; valid until the next call) and *released how many of
 * the tokens pushed so far and not yet released end in it. Returns 1 when a stop string was
 * found (the text before it has been given; tokens that begin inside or after it are never
 * released), 0 otherwise, negative on ERR_NOMEM. */
int text_stream_push(struct text_stream *, const char *bytes, size_t n_bytes,
                     const char **text, size_t *length, size_t *released, struct err *) WARN_UNUSED;
/* Which stop string was found, by its place in the list; -1: none. */
int text_stream_stop(const struct text_stream *);
/* The end without a stop string: gives everything held back. */
int text_stream_flush(struct text_stream *, const char **text, size_t *length, size_t *released,
                      struct err *) WARN_UNUSED;

#endif
