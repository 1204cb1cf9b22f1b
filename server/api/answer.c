/* From the engine's events to the blocks of an answer, which its format turns into bytes. */
#include "job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explain.h"

const struct answer_format *answer_format_of(enum api_endpoint endpoint)
{
    switch (endpoint & ~API_PROMPT_ONLY) {
    case API_TEXT: return &format_text;
    case API_RESPONSES: return &format_responses;
    case API_MESSAGES: return &format_messages;
    case API_EMBEDDINGS: return &format_embeddings;
    case API_INFILL: return &format_infill;
    case API_OLLAMA_CHAT:
    case API_OLLAMA_GENERATE: return &format_ollama;
    default: return &format_chat;
    }
}

size_t answer_choices(const struct job *job)
{
    return job->request.n_prompts * (size_t)job->request.n;
}

const char *answer_finish(const struct choice *choice)
{
    bool calls = choice->n_calls > 0 && choice->finish == FINISH_STOP;
    return calls ? "tool_calls" : api_shape_finish(choice->finish);
}

/* Hex digits that nobody has had before: PREFIX, then as many as fit. */
void answer_id(char *out, size_t size, const char *prefix, const unsigned char *random, size_t n)
{
    int at = snprintf(out, size, "%s", prefix);
    for (size_t i = 0; i < n; i++)
        at += snprintf(out + at, size - (size_t)at, "%02x", random[i]);
}

void answer_random(const struct job *job, unsigned char random[24])
{
    if (uv_random(NULL, NULL, random, 24, 0, NULL) == 0)
        return;
    uint64_t now = uv_hrtime(), self = (uintptr_t)job;
    memcpy(random, &now, sizeof now);
    memcpy(random + 8, &self, sizeof self);
    memcpy(random + 16, &now, sizeof now);
}

/* Offsets of the older logprobs count from the beginning of the prompt. */
static int64_t prompt_characters(const struct part *part)
{
    const struct api_prompt *prompt = &part->job->request.prompts[part - part->job->parts];
    int64_t n = 0;
    for (size_t i = prompt->echo_skip; i < prompt->ids.n; i++) {
        size_t length = 0;
        const char *bytes = engine_token_bytes(part->job->model, prompt->ids.ids[i], &length);
        n += api_shape_characters(bytes, length);
    }
    return n;
}

static int begin_choices(struct part *part)
{
    struct job *job = part->job;
    const struct api_request *request = &job->request;
    int64_t offset = request->logprobs && job->format->text_logprobs ? prompt_characters(part) : 0;
    for (int c = 0; c < request->n; c++) {
        struct choice *choice = &job->choices[part->first_choice + c];
        choice->job = job;
        choice->index = part->first_choice + c;
        choice->offset = offset;
        struct pieces_options options = request->pieces;
        options.sink = answer_piece;
        options.user = choice;
        if (pieces_create(&choice->pieces, &options))
            return -1;
    }
    return 0;
}

void answer_name(struct job *job)
{
    unsigned char random[24];
    if (job->id[0])
        return;
    answer_random(job, random);
    memcpy(&job->seed, random, sizeof job->seed);
    answer_id(job->id, sizeof job->id, job->format->id_prefix, random + 8, 16);
}

int answer_begin(struct job *job)
{
    const struct api_request *request = &job->request;
    answer_name(job);
    if (job->format->begin(job))
        return -1;
    for (size_t p = 0; p < request->n_prompts; p++) {
        struct part *part = &job->parts[p];
        part->job = job;
        part->first_choice = (int)(p * (size_t)request->n);
        if (request->echo && request->logprobs &&
            !(part->echo = api_shape_logprobs(API_TEXT, request->n_top)))
            return -1;
        if (begin_choices(part))
            return -1;
    }
    return 0;
}

static void dispose_choice(struct choice *choice)
{
    for (int i = 0; i < choice->n_blocks; i++) {
        free(choice->blocks[i].name);
        bytes_dispose(&choice->blocks[i].text);
    }
    free(choice->blocks);
    pieces_destroy(choice->pieces);
    bytes_dispose(&choice->embedding);
    json_decref(choice->logprobs);
}

void answer_dispose(struct job *job)
{
    for (size_t i = 0; job->choices && i < answer_choices(job); i++)
        dispose_choice(&job->choices[i]);
    for (size_t i = 0; job->parts && i < job->request.n_prompts; i++)
        json_decref(job->parts[i].echo);
    if (job->format->dispose)
        job->format->dispose(job);
    json_decref(job->head);
    json_decref(job->extension);
    bytes_dispose(&job->buffer);
}

/* ---- streaming ---- */

