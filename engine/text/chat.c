/* Brings a conversation, as clients send it, into the shape that chat templates are written for.
 * Everything is checked here, so that a wrong message is an error with its place and not whatever
 * a template makes of it. */
#include "chat.h"

#include <stdbool.h>
#include <string.h>

static int wrong(struct err *err, size_t message, const char *path, const char *expected)
{
    return err_set(err, ERR_INVALID, "messages[%zu]%s%s", message, path, expected);
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory for a conversation");
}

/* null is the same as absent everywhere in the API. */
static json_t *member(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

/* ---- content ---- */

static int check_part(const json_t *part, size_t message, size_t index, struct err *err)
{
    char path[64];
    const char *type = json_string_value(member(part, "type"));
    snprintf(path, sizeof path, ".content[%zu]", index);
    if (!json_is_object(part))
        return wrong(err, message, path, " must be an object");
    if (!type)
        return wrong(err, message, path, ".type must be a string");
    if (strcmp(type, "text") != 0 && strcmp(type, "refusal") != 0)
        return wrong(err, message, path, ".type must be \"text\": this server reads text only");
    if (!json_is_string(member(part, type)))
        return wrong(err, message, path,
                     strcmp(type, "text") == 0 ? ".text must be a string" : ".refusal must be a string");
    return 0;
}

/* An array of text parts as one string. */
static int join_parts(const json_t *parts, size_t message, json_t **out, struct err *err)
{
    size_t length = 0, at = 0;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        int rc = check_part(part, message, i, err);
        if (rc)
            return rc;
        length += json_string_length(member(part, json_string_value(member(part, "type"))));
    }
    char *text = malloc(length + 1);
    if (!text)
        return no_memory(err);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const json_t *string = member(part, json_string_value(member(part, "type")));
        memcpy(text + at, json_string_value(string), json_string_length(string));
        at += json_string_length(string);
    }
    *out = json_stringn_nocheck(text, length); /* made of valid strings */
    free(text);
    return *out ? 0 : no_memory(err);
}

/* Only an assistant may say nothing: its turn can consist of tool calls or a refusal. */
static int prepare_content(const json_t *message, size_t index, bool assistant, json_t **out, struct err *err)
{
    json_t *content = member(message, "content");
    if (!content && assistant)
        content = member(message, "refusal");
    if (json_is_string(content)) {
        *out = json_incref(content);
        return 0;
    }
    if (json_is_array(content))
        return join_parts(content, index, out, err);
    if (content || !assistant)
        return wrong(err, index, ".content", " must be a string or an array of text parts");
    *out = json_string("");
    return *out ? 0 : no_memory(err);
}

/* ---- tool calls ---- */

/* Templates write arguments with tojson: a string would be quoted a second time. */
static int parse_arguments(json_t *function, const char *path, size_t message, struct err *err)
{
    json_t *arguments = member(function, "arguments");
    if (json_is_object(arguments))
        return 0;
    if (arguments && !json_is_string(arguments))
        return wrong(err, message, path, ".function.arguments must be a string");
    json_t *object;
    if (!arguments || json_string_length(arguments) == 0)
        object = json_object();
    else
        object = json_loadb(json_string_value(arguments), json_string_length(arguments),
                            JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return wrong(err, message, path, ".function.arguments must be a JSON object in a string");
    }
    return json_object_set_new(function, "arguments", object) ? no_memory(err) : 0;
}

/* `calls` is a copy already, down to the functions. */
static int prepare_calls(json_t *calls, size_t message, struct err *err)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        char path[64];
        json_t *call = json_array_get(calls, i), *function = json_object_get(call, "function");
        snprintf(path, sizeof path, ".tool_calls[%zu]", i);
        if (!json_is_object(call))
            return wrong(err, message, path, " must be an object");
        if (!json_is_object(function))
            return wrong(err, message, path, ".function must be an object");
        if (!json_is_string(json_object_get(function, "name")))
            return wrong(err, message, path, ".function.name must be a string");
        int rc = parse_arguments(function, path, message, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int copy_calls(json_t *message, size_t index, struct err *err)
{
    json_t *calls = json_object_get(message, "tool_calls");
    if (!calls)
        return 0;
    /* Absent and empty are the same; templates ask whether it is there. */
    if (json_is_null(calls) || (json_is_array(calls) && json_array_size(calls) == 0)) {
        json_object_del(message, "tool_calls");
        return 0;
    }
    if (!json_is_array(calls))
        return wrong(err, index, ".tool_calls", " must be an array");
    json_t *copy = json_deep_copy(calls);
    if (!copy || json_object_set_new(message, "tool_calls", copy))
        return no_memory(err);
    return prepare_calls(copy, index, err);
}

/* ---- messages ---- */

static int prepare_role(json_t *message, size_t index, bool *assistant, struct err *err)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    const char *role = json_string_value(json_object_get(message, "role"));
    if (!role)
        return wrong(err, index, ".role", " must be a string");
    *assistant = strcmp(role, "assistant") == 0;
    if (strcmp(role, "developer") == 0) {
        json_t *system = json_string("system");
        return json_object_set_new(message, "role", system) ? no_memory(err) : 0;
    }
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(role, roles[i]) == 0)
            return 0;
    return wrong(err, index, ".role", " must be one of system, developer, user, assistant, tool");
}

