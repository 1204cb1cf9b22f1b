/* From the engine's events to the bytes of an answer, as server-sent events or as one body. */
#include "job.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "explain.h"

static bool wants_usage_event(const struct job *job)
{
    return job->request.stream && job->request.include_usage;
}

/* Offsets of the older logprobs count from the beginning of the prompt. */
static int64_t prompt_characters(const struct part *part)
{
    const struct api_prompt *prompt = &part->job->request.prompts[part - part->job->parts];
    int64_t n = 0;
    for (size_t i = prompt->echo_skip; i < prompt->ids.n; i++) {
        size_t length = 0;
        const char *bytes = engine_token_bytes(part->job->api->model, prompt->ids.ids[i], &length);
        n += api_shape_characters(bytes, length);
    }
    return n;
}

int answer_begin(struct job *job)
{
    const struct api_request *request = &job->request;
    unsigned char random[24];
    if (uv_random(NULL, NULL, random, sizeof random, 0, NULL)) {
        uint64_t now = uv_hrtime(), self = (uintptr_t)job;
        memcpy(random, &now, sizeof now);
        memcpy(random + 8, &self, sizeof self);
        memcpy(random + 16, &now, sizeof now);
    }
    memcpy(&job->seed, random, sizeof job->seed);
    int at = snprintf(job->id, sizeof job->id, "%s", request->endpoint == API_CHAT ? "chatcmpl-" : "cmpl-");
    for (size_t i = 8; i < sizeof random; i++)
        at += snprintf(job->id + at, sizeof job->id - (size_t)at, "%02x", random[i]);

    job->head = api_shape_head(request->endpoint, request->stream, wants_usage_event(job), job->id,
                               (int64_t)time(NULL), engine_model_info(job->api->model)->name);
    if (!job->head)
        return -1;
    for (size_t p = 0; p < request->n_prompts; p++) {
        struct part *part = &job->parts[p];
        part->job = job;
        part->first_choice = (int)(p * (size_t)request->n);
        if (request->echo && request->logprobs &&
            !(part->echo = api_shape_logprobs(API_TEXT, request->n_top)))
            return -1;
        int64_t offset = request->logprobs && request->endpoint == API_TEXT ? prompt_characters(part) : 0;
        for (int c = 0; c < request->n; c++)
            job->choices[part->first_choice + c].offset = offset;
    }
    return 0;
}

/* ---- streaming ---- */

static void open_stream(struct job *job)
{
    if (job->streaming)
        return;
    job->streaming = true;
    struct http_field fields[API_FIELDS + 4] = {
        {"Content-Type", "text/event-stream"},
        {"Cache-Control", "no-cache"},
        {"X-Accel-Buffering", "no"},
        {"X-Request-Id", job->id},
    };
    size_t n = 4 + api_fields(job->api, fields + 4);
    metrics_answer(&job->api->metrics, 200);
    http_stream_begin(job->http, 200, fields, n, answer_drained);
}

static void write_event(struct job *job, const json_t *object)
{
    job->buffer.length = 0;
    bytes_add_event(&job->buffer, object);
    if (job->buffer.failed) {
        job_fail_memory(job);
        return;
    }
    open_stream(job);
    if (job->over)
        return;
    http_stream_write(job->http, job->buffer.data, job->buffer.length);
    job->last_write = uv_hrtime();
}

/* Takes the references to content and logprobs. */
static void write_choice(struct job *job, int index, json_t *content, json_t *logprobs, const char *finish)
{
    json_t *choice = api_shape_choice(job->request.endpoint, true, index, content, logprobs, finish);
    json_t *choices = json_object_get(job->head, "choices");
    if (json_array_clear(choices) || json_array_append_new(choices, choice)) {
        job_fail_memory(job);
        return;
    }
    write_event(job, job->head);
}