static void open_stream(struct job *job)
{
    if (job->streaming)
        return;
    job->streaming = true;
    struct http_field fields[API_FIELDS + 4] = {
        {"Content-Type", job->format->lines ? "application/x-ndjson" : "text/event-stream"},
        {"Cache-Control", "no-cache"},
        {"X-Accel-Buffering", "no"},
        {api_id_name(job->http), job->id},
    };
    size_t n = 4 + api_fields(job->api, fields + 4);
    metrics_answer(&job->api->metrics, 200);
    http_stream_begin(job->http, 200, fields, n, answer_drained);
}

/* A client may leave at any of these calls. */
static void write_bytes(struct job *job, const char *data, size_t length)
{
    if (!job->http)
        return;
    open_stream(job);
    if (job->http)
        http_stream_write(job->http, data, length);
    job->last_write = uv_hrtime();
}

void answer_write(struct job *job, const char *text)
{
    write_bytes(job, text, strlen(text));
}

int answer_event(struct job *job, const char *name, const json_t *object)
{
    job->buffer.length = 0;
    if (name) {
        bytes_add(&job->buffer, "event: ", 7);
        bytes_add(&job->buffer, name, strlen(name));
        bytes_add(&job->buffer, "\n", 1);
    }
    if (job->format->lines) {
        bytes_add_json(&job->buffer, object);
        bytes_add(&job->buffer, "\n", 1);
    } else {
        bytes_add_event(&job->buffer, object);
    }
    if (job->buffer.failed)
        return -1;
    write_bytes(job, job->buffer.data, job->buffer.length);
    return 0;
}

void answer_drained(void *data)
{
    struct job *job = data;
    for (size_t i = 0; i < job->next_part; i++) {
        struct part *part = &job->parts[i];
        if (part->live && part->undelivered > 0)
            engine_credit(job->api->engine, part->id, part->undelivered);
        part->undelivered = 0;
    }
}

/* Between events; a client that does not read gets no more to read. */
static void write_aside(struct job *job, const char *text)
{
    open_stream(job);
    if (!job->over && http_stream_pending(job->http) == 0)
        http_stream_write(job->http, text, strlen(text));
    job->last_write = uv_hrtime();
}

void answer_keep_alive(struct job *job)
{
    const struct answer_format *format = job->format;
    write_aside(job, format->lines                            ? " "
                     : format->keep_alive && job->answered ? format->keep_alive
                                                           : ":\n\n");
}

void answer_queued(struct part *part, const struct engine_event *event)
{
    struct job *job = part->job;
    char text[64];
    if (job->format->lines) /* know no comments */
        return;
    snprintf(text, sizeof text, ": queued, %d ahead, about %.0f s\n\n", event->ahead, event->queue_seconds);
    write_aside(job, text);
}

void answer_stream_error(struct job *job, const struct api_error *error)
{
    if (job->buffer.failed)
        bytes_dispose(&job->buffer);
    int failed = job->format->stream_error(job, error);
    (void)failed; /* without memory for it the stream ends all the same */
    if (job->http)
        http_stream_end(job->http);
}

void answer_kept(struct job *job)
{
    const struct answer_format *format = job->format;
    job->buffer.length = 0;
    if (job->request.stream ? format->ended && format->ended(job) : format->whole(job, &job->buffer)) {
        job_fail_memory(job);
        return;
    }
    if (job->over)
        return;
    job->over = true;
    if (!job->request.stream)
        api_reply(job->api, job->http, 200, "application/json", job->id, job->buffer.data, job->buffer.length);
    else if (job->http)
        http_stream_end(job->http);
}

static void end_answer(struct job *job)
{
    const struct answer_format *format = job->format;
    if (format->complete && format->complete(job))
        job_fail_memory(job);
    else if (format->keeps && format->keeps(job))
        job_keep(job);
    else
        answer_kept(job);
}

/* ---- events ---- */

/* The prompt as text for `echo`. */
static void add_echo(struct bytes *out, const struct part *part)
{
    const struct api_prompt *prompt = &part->job->request.prompts[part - part->job->parts];
    if (prompt->text) {
        bytes_add(out, prompt->text, prompt->length);
        return;
    }
    json_t *text = api_shape_text(part->job->model, prompt->ids.ids, prompt->ids.n);
    if (text)
        bytes_add(out, json_string_value(text), json_string_length(text));
    else
        out->failed = true;
    json_decref(text);
}

void answer_prompt(struct part *part, const struct engine_event *event)
{
    struct job *job = part->job;
    const struct api_prompt *prompt = &job->request.prompts[part - job->parts];
    for (size_t i = 0; part->echo && i < event->n_tokens; i++) {
        const struct engine_token *token = &event->tokens[i];
        if (api_shape_text_token(part->echo, job->model, token->id, token->logprob,
                                 part->n_echo > 0 ? part->top : NULL, part->n_top, part->offset)) {
            job_fail_memory(job);
            return;
        }
        size_t length = 0;
        const char *bytes = engine_token_bytes(job->model, token->id, &length);
        if (part->n_echo >= prompt->echo_skip)
            part->offset += api_shape_characters(bytes, length);
        part->n_echo++;
        part->n_top = token->n_top < JOB_MAX_TOP ? token->n_top : JOB_MAX_TOP;
        if (part->n_top > 0)
            memcpy(part->top, token->top, (size_t)part->n_top * sizeof *part->top);
    }
}

