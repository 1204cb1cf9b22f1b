/* What is asked for of an embedding. */
#ifndef HEARTH_API_EMBEDDINGS_H
#define HEARTH_API_EMBEDDINGS_H

#include "request.h"

int api_read_encoding(struct api_request *, const json_t *, struct api_error *) WARN_UNUSED;
int api_read_pooling(struct api_request *, const json_t *, struct api_error *) WARN_UNUSED;
/* Checks what depends on the model, and decides the pooling. */
int api_prepare_embeddings(struct api_request *, const struct model *, struct api_error *) WARN_UNUSED;

#endif
