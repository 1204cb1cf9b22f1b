/* Who waits for which model, who may go, and whose turn it is. Decisions are made in one place, take_turn, which the
 * loop calls whenever something has changed. */
#include "shelf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../engine/log.h"

enum {
    STAY_MS = 1000,  /* a model that others wait for answers requests at least so long, and */
    STAY_LOADS = 4   /* so many times as long as it took to load */
};

static void on_turn(uv_timer_t *);

static void look_in(struct shelf *shelf, uint64_t ms)
{
    if (!shelf->closed)
        uv_timer_start(&shelf->timer, on_turn, ms, 0);
}

/* ---- the queue ---- */

static void unqueue(struct shelf *shelf, struct shelf_wait *wait)
{
    *(wait->previous ? &wait->previous->next : &shelf->first) = wait->next;
    *(wait->next ? &wait->next->previous : &shelf->last) = wait->previous;
    wait->queued = false;
    shelf->n_waiting--;
}

static void hold(struct shelf_wait *wait)
{
    wait->served->users++;
}

/* Those whose model is there, or will not be, wait no more. */
static void tell(struct shelf *shelf, struct served *served, const struct err *failure)
{
    struct shelf_wait *wait = shelf->first;
    while (wait) {
        if (wait->served != served) {
            wait = wait->next;
            continue;
        }
        unqueue(shelf, wait);
        if (failure)
            wait->served = NULL;
        else
            hold(wait);
        wait->ready(wait, failure);
        wait = shelf->first; /* whoever was called may have changed the queue */
    }
}

struct served *shelf_named(struct shelf *shelf, const char *name, struct api_error *error)
{
    for (size_t i = 0; i < shelf->n; i++) {
        if (strcmp(shelf->served[i].name, name) == 0)
            return &shelf->served[i];
    }
    api_error_set(error, 404, "model_not_found", "model", "The model '%.100s' does not exist.", name);
    return NULL;
}

struct served *shelf_find(struct shelf *shelf, const char *name, struct api_error *error)
{
    if (shelf->n == 1)
        return &shelf->served[0];
    if (name)
        return shelf_named(shelf, name, error);
    api_error_set(error, 400, "missing_required_parameter", "model",
                  "Missing required parameter: 'model': several are served, see /v1/models.");
    return NULL;
}

int shelf_error(struct api_error *error, const struct served *served, const struct err *failure)
{
    bool memory = failure->code == ERR_NOMEM;
    api_error_set(error, memory ? 503 : 500, memory ? "insufficient_memory" : "model_load_failed", "model",
                  "The model '%.60s' cannot be loaded: %s", served->name, failure->text);
    error->final = true;
    return -1;
}

static double configured_idle(const struct shelf_options *options)
{
    return options->idle_seconds > 0 ? options->idle_seconds : -1;
}

int shelf_take(struct shelf *shelf, struct served *served, struct shelf_wait *wait, struct api_error *error)
{
    served->idle_seconds = wait->idle_seconds ? *wait->idle_seconds : configured_idle(&shelf->options);
    if (served->failure.code && shelf_file_changed(served)) {
        served->failure.code = 0;
        served->measured = false;
    }
    if (served->failure.code)
        return shelf_error(error, served, &served->failure);
    if (served->state == SERVED_LOADED && !served->closing) {
        wait->served = served;
        hold(wait);
        return 1;
    }
    if (shelf->n_waiting >= shelf->options.queue)
        return api_error_set(error, 429, "queue_full", NULL, "The queue is full: %zu requests wait for models.",
                             shelf->n_waiting);
    wait->served = served;
    wait->queued = true;
    wait->next = NULL;
    wait->previous = shelf->last;
    *(shelf->last ? &shelf->last->next : &shelf->first) = wait;
    shelf->last = wait;
    shelf->n_waiting++;
    look_in(shelf, 0);
    return 0;
}

