/* The input of /v1/responses: checks its items, gives them the shape in which they are kept and listed, and turns
 * them into the messages of a chat. */
#include "responses.h"

#include <stdio.h>
#include <string.h>

#include "conversation.h"
#include "members.h"

enum { WHERE = 96 };

/* A required string member of an item. */
static int need_string(const json_t *object, const char *where, const char *name, struct api_error *error)
{
    char param[WHERE + 32];
    if (text_member(object, name))
        return 0;
    snprintf(param, sizeof param, "%s.%s", where, name);
    return invalid_member(error, param, "a string");
}

/* ---- items ---- */

/* One part of a message's content or of a call's output, in the shape of `role`. */
static json_t *make_part(const json_t *part, bool assistant, const char *where, struct api_error *error)
{
    static const char *const texts[] = {"input_text", "output_text", "text", "summary_text", "reasoning_text"};
    char param[WHERE + 32];
    if (!json_is_object(part)) {
        invalid_member(error, where, "an object");
        return NULL;
    }
    const char *type = text_member(part, "type");
    bool refusal = type && strcmp(type, "refusal") == 0, known = refusal;
    for (size_t i = 0; type && i < sizeof texts / sizeof *texts; i++)
        known |= strcmp(type, texts[i]) == 0;
    snprintf(param, sizeof param, "%s.type", where);
    if (!type) {
        invalid_member(error, param, "a string");
        return NULL;
    }
    if (!known) {
        api_error_set(error, 400, "unsupported_value", param,
                      "'%s' is \"%.40s\": this model takes text only.", param, type);
        return NULL;
    }
    json_t *text = json_object_get(part, refusal ? "refusal" : "text");
    if (!json_is_string(text)) {
        snprintf(param, sizeof param, "%s.%s", where, refusal ? "refusal" : "text");
        invalid_member(error, param, "a string");
        return NULL;
    }
    json_t *made = refusal     ? json_pack("{s:s, s:O}", "type", "refusal", "refusal", text)
                   : assistant ? json_pack("{s:s, s:O, s:[]}", "type", "output_text", "text", text, "annotations")
                               : json_pack("{s:s, s:O}", "type", "input_text", "text", text);
    if (!made)
        api_error_memory(error);
    return made;
}

/* Content as an array of parts, whatever it was; NULL with *error. */
static json_t *make_parts(json_t *content, bool assistant, const char *where, struct api_error *error)
{
    if (!json_is_string(content) && !json_is_array(content)) {
        invalid_member(error, where, "a string or an array of text parts");
        return NULL;
    }
    json_t *parts = json_array(), *text = json_is_string(content) ? json_pack("[{s:s, s:O}]", "type", "text", "text",
                                                                             content) : json_incref(content);
    size_t i;
    json_t *part;
    json_array_foreach(text, i, part) {
        char at[WHERE];
        snprintf(at, sizeof at, "%.72s[%zu]", where, i);
        json_t *made = make_part(part, assistant, at, error);
        if (!made || json_array_append_new(parts, made)) {
            if (made)
                api_error_memory(error);
            json_decref(parts);
            json_decref(text);
            return NULL;
        }
    }
    if (!parts || !text)
        api_error_memory(error);
    json_decref(text);
    return parts;
}

static json_t *make_message(const json_t *item, const char *where, struct api_error *error)
{
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    char param[WHERE + 32];
    const char *given = text_member(item, "role"), *role = NULL;
    for (size_t i = 0; given && i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(given, roles[i]) == 0)
            role = roles[i];
    }
    if (!role) {
        snprintf(param, sizeof param, "%s.role", where);
        invalid_member(error, param, "one of \"user\", \"assistant\", \"system\" and \"developer\"");
        return NULL;
    }
    snprintf(param, sizeof param, "%s.content", where);
    json_t *parts = make_parts(json_object_get(item, "content"), strcmp(role, "assistant") == 0, param, error);
    if (!parts)
        return NULL;
    return json_pack("{s:s, s:s, s:s, s:o}", "type", "message", "status", "completed", "role", role, "content",
                     parts);
}

