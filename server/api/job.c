/* The life of a request: parsed and prepared (on the thread pool where it is big), submitted prompt
 * by prompt, ended by its last event, its client or an error. A job is freed when the client, the
 * engine and the thread pool are all done with it. */
#include "job.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../../engine/log.h"
#include "responses.h"

enum {
    INLINE_BODY = 64 * 1024, /* bytes parsed on the loop; more goes to the thread pool */
    MAX_LIVE = 32,           /* prompts of one request that the engine has at a time */
    KEEP_ALIVE_SECONDS = 10,
    TICK_MS = 1000,
};

static double seconds_since(uint64_t then)
{
    return (double)(uv_hrtime() - then) / 1e9;
}

static void dispose(struct job *job)
{
    shelf_leave(job->api->shelf, &job->wait);
    answer_dispose(job);
    free(job->choices);
    free(job->parts);
    free(job->copy);
    api_request_dispose(&job->request);
    free(job);
}

static void hold(struct job *job)
{
    job->held++;
}

static void release(struct job *job)
{
    if (--job->held > 0 || job->http || job->working || job->live > 0)
        return;
    struct api *api = job->api;
    *(job->previous ? &job->previous->next : &api->jobs) = job->next;
    if (job->next)
        job->next->previous = job->previous;
    dispose(job);
    if (--api->n_jobs > 0)
        return;
    uv_timer_stop(&api->tick);
    if (api->options.idle)
        api->options.idle(api->options.user);
}

static void cancel_parts(struct job *job)
{
    for (size_t i = 0; i < job->next_part; i++) {
        if (job->parts[i].live)
            engine_cancel(job->api->engine, job->parts[i].id);
    }
}

static void client_gone(void *data, bool finished)
{
    struct job *job = data;
    hold(job);
    log_info("%s %s %d, %lld + %lld tokens, %.0f ms", http_method(job->http), http_path(job->http),
             finished ? job->status : 499, (long long)job->prompt_tokens, (long long)job->completion_tokens,
             seconds_since(job->started) * 1e3);
    job->http = NULL;
    if (job->working) {
        atomic_store(&job->abandoned, true);
        uv_cancel((uv_req_t *)&job->work); /* no more than its place in the pool's queue */
    }
    if (!job->over) {
        job->over = true;
        cancel_parts(job);
    }
    if (job->wait.queued)
        shelf_leave(job->api->shelf, &job->wait);
    release(job);
}

void job_fail(struct job *job, const struct api_error *error)
{
    if (job->over)
        return;
    job->over = true;
    cancel_parts(job);
    if (job->streaming) {
        answer_stream_error(job, error);
        return;
    }
    job->status = error->status;
    api_reply_error(job->api, job->http, error);
}

void job_fail_memory(struct job *job)
{
    struct api_error error;
    api_error_memory(&error);
    job_fail(job, &error);
}

static int submit_part(struct job *job, struct part *part, struct err *err)
{
    const struct api *api = job->api;
    const struct api_request *request = &job->request;
    const struct api_prompt *prompt = &request->prompts[part - job->parts];
    const struct sampling_defaults *const sources[] = {
        &api->options.defaults, &engine_model_info(job->model)->sampling, &job->asked->catalogue};
    bool own_scales = request->given[PARAM_lora];
    /* Equal prompts of one request that names no seed are to differ. */
    uint64_t seed = job->seed + (uint64_t)(part - job->parts);
    struct engine_request engine_request = {
        .model = job->model,
        .prompt = prompt->ids.ids,
        .n_prompt = prompt->ids.n,
        .sampling = api_sampling(request, sources, sizeof sources / sizeof *sources, seed),
        .stop = (const char *const *)request->stop,
        .n_stop = request->n_stop,
        .scales = own_scales ? request->scales : api->adapters.scale,
        .n_scales = own_scales ? request->n_scales : api->adapters.n,
        .grammar = request->grammar,
        .choices = request->n,
        .max_tokens = request->max_tokens,
        .ignore_eos = request->ignore_eos,
        .thinking = request->thinking,
        .embed = request->pooling,
        .logprobs = request->logprobs,
        .n_top = request->n_top,
        .prompt_logprobs = request->logprobs && request->echo,
        .credit = request->stream ? STREAM_CREDIT : 0,
        .deadline = job->deadline,
        .owner = admission_owner(&job->admission, request->end_user),
        .priority = request->priority,
        .tells_place = request->stream && part == job->parts,
        .no_cache = !request->cache_prompt,
        .cache_salt = request->cache_salt,
        .explain_cache = request->cache_explain || job->admission.explain,
        .user = part,
    };
    return engine_submit(api->engine, &engine_request, &part->id, err);
}

/* Submits what is left, a few prompts at a time. A full queue fails the request only while none of
 * its own prompts is there: otherwise the next one goes in when one of those ends. */
