/* Errors in OpenAI's shape, and what each code of the engine means in HTTP. */
#include "errors.h"

#include <stdarg.h>
#include <stdio.h>

int api_error_set(struct api_error *e, int status, const char *code, const char *param, const char *format,
                  ...)
{
    char text[sizeof e->err.text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    *e = (struct api_error){.status = status, .code = code};
    snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    err_set(&e->err, ERR_INVALID, "%s", text);
    return -1;
}

int api_error_memory(struct api_error *e)
{
    return api_error_set(e, 503, "out_of_memory", NULL, "Out of memory.");
}

int api_error_engine(struct api_error *e, const struct err *err, const char *param)
{
    switch (err->code) {
    case ERR_INVALID:
    case ERR_LIMIT:
    case ERR_UNSUPPORTED:
        return api_error_set(e, 400, NULL, param, "%s", err->text);
    case ERR_TOO_LONG:
        return api_error_set(e, 400, "context_length_exceeded", param, "%s", err->text);
    case ERR_BUSY:
        return api_error_set(e, 429, "queue_full", NULL, "%s", err->text);
    case ERR_DRAINING:
        api_error_set(e, 503, "draining", NULL, "The server is shutting down.");
        e->retry_seconds = 5;
        return -1;
    case ERR_DEADLINE:
        return api_error_set(e, 503, "deadline_unreachable", NULL,
                             "The server is too busy: the request would not begin to answer before its deadline.");
    case ERR_NOMEM:
        return api_error_set(e, 503, "out_of_memory", NULL, "%s", err->text);
    default:
        return api_error_set(e, 500, "internal_error", NULL, "%s", err->text);
    }
}

const char *api_error_type(int status)
{
    if (status == 429)
        return "rate_limit_error";
    return status >= 500 ? "server_error" : "invalid_request_error";
}

json_t *api_error_json(const struct api_error *e)
{
    return json_pack("{s:{s:s, s:s, s:s?, s:s?}}", "error", "message", e->err.text, "type",
                     api_error_type(e->status), "param", e->param[0] ? e->param : NULL, "code", e->code);
}
