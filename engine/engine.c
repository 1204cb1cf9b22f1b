/* The runtime: opening and closing, loading models, and the way of requests to the worker. */
#include <stdlib.h>
#include <string.h>

#include "engine_private.h"
#include "log.h"
#include "schedule/store.h"

#define DEFAULT_PARALLEL 8
#define DEFAULT_QUEUE 256
#define DEFAULT_STEP_TOKENS 512
#define DEFAULT_CACHE_BYTES ((uint64_t)4 << 30)
#define PARALLEL_MAX 1024
#define STEP_TOKENS_MAX 8192
#define QUEUE_MAX (1 << 20)

static int choose(const char *name, int value, int fallback, int max, int *out, struct err *err)
{
    if (value < 0 || value > max) return err_set(err, ERR_INVALID, "%s must be between 1 and %d", name, max);
    *out = value ? value : fallback;
    return 0;
}

int engine_choose_activations(const char *name, enum activations *out, struct err *err)
{
    static const char *const names[] = {[ACTIVATIONS_AUTO] = "auto", [ACTIVATIONS_F32] = "f32",
                                        [ACTIVATIONS_INT8] = "int8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (name && strcmp(name, names[i]) != 0) continue;
        *out = (enum activations)i;
        return 0;
    }
    return err_set(err, ERR_INVALID, "no activations \"%s\": auto, f32 or int8", name);
}

int engine_choose_kv_type(const char *name, enum dtype *out, struct err *err)
{
    *out = 0;
    if (!name) return 0;
    if (strcmp(name, "f16") == 0)
        *out = DTYPE_F16;
    else if (strcmp(name, "q8_0") == 0)
        *out = DTYPE_Q8_0;
    else
        return err_set(err, ERR_INVALID, "no KV type \"%s\": f16 or q8_0", name);
    return 0;
}

static void log_device(const struct worker *w, const char *asked)
{
    const struct device_info *info = worker_device(w);
    log_info("device: %s (%s), %s%s%s%s", info->name, info->description,
             strcmp(asked, "auto") == 0 ? "the best found" : "as asked for", info->passed_over[0] ? " (" : "",
             info->passed_over, info->passed_over[0] ? ")" : "");
}

int engine_open(struct engine **out, const struct engine_options *options, struct err *err)
{
    *out = NULL;
    struct engine *e = calloc(1, sizeof *e);
    if (!e) return err_set(err, ERR_NOMEM, "out of memory for the engine");
    e->options = *options;
    int rc = choose("parallel", options->parallel, DEFAULT_PARALLEL, PARALLEL_MAX, &e->options.parallel, err);
    if (!rc) rc = choose("queue", options->queue, DEFAULT_QUEUE, QUEUE_MAX, &e->options.queue, err);
    if (!rc) {
        rc = choose("step tokens", options->step_tokens, DEFAULT_STEP_TOKENS, STEP_TOKENS_MAX,
                    &e->options.step_tokens, err);
    }
    if (!rc) rc = choose("context", options->context, 0, CONTEXT_MAX, &e->options.context, err);
    if (!rc) {
        rc = choose("steps in flight", options->in_flight, 0, FORWARD_IN_FLIGHT, &e->options.in_flight, err);
    }
    enum activations activations = ACTIVATIONS_AUTO;
    if (!rc) rc = engine_choose_activations(options->activations, &activations, err);
    enum dtype kv_type = 0;
    if (!rc) rc = engine_choose_kv_type(options->kv_type, &kv_type, err);
    if (!rc && options->cache_directory) {
        uint64_t bytes = options->cache_bytes ? options->cache_bytes : DEFAULT_CACHE_BYTES;
        rc = store_open(&e->store, options->cache_directory, bytes, err);
    }
    if (rc) goto fail;
    struct worker_options worker = {
        .device = {.name = options->device ? options->device : "auto", .threads = options->threads,
                   .isa = options->isa, .activations = activations, .kv_type = kv_type},
        .capacity = e->options.parallel + e->options.queue,
        .wake = options->wake,
        .wake_user = options->wake_user,
    };
    rc = worker_create(&e->worker, &worker, err);
    if (rc) goto fail;
    log_device(e->worker, worker.device.name);
    e->options.cache_directory = NULL;
    e->options.device = e->options.isa = e->options.activations = e->options.kv_type = NULL;
    *out = e;
    return 0;

fail:
    store_close(e->store);
    free(e);
    return rc;
}

/* On the worker thread: what lies on the device goes before the device. */
static void free_runners(void *argument)
{
    struct engine *e = argument;
    for (struct model *m = e->models; m; m = m->next) runner_destroy(m->runner);
}

void engine_close(struct engine *e)
{
    if (!e) return;
    worker_destroy(e->worker, free_runners, e);
    store_close(e->store);
    while (e->models) {
        struct model *m = e->models;
        e->models = m->next;
        model_free(m);
    }
    free(e);
}

/* ---- models ---- */

struct loading {
    struct model *model;
    struct runner_options options;
};

