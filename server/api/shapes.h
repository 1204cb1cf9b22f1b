/* The JSON shapes of answers. Every function returns NULL (or -1) only without memory; what it
 * returns is the caller's. */
#ifndef HEARTH_API_SHAPES_H
#define HEARTH_API_SHAPES_H

#include <jansson.h>

#include "../../engine/engine.h"
#include "request.h"

/* What all objects of one answer begin with. `choices` and, where `usage`, a usage of null are
 * there to be replaced. */
json_t *api_shape_head(enum api_endpoint, bool stream, bool usage, const char *id, int64_t created,
                       const char *model);

/* One element of `choices`. The references to content and logprobs (may be NULL: null) are taken.
 * finish: NULL for null. */
json_t *api_shape_choice(enum api_endpoint, bool stream, int index, json_t *content, json_t *logprobs,
                         const char *finish);
struct api_usage {
    int64_t prompt, completion, cached;
    int64_t reasoning; /* of the completion; -1: not told */
};
json_t *api_shape_usage(const struct api_usage *);
/* "stop", "length", or NULL while it goes on. */
const char *api_shape_finish(enum finish);

/* Logprobs, filled token by token: an object in the endpoint's own shape. */
json_t *api_shape_logprobs(enum api_endpoint, int n_top);
int api_shape_chat_token(json_t *logprobs, const struct model *, const struct engine_token *) WARN_UNUSED;
/* top may be NULL: null, as for the first token of a prompt. offset: in characters. */
int api_shape_text_token(json_t *logprobs, const struct model *, int32_t id, float logprob,
                         const struct engine_top *top, int n_top, int64_t offset) WARN_UNUSED;

/* The text of tokens, as a string; what is no UTF-8 is U+FFFD. */
json_t *api_shape_text(const struct model *, const int32_t *ids, size_t n);

/* Characters that begin in these bytes. */
int64_t api_shape_characters(const char *bytes, size_t length);

#endif
