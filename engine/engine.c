/* The runtime: opening and closing, and the way of requests to the worker. */
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
    rc = engine_choose_budget(e, err);
    if (rc) {
        engine_close(e);
        return rc;
    }
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
