/* LoRA adapters of the served model: their scales, for all requests and for single ones. */
#ifndef HEARTH_API_ADAPTERS_H
#define HEARTH_API_ADAPTERS_H

#include "request.h"

/* What requests get that say nothing else. */
struct adapters {
    const struct engine_adapter *given; /* [n] as the server was started with */
    size_t n;
    struct engine_scale scale[16];      /* [n] now */
};
void api_adapters_open(struct adapters *, const struct model_options *);
/* As llama.cpp's server lists them: [{"id", "path", "scale"}]. */
json_t *api_adapters_json(const struct adapters *);
/* The body of a POST: [{"id", "scale"}]; those it does not name are off. 0, or -1 with *error, nothing being changed. */
int api_adapters_set(struct adapters *, const char *body, size_t length, struct api_error *) WARN_UNUSED;

/* The parameter `lora`, without a look at the model; then with it: whose ids there are. */
int api_read_scales(struct api_request *, const json_t *, struct api_error *) WARN_UNUSED;
int api_check_scales(const struct api_request *, int n_adapters, struct api_error *) WARN_UNUSED;

#endif
