/* Models come and go: measured against the memory budget, loaded a piece at a time between the steps of others,
 * unloaded. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "engine_private.h"
#include "host_memory.h"
#include "log.h"

#define PIECE ((size_t)1 << 20)  /* bytes of weights: a millisecond or two */
#define SLICE 0.008              /* seconds of them between two steps of others, */
#define LONG_SLICE 0.04          /* and while nobody else does anything */
#define AHEAD ((size_t)16 << 20) /* bytes of the file that are read before they are needed */
#define FLUSH_SECONDS 10.0       /* that unloading waits for prefixes to be saved */

/* ---- the budget ---- */

/* A device's own memory, or of the host's what is there without pushing others out, less a bit. */
int engine_choose_budget(struct engine *e, struct err *err)
{
    struct engine_budget *b = &e->budget;
    const struct engine_options *o = &e->options;
    uint64_t own = worker_device(e->worker)->memory;
    if (!(o->memory_share >= 0 && o->memory_share <= 1))
        return err_set(err, ERR_INVALID, "a share of the memory must be between 0 and 1");
    b->own = own > 0;
    b->available = own ? own : host_memory_available();
    b->given = o->memory || o->memory_share > 0;
    if (o->memory) {
        b->bytes = o->memory;
    } else if (o->memory_share > 0) {
        b->bytes = (uint64_t)((double)(own ? own : host_memory_total()) * o->memory_share);
    } else {
        b->bytes = own ? own - own / 16 : b->available - b->available / 8;
    }
    return 0;
}

void engine_budget(const struct engine *e, struct engine_budget *out)
{
    *out = e->budget;
}

static struct runner_options runner_options(const struct engine *e, struct gguf *g,
                                            const struct adapter_list *adapters, const struct model_options *o)
{
    return (struct runner_options){
        .gguf = g, .store = e->store, .parallel = e->options.parallel, .step_tokens = e->options.step_tokens,
        .max_itl = e->options.max_itl, .speculate = e->options.speculate, .in_flight = e->options.in_flight,
        .kv_tokens = e->options.context, .context = o->context, .kv_bytes = o->kv_bytes,
        .unchecked = e->options.unchecked, .adapters = adapters->adapter, .adapter_keys = adapters->key,
        .n_adapters = adapters->n};
}

int engine_measure(struct engine *e, const char *path, const struct model_options *options,
                   struct model_needs *out, struct err *err)
{
    struct gguf *g;
    struct runner_needs needs;
    int rc = gguf_open(&g, path, err);
    if (rc) return rc;
    struct adapter_list adapters;
    rc = adapters_open(&adapters, g, options, err);
    if (!rc) {
        struct runner_options o = runner_options(e, g, &adapters, options);
        rc = runner_measure(worker_opened(e->worker), &o, &needs, err);
        adapters_close(&adapters);
    }
    if (!rc) *out = (struct model_needs){needs.fixed, needs.kv_least, needs.kv_most};
    gguf_close(g);
    return rc;
}

/* Refuses what does not fit; else its KV cache takes no more than is left. */
static int fit(const struct engine *e, const struct model_options *options, struct runner_options *o, struct err *err)
{
    struct runner_needs needs;
    int rc = runner_measure(worker_opened(e->worker), o, &needs, err);
    if (rc || !options->memory) return rc;
    uint64_t least = needs.fixed + needs.kv_least;
    if (least > options->memory) {
        const double mib = 1048576;
        return err_set(err, ERR_NOMEM,
                       "the model needs at least %.0f MiB (weights and buffers %.0f, KV cache %.0f), and the memory "
                       "budget leaves %.0f MiB: %.0f MiB are missing",
                       (double)least / mib, (double)needs.fixed / mib, (double)needs.kv_least / mib,
                       (double)options->memory / mib, (double)(least - options->memory) / mib);
    }
    uint64_t room = options->memory - needs.fixed, most = o->kv_bytes;
    if (most == 0 && worker_device(e->worker)->memory == 0) most = host_memory_available() / 4;
    if (o->kv_bytes || room < most) o->kv_bytes = room < most || most == 0 ? room : most;
    return 0;
}

/* ---- loading ---- */

struct loading {
    struct runner *runner;
    struct runner_options options;
    struct worker *worker;
    const unsigned char *read; /* the file's pages up to here are in memory */
    bool done;
};

