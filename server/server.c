/* The life of the server: listens, opens the engine on the thread pool, turns the engine's wake-ups
 * into events for the API, drains on a signal, closes everything it opened. */
#include "server.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../engine/log.h"
#include "activation.h"
#include "api/api.h"
#include "notify.h"
#include "watchdog.h"

enum {
    EVENTS_PER_TURN = 256, /* then the sockets have their turn */
    DRAIN_SECONDS = 30,
    DRAIN_LOOK_MS = 50,
    WAITING_MOST = 256, /* requests for models */
    SILENT_MS = 1000 /* a connection that has sent nothing for so long holds no drain */
};

struct server {
    const struct server_options *options;
    uv_loop_t loop;
    struct http_server *http;
    struct api *api;
    struct engine *engine;
    struct shelf *shelf;
    uv_async_t wake;            /* the engine has events, or the last request ended */
    uv_signal_t signals[3];
    uv_timer_t drain_timer, idle_timer;
    struct watchdog watchdog;
    uv_work_t load;
    uint64_t started;           /* uv_hrtime */
    int sockets[HTTP_MAX_LISTENERS], n_sockets; /* of the service manager */
    uint64_t drain_began;       /* uv_now */
    bool loading, draining, stopped;
    bool quiet;                 /* draining, and nobody is refused */
    bool told;                  /* by a signal: the next one ends it at once */
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
    shelf_close(server->shelf);
    for (size_t i = 0; i < sizeof server->signals / sizeof *server->signals; i++)
        close_handle(&server->signals[i]);
    close_handle(&server->drain_timer);
    close_handle(&server->idle_timer);
    close_handle(&server->watchdog.timer);
    uv_unref((uv_handle_t *)&server->wake);
}

static void wake_loop(void *user)
{
    struct server *server = user;
    uv_async_send(&server->wake);
}

/* ---- draining ---- */

static double drain_seconds(const struct server *server)
{
    return server->options->drain_seconds > 0 ? server->options->drain_seconds : DRAIN_SECONDS;
}

/* Over when nothing is in progress, and in a quiet drain nobody is left who might still ask. */
static void look_at_drain(struct server *server)
{
    uint64_t ms = uv_now(&server->loop) - server->drain_began;
    bool over = !server->loading && api_active(server->api) == 0;
    if (over && server->quiet)
        over = http_server_connections(server->http) == 0 ||
               (http_server_requests(server->http) == 0 && ms >= SILENT_MS);
    if (!over && (double)ms >= drain_seconds(server) * 1e3) {
        log_warning("requests in progress after %.0f s: ending them", drain_seconds(server));
        over = true;
    }
    if (over)
        stop(server);
}

static void on_drain_look(uv_timer_t *timer)
{
    look_at_drain(timer->data);
}

/* `quiet`: somebody else holds the listening sockets, and clients who come now wait for the next server. */
static void drain(struct server *server, const char *why, bool quiet)
{
    server->draining = true;
    server->quiet = quiet;
    server->drain_began = uv_now(&server->loop);
    notify_send("STOPPING=1\nSTATUS=draining");
    api_drain(server->api, !quiet);
    if (quiet)
        http_server_quiesce(server->http);
    else if (!server->loading && server->engine)
        engine_drain(server->engine);
    log_info("%s: %zu requests in progress", why, api_active(server->api));
    uv_timer_start(&server->drain_timer, on_drain_look, 0, DRAIN_LOOK_MS);
}

static void on_idle(uv_timer_t *timer)
{
    struct server *server = timer->data;
    if (!server->draining && api_active(server->api) == 0)
        drain(server, "no request for a while (idle-exit)", true);
}

/* The last request in progress has ended. */
static void watch_idle(struct server *server)
{
    double seconds = server->options->idle_exit_seconds;
    if (seconds > 0)
        uv_timer_start(&server->idle_timer, on_idle, (uint64_t)ceil(seconds * 1000), 0);
}

