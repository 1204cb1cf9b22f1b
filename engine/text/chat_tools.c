/* Tools for chat templates that know none: descriptions, calls and results become text of ordinary messages. */
#include "chat.h"

#include <stdlib.h>
#include <string.h>

static const char before[] = "You can call functions. Each line between the tags describes one of them as JSON:\n<tools>\n";
static const char after[] =
    "</tools>\n\nTo call a function, write its name and its arguments as one JSON object between these tags:\n"
    "<tool_call>\n{\"name\": \"function's name\", \"arguments\": {\"argument's name\": \"value\"}}\n</tool_call>\n"
    "Results come back between <tool_response> tags.";

enum engine_calls chat_calls(const char *source)
{
    if (!source || !strstr(source, "tools"))
        return ENGINE_CALLS_NONE;
    bool bare = strstr(source, "\"parameters\"") && !strstr(source, "<tool_call>");
    return bare ? ENGINE_CALLS_BARE : ENGINE_CALLS_TAGGED;
}

bool chat_thinks(const char *source)
{
    return source && (strstr(source, "</think>") || strstr(source, "enable_thinking"));
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory for a conversation");
}

/* A string that ends with the next part; both references are taken. NULL: no memory. */
static json_t *joined(json_t *text, const char *between, json_t *next)
{
    json_t *both = text && next ? json_sprintf("%s%s%s", json_string_value(text), between, json_string_value(next))
                                : NULL;
    json_decref(text);
    json_decref(next);
    return both;
}

static json_t *dumped(const json_t *value, const char *head, const char *tail)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    json_t *string = text ? json_sprintf("%s%s%s", head, text, tail) : NULL;
    free(text);
    return string;
}

static json_t *description(const json_t *tools)
{
    json_t *text = json_string(before);
    size_t i;
    json_t *tool;
    json_array_foreach(tools, i, tool) text = joined(text, "", dumped(tool, "", "\n"));
    return joined(text, "", json_string(after));
}

/* Behind what the system message says, or as one. */
static int describe(json_t *messages, const json_t *tools, struct err *err)
{
    json_t *first = json_array_get(messages, 0), *text = description(tools);
    const char *role = json_string_value(json_object_get(first, "role"));
    if (role && strcmp(role, "system") == 0) {
        text = joined(json_incref(json_object_get(first, "content")), "\n\n", text);
        return !text || json_object_set_new(first, "content", text) ? no_memory(err) : 0;
    }
    json_t *system = json_pack("{s:s, s:o}", "role", "system", "content", text);
    return json_array_insert_new(messages, 0, system) ? no_memory(err) : 0;
}

/* Calls as text behind the content. */
static int write_calls(json_t *message, struct err *err)
{
    const json_t *calls = json_object_get(message, "tool_calls");
    json_t *text = json_incref(json_object_get(message, "content"));
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call) {
        const json_t *function = json_object_get(call, "function");
        json_t *object = json_pack("{s:O, s:O}", "name", json_object_get(function, "name"), "arguments",
                                   json_object_get(function, "arguments"));
        json_t *line = object ? dumped(object, "<tool_call>\n", "\n</tool_call>") : NULL;
        json_decref(object);
        text = joined(text, json_string_length(text) > 0 ? "\n" : "", line);
    }
    if (!text || json_object_set_new(message, "content", text))
        return no_memory(err);
    json_object_del(message, "tool_calls");
    return 0;
}

/* Results that follow each other are one turn of the user. */
static int write_results(json_t *messages, size_t first, struct err *err)
{
    json_t *text = NULL, *message = json_array_get(messages, first), *next = message;
    do {
        json_t *result = json_sprintf("<tool_response>\n%s\n</tool_response>",
                                      json_string_value(json_object_get(next, "content")));
        text = text ? joined(text, "\n", result) : result;
        if (!text)
            return no_memory(err);
        if (next != message)
            json_array_remove(messages, first + 1);
        next = json_array_get(messages, first + 1);
    } while (next && strcmp(json_string_value(json_object_get(next, "role")), "tool") == 0);
    if (json_object_set_new(message, "content", text) || json_object_set_new(message, "role", json_string("user")))
        return no_memory(err);
    return 0;
}

int chat_describe_tools(json_t *context, struct err *err)
{
    json_t *messages = json_object_get(context, "messages"), *tools = json_object_get(context, "tools");
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        if (json_object_get(message, "tool_calls"))
            rc = write_calls(message, err);
        else if (strcmp(json_string_value(json_object_get(message, "role")), "tool") == 0)
            rc = write_results(messages, i, err);
    }
    if (rc || json_array_size(tools) == 0)
        return rc;
    return describe(messages, tools, err);
}
