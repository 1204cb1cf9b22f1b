/* What api.c and job.c share. */
#ifndef HEARTH_API_INTERNAL_H
#define HEARTH_API_INTERNAL_H

#include "adapters.h"
#include "api.h"
#include "bytes.h"
#include "metrics.h"
#include "prepare.h"
#include "shapes.h"
#include "shelf.h"

struct job;

/* A request that waits for the model. */
struct held {
    struct api *api;
    struct http_request *http;
    struct held *next, *previous;
};

/* What /health tells. */
enum api_state { API_READY, API_LOADING, API_DRAINING, API_STALLED };
enum api_state api_state(const struct api *);
const char *api_state_name(enum api_state);

struct api {
    uv_loop_t *loop;
    struct api_options options;
    char *key, *origin;
    struct bytes description; /* /openapi.json */
    struct engine *engine; /* NULL while loading */
    struct shelf *shelf;   /* the models; NULL while loading */
    struct adapters adapters;
    bool draining, refusing;
    struct held *held;     /* requests that wait for the model, newest first */
    struct metrics metrics;
    struct job *jobs;      /* a list, newest first */
    size_t n_jobs;
    struct archive *archive; /* of responses; NULL: none are kept */
    size_t n_looks;        /* into the store, on the thread pool */
    uv_timer_t tick;       /* runs while there are jobs: keep-alives */
    int64_t created;       /* when the model was ready, Unix time */
    double next_place;     /* uv_hrtime in seconds: when the next one who is refused finds a place in the queue */
};

/* Answers with a body of `type`. `id` (may be NULL) becomes X-Request-Id. */
void api_reply(struct api *, struct http_request *, int status, const char *type, const char *id,
               const void *body, size_t length);
/* The same for an error; returns the status that went out. */
int api_reply_error(struct api *, struct http_request *, const struct api_error *);
/* Answers a request that comes to nothing, and logs it. */
void api_refuse(struct api *, struct http_request *, const struct api_error *);
/* Under which name a request's answer tells its id. */
const char *api_id_name(const struct http_request *);
/* Fields that every answer carries, at most API_FIELDS; returns how many. */
enum { API_FIELDS = 8 };
size_t api_fields(const struct api *, struct http_field *fields);

/* Takes over a request: parses, prepares, submits and answers. */
void job_start(struct api *, struct http_request *, enum api_endpoint);
void job_event(const struct engine_event *);
/* Sends keep-alives where they are due. */
void job_tick(struct api *);
/* Frees what is left of every job; nothing runs any more. */
void job_destroy_all(struct api *);

#endif
