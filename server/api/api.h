/* The OpenAI-compatible API: routes, requests in progress and their answers. Everything runs on the
 * loop's thread; big prompts are prepared on uv's thread pool. */
#ifndef HEARTH_API_H
#define HEARTH_API_H

#include <uv.h>

#include "../../engine/engine.h"
#include "../http/http.h"

struct api;
struct shelf;

struct api_options {
    const char *api_key;                /* NULL: none wanted; copied */
    const char *cors_origin;            /* NULL: none; copied */
    struct sampling_defaults defaults;  /* before the file's; negative: unset */
    int parallel;                       /* sequences that run at once, for /props */
    const char *store;                  /* a file for responses; NULL: none are kept */
    uint64_t store_bytes;               /* of that file, 0: no bound */
    int store_days;                     /* that a response is kept unused, 0: for ever */
    bool hold;                          /* while loading, requests wait instead of getting a 503 */
    void (*idle)(void *user);           /* the last request in progress has ended; may be NULL */
    bool (*stalled)(void *user);        /* whether a step of the engine does not return; may be NULL */
    void *user;
};

/* *out is the caller's: api_close, then the loop run until that is done, then api_destroy. */
int api_create(struct api **out, uv_loop_t *, const struct api_options *, struct err *) WARN_UNUSED;
/* Ends loading: requests are taken from now on. Both stay the caller's; the engine outlives the loop's last
 * run before api_destroy, the shelf api_destroy too. */
void api_ready(struct api *, struct engine *, struct shelf *);
/* The server is about to end; requests in progress go on. `refuse`: new ones get a 503; else those that still
 * come, over connections that are there already, are served. */
void api_drain(struct api *, bool refuse);
/* Requests in progress, those included whose client is gone and which the engine has not ended yet. */
size_t api_active(const struct api *);
/* An event of the engine. */
void api_event(const struct engine_event *);
void api_close(struct api *);
void api_destroy(struct api *);

/* For struct http_options; `user` is the struct api. */
void api_handle(struct http_request *, void *user);
void api_fail(struct http_request *, int status, const char *message, void *user);

#endif
