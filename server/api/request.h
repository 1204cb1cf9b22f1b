/* From the bytes of a body to a typed request: what is asked for, checked, before any model is
 * involved. Pure: any thread may parse. */
#ifndef HEARTH_API_REQUEST_H
#define HEARTH_API_REQUEST_H

#include <jansson.h>
#include <stdbool.h>

#include "../../engine/engine.h"
#include "errors.h"

enum api_endpoint { API_CHAT = 1, API_TEXT = 2 };

enum api_param_row {
#define PARAM(name, row, ...) PARAM_##row,
#include "params.def"
#undef PARAM
    PARAM_COUNT
};

struct api_param { /* one row of params.def */
    const char *name, *kind, *fallback, *meaning;
    double minimum, maximum;
    unsigned endpoints; /* API_CHAT | API_TEXT */
};
extern const struct api_param api_params[PARAM_COUNT];

struct api_prompt {
    const char *text;   /* NULL: ids. Belongs to the body */
    size_t length;
    struct ids ids;     /* given as ids, or filled in by api_prepare */
    size_t echo_skip;   /* leading ids that stand for no text (BOS) */
};

/* Owned by the caller: api_request_dispose. Strings and JSON members belong to `body`. */
struct api_request {
    enum api_endpoint endpoint;
    json_t *body;
    bool given[PARAM_COUNT];

    const char *model, *suffix, *end_user, *cache_salt;
    json_t *messages, *tools, *template_kwargs;
    bool no_tools, add_generation_prompt;
    struct api_prompt *prompts;
    size_t n_prompts;

    bool stream, include_usage, echo, logprobs, ignore_eos, cache_prompt, cache_explain;
    int priority;
    double timeout; /* seconds; 0: none */
    int n, best_of, n_top, max_tokens, max_completion_tokens;
    const char **stop;
    size_t n_stop;
    struct sampling_defaults sampling; /* negative: not given */
    double presence_penalty, frequency_penalty;
    struct logit_bias *bias;
    size_t n_bias;
    int64_t seed;
};

/* Reads a body. `vocab` bounds token ids. Returns 0, or -1 with *error; *request is always fit for
 * api_request_dispose. */
int api_request_parse(struct api_request *request, enum api_endpoint, const char *body, size_t length,
                      int vocab, struct api_error *error) WARN_UNUSED;
void api_request_dispose(struct api_request *);

/* For the readers of single parameters. */
enum { API_MAX_STOP = 64, API_MAX_STOP_BYTES = 1024, API_MAX_PROMPTS = 2048 };
/* A JSON number that is a whole one within int64: 5 and 5.0. */
bool api_json_integer(const json_t *, int64_t *out);
int api_read_messages(struct api_request *, json_t *, struct api_error *) WARN_UNUSED;
int api_read_tools(struct api_request *, json_t *, struct api_error *) WARN_UNUSED;
int api_read_prompt(struct api_request *, json_t *, int vocab, struct api_error *) WARN_UNUSED;
int api_read_stop(struct api_request *, json_t *, struct api_error *) WARN_UNUSED;
int api_read_logit_bias(struct api_request *, json_t *, int vocab, struct api_error *) WARN_UNUSED;

#endif
