/* The answers of /v1/responses, streamed and whole: events and objects as OpenAI's SDKs have them as types. An
 * answer that is stored is committed before it is told to be complete. */
#include "job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "responses.h"

/* Members of the response that repeat the request's, where it gave them. */
static const char *const repeated[] = {
    "instructions", "max_output_tokens", "metadata", "previous_response_id", "prompt_cache_key", "safety_identifier",
    "temperature", "tool_choice", "tools", "top_p", "user",
};

struct state {
    json_t *logprobs; /* streams: of all tokens so far */
    int sequence;     /* of the next event */
    bool told;        /* the client knows of the response */
};

/* ---- the response ---- */

/* Where the request says nothing. */
static json_t *base(const struct job *job)
{
    const struct api_request *request = &job->request;
    json_t *reasoning = json_object_get(request->body, "reasoning"), *text = json_object_get(request->body, "text");
    json_t *format = json_object_get(text, "format");
    bool stored = request->store && job->api->archive;
    return json_pack(
        "{s:s, s:s, s:I, s:s, s:b, s:n, s:n, s:n, s:n, s:n, s:n, s:s, s:[], s:b, s:n, s:{s:O?, s:O?}, s:s, s:b, s:n,"
        " s:{s:o}, s:s, s:[], s:i, s:n, s:s, s:n, s:{}}",
        "id", job->id, "object", "response", "created_at", (json_int_t)time(NULL), "status", "in_progress",
        "background", 0, "completed_at", "error", "incomplete_details", "instructions", "max_output_tokens",
        "max_tool_calls", "model", job->asked->name, "output", "parallel_tool_calls",
        request->parallel_tool_calls, "previous_response_id", "reasoning", "effort",
        json_object_get(reasoning, "effort"), "summary", json_object_get(reasoning, "summary"), "service_tier",
        "default", "store", stored, "temperature", "text", "format",
        json_is_object(format) ? json_incref(format) : json_pack("{s:s}", "type", "text"), "tool_choice", "auto",
        "tools", "top_logprobs", request->n_top, "top_p", "truncation", "disabled", "usage", "metadata");
}

static int begin(struct job *job)
{
    struct state *state = job->state = calloc(1, sizeof *state);
    job->head = base(job);
    if (!state || !job->head)
        return -1;
    for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++) {
        json_t *value = json_object_get(job->request.body, repeated[i]);
        if (value && !json_is_null(value) && json_object_set(job->head, repeated[i], value))
            return -1;
    }
    if (job->request.logprobs && !(state->logprobs = json_array()))
        return -1;
    return responses_name_items(&job->request, job->id);
}

static void dispose(struct job *job)
{
    struct state *state = job->state;
    if (state)
        json_decref(state->logprobs);
    free(state);
}

/* Ids of items are made of the response's, so that a reference to one finds it. */
static void item_id(char *out, size_t room, const struct job *job, const struct block *block)
{
    static const char *const prefixes[] = {
        [BLOCK_CONTENT] = "msg", [BLOCK_REASONING] = "rs", [BLOCK_CALL] = "fc"};
    snprintf(out, room, "%s_%.32s%04x", prefixes[block->kind], strchr(job->id, '_') + 1, (unsigned)block->number);
}

static json_t *part(const char *text, size_t length, json_t *logprobs)
{
    return json_pack("{s:s, s:s%, s:[], s:o}", "type", "output_text", "text", text ? text : "", length, "annotations",
                     "logprobs", logprobs ? json_incref(logprobs) : json_array());
}

/* An item as it is once it has ended, or while it is `in_progress`. */
static json_t *make_item(const struct job *job, const struct block *block, const char *status, json_t *logprobs)
{
    char id[64];
    const char *text = block->text.data ? block->text.data : "";
    bool empty = strcmp(status, "in_progress") == 0;
    size_t length = empty ? 0 : block->text.length;
    item_id(id, sizeof id, job, block);
    if (block->kind == BLOCK_CALL)
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s%}", "id", id, "type", "function_call", "status", status,
                         "call_id", block->id, "name", block->name, "arguments", text, length);
    json_t *content = json_array();
    int failed = !content;
    if (!empty && block->kind == BLOCK_CONTENT)
        failed |= json_array_append_new(content, part(text, length, logprobs));
    else if (!empty)
        failed |= json_array_append_new(content, json_pack("{s:s, s:s%}", "type", "reasoning_text", "text", text,
                                                           length));
    if (failed) {
        json_decref(content);
        return NULL;
    }
    if (block->kind == BLOCK_REASONING)
        return json_pack("{s:s, s:s, s:s, s:[], s:o}", "id", id, "type", "reasoning", "status", status, "summary",
                         "content", content);
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", id, "type", "message", "status", status, "role", "assistant",
                     "content", content);
}

