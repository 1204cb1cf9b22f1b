/* The parameters of /infill, and the prompts that they make. */
#include "infill.h"

#include <stdlib.h>

static int wrong_files(struct api_error *error)
{
    return api_error_set(error, 400, "invalid_type", "input_extra",
                         "'input_extra' must be an array of objects with 'text' and, if it has one, 'filename', both "
                         "strings.");
}

int api_read_files(struct api_request *request, const json_t *value, struct api_error *error)
{
    size_t i;
    json_t *file;
    if (!json_is_array(value))
        return wrong_files(error);
    if (json_array_size(value) > API_MAX_FILES)
        return api_error_set(error, 400, "invalid_value", "input_extra",
                             "'input_extra' has %zu entries; %d are the most.", json_array_size(value), API_MAX_FILES);
    json_array_foreach(value, i, file) {
        const json_t *name = json_object_get(file, "filename");
        if (!json_is_string(json_object_get(file, "text")) || (name && !json_is_null(name) && !json_is_string(name)))
            return wrong_files(error);
    }
    request->files = value;
    return 0;
}

int api_infill_prompt(struct api_request *request, struct api_error *error)
{
    request->prompts = calloc(1, sizeof *request->prompts);
    if (!request->prompts)
        return api_error_memory(error);
    request->n_prompts = 1;
    json_t *text = json_sprintf("%s%s", request->gap_prefix, request->gap_prompt ? request->gap_prompt : "");
    if (!api_request_keep(request, text))
        return api_error_memory(error);
    request->prompts[0].text = json_string_value(text);
    request->prompts[0].length = json_string_length(text);
    /* Editors prepare the cache by asking for no tokens: computed it is in any case. */
    if (request->max_tokens == 0)
        request->pooling = ENGINE_POOL_LAST;
    return 0;
}

int api_prepare_infill(const struct api_request *request, struct api_prompt *prompt, const struct model *model,
                       struct api_error *error)
{
    size_t n = json_array_size(request->files);
    struct engine_gap_file *files = calloc(n + 1, sizeof *files);
    if (!files)
        return api_error_memory(error);
    for (size_t i = 0; i < n; i++) {
        const json_t *file = json_array_get(request->files, i);
        const char *name = json_string_value(json_object_get(file, "filename"));
        files[i] = (struct engine_gap_file){name ? name : "snippet", json_string_value(json_object_get(file, "text"))};
    }
    struct engine_gap gap = {.prefix = prompt->text, .suffix = request->suffix, .files = files, .n_files = n};
    struct err err = {0};
    int failed = engine_fim(model, &gap, &prompt->ids, &err);
    free(files);
    if (!failed)
        return 0;
    return api_error_engine(error, &err, request->endpoint == API_TEXT ? "suffix" : NULL);
}
