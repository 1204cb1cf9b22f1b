/* Scales of adapters as they come in JSON. */
#include "adapters.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_BODY = 64 * 1024, MAX_ENTRIES = 64, MAX_SCALE = 1000 };

static int read_entry(const json_t *entry, const char *param, size_t index, struct engine_scale *out,
                      struct api_error *error)
{
    int64_t id;
    const json_t *scale = json_object_get(entry, "scale");
    if (!api_json_integer(json_object_get(entry, "id"), &id) || id < 0 || id > INT32_MAX)
        return api_error_set(error, 400, "invalid_value", param, "'%s[%zu].id' must be the number of an adapter.", param,
                             index);
    if (!json_is_number(scale) || !(json_number_value(scale) >= -MAX_SCALE && json_number_value(scale) <= MAX_SCALE))
        return api_error_set(error, 400, "invalid_value", param, "'%s[%zu].scale' must be a number between -%d and %d.",
                             param, index, MAX_SCALE, MAX_SCALE);
    *out = (struct engine_scale){(int)id, (float)json_number_value(scale)};
    return 0;
}

/* out[MAX_ENTRIES]; no adapter comes twice. */
static int read_list(const json_t *list, const char *param, struct engine_scale *out, size_t *n,
                     struct api_error *error)
{
    *n = 0;
    if (!json_is_array(list))
        return api_error_set(error, 400, "invalid_type", param,
                             "'%s' must be an array of {\"id\": …, \"scale\": …}.", param);
    if (json_array_size(list) > MAX_ENTRIES)
        return api_error_set(error, 400, "invalid_value", param, "'%s' has %zu entries; %d are the most.", param,
                             json_array_size(list), MAX_ENTRIES);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (read_entry(json_array_get(list, i), param, i, &out[i], error))
            return -1;
        for (size_t j = 0; j < i; j++) {
            if (out[j].adapter == out[i].adapter)
                return api_error_set(error, 400, "invalid_value", param, "'%s' names adapter %d twice.", param,
                                     out[i].adapter);
        }
        ++*n;
    }
    return 0;
}

static int check_ids(const struct engine_scale *scales, size_t n, const char *param, size_t n_adapters,
                     struct api_error *error)
{
    for (size_t i = 0; i < n; i++) {
        if ((size_t)scales[i].adapter >= n_adapters)
            return api_error_set(error, 400, "invalid_value", param,
                                 "'%s' names adapter %d: the model has %zu, see /lora-adapters.", param, scales[i].adapter,
                                 n_adapters);
    }
    return 0;
}

/* ---- of all requests ---- */

void api_adapters_open(struct adapters *a, const struct model_options *options)
{
    a->given = options->adapters;
    a->n = options->n_adapters;
    REQUIRE(a->n <= sizeof a->scale / sizeof *a->scale);
    for (size_t i = 0; i < a->n; i++)
        a->scale[i] = (struct engine_scale){(int)i, a->given[i].scale};
}

json_t *api_adapters_json(const struct adapters *a)
{
    json_t *list = json_array();
    for (size_t i = 0; i < a->n; i++) {
        char text[32]; /* as it was written: 0.1, not its float in 17 digits */
        snprintf(text, sizeof text, "%.7g", (double)a->scale[i].scale);
        json_t *entry = json_pack("{s:i, s:s, s:f}", "id", (int)i, "path", a->given[i].path, "scale",
                                  strtod(text, NULL));
        if (json_array_append_new(list, entry)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int api_adapters_set(struct adapters *a, const char *body, size_t length, struct api_error *error)
{
    static const char name[] = "body";
    struct engine_scale scales[MAX_ENTRIES];
    size_t n = 0;
    json_error_t at;
    if (length > MAX_BODY)
        return api_error_set(error, 413, "request_too_large", NULL, "The body is longer than %d bytes.", MAX_BODY);
    json_t *list = json_loadb(body, length, JSON_REJECT_DUPLICATES, &at);
    if (!list)
        return api_error_set(error, 400, "invalid_json", NULL,
                             "The request body is not valid JSON: %s (line %d, column %d).", at.text, at.line, at.column);
    int failed = read_list(list, name, scales, &n, error) || check_ids(scales, n, name, a->n, error);
    json_decref(list);
    if (failed)
        return -1;
    for (size_t i = 0; i < a->n; i++)
        a->scale[i].scale = 0;
    for (size_t i = 0; i < n; i++)
        a->scale[scales[i].adapter].scale = scales[i].scale;
    return 0;
}

/* ---- of one ---- */

int api_read_scales(struct api_request *request, const json_t *value, struct api_error *error)
{
    request->scales = calloc(MAX_ENTRIES, sizeof *request->scales);
    if (!request->scales)
        return api_error_memory(error);
    return read_list(value, "lora", request->scales, &request->n_scales, error);
}

int api_check_scales(const struct api_request *request, int n_adapters, struct api_error *error)
{
    return check_ids(request->scales, request->n_scales, "lora", (size_t)n_adapters, error);
}
