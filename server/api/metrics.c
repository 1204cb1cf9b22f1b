/* Counting and GET /metrics. Times that clients feel are taken here, where the events pass: from submit to
 * the first token's event, and from one event of a choice to the next. What the engine knows it keeps in
 * atomics, so that a scrape does not touch its thread. */
#include "metrics.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "job.h"

/* ---- counting ---- */

static void observe(struct engine_histogram *h, double seconds)
{
    h->count[engine_bucket(seconds)]++;
    h->sum += seconds;
}

void metrics_answer(struct metrics *m, int status)
{
    for (int i = 0; i < METRICS_STATUSES; i++) {
        if (m->answers[i].status != 0 && m->answers[i].status != status)
            continue;
        m->answers[i].status = status;
        m->answers[i].count++;
        return;
    }
}

/* A choice that waited for its reader says nothing about the server. */
static bool out_of_credit(const struct job *job, const struct part *part)
{
    return job->request.stream && part->undelivered + job->request.n >= STREAM_CREDIT;
}

static void count_token(struct metrics *m, struct part *part, struct choice *choice)
{
    uint64_t now = uv_hrtime();
    if (!part->begun)
        observe(&m->first_token, (double)(now - part->submitted) / 1e9);
    else if (choice->last_event > 0)
        observe(&m->between_tokens, (double)(now - choice->last_event) / 1e9);
    part->begun = true;
    choice->last_event = out_of_credit(part->job, part) ? 0 : now;
}

void metrics_event(struct metrics *m, struct part *part, const struct engine_event *event)
{
    if (event->kind == ENGINE_TEXT && event->n_tokens > 0) {
        count_token(m, part, &part->job->choices[part->first_choice + event->choice]);
    } else if (event->kind == ENGINE_FAILED) {
        m->ended[FINISH_NONE]++;
    } else if (event->kind == ENGINE_DONE) {
        m->ended[event->finish]++;
        if (!event->last && event->finish != FINISH_CANCELLED)
            return;
        observe(&m->queue, event->queue_seconds);
        m->prompt_tokens += (uint64_t)event->prompt_tokens;
        m->cached_tokens += (uint64_t)event->cached_tokens;
    }
}

/* ---- the page ---- */

struct page {
    struct bytes text;
    const char *model; /* the label with which the engine's series begin; "": of several models */
    const char *name;  /* of the family being written */
    bool engine;       /* it is one of the engine's */
};

