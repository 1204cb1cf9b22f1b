/* Rendering, tokenising and the order of sampling defaults. */
#include "prepare.h"

#include <stdlib.h>
#include <string.h>

#include "embeddings.h"
#include "infill.h"
#include "tools.h"

static bool ends_with_assistant(const json_t *messages)
{
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    return role && strcmp(role, "assistant") == 0;
}

static int prepare_chat(struct api_request *request, const struct model *model, struct api_error *error)
{
    request->prompts = calloc(1, sizeof *request->prompts);
    if (!request->prompts)
        return api_error_memory(error);
    request->n_prompts = 1;

    request->continue_final_message |= !request->add_generation_prompt && ends_with_assistant(request->messages);
    json_t *input = json_pack("{s:O, s:O*, s:b, s:b, s:b, s:O*}", "messages", request->messages, "tools", request->tools,
                              "describe_tools", true, "continue_final_message", request->continue_final_message,
                              "add_generation_prompt", request->add_generation_prompt,
                              "chat_template_kwargs", request->template_kwargs);
    if (!input)
        return api_error_memory(error);
    struct rendered rendered = {0};
    struct err err = {0};
    int failed = engine_render(model, input, &rendered, &err);
    json_decref(input);
    if (failed)
        return api_error_engine(error, &err, api_prompt_name(request));
    request->prompts[0].ids = rendered.ids;
    rendered.ids = (struct ids){0};
    failed = api_prepare_tools(request, model, rendered.text, rendered.length, error);
    if (request->prompt_only) {
        request->rendered = rendered.text;
        request->rendered_length = rendered.length;
        rendered.text = NULL;
    }
    engine_rendered_free(&rendered);
    return failed;
}

static int prepare_text(const struct api_request *request, struct api_prompt *prompt, const struct model *model,
                        struct api_error *error)
{
    struct err err = {0};
    if (!prompt->text)
        return 0;
    if (request->suffix)
        return api_prepare_infill(request, prompt, model, error);
    unsigned flags = TOKENIZE_SPECIAL | TOKENIZE_BOS;
    if (request->endpoint == API_TOKENIZE)
        flags = (request->parse_special ? TOKENIZE_SPECIAL : 0) | (request->add_special ? TOKENIZE_BOS : 0);
    if (request->endpoint == API_EMBEDDINGS)
        flags |= TOKENIZE_EOS;
    if (engine_tokenize(model, prompt->text, prompt->length, flags, &prompt->ids, &err))
        return api_error_engine(error, &err, api_prompt_name(request));

    size_t length = 0;
    const char *first = prompt->ids.n > 0 ? engine_token_bytes(model, prompt->ids.ids[0], &length) : NULL;
    if (first && (length > prompt->length || memcmp(first, prompt->text, length) != 0))
        prompt->echo_skip = 1;
    return 0;
}

static int prepare_grammar(struct api_request *request, const struct model *model, struct api_error *error)
{
    struct err err = {0};
    if (!request->grammar_spec || request->prompt_only)
        return 0;
    if (engine_grammar(model, request->grammar_spec, &request->grammar, &err))
        return api_error_engine(error, &err, request->grammar_param);
    return 0;
}

int api_prepare(struct api_request *request, const struct model *model, struct api_error *error)
{
    if (request->messages && prepare_chat(request, model, error))
        return -1;
    if (request->endpoint == API_EMBEDDINGS && api_prepare_embeddings(request, model, error))
        return -1;
    for (size_t i = 0; i < request->n_prompts; i++) {
        struct api_prompt *prompt = &request->prompts[i];
        if (prepare_text(request, prompt, model, error))
            return -1;
        bool empty = request->endpoint == API_EMBEDDINGS && prompt->text && prompt->length == 0;
        if ((empty || prompt->ids.n == 0) && !request->prompt_only)
            return api_error_set(error, 400, "invalid_value", api_prompt_name(request),
                                 "The prompt is empty: it has no tokens.");
    }
    return prepare_grammar(request, model, error);
}

struct sampling api_sampling(const struct api_request *request,
                             const struct sampling_defaults *const sources[], size_t n_sources, uint64_t seed)
{
    struct sampling_defaults chosen = request->sampling;
    static const struct sampling_defaults last = {1, 1, 0, 1, 0};
    for (size_t i = 0; i <= n_sources; i++) {
        const struct sampling_defaults *source = i < n_sources ? sources[i] : &last;
        if (chosen.temperature < 0)
            chosen.temperature = source->temperature;
        if (chosen.top_p < 0)
            chosen.top_p = source->top_p;
        if (chosen.min_p < 0)
            chosen.min_p = source->min_p;
        if (chosen.repetition_penalty < 0)
            chosen.repetition_penalty = source->repetition_penalty;
        if (chosen.top_k < 0)
            chosen.top_k = source->top_k;
    }
    /* A window of nothing is the same as no penalty. */
    bool penalties = request->repeat_last_n != 0, dry = request->dry_penalty_last_n != 0;
    static const char *const breakers[] = {"\n", ":", "\"", "*"};
    return (struct sampling){
        .temperature = chosen.temperature,
        .top_k = chosen.top_k,
        .top_p = chosen.top_p,
        .min_p = chosen.min_p,
        .presence_penalty = penalties ? request->presence_penalty : 0,
        .frequency_penalty = penalties ? request->frequency_penalty : 0,
        .repetition_penalty = penalties ? chosen.repetition_penalty : 1,
        .penalty_window = request->repeat_last_n > 0 ? request->repeat_last_n : 0,
        .dry_multiplier = dry ? request->dry_multiplier : 0,
        .dry_base = request->dry_base,
        .dry_allowed_length = request->dry_allowed_length,
        .dry_window = request->dry_penalty_last_n > 0 ? request->dry_penalty_last_n : 0,
        .dry_breakers = request->dry_breakers ? request->dry_breakers : breakers,
        .n_dry_breakers = request->dry_breakers ? request->n_dry_breakers : sizeof breakers / sizeof *breakers,
        .xtc_probability = request->xtc_probability,
        .xtc_threshold = request->xtc_threshold,
        .seed = request->given[PARAM_seed] ? (uint64_t)request->seed : seed,
        .bias = request->bias,
        .n_bias = request->n_bias,
    };
}
