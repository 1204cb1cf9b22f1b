/* From a typed request to what the engine takes: token ids and sampling parameters. */
#ifndef HEARTH_API_PREPARE_H
#define HEARTH_API_PREPARE_H

#include "request.h"

/* Renders and tokenises: every prompt has its ids afterwards. Any thread; may take long. */
int api_prepare(struct api_request *, const struct model *, struct api_error *) WARN_UNUSED;

/* Sampling parameters by precedence: the request, then `sources` in order (each may leave any of
 * them negative: unset), then OpenAI's. `seed` is for a request that gives none. Borrows the
 * request's bias. */
struct sampling api_sampling(const struct api_request *, const struct sampling_defaults *const sources[],
                             size_t n_sources, uint64_t seed);

#endif
