/* Requests on their way in, well formed and hostile. The numbers are those of the list of hostile
 * inputs that every server has to survive. */
#include "http_toy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST "Host: x\r\n"

HTTP_TEST(http_requests, answers_and_keeps_alive)
{
    toy_start(t);
    struct client c;
    client_open(&c, t);
    for (int i = 0; i < 3; i++) {
        client_say(&c, "GET /a%20b/%C3%A4?q=1%2B1+2&z HTTP/1.1\r\n" HOST "X-Test: yes\r\n\r\n");
        client_expect(&c, "HTTP/1.1 200 OK\r\n");
        client_expect(&c, "X-Toy: yes\r\n");
        client_expect(&c, "\r\n\r\nGET /a b/\xc3\xa4 q=1+1 2 h=yes body=0:\n");
    }
    toy_spin(t, 500); /* longer than the header deadline: a connection may idle */
    client_say(&c, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    client_expect(&c, "body=5:hello\n");
    client_say(&c, "POST /x HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n");
    client_expect(&c, "body=5:hello\n");
    client_say(&c, "GET http://example.org/abs?q=2 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    client_expect(&c, "Connection: close\r\n");
    client_expect(&c, "GET /abs q=2 ");
    client_expect_closed(&c);
    client_close(&c);
}

HTTP_TEST(http_requests, head_has_no_body)
{
    toy_start(t);
    struct client c;
    client_open(&c, t);
    client_say(&c, "HEAD /x HTTP/1.1\r\n" HOST "\r\nHEAD /stream HTTP/1.1\r\n" HOST "\r\nGET /y HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, "Content-Length: 24\r\n\r\nHTTP/1.1 200 OK\r\n");
    client_expect(&c, "\r\n\r\nHTTP/1.1 200 OK\r\n");
    client_expect(&c, "GET /y ");
    cr_expect(t->held[0].finished);
    client_close(&c);
}

HTTP_TEST(http_requests, http_1_0)
{
    toy_start(t);
    struct client c;
    client_open(&c, t);
    client_say(&c, "GET /stream HTTP/1.0\r\n\r\n");
    toy_until(t, t->n_held == 1);
    http_stream_write(t->held[0].request, "one\n", 4);
    client_expect(&c, "\r\n\r\none\n");
    http_stream_write(t->held[0].request, "two\n", 4);
    http_stream_end(t->held[0].request);
    client_expect(&c, "two\n");
    client_expect_closed(&c);
    cr_expect(t->held[0].finished);
    client_close(&c);
}

HTTP_TEST(http_requests, slow_header_1)
{
    toy_start(t);
    struct client slow, later, idle;
    client_open(&slow, t);
    client_open(&idle, t);
    client_open(&later, t);
    client_say(&later, "GET /a HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&later, "200 OK");
    client_say(&later, "GET /b HTTP/1.1\r\n");
    uint64_t started = 0;
    while (!(slow.closed && idle.closed && later.closed) && !toy_expired(&started)) {
        client_say(&slow, "X"); /* every byte would start the library's own timeout again */
        client_say(&later, "Y");
        toy_spin(t, 20);
        client_poll(&slow);
        client_poll(&idle);
        client_poll(&later);
    }
    cr_expect(slow.closed && idle.closed && later.closed);
    cr_expect_lt(uv_hrtime() - started, 10000000000u); /* the deadline is 0.3 s; machines are busy */
    cr_expect_eq(t->n_handled, 1);
    client_close(&slow);
    client_close(&idle);
    client_close(&later);
}

HTTP_TEST(http_requests, slow_body_2)
{
    toy_start(t);
    struct client slow, steady;
    client_open(&slow, t);
    client_open(&steady, t);
    client_say(&slow, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\nabc");
    client_say(&steady, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 12\r\n\r\n");
    for (int i = 0; i < 12; i++) { /* slower than the limit in all, never pausing that long */
        toy_spin(t, 60);
        client_say(&steady, "x");
    }
    client_expect(&steady, "body=12:");
    client_expect_closed(&slow);
    cr_expect_eq(t->n_handled, 1);
    client_close(&slow);
    client_close(&steady);
}

HTTP_TEST(http_requests, large_headers_3_4_5)
{
    toy_start(t);
    struct client c;
    size_t size = 256 * 1024;
    char *text = malloc(size);
    cr_assert_not_null(text);
    for (int kind = 3; kind <= 5; kind++) {
        memset(text, 'a', size);
        int n = snprintf(text, size, kind == 5 ? "GET /" : "GET /x HTTP/1.1\r\n" HOST);
        text[n] = 'a';
        if (kind == 3) {
            memcpy(text + n, "X-Large: ", 9);
        }
        for (int i = 0; kind == 4 && i < 10000; i++) {
            n += snprintf(text + n, size - (size_t)n, "X-%d: %d\r\n", i, i);
        }
        client_open(&c, t);
        client_send(&c, text, kind == 4 ? (size_t)n : 128 * 1024);
        client_expect(&c, kind == 5 ? "HTTP/1.1 414 " : "HTTP/1.1 431 ");
        client_expect_closed(&c);
        client_close(&c);
    }
    free(text);
    cr_expect_eq(t->n_handled, 0);
    toy_expect(t, "GET /ok HTTP/1.1\r\n" HOST "\r\n", "200 OK");
}

HTTP_TEST(http_requests, ambiguous_framing_6_7)
{
    static const char *const headers[] = {
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: \r\n",
        "Content-Length : 3\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Host: y\r\n",
    };
    toy_start(t);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        char text[256];
        struct client c;
        snprintf(text, sizeof text, "POST /x HTTP/1.1\r\n" HOST "%s\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n" HOST "\r\n",
                 headers[i]);
        client_open(&c, t);
        client_say(&c, text);
        client_expect(&c, "HTTP/1.1 400 ");
        client_expect_closed(&c);
        cr_expect(!c.reset && !strstr(c.in, "smuggled"), "%s", headers[i]);
        client_close(&c);
    }
    cr_expect_eq(t->n_handled, 0);
    toy_expect(t, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551615\r\n\r\n", "HTTP/1.1 413 ");
    toy_expect(t, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999999\r\n\r\n", "HTTP/1.1 413 ");
    toy_expect(t, "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", " 400 ");
}

HTTP_TEST(http_requests, bad_chunks_8)
{
    static const char *const bodies[] = {"xyz\r\nabc\r\n0\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n", "\r\n\r\n",
                                         "3\r\nabcdef\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n"};
    static const char header[] = "POST /x HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n";
    char text[256];
    toy_start(t);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        snprintf(text, sizeof text, "%s%s", header, bodies[i]);
        toy_expect(t, text, "HTTP/1.1 400 ");
    }
    snprintf(text, sizeof text, "%sfffffffffffffffff\r\nabc", header);
    toy_expect(t, text, "HTTP/1.1 413 ");
    struct client c;
    client_open(&c, t); /* a chunk that never ends */
    snprintf(text, sizeof text, "%sffffffffffffffff\r\nabc", header);
    client_say(&c, text);
    client_expect_closed(&c);
    client_close(&c);
}

HTTP_TEST(http_requests, truncated_body_9)
{
    toy_start(t);
    struct client c;
    client_open(&c, t);
    client_say(&c, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\nabc");
    toy_spin(t, 20);
    shutdown(c.fd, SHUT_WR);
    client_expect_closed(&c);
    client_close(&c);
    cr_expect_eq(t->n_handled, 0);
}

HTTP_TEST(http_requests, expect_continue_10)
{
    toy_start(t);
    struct client c, silent;
    client_open(&c, t);
    client_open(&silent, t);
    client_say(&c, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    client_say(&silent, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    client_expect(&c, "HTTP/1.1 100 Continue\r\n\r\n");
    client_say(&c, "hello");
    client_expect(&c, "body=5:hello");
    client_expect_closed(&silent);
    client_close(&c);
    client_close(&silent);
    toy_expect(t, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 5000000\r\nExpect: 100-continue\r\n\r\n",
               "HTTP/1.1 413 ");
}

HTTP_TEST(http_requests, pipelining_11)
{
    toy_start(t);
    struct client c;
    client_open(&c, t);
    client_say(&c, "GET /1 HTTP/1.1\r\n" HOST "\r\nPOST /2 HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi"
                   "GET /wait HTTP/1.1\r\n" HOST "\r\nGET /stream HTTP/1.1\r\n" HOST "\r\nGET /5 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, "GET /1 ");
    client_expect(&c, "body=2:hi\n");
    toy_until(t, t->n_held == 1);
    client_say(&c, "GET /6 HTTP/1.1\r\n" HOST "\r\n"); /* unread while the third waits: must not spin */
    toy_spin(t, 20);
    cr_expect_lt(toy_turns(t, 50), 10);
    http_respond(t->held[0].request, 200, NULL, 0, "three", 5);
    client_expect(&c, "\r\n\r\nthree");
    toy_until(t, t->n_held == 2);
    http_stream_write(t->held[1].request, "four", 4);
    http_stream_end(t->held[1].request);
    client_expect(&c, "4\r\nfour\r\n0\r\n\r\n");
    client_expect(&c, "GET /5 ");
    client_expect(&c, "GET /6 ");
    client_close(&c);
}

HTTP_TEST(http_requests, targets)
{
    static const char *const bad[] = {"/a%00b", "/a%zz", "/a%4", "/%", "/a%0ab", "x", "/a b", "/a?q=%00",
                                      "/a?%zz", "ftp://x/"};
    toy_start(t);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[128];
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n" HOST "\r\n", bad[i]);
        toy_expect(t, text, "HTTP/1.1 400 ");
    }
    cr_expect_eq(t->n_failed, (int)(sizeof bad / sizeof *bad));
    toy_expect(t, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS * ");
    toy_expect(t, "GET http://example.org HTTP/1.1\r\n" HOST "\r\n", "GET / ");
    toy_expect(t, "GET /?&&q=&=1 HTTP/1.1\r\n" HOST "\r\n", "GET / q= ");
    toy_expect(t, "\r\n\r\nGET /y HTTP/1.1\r\n" HOST "\r\n", "GET /y ");
}

/* 15: what a method or type means is the application's business, but it must reach it. */
HTTP_TEST(http_requests, any_method_15)
{
    toy_start(t);
    toy_expect(t, "BREW /pot HTTP/1.1\r\n" HOST "\r\n", "BREW /pot ");
    toy_expect(t, "DELETE /x HTTP/1.1\r\n" HOST "Content-Type: \xff\r\n\r\n", "DELETE /x ");
    toy_expect(t, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", " 505 ");
    struct client c;
    static const char noise[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\n\n\r\n\0\0\0";
    client_open(&c, t); /* TLS to a plain port */
    client_send(&c, noise, sizeof noise);
    client_expect_closed(&c);
    client_close(&c);
}

HTTP_TEST(http_requests, large_bodies)
{
    toy_start(t);
    struct client c;
    size_t size = 3 << 20;
    char *text = malloc(size), header[128];
    cr_assert_not_null(text);
    memset(text, 'x', size);
    client_open(&c, t);
    client_say(&c, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 1048576\r\n\r\n");
    client_send(&c, text, 1 << 20);
    client_expect(&c, "body=1048576:xxx");
    client_say(&c, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 3145728\r\n\r\n");
    client_send(&c, text, size); /* sent regardless: the answer must arrive, not a reset */
    client_expect(&c, "HTTP/1.1 413 ");
    client_expect(&c, "toy: ");
    client_expect_closed(&c);
    toy_spin(t, 20);
    cr_expect(!c.reset && client_error(&c) == 0);
    client_close(&c);
    for (int chunks = 1; chunks <= 2; chunks++) { /* too much without saying so, a little or by far */
        client_open(&c, t);
        client_say(&c, "POST /x HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
        snprintf(header, sizeof header, "%x\r\n", (1 << 20) + 1);
        for (int i = 0; i < 3 * chunks - 2; i++) {
            client_say(&c, header);
            client_send(&c, text, (1 << 20) + 1);
            client_say(&c, "\r\n");
        }
        client_say(&c, "0\r\n\r\n");
        if (chunks == 1) {
            client_expect(&c, "HTTP/1.1 413 ");
        } else {
            client_expect_closed(&c);
        }
        client_close(&c);
    }
    free(text);
    cr_expect_eq(t->n_handled, 1);
}

static int count_refused(struct client *c, int n)
{
    int refused = 0;
    for (int i = 0; i < n; i++) {
        refused += client_has(&c[i], "HTTP/1.1 503 ");
    }
    return refused;
}

/* Bodies of many connections together are bounded too. */
HTTP_TEST(http_requests, bodies_share_a_budget)
{
    t->options.header_seconds = t->options.body_seconds = 30;
    toy_start(t);
    struct client c[12];
    static char text[1000000];
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 12; i++) {
        client_open(&c[i], t);
        client_say(&c[i], "POST /x HTTP/1.1\r\n" HOST "Content-Length: 1000001\r\n\r\n");
        client_send(&c[i], text, sizeof text);
        toy_spin(t, 10);
    }
    toy_until(t, count_refused(c, 12) >= 1);
    int refused = count_refused(c, 12);
    for (int i = 0; i < 12; i++) {
        client_close(&c[i]);
    }
    cr_expect(refused <= 4, "%d were refused", refused);
    toy_until(t, http_server_connections(t->server) == 0);
    toy_expect(t, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi", "body=2:hi");
}

static bool connects(const char *address, int port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET6, address, &six.sin6_addr) != 1) {
        return false;
    }
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&six, sizeof six) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

HTTP_TEST(http_requests, listening)
{
    toy_start(t);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    bool has_six = probe >= 0 && bind(probe, (struct sockaddr *)&six, sizeof six) == 0;
    if (probe >= 0) {
        close(probe);
    }
    cr_expect_eq(connects("::1", http_server_port(t->server)), has_six);

    struct http_server *second = NULL;
    struct err e = {0};
    struct http_options options = t->options;
    options.port = http_server_port(t->server);
    cr_expect_eq(http_server_start(&second, &t->loop, &options, &e), ERR_IO);
    cr_expect(strstr(e.text, "in use"), "%s", e.text);
    cr_expect_null(second);
    options.host = "no such host";
    cr_expect_eq(http_server_start(&second, &t->loop, &options, &e), ERR_IO);
    options.host = NULL;
    options.port = 70000;
    cr_expect_eq(http_server_start(&second, &t->loop, &options, &e), ERR_INVALID);
    options.host = "127.0.0.1";
    options.port = 0;
    cr_assert_eq(http_server_start(&second, &t->loop, &options, &e), 0, "%s", e.text);
    cr_expect_neq(http_server_port(second), http_server_port(t->server));
    http_server_stop(second);
    toy_spin(t, 20);
}

/* 73: a child process of the server inherits nothing. */
HTTP_TEST(http_requests, descriptors_close_on_exec_73)
{
    struct client c;
    bool before[256];
    for (int fd = 0; fd < 256; fd++) {
        before[fd] = fcntl(fd, F_GETFD) >= 0;
    }
    toy_start(t);
    client_open(&c, t);
    client_say(&c, "GET /x HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, "200 OK");
    int opened = 0;
    for (int fd = 0; fd < 256; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0 && !before[fd] && fd != c.fd) {
            opened++;
            cr_expect(flags & FD_CLOEXEC, "descriptor %d would be inherited", fd);
        }
    }
    cr_expect_geq(opened, 2); /* a listening socket and an accepted one at least */
    client_close(&c);
}
