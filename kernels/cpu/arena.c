#include "arena.h"

#include <stdint.h>
#include <stdlib.h>

#include "../host.h"

/* Each block twice the one before: a small model takes little, a large one few blocks. */
#define FIRST_BYTES ((size_t)2 << 20)
#define MOST_BYTES ((size_t)64 << 20)

struct arena_block {
    struct arena_block *older;
    char *memory;
    size_t bytes, used;
    size_t pieces; /* taken and not given back */
};

static struct arena_block *add_block(struct arena *a, size_t bytes)
{
    struct arena_block *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    size_t usual = a->newest ? 2 * a->newest->bytes : FIRST_BYTES;
    usual = usual < MOST_BYTES ? usual : MOST_BYTES;
    b->bytes = bytes > usual ? bytes : usual;
    b->memory = host_memory(b->bytes);
    if (!b->memory) {
        free(b);
        return NULL;
    }
    b->older = a->newest;
    return a->newest = b;
}

void *arena_take(struct arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX - 63)
        return NULL;
    bytes = (bytes + 63) & ~(size_t)63;
    struct arena_block *b = a->newest;
    if ((!b || bytes > b->bytes - b->used) && !(b = add_block(a, bytes)))
        return NULL;
    void *piece = b->memory + b->used;
    b->used += bytes;
    b->pieces++;
    return piece;
}

void arena_give(struct arena *a, void *piece)
{
    if (!piece)
        return;
    struct arena_block **at = &a->newest;
    while ((char *)piece < (*at)->memory || (char *)piece >= (*at)->memory + (*at)->bytes)
        at = &(*at)->older;
    struct arena_block *b = *at;
    if (--b->pieces)
        return;
    *at = b->older;
    free(b->memory);
    free(b);
}
