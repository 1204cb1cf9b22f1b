/* The files of a store: their names, their form, and which of them go when room is needed. */
#ifndef HEARTH_STORE_FILES_H
#define HEARTH_STORE_FILES_H

#include "store.h"

/* A file is this, the tokens, and the K and V, in the byte order of the machine. */
struct store_header {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t checksum; /* of all that follows it, to the end of the file */
    struct prefix_key parent, key;
    uint64_t bytes;    /* of K and V */
    uint32_t n_tokens, position;
    char model[64];
};
_Static_assert(sizeof(struct store_header) == 136, "a store's files");

#define STORE_NAME 72 /* PARENT-KEY.kv, in hexadecimal, and a NUL */
void store_name(char name[STORE_NAME], struct prefix_key parent, struct prefix_key key);

void store_header_fill(struct store_header *, const struct store_block *, const void *data);
bool store_header_sums(const struct store_header *, const int32_t *tokens, const void *data);

/* The block's file, open, its header read and its size right for it; a descriptor, or ERR_NOT_FOUND, ERR_IO
 * or ERR_FORMAT: then *ours tells whether it was meant to be a store's. */
int store_file_open(int directory, const char *name, struct store_header *, bool *ours,
                    struct err *) WARN_UNUSED;
/* Whether the file could fill `out`. */
bool store_file_read(int file, void *out, size_t bytes, size_t offset);

struct store_found {
    struct prefix_key parent, key;
    uint64_t bytes;
    int64_t used;  /* nanoseconds since 1970 */
    int64_t needed; /* the latest `used` of all that lie behind it in their chains */
};
struct store_scan {
    struct store_found *file; /* [n] by key; owned */
    size_t n;
    uint64_t bytes;
    size_t foreign;           /* names that are no store's */
};
/* Lists a directory, and removes temporary files that nobody writes any more. ERR_IO, ERR_NOMEM. */
int store_scan(int directory, struct store_scan *out, struct err *) WARN_UNUSED;
struct store_found *store_scan_find(const struct store_scan *, struct prefix_key); /* or NULL */
/* Removes the least recently needed files until the rest has at most `most` bytes; a chain goes from its
 * end. */
void store_evict(int directory, struct store_scan *, uint64_t most);

/* Temporary names begin so. */
#define STORE_PARTIAL "partial-"

#endif
