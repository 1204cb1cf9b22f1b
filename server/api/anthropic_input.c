/* The messages of /v1/messages: checks their content blocks and turns them into the messages of a chat. */
#include "anthropic.h"

#include <stdio.h>
#include <string.h>

#include "conversation.h"
#include "members.h"

enum { WHERE = 96 };

static int need_string(const json_t *block, const char *where, const char *name, struct api_error *error)
{
    char param[WHERE + 32];
    if (text_member(block, name))
        return 0;
    snprintf(param, sizeof param, "%s.%s", where, name);
    return invalid_member(error, param, "a string");
}

static int unsupported(struct api_error *error, const char *where, const char *type)
{
    char param[WHERE + 32];
    snprintf(param, sizeof param, "%s.type", where);
    return api_error_set(error, 400, "unsupported_value", param, "'%s': blocks of type \"%.40s\" are not supported "
                         "here.", param, type);
}

/* The type of a block; NULL with *error. */
static const char *block_type(const json_t *block, const char *where, struct api_error *error)
{
    char param[WHERE + 32];
    const char *type = text_member(block, "type");
    snprintf(param, sizeof param, "%s.type", where);
    if (!json_is_object(block))
        invalid_member(error, where, "an object");
    else if (!type)
        invalid_member(error, param, "a string");
    return type;
}

/* Adds the strings of content that may have nothing but text: a string or text blocks. */
static int add_texts(json_t *texts, json_t *content, const char *where, struct api_error *error)
{
    size_t i;
    json_t *block;
    if (json_is_string(content))
        return json_array_append(texts, content) ? api_error_memory(error) : 0;
    if (!json_is_array(content))
        return invalid_member(error, where, "a string or an array of text blocks");
    json_array_foreach(content, i, block) {
        char at[WHERE];
        snprintf(at, sizeof at, "%.72s[%zu]", where, i);
        const char *type = block_type(block, at, error);
        if (!type)
            return -1;
        if (strcmp(type, "text") != 0)
            return unsupported(error, at, type);
        if (need_string(block, at, "text", error))
            return -1;
        if (json_array_append(texts, json_object_get(block, "text")))
            return api_error_memory(error);
    }
    return 0;
}

static int add_result(struct conversation *c, const json_t *block, const char *where, struct api_error *error)
{
    char param[WHERE + 32];
    json_t *content = json_object_get(block, "content"), *is_error = json_object_get(block, "is_error");
    json_t *texts = json_array();
    int failed = need_string(block, where, "tool_use_id", error);
    snprintf(param, sizeof param, "%s.is_error", where);
    if (!failed && is_error && !json_is_null(is_error) && !json_is_boolean(is_error))
        failed = invalid_member(error, param, "a boolean");
    snprintf(param, sizeof param, "%s.content", where);
    if (!failed && content && !json_is_null(content))
        failed = add_texts(texts, content, param, error);
    /* Templates know no failed calls: the model is told in words. */
    if (!failed)
        conversation_result(c, text_member(block, "tool_use_id"), json_is_true(is_error) ? "Error: " : "", texts);
    json_decref(texts);
    return failed;
}

static int add_call(struct conversation *c, const json_t *block, const char *where, struct api_error *error)
{
    char param[WHERE + 32];
    json_t *input = json_object_get(block, "input");
    if (need_string(block, where, "id", error) || need_string(block, where, "name", error))
        return -1;
    snprintf(param, sizeof param, "%s.input", where);
    if (!json_is_object(input))
        return invalid_member(error, param, "an object");
    conversation_call(c, text_member(block, "id"), text_member(block, "name"), json_incref(input));
    return 0;
}

static int add_block(struct conversation *c, const char *role, const json_t *block, const char *where,
                     struct api_error *error)
{
    bool assistant = strcmp(role, "assistant") == 0;
    const char *type = block_type(block, where, error);
    if (!type)
        return -1;
    if (strcmp(type, "text") == 0) {
        if (need_string(block, where, "text", error))
            return -1;
        conversation_text(c, role, json_object_get(block, "text"));
        return 0;
    }
    if (strcmp(type, "tool_result") == 0 && strcmp(role, "user") == 0)
        return add_result(c, block, where, error);
    if (strcmp(type, "tool_use") == 0 && assistant)
        return add_call(c, block, where, error);
    if (strcmp(type, "thinking") == 0 && assistant) {
        if (need_string(block, where, "thinking", error))
            return -1;
        conversation_reasoning(c, text_member(block, "thinking"));
        return 0;
    }
    /* Nobody but its maker can read it. */
    if (strcmp(type, "redacted_thinking") == 0 && assistant)
        return 0;
    return unsupported(error, where, type);
}

static int add_message(struct conversation *c, const json_t *message, size_t index, struct api_error *error)
{
    static const char *const roles[] = {"user", "assistant", "system"};
    char param[WHERE + 32];
    snprintf(param, sizeof param, "messages[%zu]", index);
    if (!json_is_object(message))
        return invalid_member(error, param, "an object");
    const char *given = text_member(message, "role"), *role = NULL;
    for (size_t i = 0; given && i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(given, roles[i]) == 0)
            role = roles[i];
    }
    snprintf(param, sizeof param, "messages[%zu].role", index);
    if (!role)
        return invalid_member(error, param, "one of \"user\", \"assistant\" and \"system\"");

    json_t *content = json_object_get(message, "content"), *block;
    snprintf(param, sizeof param, "messages[%zu].content", index);
    if (!json_is_string(content) && !json_is_array(content))
        return invalid_member(error, param, "a string or an array of blocks");
    conversation_close(c);
    if (json_is_string(content)) {
        conversation_text(c, role, content);
        return 0;
    }
    size_t i;
    json_array_foreach(content, i, block) {
        char where[WHERE];
        snprintf(where, sizeof where, "messages[%zu].content[%zu]", index, i);
        if (add_block(c, role, block, where, error))
            return -1;
    }
    return 0;
}

int anthropic_read_messages(struct api_request *request, json_t *value, struct api_error *error)
{
    if (!json_is_array(value))
        return api_error_set(error, 400, "invalid_type", "messages", "'messages' must be an array.");
    if (json_array_size(value) == 0)
        return api_error_set(error, 400, "invalid_value", "messages", "'messages' must not be empty.");
    request->input = value;
    return 0;
}

int anthropic_read_system(struct api_request *request, json_t *value, struct api_error *error)
{
    json_t *texts = api_request_keep(request, json_array());
    if (!texts)
        return api_error_memory(error);
    request->system = texts;
    return add_texts(texts, value, "system", error);
}

int anthropic_messages(struct api_request *request, struct api_error *error)
{
    struct conversation c = {0};
    size_t i;
    json_t *entry;
    int failed = 0;
    json_array_foreach(request->system, i, entry)
        conversation_text(&c, "system", entry);
    for (i = 0; !failed && i < json_array_size(request->input); i++)
        failed = add_message(&c, json_array_get(request->input, i), i, error);
    conversation_close(&c);
    if (!api_request_keep(request, c.messages) && c.messages)
        c.failed = true;
    if (failed)
        return -1;
    if (c.failed)
        return api_error_memory(error);
    if (json_array_size(c.messages) == 0)
        return api_error_set(error, 400, "invalid_value", "messages", "'messages' have no content.");
    /* An answer that was begun goes on. */
    const char *role = text_member(json_array_get(c.messages, json_array_size(c.messages) - 1), "role");
    request->continue_final_message = strcmp(role, "assistant") == 0;
    return api_read_messages(request, c.messages, error);
}
