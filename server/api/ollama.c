/* The parameters of /api/chat and /api/generate that chat has in another shape, and small things of their answers. */
#include "ollama.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conversation.h"
#include "members.h"

enum { WHERE = 96 };
#define LATEST ":latest"

/* ---- messages ---- */

/* A conversation, and its calls that have no result yet: {"id","given","name"}. Calls are known by their names and
 * their order here, unless the client has given them ids. */
struct history {
    struct conversation c;
    json_t *open;
    size_t calls;
};

/* A member that must be a string; *out is NULL where it is absent. */
static int read_text(const json_t *object, const char *where, const char *name, json_t **out, struct api_error *error)
{
    char param[WHERE + 64];
    *out = member(object, name);
    if (!*out || json_is_string(*out))
        return 0;
    snprintf(param, sizeof param, "%s.%s", where, name);
    return invalid_member(error, param, "a string");
}

static int add_call(struct history *h, const json_t *call, const char *where, struct api_error *error)
{
    char param[WHERE + 32], made[32];
    json_t *function = member(call, "function"), *arguments = member(function, "arguments"), *id, *name;
    snprintf(param, sizeof param, "%s.function", where);
    if (read_text(call, where, "id", &id, error) || read_text(function, param, "name", &name, error))
        return -1;
    if (!name) {
        snprintf(param, sizeof param, "%s.function.name", where);
        return invalid_member(error, param, "a string");
    }
    snprintf(param, sizeof param, "%s.function.arguments", where);
    if (arguments && !json_is_object(arguments))
        return invalid_member(error, param, "an object");
    snprintf(made, sizeof made, "call_%zu", h->calls++);
    const char *called = id ? json_string_value(id) : made;
    conversation_call(&h->c, called, json_string_value(name), arguments ? json_incref(arguments) : json_object());
    json_t *entry = json_pack("{s:s, s:b, s:O}", "id", called, "given", id != NULL, "name", name);
    return json_array_append_new(h->open, entry) ? api_error_memory(error) : 0;
}

static int add_calls(struct history *h, const json_t *message, const char *where, struct api_error *error)
{
    char param[WHERE];
    json_t *calls = member(message, "tool_calls"), *call;
    size_t i;
    snprintf(param, sizeof param, "%.60s.tool_calls", where);
    if (calls && !json_is_array(calls))
        return invalid_member(error, param, "an array");
    json_array_foreach(calls, i, call) {
        snprintf(param, sizeof param, "%.60s.tool_calls[%zu]", where, i);
        if (add_call(h, call, param, error))
            return -1;
    }
    return 0;
}

static bool is_result_of(const json_t *call, const json_t *id, const json_t *name)
{
    if (id && json_is_true(json_object_get(call, "given")))
        return json_equal(id, json_object_get(call, "id"));
    return !name || json_equal(name, json_object_get(call, "name"));
}

/* The result of the first open call that it may be of. */
static int add_result(struct history *h, const json_t *message, json_t *content, const char *where,
                      struct api_error *error)
{
    json_t *id, *name;
    if (read_text(message, where, "tool_call_id", &id, error) || read_text(message, where, "tool_name", &name, error))
        return -1;
    size_t i = 0, n = json_array_size(h->open);
    while (i < n && !is_result_of(json_array_get(h->open, i), id, name))
        i++;
    if (i == n)
        return api_error_set(error, 400, "invalid_value", where,
                             "'%s' is the result of a tool that no message before it calls.", where);
    json_t *texts = json_pack("[O]", content);
    if (!texts)
        return api_error_memory(error);
    conversation_result(&h->c, text_member(json_array_get(h->open, i), "id"), "", texts);
    json_decref(texts);
    return json_array_remove(h->open, i) ? api_error_memory(error) : 0;
}

