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

static int read_function(const json_t *function, const char *where, struct api_error *error)
{
    char param[96];
    const json_t *parameters = member(function, "parameters"), *strict = member(function, "strict");
    const json_t *name = json_object_get(function, "name");
    size_t length = json_string_length(name);
    snprintf(param, sizeof param, "%s.name", where);
    if (length == 0)
        return invalid(error, param, "a string");
    if (length > MAX_NAME || strlen(json_string_value(name)) != length)
        return invalid(error, param, "a name of at most 256 bytes");
    snprintf(param, sizeof param, "%s.parameters", where);
    if (parameters && !json_is_object(parameters))
        return invalid(error, param, "an object: a JSON Schema");
    snprintf(param, sizeof param, "%s.strict", where);
    return strict && !json_is_boolean(strict) ? invalid(error, param, "a boolean") : 0;
}

static int read_tool(const json_t *tool, size_t index, struct api_error *error)
{
    char where[64];
    const char *type = json_string_value(json_object_get(tool, "type"));
    snprintf(where, sizeof where, "tools[%zu].type", index);
    if (!type || strcmp(type, "function") != 0)
        return invalid(error, where, "\"function\"");
    snprintf(where, sizeof where, "tools[%zu].function", index);
    return read_function(json_object_get(tool, "function"), where, error);
}

static int check_list(const json_t *value, const char *param, struct api_error *error)
{
    if (!json_is_array(value))
        return api_error_set(error, 400, "invalid_type", param, "'%s' must be an array.", param);
    if (json_array_size(value) > MAX_TOOLS)
        return api_error_set(error, 400, "invalid_value", param, "'%s' has %zu entries; %d are the most.", param,
                             json_array_size(value), MAX_TOOLS);
    return 0;
}

int api_read_tools(struct api_request *request, json_t *value, struct api_error *error)
{
    if (check_list(value, "tools", error))
        return -1;
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

int api_read_functions(struct api_request *request, const json_t *value, struct api_error *error)
{
    if (check_list(value, "functions", error))
        return -1;
    if (json_array_size(value) == 0)
        return 0;
    if (request->tools || request->given[PARAM_tool_choice])
        return api_error_set(error, 400, "invalid_value", "functions",
                             "'functions' cannot be given together with '%s'.", request->tools ? "tools" : "tool_choice");
    request->old_calls = request->one_call = true;
    request->tools = api_request_keep(request, json_array());
    size_t i;
    json_t *function;
    json_array_foreach(value, i, function) {
        char where[64];
        snprintf(where, sizeof where, "functions[%zu]", i);
        if (read_function(function, where, error))
            return -1;
        json_t *tool = json_pack("{s:s, s:O}", "type", "function", "function", function);
        if (json_array_append_new(request->tools, tool))
            return api_error_memory(error);
    }
    return 0;
}

int api_read_function_call(struct api_request *request, const json_t *value, struct api_error *error)
{
    const char *choice = json_string_value(value);
    const json_t *name = json_object_get(value, "name");
    if (choice && strcmp(choice, "none") == 0) {
        request->no_tools |= request->old_calls;
        return 0;
    }
    if (choice && strcmp(choice, "auto") == 0)
        return 0;
    if (!json_is_string(name))
        return invalid(error, "function_call", "\"none\", \"auto\" or {\"name\": …}");
    if (!request->old_calls)
        return api_error_set(error, 400, "invalid_value", "function_call", "'function_call' needs 'functions'.");
    request->needs_call = true;
    request->allowed = api_request_keep(request, json_pack("[{s:{s:O}}]", "function", "name", name));
    return request->allowed ? 0 : api_error_memory(error);
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
    const char *choice = request->old_calls ? "function_call" : "tool_choice";
    const char *tools = request->old_calls ? "functions" : "tools";
    if (request->no_tools)
        request->tools = NULL;
    request->callable = request->tools;
    request->one_call |= !request->parallel_tool_calls;
    if ((request->needs_call || request->allowed) && !request->tools)
        return api_error_set(error, 400, "invalid_value", choice, "'%s' needs '%s'.", choice, tools);
    if (request->needs_call && request->grammar_spec)
        return api_error_set(error, 400, "invalid_value", choice,
                             "'%s' that needs a call and '%s' cannot be given together.", choice,
                             request->grammar_param);
    if (!request->allowed)
        return 0;
    request->callable = api_request_keep(request, json_array());
    for (size_t i = 0; i < json_array_size(request->allowed); i++) {
        const json_t *wanted = json_array_get(request->allowed, i);
        json_t *tool = find_tool(request->tools, wanted);
        const char *name = function_name(wanted);
        if (!tool)
            return api_error_set(error, 400, "invalid_value", choice, "'%s' names \"%.100s\", which is none of '%s'.",
                                 choice, name ? name : "", tools);
        if (json_array_append(request->callable, tool))
            return api_error_memory(error);
    }
    return 0;
}
