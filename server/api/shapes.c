/* Builds the objects of answers, streamed and whole. */
#include "shapes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"

json_t *api_shape_head(enum api_endpoint endpoint, bool stream, bool usage, const char *id, int64_t created,
                       const char *model)
{
    const char *object = endpoint == API_TEXT ? "text_completion"
                         : stream             ? "chat.completion.chunk"
                                              : "chat.completion";
    json_t *head = json_pack("{s:s, s:s, s:I, s:s, s:s, s:[]}", "id", id, "object", object, "created",
                             (json_int_t)created, "model", model, "system_fingerprint",
                             "hearth-" HEARTH_VERSION, "choices");
    if (head && usage && json_object_set_new(head, "usage", json_null())) {
        json_decref(head);
        return NULL;
    }
    return head;
}

json_t *api_shape_choice(enum api_endpoint endpoint, bool stream, int index, json_t *content,
                         json_t *logprobs, const char *finish)
{
    const char *name = endpoint == API_TEXT ? "text" : stream ? "delta" : "message";
    if (!content) {
        json_decref(logprobs);
        return NULL;
    }
    return json_pack("{s:i, s:o, s:o?, s:s?}", "index", index, name, content, "logprobs", logprobs,
                     "finish_reason", finish);
}

json_t *api_shape_usage(const struct api_usage *u)
{
    json_t *usage = json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", (json_int_t)u->prompt, "completion_tokens",
                              (json_int_t)u->completion, "total_tokens", (json_int_t)(u->prompt + u->completion),
                              "prompt_tokens_details", "cached_tokens", (json_int_t)u->cached);
    if (u->reasoning < 0 || !usage)
        return usage;
    json_t *details = json_pack("{s:I}", "reasoning_tokens", (json_int_t)u->reasoning);
    if (json_object_set_new(usage, "completion_tokens_details", details) == 0)
        return usage;
    json_decref(usage);
    return NULL;
}

const char *api_shape_finish(enum finish finish)
{
    switch (finish) {
    case FINISH_STOP: return "stop";
    case FINISH_LENGTH:
    case FINISH_DEADLINE: return "length";
    default: return NULL;
    }
}

/* A token as text. Bytes that are no whole characters read "bytes:\xe2\x80" in the older endpoint,
 * where the text alone must tell tokens apart, and U+FFFD where `bytes` stands beside it. */
static void token_text(struct bytes *out, enum api_endpoint endpoint, const char *bytes, size_t length)
{
    json_t *whole = json_stringn(bytes, length);
    if (whole || endpoint == API_CHAT) {
        bytes_add_utf8(out, bytes, length);
    } else {
        bytes_add(out, "bytes:", 6);
        for (size_t i = 0; i < length; i++) {
            char hex[5];
            snprintf(hex, sizeof hex, "\\x%02x", (unsigned char)bytes[i]);
            bytes_add(out, hex, 4);
        }
    }
    bytes_add(out, "", 1);
    json_decref(whole);
}

/* JSON has no infinities. */
static json_t *logprob_value(float logprob)
{
    if (isnan(logprob))
        return json_null();
    return json_real(logprob < -9999.0f ? -9999.0 : (double)logprob);
}

static json_t *chat_token(const struct model *model, int32_t id, float logprob)
{
    size_t length = 0;
    const char *bytes = engine_token_bytes(model, id, &length);
    struct bytes text = {0};
    token_text(&text, API_CHAT, bytes, length);
    json_t *list = json_array();
    for (size_t i = 0; i < length; i++)
        json_array_append_new(list, json_integer((unsigned char)bytes[i]));
    json_t *token = text.failed ? NULL
                                : json_pack("{s:s%, s:o, s:o}", "token", text.data, text.length - 1,
                                            "logprob", logprob_value(logprob), "bytes", list);
    if (text.failed)
        json_decref(list);
    bytes_dispose(&text);
    return token;
}

json_t *api_shape_logprobs(enum api_endpoint endpoint, int n_top)
{
    if (endpoint == API_CHAT)
        return json_pack("{s:[], s:n}", "content", "refusal");
    json_t *logprobs =
        json_pack("{s:[], s:[], s:[], s:[]}", "tokens", "token_logprobs", "top_logprobs", "text_offset");
    if (logprobs && n_top == 0)
        json_object_set_new(logprobs, "top_logprobs", json_null());
    return logprobs;
}

int api_shape_chat_token(json_t *logprobs, const struct model *model, const struct engine_token *token)
{
    json_t *top = json_array(), *entry = chat_token(model, token->id, token->logprob);
    for (int i = 0; i < token->n_top; i++)
        json_array_append_new(top, chat_token(model, token->top[i].id, token->top[i].logprob));
    if (!top || !entry || json_object_set(entry, "top_logprobs", top)) {
        json_decref(entry);
        entry = NULL;
    }
    json_decref(top);
    return json_array_append_new(json_object_get(logprobs, "content"), entry);
}

static int set_top(json_t *alternatives, const struct model *model, int32_t id, float logprob)
{
    size_t length = 0;
    const char *bytes = engine_token_bytes(model, id, &length);
    struct bytes text = {0};
    token_text(&text, API_TEXT, bytes, length);
    int failed = text.failed
                     ? -1
                     : json_object_setn_new(alternatives, text.data, text.length - 1, logprob_value(logprob));
    bytes_dispose(&text);
    return failed;
}

int api_shape_text_token(json_t *logprobs, const struct model *model, int32_t id, float logprob,
                         const struct engine_top *top, int n_top, int64_t offset)
{
    size_t length = 0;
    const char *bytes = engine_token_bytes(model, id, &length);
    struct bytes text = {0};
    token_text(&text, API_TEXT, bytes, length);
    int failed = text.failed;
    if (!failed)
        failed |= json_array_append_new(json_object_get(logprobs, "tokens"),
                                        json_stringn(text.data, text.length - 1));
    bytes_dispose(&text);
    failed |= json_array_append_new(json_object_get(logprobs, "token_logprobs"), logprob_value(logprob));
    failed |= json_array_append_new(json_object_get(logprobs, "text_offset"), json_integer(offset));

    json_t *list = json_object_get(logprobs, "top_logprobs");
    if (!json_is_array(list))
        return failed ? -1 : 0;
    json_t *alternatives = top && !isnan(logprob) ? json_object() : json_null();
    if (json_is_object(alternatives)) {
        for (int i = 0; i < n_top; i++)
            failed |= set_top(alternatives, model, top[i].id, top[i].logprob);
        failed |= set_top(alternatives, model, id, logprob);
    }
    failed |= json_array_append_new(list, alternatives);
    return failed ? -1 : 0;
}

json_t *api_shape_text(const struct model *model, const int32_t *ids, size_t n)
{
    struct bytes raw = {0}, text = {0};
    for (size_t i = 0; i < n; i++) {
        size_t length = 0;
        const char *bytes = engine_token_bytes(model, ids[i], &length);
        bytes_add(&raw, bytes ? bytes : "", length);
    }
    bytes_add_utf8(&text, raw.data ? raw.data : "", raw.length);
    json_t *string = raw.failed || text.failed ? NULL : json_stringn(text.data ? text.data : "", text.length);
    bytes_dispose(&raw);
    bytes_dispose(&text);
    return string;
}

int64_t api_shape_characters(const char *bytes, size_t length)
{
    int64_t n = 0;
    for (size_t i = 0; i < length; i++)
        n += ((unsigned char)bytes[i] & 0xC0) != 0x80;
    return n;
}