static json_t *stream_content(const struct job *job, bool role, const char *text, size_t length)
{
    if (job->request.endpoint == API_CHAT)
        return api_shape_delta(role, text, length);
    return json_stringn(text ? text : "", length);
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

void answer_keep_alive(struct job *job)
{
    open_stream(job);
    /* A client that does not read gets no more to read. */
    if (!job->over && http_stream_pending(job->http) == 0)
        http_stream_write(job->http, ":\n\n", 3);
    job->last_write = uv_hrtime();
}

void answer_queued(struct part *part, const struct engine_event *event)
{
    struct job *job = part->job;
    char text[64];
    int n = snprintf(text, sizeof text, ": queued, %d ahead, about %.0f s\n\n", event->ahead, event->queue_seconds);
    open_stream(job);
    if (!job->over && http_stream_pending(job->http) == 0)
        http_stream_write(job->http, text, (size_t)n);
    job->last_write = uv_hrtime();
}

void answer_stream_error(struct job *job, const struct api_error *error)
{
    json_t *object = api_error_json(error);
    struct bytes event = {0};
    bytes_add_event(&event, object);
    json_decref(object);
    if (!event.failed)
        http_stream_write(job->http, event.data, event.length);
    bytes_dispose(&event);
    if (job->http)
        http_stream_end(job->http);
}

static void end_stream(struct job *job)
{
    json_object_del(job->head, "hearth"); /* it is out */
    if (job->request.include_usage) {
        json_t *usage = api_shape_usage(job->prompt_tokens, job->completion_tokens, job->cached_tokens);
        if (json_object_set_new(job->head, "usage", usage) ||
            json_array_clear(json_object_get(job->head, "choices"))) {
            job_fail_memory(job);
            return;
        }
        write_event(job, job->head);
        if (job->over)
            return;
    }
    job->over = true;
    http_stream_write(job->http, "data: [DONE]\n\n", 14);
    if (job->http)
        http_stream_end(job->http);
}

/* ---- whole answers ---- */

static json_t *whole_content(const struct job *job, const struct choice *choice)
{
    json_t *text = json_stringn(choice->text.data ? choice->text.data : "", choice->text.length);
    if (job->request.endpoint == API_TEXT)
        return text;
    return json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", text, "refusal");
}

static void end_whole(struct job *job)
{
    json_t *choices = json_object_get(job->head, "choices");
    size_t n = job->request.n_prompts * (size_t)job->request.n;
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        struct choice *choice = &job->choices[i];
        json_t *logprobs = choice->logprobs;
        choice->logprobs = NULL;
        failed |= json_array_append_new(choices, api_shape_choice(job->request.endpoint, false, (int)i,
                                                                  whole_content(job, choice), logprobs,
                                                                  api_shape_finish(choice->finish)));
    }
    failed |= json_object_set_new(
        job->head, "usage", api_shape_usage(job->prompt_tokens, job->completion_tokens, job->cached_tokens));
    if (!failed)
        bytes_add_json(&job->buffer, job->head);
    if (failed || job->buffer.failed) {
        job_fail_memory(job);
        return;
    }
    job->over = true;
    api_reply(job->api, job->http, 200, "application/json", job->id, job->buffer.data, job->buffer.length);
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
    struct bytes raw = {0};
    for (size_t i = 0; i < prompt->ids.n; i++) {
        size_t length = 0;
        const char *bytes = engine_token_bytes(part->job->api->model, prompt->ids.ids[i], &length);
        bytes_add(&raw, bytes, length);
    }
    bytes_add_utf8(out, raw.data, raw.length);
    out->failed |= raw.failed;
    bytes_dispose(&raw);
}

void answer_prompt(struct part *part, const struct engine_event *event)
{
    struct job *job = part->job;
    const struct api_prompt *prompt = &job->request.prompts[part - job->parts];
    for (size_t i = 0; part->echo && i < event->n_tokens; i++) {
        const struct engine_token *token = &event->tokens[i];
        if (api_shape_text_token(part->echo, job->api->model, token->id, token->logprob,
                                 part->n_echo > 0 ? part->top : NULL, part->n_top, part->offset)) {
            job_fail_memory(job);
            return;
        }
        size_t length = 0;
        const char *bytes = engine_token_bytes(job->api->model, token->id, &length);
        if (part->n_echo >= prompt->echo_skip)
            part->offset += api_shape_characters(bytes, length);
        part->n_echo++;
        part->n_top = token->n_top < JOB_MAX_TOP ? token->n_top : JOB_MAX_TOP;
        if (part->n_top > 0)
            memcpy(part->top, token->top, (size_t)part->n_top * sizeof *part->top);
    }
}

