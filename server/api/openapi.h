/* The description of the API that /openapi.json gives, in OpenAPI 3.1: openapi.json says what there is to say of
 * paths and nested shapes; params.def and the routes say the rest. */
#ifndef HEARTH_API_OPENAPI_H
#define HEARTH_API_OPENAPI_H

#include <stdbool.h>
#include <stddef.h>

#include "bytes.h"

struct openapi_route {
    const char *path;  /* without /v1; one that ends in '/' takes what follows */
    unsigned endpoint; /* enum api_endpoint: whose parameters its body has; 0: no body */
    bool post, open;   /* post: else GET; open: also without a key */
};

/* Adds the document. `key`: routes want one, unless they are open. Without memory out->failed is set. */
void openapi_write(struct bytes *out, const struct openapi_route *routes, size_t n, bool key);

#endif