static json_t *make_call(const json_t *item, const char *where, struct api_error *error)
{
    if (need_string(item, where, "call_id", error) || need_string(item, where, "name", error) ||
        need_string(item, where, "arguments", error))
        return NULL;
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", "function_call", "status", "completed", "call_id",
                     text_member(item, "call_id"), "name", text_member(item, "name"), "arguments",
                     text_member(item, "arguments"));
}

static json_t *make_output(const json_t *item, const char *where, struct api_error *error)
{
    char param[WHERE + 32];
    json_t *output = json_object_get(item, "output");
    if (need_string(item, where, "call_id", error))
        return NULL;
    snprintf(param, sizeof param, "%s.output", where);
    output = json_is_string(output) ? json_incref(output) : make_parts(output, false, param, error);
    if (!output)
        return NULL;
    return json_pack("{s:s, s:s, s:s, s:o}", "type", "function_call_output", "status", "completed", "call_id",
                     text_member(item, "call_id"), "output", output);
}

/* Parts of a reasoning item as `type`; absent: none. */
static json_t *make_reasoning_parts(const json_t *item, const char *name, const char *type, const char *where,
                                    struct api_error *error)
{
    char param[WHERE + 32];
    json_t *given = json_object_get(item, name);
    if (!given || json_is_null(given))
        return json_array();
    snprintf(param, sizeof param, "%s.%s", where, name);
    if (!json_is_array(given)) {
        invalid_member(error, param, "an array");
        return NULL;
    }
    json_t *parts = make_parts(given, false, param, error);
    size_t i;
    json_t *part;
    json_array_foreach(parts, i, part) {
        if (json_object_set_new(part, "type", json_string(type))) {
            api_error_memory(error);
            json_decref(parts);
            return NULL;
        }
    }
    return parts;
}

static json_t *make_reasoning(const json_t *item, const char *where, struct api_error *error)
{
    json_t *summary = make_reasoning_parts(item, "summary", "summary_text", where, error);
    json_t *content = summary ? make_reasoning_parts(item, "content", "reasoning_text", where, error) : NULL;
    if (!content) {
        json_decref(summary);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:o}", "type", "reasoning", "summary", summary, "content", content);
}

/* The kept form of an item, with its id where it has one; a new reference, or NULL with *error. */
static json_t *make_item(const json_t *item, const char *where, struct api_error *error)
{
    char param[WHERE + 32];
    error->status = 0;
    if (!json_is_object(item)) {
        invalid_member(error, where, "an object");
        return NULL;
    }
    const char *type = text_member(item, "type"), *id = text_member(item, "id");
    json_t *given = json_object_get(item, "type"), *made;
    if (!type && given && !json_is_null(given)) {
        snprintf(param, sizeof param, "%s.type", where);
        invalid_member(error, param, "a string");
        return NULL;
    }
    if (!type)
        type = id && !json_object_get(item, "role") ? "item_reference" : "message";
    if (strcmp(type, "message") == 0) {
        made = make_message(item, where, error);
    } else if (strcmp(type, "function_call") == 0) {
        made = make_call(item, where, error);
    } else if (strcmp(type, "function_call_output") == 0) {
        made = make_output(item, where, error);
    } else if (strcmp(type, "reasoning") == 0) {
        made = make_reasoning(item, where, error);
    } else if (strcmp(type, "item_reference") == 0) {
        made = need_string(item, where, "id", error) ? NULL : json_pack("{s:s}", "type", "item_reference");
    } else {
        snprintf(param, sizeof param, "%s.type", where);
        api_error_set(error, 400, "unsupported_value", param, "'%s': items of type \"%.40s\" are not supported.",
                      param, type);
        return NULL;
    }
    if (!made || (id && json_object_set_new(made, "id", json_string(id)))) {
        json_decref(made);
        if (error->status == 0)
            api_error_memory(error);
        return NULL;
    }
    return made;
}

