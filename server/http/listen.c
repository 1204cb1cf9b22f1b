/* Listening sockets and accepting. We accept ourselves and hand the sockets to libmicrohttpd: so one
 * daemon serves IPv4 and IPv6, flags are set from the first moment, and running out of descriptors or
 * connections pauses accepting instead of spinning. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../engine/log.h"

#define BACKLOG 4096
#define ACCEPT_BATCH 64
#define RETRY_MS 100
#define UNSENT_BYTES (128 * 1024) /* of a connection, in the system */
#define WARN_EVERY_MS 60000

static int close_failed(int fd)
{
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

#ifdef SOCK_CLOEXEC
static int socket_cloexec(int family)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static int accept_cloexec(int listener)
{
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}
#else
static int with_flags(int fd)
{
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) {
        return fd;
    }
    return fd < 0 ? -1 : close_failed(fd);
}

static int socket_cloexec(int family)
{
    return with_flags(socket(family, SOCK_STREAM, 0));
}

static int accept_cloexec(int listener)
{
    return with_flags(accept(listener, NULL, NULL));
}
#endif

/* Nothing is sent to a client whose token is awaited, so only the kernel can find out that its
 * machine has vanished. Each write goes out at once. */
static void tune(int fd)
{
    int on = 1, idle = 60, interval = 15, count = 4;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
#if defined(TCP_NOTSENT_LOWAT)
    /* Else the system keeps megabytes for a client that does not read, and its stream would go on. */
    int unsent = UNSENT_BYTES;
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
#endif
#if defined(TCP_KEEPIDLE)
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
#elif defined(TCP_KEEPALIVE)
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPALIVE, &idle, sizeof idle);
#endif
#if defined(TCP_KEEPINTVL) && defined(TCP_KEEPCNT)
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
#else
    (void)interval, (void)count;
#endif
}

static void pause_accepting(struct http_server *s, const char *why)
{
    uint64_t now = uv_now(s->loop);
    if (!s->warned || now - s->warned > WARN_EVERY_MS) {
        s->warned = now;
        log_warning("new connections wait: %s (%d are open)", why, s->n_conns);
    }
    s->accepting = false;
    for (int i = 0; i < s->n_listeners; i++) {
        uv_poll_stop(&s->listeners[i].poll);
    }
}

/* The connection that has waited longest for its client's next request gives way to a new one. */
static void evict_idle(struct http_server *s)
{
    struct conn *c = s->idle.head ? s->idle.head : s->resting.head;
    if (c) {
        conn_finish(c);
    }
}

static void add(struct http_server *s, int fd)
{
    tune(fd);
    s->arriving = conn_new(s, fd);
    if (!s->arriving) {
        close(fd);
        return;
    }
    /* The library stores the peer's address and nobody asks for it: any will do. */
    struct sockaddr_in nobody = {.sin_family = AF_INET};
    MHD_add_connection(s->daemon, fd, (struct sockaddr *)&nobody, sizeof nobody); /* closes fd if it fails */
    if (s->arriving) {
        free(s->arriving);
        s->arriving = NULL;
    }
}

static void on_connection(uv_poll_t *handle, int status, int events)
{
    struct listener *l = handle->data;
    struct http_server *s = l->server;
    (void)status, (void)events;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        if (s->n_conns >= s->options.max_connections) {
            evict_idle(s);
            pause_accepting(s, "the connection limit is reached");
            break;
        }
        int fd = accept_cloexec(l->fd);
        if (fd >= 0 && s->options.select_backend && fd >= FD_SETSIZE) {
            close(fd);
            fd = -1;
            errno = EMFILE;
        }
        if (fd >= 0) {
            add(s, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            const char *why = strerror(errno);
            evict_idle(s);
            pause_accepting(s, why);
            uv_timer_start(&s->retry_accept, listen_on_retry, RETRY_MS, 0);
            break;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            break;
        }
    }
    server_wake(s);
}

void listen_on_retry(uv_timer_t *timer)
{
    listen_resume(timer->data);
}

void listen_resume(struct http_server *s)
{
    bool full = s->n_conns >= s->options.max_connections && !s->idle.head && !s->resting.head;
    if (s->accepting || full || s->quiescing || s->stopping) {
        return;
    }
    s->accepting = true;
    for (int i = 0; i < s->n_listeners; i++) {
        uv_poll_start(&s->listeners[i].poll, UV_READABLE, on_connection);
    }
}

static int port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        return 0;
    }
    if (address.ss_family != AF_INET && address.ss_family != AF_INET6) {
        return 0;
    }
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