void shelf_leave(struct shelf *shelf, struct shelf_wait *wait)
{
    struct served *served = wait->served;
    if (!served)
        return;
    wait->served = NULL;
    if (wait->queued) {
        unqueue(shelf, wait);
    } else if (--served->users == 0) {
        served->used = uv_now(shelf->loop);
    } else {
        return;
    }
    look_in(shelf, 0);
}

void shelf_dismiss(struct shelf *shelf, struct served *served)
{
    served->idle_seconds = 0;
    look_in(shelf, 0);
}

/* ---- memory ---- */

static uint64_t left(const struct shelf *shelf)
{
    uint64_t used = 0;
    for (size_t i = 0; i < shelf->n; i++)
        used += shelf->served[i].bytes;
    return shelf->budget.bytes > used ? shelf->budget.bytes - used : 0;
}

/* What a KV cache may take where several models share the budget: what all weights leave, shared evenly, but not
 * less than an eighth of all and not more than a quarter. */
static uint64_t kv_share(const struct shelf *shelf, const struct model_needs *needs)
{
    uint64_t all = shelf->budget.bytes, share = all / 8;
    if (all > shelf->file_bytes && (all - shelf->file_bytes) / shelf->n > share)
        share = (all - shelf->file_bytes) / shelf->n;
    if (share > all / 4)
        share = all / 4;
    if (share < needs->kv_least)
        share = needs->kv_least;
    return share < needs->kv_most ? share : needs->kv_most;
}

/* A single model has the whole budget, of which its KV cache takes what it always did unless somebody said how much
 * there is. */
static void load_options(struct shelf *shelf, struct served *served, uint64_t memory, uint64_t kv)
{
    shelf->load = shelf->options.model;
    shelf->load.name = shelf->n > 1 || served->loads > 0 ? served->name : shelf->options.models[0].name;
    shelf->load.memory = memory;
    shelf->load.kv_bytes = kv;
}

/* The model to unload for memory: nobody uses it, and nobody used it for the longest time. */
static struct served *idle_victim(struct shelf *shelf)
{
    struct served *victim = NULL;
    for (size_t i = 0; i < shelf->n; i++) {
        struct served *s = &shelf->served[i];
        if (s->state == SERVED_LOADED && s->users == 0 && (!victim || s->used < victim->used))
            victim = s;
    }
    return victim;
}

static uint64_t stays_until(const struct served *served)
{
    double load = engine_model_info(served->model)->load_seconds * 1e3 * STAY_LOADS;
    return served->since + STAY_MS + (uint64_t)load;
}

/* Models in use take no more requests until `wanted` bytes are going to be free, those first that are there for the
 * longest time. */
static void close_models(struct shelf *shelf, uint64_t wanted)
{
    uint64_t now = uv_now(shelf->loop), coming = left(shelf), next = 0;
    while (coming < wanted) {
        struct served *victim = NULL;
        for (size_t i = 0; i < shelf->n; i++) {
            struct served *s = &shelf->served[i];
            if (s->state == SERVED_LOADED && !s->closing && (!victim || s->since < victim->since))
                victim = s;
        }
        if (!victim)
            break;
        uint64_t until = stays_until(victim);
        if (until > now) {
            next = until - now;
            break;
        }
        victim->closing = true;
        coming += victim->bytes;
    }
    if (next > 0)
        look_in(shelf, next);
}

/* Finds room for a model, or makes some. */
static void make_room(struct shelf *shelf, struct served *served)
{
    const struct model_needs *needs = &served->needs;
    uint64_t least = needs->fixed + needs->kv_least, rest = left(shelf);
    if (shelf->n == 1) {
        load_options(shelf, served, shelf->budget.bytes, shelf->budget.given ? shelf->budget.bytes : 0);
        shelf_begin(shelf, SHELF_LOADS, served);
        return;
    }
    uint64_t kv = kv_share(shelf, needs);
    struct served *victim = idle_victim(shelf);
    bool never = least > shelf->budget.bytes; /* engine_load tells what is missing */
    if (!never && rest < needs->fixed + kv && victim) {
        log_info("unloading %s: %s needs the memory", victim->name, served->name);
        shelf_begin(shelf, SHELF_UNLOADS, victim);
    } else if (never || rest >= least) {
        load_options(shelf, served, never ? shelf->budget.bytes : rest, kv);
        shelf_begin(shelf, SHELF_LOADS, served);
    } else {
        close_models(shelf, least);
    }
}

