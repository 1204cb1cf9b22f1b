/* Connections: how long each may take over what it is doing, and noticing a client that leaves.
 *
 * libmicrohttpd's own timeout starts again with every byte and does not run while a connection is
 * suspended, so deadlines are kept here, in lists ordered by time with one timer for all. A
 * connection that waits for its answer, or for the next token, is in no list and costs nothing.
 *
 * A client that closes its side (FIN) while its answer is still being made counts as gone: nothing
 * tells that from a closed program, and work for nobody must stop. A client that half-closes and
 * whose answer is ready at once still gets it. */
#include "internal.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#ifdef __linux__
#include <linux/sockios.h>
#endif

/* A timer this late means that the loop, or the machine, was asleep: no client is to blame. */
#define LATE_MS 5000
#define REST_MS 1000

static void on_poll(uv_poll_t *, int status, int events);

struct conn *conn_new(struct http_server *s, int fd)
{
    struct conn *c = calloc(1, sizeof *c);
    if (c) {
        c->server = s;
        c->fd = fd;
    }
    return c;
}

void conn_started(struct conn *c, struct MHD_Connection *mhd)
{
    struct http_server *s = c->server;
    c->mhd = mhd;
    c->all_next = s->conns;
    if (c->all_next) {
        c->all_next->all_prev = c;
    }
    s->conns = c;
    s->n_conns++;
    conn_list_move(c, &s->header);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct http_server *s = c->server;
    free(c);
    server_handle_closed(s);
}

/* The descriptor is still open here; libmicrohttpd closes it next. */
void conn_closed(struct conn *c)
{
    struct http_server *s = c->server;
    conn_list_move(c, NULL);
    if (c->all_prev) {
        c->all_prev->all_next = c->all_next;
    } else {
        s->conns = c->all_next;
    }
    if (c->all_next) {
        c->all_next->all_prev = c->all_prev;
    }
    s->n_conns--;
    s->n_cut -= c->cut;
    int unread = 0;
    if (!c->cut && (c->linger || (ioctl(c->fd, FIONREAD, &unread) == 0 && unread > 0))) {
        linger_start(s, c->fd);
    }
    if (c->poll_open) {
        uv_close((uv_handle_t *)&c->poll, on_poll_closed);
    } else {
        free(c);
    }
    listen_resume(s);
}

static uint64_t list_ms(const struct http_server *s, const struct conn_list *list)
{
    uint64_t moment = s->body_ms / 2 < REST_MS ? s->body_ms / 2 : REST_MS;
    return list == &s->header ? s->header_ms : list == &s->resting ? REST_MS : list == &s->body ? moment
         : list == &s->stalled ? s->body_ms - moment : s->body_ms;
}

static void arm(struct http_server *s, uint64_t due)
{
    uint64_t now = uv_now(s->loop);
    s->deadline_due = due > now ? due : now + 1;
    uv_timer_start(&s->deadline, conn_on_deadline, s->deadline_due - now, 0);
}

/* Enters `to` at its end with a fresh deadline. A timer that is armed already fires no later than
 * needed: it only has to be moved when this is the first deadline, or a nearer one. */
void conn_list_move(struct conn *c, struct conn_list *to)
{
    struct http_server *s = c->server;
    if (c->list) {
        *(c->prev ? &c->prev->next : &c->list->head) = c->next;
        *(c->next ? &c->next->prev : &c->list->tail) = c->prev;
    }
    c->list = to;
    c->prev = c->next = NULL;
    if (!to) {
        return;
    }
    c->prev = to->tail;
    *(to->tail ? &to->tail->next : &to->head) = c;
    to->tail = c;
    c->since = uv_now(s->loop);
    c->unsent = -1;
    if (to != &s->idle && !s->stopping) {
        uint64_t due = c->since + list_ms(s, to);
        if (!s->deadline_due || due < s->deadline_due) {
            arm(s, due);
        }
    }
}

/* Bytes that the kernel still holds for the peer; -1 where it cannot tell. */
static int unsent_bytes(int fd)
{
    int n = -1;
#if defined(SIOCOUTQ)
    if (ioctl(fd, SIOCOUTQ, &n) < 0) {
        n = -1;
    }
#elif defined(SO_NWRITE)
    socklen_t size = sizeof n;
    if (getsockopt(fd, SOL_SOCKET, SO_NWRITE, &n, &size) < 0) {
        n = -1;
    }
#else
    (void)fd;
#endif
    return n;
}

/* A slow reader takes bytes out of the kernel's queue long before libmicrohttpd can add any. */
static bool still_taking(struct conn *c)
{
    int n = unsent_bytes(c->fd);
    if (n < 0 || n == c->unsent) {
        return false;
    }
    conn_list_move(c, &c->server->sending);
    c->unsent = n;
    return true;
}

