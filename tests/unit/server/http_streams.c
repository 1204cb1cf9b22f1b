/* Streams, clients that leave in every phase, floods, and stopping. */
#include "http_toy.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define STREAM "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
#define WAIT "POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"

HTTP_TEST(http_streams, each_write_is_one_chunk)
{
    toy_start(t);
    struct client c;
    client_open(&c, t);
    client_say(&c, STREAM);
    client_expect(&c, "Transfer-Encoding: chunked\r\n\r\n");
    struct held *h = &t->held[0];
    for (int i = 0; i < 5; i++) {
        char text[32], chunk[64];
        snprintf(text, sizeof text, "data: %d\n\n", i);
        snprintf(chunk, sizeof chunk, "9\r\n%s\r\n", text);
        http_stream_write(h->request, text, strlen(text));
        cr_expect_eq(http_stream_pending(h->request), 9);
        client_expect(&c, chunk);
        toy_until(t, h->drained == i + 1);
        cr_expect_eq(http_stream_pending(h->request), 0);
    }
    http_stream_write(h->request, "a", 1);
    http_stream_write(h->request, "", 0);
    http_stream_write(h->request, "b", 1);
    http_stream_end(h->request);
    http_stream_write(h->request, "c", 1);
    client_expect(&c, "2\r\nab\r\n0\r\n\r\n");
    toy_until(t, h->told == 1);
    cr_expect(h->finished);
    client_say(&c, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&c, "GET /next ");
    client_close(&c);
}

HTTP_TEST(http_streams, megabytes)
{
    toy_start(t);
    struct client c;
    size_t size = 5 << 20, got = 0;
    char *bytes = malloc(size);
    cr_assert_not_null(bytes);
    memset(bytes, 'x', size);
    client_open(&c, t);
    client_say(&c, STREAM);
    client_expect(&c, "\r\n\r\n");
    http_stream_write(t->held[0].request, bytes, size / 2);
    http_stream_write(t->held[0].request, bytes, size - size / 2);
    http_stream_end(t->held[0].request);
    toy_until(t, client_has(&c, "\r\n0\r\n\r\n"));
    for (size_t i = 0; i < c.length; i++) {
        got += c.in[i] == 'x';
    }
    cr_expect_eq(got, size);
    free(bytes);
    client_close(&c);
}

/* A client that leaves must be noticed whatever its request is doing; 13 and 14. Its connection goes although
 * an older one stays: libmicrohttpd looks for dead ones from the oldest on. */
