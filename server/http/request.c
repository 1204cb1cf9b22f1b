/* Requests on their way in: checks of the header that libmicrohttpd leaves to us, the body with its
 * bound, and the handler's call. libmicrohttpd calls request_on_access once with the header, then for
 * each piece of the body, then at the end of the request, and there again after each resume. */
#include "internal.h"

#include <string.h>
#include <strings.h>

#define FIRST_BODY_BYTES ((size_t)4096)
#define DROPPED_BYTES ((size_t)1 << 20) /* of a body that is too large, whatever the limit */

struct header_scan {
    int lengths, encodings, hosts;
    const char *length, *encoding;
    bool bad_name;
};

static struct conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

void *request_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct http_server *s = cls;
    struct conn *c = conn_of(mhd);
    struct http_request *r = c ? calloc(1, sizeof *r) : NULL;
    if (!r) {
        return NULL;
    }
    r->uri = strdup(uri ? uri : "");
    if (!r->uri) {
        free(r);
        return NULL;
    }
    r->conn = c;
    r->mhd = mhd;
    c->request = r;
    if (c->list == &s->idle || c->list == &s->resting) {
        conn_list_move(c, &s->header);
    }
    return r;
}

static bool is_token(const char *name, size_t length)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < length; i++) {
        char c = name[i], lower = c | 0x20;
        if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') && (!c || !strchr(others, c))) {
            return false;
        }
    }
    return length > 0;
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_length,
                                 const char *value, size_t value_length)
{
    struct header_scan *scan = cls;
    (void)kind, (void)value_length;
    if (!is_token(name, name_length)) {
        scan->bad_name = true;
    } else if (name_length == 14 && !strcasecmp(name, "Content-Length")) {
        scan->lengths++;
        scan->length = value;
    } else if (name_length == 17 && !strcasecmp(name, "Transfer-Encoding")) {
        scan->encodings++;
        scan->encoding = value;
    } else if (name_length == 4 && !strcasecmp(name, "Host")) {
        scan->hosts++;
    }
    return MHD_YES;
}

/* Everything that two readers could understand differently is refused. */
static const char *framing_error(const struct header_scan *scan, const char *version)
{
    if (scan->bad_name) {
        return "a header name is malformed";
    }
    if (scan->lengths > 1) {
        return "more than one Content-Length header";
    }
    if (scan->lengths && scan->encodings) {
        return "Content-Length and Transfer-Encoding together";
    }
    if (scan->encodings && (scan->encodings > 1 || !scan->encoding || strcasecmp(scan->encoding, "chunked"))) {
        return "the only Transfer-Encoding understood is chunked";
    }
    if (scan->encodings && !strcmp(version, "HTTP/1.0")) {
        return "HTTP/1.0 has no Transfer-Encoding";
    }
    return scan->hosts > 1 ? "more than one Host header" : NULL;
}

/* An answer of our own. To the header alone: libmicrohttpd closes the connection after it. */
static enum MHD_Result refuse(struct http_request *r, int status, const char *message)
{
    struct http_server *s = r->conn->server;
    r->conn->linger = r->phase == REQUEST_HEADER;
    r->phase = REQUEST_HANDLED;
    if (s->options.fail) {
        s->options.fail(r, status, message, s->options.user);
    }
    if (!r->response) {
        response_plain(r, status, message);
    }
    return response_queue(r);
}

static enum MHD_Result header_complete(struct http_request *r, const char *method, const char *version)
{
    struct http_server *s = r->conn->server;
    struct header_scan scan = {0};
    struct err e = {0};
    r->method = method;
    r->path = "";
    if (uri_parse(r, &e)) {
        return refuse(r, e.code == ERR_NOMEM ? 503 : 400, e.text);
    }
    MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, on_header, &scan);
    const char *wrong = framing_error(&scan, version);
    if (wrong) {
        return refuse(r, 400, wrong);
    }
    unsigned long long length = scan.length ? strtoull(scan.length, NULL, 10) : 0;
    if (length > s->options.max_body) {
        return refuse(r, 413, "the request body is too large");
    }
    if (length > s->body_budget - s->body_held) {
        return refuse(r, 503, "too many large requests at once");
    }
    r->phase = REQUEST_BODY;
    conn_list_move(r->conn, length || scan.encodings ? &s->body : NULL);
    return MHD_YES;
}

static void body_drop(struct http_request *r)
{
    r->conn->server->body_held -= r->body_counted;
    r->body_counted = 0;
    free(r->body.data);
    r->body = (struct bytes){0};
}

