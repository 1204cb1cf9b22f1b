/* Closing while the client still sends: closing a socket with unread bytes resets the connection, and
 * the reset may overtake the answer (a 413 above all). So the socket is kept a moment longer and what
 * arrives is dropped, until the client has seen the answer and closes, or time or patience ends. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_MS 2000
#define LINGER_BYTES ((size_t)64 << 20)

static void on_handle_closed(uv_handle_t *handle)
{
    struct lingerer *l = handle->data;
    struct http_server *s = l->server;
    if (--l->open_handles == 0) {
        free(l);
    }
    server_handle_closed(s);
}

static void linger_stop(struct lingerer *l)
{
    struct http_server *s = l->server;
    if (l->prev) {
        l->prev->next = l->next;
    } else {
        s->lingerers = l->next;
    }
    if (l->next) {
        l->next->prev = l->prev;
    }
    s->n_lingerers--;
    uv_close((uv_handle_t *)&l->poll, on_handle_closed);
    uv_close((uv_handle_t *)&l->timer, on_handle_closed);
    close(l->fd);
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct lingerer *l = handle->data;
    (void)events;
    char dropped[16384];
    for (int i = 0; status == 0 && i < 16; i++) {
        ssize_t n = recv(l->fd, dropped, sizeof dropped, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n <= 0 || (size_t)n > l->left) {
            linger_stop(l);
            return;
        }
        l->left -= (size_t)n;
    }
    if (status < 0) {
        linger_stop(l);
    }
}

static void on_timeout(uv_timer_t *handle)
{
    linger_stop(handle->data);
}

void linger_start(struct http_server *s, int fd)
{
    if (s->stopping || s->n_lingerers >= HTTP_MAX_LINGERING) {
        return;
    }
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        return;
    }
    struct lingerer *l = calloc(1, sizeof *l);
    if (!l || uv_poll_init(s->loop, &l->poll, copy) < 0) {
        free(l);
        close(copy);
        return;
    }
    uv_timer_init(s->loop, &l->timer);
    l->server = s;
    l->fd = copy;
    l->left = LINGER_BYTES;
    l->poll.data = l->timer.data = l;
    l->open_handles = 2;
    server_handle_opened(s);
    server_handle_opened(s);
    l->next = s->lingerers;
    if (l->next) {
        l->next->prev = l;
    }
    s->lingerers = l;
    s->n_lingerers++;
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
    uv_timer_start(&l->timer, on_timeout, LINGER_MS, 0);
}

void linger_stop_all(struct http_server *s)
{
    while (s->lingerers) {
        linger_stop(s->lingerers);
    }
}