static int load_runner(void *argument, struct device *device, struct err *err)
{
    struct loading *l = argument;
    int rc = runner_create(&l->model->runner, device, &l->options, err);
    if (rc) return rc;
    int vocab = runner_facts(l->model->runner)->hyper->vocab;
    if (tokenizer_size(l->model->tokenizer) > (size_t)vocab) {
        runner_destroy(l->model->runner);
        l->model->runner = NULL;
        return err_set(err, ERR_FORMAT, "tokenizer.ggml.tokens has %zu entries, but the model only %d",
                       tokenizer_size(l->model->tokenizer), vocab);
    }
    worker_add_runner(l->model->engine->worker, l->model->runner);
    return 0;
}

int engine_load(struct engine *e, const char *path, const struct model_options *options, struct model **out,
                struct err *err)
{
    *out = NULL;
    int context = options ? options->context : 0;
    if (context < 0 || context > CONTEXT_MAX) return err_set(err, ERR_INVALID, "context must be positive");
    double began = clock_seconds();
    struct model *m = calloc(1, sizeof *m);
    if (!m) return err_set(err, ERR_NOMEM, "out of memory for a model");
    m->engine = e;
    bool *real = NULL;
    int32_t *end_ids = NULL;
    int n_end_ids = 0;
    int rc = gguf_open(&m->gguf, path, err);
    if (!rc) rc = model_read_tokenizer(m, err);
    if (!rc) rc = model_read_template(m, err);
    if (!rc) rc = model_read_info(m, path, options ? options->name : NULL, err);
    if (!rc) rc = model_read_marks(m, &real, &end_ids, &n_end_ids, err);
    if (rc) goto done;

    struct loading l = {
        .model = m,
        .options = {.gguf = m->gguf, .name = m->info.name, .store = e->store, .tokenizer = m->tokenizer, .real = real,
                    .n_real = (int)tokenizer_size(m->tokenizer), .end_ids = end_ids, .n_end_ids = n_end_ids,
                    .parallel = e->options.parallel, .step_tokens = e->options.step_tokens,
                    .max_itl = e->options.max_itl, .speculate = e->options.speculate,
                    .in_flight = e->options.in_flight, .kv_tokens = e->options.context, .context = context,
                    .unchecked = e->options.unchecked},
    };
    rc = worker_call(e->worker, load_runner, &l, err);
    if (rc) goto done;
    const struct runner_facts *facts = runner_facts(m->runner);
    m->info.context_length = facts->limits.context;
    m->info.context_trained = facts->hyper->context;
    m->info.vocab = facts->hyper->vocab;
    m->info.parameters = facts->parameters;
    m->info.resident_bytes = facts->weight_bytes + facts->kv_bytes;
    m->info.load_seconds = clock_seconds() - began;
    log_info("loaded %s: %s, %s, %.0f M parameters, %.0f MiB of weights, in %.2f s", m->info.name,
             m->info.architecture, m->info.quantization, (double)facts->parameters / 1e6,
             (double)facts->weight_bytes / 1048576, m->info.load_seconds);
    m->next = e->models;
    e->models = m;
    *out = m;
    for (const char *const *text = options ? options->warm : NULL; text && *text; text++) {
        struct err failure;
        if (engine_warm(e, m, *text, &failure)) log_warning("not warmed: %s", failure.text);
    }

done:
    if (rc) model_free(m);
    free(real);
    free(end_ids);
    return rc;
}

const struct model_info *engine_model_info(const struct model *m)
{
    return &m->info;
}

/* ---- requests ---- */

int engine_submit(struct engine *e, const struct engine_request *q, uint64_t *id, struct err *err)
{
    struct request *r;
    const struct runner_facts *facts = runner_facts(q->model->runner);
    int rc = request_create(&r, q, &facts->limits, err);
    return rc ? rc : worker_submit(e->worker, q->model->runner, r, id, err);
}

void engine_cancel(struct engine *e, uint64_t id)
{
    worker_cancel(e->worker, id);
}

void engine_credit(struct engine *e, uint64_t id, int events)
{
    worker_credit(e->worker, id, events);
}

struct engine_event *engine_poll(struct engine *e)
{
    struct event *event = worker_poll(e->worker);
    return event ? &event->event : NULL;
}

bool engine_wait(struct engine *e, double seconds)
{
    return worker_wait(e->worker, seconds);
}

void engine_drain(struct engine *e)
{
    worker_drain(e->worker);
}

void engine_status(const struct engine *e, struct engine_status *out)
{
    worker_status(e->worker, out);
}

int engine_slots(struct engine *e, struct engine_slot *out, int room)
{
    return worker_slots(e->worker, out, room);
}

/* ---- measuring ---- */

struct measuring {
    struct runner *runner;
    const struct engine_bench *bench;
    struct engine_bench_result *result;
};

static int run_bench(void *argument, struct device *device, struct err *err)
{
    struct measuring *m = argument;
    (void)device;
    return runner_bench(m->runner, m->bench, m->result, err);
}

int engine_bench_run(struct engine *e, struct model *model, const struct engine_bench *bench,
                     struct engine_bench_result *out, struct err *err)
{
    if (!worker_is_idle(e->worker)) return err_set(err, ERR_BUSY, "the engine is at work");
    struct measuring m = {model->runner, bench, out};
    return worker_call(e->worker, run_bench, &m, err);
}