static void add(struct page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct page *p, const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    bytes_add(&p->text, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}

static void add_text(struct page *p, const char *text)
{
    bytes_add(&p->text, text, strlen(text));
}

/* The value of a label. */
static void add_escaped(struct bytes *out, const char *text)
{
    struct bytes clean = {0};
    bytes_add_utf8(&clean, text, strlen(text));
    for (size_t i = 0; i < clean.length; i++) {
        char c = clean.data[i];
        if (c == '\\' || c == '"' || c == '\n')
            bytes_add(out, "\\", 1);
        bytes_add(out, c == '\n' ? "n" : &c, 1);
    }
    out->failed |= clean.failed;
    bytes_dispose(&clean);
}

static void family(struct page *p, bool engine, const char *name, const char *type, const char *help)
{
    p->name = name;
    p->engine = engine;
    add(p, "# HELP %s ", name);
    add_text(p, help);
    add(p, "\n# TYPE %s %s\n", name, type);
}

/* One line of the family; `label` may be NULL. */
static void sample(struct page *p, const char *suffix, const char *label, double value)
{
    bool model = p->engine && *p->model;
    add(p, "%s%s", p->name, suffix);
    if (model || label) {
        add_text(p, "{");
        add_text(p, model ? p->model : "");
        add_text(p, model && label ? "," : "");
        add_text(p, label ? label : "");
        add_text(p, "}");
    }
    add(p, " %.17g\n", value);
}

static void single(struct page *p, bool engine, const char *name, const char *type, const char *help,
                   double value)
{
    family(p, engine, name, type, help);
    sample(p, "", NULL, value);
}

static void histogram(struct page *p, const char *name, const char *help, const struct engine_histogram *h)
{
    uint64_t n = 0;
    char label[40];
    family(p, true, name, "histogram", help);
    for (int i = 0; i < ENGINE_BUCKETS; i++) {
        n += h->count[i];
        if (i < ENGINE_BUCKETS - 1)
            snprintf(label, sizeof label, "le=\"%g\"", engine_bounds[i]);
        else
            snprintf(label, sizeof label, "le=\"+Inf\"");
        sample(p, "_bucket", label, (double)n);
    }
    sample(p, "_sum", NULL, h->sum);
    sample(p, "_count", NULL, (double)n);
}

static void add_server(struct page *p, struct api *api)
{
    static const char *const ends[] = {
        [FINISH_NONE] = "failed",         [FINISH_STOP] = "stop",         [FINISH_LENGTH] = "length",
        [FINISH_CANCELLED] = "cancelled", [FINISH_DEADLINE] = "deadline",
    };
    const struct metrics *m = &api->metrics;
    enum api_state now = api_state(api);
    char label[64];
    family(p, false, "hearth_build_info", "gauge", "1, with the version.");
    sample(p, "", "version=\"" HEARTH_VERSION "\"", 1);
    family(p, false, "hearth_state", "gauge", "1 at the state that /health tells.");
    for (int state = API_READY; state <= API_STALLED; state++) {
        snprintf(label, sizeof label, "state=\"%s\"", api_state_name(state));
        sample(p, "", label, state == (int)now);
    }
    family(p, false, "hearth_http_answers_total", "counter", "Answers begun, by status.");
    for (int i = 0; i < METRICS_STATUSES && m->answers[i].status != 0; i++) {
        snprintf(label, sizeof label, "code=\"%d\"", m->answers[i].status);
        sample(p, "", label, (double)m->answers[i].count);
    }
    if (!api->engine)
        return;
    family(p, true, "hearth_choices_ended_total", "counter", "Choices of answers, by how they ended.");
    for (int i = 0; i <= FINISH_DEADLINE; i++) {
        snprintf(label, sizeof label, "reason=\"%s\"", ends[i]);
        sample(p, "", label, (double)m->ended[i]);
    }
    single(p, true, "hearth_prefix_cache_prompt_tokens_total", "counter",
           "Prompt tokens of requests that ended.", (double)m->prompt_tokens);
    single(p, true, "hearth_prefix_cache_hit_tokens_total", "counter",
           "Those of them that the prefix cache had.", (double)m->cached_tokens);
    histogram(p, "hearth_time_to_first_token_seconds", "From submitting a prompt to its first token.",
              &m->first_token);
    histogram(p, "hearth_inter_token_latency_seconds", "Between two tokens' events of one choice.",
              &m->between_tokens);
    histogram(p, "hearth_queue_seconds", "From submitting a prompt to its first step.", &m->queue);
}

static void add_engine(struct page *p, const struct engine_status *s)
{
    const double blocks = s->kv_blocks > 0 ? s->kv_blocks : 1;
    single(p, true, "hearth_sequences_running", "gauge", "Sequences that take part in steps.", s->running);
    single(p, true, "hearth_requests_waiting", "gauge", "Requests that wait for their first step.",
           s->waiting);
    single(p, true, "hearth_kv_blocks", "gauge", "Blocks of KV cache.", s->kv_blocks);
    single(p, true, "hearth_kv_blocks_used", "gauge", "Blocks that sequences hold.", s->kv_blocks_used);
    single(p, true, "hearth_kv_blocks_cached", "gauge", "Other blocks whose prefixes can be found.",
           s->kv_blocks_cached);
    single(p, true, "hearth_kv_used_ratio", "gauge", "Blocks that sequences hold, of all.",
           s->kv_blocks_used / blocks);
    single(p, true, "hearth_requests_total", "counter", "Prompts submitted.", (double)s->requests);
    single(p, true, "hearth_requests_cancelled_total", "counter", "Prompts cancelled.", (double)s->cancelled);
    single(p, true, "hearth_preemptions_total", "counter", "Times that a sequence gave its blocks back.",
           (double)s->preempted);
    single(p, true, "hearth_prompt_tokens_total", "counter", "Prompt tokens of requests that were begun.",
           (double)s->prompt_tokens);
    single(p, true, "hearth_generated_tokens_total", "counter", "Tokens generated.",
           (double)s->completion_tokens);
    single(p, true, "hearth_drafted_tokens_total", "counter", "Tokens that speculation proposed.",
           (double)s->drafted_tokens);
    single(p, true, "hearth_accepted_tokens_total", "counter", "Those of them that were right.",
           (double)s->accepted_tokens);
    single(p, true, "hearth_steps_ahead_total", "counter", "Steps queued before their predecessor had ended.",
           (double)s->steps_ahead);
    histogram(p, "hearth_step_seconds", "Steps of the model.", &s->step_time);
    single(p, true, "hearth_step_age_seconds", "gauge",
           "How long the step under way has taken; 0 between steps.", s->step_seconds);
}

/* The descriptors that are open, less the one that this takes. */
static int open_descriptors(void)
{
    DIR *folder = opendir("/dev/fd");
    int n = -1;
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        n += entry->d_name[0] != '.';
    if (folder)
        closedir(folder);
    return n;
}

static double seconds_of(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec * 1e-6;
}

/* By the names that every exporter uses. */
static void add_process(struct page *p, const struct metrics *m)
{
    struct engine_memory memory;
    struct rusage usage;
    struct rlimit limit;
    engine_memory(&memory);
    int descriptors = open_descriptors();
    single(p, false, "process_start_time_seconds", "gauge", "When this process started, Unix time.",
           (double)m->started);
    if (memory.resident > 0)
        single(p, false, "process_resident_memory_bytes", "gauge", "Memory of this process.",
               (double)memory.resident);
    if (descriptors >= 0)
        single(p, false, "process_open_fds", "gauge", "Open descriptors.", descriptors);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        single(p, false, "process_max_fds", "gauge", "Descriptors that may be open.", (double)limit.rlim_cur);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        single(p, false, "process_cpu_seconds_total", "counter", "Processor time.",
               seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime));
}

