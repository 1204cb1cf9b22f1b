/* HTTP/1.1 on the libuv loop, through libmicrohttpd in external mode. Everything here runs on the
 * loop's thread. Knows nothing of models or JSON. */
#ifndef HEARTH_HTTP_H
#define HEARTH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "../../kernels/err.h"

#define HTTP_MAX_LISTENERS 8

struct http_server;
struct http_request; /* lives from the first handler call until its `gone` callback has returned */

struct http_options {
    const char *host;        /* NULL or "localhost": 127.0.0.1 and ::1; else an address or name */
    int port;                /* 0: any free one, see http_server_port */
    const int *sockets;      /* [n_sockets] that listen already: taken over, instead of host and port */
    int n_sockets;
    int max_connections;     /* 0: 4,096, or what descriptors and the poller allow */
    size_t max_body;         /* bytes; 0: 32 MiB. Larger: 413 */
    double header_seconds;   /* time for the whole header; 0: 10 */
    double body_seconds;     /* longest pause inside a body; 0: 30 */
    bool select_backend;     /* uv_poll per descriptor of MHD_get_fdset2 instead of epoll */
    void *user;              /* for the callbacks */
    /* A request is complete. The handler must sooner or later call http_respond, or http_stream_*;
     * not necessarily before it returns. */
    void (*handle)(struct http_request *, void *user);
    /* Writes an error body in the API's own shape for errors that arise here (400, 404, 405, 413,
     * 431, 500, 503): calls http_respond. */
    void (*fail)(struct http_request *, int status, const char *message, void *user);
};

int http_server_start(struct http_server **out, uv_loop_t *, const struct http_options *, struct err *) WARN_UNUSED;
int http_server_port(const struct http_server *);
int http_server_connections(const struct http_server *);
int http_server_requests(const struct http_server *); /* that have begun to come in and are not answered */
/* Accepts no more connections; those that exist go on, closing after their answer. */
void http_server_quiesce(struct http_server *);
/* Cuts what is left and frees everything; `gone` is called for every open request. The loop must
 * be run once more (uv_run) for its handles to close. */
void http_server_stop(struct http_server *);

/* The request; strings live as long as it does. */
const char *http_method(const struct http_request *);
const char *http_path(const struct http_request *);   /* percent-decoded, without the query */
const char *http_header(const struct http_request *, const char *name); /* NULL: absent; case-insensitive */
const char *http_query(const struct http_request *, const char *name);  /* NULL: absent */
const char *http_body(const struct http_request *, size_t *length);     /* NUL-terminated */

/* The handler's own data. `gone` is called exactly once, when the answer is complete or the client
 * has gone, whichever is first: finished tells which. After it the request must not be used. A client
 * that closes only its own direction while its answer is being made has gone too. */
void http_set_user(struct http_request *, void *data, void (*gone)(void *data, bool finished));
void *http_user(const struct http_request *);

struct http_field {
    const char *name, *value;
};
/* Answers with a whole body (copied). A HEAD request gets the headers only. */
void http_respond(struct http_request *, int status, const struct http_field *fields, size_t n_fields,
                  const void *body, size_t length);

/* Answers piece by piece (chunked). Begin sends the headers. Each write is one packet where
 * possible. `drained` (may be NULL) is called on the loop each time everything written has been
 * handed to the socket. Writes to a request whose client is gone are ignored. */
void http_stream_begin(struct http_request *, int status, const struct http_field *fields, size_t n_fields,
                       void (*drained)(void *data));
void http_stream_write(struct http_request *, const void *bytes, size_t length);
size_t http_stream_pending(const struct http_request *); /* bytes written and not yet handed over */
void http_stream_end(struct http_request *);

#endif
