/* Prompts with a gap: /infill, and completions with a suffix. */
#ifndef HEARTH_API_INFILL_H
#define HEARTH_API_INFILL_H

#include "request.h"

enum { API_MAX_FILES = 1024 };

int api_read_files(struct api_request *, const json_t *, struct api_error *) WARN_UNUSED;
/* Makes the prompt of /infill, when all parameters were read. */
int api_infill_prompt(struct api_request *, struct api_error *) WARN_UNUSED;
/* Ids of a prompt of text before request->suffix. */
int api_prepare_infill(const struct api_request *, struct api_prompt *, const struct model *,
                       struct api_error *) WARN_UNUSED;

#endif
