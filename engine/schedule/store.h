/* KV blocks in files, so that prefixes survive a restart: one file per block, found by its key and its
 * parent's. Files are written by a thread of the store's own, under a temporary name first, and read on the
 * caller's. Whatever lies in the directory is checked before it is believed, and several processes may share
 * it. A disk that fails costs the cache, never a request. */
#ifndef HEARTH_STORE_H
#define HEARTH_STORE_H

#include "prefix.h"

struct store;

/* Makes the directory where it is missing; a thread begins. `bytes`: what its files may take; the least
 * recently used ones go first. ERR_IO, ERR_NOMEM. */
int store_open(struct store **out, const char *directory, uint64_t bytes, struct err *) WARN_UNUSED;
/* Ends when what was given is written. NULL is fine. */
void store_close(struct store *);

/* What a file says it holds. */
struct store_block {
    struct prefix_key parent, key;
    const int32_t *tokens; /* [n_tokens] */
    int n_tokens;
    int position;          /* blocks before it */
    size_t bytes;          /* of K and V */
    const char *model;     /* a name for people */
};

bool store_has(const struct store *, struct prefix_key parent, struct prefix_key key);
/* It was used just now. False where it is gone. */
bool store_touch(struct store *, struct prefix_key parent, struct prefix_key key);
/* Reads the K and V of a block with just these keys, tokens and size into out[bytes]. ERR_NOT_FOUND;
 * ERR_FORMAT: damaged, and gone now, or somebody else's. */
int store_read(struct store *, const struct store_block *, void *out, struct err *) WARN_UNUSED;

/* Room for one more block to be written, or NULL: later (or never, after a failure). */
void *store_room(struct store *, size_t bytes);
/* Writes a block, in the background; `room` is filled with its K and V and given over. Tokens and model are
 * copied. */
void store_write(struct store *, const struct store_block *, void *room);
/* Whether the disk refused: nothing is written any more. */
bool store_failed(struct store *);

#endif