static void submit_parts(struct job *job)
{
    while (!job->over && job->next_part < job->request.n_prompts && job->live < MAX_LIVE) {
        struct part *part = &job->parts[job->next_part];
        struct err err = {0};
        int code = submit_part(job, part, &err);
        if (code == ERR_BUSY && job->live > 0)
            return;
        if (code) {
            struct api_error error;
            api_error_engine(&error, &err, api_prompt_name(&job->request));
            if (code == ERR_BUSY)
                error.retry_seconds = admission_retry(job->api);
            job_fail(job, &error);
            return;
        }
        part->live = true;
        part->submitted = uv_hrtime();
        job->live++;
        job->next_part++;
    }
}

static void begin(struct job *job)
{
    if (job->error.status) {
        job_fail(job, &job->error);
        return;
    }
    if (job->api->refusing) {
        struct api_error error;
        api_error_engine(&error, &(struct err){.code = ERR_DRAINING}, NULL);
        job_fail(job, &error);
        return;
    }
    if (job->request.prompt_only) {
        job_reply_prompt(job);
        return;
    }
    size_t n = job->request.n_prompts;
    job->parts = calloc(n, sizeof *job->parts);
    job->choices = calloc(n * (size_t)job->request.n, sizeof *job->choices);
    if (!job->parts || !job->choices || answer_begin(job)) {
        job_fail_memory(job);
        return;
    }
    submit_parts(job);
}

/* What needs neither the loop nor the engine's worker: first what is the same for every model, and when the model
 * is there the rest. */
static void parse(struct job *job, enum api_endpoint endpoint)
{
    bool failed = api_request_parse(&job->request, endpoint, job->body, job->body_length, API_ANY_VOCAB,
                                    &job->error);
    REQUIRE(failed == (job->error.status != 0));
    job->parsed = true;
}

static void prepare(struct job *job)
{
    if (job->error.status || atomic_load(&job->abandoned))
        return;
    bool failed = (job->request.continues && responses_continue(&job->request, job->api->archive, &job->error)) ||
                  api_check_ids(&job->request, engine_model_info(job->model)->vocab, &job->error) ||
                  api_check_scales(&job->request, engine_model_info(job->model)->n_adapters, &job->error) ||
                  api_prepare(&job->request, job->model, &job->error);
    REQUIRE(failed == (job->error.status != 0));
}

static void work(uv_work_t *work)
{
    struct job *job = work->data;
    if (job->parsed)
        prepare(job);
    else
        parse(job, job->request.endpoint);
}

static void find_model(struct job *job);

static void work_done(uv_work_t *work, int status)
{
    struct job *job = work->data;
    (void)status; /* cancelled ones have no client any more */
    hold(job);
    job->working = false;
    if (job->http && job->model)
        begin(job);
    else if (job->http)
        find_model(job);
    release(job);
}

/* What is not parsed yet. The body is the HTTP request's, which may go while the thread pool reads. */
static int copy_body(struct job *job, enum api_endpoint endpoint)
{
    job->copy = malloc(job->body_length + 1);
    if (!job->copy)
        return -1;
    memcpy(job->copy, job->body, job->body_length);
    job->copy[job->body_length] = '\0';
    job->body = job->copy;
    job->request.endpoint = endpoint;
    return 0;
}

static int begin_on_pool(struct job *job)
{
    job->work.data = job;
    if (uv_queue_work(job->api->loop, &job->work, work, work_done))
        return -1;
    job->working = true;
    return 0;
}

/* ---- the model ---- */

static void model_there(struct job *job)
{
    const struct api_request *request = &job->request;
    job->model = job->asked->model;
    job->load_seconds = seconds_since(job->started);
    /* To compile a grammar may take a while, and to read the disk. */
    if (job->copy || request->grammar_spec || request->tools || request->continues) {
        if (begin_on_pool(job))
            job_fail_memory(job);
    } else {
        prepare(job);
        begin(job);
    }
}

static void model_ready(struct shelf_wait *wait, const struct err *failure)
{
    struct job *job = (struct job *)((char *)wait - offsetof(struct job, wait));
    hold(job);
    if (failure) {
        shelf_error(&job->error, job->asked, failure);
        job_fail(job, &job->error);
    } else if (!job->over) {
        model_there(job);
    }
    release(job);
}

/* The request is well-formed: now its model is to be there. */
static void find_model(struct job *job)
{
    if (job->error.status) {
        job_fail(job, &job->error);
        return;
    }
    job->deadline = admission_deadline(&job->admission, job->request.timeout, job->started);
    job->wait.ready = model_ready;
    job->wait.idle_seconds = job->request.given[PARAM_keep_alive] ? &job->request.keep_alive : NULL;
    job->asked = shelf_find(job->api->shelf, job->request.model, &job->error);
    if (job->asked && job->request.unload) {
        shelf_dismiss(job->api->shelf, job->asked);
        job_reply_prompt(job);
        return;
    }
    int there = job->asked ? shelf_take(job->api->shelf, job->asked, &job->wait, &job->error) : -1;
    if (there > 0)
        model_there(job);
    else if (there < 0)
        job_fail(job, &job->error);
}

