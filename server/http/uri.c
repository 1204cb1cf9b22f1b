/* Request targets: origin form, absolute form and "*"; percent decoding of the path and the query. */
#include "internal.h"

#include <string.h>
#include <strings.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place. False: a broken escape, or a control character, which no path of ours has and
 * which would end the string or forge a log line. */
static bool decode(char *text, bool plus_is_space)
{
    char *to = text;
    for (const char *from = text; *from; from++) {
        char c = *from;
        if (c == '%') {
            int high = hex_digit(from[1]);
            int low = high < 0 ? -1 : hex_digit(from[2]);
            if (low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            from += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        } else if (c == ' ') {
            return false;
        }
        if ((unsigned char)c < 0x20 || c == 0x7f) {
            return false;
        }
        *to++ = c;
    }
    *to = '\0';
    return true;
}

static int query_parse(struct http_request *r, char *text, struct err *e)
{
    size_t n = 1;
    for (const char *p = text; *p; p++) {
        n += *p == '&';
    }
    r->query = calloc(n, sizeof *r->query);
    if (!r->query) {
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    for (char *field = text, *next; field; field = next) {
        next = strchr(field, '&');
        if (next) {
            *next++ = '\0';
        }
        if (!*field) {
            continue;
        }
        char *value = strchr(field, '=');
        if (value) {
            *value++ = '\0';
        }
        if (!decode(field, true) || (value && !decode(value, true))) {
            return err_set(e, ERR_INVALID, "the query is not valid percent encoding");
        }
        r->query[r->n_query++] = (struct http_field){field, value ? value : ""};
    }
    return 0;
}

int uri_parse(struct http_request *r, struct err *e)
{
    char *path = r->uri;
    if (!strcmp(path, "*")) {
        r->path = path;
        return 0;
    }
    char *query = strchr(path, '?');
    if (query) {
        *query++ = '\0';
    }
    if (!strncasecmp(path, "http://", 7) || !strncasecmp(path, "https://", 8)) {
        path = strchr(strchr(path, ':') + 3, '/');
    }
    if (path && *path != '/') {
        return err_set(e, ERR_INVALID, "the request target must begin with a slash");
    }
    if (path && !decode(path, false)) {
        return err_set(e, ERR_INVALID, "the path is not valid percent encoding");
    }
    r->path = path ? path : "/";
    return query ? query_parse(r, query, e) : 0;
}

const char *http_query(const struct http_request *r, const char *name)
{
    for (size_t i = 0; i < r->n_query; i++) {
        if (!strcmp(r->query[i].name, name)) {
            return r->query[i].value;
        }
    }
    return NULL;
}
