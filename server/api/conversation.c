/* Messages from runs of text, reasoning and calls. While a message is open its content is an array of parts. */
#include "conversation.h"

#include <string.h>

#include "bytes.h"

static bool is_open(const struct conversation *c, const char *role)
{
    const char *open = c->open ? json_string_value(json_object_get(c->open, "role")) : NULL;
    return open && strcmp(open, role) == 0;
}

static bool is_bare(const struct conversation *c)
{
    return json_array_size(json_object_get(c->open, "content")) == 0 && !json_object_get(c->open, "tool_calls");
}

static void open_message(struct conversation *c, const char *role)
{
    conversation_close(c);
    if (!c->messages)
        c->messages = json_array();
    json_t *message = json_pack("{s:s, s:[]}", "role", role, "content");
    if (json_array_append_new(c->messages, message))
        c->failed = true;
    else
        c->open = message;
}

void conversation_begin(struct conversation *c, const char *role)
{
    if (!is_open(c, role) || !is_bare(c))
        open_message(c, role);
}

void conversation_text(struct conversation *c, const char *role, const json_t *text)
{
    if (!is_open(c, role))
        open_message(c, role);
    json_t *part = json_pack("{s:s, s:O}", "type", "text", "text", text);
    if (json_array_append_new(json_object_get(c->open, "content"), part))
        c->failed = true;
}

void conversation_reasoning(struct conversation *c, const char *text)
{
    conversation_begin(c, "assistant");
    const char *before = json_string_value(json_object_get(c->open, "reasoning_content"));
    json_t *all = before ? json_sprintf("%s\n%s", before, text) : json_string(text);
    if (json_object_set_new(c->open, "reasoning_content", all))
        c->failed = true;
}

void conversation_call(struct conversation *c, const char *id, const char *name, json_t *arguments)
{
    if (!is_open(c, "assistant"))
        open_message(c, "assistant");
    json_t *calls = json_object_get(c->open, "tool_calls");
    if (!calls && json_object_set_new(c->open, "tool_calls", calls = json_array()))
        calls = NULL;
    json_t *call = json_pack("{s:s, s:s, s:{s:s, s:o}}", "id", id, "type", "function", "function", "name", name,
                             "arguments", arguments);
    if (json_array_append_new(calls, call))
        c->failed = true;
}

void conversation_result(struct conversation *c, const char *id, const char *prefix, const json_t *texts)
{
    struct bytes all = {0};
    size_t i;
    json_t *text;
    bytes_add(&all, prefix, strlen(prefix));
    json_array_foreach(texts, i, text)
        bytes_add(&all, json_string_value(text), json_string_length(text));
    conversation_close(c);
    if (!c->messages)
        c->messages = json_array();
    json_t *message = json_pack("{s:s, s:s, s:s%}", "role", "tool", "tool_call_id", id, "content",
                                all.data ? all.data : "", all.length);
    if (all.failed || json_array_append_new(c->messages, message))
        c->failed = true;
    bytes_dispose(&all);
}

void conversation_close(struct conversation *c)
{
    json_t *message = c->open, *content = json_object_get(message, "content");
    c->open = NULL;
    if (!message)
        return;
    size_t n = json_array_size(content);
    if (n == 0 && !json_object_get(message, "tool_calls")) {
        if (json_array_remove(c->messages, json_array_size(c->messages) - 1))
            c->failed = true;
    } else if (n <= 1) {
        json_t *text = n == 1 ? json_object_get(json_array_get(content, 0), "text") : json_null();
        if (json_object_set(message, "content", text))
            c->failed = true;
    }
}
