/* Errors as OpenAI's clients expect them: {"error":{"message","type","param","code"}}. */
#ifndef HEARTH_API_ERRORS_H
#define HEARTH_API_ERRORS_H

#include <jansson.h>
#include <stdbool.h>

#include "../../kernels/err.h"

struct api_error {
    int status;          /* HTTP; 0: no error */
    const char *code;    /* a literal, or NULL */
    char param[96];      /* "": none */
    struct err err;      /* its text is the message */
    int retry_seconds;   /* > 0: a Retry-After header */
    bool final;          /* clients are asked not to try again */
};

/* Fills *e and returns -1, so that a function can `return api_error_set(…)`. param may be NULL. */
int api_error_set(struct api_error *e, int status, const char *code, const char *param, const char *format,
                  ...) __attribute__((format(printf, 5, 6)));
int api_error_memory(struct api_error *);
/* Translates an error of the engine; returns -1. `param` names what caused an ERR_INVALID. */
int api_error_engine(struct api_error *e, const struct err *, const char *param);
/* OpenAI's `type` for an HTTP status. */
const char *api_error_type(int status);
/* The body; NULL only without memory. The caller's. */
json_t *api_error_json(const struct api_error *);

#endif
