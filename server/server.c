/* The life of the server: listens, loads the model on the thread pool, turns the engine's wake-ups
 * into events for the API, drains on a signal, closes everything it opened. */
#include "server.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../engine/log.h"
#include "api/api.h"

enum {
    EVENTS_PER_TURN = 256, /* then the sockets have their turn */
    DRAIN_SECONDS = 30
};

struct server {
    const struct server_options *options;
    uv_loop_t loop;
    struct http_server *http;
    struct api *api;
    struct engine *engine;
    struct model *model;
    uv_async_t wake;            /* the engine has events, or the last request ended */
    uv_signal_t signals[3];
    uv_timer_t drain_timer;
    uv_work_t load;
    uint64_t started;           /* uv_hrtime */
    bool loading, draining, stopped;
    struct err failure;         /* why loading failed */
};

static void close_handle(void *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Lets the loop run out. The wake handle stays until the engine is closed: its worker uses it. */
static void stop(struct server *server)
{
    if (server->stopped)
        return;
    server->stopped = true;
    http_server_stop(server->http);
    api_close(server->api);
    for (size_t i = 0; i < sizeof server->signals / sizeof *server->signals; i++)
        close_handle(&server->signals[i]);
    close_handle(&server->drain_timer);
    uv_unref((uv_handle_t *)&server->wake);
}

static void wake_loop(void *user)
{
    struct server *server = user;
    uv_async_send(&server->wake);
}

static void on_wake(uv_async_t *wake)
{
    struct server *server = wake->data;
    for (int i = 0; !server->loading && server->engine; i++) {
        if (i == EVENTS_PER_TURN) {
            uv_async_send(wake);
            break;
        }
        struct engine_event *event = engine_poll(server->engine);
        if (!event)
            break;
        api_event(event);
        engine_event_free(event);
    }
    if (server->draining && !server->loading && api_active(server->api) == 0)
        stop(server);
}

static void on_drain_timeout(uv_timer_t *timer)
{
    struct server *server = timer->data;
    log_warning("requests in progress after %.0f s: ending them", server->options->drain_seconds > 0
                                                                       ? server->options->drain_seconds
                                                                       : DRAIN_SECONDS);
    stop(server);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *server = handle->data;
    if (number == SIGHUP) {
        log_info("SIGHUP: there is nothing to reload");
        return;
    }
    if (server->draining)
        _exit(128 + number);

    server->draining = true;
    api_drain(server->api);
    if (!server->loading && server->engine)
        engine_drain(server->engine);
    log_info("shutting down: %zu requests in progress", api_active(server->api));
    double seconds = server->options->drain_seconds > 0 ? server->options->drain_seconds : DRAIN_SECONDS;
    uv_timer_start(&server->drain_timer, on_drain_timeout, (uint64_t)ceil(seconds * 1000), 0);
    uv_async_send(&server->wake);
}

/* ---- loading ---- */

static void load(uv_work_t *work)
{
    struct server *server = work->data;
    struct engine_options options = server->options->engine;
    options.wake = wake_loop;
    options.wake_user = server;
    if (engine_open(&server->engine, &options, &server->failure) == 0 &&
        engine_load(server->engine, server->options->model_path, &server->options->model, &server->model,
                    &server->failure) == 0)
        server->failure.code = ERR_OK;
}

static void log_address(const struct server *server, const char *what)
{
    const char *host = server->options->host;
    if (!host || strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    bool v6 = strchr(host, ':') != NULL;
    log_info("%s http://%s%s%s:%d", what, v6 ? "[" : "", host, v6 ? "]" : "", http_server_port(server->http));
}

static void loaded(uv_work_t *work, int status)
{
    struct server *server = work->data;
    (void)status; /* never cancelled */
    server->loading = false;
    if (server->failure.code || server->draining) {
        stop(server);
        return;
    }
    const struct model_info *info = engine_model_info(server->model);
    api_ready(server->api, server->engine, server->model);
    log_info("%s (%s, context %d) is ready after %.1f s", info->name, info->quantization,
             info->context_length, (double)(uv_hrtime() - server->started) / 1e9);
    log_address(server, "listening on");
}

/* ---- beginning and end ---- */

static int start_handles(struct server *server, struct err *err)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    uv_timer_init(&server->loop, &server->drain_timer);
    server->drain_timer.data = server;
    int code = uv_async_init(&server->loop, &server->wake, on_wake);
    if (code)
        return err_set(err, ERR_IO, "cannot make a wake-up handle: %s", uv_strerror(code));
    server->wake.data = server;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        uv_signal_init(&server->loop, &server->signals[i]);
        server->signals[i].data = server;
        code = uv_signal_start(&server->signals[i], on_signal, numbers[i]);
        if (code)
            return err_set(err, ERR_IO, "cannot watch signals: %s", uv_strerror(code));
    }
    return 0;
}

static int start(struct server *server, struct err *err)
{
    const struct server_options *options = server->options;
    struct api_options api_options = {
        .api_key = options->api_key,
        .cors_origin = options->cors_origin,
        .defaults = options->defaults,
        .catalogue = options->catalogue,
        .idle = wake_loop,
        .user = server,
    };
    int code = api_create(&server->api, &server->loop, &api_options, err);
    if (code)
        return code;
    struct http_options http_options = {
        .host = options->host,
        .port = options->port,
        .max_connections = options->max_connections,
        .max_body = options->max_body,
        .select_backend = options->select_backend,
        .user = server->api,
        .handle = api_handle,
        .fail = api_fail,
    };
    code = http_server_start(&server->http, &server->loop, &http_options, err);
    if (code)
        return code;
    log_address(server, "loading the model; until then 503 from");
    server->load.data = server;
    server->loading = true;
    server->started = uv_hrtime();
    if (uv_queue_work(&server->loop, &server->load, load, loaded)) {
        server->loading = false;
        return err_set(err, ERR_NOMEM, "cannot start a thread for loading");
    }
    return 0;
}

static void close_any(uv_handle_t *handle, void *unused)
{
    (void)unused;
    close_handle(handle);
}

int server_run(const struct server_options *options, struct err *err)
{
    struct server *server = calloc(1, sizeof *server);
    if (!server)
        return err_set(err, ERR_NOMEM, "out of memory");
    server->options = options;
    int code = uv_loop_init(&server->loop);
    if (code) {
        free(server);
        return err_set(err, ERR_IO, "cannot start the event loop: %s", uv_strerror(code));
    }
    signal(SIGPIPE, SIG_IGN);

    code = start_handles(server, err);
    if (code == 0)
        code = start(server, err);
    if (code == 0)
        uv_run(&server->loop, UV_RUN_DEFAULT);
    else if (server->http)
        http_server_stop(server->http);

    /* The engine's worker uses the wake handle, and jobs point into the engine's events. */
    engine_close(server->engine);
    uv_walk(&server->loop, close_any, NULL);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    api_destroy(server->api);
    uv_loop_close(&server->loop);
    if (code == 0 && server->failure.code)
        code = err_set(err, server->failure.code, "%s", server->failure.text);
    free(server);
    return code;
}
