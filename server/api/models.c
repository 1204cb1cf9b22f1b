/* The model list: what OpenAI's clients expect, and beside it what the file says about itself. */
#include "models.h"

json_t *api_model_json(const struct model_info *info, int64_t created)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:i, s:{s:s, s:s, s:I, s:i, s:i, s:s}}", "id", info->name,
                     "object", "model", "created", (json_int_t)created, "owned_by", "hearth", "max_model_len",
                     info->context_length, "meta", "architecture", info->architecture, "quantization",
                     info->quantization, "parameters", (json_int_t)info->parameters, "context_trained",
                     info->context_trained, "vocabulary", info->vocab, "license", info->license);
}

json_t *api_model_list_json(const struct model_info *info, int64_t created)
{
    return json_pack("{s:s, s:[o]}", "object", "list", "data", api_model_json(info, created));
}