int responses_read_input(struct api_request *request, json_t *value, struct api_error *error)
{
    if (!json_is_string(value) && !json_is_array(value))
        return api_error_set(error, 400, "invalid_type", "input", "'input' must be a string or an array of items.");
    json_t *items = api_request_keep(request, json_array());
    if (!items)
        return api_error_memory(error);
    request->input = items;
    if (json_is_string(value)) {
        json_t *item = json_pack("{s:s, s:s, s:s, s:[{s:s, s:O}]}", "type", "message", "status", "completed", "role",
                                 "user", "content", "type", "input_text", "text", value);
        return json_array_append_new(items, item) ? api_error_memory(error) : 0;
    }
    size_t i;
    json_t *item;
    json_array_foreach(value, i, item) {
        char where[WHERE];
        snprintf(where, sizeof where, "input[%zu]", i);
        json_t *made = make_item(item, where, error);
        if (!made)
            return -1;
        if (strcmp(text_member(made, "type"), "item_reference") == 0)
            request->continues = true;
        if (json_array_append_new(items, made))
            return api_error_memory(error);
    }
    return 0;
}

/* ---- messages ---- */

static json_t *part_text(const json_t *part)
{
    json_t *text = json_object_get(part, "text");
    return text ? text : json_object_get(part, "refusal");
}

static void add_result(struct conversation *c, const json_t *item)
{
    json_t *output = json_object_get(item, "output"), *texts = json_array();
    size_t i;
    json_t *part;
    c->failed |= !texts;
    if (json_is_string(output))
        c->failed |= json_array_append(texts, output) != 0;
    json_array_foreach(output, i, part)
        c->failed |= json_array_append(texts, part_text(part)) != 0;
    conversation_result(c, text_member(item, "call_id"), "", texts);
    json_decref(texts);
}

/* What the model thought; where only a summary is there, that. */
static void add_reasoning(struct conversation *c, const json_t *item)
{
    json_t *parts = json_object_get(item, "content"), *part;
    size_t i;
    if (json_array_size(parts) == 0)
        parts = json_object_get(item, "summary");
    json_array_foreach(parts, i, part)
        conversation_reasoning(c, json_string_value(part_text(part)));
}

static void add_item(struct conversation *c, const json_t *item)
{
    const char *type = text_member(item, "type");
    if (!type)
        return;
    if (strcmp(type, "reasoning") == 0) {
        add_reasoning(c, item);
    } else if (strcmp(type, "function_call") == 0) {
        conversation_call(c, text_member(item, "call_id"), text_member(item, "name"),
                          json_incref(json_object_get(item, "arguments")));
    } else if (strcmp(type, "function_call_output") == 0) {
        add_result(c, item);
    } else if (strcmp(type, "message") == 0) {
        const char *role = text_member(item, "role");
        json_t *content = json_object_get(item, "content"), *part;
        size_t i;
        if (!role)
            return;
        conversation_begin(c, role);
        json_array_foreach(content, i, part)
            conversation_text(c, role, part_text(part));
    }
}

int responses_messages(struct api_request *request, const json_t *history, struct api_error *error)
{
    struct conversation c = {0};
    const json_t *const lists[] = {history, request->input};
    if (request->instructions) {
        json_t *text = json_string(request->instructions);
        conversation_text(&c, "system", text);
        json_decref(text);
        conversation_close(&c);
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        size_t at;
        json_t *item;
        json_array_foreach(lists[i], at, item)
            add_item(&c, item);
    }
    conversation_close(&c);
    if (!api_request_keep(request, c.messages))
        c.failed = c.messages != NULL;
    if (c.failed)
        return api_error_memory(error);
    if (json_array_size(c.messages) == 0)
        return api_error_set(error, 400, "invalid_value", "input", "'input' must not be empty.");
    return api_read_messages(request, c.messages, error);
}
