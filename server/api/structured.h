/* Parameters that say what a text is to be like: they become the request's grammar_spec, of which there is one. */
#ifndef HEARTH_API_STRUCTURED_H
#define HEARTH_API_STRUCTURED_H

#include "request.h"

/* OpenAI's response_format. */
int api_read_response_format(struct api_request *, json_t *value, struct api_error *) WARN_UNUSED;
/* The parameter `name`, a literal, of those that params.def calls STRUCTURED. */
int api_read_structured(struct api_request *, const char *name, json_t *value, struct api_error *) WARN_UNUSED;

#endif