static void keep(uv_work_t *work)
{
    struct job *job = work->data;
    struct err err = {0};
    if (job->format->keep(job, &err))
        api_error_engine(&job->error, &err, NULL);
}

static void keep_done(uv_work_t *work, int status)
{
    struct job *job = work->data;
    (void)status; /* cancelled ones have no client any more */
    hold(job);
    job->working = false;
    if (!job->over && job->error.status)
        job_fail(job, &job->error);
    else if (!job->over)
        answer_kept(job);
    release(job);
}

void job_keep(struct job *job)
{
    job->work.data = job;
    if (uv_queue_work(job->api->loop, &job->work, keep, keep_done))
        job_fail_memory(job);
    else
        job->working = true;
}

static void tick(uv_timer_t *timer)
{
    job_tick(timer->data);
}

void job_start(struct api *api, struct http_request *http, enum api_endpoint endpoint)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job) {
        struct api_error error;
        api_error_memory(&error);
        api_reply_error(api, http, &error);
        return;
    }
    job->api = api;
    job->http = http;
    job->format = answer_format_of(endpoint);
    job->status = 200;
    job->started = job->last_write = uv_hrtime();
    job->next = api->jobs;
    if (api->jobs)
        api->jobs->previous = job;
    api->jobs = job;
    if (api->n_jobs++ == 0)
        uv_timer_start(&api->tick, tick, TICK_MS, TICK_MS);

    hold(job);
    http_set_user(http, job, client_gone);
    job->body = http_body(http, &job->body_length);
    if (admission_read(&job->admission, http, &job->error)) {
        job_fail(job, &job->error);
    } else if (job->body_length > INLINE_BODY) {
        if (copy_body(job, endpoint) || begin_on_pool(job))
            job_fail_memory(job);
    } else {
        parse(job, endpoint);
        find_model(job);
    }
    release(job);
}

static void part_ended(struct part *part)
{
    struct job *job = part->job;
    if (!part->live)
        return;
    part->live = false;
    job->live--;
    submit_parts(job);
}

/* A later prompt that has no time any more ends like those that ran out of it. */
static void part_failed(struct part *part, const struct err *err)
{
    struct job *job = part->job;
    struct api_error error;
    if (err->code == ERR_DEADLINE && job->answered) {
        for (int i = 0; i < job->request.n && !job->over; i++)
            answer_done(part, &(struct engine_event){.choice = i, .finish = FINISH_DEADLINE});
        return;
    }
    api_error_engine(&error, err, NULL);
    if (err->code == ERR_DEADLINE)
        error.retry_seconds = admission_wait(job->api);
    job_fail(job, &error);
}

void job_event(const struct engine_event *event)
{
    struct part *part = event->user;
    struct job *job = part->job;
    hold(job);
    metrics_event(&job->api->metrics, part, event);
    switch (event->kind) {
    case ENGINE_PROMPT:
        if (!job->over)
            answer_prompt(part, event);
        break;
    case ENGINE_TEXT:
        if (!job->over)
            answer_text(part, event);
        break;
    case ENGINE_EMBEDDING:
        if (!job->over)
            answer_embedding(part, event);
        break;
    case ENGINE_DONE:
        if (!job->over)
            answer_done(part, event);
        if (event->last || event->finish == FINISH_CANCELLED)
            part_ended(part);
        break;
    case ENGINE_FAILED:
        if (!job->over)
            part_failed(part, &event->err);
        part_ended(part);
        break;
    case ENGINE_QUEUED:
        if (!job->over)
            answer_queued(part, event);
        break;
    }
    release(job);
}

/* One who waits for a model is told so, too: then its headers are out. */
static void keep_alive(struct job *job)
{
    bool waits = job->parts || job->wait.queued; /* else the request may be another thread's at the moment */
    if (!waits || !job->request.stream || seconds_since(job->last_write) < KEEP_ALIVE_SECONDS)
        return;
    answer_name(job);
    answer_keep_alive(job);
}

static void end_late_wait(struct job *job)
{
    if (!job->wait.queued || job->deadline == 0 || (double)uv_hrtime() / 1e9 < job->deadline)
        return;
    shelf_leave(job->api->shelf, &job->wait);
    api_error_engine(&job->error, &(struct err){.code = ERR_DEADLINE}, NULL);
    job_fail(job, &job->error);
}

void job_tick(struct api *api)
{
    for (struct job *job = api->jobs, *next; job; job = next) {
        next = job->next;
        if (!job->http || job->over)
            continue;
        hold(job);
        end_late_wait(job);
        if (!job->over)
            keep_alive(job);
        release(job);
    }
}

void job_destroy_all(struct api *api)
{
    while (api->jobs) {
        struct job *job = api->jobs;
        api->jobs = job->next;
        dispose(job);
    }
    api->n_jobs = 0;
}