/* ---- turns ---- */

/* Unloads the first that is idle for too long; looks again when the next one will be. */
static void unload_idle(struct shelf *shelf)
{
    uint64_t now = uv_now(shelf->loop), next = 0;
    for (size_t i = 0; i < shelf->n; i++) {
        struct served *s = &shelf->served[i];
        if (s->state != SERVED_LOADED || s->users > 0 || served_stays(s))
            continue;
        uint64_t limit = (uint64_t)ceil(s->idle_seconds * 1e3);
        if (s->used + limit <= now) {
            log_info("unloading %s: not used for %.0f s", s->name, (double)(now - s->used) / 1e3);
            shelf_begin(shelf, SHELF_UNLOADS, s);
            return;
        }
        uint64_t wait = s->used + limit - now;
        next = next == 0 || wait < next ? wait : next;
    }
    if (next > 0)
        look_in(shelf, next);
}

/* The oldest request whose model is not there decides what is done next. */
static void take_turn(struct shelf *shelf)
{
    if (shelf->closed || !shelf->engine || shelf->does != SHELF_IDLE)
        return;
    for (size_t i = 0; i < shelf->n; i++)
        shelf->served[i].closing = false;
    struct shelf_wait *wait = shelf->first;
    while (wait && wait->served->state != SERVED_UNLOADED)
        wait = wait->next;
    if (wait) {
        struct served *served = wait->served;
        if (shelf_file_changed(served))
            served->measured = false;
        if (served->measured) {
            make_room(shelf, served);
        } else {
            load_options(shelf, served, 0, 0);
            shelf_begin(shelf, SHELF_MEASURES, served);
        }
    }
    for (size_t i = 0; i < shelf->n; i++) {
        struct served *s = &shelf->served[i];
        if (s->state == SERVED_LOADED && !s->closing)
            tell(shelf, s, NULL);
    }
    if (shelf->does == SHELF_IDLE && !wait)
        unload_idle(shelf);
}

static void on_turn(uv_timer_t *timer)
{
    take_turn(timer->data);
}

static void set_loaded(struct shelf *shelf, struct served *served, struct model *model)
{
    const struct model_info *info = engine_model_info(model);
    served->model = model;
    served->bytes = info->resident_bytes;
    served->state = SERVED_LOADED;
    served->since = served->used = uv_now(shelf->loop);
    served->loads++;
    log_info("memory: %.0f of %.0f MiB are left", (double)left(shelf) / 1048576,
             (double)shelf->budget.bytes / 1048576);
}

static void set_unloaded(struct served *served)
{
    served->model = NULL;
    served->bytes = 0;
    served->state = SERVED_UNLOADED;
}

void shelf_done(struct shelf *shelf)
{
    struct served *served = shelf->subject;
    int did = shelf->does;
    struct err err = shelf->err;
    shelf->does = SHELF_IDLE;
    if (did == SHELF_UNLOADS && err.code) {
        log_warning("%s stays: %s", served->name, err.text);
        served->model = shelf->loaded;
        served->state = SERVED_LOADED;
        served->used = uv_now(shelf->loop);
    } else if (did == SHELF_UNLOADS) {
        set_unloaded(served);
    } else if (err.code) {
        log_error("cannot load %s: %s", served->name, err.text);
        set_unloaded(served);
        if (err.code != ERR_NOMEM) /* memory may be there the next time */
            served->failure = err;
        tell(shelf, served, &err);
    } else if (did == SHELF_MEASURES) {
        served->measured = true;
    } else {
        set_loaded(shelf, served, shelf->loaded);
    }
    look_in(shelf, 0);
}