/* One line of the family, of one model; `more` is a label's name and value or two, up to a NULL. */
static void model_sample(struct page *p, const char *name, double value, const char *const more[][2])
{
    struct bytes text = {0};
    bytes_add(&text, "model=\"", 7);
    add_escaped(&text, name);
    bytes_add(&text, "\"", 1);
    for (size_t i = 0; more && more[i][0]; i++) {
        bytes_add(&text, ",", 1);
        bytes_add(&text, more[i][0], strlen(more[i][0]));
        bytes_add(&text, "=\"", 2);
        add_escaped(&text, more[i][1]);
        bytes_add(&text, "\"", 1);
    }
    bytes_add(&text, "", 1);
    if (!text.failed)
        sample(p, "", text.data, value);
    p->text.failed |= text.failed;
    bytes_dispose(&text);
}

static void add_models(struct page *p, const struct shelf *shelf, const struct engine_status *s)
{
    family(p, false, "hearth_model_info", "gauge", "1, with what is loaded.");
    for (size_t i = 0; i < shelf->n; i++) {
        const struct served *m = &shelf->served[i];
        const struct model_info *info = m->model ? engine_model_info(m->model) : NULL;
        if (info)
            model_sample(p, m->name, 1, (const char *const[][2]){{"architecture", info->architecture},
                                                                 {"quantization", info->quantization},
                                                                 {"device", s->device ? s->device : ""},
                                                                 {NULL, NULL}});
    }
    family(p, false, "hearth_model_bytes", "gauge", "What a model takes while it is loaded; else 0.");
    for (size_t i = 0; i < shelf->n; i++)
        model_sample(p, shelf->served[i].name, (double)shelf->served[i].bytes, NULL);
    family(p, false, "hearth_model_loads_total", "counter", "How often a model was loaded.");
    for (size_t i = 0; i < shelf->n; i++)
        model_sample(p, shelf->served[i].name, (double)shelf->served[i].loads, NULL);
    single(p, false, "hearth_memory_budget_bytes", "gauge", "That all models may take together.",
           (double)shelf->budget.bytes);
    single(p, false, "hearth_requests_waiting_for_model", "gauge", "Requests whose model is not loaded yet.",
           (double)shelf->n_waiting);
}

void metrics_reply(struct api *api, struct http_request *http)
{
    struct page page = {.model = ""};
    struct bytes model = {0};
    struct engine_status status = {0};
    if (api->engine) {
        engine_status(api->engine, &status);
    }
    if (api->engine && api->shelf->n == 1) {
        bytes_add(&model, "model=\"", 7);
        add_escaped(&model, api->shelf->served[0].name);
        bytes_add(&model, "\"", 2);
        page.model = model.failed ? "" : model.data;
    }
    add_server(&page, api);
    if (api->engine) {
        add_models(&page, api->shelf, &status);
        add_engine(&page, &status);
    }
    add_process(&page, &api->metrics);
    if (page.text.failed || model.failed)
        api_fail(http, 503, "Out of memory.", api);
    else
        api_reply(api, http, 200, "text/plain; version=0.0.4; charset=utf-8", NULL, page.text.data,
                  page.text.length);
    bytes_dispose(&page.text);
    bytes_dispose(&model);
}
