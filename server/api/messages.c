/* Reads messages and tools of a chat request: checks their shape, and turns what only OpenAI's wire
 * format knows into what chat templates expect. */
#include "request.h"

#include <stdio.h>
#include <string.h>

static int invalid(struct api_error *error, const char *param, const char *wanted)
{
    return api_error_set(error, 400, "invalid_value", param, "'%s' must be %s.", param, wanted);
}

/* One part of a content array: text, or an assistant's refusal, which templates see as text. */
static int read_part(json_t *part, const char *where, struct api_error *error)
{
    char param[128];
    if (!json_is_object(part))
        return invalid(error, where, "an object");
    const char *type = json_string_value(json_object_get(part, "type"));
    if (!type) {
        snprintf(param, sizeof param, "%s.type", where);
        return invalid(error, param, "a string");
    }
    bool refusal = strcmp(type, "refusal") == 0;
    if (!refusal && strcmp(type, "text") != 0) {
        snprintf(param, sizeof param, "%s.type", where);
        return api_error_set(error, 400, "unsupported_value", param,
                             "'%s' is \"%.40s\": this model takes parts of type \"text\" only.", param, type);
    }
    json_t *text = json_object_get(part, refusal ? "refusal" : "text");
    if (!json_is_string(text)) {
        snprintf(param, sizeof param, "%s.%s", where, refusal ? "refusal" : "text");
        return invalid(error, param, "a string");
    }
    if (refusal &&
        (json_object_set(part, "text", text) || json_object_set_new(part, "type", json_string("text"))))
        return api_error_memory(error);
    return 0;
}

static int read_content(json_t *message, const char *role, size_t index, struct api_error *error)
{
    char param[96];
    snprintf(param, sizeof param, "messages[%zu].content", index);
    json_t *content = json_object_get(message, "content");
    if (json_is_string(content))
        return 0;
    if (json_is_array(content)) {
        size_t i;
        json_t *part;
        json_array_foreach(content, i, part) {
            snprintf(param, sizeof param, "messages[%zu].content[%zu]", index, i);
            if (read_part(part, param, error))
                return -1;
        }
        return 0;
    }
    if ((content && !json_is_null(content)) || strcmp(role, "assistant") != 0)
        return invalid(error, param, "a string or an array of text parts");
    /* Templates join the content of a turn that calls no tools. */
    if (json_array_size(json_object_get(message, "tool_calls")) == 0 &&
        json_object_set_new(message, "content", json_string("")))
        return api_error_memory(error);
    return 0;
}

/* Arguments travel as a string of JSON, and templates print them with tojson: as a string they
 * would be quoted twice. A string that is no object stays what it is. */
static int read_arguments(json_t *function, const char *where, struct api_error *error)
{
    json_t *arguments = json_object_get(function, "arguments");
    if (json_is_object(arguments) || !arguments || json_is_null(arguments))
        return 0;
    char param[128];
    snprintf(param, sizeof param, "%s.arguments", where);
    if (!json_is_string(arguments))
        return invalid(error, param, "a string");
    json_t *object = json_loadb(json_string_value(arguments), json_string_length(arguments), 0, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return 0;
    }
    return json_object_set_new(function, "arguments", object) ? api_error_memory(error) : 0;
}

static int read_tool_calls(json_t *message, size_t index, struct api_error *error)
{
    char param[96];
    json_t *calls = json_object_get(message, "tool_calls");
    if (!calls)
        return 0;
    if (json_is_null(calls)) {
        json_object_del(message, "tool_calls");
        return 0;
    }
    snprintf(param, sizeof param, "messages[%zu].tool_calls", index);
    if (!json_is_array(calls))
        return invalid(error, param, "an array");
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call) {
        json_t *function = json_object_get(call, "function");
        snprintf(param, sizeof param, "messages[%zu].tool_calls[%zu].function", index, i);
        if (!json_is_object(function))
            return invalid(error, param, "an object");
        if (read_arguments(function, param, error))
            return -1;
        if (!json_is_string(json_object_get(function, "name"))) {
            snprintf(param, sizeof param, "messages[%zu].tool_calls[%zu].function.name", index, i);
            return invalid(error, param, "a string");
        }
    }
    return 0;
}

static int read_message(json_t *message, size_t index, struct api_error *error)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    char param[96];
    snprintf(param, sizeof param, "messages[%zu]", index);
    if (!json_is_object(message))
        return invalid(error, param, "an object");

    snprintf(param, sizeof param, "messages[%zu].role", index);
    const char *given = json_string_value(json_object_get(message, "role")), *role = NULL;
    for (size_t i = 0; given && i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(given, roles[i]) == 0)
            role = roles[i];
    }
    if (!role)
        return invalid(error, param,
                       "one of \"system\", \"developer\", \"user\", \"assistant\" and \"tool\"");

    if (read_tool_calls(message, index, error) || read_content(message, role, index, error))
        return -1;
    if (strcmp(role, "developer") == 0 && json_object_set_new(message, "role", json_string("system")))
        return api_error_memory(error);
    return 0;
}

int api_read_messages(struct api_request *request, json_t *value, struct api_error *error)
{
    if (!json_is_array(value))
        return api_error_set(error, 400, "invalid_type", "messages", "'messages' must be an array.");
    if (json_array_size(value) == 0)
        return api_error_set(error, 400, "invalid_value", "messages", "'messages' must not be empty.");
    size_t i;
    json_t *message;
    json_array_foreach(value, i, message) {
        if (read_message(message, i, error))
            return -1;
    }
    request->messages = value;
    return 0;
}

int api_read_tools(struct api_request *request, json_t *value, struct api_error *error)
{
    if (!json_is_array(value))
        return api_error_set(error, 400, "invalid_type", "tools", "'tools' must be an array.");
    char param[96];
    size_t i;
    json_t *tool;
    json_array_foreach(value, i, tool) {
        const char *type = json_string_value(json_object_get(tool, "type"));
        snprintf(param, sizeof param, "tools[%zu].type", i);
        if (!type || strcmp(type, "function") != 0)
            return invalid(error, param, "\"function\"");
        snprintf(param, sizeof param, "tools[%zu].function.name", i);
        if (!json_is_string(json_object_get(json_object_get(tool, "function"), "name")))
            return invalid(error, param, "a string");
    }
    request->tools = json_array_size(value) > 0 ? value : NULL;
    return 0;
}
