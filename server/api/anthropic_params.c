/* The parameters of /v1/messages that chat has in another shape, and the shapes of its errors and models. */
#include "anthropic.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "members.h"
#include "tools.h"

enum { WHERE = 96 };

static json_t *make_tool(const json_t *tool, size_t index, struct api_error *error)
{
    char param[WHERE + 32];
    const char *name = text_member(tool, "name"), *type = text_member(tool, "type");
    snprintf(param, sizeof param, "tools[%zu].type", index);
    if (member(tool, "type") && !type) {
        invalid_member(error, param, "a string");
        return NULL;
    }
    if (type && strcmp(type, "custom") != 0) {
        api_error_set(error, 400, "unsupported_value", param,
                      "'%s': the tool \"%.40s\" is not supported; only tools with an input_schema are.", param, type);
        return NULL;
    }
    snprintf(param, sizeof param, "tools[%zu].name", index);
    if (!name || !*name) {
        invalid_member(error, param, "a string");
        return NULL;
    }
    snprintf(param, sizeof param, "tools[%zu].input_schema", index);
    if (!json_is_object(json_object_get(tool, "input_schema"))) {
        invalid_member(error, param, "an object");
        return NULL;
    }
    json_t *made = json_pack("{s:s, s:{s:s, s:O*, s:O, s:O*}}", "type", "function", "function", "name", name,
                             "description", member(tool, "description"), "parameters",
                             json_object_get(tool, "input_schema"), "strict", member(tool, "strict"));
    if (!made)
        api_error_memory(error);
    return made;
}

json_t *anthropic_tools(struct api_request *request, const json_t *value, struct api_error *error)
{
    return api_translate_tools(request, value, make_tool, error);
}

json_t *anthropic_tool_choice(struct api_request *request, const json_t *value, struct api_error *error)
{
    static const char *const names[][2] = {{"auto", "auto"}, {"any", "required"}, {"none", "none"}};
    const char *type = text_member(value, "type"), *name = text_member(value, "name");
    json_t *alone = member(value, "disable_parallel_tool_use"), *made = NULL;
    if (!type) {
        invalid_member(error, "tool_choice", "an object with a type");
        return NULL;
    }
    if (alone && !json_is_boolean(alone)) {
        invalid_member(error, "tool_choice.disable_parallel_tool_use", "a boolean");
        return NULL;
    }
    if (json_is_true(alone))
        request->parallel_tool_calls = false;
    bool tool = strcmp(type, "tool") == 0, known = tool;
    if (tool && !name) {
        invalid_member(error, "tool_choice.name", "a string");
        return NULL;
    }
    if (tool)
        made = json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", name);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(type, names[i][0]) == 0) {
            known = true;
            made = json_string(names[i][1]);
        }
    }
    if (!known) {
        invalid_member(error, "tool_choice.type", "one of \"auto\", \"any\", \"tool\" and \"none\"");
        return NULL;
    }
    made = api_request_keep(request, made);
    if (!made)
        api_error_memory(error);
    return made;
}

int anthropic_read_thinking(struct api_request *request, const json_t *value, struct api_error *error)
{
    static const char *const types[] = {"enabled", "disabled", "adaptive", "between_tools"};
    const char *type = text_member(value, "type");
    bool known = false;
    int64_t budget = 0;
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
        known |= strcmp(type, types[i]) == 0;
    if (!json_is_object(value))
        return api_error_set(error, 400, "invalid_type", "thinking", "'thinking' must be an object.");
    if (!known)
        return invalid_member(error, "thinking.type",
                              "one of \"enabled\", \"disabled\", \"adaptive\" and \"between_tools\"");
    bool enabled = strcmp(type, "enabled") == 0;
    json_t *tokens = member(value, "budget_tokens");
    if (enabled && (!tokens || !api_json_integer(tokens, &budget) || budget < 1 || budget > INT32_MAX))
        return invalid_member(error, "thinking.budget_tokens", "a positive integer");
    return api_request_thinking(request, strcmp(type, "disabled") != 0, enabled ? (int)budget : -1, error);
}

int anthropic_read_metadata(struct api_request *request, const json_t *value, struct api_error *error)
{
    if (!json_is_object(value))
        return api_error_set(error, 400, "invalid_type", "metadata", "'metadata' must be an object.");
    json_t *user = member(value, "user_id");
    if (user && !json_is_string(user))
        return api_error_set(error, 400, "invalid_type", "metadata.user_id", "'metadata.user_id' must be a string.");
    request->end_user = json_string_value(user);
    return 0;
}

int anthropic_read_output(struct api_request *request, const json_t *value, json_t **format, struct api_error *error)
{
    *format = NULL;
    if (!json_is_object(value))
        return api_error_set(error, 400, "invalid_type", "output_config", "'output_config' must be an object.");
    json_t *wanted = member(value, "format"), *effort = member(value, "effort");
    if (effort && !json_is_string(effort))
        return api_error_set(error, 400, "invalid_type", "output_config.effort",
                             "'output_config.effort' must be a string.");
    if (effort && api_request_effort(request, json_string_value(effort), "output_config.effort", error))
        return -1;
    if (!wanted)
        return 0;
    const char *type = text_member(wanted, "type");
    json_t *schema = json_object_get(wanted, "schema");
    if (!type || strcmp(type, "json_schema") != 0)
        return invalid_member(error, "output_config.format.type", "\"json_schema\"");
    if (!json_is_object(schema))
        return invalid_member(error, "output_config.format.schema", "an object");
    *format = api_request_keep(request, json_pack("{s:s, s:{s:s, s:b, s:O}}", "type", "json_schema", "json_schema",
                                                  "name", "answer", "strict", 1, "schema", schema));
    return *format ? 0 : api_error_memory(error);
}

json_t *anthropic_model_json(json_t *model)
{
    time_t created = (time_t)json_integer_value(json_object_get(model, "created"));
    const char *id = text_member(model, "id");
    json_t *longest = json_object_get(model, "max_model_len");
    struct tm utc;
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&created, &utc));
    json_t *made = json_pack("{s:s, s:s, s:s, s:s, s:s, s:O?}", "type", "model", "id", id, "display_name", id,
                             "created_at", text, "lifecycle", "active", "max_input_tokens", longest);
    json_decref(model);
    return made;
}

json_t *anthropic_model_list_json(json_t *list)
{
    json_t *models = json_array(), *data = json_object_get(list, "data"), *model;
    size_t i, n = json_array_size(data);
    int failed = !models;
    json_array_foreach(data, i, model)
        failed |= json_array_append_new(models, anthropic_model_json(json_incref(model)));
    json_t *made = failed ? NULL
                          : json_pack("{s:O, s:b, s:s?, s:s?}", "data", models, "has_more", 0, "first_id",
                                      text_member(json_array_get(data, 0), "id"), "last_id",
                                      n > 0 ? text_member(json_array_get(data, n - 1), "id") : NULL);
    json_decref(models);
    json_decref(list);
    return made;
}

static const char *error_type(int status)
{
    switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503: return "overloaded_error";
    case 504: return "timeout_error";
    default: return status >= 500 ? "api_error" : "invalid_request_error";
    }
}

json_t *anthropic_error_json(const struct api_error *error, const char *request_id)
{
    return json_pack("{s:s, s:{s:s, s:s}, s:s?}", "type", "error", "error", "type", error_type(error->status),
                     "message", error->err.text, "request_id", request_id);
}