static int begin_load(void *argument, struct device *device, struct err *err)
{
    struct loading *l = argument;
    return runner_create(&l->runner, device, &l->options, err);
}

static int load_more(void *argument, struct device *device, struct err *err)
{
    struct loading *l = argument;
    double until = clock_seconds() + (worker_is_idle(l->worker) ? LONG_SLICE : SLICE);
    int rc = 0;
    (void)device;
    while (!rc && !l->done && clock_seconds() < until) rc = runner_load(l->runner, PIECE, &l->done, err);
    return rc;
}

static int open_runner(void *argument, struct device *device, struct err *err)
{
    struct loading *l = argument;
    (void)device;
    int rc = runner_open(l->runner, err);
    return rc ? rc : worker_add_runner(l->worker, l->runner, err);
}

static int close_runner(void *argument, struct device *device, struct err *err)
{
    struct loading *l = argument;
    (void)device, (void)err;
    runner_close(l->runner);
    return 0;
}

/* Reads the pages of a tensor, and of those behind it, so that the worker need not wait for the disk. */
static int read_ahead(struct loading *l, const struct gguf_tensor *next, struct err *err)
{
    const struct gguf *g = l->options.gguf;
    const unsigned char *first = next->data, *end = first + next->bytes;
    if (end <= l->read && l->read - first < (ptrdiff_t)AHEAD) return 0;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int rc = gguf_unchanged(g, err);
    for (size_t i = 0; !rc && i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor(g, i);
        const unsigned char *data = t->data;
        if (data < first || data >= first + AHEAD) continue; /* parts of a split file lie apart */
        for (size_t at = 0; at < t->bytes; at += page) (void)((const volatile unsigned char *)data)[at];
        if (data + t->bytes > end) end = data + t->bytes;
    }
    l->read = end;
    return rc;
}

static int load_runner(struct engine *e, struct loading *l, const struct tokenizer *tokenizer, struct err *err)
{
    int rc = worker_call(e->worker, begin_load, l, err);
    while (!rc && !l->done) {
        const struct gguf_tensor *next = runner_next(l->runner);
        if (next) rc = read_ahead(l, next, err);
        if (!rc) rc = worker_call(e->worker, load_more, l, err);
    }
    if (!rc) rc = runner_prepare(l->runner, err);
    int vocab = !rc ? runner_facts(l->runner)->hyper->vocab : 0;
    if (!rc && tokenizer_size(tokenizer) > (size_t)vocab) {
        rc = err_set(err, ERR_FORMAT, "tokenizer.ggml.tokens has %zu entries, but the model only %d",
                     tokenizer_size(tokenizer), vocab);
    }
    if (!rc) rc = worker_call(e->worker, open_runner, l, err);
    if (rc && l->runner) {
        struct err nothing;
        REQUIRE(worker_call(e->worker, close_runner, l, &nothing) == 0);
        runner_destroy(l->runner);
    }
    return rc;
}

