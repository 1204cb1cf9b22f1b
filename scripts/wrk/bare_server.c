/* The least that libmicrohttpd on a libuv loop can do (with epoll, so on Linux): every request is
 * answered with "ok". What wrk measures here is the yardstick for hearth's own /health.
 *
 *     bare-server [port]        (default 8079)          wrk -t1 -c32 -d3s http://127.0.0.1:8079/ */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

static uv_idle_t again;

static enum MHD_Result answer(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **context)
{
    static int seen;
    (void)cls, (void)url, (void)method, (void)version, (void)data;
    if (!*context) { /* the header only: an answer now would close the connection */
        *context = &seen;
        return MHD_YES;
    }
    if (*size) {
        *size = 0;
        return MHD_YES;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(2, (void *)"ok", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result ok = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return ok;
}

static void run(struct MHD_Daemon *daemon);

static void on_again(uv_idle_t *handle)
{
    run(handle->data);
}

static void on_ready(uv_poll_t *handle, int status, int events)
{
    (void)status, (void)events;
    run(handle->data);
}

static void run(struct MHD_Daemon *daemon)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    MHD_run(daemon);
    if (MHD_get_timeout(daemon, &timeout) == MHD_YES && timeout == 0) {
        uv_idle_start(&again, on_again);
    } else {
        uv_idle_stop(&again);
    }
}

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 8079;
    struct MHD_Daemon *daemon = MHD_start_daemon(MHD_USE_EPOLL, (uint16_t)port, NULL, NULL, answer, NULL, MHD_OPTION_END);
    if (!daemon) {
        fprintf(stderr, "cannot listen on port %d\n", port);
        return 1;
    }
    uv_loop_t *loop = uv_default_loop();
    uv_idle_init(loop, &again);
    again.data = daemon;
    uv_poll_t poll;
    uv_poll_init(loop, &poll, MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
    poll.data = daemon;
    uv_poll_start(&poll, UV_READABLE, on_ready);
    return uv_run(loop, UV_RUN_DEFAULT);
}
