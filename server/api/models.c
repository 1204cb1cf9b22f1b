/* The model list: what OpenAI's clients expect, and beside it what the file says about itself and whether it is
 * loaded. */
#include "models.h"

static json_t *state_json(const struct served *served)
{
    static const char *const states[] = {[SERVED_UNLOADED] = "unloaded", [SERVED_LOADING] = "loading",
                                         [SERVED_LOADED] = "loaded", [SERVED_UNLOADING] = "unloading"};
    const char *failure = served->failure.code ? served->failure.text : NULL;
    return json_pack("{s:b, s:s, s:I, s:I, s:i, s:I, s:s*}", "loaded", served->state == SERVED_LOADED, "state",
                     failure ? "failed" : states[served->state], "bytes", (json_int_t)served->bytes, "file_bytes",
                     (json_int_t)served->stamp.bytes, "requests", served->users, "loads", (json_int_t)served->loads,
                     "error", failure);
}

json_t *api_model_json(const struct served *served, int64_t created)
{
    json_t *object = json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", served->name, "object", "model", "created",
                               (json_int_t)created, "owned_by", "hearth", "hearth", state_json(served));
    if (!object || !served->model)
        return object;
    const struct model_info *info = engine_model_info(served->model);
    json_t *more = json_pack("{s:i, s:{s:s, s:s, s:I, s:i, s:i, s:i, s:s}}", "max_model_len", info->context_length, "meta",
                             "architecture", info->architecture, "quantization", info->quantization, "parameters",
                             (json_int_t)info->parameters, "context_trained", info->context_trained, "vocabulary",
                             info->vocab, "embedding_length", info->width, "license", info->license);
    int failed = !more || json_object_update(object, more);
    json_decref(more);
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

json_t *api_model_list_json(const struct shelf *shelf, int64_t created)
{
    json_t *list = json_array();
    int failed = !list;
    for (size_t i = 0; !failed && i < shelf->n; i++)
        failed = json_array_append_new(list, api_model_json(&shelf->served[i], created));
    if (!failed)
        return json_pack("{s:s, s:o}", "object", "list", "data", list);
    json_decref(list);
    return NULL;
}

/* Sampling as it is where a request says nothing. */
static json_t *defaults_json(const struct api *api, const struct served *served, const struct model_info *info)
{
    static const struct sampling_defaults unset = {-1, -1, -1, -1, -1};
    const struct sampling_defaults *const sources[] = {&api->options.defaults, &info->sampling, &served->catalogue};
    const struct api_request request = {.sampling = unset, .repeat_last_n = -1};
    struct sampling s = api_sampling(&request, sources, sizeof sources / sizeof *sources, 0);
    return json_pack("{s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:i}", "temperature", s.temperature, "top_k", s.top_k, "top_p",
                     s.top_p, "min_p", s.min_p, "repeat_penalty", s.repetition_penalty, "presence_penalty",
                     s.presence_penalty, "frequency_penalty", s.frequency_penalty, "n_predict", -1);
}

json_t *api_props_json(const struct api *api, const struct served *served)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:o}", "model_alias", served->name, "model_path", served->path,
                               "build_info", "hearth " HEARTH_VERSION, "hearth", state_json(served));
    if (!object || !served->model)
        return object;
    const struct model_info *info = engine_model_info(served->model);
    json_t *more = json_pack("{s:{s:i, s:o}, s:i, s:s, s:s, s:s, s:{s:b, s:b}}", "default_generation_settings", "n_ctx",
                             info->context_length, "params", defaults_json(api, served, info), "total_slots",
                             api->options.parallel, "chat_template", info->chat_template ? info->chat_template : "",
                             "bos_token", info->bos ? info->bos : "", "eos_token", info->eos ? info->eos : "",
                             "modalities", "vision", false, "audio", false);
    int failed = !more || json_object_update(object, more);
    json_decref(more);
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

json_t *api_tokenizer_json(const struct api *api, const struct served *served)
{
    (void)api;
    if (!served->model)
        return json_object();
    const struct model_info *info = engine_model_info(served->model);
    return json_pack("{s:s*, s:s*, s:s*, s:i}", "bos_token", info->bos && *info->bos ? info->bos : NULL, "eos_token",
                     info->eos && *info->eos ? info->eos : NULL, "chat_template", info->chat_template,
                     "model_max_length", info->context_length);
}