/* A listening socket, or -1 with errno. */
static int bind_one(const struct sockaddr *address, socklen_t size, int port)
{
    struct sockaddr_storage copy = {0};
    memcpy(&copy, address, size);
    int fd = socket_cloexec(address->sa_family);
    if (fd < 0) {
        return -1;
    }
    int on = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)&copy;
        six->sin6_port = htons((uint16_t)port);
        /* "::" means every address, the old ones too */
        bool any = IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &off : &on, sizeof on);
    } else {
        ((struct sockaddr_in *)&copy)->sin_port = htons((uint16_t)port);
    }
    if (bind(fd, (struct sockaddr *)&copy, size) < 0 || listen(fd, BACKLOG) < 0) {
        return close_failed(fd);
    }
    return fd;
}

/* This machine lacks that address family or address: no reason to refuse the others. */
static bool family_missing(int error)
{
    return error == EAFNOSUPPORT || error == EADDRNOTAVAIL || error == EPROTONOSUPPORT;
}

static int bind_all(struct http_server *s, const char *host, const struct addrinfo *list, int port,
                    struct err *e)
{
    int missing = 0;
    s->port = port;
    for (const struct addrinfo *a = list; a && s->n_listeners < HTTP_MAX_LISTENERS; a = a->ai_next) {
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6) {
            continue;
        }
        int fd = bind_one(a->ai_addr, a->ai_addrlen, s->port);
        if (fd < 0 && family_missing(errno)) {
            missing = errno;
            continue;
        }
        if (fd < 0) {
            return err_set(e, ERR_IO, "cannot listen on %s port %d: %s", host, s->port, strerror(errno));
        }
        s->port = s->port ? s->port : port_of(fd);
        s->listeners[s->n_listeners++] = (struct listener){.server = s, .fd = fd};
    }
    if (s->n_listeners == 0) {
        return err_set(e, ERR_IO, "cannot listen on %s port %d: %s", host, port,
                       strerror(missing ? missing : EADDRNOTAVAIL));
    }
    return 0;
}

static int resolve(const char *host, struct addrinfo **out, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    int rc = getaddrinfo(host, NULL, &hints, out);
    return rc ? err_set(e, ERR_IO, "cannot resolve %s: %s", host, gai_strerror(rc)) : 0;
}

int listen_open(struct http_server *s, const char *host, int port, struct err *e)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct addrinfo second = {.ai_family = AF_INET6, .ai_addr = (struct sockaddr *)&six,
                              .ai_addrlen = sizeof six};
    struct addrinfo loopback = {.ai_family = AF_INET, .ai_addr = (struct sockaddr *)&four,
                                .ai_addrlen = sizeof four, .ai_next = &second};
    struct addrinfo *found = NULL;
    if (port < 0 || port > 65535) {
        return err_set(e, ERR_INVALID, "port %d is not between 0 and 65535", port);
    }
    bool local = !host || !*host || !strcmp(host, "localhost");
    int rc = local ? 0 : resolve(host, &found, e);
    /* With port 0 the second address may find the first one's port taken: then another one. */
    for (int attempt = 0; rc == 0; attempt++) {
        rc = bind_all(s, local ? "localhost" : host, found ? found : &loopback, port, e);
        if (rc == 0 || port != 0 || attempt == 8) {
            break;
        }
        listen_close(s);
        rc = 0;
    }
    if (rc) {
        listen_close(s);
    }
    if (found) {
        freeaddrinfo(found);
    }
    return rc;
}

void listen_adopt(struct http_server *s, const int *sockets, int n)
{
    REQUIRE(n <= HTTP_MAX_LISTENERS);
    for (int i = 0; i < n; i++) {
        s->port = s->port ? s->port : port_of(sockets[i]);
        s->listeners[s->n_listeners++] = (struct listener){.server = s, .fd = sockets[i]};
    }
}

int listen_watch(struct http_server *s, struct err *e)
{
    for (int i = 0; i < s->n_listeners; i++) {
        struct listener *l = &s->listeners[i];
        int rc = uv_poll_init(s->loop, &l->poll, l->fd);
        if (rc < 0) {
            return err_set(e, ERR_IO, "cannot watch the listening socket: %s", uv_strerror(rc));
        }
        l->poll.data = l;
        l->watched = true;
        server_handle_opened(s);
    }
    listen_resume(s);
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    server_handle_closed(((struct listener *)handle->data)->server);
}

void listen_close(struct http_server *s)
{
    for (int i = 0; i < s->n_listeners; i++) {
        struct listener *l = &s->listeners[i];
        if (l->watched) {
            uv_close((uv_handle_t *)&l->poll, on_closed);
        }
        close(l->fd);
    }
    s->n_listeners = 0;
    s->accepting = false;
}