static int add_message(struct history *h, const json_t *message, size_t index, json_t *nothing, struct api_error *error)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    char where[WHERE], param[WHERE + 32];
    snprintf(where, sizeof where, "messages[%zu]", index);
    if (!json_is_object(message))
        return invalid_member(error, where, "an object");
    const char *given = text_member(message, "role"), *role = NULL;
    for (size_t i = 0; given && i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(given, roles[i]) == 0)
            role = roles[i];
    }
    snprintf(param, sizeof param, "%s.role", where);
    if (!role)
        return invalid_member(error, param, "one of \"system\", \"user\", \"assistant\" and \"tool\"");
    snprintf(param, sizeof param, "%s.images", where);
    json_t *images = member(message, "images"), *content, *thinking;
    if (images && (!json_is_array(images) || json_array_size(images) > 0))
        return api_error_set(error, 400, "unsupported_value", param, "'%s': images are not supported.", param);
    if (read_text(message, where, "content", &content, error) || read_text(message, where, "thinking", &thinking, error))
        return -1;
    if (!content)
        content = nothing;

    conversation_close(&h->c);
    if (strcmp(role, "tool") == 0)
        return add_result(h, message, content, where, error);
    bool assistant = strcmp(role, "assistant") == 0;
    bool calls = assistant && json_array_size(json_object_get(message, "tool_calls")) > 0;
    if (assistant && json_string_length(thinking) > 0)
        conversation_reasoning(&h->c, json_string_value(thinking));
    if (!calls || json_string_length(content) > 0)
        conversation_text(&h->c, role, content);
    return assistant ? add_calls(h, message, where, error) : 0;
}

int ollama_read_messages(struct api_request *request, json_t *value, struct api_error *error)
{
    if (!json_is_array(value))
        return api_error_set(error, 400, "invalid_type", "messages", "'messages' must be an array.");
    request->input = value;
    return 0;
}

static int make_messages(struct api_request *request, struct api_error *error)
{
    struct history h = {.open = json_array()};
    json_t *nothing = api_request_keep(request, json_string(""));
    int failed = h.open && nothing ? 0 : api_error_memory(error);
    for (size_t i = 0; !failed && i < json_array_size(request->input); i++)
        failed = add_message(&h, json_array_get(request->input, i), i, nothing, error);
    conversation_close(&h.c);
    json_decref(h.open);
    if (!api_request_keep(request, h.c.messages) && h.c.messages)
        h.c.failed = true;
    if (failed)
        return -1;
    return h.c.failed ? api_error_memory(error) : api_read_messages(request, h.c.messages, error);
}

/* ---- other parameters ---- */

int ollama_read_think(struct api_request *request, const json_t *value, struct api_error *error)
{
    if (json_is_boolean(value))
        return api_request_thinking(request, json_is_true(value), -1, error);
    if (json_is_string(value))
        return api_request_effort(request, json_string_value(value), "think", error);
    return api_error_set(error, 400, "invalid_type", "think", "'think' must be a boolean or a string.");
}

/* Numbers with units, one after the other; the last may have none: seconds. */
static bool read_duration(const char *text, double *seconds)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ns", 1e-9}, {"us", 1e-6}, {"µs", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
    double sign = *text == '-' ? -1 : 1;
    text += *text == '-' || *text == '+';
    *seconds = 0;
    do {
        size_t digits = strspn(text, "0123456789."), i = 0;
        char *end;
        double number = strtod(text, &end);
        if (digits == 0 || end != text + digits)
            return false;
        text = end;
        size_t letters = strcspn(text, "0123456789.");
        while (i < sizeof units / sizeof *units &&
               (strlen(units[i].name) != letters || memcmp(units[i].name, text, letters) != 0))
            i++;
        if (letters > 0 && i == sizeof units / sizeof *units)
            return false;
        *seconds += sign * number * (letters > 0 ? units[i].seconds : 1);
        text += letters;
    } while (*text);
    return isfinite(*seconds);
}

int ollama_read_keep_alive(struct api_request *request, const json_t *value, struct api_error *error)
{
    const char *text = json_string_value(value);
    request->keep_alive = json_number_value(value);
    if (json_is_number(value) || (text && read_duration(text, &request->keep_alive)))
        return 0;
    return api_error_set(error, 400, "invalid_value", "keep_alive",
                         "'keep_alive' must be a number of seconds or a duration such as \"5m\".");
}

int ollama_read_format(struct api_request *request, json_t *value, json_t **format, struct api_error *error)
{
    const char *text = json_string_value(value);
    *format = NULL;
    if (text && !*text)
        return 0;
    if (text ? strcmp(text, "json") != 0 : !json_is_object(value))
        return invalid_member(error, "format", "\"json\" or a JSON Schema");
    *format = text ? json_pack("{s:s}", "type", "json_object")
                   : json_pack("{s:s, s:{s:s, s:O, s:b}}", "type", "json_schema", "json_schema", "name", "answer",
                               "schema", value, "strict", true);
    return api_request_keep(request, *format) ? 0 : api_error_memory(error);
}

