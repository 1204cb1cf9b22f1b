/* Reads the messages of a chat request: checks their shape, and turns what only OpenAI's wire
 * format knows into what chat templates expect. */
#include "request.h"

#include <stdio.h>
#include <string.h>

struct history {
    json_t *open; /* ids of calls that have no result yet */
};

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
 * would be quoted twice. */
static int read_arguments(json_t *function, const char *where, struct api_error *error)
{
    json_t *arguments = json_object_get(function, "arguments"), *object;
    if (json_is_object(arguments))
        return 0;
    char param[160];
    snprintf(param, sizeof param, "%s.arguments", where);
    if (arguments && !json_is_null(arguments) && !json_is_string(arguments))
        return invalid(error, param, "a string");
    if (json_string_length(arguments) == 0)
        object = json_object();
    else
        object = json_loadb(json_string_value(arguments), json_string_length(arguments), JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return invalid(error, param, "a JSON object in a string");
    }
    return json_object_set_new(function, "arguments", object) ? api_error_memory(error) : 0;
}

static int read_call(json_t *call, const char *where, struct history *history, struct api_error *error)
{
    char param[128];
    json_t *function = json_object_get(call, "function"), *id = json_object_get(call, "id");
    const json_t *type = json_object_get(call, "type");
    snprintf(param, sizeof param, "%s.type", where);
    if (type && !json_is_null(type) && (!json_is_string(type) || strcmp(json_string_value(type), "function") != 0))
        return invalid(error, param, "\"function\"");
    snprintf(param, sizeof param, "%s.id", where);
    if (!json_is_string(id))
        return invalid(error, param, "a string");
    snprintf(param, sizeof param, "%s.function", where);
    if (!json_is_object(function))
        return invalid(error, param, "an object");
    if (read_arguments(function, param, error))
        return -1;
    snprintf(param, sizeof param, "%s.function.name", where);
    if (!json_is_string(json_object_get(function, "name")))
        return invalid(error, param, "a string");
    return json_array_append(history->open, id) ? api_error_memory(error) : 0;
}

static int read_tool_calls(json_t *message, size_t index, struct history *history, struct api_error *error)
{
    char param[96];
    json_t *calls = json_object_get(message, "tool_calls");
    if (!calls)
        return 0;
    if (json_is_null(calls) || (json_is_array(calls) && json_array_size(calls) == 0)) {
        json_object_del(message, "tool_calls");
        return 0;
    }
    snprintf(param, sizeof param, "messages[%zu].tool_calls", index);
    if (!json_is_array(calls))
        return invalid(error, param, "an array");
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call) {
        snprintf(param, sizeof param, "messages[%zu].tool_calls[%zu]", index, i);
        if (read_call(call, param, history, error))
            return -1;
    }
    return 0;
}

/* The older form of calls and results: function_call and the role "function", without ids. */
static int read_old_call(json_t *message, size_t index, const struct history *history, struct api_error *error)
{
    char param[96], id[32];
    json_t *call = json_object_get(message, "function_call");
    const char *role = json_string_value(json_object_get(message, "role"));
    if (role && strcmp(role, "function") == 0) {
        json_t *open = json_array_get(history->open, 0);
        snprintf(param, sizeof param, "messages[%zu].name", index);
        if (!json_is_string(json_object_get(message, "name")))
            return invalid(error, param, "a string");
        snprintf(param, sizeof param, "messages[%zu]", index);
        if (!open)
            return api_error_set(error, 400, "invalid_value", param,
                                 "'%s': messages with role 'function' must be a response to a preceding message with "
                                 "'function_call'.", param);
        return json_object_set_new(message, "role", json_string("tool")) ||
               json_object_set(message, "tool_call_id", open) ? api_error_memory(error) : 0;
    }
    if (!role || strcmp(role, "assistant") != 0 || !call || json_is_null(call))
        return 0;
    snprintf(param, sizeof param, "messages[%zu].function_call", index);
    if (!json_is_object(call) || json_array_size(json_object_get(message, "tool_calls")) > 0)
        return invalid(error, param, "an object, and not together with tool_calls");
    if (read_arguments(call, param, error))
        return -1;
    snprintf(param, sizeof param, "messages[%zu].function_call.name", index);
    if (!json_is_string(json_object_get(call, "name")))
        return invalid(error, param, "a string");
    snprintf(id, sizeof id, "function_%zu", index);
    json_t *calls = json_pack("[{s:s, s:s, s:O}]", "id", id, "type", "function", "function", call);
    if (json_object_set_new(message, "tool_calls", calls) || json_object_del(message, "function_call"))
        return api_error_memory(error);
    return 0;
}

