/* The answers of /api/chat and /api/generate, streamed and whole: one shape, of which a stream has a piece a line, and
 * the last one the counts. */
#include "job.h"

#include <math.h>

#include "ollama.h"

static int begin(struct job *job)
{
    job->head = ollama_name_json(job->asked->name);
    return job->head ? 0 : -1;
}

/* The references to content, thinking, calls and logprobs (all but content may be NULL) are taken. */
static json_t *object(const struct job *job, json_t *content, json_t *thinking, json_t *calls, json_t *logprobs,
                      bool done)
{
    char now[OLLAMA_TIME];
    ollama_time(now, ollama_now());
    json_t *answer = json_pack("{s:O, s:s}", "model", job->head, "created_at", now);
    int failed = !answer;
    if (job->request.endpoint == API_OLLAMA_CHAT) {
        failed |= json_object_set_new(answer, "message",
                                      json_pack("{s:s, s:o, s:o*, s:o*}", "role", "assistant", "content", content,
                                                "thinking", thinking, "tool_calls", calls));
    } else {
        failed |= json_object_set_new(answer, "response", content);
        if (thinking)
            failed |= json_object_set_new(answer, "thinking", thinking);
        json_decref(calls);
    }
    failed |= json_object_set_new(answer, "done", json_boolean(done));
    json_t *tokens = json_object_get(logprobs, "content");
    if (json_array_size(tokens) > 0)
        failed |= json_object_set(answer, "logprobs", tokens);
    json_decref(logprobs);
    if (!failed)
        return answer;
    json_decref(answer);
    return NULL;
}

static json_t *call(const struct block *block)
{
    return json_pack("{s:{s:i, s:s, s:o}}", "function", "index", block->call, "name", block->name, "arguments",
                     answer_arguments(block));
}

/* Nanoseconds; clients divide by them. */
static json_t *duration(double seconds)
{
    return json_integer(seconds > 1e-9 ? llround(seconds * 1e9) : 1);
}

/* What an answer ends with. */
static int add_counts(const struct job *job, json_t *answer)
{
    const char *reason = api_shape_finish(job->choices[0].finish);
    double total = (double)(uv_hrtime() - job->started) / 1e9;
    json_t *counts = json_pack("{s:s, s:o, s:o, s:I, s:o, s:I, s:o}", "done_reason", reason ? reason : "stop",
                               "total_duration", duration(total), "load_duration", duration(job->load_seconds),
                               "prompt_eval_count", (json_int_t)job->prompt_tokens, "prompt_eval_duration",
                               duration(job->prefill_seconds), "eval_count", (json_int_t)job->completion_tokens,
                               "eval_duration", duration(job->decode_seconds));
    int failed = json_object_update(answer, counts);
    json_decref(counts);
    if (job->extension)
        failed |= json_object_set(answer, "hearth", job->extension);
    return failed ? -1 : 0;
}

/* ---- streams ---- */

/* The reference to answer is taken. */
static int emit(struct job *job, json_t *answer)
{
    int rc = answer ? answer_event(job, NULL, answer) : -1;
    json_decref(answer);
    return rc;
}

static int block_text(struct job *job, int choice, const struct block *block, const char *text, size_t length,
                      json_t *logprobs)
{
    (void)choice;
    if (block->kind == BLOCK_CALL || (length == 0 && !logprobs)) {
        json_decref(logprobs);
        return 0;
    }
    json_t *string = json_stringn(text, length);
    bool thinks = block->kind == BLOCK_REASONING;
    return emit(job, object(job, thinks ? json_string("") : string, thinks ? string : NULL, NULL, logprobs, false));
}

/* A call comes whole. */
static int block_ended(struct job *job, int choice, const struct block *block)
{
    (void)choice;
    if (block->kind != BLOCK_CALL)
        return 0;
    return emit(job, object(job, json_string(""), NULL, json_pack("[o]", call(block)), NULL, false));
}

static int ended(struct job *job)
{
    json_t *answer = object(job, json_string(""), NULL, NULL, NULL, true);
    if (answer && add_counts(job, answer)) {
        json_decref(answer);
        return -1;
    }
    return emit(job, answer);
}

static int stream_error(struct job *job, const struct api_error *error)
{
    return emit(job, ollama_error_json(error));
}

/* ---- whole answers ---- */

static json_t *calls(const struct choice *choice)
{
    json_t *list = json_array();
    for (int i = 0; i < choice->n_blocks; i++) {
        if (choice->blocks[i].kind == BLOCK_CALL && json_array_append_new(list, call(&choice->blocks[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* The reference is taken; NULL instead of null. */
static json_t *absent(json_t *value)
{
    if (!json_is_null(value))
        return value;
    json_decref(value);
    return NULL;
}

static int whole(struct job *job, struct bytes *body)
{
    struct choice *choice = &job->choices[0];
    json_t *content = absent(answer_content(choice)), *logprobs = choice->logprobs;
    choice->logprobs = NULL;
    json_t *answer = object(job, content ? content : json_string(""), absent(answer_joined(choice, BLOCK_REASONING)),
                            choice->n_calls > 0 ? calls(choice) : NULL, logprobs, true);
    if (answer && add_counts(job, answer) == 0)
        bytes_add_json(body, answer);
    else
        body->failed = true;
    json_decref(answer);
    return body->failed ? -1 : 0;
}

const struct answer_format format_ollama = {
    .id_prefix = "ollama-",
    .call_prefix = "call_",
    .keeps_text = true,
    .lines = true,
    .begin = begin,
    .block_text = block_text,
    .block_ended = block_ended,
    .ended = ended,
    .stream_error = stream_error,
    .whole = whole,
};
