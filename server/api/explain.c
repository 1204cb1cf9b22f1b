/* Tokens around a point as text. */
#include "explain.h"

#include "bytes.h"

static json_t *text_of(const struct model *model, const int32_t *ids, int n)
{
    struct bytes raw = {0}, text = {0};
    for (int i = 0; i < n; i++) {
        size_t length = 0;
        const char *bytes = engine_token_bytes(model, ids[i], &length);
        bytes_add(&raw, bytes ? bytes : "", length);
    }
    bytes_add_utf8(&text, raw.data ? raw.data : "", raw.length);
    json_t *out = raw.failed || text.failed ? NULL : json_stringn(text.data ? text.data : "", text.length);
    bytes_dispose(&raw);
    bytes_dispose(&text);
    return out;
}

json_t *api_explain(const struct model *model, const struct engine_event *event)
{
    const struct engine_explain *x = event->explain;
    return json_pack("{s:i,s:i,s:i,s:o,s:o,s:o}", "prompt_tokens", event->prompt_tokens, "cached_tokens",
                     event->cached_tokens, "diverges_at", x->diverges, "before",
                     text_of(model, x->before, x->n_before), "prompt", text_of(model, x->prompt, x->n_prompt),
                     "cached", x->n_cached > 0 ? text_of(model, x->cached, x->n_cached) : json_null());
}
