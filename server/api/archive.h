/* Responses that a later request may go on from, in one SQLite file (mode 0600). Every function may be called
 * from any thread and blocks for the disk. What archive_put has returned 0 for survives the process and the machine.
 *
 * Responses that go on from each other are one conversation: the one used longest ago goes first when the file
 * outgrows its bound, and each goes when it has not been used for the store's days. */
#ifndef HEARTH_API_ARCHIVE_H
#define HEARTH_API_ARCHIVE_H

#include <jansson.h>
#include <stdint.h>

#include "../../kernels/err.h"

struct archive;

enum { ARCHIVE_MAX_TURNS = 1000 }; /* responses in one conversation that are read back */

/* `bytes` bounds the file, 0: none; `days` (0: none) the age. *out is the caller's: archive_close. ERR_FORMAT: a file
 * of something else. */
int archive_open(struct archive **out, const char *path, uint64_t bytes, int days, struct err *) WARN_UNUSED;
void archive_close(struct archive *); /* NULL is fine */

/* Keeps a response: `previous` (may be NULL) is the id it goes on from, `input` its own input items. ERR_LIMIT: its
 * conversation alone is larger than the bound. ERR_NOT_FOUND: the previous one went meanwhile. */
int archive_put(struct archive *, const char *id, const char *previous, const json_t *input, const json_t *response,
              struct err *) WARN_UNUSED;
/* The response and its own input items (either may be NULL: not wanted); both are the caller's. ERR_NOT_FOUND. */
int archive_get(struct archive *, const char *id, json_t **response, json_t **input, struct err *) WARN_UNUSED;
/* All items of the conversation up to the end of this response, oldest first; the caller's. ERR_NOT_FOUND also where
 * an earlier response was deleted; ERR_LIMIT over ARCHIVE_MAX_TURNS. */
int archive_history(struct archive *, const char *id, json_t **items, struct err *) WARN_UNUSED;
int archive_delete(struct archive *, const char *id, struct err *) WARN_UNUSED;

#endif
