/* The model list and /props. */
#ifndef HEARTH_API_MODELS_H
#define HEARTH_API_MODELS_H

#include "internal.h"

/* {"id","object":"model","created","owned_by",…,"hearth":{"loaded",…}}; NULL only without memory. The caller's. */
json_t *api_model_json(const struct served *, int64_t created);
json_t *api_model_list_json(const struct shelf *, int64_t created);

/* What llama.cpp's clients ask for: defaults of sampling, the chat template, the context. Likewise. */
json_t *api_props_json(const struct api *, const struct served *);
/* What lm-eval and others ask vLLM for: texts of special tokens, and the chat template. */
json_t *api_tokenizer_json(const struct api *, const struct served *);

#endif