/* What the allocator keeps of a model goes back to the system. */
static void give_back_memory(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static void set_facts(struct model *m, double began)
{
    const struct runner_facts *facts = runner_facts(m->runner);
    m->info.context_length = facts->limits.context;
    m->info.context_trained = facts->hyper->context;
    m->info.vocab = facts->hyper->vocab;
    m->info.width = facts->hyper->width;
    m->info.parameters = facts->parameters;
    m->info.n_adapters = m->adapters.n;
    m->info.resident_bytes = facts->weight_bytes + facts->kv_bytes + facts->other_bytes;
    m->info.load_seconds = clock_seconds() - began;
    log_info("loaded %s: %s, %s, %.0f M parameters, %.0f MiB of weights, in %.2f s", m->info.name,
             m->info.architecture, m->info.quantization, (double)facts->parameters / 1e6,
             (double)facts->weight_bytes / 1048576, m->info.load_seconds);
}

static int open_adapters(const struct engine *e, struct model *m, const struct model_options *options,
                         struct err *err)
{
    const struct device_info *device = worker_device(e->worker);
    if (options->n_adapters > 0 && device->gpu) {
        return err_set(err, ERR_UNSUPPORTED, "LoRA adapters need --device cpu: the device is %s", device->name);
    }
    int rc = adapters_open(&m->adapters, m->gguf, options, err);
    return rc ? rc : adapters_digest(&m->adapters, err);
}

int engine_load(struct engine *e, const char *path, const struct model_options *options, struct model **out,
                struct err *err)
{
    static const struct model_options defaults = {0};
    *out = NULL;
    if (!options) options = &defaults;
    if (options->context < 0 || options->context > CONTEXT_MAX)
        return err_set(err, ERR_INVALID, "context must be positive");
    double began = clock_seconds();
    struct model *m = calloc(1, sizeof *m);
    if (!m) return err_set(err, ERR_NOMEM, "out of memory for a model");
    m->engine = e;
    bool *real = NULL;
    int32_t *end_ids = NULL;
    int n_end_ids = 0;
    struct loading l = {.worker = e->worker};
    int rc = gguf_open(&m->gguf, path, err);
    if (!rc) rc = open_adapters(e, m, options, err);
    if (!rc) l.options = runner_options(e, m->gguf, &m->adapters, options);
    if (!rc) rc = fit(e, options, &l.options, err);
    if (!rc) rc = model_read_tokenizer(m, err);
    if (!rc) rc = grammar_cache_create(&m->grammars, err);
    if (!rc) rc = model_read_template(m, err);
    if (!rc) rc = model_read_info(m, path, options->name, err);
    if (!rc) rc = model_read_marks(m, &real, &end_ids, &n_end_ids, err);
    if (rc) goto done;
    l.options.name = m->info.name;
    l.options.tokenizer = m->tokenizer;
    l.options.real = real;
    l.options.n_real = (int)tokenizer_size(m->tokenizer);
    l.options.end_ids = end_ids;
    l.options.n_end_ids = n_end_ids;
    rc = load_runner(e, &l, m->tokenizer, err);
    if (rc) goto done;
    m->runner = l.runner;
    set_facts(m, began);
    m->next = e->models;
    e->models = m;
    *out = m;
    for (const char *const *text = options->warm; text && *text; text++) {
        struct err failure;
        if (engine_warm(e, m, *text, &failure)) log_warning("not warmed: %s", failure.text);
    }

done:
    if (rc) model_free(m);
    free(real);
    free(end_ids);
    if (rc) give_back_memory();
    return rc;
}

const struct model_info *engine_model_info(const struct model *m)
{
    return &m->info;
}

/* ---- unloading ---- */

struct saving {
    struct runner *runner;
    double wait;
};

static int save_some(void *argument, struct device *device, struct err *err)
{
    struct saving *s = argument;
    (void)device, (void)err;
    s->wait = runner_save(s->runner);
    return 0;
}

/* What the prefix cache has goes to the disk a piece at a time, so that others' steps go on. */
static int save_all(struct engine *e, struct runner *r, struct err *err)
{
    struct saving s = {.runner = r};
    double until = clock_seconds() + FLUSH_SECONDS;
    int rc = 0;
    while (!rc && e->store && s.wait >= 0 && clock_seconds() < until) {
        rc = worker_call(e->worker, save_some, &s, err);
        struct timespec pause = {0, (long)(s.wait * 1e9)};
        if (s.wait > 0 && s.wait < 1) nanosleep(&pause, NULL);
        if (s.wait >= 1) break;
    }
    return rc;
}

static int remove_runner(void *argument, struct device *device, struct err *err)
{
    struct loading *l = argument;
    (void)device;
    int rc = worker_remove_runner(l->worker, l->runner, err);
    if (!rc) runner_close(l->runner);
    return rc;
}

int engine_unload(struct engine *e, struct model *m, struct err *err)
{
    struct loading l = {.worker = e->worker, .runner = m->runner};
    double began = clock_seconds();
    int rc = save_all(e, m->runner, err);
    if (!rc) rc = worker_call(e->worker, remove_runner, &l, err);
    if (rc) return rc;
    runner_destroy(m->runner);
    struct model **at = &e->models;
    while (*at != m) at = &(*at)->next;
    *at = m->next;
    log_info("unloaded %s: %.0f MiB, in %.2f s", m->info.name, (double)m->info.resident_bytes / 1048576,
             clock_seconds() - began);
    model_free(m);
    give_back_memory();
    return 0;
}
