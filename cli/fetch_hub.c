/* Downloads from a model hub (huggingface.co or a mirror) with libcurl, resumed where they broke off. */
#include <ctype.h>
#include <curl/curl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "fetch.h"
#include "partial.h"
#include "text.h"

enum { TRIES = 5 };

struct download {
    struct partial file;
    const char *hub;
    char url[1024];
    char digest[65]; /* what the file must have */
    CURL *curl;
    char reason[CURL_ERROR_SIZE];
    long code; /* HTTP status of the response whose body comes */
    struct err *e;
};

/* The value of header `name` in one received line; NULL for another header. */
static const char *header_value(const char *line, size_t length, const char *name, size_t *n)
{
    size_t prefix = strlen(name);
    if (length <= prefix || strncasecmp(line, name, prefix) != 0)
        return NULL;
    const char *at = line + prefix, *end = line + length;
    while (at < end && (isspace((unsigned char)*at) || *at == '"'))
        at++;
    while (end > at && (isspace((unsigned char)end[-1]) || end[-1] == '"'))
        end--;
    *n = (size_t)(end - at);
    return at;
}

/* Keeps what the hub itself says of the file; the storage it redirects to says nothing of these. */
static size_t take_header(char *line, size_t size, size_t count, void *user)
{
    struct download *d = user;
    size_t n, length = size * count;
    const char *value = header_value(line, length, "x-linked-etag:", &n);
    if (value && n == 64 && !d->digest[0]) {
        for (size_t i = 0; i < 64; i++)
            d->digest[i] = (char)tolower((unsigned char)value[i]);
    }
    value = header_value(line, length, "x-linked-size:", &n);
    if (value && !d->file.total)
        d->file.total = strtoull(value, NULL, 10);
    return length;
}

static size_t take_body(char *data, size_t size, size_t count, void *user)
{
    struct download *d = user;
    if (d->code == 0) {
        curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &d->code);
        if (d->code == 200 && d->file.size && partial_restart(&d->file, d->e) < 0) /* it ignored the range */
            return 0;
    }
    if (partial_append(&d->file, data, size * count, d->e) < 0)
        return 0;
    if (d->file.total && d->file.size > d->file.total) {
        err_set(d->e, ERR_FORMAT, "%s: longer than expected", d->url);
        return 0;
    }
    return size * count;
}

