/* Tokens around a point as text. */
#include "explain.h"

#include "shapes.h"

json_t *api_explain(const struct model *model, const struct engine_event *event)
{
    const struct engine_explain *x = event->explain;
    json_t *cached = x->n_cached > 0 ? api_shape_text(model, x->cached, (size_t)x->n_cached) : json_null();
    return json_pack("{s:i,s:i,s:i,s:o,s:o,s:o}", "prompt_tokens", event->prompt_tokens, "cached_tokens",
                     event->cached_tokens, "diverges_at", x->diverges, "before",
                     api_shape_text(model, x->before, (size_t)x->n_before), "prompt",
                     api_shape_text(model, x->prompt, (size_t)x->n_prompt), "cached", cached);
}