/* ---- life ---- */

static char *name_of(const struct shelf_model *model)
{
    const char *slash = strrchr(model->path, '/');
    return strdup(model->name ? model->name : slash ? slash + 1 : model->path);
}

int shelf_create(struct shelf **out, uv_loop_t *loop, const struct shelf_options *options, struct err *err)
{
    struct shelf *shelf = calloc(1, sizeof *shelf);
    if (shelf)
        shelf->served = calloc(options->n_models, sizeof *shelf->served);
    bool whole = shelf && shelf->served;
    for (size_t i = 0; whole && i < options->n_models; i++) {
        struct served *s = &shelf->served[shelf->n++];
        *s = (struct served){.name = name_of(&options->models[i]), .path = strdup(options->models[i].path),
                             .catalogue = options->models[i].catalogue, .idle_seconds = configured_idle(options)};
        whole = s->name && s->path;
        if (whole && shelf_file_changed(s))
            shelf->file_bytes += s->stamp.bytes;
    }
    if (!whole) {
        shelf_destroy(shelf);
        return err_set(err, ERR_NOMEM, "out of memory for the list of models");
    }
    shelf->loop = loop;
    shelf->options = *options;
    uv_timer_init(loop, &shelf->timer);
    shelf->timer.data = shelf;
    *out = shelf;
    return 0;
}

static void log_budget(const struct shelf *shelf)
{
    const struct engine_budget *b = &shelf->budget;
    const double mib = 1048576;
    log_info("memory: %.0f MiB for models, KV and caches (%s, of %.0f MiB available)", (double)b->bytes / mib,
             b->given ? "as asked for" : "chosen", (double)b->available / mib);
    if (shelf->n > 1)
        log_info("%zu models with %.0f MiB of files: loaded when they are asked for", shelf->n,
                 (double)shelf->file_bytes / mib);
    for (size_t i = 0; shelf->n > 1 && i < shelf->n; i++) {
        const struct served *s = &shelf->served[i];
        if (s->stamp.bytes > b->bytes)
            log_warning("%s will never fit: its file alone has %.0f MiB", s->name, (double)s->stamp.bytes / mib);
    }
}

int shelf_open(struct shelf *shelf, struct engine *engine, struct err *err)
{
    engine_budget(engine, &shelf->budget);
    log_budget(shelf);
    if (shelf->n == 1) {
        struct served *served = &shelf->served[0];
        struct model *model = NULL;
        load_options(shelf, served, shelf->budget.bytes, shelf->budget.given ? shelf->budget.bytes : 0);
        int code = engine_load(engine, served->path, &shelf->load, &model, err);
        char *name = code == 0 ? strdup(engine_model_info(model)->name) : NULL;
        if (code == 0 && !name)
            code = err_set(err, ERR_NOMEM, "out of memory for a name");
        if (code)
            return code;
        free(served->name);
        served->name = name;
        shelf->loaded = model;
    }
    return 0;
}

void shelf_start(struct shelf *shelf, struct engine *engine)
{
    shelf->engine = engine;
    if (shelf->loaded)
        set_loaded(shelf, &shelf->served[0], shelf->loaded);
    look_in(shelf, 0);
}

void shelf_close(struct shelf *shelf)
{
    if (shelf->closed)
        return;
    shelf->closed = true;
    uv_close((uv_handle_t *)&shelf->timer, NULL);
}

void shelf_destroy(struct shelf *shelf)
{
    if (!shelf)
        return;
    for (size_t i = 0; i < shelf->n; i++) {
        free(shelf->served[i].name);
        free(shelf->served[i].path);
    }
    free(shelf->served);
    free(shelf);
}