/* A FIN that came together with a request, or with a part of its body, is forgotten by libmicrohttpd's
 * edge-triggered epoll, and nothing else would ever happen to the connection: so each is looked at once
 * when nothing has come for a moment. A look after every request would cost a fifth of a small
 * request's time. */
static void look_at_silent(struct conn *c, struct conn_list *next)
{
    char byte;
    if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
        conn_cut(c);
    } else {
        conn_list_move(c, next);
    }
}

static void expire(struct http_server *s, struct conn_list *list, uint64_t now, uint64_t *next)
{
    uint64_t limit = list_ms(s, list);
    while (list->head && list->head->since + limit <= now) {
        struct conn *c = list->head;
        if (list == &s->resting) {
            look_at_silent(c, &s->idle);
        } else if (list == &s->body) {
            look_at_silent(c, &s->stalled);
        } else if (list != &s->sending || !still_taking(c)) {
            conn_cut(c);
        }
    }
    if (list->head && (*next == 0 || list->head->since + limit < *next)) {
        *next = list->head->since + limit;
    }
}

static void forgive(struct conn_list *list, uint64_t now)
{
    for (struct conn *c = list->head; c; c = c->next) {
        c->since = now;
    }
}

void conn_on_deadline(uv_timer_t *timer)
{
    struct http_server *s = timer->data;
    uint64_t now = uv_now(s->loop), next = 0;
    if (now > s->deadline_due + LATE_MS) {
        forgive(&s->header, now);
        forgive(&s->body, now);
        forgive(&s->stalled, now);
        forgive(&s->sending, now);
    }
    s->deadline_due = 0;
    expire(s, &s->header, now, &next);
    expire(s, &s->body, now, &next);
    expire(s, &s->stalled, now, &next);
    expire(s, &s->sending, now, &next);
    expire(s, &s->resting, now, &next);
    if (next) {
        arm(s, next);
    }
}

/* With epoll, libmicrohttpd looks only at connections with a timeout of their own in every run; of the others,
 * when no event comes, at the oldest, and at younger ones once that is gone. */
static void look_at_in_every_run(struct conn *c)
{
    MHD_set_connection_option(c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
}

void conn_cut(struct conn *c)
{
    conn_list_move(c, NULL);
    if (!c->cut) {
        c->cut = true;
        c->server->n_cut++;
        look_at_in_every_run(c);
    }
    shutdown(c->fd, SHUT_RDWR);
    if (c->request) {
        request_lose(c->request);
    }
    server_wake(c->server);
}

void conn_rest(struct conn *c)
{
    struct http_server *s = c->server;
    conn_list_move(c, &s->resting);
    listen_resume(s); /* where the limit is reached, this one may give way */
    if (s->quiescing) {
        conn_finish(c);
    }
}

void conn_finish(struct conn *c)
{
    shutdown(c->fd, SHUT_RD);
    server_wake(c->server);
}

/* libuv allows one poll handle per descriptor, so what libmicrohttpd waits for and the watch on a
 * waiting client share it. */
static void update_poll(struct conn *c)
{
    int events = c->mhd_events;
    if (c->watched) {
        /* kqueue has no UV_DISCONNECT: the select backend does without wherever it can */
        events |= c->pipelined ? UV_DISCONNECT
                : c->server->options.select_backend ? UV_READABLE : UV_READABLE | UV_DISCONNECT;
    }
    if (events == c->polled || c->cut) {
        return;
    }
    if (!c->poll_open) {
        if (uv_poll_init(c->server->loop, &c->poll, c->fd) < 0) {
            conn_cut(c);
            return;
        }
        c->poll.data = c;
        c->poll_open = true;
        server_handle_opened(c->server);
    }
    c->polled = events;
    if (events) {
        uv_poll_start(&c->poll, events, on_poll);
    } else {
        uv_poll_stop(&c->poll);
    }
}

void conn_want(struct conn *c, int mhd_events)
{
    c->mhd_events = mhd_events;
    update_poll(c);
}

/* The watch stays on while the answer is being sent as well: there it finds clients that leave while
 * the socket is full, and it saves two system calls per token. */
void conn_watch(struct conn *c, bool on)
{
    if (c->watched != on) {
        c->watched = on;
        c->pipelined = false;
        update_poll(c);
    }
}

static bool has_left(struct conn *c, int status, int events)
{
    if (status < 0 || (events & UV_DISCONNECT)) {
        return true;
    }
    if (!(events & UV_READABLE) || c->pipelined) {
        return false;
    }
    char byte;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0) {
        c->pipelined = true; /* it stays readable: looking again would spin */
        update_poll(c);
        return false;
    }
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct conn *c = handle->data;
    if (status < 0) {
        c->polled = 0; /* libuv has stopped the handle */
    }
    if (c->watched && !c->cut && has_left(c, status, events)) {
        conn_cut(c);
    } else if (status < 0 || (events & c->mhd_events)) {
        server_wake(c->server);
    }
}
