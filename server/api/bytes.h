/* A growing run of bytes. Once memory runs out it stays `failed` and takes no more. */
#ifndef HEARTH_API_BYTES_H
#define HEARTH_API_BYTES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct bytes {
    char *data; /* malloc'd, the owner's: bytes_dispose */
    size_t length, capacity;
    bool failed;
};

void bytes_add(struct bytes *, const void *data, size_t length);
/* RFC 4648. */
void bytes_add_base64(struct bytes *, const unsigned char *data, size_t length);
/* Compact JSON; a NULL value (no memory) fails. */
void bytes_add_json(struct bytes *, const json_t *);
/* One server-sent event: "data: …\n\n". */
void bytes_add_event(struct bytes *, const json_t *);
/* The same text with everything that is no UTF-8 as U+FFFD. */
void bytes_add_utf8(struct bytes *, const char *data, size_t length);
void bytes_dispose(struct bytes *);

#endif
