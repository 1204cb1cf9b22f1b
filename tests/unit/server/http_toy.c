#include "http_toy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define LEAK_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAK_CHECK 1
#endif
#endif
#ifdef LEAK_CHECK
#include <sanitizer/lsan_interface.h>
#endif

static int count_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 4096; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

static void on_gone(void *data, bool finished)
{
    struct held *h = data;
    h->told++;
    h->finished = finished;
    h->request = NULL;
    *(finished ? &h->toy->n_finished : &h->toy->n_lost) += 1;
}

static void on_drained(void *data)
{
    ((struct held *)data)->drained++;
}

static void echo(struct http_request *r)
{
    char text[512];
    size_t length;
    const char *body = http_body(r, &length);
    const char *query = http_query(r, "q"), *header = http_header(r, "x-test");
    snprintf(text, sizeof text, "%s %s q=%s h=%s body=%zu:%.20s\n", http_method(r), http_path(r),
             query ? query : "-", header ? header : "-", length, body);
    struct http_field fields[] = {{"Content-Type", "text/plain"}, {"X-Toy", "yes"}};
    http_respond(r, 200, fields, 2, text, strlen(text));
}

static void handle(struct http_request *r, void *user)
{
    struct toy *t = user;
    t->n_handled++;
    if (strcmp(http_path(r), "/wait") && strcmp(http_path(r), "/stream")) {
        echo(r);
        return;
    }
    cr_assert(t->n_held < TOY_MAX_HELD);
    struct held *h = &t->held[t->n_held++];
    *h = (struct held){.toy = t, .request = r};
    http_set_user(r, h, on_gone);
    cr_expect_eq(http_user(r), h);
    if (!strcmp(http_path(r), "/stream")) {
        struct http_field type = {"Content-Type", "text/event-stream"};
        http_stream_begin(r, 200, &type, 1, on_drained);
    }
}

static void fail(struct http_request *r, int status, const char *message, void *user)
{
    struct toy *t = user;
    char text[512];
    t->n_failed++;
    snprintf(text, sizeof text, "toy: %s", message);
    http_respond(r, status, NULL, 0, text, strlen(text));
}

void toy_init(struct toy *t, bool select_backend)
{
    memset(t, 0, sizeof *t);
    uv_loop_init(&t->loop); /* the first loop of a process opens descriptors that stay */
    uv_loop_close(&t->loop);
    t->descriptors = count_descriptors();
    uv_loop_init(&t->loop);
    t->options = (struct http_options){.max_body = 1 << 20, .header_seconds = 0.3, .body_seconds = 0.4,
                                       .select_backend = select_backend, .user = t, .handle = handle,
                                       .fail = fail};
}

void toy_start(struct toy *t)
{
    struct err e = {0};
    cr_assert_eq(http_server_start(&t->server, &t->loop, &t->options, &e), 0, "%s", e.text);
    cr_assert_gt(http_server_port(t->server), 0);
}

void toy_stop(struct toy *t)
{
    if (t->server) {
        http_server_stop(t->server);
    }
    uv_run(&t->loop, UV_RUN_DEFAULT);
    cr_expect_eq(uv_loop_close(&t->loop), 0, "handles are left open");
    for (int i = 0; i < t->n_held; i++) {
        cr_expect_eq(t->held[i].told, 1, "request %d was told %d times that it is gone", i, t->held[i].told);
    }
    int left = count_descriptors();
    cr_expect_eq(left, t->descriptors, "%d descriptors before, %d after", t->descriptors, left);
#ifdef LEAK_CHECK
    cr_expect_eq(__lsan_do_recoverable_leak_check(), 0, "memory leaks");
#endif
}

void toy_turn(struct toy *t)
{
    uv_run(&t->loop, UV_RUN_NOWAIT);
    usleep(100);
}

static void on_tick(uv_timer_t *tick)
{
    *(bool *)tick->data = true;
}

