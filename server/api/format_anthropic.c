/* The answers of /v1/messages, streamed and whole: events and objects as Anthropic's SDKs have them as types. */
#include "job.h"

#include <stdio.h>
#include <string.h>

#include "anthropic.h"

/* Thinking comes with a signature, which is never looked at when it comes back. */
static const char signature[] = "aGVhcnRo";

static json_t *usage(const struct job *job)
{
    return json_pack("{s:I, s:i, s:I, s:I, s:{s:I}}", "input_tokens",
                     (json_int_t)(job->prompt_tokens - job->cached_tokens), "cache_creation_input_tokens", 0,
                     "cache_read_input_tokens", (json_int_t)job->cached_tokens, "output_tokens",
                     (json_int_t)job->completion_tokens, "output_tokens_details", "thinking_tokens",
                     (json_int_t)job->reasoning_tokens);
}

static int begin(struct job *job)
{
    job->head = json_pack("{s:s, s:s, s:s, s:s, s:[], s:n, s:n, s:o}", "id", job->id, "type", "message", "role",
                          "assistant", "model", job->asked->name, "content", "stop_reason",
                          "stop_sequence", "usage", usage(job));
    return job->head ? 0 : -1;
}

static const char *stop_reason(const struct choice *choice)
{
    const char *finish = answer_finish(choice);
    if (strcmp(finish, "length") == 0)
        return "max_tokens";
    if (strcmp(finish, "tool_calls") == 0)
        return "tool_use";
    return choice->stop >= 0 ? "stop_sequence" : "end_turn";
}

static const char *stop_sequence(const struct choice *choice)
{
    return strcmp(stop_reason(choice), "stop_sequence") == 0 ? choice->job->request.stop[choice->stop] : NULL;
}

/* A block as it is once it has ended, or (`empty`) as it begins. */
static json_t *content_block(const struct block *block, bool empty)
{
    const char *text = block->text.data && !empty ? block->text.data : "";
    size_t length = empty ? 0 : block->text.length;
    if (block->kind == BLOCK_CALL)
        return json_pack("{s:s, s:s, s:s, s:o}", "type", "tool_use", "id", block->id, "name", block->name, "input",
                         empty ? json_object() : answer_arguments(block));
    if (block->kind == BLOCK_REASONING)
        return json_pack("{s:s, s:s%, s:s}", "type", "thinking", "thinking", text, length, "signature",
                         empty ? "" : signature);
    return json_pack("{s:s, s:s%}", "type", "text", "text", text, length);
}

/* ---- streams ---- */

/* The reference to event is taken. */
static int emit(struct job *job, const char *name, json_t *event)
{
    int rc = -1;
    if (event && json_object_set_new(event, "type", json_string(name)) == 0)
        rc = answer_event(job, name, event);
    json_decref(event);
    return rc;
}

static int choice_begun(struct job *job, int choice)
{
    (void)choice;
    /* What the cache had is told at the end: these counts are replaced by those. */
    json_t *counts = json_object_get(job->head, "usage");
    if (json_object_set_new(counts, "input_tokens", json_integer((json_int_t)job->request.prompts[0].ids.n)))
        return -1;
    return emit(job, "message_start", json_pack("{s:O}", "message", job->head));
}

static int block_begun(struct job *job, int choice, const struct block *block)
{
    (void)choice;
    return emit(job, "content_block_start",
                json_pack("{s:i, s:o}", "index", block->number, "content_block", content_block(block, true)));
}

static int emit_delta(struct job *job, const struct block *block, const char *type, const char *member,
                      const char *text, size_t length)
{
    return emit(job, "content_block_delta",
                json_pack("{s:i, s:{s:s, s:s%}}", "index", block->number, "delta", "type", type, member, text,
                          length));
}

static int block_text(struct job *job, int choice, const struct block *block, const char *text, size_t length,
                      json_t *logprobs)
{
    static const char *const names[][2] = {
        [BLOCK_CONTENT] = {"text_delta", "text"},
        [BLOCK_REASONING] = {"thinking_delta", "thinking"},
        [BLOCK_CALL] = {"input_json_delta", "partial_json"},
    };
    (void)choice;
    json_decref(logprobs);
    if (length == 0)
        return 0;
    return emit_delta(job, block, names[block->kind][0], names[block->kind][1], text, length);
}

static int block_ended(struct job *job, int choice, const struct block *block)
{
    (void)choice;
    if (block->kind == BLOCK_REASONING &&
        emit_delta(job, block, "signature_delta", "signature", signature, sizeof signature - 1))
        return -1;
    return emit(job, "content_block_stop", json_pack("{s:i}", "index", block->number));
}

static int ended(struct job *job)
{
    const struct choice *choice = &job->choices[0];
    json_t *event = json_pack("{s:{s:s, s:s?}, s:o}", "delta", "stop_reason", stop_reason(choice), "stop_sequence",
                              stop_sequence(choice), "usage", usage(job));
    if (event && job->extension && json_object_set(event, "hearth", job->extension)) {
        json_decref(event);
        return -1;
    }
    return emit(job, "message_delta", event) ? -1 : emit(job, "message_stop", json_object());
}

static int stream_error(struct job *job, const struct api_error *error)
{
    return emit(job, "error", anthropic_error_json(error, job->id));
}

/* ---- whole answers ---- */

static int whole(struct job *job, struct bytes *body)
{
    const struct choice *choice = &job->choices[0];
    json_t *content = json_object_get(job->head, "content"), *head = job->head;
    int failed = 0;
    for (int i = 0; i < choice->n_blocks; i++)
        failed |= json_array_append_new(content, content_block(&choice->blocks[i], false));
    failed |= json_object_set_new(head, "stop_reason", json_string(stop_reason(choice)));
    if (stop_sequence(choice))
        failed |= json_object_set_new(head, "stop_sequence", json_string(stop_sequence(choice)));
    failed |= json_object_set_new(head, "usage", usage(job));
    if (job->extension)
        failed |= json_object_set(head, "hearth", job->extension);
    if (failed)
        return -1;
    bytes_add_json(body, head);
    return body->failed ? -1 : 0;
}

const struct answer_format format_messages = {
    .id_prefix = "msg_",
    .call_prefix = "toolu_",
    .begin = begin,
    .choice_begun = choice_begun,
    .block_begun = block_begun,
    .block_text = block_text,
    .block_ended = block_ended,
    .ended = ended,
    .stream_error = stream_error,
    .keep_alive = "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    .whole = whole,
};