/* ---- together ---- */

static bool is_empty(const char *text)
{
    return !text || !*text;
}

static int keep_string(struct api_request *request, json_t *string, const char **out, struct api_error *error)
{
    if (!api_request_keep(request, string))
        return api_error_memory(error);
    *out = json_string_value(string);
    return 0;
}

/* The model's template is not asked for: the text alone, or what stands around a gap. */
static int make_prompt(struct api_request *request, const char *text, struct api_error *error)
{
    const char *by = request->raw ? "raw" : "suffix";
    if (!is_empty(request->instructions))
        return api_error_set(error, 400, "unsupported_value", "system", "'system' with '%s' is not supported.", by);
    request->prompts = calloc(1, sizeof *request->prompts);
    if (!request->prompts)
        return api_error_memory(error);
    request->n_prompts = 1;
    request->prompts[0].text = text;
    request->prompts[0].length = strlen(text);
    return 0;
}

static int make_turn(struct api_request *request, struct api_error *error)
{
    struct conversation c = {0};
    json_t *texts = json_pack("[s, s]", is_empty(request->instructions) ? "" : request->instructions, request->text);
    if (!is_empty(request->instructions))
        conversation_text(&c, "system", json_array_get(texts, 0));
    conversation_text(&c, "user", json_array_get(texts, 1));
    conversation_close(&c);
    json_decref(texts);
    if (!api_request_keep(request, c.messages) || c.failed)
        return api_error_memory(error);
    return api_read_messages(request, c.messages, error);
}

int ollama_finish(struct api_request *request, struct api_error *error)
{
    bool chat = request->endpoint == API_OLLAMA_CHAT;
    size_t length = request->model ? strlen(request->model) : 0, tag = strlen(LATEST);
    if (length > tag && strcmp(request->model + length - tag, LATEST) == 0 &&
        keep_string(request, json_stringn(request->model, length - tag), &request->model, error))
        return -1;
    /* Here -1 asks for any seed. */
    request->given[PARAM_seed] = request->given[PARAM_ollama_seed] && request->seed != -1;
    if (request->endpoint == API_OLLAMA_SHOW)
        return 0;
    bool empty = chat ? json_array_size(request->input) == 0 : is_empty(request->text) && !request->suffix;
    if (empty) {
        request->prompt_only = true;
        request->stream = false; /* one object, which comes as a whole */
        request->unload = request->given[PARAM_keep_alive] && request->keep_alive == 0;
        return 0;
    }
    if (chat) {
        if (make_messages(request, error))
            return -1;
        /* An answer that was begun goes on. */
        const json_t *last = json_array_get(request->messages, json_array_size(request->messages) - 1);
        request->continue_final_message = strcmp(text_member(last, "role"), "assistant") == 0;
        return 0;
    }
    if (request->raw || request->suffix)
        return make_prompt(request, request->text ? request->text : "", error);
    return make_turn(request, error);
}

/* ---- answers ---- */

json_t *ollama_name_json(const char *name)
{
    return json_sprintf("%s%s", name, strchr(name, ':') ? "" : LATEST);
}

int64_t ollama_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void ollama_time(char out[OLLAMA_TIME], int64_t when)
{
    int64_t rest = when % 1000000000;
    if (rest < 0)
        rest += 1000000000;
    time_t seconds = (time_t)((when - rest) / 1000000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t n = strftime(out, OLLAMA_TIME, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + n, OLLAMA_TIME - n, ".%09dZ", (int)rest);
}

json_t *ollama_residence_json(const struct api_request *request, const char *name)
{
    char now[OLLAMA_TIME];
    ollama_time(now, ollama_now());
    json_t *answer = json_pack("{s:o, s:s, s:b, s:s}", "model", ollama_name_json(name), "created_at", now, "done", true,
                               "done_reason", request->unload ? "unload" : "load");
    bool chat = request->endpoint == API_OLLAMA_CHAT;
    json_t *nothing = chat ? json_pack("{s:s, s:s}", "role", "assistant", "content", "") : json_string("");
    if (json_object_set_new(answer, chat ? "message" : "response", nothing) == 0)
        return answer;
    json_decref(answer);
    return NULL;
}

json_t *ollama_error_json(const struct api_error *error)
{
    return json_pack("{s:s}", "error", error->err.text);
}
