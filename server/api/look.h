/* A request whose answer is read from files or the store, on the thread pool. */
#ifndef HEARTH_API_LOOK_H
#define HEARTH_API_LOOK_H

#include "internal.h"

struct look {
    struct api *api;
    struct http_request *http;   /* NULL once the client is gone */
    uv_work_t work;
    void (*read)(struct look *); /* on the thread pool: makes answer, or error */
    json_t *answer;
    struct api_error error;
};

/* `look` is the beginning of a larger struct, from calloc; NULL: that failed. It is taken: freed when it has been
 * answered. `read` is set. */
void look_begin(struct look *, struct api *, struct http_request *);

#endif
