/* A file on its way: written as NAME.part with its digest computed along, given its name only once
 * it is complete and checked. */
#ifndef HEARTH_CLI_PARTIAL_H
#define HEARTH_CLI_PARTIAL_H

#include <stdbool.h>
#include <stdio.h>

#include "../kernels/err.h"
#include "sha256.h"

struct partial {
    char *path, *part;  /* owned: NAME and NAME.part */
    FILE *file;
    uint64_t size;      /* bytes in it */
    uint64_t total;     /* bytes expected; 0: unknown */
    struct sha256 hash;
    int shown;          /* progress: what was said last; -1: nothing */
    bool terminal;
};

/* Opens NAME.part beside `path`, hashing what an earlier try left there. */
int partial_open(struct partial *, const char *path, uint64_t total, struct err *) WARN_UNUSED;
int partial_append(struct partial *, const void *data, size_t length, struct err *) WARN_UNUSED;
/* Empties it. */
int partial_restart(struct partial *, struct err *) WARN_UNUSED;
/* Checks size and digest, renames. A wrong file is removed: ERR_FORMAT. */
int partial_finish(struct partial *, const char *sha256, struct err *) WARN_UNUSED;
void partial_close(struct partial *); /* keeps NAME.part for the next try */

#endif