HTTP_TEST(http_streams, clients_that_leave)
{
    enum { WAITING, BEGUN, AFTER_A_TOKEN, PIPELINED, PHASES };
    static void (*const leave[])(struct client *) = {client_close, client_reset};
    struct client older;
    toy_start(t);
    client_open(&older, t);
    client_say(&older, "GET /older HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&older, "200 OK");
    for (int phase = 0; phase < PHASES; phase++) {
        for (int how = 0; how < 2; how++) {
            struct client c;
            int n = t->n_held;
            client_open(&c, t);
            client_say(&c, phase == WAITING || phase == PIPELINED ? WAIT : STREAM);
            toy_until(t, t->n_held == n + 1);
            struct held *h = &t->held[n];
            if (phase == AFTER_A_TOKEN) {
                http_stream_write(h->request, "token", 5);
                client_expect(&c, "token");
            }
            if (phase == PIPELINED) {
                client_say(&c, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
            }
            toy_spin(t, 10);
            cr_expect_eq(h->told, 0);
            leave[how](&c);
            toy_until(t, h->told == 1);
            cr_expect(!h->finished, "phase %d, way %d", phase, how);
            toy_until(t, http_server_connections(t->server) == 1);
            cr_expect_lt(toy_turns(t, 50), 5, "phase %d, way %d", phase, how);
        }
    }
    client_close(&older);
    toy_until(t, http_server_connections(t->server) == 0);
    toy_expect(t, "GET /ok HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK");
}

HTTP_TEST(http_streams, half_close_14)
{
    toy_start(t);
    struct client c;
    client_open(&c, t); /* what is ready at once still arrives */
    client_say(&c, "GET /quick HTTP/1.1\r\nHost: x\r\n\r\n");
    shutdown(c.fd, SHUT_WR);
    client_expect(&c, "GET /quick ");
    client_expect_closed(&c);
    client_close(&c);
    client_open(&c, t); /* what has to be waited for counts as abandoned */
    client_say(&c, STREAM);
    toy_until(t, t->n_held == 1);
    shutdown(c.fd, SHUT_WR);
    client_expect_closed(&c);
    client_close(&c);
    cr_expect_eq(t->n_lost, 1);
}

/* 12, and back-pressure: a reader that only pauses goes on, one that takes nothing is cut. */
HTTP_TEST(http_streams, client_never_reads_12)
{
    t->options.body_seconds = 0.3;
    toy_start(t);
    struct client never, leaves;
    static char bytes[1 << 20];
    int small = 4096;
    struct client *both[] = {&never, &leaves};
    for (int i = 0; i < 2; i++) {
        client_open(both[i], t);
        setsockopt(both[i]->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        client_say(both[i], STREAM);
        toy_until(t, t->n_held == i + 1);
        for (int j = 0; j < 16; j++) {
            http_stream_write(t->held[i].request, bytes, sizeof bytes);
        }
    }
    toy_spin(t, 50);
    cr_expect_gt(http_stream_pending(t->held[0].request), 0);
    cr_expect_eq(t->held[0].drained, 0);
    client_close(&leaves);
    toy_until(t, t->held[1].told == 1);
    toy_until(t, t->held[0].told == 1);
    cr_expect_eq(t->n_lost, 2);
    client_close(&never);
}

HTTP_TEST(http_streams, slow_reader_is_not_cut)
{
    t->options.body_seconds = 0.2;
    toy_start(t);
    struct client c;
    static char bytes[8 << 20];
    int small = 65536;
    memset(bytes, 'x', sizeof bytes);
    client_open(&c, t);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    client_say(&c, STREAM);
    toy_until(t, t->n_held == 1);
    http_stream_write(t->held[0].request, bytes, sizeof bytes);
    http_stream_end(t->held[0].request);
    char piece[65536];
    for (int i = 0; i < 10; i++) { /* far slower than the buffers empty */
        toy_spin(t, 70);
        cr_expect_gt(recv(c.fd, piece, sizeof piece, 0), 0);
    }
    cr_expect_eq(t->held[0].told, 0);
    client_expect(&c, "\r\n0\r\n\r\n");
    cr_expect_eq(t->n_finished, 1);
    client_close(&c);
}

HTTP_TEST(http_streams, three_hundred_at_once)
{
    enum { N = 300 };
    toy_start(t);
    static struct client c[N];
    for (int i = 0; i < N; i++) {
        client_open(&c[i], t);
        client_say(&c[i], STREAM);
        if (i % 32 == 0) {
            toy_turn(t);
        }
    }
    toy_until(t, t->n_held == N);
    cr_expect_eq(http_server_connections(t->server), N);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            http_stream_write(t->held[i].request, "token\n", 6);
        }
        for (int i = 0; i < N; i++) {
            client_expect(&c[i], "6\r\ntoken\n\r\n");
        }
    }
    for (int i = 0; i < N; i++) {
        i % 3 == 0 ? client_close(&c[i]) : i % 3 == 1 ? client_reset(&c[i]) : http_stream_end(t->held[i].request);
    }
    toy_until(t, t->n_finished + t->n_lost == N);
    cr_expect_eq(t->n_finished, N / 3);
    for (int i = 2; i < N; i += 3) {
        client_expect(&c[i], "0\r\n\r\n");
        client_close(&c[i]);
    }
}

/* Streams that wait arm no timer and cost no turns of the loop. */
HTTP_TEST(http_streams, waiting_is_free)
{
    toy_start(t);
    struct client c[40];
    for (int i = 0; i < 40; i++) {
        client_open(&c[i], t);
        client_say(&c[i], STREAM);
    }
    toy_until(t, t->n_held == 40);
    toy_spin(t, 500); /* deadlines of the headers pass */
    cr_expect_eq(uv_backend_timeout(&t->loop), -1);
    cr_expect_lt(toy_turns(t, 50), 5);
    cr_expect_eq(t->n_lost, 0);
    for (int i = 0; i < 40; i++) {
        client_close(&c[i]);
    }
}

HTTP_TEST(http_streams, connection_flood_16)
{
    enum { LIMIT = 8, N = 40 };
    t->options.max_connections = LIMIT;
    toy_start(t);
    static struct client c[N];
    for (int i = 0; i < N; i++) {
        client_open(&c[i], t);
    }
    toy_spin(t, 50);
    cr_expect_eq(http_server_connections(t->server), LIMIT);
    for (int i = 0; i < N; i++) { /* they wait, silent ones are dropped, all get their turn */
        client_say(&c[i], "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
        client_expect(&c[i], "200 OK"); /* then idle: gives way to the next */
    }
    for (int i = 0; i < N; i++) {
        client_close(&c[i]);
    }
}

HTTP_TEST(http_streams, descriptors_run_out_61)
{
    toy_start(t);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    cr_expect(limit.rlim_cur == limit.rlim_max || limit.rlim_cur >= 10240, "the soft limit was not raised");
    static struct client c[24];
    for (int i = 0; i < 24; i++) {
        client_open(&c[i], t);
    }
    struct rlimit tight = limit;
    tight.rlim_cur = (rlim_t)c[23].fd + 1 + 8; /* for eight accepted sockets */
    setrlimit(RLIMIT_NOFILE, &tight);
    toy_spin(t, 30);
    int turns = toy_turns(t, 100);
    cr_expect_lt(turns, 30, "%d turns in 100 ms", turns);
    setrlimit(RLIMIT_NOFILE, &limit);
    toy_expect(t, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK");
    for (int i = 0; i < 24; i++) {
        client_close(&c[i]);
    }
}

HTTP_TEST(http_streams, quiesce_lets_answers_finish)
{
    toy_start(t);
    struct client waits, streams, idle;
    client_open(&idle, t);
    client_say(&idle, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&idle, "200 OK");
    client_open(&waits, t);
    client_say(&waits, WAIT);
    toy_until(t, t->n_held == 1);
    client_open(&streams, t);
    client_say(&streams, STREAM);
    toy_until(t, t->n_held == 2);
    http_server_quiesce(t->server);
    http_server_quiesce(t->server);
    client_expect_closed(&idle);
    http_respond(t->held[0].request, 200, NULL, 0, "answer", 6);
    client_expect(&waits, "Connection: close\r\n");
    client_expect(&waits, "answer");
    client_expect_closed(&waits);
    http_stream_write(t->held[1].request, "last", 4);
    http_stream_end(t->held[1].request);
    client_expect(&streams, "last\r\n0\r\n\r\n");
    client_expect_closed(&streams);
    cr_expect_eq(t->n_finished, 2);
    toy_until(t, http_server_connections(t->server) == 0);
    client_close(&idle);
    client_close(&waits);
    client_close(&streams);
}

HTTP_TEST(http_streams, stop_with_everything_open)
{
    toy_start(t);
    struct client c[30];
    static char bytes[8 << 20];
    for (int i = 0; i < 30; i++) {
        static const char *const said[] = {WAIT, STREAM, STREAM, "POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
                                           "GET /half", ""};
        client_open(&c[i], t);
        client_say(&c[i], said[i % 6]);
    }
    toy_until(t, t->n_held == 15);
    for (int i = 0; i < 15; i++) {
        if (i % 3 == 2) { /* some are blocked on a full socket */
            http_stream_write(t->held[i].request, bytes, sizeof bytes);
        }
    }
    toy_spin(t, 30);
    http_server_stop(t->server);
    t->server = NULL;
    uv_run(&t->loop, UV_RUN_DEFAULT);
    cr_expect_eq(t->n_lost, 15);
    for (int i = 0; i < 30; i++) {
        client_close(&c[i]);
    }
}

static void stop_on_gone(void *data, bool finished)
{
    struct held *h = data;
    h->told++;
    h->finished = finished;
    http_server_stop(h->toy->server);
    h->toy->server = NULL;
}

static void stop_inside(struct toy *t, bool client_leaves)
{
    toy_start(t);
    struct client c, other;
    client_open(&other, t);
    client_say(&other, WAIT);
    toy_until(t, t->n_held == 1);
    client_open(&c, t);
    client_say(&c, WAIT);
    toy_until(t, t->n_held == 2);
    http_set_user(t->held[1].request, &t->held[1], stop_on_gone);
    if (client_leaves) {
        shutdown(c.fd, SHUT_RDWR);
    } else {
        http_respond(t->held[1].request, 200, NULL, 0, "x", 1);
    }
    toy_until(t, t->held[0].told == 1);
    cr_expect_eq(t->held[1].finished, !client_leaves);
    client_close(&c);
    client_close(&other);
}

HTTP_TEST(http_streams, stop_when_an_answer_is_complete)
{
    stop_inside(t, false);
}

HTTP_TEST(http_streams, stop_when_a_client_leaves)
{
    stop_inside(t, true);
}
