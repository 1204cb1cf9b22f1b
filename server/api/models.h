/* The model list. */
#ifndef HEARTH_API_MODELS_H
#define HEARTH_API_MODELS_H

#include <jansson.h>
#include <stdint.h>

#include "../../engine/engine.h"

/* {"id","object":"model","created","owned_by",…}; NULL only without memory. The caller's. */
json_t *api_model_json(const struct model_info *, int64_t created);
json_t *api_model_list_json(const struct model_info *, int64_t created);

#endif
