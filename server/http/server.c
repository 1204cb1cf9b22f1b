/* The HTTP server: libmicrohttpd in external mode on a libuv loop. Where there is epoll, the daemon's
 * epoll descriptor is polled; elsewhere each connection's socket is, as MHD_get_fdset2 asks. */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>

#define POOL_BYTES ((size_t)32 * 1024) /* per connection: bounds the header, and one chunk sent */
#define RUNS_IN_A_ROW 16
#define SPARE_DESCRIPTORS 64           /* model files, logs, the loop's own */
#define DESCRIPTORS_WANTED ((rlim_t)65536)
#define DESCRIPTORS_FALLBACK ((rlim_t)10240) /* as many as macOS allows whatever the hard limit says */
#define BODIES_AT_ONCE 8               /* of the largest size; many more of the usual size */

void server_handle_opened(struct http_server *s)
{
    s->open_handles++;
}

void server_handle_closed(struct http_server *s)
{
    if (--s->open_handles == 0 && s->stopping) {
        free(s);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    server_handle_closed(handle->data);
}

/* The select backend: what each connection's socket is polled for. */
static void refresh_interest(struct http_server *s)
{
    fd_set readable, writable, except;
    MHD_socket highest = -1;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_ZERO(&except);
    MHD_get_fdset2(s->daemon, &readable, &writable, &except, &highest, FD_SETSIZE);
    for (struct conn *c = s->conns, *next; c; c = next) {
        next = c->all_next;
        conn_want(c, (FD_ISSET(c->fd, &readable) ? UV_READABLE : 0) |
                     (FD_ISSET(c->fd, &writable) ? UV_WRITABLE : 0));
    }
}

static void on_wake(uv_idle_t *);

static void run(struct http_server *s)
{
    MHD_UNSIGNED_LONG_LONG timeout = 0;
    bool more = true;
    uv_idle_stop(&s->wake);
    s->busy++;
    for (int i = 0; more && i < RUNS_IN_A_ROW; i++) {
        s->again = false;
        MHD_run(s->daemon);
        more = s->again || (MHD_get_timeout(s->daemon, &timeout) == MHD_YES && timeout == 0);
        /* a resumed connection that ends may close a run later, and no timeout says so */
        more |= s->n_cut > 0;
    }
    if (s->options.select_backend) {
        refresh_interest(s);
    }
    s->busy--;
    if (s->stop_wanted) {
        http_server_stop(s);
    } else if (more || s->again) {
        uv_idle_start(&s->wake, on_wake);
    }
}

static void on_wake(uv_idle_t *handle)
{
    run(handle->data);
}

static void on_epoll(uv_poll_t *handle, int status, int events)
{
    (void)status, (void)events;
    run(handle->data);
}

/* An idle handle keeps the loop from sleeping and runs at its next turn, wherever in a turn it was
 * started; so all writes of one turn go out together. */
void server_wake(struct http_server *s)
{
    s->again = true;
    if (!s->busy && !s->stopping) {
        uv_idle_start(&s->wake, on_wake);
    }
}

static void on_connection_notice(void *cls, struct MHD_Connection *mhd, void **context,
                                 enum MHD_ConnectionNotificationCode what)
{
    struct http_server *s = cls;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = s->arriving;
        s->arriving = NULL;
        conn_started(*context, mhd);
    } else {
        conn_closed(*context);
    }
}

/* Escapes are decoded in uri.c, which can refuse the broken ones. */
static size_t leave_escaped(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls, (void)mhd;
    return strlen(text);
}

static int daemon_start(struct http_server *s, struct err *e)
{
    unsigned flags = MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME;
    if (!s->options.select_backend) {
        flags |= MHD_USE_EPOLL;
    }
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, request_on_access, s,
                                 MHD_OPTION_NOTIFY_CONNECTION, on_connection_notice, s,
                                 MHD_OPTION_NOTIFY_COMPLETED, request_on_completed, s,
                                 MHD_OPTION_URI_LOG_CALLBACK, request_on_uri, s,
                                 MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, s,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, POOL_BYTES,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->options.max_connections,
                                 MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    return s->daemon ? 0 : err_set(e, ERR_IO, "cannot start the HTTP library: %s", strerror(errno));
}

/* The soft limit is as low as 256 under launchd. */
static rlim_t raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return 256;
    }
    rlim_t tries[] = {DESCRIPTORS_WANTED, DESCRIPTORS_FALLBACK};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        struct rlimit raised = limit;
        raised.rlim_cur = tries[i] < limit.rlim_max ? tries[i] : limit.rlim_max;
        if (raised.rlim_cur <= limit.rlim_cur) {
            break;
        }
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            return raised.rlim_cur;
        }
    }
    return limit.rlim_cur;
}