/* 0, or the status to answer with. */
static int body_append(struct http_request *r, const char *data, size_t size)
{
    struct http_server *s = r->conn->server;
    struct bytes *b = &r->body;
    if (size > s->options.max_body - b->length) {
        return 413;
    }
    if (b->length + size + 1 > b->capacity) {
        size_t capacity = b->capacity ? b->capacity : FIRST_BODY_BYTES;
        while (capacity < b->length + size + 1) {
            capacity *= 2;
        }
        if (capacity - b->capacity > s->body_budget - s->body_held) {
            return 503;
        }
        char *grown = realloc(b->data, capacity);
        if (!grown) {
            return 503;
        }
        s->body_held += capacity - b->capacity;
        r->body_counted += capacity - b->capacity;
        b->data = grown;
        b->capacity = capacity;
    }
    memcpy(b->data + b->length, data, size);
    b->length += size;
    b->data[b->length] = '\0';
    return 0;
}

/* No answer can be queued between header and end, so what is too much is read and dropped, as much
 * again as is allowed and a little more; then the connection closes. */
static enum MHD_Result body_piece(struct http_request *r, const char *data, size_t *size)
{
    struct http_server *s = r->conn->server;
    conn_list_move(r->conn, &s->body);
    if (!r->body_status) {
        r->body_status = body_append(r, data, *size);
    }
    if (r->body_status) {
        body_drop(r);
        r->body_dropped += *size;
        if (r->body_dropped > s->options.max_body + DROPPED_BYTES) {
            return MHD_NO;
        }
    }
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result request_complete(struct http_request *r)
{
    struct http_server *s = r->conn->server;
    conn_list_move(r->conn, NULL);
    r->phase = REQUEST_HANDLED;
    if (r->body_status) {
        return refuse(r, r->body_status, r->body_status == 413 ? "the request body is too large"
                                                                : "out of memory for the request body");
    }
    s->options.handle(r, s->options.user);
    return response_queue(r);
}

enum MHD_Result request_on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **context)
{
    struct http_request *r = *context;
    (void)cls, (void)mhd, (void)url;
    if (!r || r->lost || r->conn->cut) {
        return MHD_NO;
    }
    if (r->phase == REQUEST_HEADER) {
        return header_complete(r, method, version);
    }
    if (*size) {
        return body_piece(r, data, size);
    }
    return r->phase == REQUEST_BODY ? request_complete(r) : response_queue(r);
}

static void tell_gone(struct http_request *r, bool finished)
{
    if (!r->told) {
        struct http_server *s = r->conn->server;
        r->told = true;
        s->busy++;
        if (r->gone) {
            r->gone(r->user, finished);
        }
        s->busy--;
    }
}

void request_on_completed(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_RequestTerminationCode why)
{
    struct http_request *r = *context;
    (void)cls, (void)mhd;
    if (!r) {
        return;
    }
    *context = NULL;
    struct conn *c = r->conn;
    bool finished = why == MHD_REQUEST_TERMINATED_COMPLETED_OK && !r->lost;
    tell_gone(r, finished);
    c->request = NULL;
    conn_watch(c, false);
    if (finished && !c->cut) {
        conn_rest(c);
    } else {
        conn_list_move(c, NULL);
    }
    if (r->response) {
        MHD_destroy_response(r->response);
    }
    body_drop(r);
    free(r->out.data);
    free(r->query);
    free(r->uri);
    free(r);
}

/* No answer can reach the client any more. */
void request_lose(struct http_request *r)
{
    r->lost = true;
    tell_gone(r, false);
    request_resume(r); /* libmicrohttpd asks again and is told to close */
}

void request_suspend(struct http_request *r)
{
    r->suspended = true;
    MHD_suspend_connection(r->mhd);
    conn_list_move(r->conn, NULL);
    conn_watch(r->conn, true);
}

void request_resume(struct http_request *r)
{
    if (r->suspended) {
        r->suspended = false;
        MHD_resume_connection(r->mhd);
        server_wake(r->conn->server);
    }
}

const char *http_method(const struct http_request *r)
{
    return r->method;
}

const char *http_path(const struct http_request *r)
{
    return r->path;
}

const char *http_header(const struct http_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

const char *http_body(const struct http_request *r, size_t *length)
{
    if (length) {
        *length = r->body.length;
    }
    return r->body.data ? r->body.data : "";
}

void http_set_user(struct http_request *r, void *data, void (*gone)(void *data, bool finished))
{
    r->user = data;
    r->gone = gone;
}

void *http_user(const struct http_request *r)
{
    return r->user;
}