int toy_turns(struct toy *t, int ms)
{
    bool over = false;
    uv_timer_t tick;
    uv_timer_init(&t->loop, &tick);
    tick.data = &over;
    uv_update_time(&t->loop);
    uv_timer_start(&tick, on_tick, (uint64_t)ms, 0);
    int n = 0;
    do {
        uv_run(&t->loop, UV_RUN_ONCE);
        n++;
    } while (!over);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&t->loop, UV_RUN_NOWAIT);
    return n;
}

bool toy_expired(uint64_t *started)
{
    uint64_t now = uv_hrtime();
    *started = *started ? *started : now;
    return now - *started > 20000000000u;
}

void toy_spin(struct toy *t, int ms)
{
    for (uint64_t end = uv_hrtime() + (uint64_t)ms * 1000000; uv_hrtime() < end;) {
        toy_turn(t);
    }
}

void client_open(struct client *c, struct toy *t)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)http_server_port(t->server))};
    int on = 1;
    *c = (struct client){.toy = t, .fd = socket(AF_INET, SOCK_STREAM, 0)};
    cr_assert_geq(c->fd, 0, "socket: %s", strerror(errno));
    cr_assert_eq(connect(c->fd, (struct sockaddr *)&address, sizeof address), 0, "%s", strerror(errno));
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void client_close(struct client *c)
{
    close(c->fd);
    free(c->in);
    c->in = NULL;
}

void client_reset(struct client *c)
{
    struct linger none = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    client_close(c);
}

void client_send(struct client *c, const char *bytes, size_t length)
{
    uint64_t started = 0;
    while (length > 0 && !toy_expired(&started)) {
        ssize_t n = send(c->fd, bytes, length, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            return; /* refused: the answer tells */
        }
        bytes += n > 0 ? n : 0;
        length -= n > 0 ? (size_t)n : 0;
        if (n < 0) {
            toy_turn(c->toy);
        }
    }
}

void client_say(struct client *c, const char *text)
{
    client_send(c, text, strlen(text));
}

void client_poll(struct client *c)
{
    while (!c->closed) {
        if (c->capacity - c->length < 65537) {
            c->capacity = c->length + 131072;
            c->in = realloc(c->in, c->capacity);
            cr_assert_not_null(c->in);
        }
        ssize_t n = recv(c->fd, c->in + c->length, 65536, 0);
        if (n < 0 && errno == EAGAIN) {
            n = 0;
        } else if (n <= 0) {
            c->closed = true;
            c->reset = n < 0;
            n = 0;
        }
        c->length += (size_t)n;
        c->in[c->length] = '\0';
        if (n == 0) {
            return;
        }
    }
}

bool client_has(struct client *c, const char *text)
{
    client_poll(c);
    return strstr(c->in, text) != NULL;
}

void client_expect(struct client *c, const char *text)
{
    uint64_t started = 0;
    while (!client_has(c, text) && !c->closed && !toy_expired(&started)) {
        toy_turn(c->toy);
    }
    char *found = strstr(c->in, text);
    cr_expect(found, "expected '%s', have '%.300s'%s", text, c->in, c->reset ? " and a reset" : "");
    if (found) {
        found += strlen(text);
        c->length -= (size_t)(found - c->in);
        memmove(c->in, found, c->length + 1);
    }
}

void client_expect_closed(struct client *c)
{
    uint64_t started = 0;
    while (!c->closed && !toy_expired(&started)) {
        toy_turn(c->toy);
        client_poll(c);
    }
    cr_expect(c->closed, "the connection is still open");
}

int client_error(struct client *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
}

void toy_expect(struct toy *t, const char *request, const char *answer)
{
    struct client c;
    client_open(&c, t);
    client_say(&c, request);
    client_expect(&c, answer);
    client_close(&c);
    client_open(&c, t);
    client_say(&c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&c, "HTTP/1.1 200 OK\r\n");
    client_close(&c);
}
