/* Answers: whole ones, and streams whose bytes wait in a queue that libmicrohttpd's content reader
 * empties. Whenever there is nothing to send the connection is suspended, so waiting costs nothing. */
#include "internal.h"

#include <string.h>

#define READER_BLOCK 4096 /* only HTTP/1.0 clients, which get no chunks, are sent through such a block */

/* Called inside the access handler: hands over the answer if there is one, waits for it otherwise. */
enum MHD_Result response_queue(struct http_request *r)
{
    struct http_server *s = r->conn->server;
    if (r->lost || r->conn->cut) {
        return MHD_NO;
    }
    if (!r->response) {
        request_suspend(r);
        return MHD_YES;
    }
    if (s->quiescing) {
        MHD_add_response_header(r->response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    r->phase = REQUEST_ANSWERED;
    conn_list_move(r->conn, &s->sending);
    enum MHD_Result ok = MHD_queue_response(r->mhd, r->status, r->response);
    MHD_destroy_response(r->response);
    r->response = NULL;
    return ok;
}

/* False: the request has its answer already, or nobody is there to read one. */
static bool answerable(const struct http_request *r)
{
    return !r->lost && !r->response && r->phase == REQUEST_HANDLED;
}

static void give(struct http_request *r, struct MHD_Response *response, int status,
                 const struct http_field *fields, size_t n_fields)
{
    if (!response) {
        conn_cut(r->conn);
        return;
    }
    for (size_t i = 0; i < n_fields; i++) {
        MHD_add_response_header(response, fields[i].name, fields[i].value);
    }
    r->status = (unsigned)status;
    r->response = response;
    request_resume(r);
}

void http_respond(struct http_request *r, int status, const struct http_field *fields, size_t n_fields,
                  const void *body, size_t length)
{
    if (answerable(r)) {
        void *bytes = (void *)(uintptr_t)(length ? body : "");
        give(r, MHD_create_response_from_buffer(length, bytes, MHD_RESPMEM_MUST_COPY), status, fields,
             n_fields);
    }
}

void response_plain(struct http_request *r, int status, const char *message)
{
    const struct http_field type = {"Content-Type", "text/plain; charset=utf-8"};
    http_respond(r, status, &type, 1, message, strlen(message));
}

static size_t take(struct bytes *queue, char *to, size_t max)
{
    size_t n = queue->length < max ? queue->length : max;
    memcpy(to, queue->data + queue->first, n);
    queue->first += n;
    queue->length -= n;
    if (queue->length == 0) {
        queue->first = 0;
    }
    return n;
}

/* libmicrohttpd asks for more only when the socket has taken all it was given before. */
static ssize_t on_read(void *cls, uint64_t position, char *to, size_t max)
{
    struct http_request *r = cls;
    (void)position;
    r->in_flight = 0;
    if (r->out.length == 0 && r->undrained && !r->ended && !r->lost) {
        r->undrained = false;
        if (r->drained) {
            r->drained(r->user);
        }
    }
    if (r->lost) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (r->out.length) {
        conn_list_move(r->conn, &r->conn->server->sending);
        r->in_flight = take(&r->out, to, max);
        return (ssize_t)r->in_flight;
    }
    if (r->ended) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    request_suspend(r);
    return 0;
}

void http_stream_begin(struct http_request *r, int status, const struct http_field *fields, size_t n_fields,
                       void (*drained)(void *data))
{
    if (!answerable(r)) {
        return;
    }
    struct MHD_Response *response;
    if (!strcmp(r->method, MHD_HTTP_METHOD_HEAD)) { /* the library would send a last chunk nevertheless */
        response = MHD_create_response_from_buffer(0, (void *)(uintptr_t)"", MHD_RESPMEM_PERSISTENT);
        r->ended = true;
    } else {
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, READER_BLOCK, on_read, r, NULL);
    }
    r->streaming = true;
    r->drained = drained;
    give(r, response, status, fields, n_fields);
}

static bool append(struct bytes *queue, const void *bytes, size_t length)
{
    size_t end, wanted;
    if (__builtin_add_overflow(queue->first + queue->length, length, &end)) {
        return false;
    }
    if (end > queue->capacity && queue->first) {
        memmove(queue->data, queue->data + queue->first, queue->length);
        end -= queue->first;
        queue->first = 0;
    }
    if (end > queue->capacity) {
        wanted = queue->capacity ? queue->capacity : 512;
        while (wanted < end) {
            if (__builtin_mul_overflow(wanted, (size_t)2, &wanted)) {
                return false;
            }
        }
        char *grown = realloc(queue->data, wanted);
        if (!grown) {
            return false;
        }
        queue->data = grown;
        queue->capacity = wanted;
    }
    memcpy(queue->data + queue->first + queue->length, bytes, length);
    queue->length += length;
    return true;
}

void http_stream_write(struct http_request *r, const void *bytes, size_t length)
{
    if (!r->streaming || r->ended || r->lost || length == 0) {
        return;
    }
    if (!append(&r->out, bytes, length)) {
        conn_cut(r->conn);
        return;
    }
    r->undrained = true;
    request_resume(r);
}

size_t http_stream_pending(const struct http_request *r)
{
    return r->out.length + r->in_flight;
}

void http_stream_end(struct http_request *r)
{
    if (r->streaming && !r->ended && !r->lost) {
        r->ended = true;
        request_resume(r);
    }
}