static void set_up(struct download *d)
{
    curl_easy_reset(d->curl);
    curl_easy_setopt(d->curl, CURLOPT_URL, d->url);
    curl_easy_setopt(d->curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(d->curl, CURLOPT_MAXREDIRS, 10L);
    /* A plain http hub is a mirror that somebody asked for; nobody is led from https to anything less. */
    long protocols = CURLPROTO_HTTPS | (strncmp(d->hub, "http:", 5) == 0 ? CURLPROTO_HTTP : 0);
#if LIBCURL_VERSION_NUM >= 0x075500
    const char *names = protocols & CURLPROTO_HTTP ? "https,http" : "https";
    curl_easy_setopt(d->curl, CURLOPT_PROTOCOLS_STR, names);
    curl_easy_setopt(d->curl, CURLOPT_REDIR_PROTOCOLS_STR, names);
#else
    curl_easy_setopt(d->curl, CURLOPT_PROTOCOLS, protocols);
    curl_easy_setopt(d->curl, CURLOPT_REDIR_PROTOCOLS, protocols);
#endif
    curl_easy_setopt(d->curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(d->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(d->curl, CURLOPT_CONNECTTIMEOUT, 15L);
    curl_easy_setopt(d->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(d->curl, CURLOPT_LOW_SPEED_TIME, 30L);
    curl_easy_setopt(d->curl, CURLOPT_USERAGENT, "hearth/" HEARTH_VERSION);
    curl_easy_setopt(d->curl, CURLOPT_ERRORBUFFER, d->reason);
    d->reason[0] = 0;
    d->code = 0;
}

static int refuse(struct download *d, CURLcode failure)
{
    return err_set(d->e, ERR_IO, "%s: %s", d->url, d->reason[0] ? d->reason : curl_easy_strerror(failure));
}

/* Asks the hub for size and digest, which it gives before it redirects to its storage. */
static int ask_digest(struct download *d)
{
    set_up(d);
    curl_easy_setopt(d->curl, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(d->curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(d->curl, CURLOPT_HEADERDATA, d);
    CURLcode failure = curl_easy_perform(d->curl);
    if (failure != CURLE_OK)
        return refuse(d, failure);
    if (!d->digest[0])
        return err_set(d->e, ERR_UNSUPPORTED, "%s: the hub gives no digest to check the file with", d->url);
    return 0;
}

/* A second try may help: the line broke, or the server had a bad moment. A time-out before anything
 * came means a network without a way to the hub. */
static bool is_passing(CURLcode failure, long code, bool began)
{
    return failure == CURLE_PARTIAL_FILE || failure == CURLE_RECV_ERROR || failure == CURLE_SEND_ERROR ||
           (failure == CURLE_OPERATION_TIMEDOUT && began) || failure == CURLE_GOT_NOTHING ||
           failure == CURLE_HTTP2 || failure == CURLE_HTTP2_STREAM || failure == CURLE_RANGE_ERROR ||
           (failure == CURLE_HTTP_RETURNED_ERROR && (code >= 500 || code == 429 || code == 416));
}

static int download_body(struct download *d)
{
    for (int attempt = 1; !d->file.total || d->file.size < d->file.total; attempt++) {
        uint64_t before = d->file.size;
        set_up(d);
        curl_easy_setopt(d->curl, CURLOPT_WRITEFUNCTION, take_body);
        curl_easy_setopt(d->curl, CURLOPT_WRITEDATA, d);
        curl_easy_setopt(d->curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)before);
        CURLcode failure = curl_easy_perform(d->curl);
        if (failure == CURLE_OK)
            return 0;
        if (failure == CURLE_WRITE_ERROR && d->e->code)
            return d->e->code;
        long code = 0;
        curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &code);
        if (!is_passing(failure, code, d->file.size > 0) || attempt >= TRIES)
            return refuse(d, failure);
        if ((failure == CURLE_RANGE_ERROR || code == 416) && partial_restart(&d->file, d->e) < 0)
            return d->e->code;
        fprintf(stderr, "%s; trying again in %d s\n", d->reason[0] ? d->reason : curl_easy_strerror(failure),
                attempt);
        sleep((unsigned)attempt);
        if (d->file.size > before) /* only tries without progress count */
            attempt = 0;
    }
    return 0;
}

static int fetch_part(struct download *d, const struct catalogue_model *model, int part,
                      const char *directory)
{
    char *name = catalogue_file(model, part), *path = name ? text_from("%s/%s", directory, name) : NULL;
    int status = path ? 0 : err_set(d->e, ERR_NOMEM, "no memory for a path");
    if (status == 0 && access(path, R_OK) == 0)
        goto done; /* of an earlier try that broke off at a later part */
    if (status == 0 && snprintf(d->url, sizeof d->url, "%s/%s/resolve/main/%s", d->hub, model->repository,
                                name) >= (int)sizeof d->url)
        status = err_set(d->e, ERR_LIMIT, "%.80s…: address too long", d->hub);
    bool pinned = *model->sha256;
    d->file.total = pinned ? model->bytes : 0;
    snprintf(d->digest, sizeof d->digest, "%s", model->sha256);
    if (status == 0 && !pinned)
        status = ask_digest(d);
    if (status == 0)
        status = partial_open(&d->file, path, d->file.total, d->e);
    if (status < 0)
        goto done;
    if (model->parts > 1)
        fprintf(stderr, "part %d of %d\n", part, model->parts);
    status = download_body(d);
    if (status == 0)
        status = partial_finish(&d->file, d->digest, d->e);
    partial_close(&d->file);
done:
    free(name);
    free(path);
    return status;
}

int fetch_from_hub(const struct catalogue_model *model, const struct fetch_options *options, struct err *e)
{
    struct err local = {0};
    struct download d = {.hub = options->hub, .e = e ? e : &local};
    d.e->code = 0;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(d.curl = curl_easy_init()))
        return err_set(e, ERR_NOMEM, "libcurl does not start");
    int status = 0;
    for (int part = 1; part <= model->parts && status == 0; part++)
        status = fetch_part(&d, model, part, options->directory);
    curl_easy_cleanup(d.curl);
    return status;
}
