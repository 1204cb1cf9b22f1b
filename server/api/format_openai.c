/* Chat and text completions, streamed and whole. */
#include "job.h"

#include <string.h>
#include <time.h>

static bool is_chat(const struct job *job)
{
    return job->request.endpoint == API_CHAT;
}

static int begin(struct job *job)
{
    const struct api_request *request = &job->request;
    job->head = api_shape_head(request->endpoint, request->stream, request->stream && request->include_usage, job->id,
                               (int64_t)time(NULL), job->asked->name);
    return job->head ? 0 : -1;
}

static json_t *usage(const struct job *job)
{
    return api_shape_usage(&(struct api_usage){
        .prompt = job->prompt_tokens,
        .completion = job->completion_tokens,
        .cached = job->cached_tokens,
        .reasoning = is_chat(job) ? job->reasoning_tokens : -1,
    });
}

/* Why a choice ended, in the words that its request knows. */
static const char *finish_word(const struct job *job, const struct choice *choice)
{
    const char *why = answer_finish(choice);
    return job->request.old_calls && strcmp(why, "tool_calls") == 0 ? "function_call" : why;
}

/* ---- streams ---- */

/* Takes the references to content and logprobs. */
static int write_choice(struct job *job, int index, json_t *content, json_t *logprobs, const char *finish)
{
    json_t *choice = api_shape_choice(job->request.endpoint, true, index, content, logprobs, finish);
    json_t *choices = json_object_get(job->head, "choices");
    if (json_array_clear(choices) || json_array_append_new(choices, choice))
        return -1;
    return answer_event(job, NULL, job->head);
}

static int chat_begun(struct job *job, int index)
{
    return write_choice(job, index, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), NULL, NULL);
}

static int chat_block_begun(struct job *job, int index, const struct block *block)
{
    if (block->kind != BLOCK_CALL)
        return 0;
    json_t *function = json_pack("{s:s, s:s}", "name", block->name, "arguments", "");
    json_t *delta = job->request.old_calls
                        ? json_pack("{s:o}", "function_call", function)
                        : json_pack("{s:[{s:i, s:s, s:s, s:o}]}", "tool_calls", "index", block->call, "id", block->id,
                                    "type", "function", "function", function);
    return write_choice(job, index, delta, NULL, NULL);
}

static int chat_text(struct job *job, int index, const struct block *block, const char *text, size_t length,
                     json_t *logprobs)
{
    json_t *string = json_stringn(text, length), *delta;
    if (block->kind == BLOCK_CALL && job->request.old_calls)
        delta = json_pack("{s:{s:o}}", "function_call", "arguments", string);
    else if (block->kind == BLOCK_CALL)
        delta = json_pack("{s:[{s:i, s:{s:o}}]}", "tool_calls", "index", block->call, "function", "arguments", string);
    else
        delta = json_pack("{s:o}", block->kind == BLOCK_CONTENT ? "content" : "reasoning_content", string);
    return write_choice(job, index, delta, logprobs, NULL);
}

static int text_text(struct job *job, int index, const struct block *block, const char *text, size_t length,
                     json_t *logprobs)
{
    (void)block;
    return write_choice(job, index, json_stringn(text, length), logprobs, NULL);
}

static int choice_ended(struct job *job, int index)
{
    json_t *content = is_chat(job) ? json_object() : json_string("");
    if (job->extension && job->finished == answer_choices(job) &&
        json_object_set(job->head, "hearth", job->extension)) {
        json_decref(content);
        return -1;
    }
    int rc = write_choice(job, index, content, NULL, finish_word(job, &job->choices[index]));
    json_object_del(job->head, "hearth");
    return rc;
}

static int ended(struct job *job)
{
    if (job->request.include_usage) {
        if (json_object_set_new(job->head, "usage", usage(job)) ||
            json_array_clear(json_object_get(job->head, "choices")) || answer_event(job, NULL, job->head))
            return -1;
    }
    answer_write(job, "data: [DONE]\n\n");
    return 0;
}

static int stream_error(struct job *job, const struct api_error *error)
{
    json_t *object = api_error_json(error);
    int rc = answer_event(job, NULL, object);
    json_decref(object);
    return rc;
}

/* ---- whole answers ---- */

static json_t *calls(const struct choice *choice)
{
    json_t *list = json_array();
    for (int i = 0; i < choice->n_blocks; i++) {
        const struct block *block = &choice->blocks[i];
        if (block->kind != BLOCK_CALL)
            continue;
        json_t *arguments = json_stringn(block->text.data ? block->text.data : "", block->text.length);
        if (json_array_append_new(list, json_pack("{s:s, s:s, s:{s:s, s:o}}", "id", block->id, "type", "function",
                                                  "function", "name", block->name, "arguments", arguments))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *whole_message(const struct choice *choice)
{
    json_t *content = answer_content(choice);
    json_t *message = json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", content, "refusal");
    json_t *reasoning = answer_joined(choice, BLOCK_REASONING);
    int failed = !message || !reasoning;
    if (json_is_string(reasoning))
        failed |= json_object_set(message, "reasoning_content", reasoning);
    json_t *made = choice->n_calls > 0 ? calls(choice) : NULL;
    if (choice->n_calls > 0 && choice->job->request.old_calls)
        failed |= json_object_set(message, "function_call", json_object_get(json_array_get(made, 0), "function"));
    else if (choice->n_calls > 0)
        failed |= json_object_set(message, "tool_calls", made);
    json_decref(made);
    json_decref(reasoning);
    if (!failed)
        return message;
    json_decref(message);
    return NULL;
}

static int whole(struct job *job, struct bytes *body)
{
    json_t *choices = json_object_get(job->head, "choices");
    int failed = 0;
    for (size_t i = 0; i < answer_choices(job); i++) {
        struct choice *choice = &job->choices[i];
        json_t *logprobs = choice->logprobs;
        choice->logprobs = NULL;
        json_t *content = is_chat(job) ? whole_message(choice) : answer_content(choice);
        failed |= json_array_append_new(choices, api_shape_choice(job->request.endpoint, false, (int)i, content,
                                                                  logprobs, finish_word(job, choice)));
    }
    failed |= json_object_set_new(job->head, "usage", usage(job));
    if (job->extension)
        failed |= json_object_set(job->head, "hearth", job->extension);
    if (failed)
        return -1;
    bytes_add_json(body, job->head);
    return body->failed ? -1 : 0;
}

const struct answer_format format_chat = {
    .id_prefix = "chatcmpl-",
    .call_prefix = "call_",
    .begin = begin,
    .choice_begun = chat_begun,
    .block_begun = chat_block_begun,
    .block_text = chat_text,
    .choice_ended = choice_ended,
    .ended = ended,
    .stream_error = stream_error,
    .whole = whole,
};

const struct answer_format format_text = {
    .id_prefix = "cmpl-",
    .text_logprobs = true,
    .begin = begin,
    .block_text = text_text,
    .choice_ended = choice_ended,
    .ended = ended,
    .stream_error = stream_error,
    .whole = whole,
};