/* Results belong to calls of the assistant's message before them, and every call gets one before somebody else
 * speaks. */
static int read_order(const json_t *message, const char *role, size_t index, struct history *history,
                      struct api_error *error)
{
    char param[96];
    const char *id = json_string_value(json_object_get(message, "tool_call_id"));
    if (strcmp(role, "tool") != 0) {
        snprintf(param, sizeof param, "messages[%zu]", index);
        const char *missing = json_string_value(json_array_get(history->open, 0));
        if (!missing)
            return 0;
        return api_error_set(error, 400, "invalid_value", param,
                             "An assistant message with 'tool_calls' must be followed by tool messages responding to "
                             "each 'tool_call_id'; the call \"%.60s\" has none before '%s'.", missing, param);
    }
    snprintf(param, sizeof param, "messages[%zu].tool_call_id", index);
    if (!id)
        return invalid(error, param, "a string");
    for (size_t i = 0; i < json_array_size(history->open); i++) {
        if (strcmp(json_string_value(json_array_get(history->open, i)), id) == 0)
            return json_array_remove(history->open, i) ? api_error_memory(error) : 0;
    }
    return api_error_set(error, 400, "invalid_value", param,
                         "'%s' is \"%.60s\": messages with role 'tool' must be a response to a preceding message with "
                         "'tool_calls' that has this id.", param, id);
}

/* Reasoning of earlier turns, under either of its names; whether it is shown again is the template's choice. */
static int read_reasoning(json_t *message, size_t index, struct api_error *error)
{
    static const char *const names[] = {"reasoning_content", "reasoning"};
    json_t *found = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char param[96];
        json_t *value = json_object_get(message, names[i]);
        if (!value || json_is_null(value))
            continue;
        snprintf(param, sizeof param, "messages[%zu].%s", index, names[i]);
        if (!json_is_string(value))
            return invalid(error, param, "a string");
        found = found ? found : value;
    }
    return found && json_object_set(message, names[0], found) ? api_error_memory(error) : 0;
}

static int read_message(json_t *message, size_t index, struct history *history, struct api_error *error)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    char param[96];
    snprintf(param, sizeof param, "messages[%zu]", index);
    if (!json_is_object(message))
        return invalid(error, param, "an object");

    if (read_old_call(message, index, history, error))
        return -1;
    snprintf(param, sizeof param, "messages[%zu].role", index);
    const char *given = json_string_value(json_object_get(message, "role")), *role = NULL;
    for (size_t i = 0; given && i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(given, roles[i]) == 0)
            role = roles[i];
    }
    if (!role)
        return invalid(error, param,
                       "one of \"system\", \"developer\", \"user\", \"assistant\", \"tool\" and \"function\"");

    const json_t *name = json_object_get(message, "name");
    snprintf(param, sizeof param, "messages[%zu].name", index);
    if (name && !json_is_null(name) && !json_is_string(name))
        return invalid(error, param, "a string");
    if (read_order(message, role, index, history, error) || read_reasoning(message, index, error))
        return -1;
    bool calls = strcmp(role, "assistant") == 0;
    if ((calls && read_tool_calls(message, index, history, error)) || read_content(message, role, index, error))
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
    struct history history = {.open = json_array()};
    int failed = history.open ? 0 : api_error_memory(error);
    for (size_t i = 0; !failed && i < json_array_size(value); i++)
        failed = read_message(json_array_get(value, i), i, &history, error);
    json_decref(history.open);
    request->messages = value;
    return failed;
}