static int echo_prompt(struct part *part, struct choice *choice)
{
    struct bytes text = {0};
    add_echo(&text, part);
    int failed = text.failed;
    if (part->echo)
        failed |= !(choice->logprobs = json_deep_copy(part->echo));
    if (!failed && text.length > 0)
        failed = pieces_feed(choice->pieces, text.data, text.length);
    bytes_dispose(&text);
    return failed ? -1 : answer_flush(choice);
}

/* What comes before a choice's first text: the role, or the prompt that `echo` repeats. */
static int begin_choice(struct part *part, struct choice *choice)
{
    const struct job *job = part->job;
    const struct api_request *request = &job->request;
    if (choice->begun)
        return 0;
    choice->begun = true;
    if (request->stream && job->format->choice_begun && job->format->choice_begun(part->job, choice->index))
        return -1;
    if (request->echo && echo_prompt(part, choice))
        return -1;
    if (!request->logprobs || request->stream || choice->logprobs)
        return 0;
    choice->logprobs = api_shape_logprobs(job->format->text_logprobs ? API_TEXT : API_CHAT, request->n_top);
    return choice->logprobs ? 0 : -1;
}

void answer_text(struct part *part, const struct engine_event *event)
{
    struct job *job = part->job;
    struct choice *choice = &job->choices[part->first_choice + event->choice];
    job->answered = true;
    bool empty = event->length == 0 && !(job->request.logprobs && event->n_tokens > 0);
    if (begin_choice(part, choice) || (!empty && !job->over && answer_add_text(choice, event))) {
        job_fail_memory(job);
        return;
    }
    if (!job->request.stream || job->over)
        return;
    /* What the socket has taken already was delivered; the rest is, when it has drained. */
    part->undelivered++;
    if (!job->streaming || http_stream_pending(job->http) == 0)
        answer_drained(job);
}

/* Takes the reference to a value that the answer has at its end, in its member "hearth". */
static int extend(struct job *job, const char *name, json_t *value)
{
    if (!job->extension)
        job->extension = json_object();
    return json_object_set_new(job->extension, name, value);
}

/* "cache" is an array: an entry for each prompt, as they end. */
static int extend_cache(struct part *part, const struct engine_event *event)
{
    struct job *job = part->job;
    json_t *all = json_object_get(job->extension, "cache"), *entry = api_explain(job->model, event);
    if (!all && extend(job, "cache", all = json_array())) {
        json_decref(entry);
        return -1;
    }
    return json_array_append_new(all, entry) ||
           json_object_set_new(entry, "prompt_index", json_integer(part - job->parts));
}

static int end_choice(struct part *part, struct choice *choice, const struct engine_event *event)
{
    struct job *job = part->job;
    if (begin_choice(part, choice))
        return -1;
    /* The end of the last block may tell why. */
    choice->finish = event->finish;
    choice->stop = event->stop;
    if (!job->over && (pieces_end(choice->pieces) || answer_flush(choice)))
        return -1;
    if (job->over)
        return 0;
    if (event->finish == FINISH_DEADLINE && extend(job, "deadline", json_true()))
        return -1;
    job->finished++;
    job->completion_tokens += event->completion_tokens;
    part->prefill_seconds = event->prefill_seconds;
    part->decode_seconds = event->decode_seconds;
    job->prefill_seconds += event->prefill_seconds;
    job->decode_seconds += event->decode_seconds;
    if (part->prompt_tokens == 0) { /* counted once, whatever n */
        part->prompt_tokens = event->prompt_tokens;
        job->prompt_tokens += event->prompt_tokens;
        job->cached_tokens += event->cached_tokens;
        if (event->explain && extend_cache(part, event))
            return -1;
    }
    if (!job->request.stream || !job->format->choice_ended)
        return 0;
    return job->format->choice_ended(job, choice->index);
}

void answer_done(struct part *part, const struct engine_event *event)
{
    struct job *job = part->job;
    bool late = event->finish == FINISH_DEADLINE;
    if (event->finish == FINISH_CANCELLED || (late && !job->answered)) {
        struct api_error error;
        if (late)
            api_error_set(&error, 504, "deadline_exceeded", NULL,
                          "The request's time was over before its answer began.");
        else
            api_error_set(&error, 503, "cancelled", NULL, "The server ended the request.");
        error.final = late;
        job_fail(job, &error);
        return;
    }
    struct choice *choice = &job->choices[part->first_choice + event->choice];
    if (choice->finish != FINISH_NONE)
        return;
    if (end_choice(part, choice, event)) {
        job_fail_memory(job);
        return;
    }
    if (!job->over && job->finished == answer_choices(job))
        end_answer(job);
}