static int prepare_message(const json_t *input, size_t index, json_t **out, struct err *err)
{
    json_t *content;
    bool assistant = false;
    if (!json_is_object(input))
        return wrong(err, index, "", " must be an object");
    *out = json_copy((json_t *)input); /* jansson copies from what it calls writable */
    if (!*out)
        return no_memory(err);
    int rc = prepare_role(*out, index, &assistant, err);
    if (rc == 0)
        rc = prepare_content(input, index, assistant, &content, err);
    if (rc == 0 && json_object_set_new(*out, "content", content))
        rc = no_memory(err);
    return rc ? rc : copy_calls(*out, index, err);
}

static int prepare_messages(const json_t *input, json_t *context, struct err *err)
{
    json_t *messages = member(input, "messages"), *prepared = json_array();
    int rc = 0;
    if (!prepared || json_object_set_new(context, "messages", prepared))
        return no_memory(err);
    if (!json_is_array(messages))
        return err_set(err, ERR_INVALID, "messages must be an array");
    if (json_array_size(messages) == 0)
        return err_set(err, ERR_INVALID, "messages must not be empty");
    for (size_t i = 0; rc == 0 && i < json_array_size(messages); i++) {
        json_t *message = NULL;
        rc = prepare_message(json_array_get(messages, i), i, &message, err);
        if (rc)
            json_decref(message);
        else if (json_array_append_new(prepared, message))
            rc = no_memory(err);
    }
    return rc;
}

/* ---- the rest ---- */

/* An array of objects, or null where there is none: templates ask `if tools`. */
static int pass_array(const json_t *input, const char *name, json_t *context, struct err *err)
{
    json_t *array = member(input, name);
    if (array && !json_is_array(array))
        return err_set(err, ERR_INVALID, "%s must be an array", name);
    for (size_t i = 0; i < json_array_size(array); i++)
        if (!json_is_object(json_array_get(array, i)))
            return err_set(err, ERR_INVALID, "%s[%zu] must be an object", name, i);
    json_t *value = json_array_size(array) ? json_incref(array) : json_null();
    return json_object_set_new(context, name, value) ? no_memory(err) : 0;
}

static int pass_token(json_t *context, const char *name, const char *token, struct err *err)
{
    return token && json_object_set_new(context, name, json_string(token)) ? no_memory(err) : 0;
}

/* The template sees them as variables, but never in place of what is set here. */
static int pass_kwargs(const json_t *input, json_t *context, struct err *err)
{
    json_t *kwargs = member(input, "chat_template_kwargs");
    if (!kwargs)
        return 0;
    if (!json_is_object(kwargs))
        return err_set(err, ERR_INVALID, "chat_template_kwargs must be an object");
    return json_object_set(context, "chat_template_kwargs", kwargs) ? no_memory(err) : 0;
}

static int fill(const json_t *input, const char *bos, const char *eos, json_t *context, struct err *err)
{
    json_t *prompt = member(input, "add_generation_prompt");
    if (prompt && !json_is_boolean(prompt))
        return err_set(err, ERR_INVALID, "add_generation_prompt must be true or false");
    int rc = prepare_messages(input, context, err);
    if (rc == 0)
        rc = pass_array(input, "tools", context, err);
    if (rc == 0)
        rc = pass_array(input, "documents", context, err);
    if (rc == 0 &&
        json_object_set_new(context, "add_generation_prompt", json_boolean(!json_is_false(prompt))))
        rc = no_memory(err);
    if (rc == 0)
        rc = pass_token(context, "bos_token", bos, err);
    if (rc == 0)
        rc = pass_token(context, "eos_token", eos, err);
    return rc ? rc : pass_kwargs(input, context, err);
}

int chat_context(const json_t *input, const char *bos, const char *eos, json_t **context, struct err *err)
{
    *context = NULL;
    if (!json_is_object(input))
        return err_set(err, ERR_INVALID, "the conversation must be an object");
    json_t *made = json_object();
    if (!made)
        return no_memory(err);
    int rc = fill(input, bos, eos, made, err);
    if (rc) {
        json_decref(made);
        return rc;
    }
    *context = made;
    return 0;
}
