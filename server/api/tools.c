/* Reads tools and tool_choice: their shape, and which functions they leave. */
#include "tools.h"

#include <stdio.h>
#include <string.h>

enum { MAX_TOOLS = 1024, MAX_NAME = 256 };

static int invalid(struct api_error *error, const char *param, const char *wanted)
{
    return api_error_set(error, 400, "invalid_value", param, "'%s' must be %s.", param, wanted);
}

static json_t *member(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static const char *function_name(const json_t *tool)
{
    return json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
}

static int read_tool(const json_t *tool, size_t index, struct api_error *error)
{
    char param[96];
    const char *type = json_string_value(json_object_get(tool, "type"));
    snprintf(param, sizeof param, "tools[%zu].type", index);
    if (!type || strcmp(type, "function") != 0)
        return invalid(error, param, "\"function\"");
    const json_t *function = json_object_get(tool, "function");
    const json_t *parameters = member(function, "parameters"), *strict = member(function, "strict");
    size_t length = json_string_length(json_object_get(function, "name"));
    snprintf(param, sizeof param, "tools[%zu].function.name", index);
    if (length == 0)
        return invalid(error, param, "a string");
    if (length > MAX_NAME || strlen(function_name(tool)) != length)
        return invalid(error, param, "a name of at most 256 bytes");
    snprintf(param, sizeof param, "tools[%zu].function.parameters", index);
    if (parameters && !json_is_object(parameters))
        return invalid(error, param, "an object: a JSON Schema");
    snprintf(param, sizeof param, "tools[%zu].function.strict", index);
    return strict && !json_is_boolean(strict) ? invalid(error, param, "a boolean") : 0;
}

int api_read_tools(struct api_request *request, json_t *value, struct api_error *error)
{
    if (!json_is_array(value))
        return api_error_set(error, 400, "invalid_type", "tools", "'tools' must be an array.");
    if (json_array_size(value) > MAX_TOOLS)
        return api_error_set(error, 400, "invalid_value", "tools", "'tools' has %zu entries; %d are the most.",
                             json_array_size(value), MAX_TOOLS);
    size_t i;
    json_t *tool;
    json_array_foreach(value, i, tool) {
        if (read_tool(tool, i, error))
            return -1;
    }
    request->tools = json_array_size(value) > 0 ? value : NULL;
    return 0;
}

json_t *api_translate_tools(struct api_request *request, const json_t *value,
                            json_t *(*make_tool)(const json_t *tool, size_t index, struct api_error *),
                            struct api_error *error)
{
    if (!json_is_array(value)) {
        api_error_set(error, 400, "invalid_type", "tools", "'tools' must be an array.");
        return NULL;
    }
    json_t *tools = api_request_keep(request, json_array());
    size_t i;
    json_t *tool;
    json_array_foreach(value, i, tool) {
        json_t *made = make_tool(tool, i, error);
        if (!made)
            return NULL;
        if (json_array_append_new(tools, made)) {
            api_error_memory(error);
            return NULL;
        }
    }
    if (!tools)
        api_error_memory(error);
    return tools;
}

static int set_mode(struct api_request *request, const char *mode, const char *param, struct api_error *error)
{
    if (mode && strcmp(mode, "auto") == 0)
        return 0;
    if (!mode || strcmp(mode, "required") != 0)
        return invalid(error, param, "\"auto\" or \"required\"");
    request->needs_call = true;
    return 0;
}

int api_read_tool_choice(struct api_request *request, json_t *value, struct api_error *error)
{
    const char *choice = json_string_value(value), *type = json_string_value(json_object_get(value, "type"));
    if (choice && strcmp(choice, "none") == 0) {
        request->no_tools = true;
        return 0;
    }
    if (choice && (strcmp(choice, "auto") == 0 || strcmp(choice, "required") == 0))
        return set_mode(request, choice, "tool_choice", error);
    if (type && strcmp(type, "function") == 0 && function_name(value)) {
        request->needs_call = request->one_call = true;
        request->allowed = api_request_keep(request, json_pack("[O]", value));
        return request->allowed ? 0 : api_error_memory(error);
    }
    if (type && strcmp(type, "allowed_tools") == 0) {
        const json_t *allowed = json_object_get(value, "allowed_tools");
        request->allowed = json_object_get(allowed, "tools");
        if (json_array_size(request->allowed) == 0)
            return invalid(error, "tool_choice.allowed_tools.tools", "an array of tools, not empty");
        return set_mode(request, json_string_value(json_object_get(allowed, "mode")), "tool_choice.allowed_tools.mode",
                        error);
    }
    return invalid(error, "tool_choice", "\"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": "
                                         "{\"name\": …}}");
}

static json_t *find_tool(const json_t *tools, const json_t *wanted)
{
    const char *name = function_name(wanted);
    size_t i;
    json_t *tool;
    json_array_foreach(tools, i, tool) {
        if (name && strcmp(function_name(tool), name) == 0)
            return tool;
    }
    return NULL;
}

int api_check_tools(struct api_request *request, struct api_error *error)
{
    if (request->no_tools)
        request->tools = NULL;
    request->callable = request->tools;
    request->one_call |= !request->parallel_tool_calls;
    if ((request->needs_call || request->allowed) && !request->tools)
        return api_error_set(error, 400, "invalid_value", "tool_choice", "'tool_choice' needs 'tools'.");
    if (request->needs_call && request->grammar_spec)
        return api_error_set(error, 400, "invalid_value", "tool_choice",
                             "'tool_choice' that needs a call and '%s' cannot be given together.",
                             request->grammar_param);
    if (!request->allowed)
        return 0;
    request->callable = api_request_keep(request, json_array());
    for (size_t i = 0; i < json_array_size(request->allowed); i++) {
        const json_t *wanted = json_array_get(request->allowed, i);
        json_t *tool = find_tool(request->tools, wanted);
        const char *name = function_name(wanted);
        if (!tool)
            return api_error_set(error, 400, "invalid_value", "tool_choice",
                                 "'tool_choice' names \"%.100s\", which is none of 'tools'.", name ? name : "");
        if (json_array_append(request->callable, tool))
            return api_error_memory(error);
    }
    return 0;
}