/* An answer of nothing is a message of nothing. */
static const struct block nothing = {.kind = BLOCK_CONTENT};

static bool was_cut(const struct choice *choice)
{
    return strcmp(answer_finish(choice), "length") == 0;
}

static json_t *output(const struct job *job)
{
    const struct choice *choice = &job->choices[0];
    const struct state *state = job->state;
    json_t *items = json_array();
    json_t *logprobs = job->request.stream ? state->logprobs : json_object_get(choice->logprobs, "content");
    int n = choice->n_blocks > 0 ? choice->n_blocks : 1, failed = !items;
    for (int i = 0; i < n; i++) {
        const struct block *block = choice->n_blocks > 0 ? &choice->blocks[i] : &nothing;
        bool last = i == n - 1;
        failed |= json_array_append_new(
            items, make_item(job, block, last && was_cut(choice) ? "incomplete" : "completed", logprobs));
        if (block->kind == BLOCK_CONTENT)
            logprobs = NULL; /* all of them are with the first message */
    }
    if (!failed)
        return items;
    json_decref(items);
    return NULL;
}

/* The response as it is when everything has ended. */
static int complete(struct job *job)
{
    bool cut = was_cut(&job->choices[0]);
    int64_t now = time(NULL);
    json_t *head = job->head;
    int failed = json_object_set_new(head, "status", json_string(cut ? "incomplete" : "completed"));
    failed |= json_object_set_new(head, "completed_at", cut ? json_null() : json_integer(now));
    if (cut)
        failed |= json_object_set_new(head, "incomplete_details", json_pack("{s:s}", "reason", "max_output_tokens"));
    failed |= json_object_set_new(head, "output", output(job));
    failed |= json_object_set_new(
        head, "usage",
        json_pack("{s:I, s:{s:I, s:I}, s:I, s:{s:I}, s:I}", "input_tokens", (json_int_t)job->prompt_tokens,
                  "input_tokens_details", "cached_tokens", (json_int_t)job->cached_tokens, "cache_write_tokens",
                  (json_int_t)0, "output_tokens", (json_int_t)job->completion_tokens, "output_tokens_details",
                  "reasoning_tokens", (json_int_t)job->reasoning_tokens, "total_tokens",
                  (json_int_t)(job->prompt_tokens + job->completion_tokens)));
    if (job->extension)
        failed |= json_object_set(head, "hearth", job->extension);
    return failed ? -1 : 0;
}

/* ---- streams ---- */

/* The reference to event is taken. */
static int emit(struct job *job, const char *name, json_t *event)
{
    struct state *state = job->state;
    int rc = -1;
    if (event && json_object_set_new(event, "type", json_string(name)) == 0 &&
        json_object_set_new(event, "sequence_number", json_integer(state ? state->sequence++ : 0)) == 0)
        rc = answer_event(job, name, event);
    json_decref(event);
    return rc;
}

static int emit_response(struct job *job, const char *name)
{
    return emit(job, name, json_pack("{s:O}", "response", job->head));
}

static int choice_begun(struct job *job, int choice)
{
    struct state *state = job->state;
    (void)choice;
    state->told = true;
    return emit_response(job, "response.created") ? -1 : emit_response(job, "response.in_progress");
}

static int block_begun(struct job *job, int choice, const struct block *block)
{
    (void)choice;
    char id[64];
    item_id(id, sizeof id, job, block);
    if (emit(job, "response.output_item.added",
             json_pack("{s:i, s:o}", "output_index", block->number, "item",
                       make_item(job, block, "in_progress", NULL))))
        return -1;
    if (block->kind == BLOCK_CALL)
        return 0;
    json_t *empty = block->kind == BLOCK_CONTENT ? part("", 0, NULL)
                                                 : json_pack("{s:s, s:s}", "type", "reasoning_text", "text", "");
    return emit(job, "response.content_part.added",
                json_pack("{s:s, s:i, s:i, s:o}", "item_id", id, "output_index", block->number, "content_index", 0,
                          "part", empty));
}

static int block_text(struct job *job, int choice, const struct block *block, const char *text, size_t length,
                      json_t *logprobs)
{
    struct state *state = job->state;
    json_t *tokens = json_object_get(logprobs, "content");
    char id[64];
    (void)choice;
    item_id(id, sizeof id, job, block);
    json_t *event = json_pack("{s:s, s:i, s:s%}", "item_id", id, "output_index", block->number, "delta", text,
                              length);
    int failed = !event;
    if (tokens)
        failed |= json_array_extend(state->logprobs, tokens);
    if (block->kind == BLOCK_CONTENT)
        failed |= json_object_set_new(event, "logprobs", tokens ? json_incref(tokens) : json_array());
    if (block->kind != BLOCK_CALL)
        failed |= json_object_set_new(event, "content_index", json_integer(0));
    json_decref(logprobs);
    if (failed || length == 0) {
        json_decref(event);
        return failed ? -1 : 0;
    }
    static const char *const names[] = {
        [BLOCK_CONTENT] = "response.output_text.delta",
        [BLOCK_REASONING] = "response.reasoning_text.delta",
        [BLOCK_CALL] = "response.function_call_arguments.delta",
    };
    return emit(job, names[block->kind], event);
}