static uint64_t milliseconds(double seconds, double otherwise)
{
    double ms = (seconds > 0 ? seconds : otherwise) * 1000;
    return ms < 1 ? 1 : ms > 1e9 ? (uint64_t)1e9 : (uint64_t)ms;
}

static void fill_options(struct http_server *s, const struct http_options *o)
{
    s->options = *o;
    s->options.host = NULL;
    s->options.sockets = NULL;
    s->options.max_body = o->max_body ? o->max_body : (size_t)32 << 20;
    if (__builtin_mul_overflow(s->options.max_body, (size_t)BODIES_AT_ONCE, &s->body_budget)) {
        s->body_budget = SIZE_MAX;
    }
    s->header_ms = milliseconds(o->header_seconds, 10);
    s->body_ms = milliseconds(o->body_seconds, 30);
#ifdef __linux__
    if (MHD_is_feature_supported(MHD_FEATURE_EPOLL) != MHD_YES) {
        s->options.select_backend = true;
    }
#else
    s->options.select_backend = true;
#endif
    rlim_t allowed = raise_descriptor_limit();
    if (s->options.select_backend && allowed > FD_SETSIZE) {
        allowed = FD_SETSIZE;
    }
    int limit = allowed > 2 * SPARE_DESCRIPTORS ? (int)(allowed - SPARE_DESCRIPTORS) : SPARE_DESCRIPTORS;
    int wanted = o->max_connections > 0 ? o->max_connections : 4096;
    s->options.max_connections = wanted < limit ? wanted : limit;
}

static int handles_open(struct http_server *s, struct err *e)
{
    uv_idle_init(s->loop, &s->wake);
    uv_timer_init(s->loop, &s->deadline);
    uv_timer_init(s->loop, &s->retry_accept);
    s->wake.data = s->deadline.data = s->retry_accept.data = s;
    s->open_handles = 3;
    if (!s->options.select_backend) {
        int fd = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
        int rc = uv_poll_init(s->loop, &s->epoll, fd);
        if (rc < 0) {
            return err_set(e, ERR_IO, "cannot watch the epoll descriptor: %s", uv_strerror(rc));
        }
        s->epoll.data = s;
        s->epoll_open = true;
        server_handle_opened(s);
        uv_poll_start(&s->epoll, UV_READABLE, on_epoll);
    }
    return listen_watch(s, e);
}

int http_server_start(struct http_server **out, uv_loop_t *loop, const struct http_options *o, struct err *e)
{
    *out = NULL;
    struct sigaction pipe_action;
    if (sigaction(SIGPIPE, NULL, &pipe_action) == 0 && pipe_action.sa_handler == SIG_DFL) {
        signal(SIGPIPE, SIG_IGN);
    }
    struct http_server *s = calloc(1, sizeof *s);
    if (!s) {
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    s->loop = loop;
    fill_options(s, o);
    int rc = 0;
    if (o->n_sockets > 0)
        listen_adopt(s, o->sockets, o->n_sockets);
    else
        rc = listen_open(s, o->host, o->port, e);
    if (rc == 0) {
        rc = daemon_start(s, e);
        if (rc) {
            listen_close(s);
        }
    }
    if (rc) {
        free(s);
        return rc;
    }
    rc = handles_open(s, e);
    if (rc) {
        http_server_stop(s);
        return rc;
    }
    *out = s;
    return 0;
}

int http_server_port(const struct http_server *s)
{
    return s->port;
}

int http_server_connections(const struct http_server *s)
{
    return s->n_conns;
}

int http_server_requests(const struct http_server *s)
{
    int n = 0;
    for (const struct conn *c = s->conns; c; c = c->all_next) {
        n += c->request != NULL;
    }
    return n;
}

void http_server_quiesce(struct http_server *s)
{
    if (s->quiescing || s->stopping) {
        return;
    }
    s->quiescing = true;
    uv_timer_stop(&s->retry_accept);
    listen_close(s);
    for (struct conn *c = s->conns; c; c = c->all_next) {
        if (c->list == &s->idle || c->list == &s->resting) {
            conn_finish(c);
        }
    }
}

void http_server_stop(struct http_server *s)
{
    if (s->stopping) {
        return;
    }
    if (s->busy) { /* called from a callback: when that has returned */
        s->stop_wanted = true;
        server_wake(s);
        return;
    }
    s->stopping = true;
    for (struct conn *c = s->conns; c; c = c->all_next) {
        if (c->request) {
            request_lose(c->request); /* also resumes it: the library aborts on suspended ones */
        }
    }
    listen_close(s);
    linger_stop_all(s);
    if (s->epoll_open) {
        uv_close((uv_handle_t *)&s->epoll, on_handle_closed);
    }
    MHD_stop_daemon(s->daemon);
    uv_close((uv_handle_t *)&s->wake, on_handle_closed);
    uv_close((uv_handle_t *)&s->deadline, on_handle_closed);
    uv_close((uv_handle_t *)&s->retry_accept, on_handle_closed);
}
