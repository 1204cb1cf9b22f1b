/* The server: an engine behind HTTP. What cli/ calls. */
#ifndef HEARTH_SERVER_H
#define HEARTH_SERVER_H

#include "../engine/engine.h"
#include "api/shelf.h"

struct server_options {
    struct engine_options engine; /* wake and wake_user are the server's own */
    const struct shelf_model *models; /* one, which is loaded at once; or several, loaded on demand */
    size_t n_models;
    struct model_options model;   /* of each of them; name and memory are the server's own */
    double model_idle_seconds;    /* a model that nobody used for so long is unloaded; 0: none is */
    const char *host;             /* NULL: 127.0.0.1 and ::1 */
    int port;
    const char *api_key;          /* NULL: none wanted; else Authorization: Bearer …, but for /health and / */
    const char *store;            /* a file for responses; NULL: none are kept */
    uint64_t store_bytes;         /* of that file, 0: no bound */
    int store_days;               /* that a response is kept unused, 0: for ever */
    const char *cors_origin;      /* NULL: none; "*" or one origin */
    int max_connections;
    size_t max_body;
    double drain_seconds;         /* after SIGTERM or SIGINT; 0: 30 */
    double watchdog_seconds;      /* a step that takes longer stalls the server; 0: none does */
    double idle_exit_seconds;     /* ends after so long without a request; 0: never */
    bool select_backend;
    struct sampling_defaults defaults; /* from the configuration: before the file's; negative: unset */
};

/* Listens, or takes the listening sockets of the service manager; opens the engine and loads a single model (answering 503 meanwhile,
 * over such sockets when it is there), serves until SIGTERM, SIGINT or the idle limit, drains.
 * Returns 0 after an orderly end. Prints "listening on http://…" through the logger when ready. */
int server_run(const struct server_options *, struct err *) WARN_UNUSED;

#endif