/* The text as a whole, and the part around it. */
static int emit_text_done(struct job *job, const struct block *block, const char *id)
{
    static const char *const names[] = {
        [BLOCK_CONTENT] = "response.output_text.done",
        [BLOCK_REASONING] = "response.reasoning_text.done",
        [BLOCK_CALL] = "response.function_call_arguments.done",
    };
    const struct state *state = job->state;
    bool content = block->kind == BLOCK_CONTENT, call = block->kind == BLOCK_CALL;
    const char *text = block->text.data ? block->text.data : "";
    json_t *logprobs = content && state->logprobs ? state->logprobs : NULL;
    json_t *event = json_pack("{s:s, s:i, s:s%}", "item_id", id, "output_index", block->number,
                              call ? "arguments" : "text", text, block->text.length);
    int failed = !event;
    if (call)
        failed |= json_object_set_new(event, "name", json_string(block->name));
    else
        failed |= json_object_set_new(event, "content_index", json_integer(0));
    if (content)
        failed |= json_object_set_new(event, "logprobs", logprobs ? json_incref(logprobs) : json_array());
    if (failed) {
        json_decref(event);
        return -1;
    }
    if (emit(job, names[block->kind], event))
        return -1;
    if (call)
        return 0;
    json_t *whole = content ? part(text, block->text.length, logprobs)
                            : json_pack("{s:s, s:s%}", "type", "reasoning_text", "text", text, block->text.length);
    return emit(job, "response.content_part.done",
                json_pack("{s:s, s:i, s:i, s:o}", "item_id", id, "output_index", block->number, "content_index", 0,
                          "part", whole));
}

static int block_ended(struct job *job, int choice, const struct block *block)
{
    const struct state *state = job->state;
    const struct choice *c = &job->choices[choice];
    char id[64];
    item_id(id, sizeof id, job, block);
    if (emit_text_done(job, block, id))
        return -1;
    const char *status = c->finish != FINISH_NONE && was_cut(c) ? "incomplete" : "completed";
    json_t *item = make_item(job, block, status, state->logprobs);
    return emit(job, "response.output_item.done",
                json_pack("{s:i, s:o}", "output_index", block->number, "item", item));
}

static int choice_ended(struct job *job, int choice)
{
    if (job->choices[choice].n_blocks > 0)
        return 0;
    return block_begun(job, choice, &nothing) ? -1 : block_ended(job, choice, &nothing);
}

static int ended(struct job *job)
{
    return emit_response(job, was_cut(&job->choices[0]) ? "response.incomplete" : "response.completed");
}

static int stream_error(struct job *job, const struct api_error *error)
{
    const struct state *state = job->state;
    const char *code = error->status == 429   ? "rate_limit_exceeded"
                       : error->status == 400 ? "invalid_prompt"
                                              : "server_error";
    if (!state || !state->told)
        return emit(job, "error",
                    json_pack("{s:s?, s:s, s:s?}", "code", error->code, "message", error->err.text, "param",
                              error->param[0] ? error->param : NULL));
    if (json_object_set_new(job->head, "status", json_string("failed")) ||
        json_object_set_new(job->head, "error", json_pack("{s:s, s:s}", "code", code, "message", error->err.text)))
        return -1;
    return emit_response(job, "response.failed");
}

/* ---- whole answers, and the store ---- */

static int whole(struct job *job, struct bytes *body)
{
    bytes_add_json(body, job->head);
    return body->failed ? -1 : 0;
}

static bool keeps(const struct job *job)
{
    return job->request.store && job->api->archive;
}

static int keep(struct job *job, struct err *err)
{
    return archive_put(job->api->archive, job->id, job->request.previous, job->request.input, job->head, err);
}

const struct answer_format format_responses = {
    .id_prefix = "resp_",
    .call_prefix = "call_",
    .keeps_text = true,
    .begin = begin,
    .dispose = dispose,
    .choice_begun = choice_begun,
    .block_begun = block_begun,
    .block_text = block_text,
    .block_ended = block_ended,
    .choice_ended = choice_ended,
    .ended = ended,
    .stream_error = stream_error,
    .complete = complete,
    .keeps = keeps,
    .keep = keep,
    .whole = whole,
};
