/* What the files of server/http/ share: the server, its connections and their requests.
 *
 * server.c runs the loop's side of libmicrohttpd, listen.c accepts, connection.c holds deadlines and
 * watches, linger.c closes politely, request.c takes requests in, uri.c decodes, response.c answers. */
#ifndef HEARTH_HTTP_INTERNAL_H
#define HEARTH_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <stdint.h>
#include <sys/types.h>

#include "http.h"

#define HTTP_MAX_LINGERING 64

/* Connections in the order in which they entered the list, so the first is the first to expire. */
struct conn_list {
    struct conn *head, *tail;
};

/* One accepted socket. Owned by the server from NOTIFY_STARTED to NOTIFY_CLOSED; the memory then
 * waits for its poll handle to close. */
struct conn {
    struct http_server *server;
    struct http_request *request; /* the one in progress, or NULL */
    struct MHD_Connection *mhd;
    int fd;
    bool cut;                     /* shut down by us: nothing more happens here */
    bool linger;                  /* the client may still be sending when this closes */
    uv_poll_t poll;               /* the only handle of this descriptor, for both purposes below */
    bool poll_open;
    bool watched;                 /* a request waits: notice a client that leaves */
    bool pipelined;               /* bytes of a next request lie unread: readability says nothing */
    int mhd_events;               /* what libmicrohttpd waits for (select backend only) */
    int polled;                   /* what the handle is started with */
    struct conn_list *list;       /* one of the server's six, or NULL */
    struct conn *prev, *next;     /* in that list */
    struct conn *all_prev, *all_next;
    uint64_t since;               /* ms, when it entered the list */
    int unsent;                   /* bytes in the kernel's send queue at the last look */
};

struct listener {
    struct http_server *server;
    uv_poll_t poll;
    int fd;
    bool watched;
};

struct lingerer {
    struct http_server *server;
    uv_poll_t poll;
    uv_timer_t timer;
    int fd, open_handles;
    size_t left; /* bytes that are still read and dropped */
    struct lingerer *prev, *next;
};

struct http_server {
    struct http_options options; /* defaults filled in; host is not kept */
    uv_loop_t *loop;
    struct MHD_Daemon *daemon;
    struct listener listeners[HTTP_MAX_LISTENERS];
    int n_listeners, port;
    bool accepting, quiescing, stopping;
    int busy;               /* inside MHD_run or a handler's callback: stopping has to wait */
    bool again, stop_wanted; /* run once more; stop when no longer busy */
    uv_poll_t epoll;         /* the daemon's epoll descriptor */
    bool epoll_open;
    uv_idle_t wake;          /* runs libmicrohttpd at the loop's next turn */
    uv_timer_t deadline, retry_accept;
    uint64_t deadline_due;   /* ms; 0: not armed */
    uint64_t warned;         /* ms, the last warning about accepting */
    int open_handles;
    struct conn *conns, *arriving;    /* all; the one between accept and NOTIFY_STARTED */
    int n_conns, n_cut;
    struct conn_list header, sending;       /* each with its deadline */
    struct conn_list body, stalled;         /* inside a body: a moment since its last bytes, and longer */
    struct conn_list resting, idle;         /* between requests: likewise */
    struct lingerer *lingerers;
    int n_lingerers;
    uint64_t header_ms, body_ms;
    size_t body_held, body_budget; /* bytes of all bodies in memory, and their bound */
};

enum request_phase {
    REQUEST_HEADER,  /* the request line is there */
    REQUEST_BODY,
    REQUEST_HANDLED, /* the handler has it; no answer yet */
    REQUEST_ANSWERED /* an answer is queued with libmicrohttpd */
};

struct bytes {
    char *data;
    size_t first, length, capacity; /* the live bytes are data[first .. first+length) */
};

/* Owned by libmicrohttpd's request context: made with the request line, freed by NOTIFY_COMPLETED. */
struct http_request {
    struct conn *conn;
    struct MHD_Connection *mhd;
    enum request_phase phase;
    const char *method;
    char *uri;                /* decoded in place; path and query point into it */
    const char *path;
    struct http_field *query;
    size_t n_query;
    struct bytes body;
    size_t body_counted;      /* this request's share of server->body_held */
    int body_status;          /* 0, or why the body was dropped: 413, 503 */
    uint64_t body_dropped;
    struct MHD_Response *response; /* made, not yet queued */
    unsigned status;
    bool suspended, lost, told;    /* lost: no answer possible any more; told: `gone` was called */
    bool streaming, ended, undrained;
    struct bytes out;
    size_t in_flight;              /* bytes libmicrohttpd took last and has not finished with */
    void (*drained)(void *data);
    void *user;
    void (*gone)(void *data, bool finished);
};

/* server.c */
void server_wake(struct http_server *);
void server_handle_opened(struct http_server *);
void server_handle_closed(struct http_server *); /* may free the server */

/* listen.c */
int listen_open(struct http_server *, const char *host, int port, struct err *) WARN_UNUSED;
void listen_adopt(struct http_server *, const int *sockets, int n);
int listen_watch(struct http_server *, struct err *) WARN_UNUSED;
void listen_close(struct http_server *);
void listen_resume(struct http_server *);
void listen_on_retry(uv_timer_t *);

/* connection.c */
struct conn *conn_new(struct http_server *, int fd);
void conn_started(struct conn *, struct MHD_Connection *);
void conn_closed(struct conn *);
void conn_list_move(struct conn *, struct conn_list *to); /* NULL: no deadline */
void conn_watch(struct conn *, bool on);
void conn_want(struct conn *, int mhd_events);
void conn_cut(struct conn *);
void conn_rest(struct conn *);   /* its request is complete */
void conn_finish(struct conn *); /* what was answered still reaches the client */
void conn_on_deadline(uv_timer_t *);

/* linger.c */
void linger_start(struct http_server *, int fd);
void linger_stop_all(struct http_server *);

/* request.c */
void *request_on_uri(void *cls, const char *uri, struct MHD_Connection *);
enum MHD_Result request_on_access(void *cls, struct MHD_Connection *, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **context);
void request_on_completed(void *cls, struct MHD_Connection *, void **context,
                          enum MHD_RequestTerminationCode);
void request_lose(struct http_request *);
void request_suspend(struct http_request *);
void request_resume(struct http_request *);

/* response.c */
enum MHD_Result response_queue(struct http_request *) WARN_UNUSED;
void response_plain(struct http_request *, int status, const char *message);

/* uri.c */
int uri_parse(struct http_request *, struct err *) WARN_UNUSED;

#endif
