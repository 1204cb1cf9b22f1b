/* How much a model is to think, as its chat template takes it. */
#include <stdlib.h>
#include <string.h>

#include "tools.h"

/* The reference to value is taken. */
static int set_variable(struct api_request *request, const char *name, json_t *value, struct api_error *error)
{
    if (!request->template_kwargs)
        request->template_kwargs = api_request_keep(request, json_object());
    bool there = json_object_get(request->template_kwargs, name);
    int failed = !value || (!there && json_object_set(request->template_kwargs, name, value));
    json_decref(value);
    return failed ? api_error_memory(error) : 0;
}

int api_request_thinking(struct api_request *request, bool enabled, int budget, struct api_error *error)
{
    if (budget >= 0 && !request->given[PARAM_thinking_budget])
        request->thinking_budget = budget;
    return set_variable(request, "enable_thinking", json_boolean(enabled), error);
}

int api_request_effort(struct api_request *request, const char *effort, const char *param, struct api_error *error)
{
    static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    bool known = false;
    for (size_t i = 0; i < sizeof efforts / sizeof *efforts; i++)
        known |= strcmp(effort, efforts[i]) == 0;
    if (!known)
        return api_error_set(error, 400, "invalid_value", param,
                             "'%s' must be one of none, minimal, low, medium, high, xhigh and max.", param);
    if (strcmp(effort, "none") == 0)
        return api_request_thinking(request, false, -1, error);
    return set_variable(request, "reasoning_effort", json_string(effort), error);
}

/* The token that `text` is; -1: it takes several. *error is set only without memory. */
static int find_token(const struct model *model, const char *text, int32_t *id, struct api_error *error)
{
    struct ids ids;
    struct err err = {0};
    if (engine_tokenize(model, text, strlen(text), TOKENIZE_SPECIAL, &ids, &err))
        return api_error_engine(error, &err, NULL);
    *id = ids.n == 1 ? ids.ids[0] : -1;
    free(ids.ids);
    return 0;
}

int api_prepare_thinking(struct api_request *request, const struct model *model, struct api_error *error)
{
    static const char end[] = "\n</think>\n\n";
    struct engine_thinking *t = &request->thinking;
    struct ids ids;
    struct err err = {0};
    if (request->thinking_budget < 0 || (!request->pieces.thinks && !request->pieces.thinking))
        return 0;
    if (find_token(model, "<think>", &t->open, error) || find_token(model, "</think>", &t->close, error))
        return -1;
    if (t->open < 0 || t->close < 0)
        return api_error_set(error, 400, "unsupported_value", "thinking_budget",
                             "'thinking_budget' is not supported by this model: its think tags are no tokens.");
    if (engine_tokenize(model, end, sizeof end - 1, TOKENIZE_SPECIAL, &ids, &err))
        return api_error_engine(error, &err, NULL);
    if (ids.n <= sizeof t->end / sizeof *t->end) {
        memcpy(t->end, ids.ids, ids.n * sizeof *t->end);
        t->n_end = (int)ids.n;
    }
    free(ids.ids);
    t->budget = request->thinking_budget;
    if (request->pieces.thinking)
        t->open = -1;
    return 0;
}