/* What comes before a choice's first text: the role, or the prompt that `echo` repeats. */
static void begin_choice(struct part *part, int index)
{
    struct job *job = part->job;
    struct choice *choice = &job->choices[index];
    const struct api_request *request = &job->request;
    if (choice->begun)
        return;
    choice->begun = true;
    if (request->stream && request->endpoint == API_CHAT) {
        write_choice(job, index, stream_content(job, true, "", 0), NULL, NULL);
        return;
    }
    if (request->echo)
        add_echo(&choice->text, part);
    if (choice->text.failed) {
        job_fail_memory(job);
        return;
    }
    if (!request->stream) {
        if (request->logprobs)
            choice->logprobs = part->echo ? json_deep_copy(part->echo)
                                          : api_shape_logprobs(request->endpoint, request->n_top);
        if (request->logprobs && !choice->logprobs)
            job_fail_memory(job);
    } else if (request->echo) {
        write_choice(job, index, stream_content(job, false, choice->text.data, choice->text.length),
                     part->echo ? json_deep_copy(part->echo) : NULL, NULL);
    }
}

static int add_logprobs(struct job *job, struct choice *choice, json_t *logprobs,
                        const struct engine_event *event)
{
    const struct model *model = job->api->model;
    for (size_t i = 0; i < event->n_tokens; i++) {
        const struct engine_token *token = &event->tokens[i];
        if (job->request.endpoint == API_CHAT) {
            if (api_shape_chat_token(logprobs, model, token))
                return -1;
            continue;
        }
        if (api_shape_text_token(logprobs, model, token->id, token->logprob, token->top, token->n_top,
                                 choice->offset))
            return -1;
        size_t length = 0;
        const char *bytes = engine_token_bytes(model, token->id, &length);
        choice->offset += api_shape_characters(bytes, length);
    }
    return 0;
}

static void add_text(struct part *part, int index, const struct engine_event *event)
{
    struct job *job = part->job;
    struct choice *choice = &job->choices[index];
    json_t *logprobs = choice->logprobs;
    if (job->request.logprobs && job->request.stream)
        logprobs = api_shape_logprobs(job->request.endpoint, job->request.n_top);
    if (job->request.logprobs && (!logprobs || add_logprobs(job, choice, logprobs, event))) {
        if (job->request.stream)
            json_decref(logprobs);
        job_fail_memory(job);
        return;
    }
    if (job->request.stream) {
        write_choice(job, index, stream_content(job, false, event->text, event->length), logprobs, NULL);
        return;
    }
    bytes_add(&choice->text, event->text, event->length);
    if (choice->text.failed)
        job_fail_memory(job);
}

void answer_text(struct part *part, const struct engine_event *event)
{
    struct job *job = part->job;
    int index = part->first_choice + event->choice;
    job->answered = true;
    begin_choice(part, index);
    if (!job->over && (event->length > 0 || (job->request.logprobs && event->n_tokens > 0)))
        add_text(part, index, event);

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
    json_t *all = json_object_get(job->extension, "cache"), *entry = api_explain(job->api->model, event);
    if (!all && extend(job, "cache", all = json_array())) {
        json_decref(entry);
        return -1;
    }
    return json_array_append_new(all, entry) ||
           json_object_set_new(entry, "prompt_index", json_integer(part - job->parts));
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
    int index = part->first_choice + event->choice;
    struct choice *choice = &job->choices[index];
    if (choice->finish != FINISH_NONE)
        return;
    begin_choice(part, index);
    if (job->over)
        return;

    if (late && extend(job, "deadline", json_true())) {
        job_fail_memory(job);
        return;
    }
    choice->finish = event->finish;
    job->finished++;
    job->completion_tokens += event->completion_tokens;
    if (part->prompt_tokens == 0) { /* counted once, whatever n */
        part->prompt_tokens = event->prompt_tokens;
        job->prompt_tokens += event->prompt_tokens;
        job->cached_tokens += event->cached_tokens;
        if (event->explain && extend_cache(part, event)) {
            job_fail_memory(job);
            return;
        }
    }
    bool last = job->finished == job->request.n_prompts * (size_t)job->request.n;
    if (last && job->extension && json_object_set(job->head, "hearth", job->extension)) {
        job_fail_memory(job);
        return;
    }
    if (job->request.stream)
        write_choice(job, index, stream_content(job, false, NULL, 0), NULL, api_shape_finish(event->finish));
    if (job->over || !last)
        return;
    if (job->request.stream)
        end_stream(job);
    else
        end_whole(job);
}
