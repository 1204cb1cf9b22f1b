/* A toy application behind the real HTTP server, and raw-socket clients, all on one thread: whatever
 * waits, runs the server's loop meanwhile. */
#ifndef HEARTH_TESTS_HTTP_TOY_H
#define HEARTH_TESTS_HTTP_TOY_H

#include <criterion/criterion.h>
#include <criterion/logging.h>

#include "../../../server/http/http.h"

#define TOY_MAX_HELD 512

struct held { /* a request whose answer the test gives */
    struct toy *toy;
    struct http_request *request; /* NULL: gone */
    bool finished;
    int told, drained;
};

struct toy {
    uv_loop_t loop;
    struct http_options options;
    struct http_server *server;
    struct held held[TOY_MAX_HELD]; /* /wait and /stream, in order of arrival */
    int n_held, n_handled, n_failed, n_finished, n_lost;
    int descriptors;
};

struct client {
    struct toy *toy;
    int fd;
    char *in; /* NUL-terminated */
    size_t length, capacity;
    bool closed, reset; /* by the peer; with RST */
};

/* Defaults for `t->options` may be changed before toy_start. */
void toy_init(struct toy *, bool select_backend);
void toy_start(struct toy *);
/* Stops the server and checks that nothing is left: handles, descriptors, untold requests, memory. */
void toy_stop(struct toy *);
void toy_turn(struct toy *);              /* one turn of the loop, a moment's sleep */
void toy_spin(struct toy *, int ms);
int toy_turns(struct toy *, int ms);      /* how often the loop wakes when it may sleep that long */
bool toy_expired(uint64_t *started);      /* true after 20 s; *started is 0 at first */

#define toy_until(t, condition)                                                              \
    do {                                                                                     \
        uint64_t started = 0;                                                                \
        while (!(condition) && !toy_expired(&started)) {                                     \
            toy_turn(t);                                                                     \
        }                                                                                    \
        cr_expect(condition, "never happened: %s", #condition);                              \
    } while (0)

void client_open(struct client *, struct toy *);
void client_close(struct client *);
void client_reset(struct client *); /* closes with RST */
void client_send(struct client *, const char *bytes, size_t length);
void client_say(struct client *, const char *text);
void client_poll(struct client *); /* takes what has arrived */
bool client_has(struct client *, const char *text);
/* Waits for `text`, then drops everything up to its end. */
void client_expect(struct client *, const char *text);
void client_expect_closed(struct client *);
int client_error(struct client *); /* what the socket has met: a reset may come behind the close */
/* Sends `request` over a new connection and expects an answer that begins so, and a live server. */
void toy_expect(struct toy *, const char *request, const char *answer);

/* The same test on both backends. */
#define HTTP_TEST(suite, name)                                                               \
    static void name(struct toy *);                                                          \
    Test(suite##_epoll, name)                                                                \
    {                                                                                        \
        static struct toy t;                                                                 \
        toy_init(&t, false);                                                                 \
        name(&t);                                                                            \
        toy_stop(&t);                                                                        \
    }                                                                                        \
    Test(suite##_select, name)                                                               \
    {                                                                                        \
        static struct toy t;                                                                 \
        toy_init(&t, true);                                                                  \
        name(&t);                                                                            \
        toy_stop(&t);                                                                        \
    }                                                                                        \
    static void name(struct toy *t)

#endif