/* ---- the engine's events, and signals ---- */

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
    if (api_active(server->api) > 0 || server->loading)
        return;
    if (server->draining)
        look_at_drain(server);
    else
        watch_idle(server);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *server = handle->data;
    if (number == SIGHUP) {
        log_info("SIGHUP: there is nothing to reload");
        return;
    }
    if (server->told)
        _exit(128 + number);
    server->told = true;
    if (!server->draining)
        drain(server, "shutting down", server->n_sockets > 0);
}

/* ---- loading ---- */

static void load(uv_work_t *work)
{
    struct server *server = work->data;
    struct engine_options options = server->options->engine;
    options.wake = wake_loop;
    options.wake_user = server;
    if (engine_open(&server->engine, &options, &server->failure) == 0 &&
        shelf_open(server->shelf, server->engine, &server->failure) == 0)
        server->failure.code = ERR_OK;
}

static void log_address(const struct server *server, const char *what)
{
    const char *host = server->options->host;
    if (server->n_sockets > 0) {
        log_info("%s the service manager's socket, port %d", what, http_server_port(server->http));
        return;
    }
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
    double seconds = (double)(uv_hrtime() - server->started) / 1e9;
    watchdog_engine(&server->watchdog, server->engine);
    shelf_start(server->shelf, server->engine);
    api_ready(server->api, server->engine, server->shelf);
    if (server->shelf->n == 1) {
        const struct model_info *info = engine_model_info(server->shelf->served[0].model);
        log_info("%s (%s, context %d) is ready after %.1f s", info->name, info->quantization,
                 info->context_length, seconds);
    }
    log_address(server, "listening on");
    notify_send("READY=1\nSTATUS=ready");
    if (api_active(server->api) == 0)
        watch_idle(server);
}

/* ---- beginning and end ---- */

static int start_handles(struct server *server, struct err *err)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    uv_timer_init(&server->loop, &server->drain_timer);
    uv_timer_init(&server->loop, &server->idle_timer);
    server->drain_timer.data = server->idle_timer.data = server;
    watchdog_start(&server->watchdog, &server->loop, server->options->watchdog_seconds);
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

static bool is_stalled(void *user)
{
    struct server *server = user;
    return watchdog_stalled(&server->watchdog);
}

static int start(struct server *server, struct err *err)
{
    const struct server_options *options = server->options;
    int n = activation_sockets(server->sockets, HTTP_MAX_LISTENERS, err);
    if (n < 0)
        return n;
    server->n_sockets = n;
    if (n == 0 && options->idle_exit_seconds > 0)
        log_warning("idle-exit without a socket from systemd or launchd: nothing will start this again");
    struct api_options api_options = {
        .api_key = options->api_key,
        .cors_origin = options->cors_origin,
        .store = options->store,
        .store_bytes = options->store_bytes,
        .store_days = options->store_days,
        .defaults = options->defaults,
        .parallel = options->engine.parallel,
        .hold = server->n_sockets > 0,
        .idle = wake_loop,
        .stalled = is_stalled,
        .user = server,
    };
    struct shelf_options shelf_options = {
        .models = options->models,
        .n_models = options->n_models,
        .model = options->model,
        .idle_seconds = options->model_idle_seconds,
        .queue = options->engine.queue > 0 ? (size_t)options->engine.queue : WAITING_MOST,
    };
    int code = shelf_create(&server->shelf, &server->loop, &shelf_options, err);
    if (code == 0)
        code = api_create(&server->api, &server->loop, &api_options, err);
    if (code)
        return code;
    notify_send("STATUS=loading the model");
    struct http_options http_options = {
        .host = options->host,
        .port = options->port,
        .sockets = server->sockets,
        .n_sockets = n,
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
    log_address(server, n > 0 ? "loading the model; requests wait at"
                              : "loading the model; until then 503 from");
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

    watchdog_engine(&server->watchdog, NULL);
    /* The engine's worker uses the wake handle, and jobs point into the engine's events. */
    engine_close(server->engine);
    uv_walk(&server->loop, close_any, NULL);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    api_destroy(server->api);
    shelf_destroy(server->shelf);
    uv_loop_close(&server->loop);
    if (code == 0 && server->failure.code)
        code = err_set(err, server->failure.code, "%s", server->failure.text);
    free(server);
    return code;
}
