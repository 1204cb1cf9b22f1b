/* The worker. Everything in struct worker that both sides touch lies between the mutex and the line
 * below it; runners, tasks and KV blocks have one owner and no locks. */
#include "worker.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "meters.h"

#define RUNNERS_MAX 64

struct call {
    int (*function)(void *argument, struct device *, struct err *);
    void *argument;
    struct err *err;
    int rc;
    bool done;
    struct call *next;
};

struct worker {
    struct worker_options options;
    pthread_t thread;

    pthread_mutex_t mutex;
    pthread_cond_t work, answer, delivery; /* for the worker; worker_call; worker_wait */
    struct request *inbox, *inbox_last;    /* by `next` */
    struct request *live;                  /* by `live_next`: submitted and not over */
    int n_live;
    struct call *calls;
    bool asked;    /* some live request has cancel_asked or credit_given */
    bool draining, stopping;
    uint64_t last_id;
    struct event_list outbox;
    /* ---- the worker's own ---- */
    struct device *device;
    struct runner *runner[RUNNERS_MAX];
    int n_runners;
    struct event_list events; /* of this step */
    bool idle;                /* the device was told */
    uint64_t preempted;       /* by runners that are gone */
    void (*last)(void *argument);
    void *last_argument;

    struct meters meters;
};

/* ---- waiting with a time-out that clock changes do not move ---- */

static int condition_create(pthread_cond_t *c)
{
#ifdef __APPLE__
    return pthread_cond_init(c, NULL);
#else
    pthread_condattr_t attributes;
    int rc = pthread_condattr_init(&attributes);
    if (rc) return rc;
    rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (!rc) rc = pthread_cond_init(c, &attributes);
    pthread_condattr_destroy(&attributes);
    return rc;
#endif
}

/* False at or after `until`, in clock_seconds. */
static bool condition_wait(pthread_cond_t *c, pthread_mutex_t *mutex, double until)
{
    double left = until - clock_seconds();
    if (!(left > 0)) return false;
    if (left > 1e6) left = 1e6;
#ifdef __APPLE__
    struct timespec t = {(time_t)left, (long)((left - floor(left)) * 1e9)};
    pthread_cond_timedwait_relative_np(c, mutex, &t);
#else
    until = clock_seconds() + left;
    struct timespec t = {(time_t)until, (long)((until - floor(until)) * 1e9)};
    pthread_cond_timedwait(c, mutex, &t);
#endif
    return true;
}

/* ---- the worker's side ---- */

static void unlink_live(struct worker *w, struct request *q)
{
    *(q->live_previous ? &q->live_previous->live_next : &w->live) = q->live_next;
    if (q->live_next) q->live_next->live_previous = q->live_previous;
    w->n_live--;
}

/* Hands the step's events out and forgets the requests that are over. A cancellation that came in
 * meanwhile holds for these events too. */
static void publish(struct worker *w)
{
    struct request *over = NULL, **tail = &over;
    for (int i = 0; i < w->n_runners; i++) {
        *tail = runner_reap(w->runner[i]);
        while (*tail) tail = &(*tail)->next;
    }
    if (!over && !w->events.first) return;

    pthread_mutex_lock(&w->mutex);
    for (struct request *q = w->asked ? w->live : NULL; q; q = q->live_next) {
        if (q->cancel_asked) event_list_cancel(&w->events, q->id);
    }
    for (struct request *q = over; q; q = q->next) unlink_live(w, q);
    bool some = w->events.first != NULL;
    event_list_append(&w->outbox, &w->events);
    if (some) pthread_cond_broadcast(&w->delivery);
    pthread_mutex_unlock(&w->mutex);

    if (some && w->options.wake) w->options.wake(w->options.wake_user);
    while (over) {
        struct request *next = over->next;
        runner_release(over);
        over = next;
    }
}

static void publish_load(struct worker *w)
{
    struct runner_load load = {.preempted = w->preempted};
    for (int i = 0; i < w->n_runners; i++) runner_observe(w->runner[i], &load);
    meters_load(&w->meters, &load);
}

static void settle(struct worker *w, struct runner_counts *counts)
{
    for (int i = 0; i < w->n_runners; i++) runner_settle(w->runner[i], &w->events, counts);
}

/* How long a step of `own` may take, so that the streams of all others go on in time: what the least patient has
 * left when every other model that streams had its step. 0: as long as it likes. */
static double bound_for(const struct worker *w, const struct runner *own)
{
    double least = 0, steps = 0;
    for (int i = 0; i < w->n_runners; i++) {
        double limit, takes;
        if (w->runner[i] == own) continue;
        runner_patience(w->runner[i], &limit, &takes);
        steps += takes;
        if (limit > 0 && (least == 0 || limit < least)) least = limit;
    }
    return least == 0 ? 0 : fmax(least - steps, 1e-6);
}

/* One step of every model: they take turns, so that each stream gets a token in every round. False where there was
 * nothing to do. */
static bool step(struct worker *w, double *deadline)
{
    bool worked = false;
    int busy = 0;
    struct runner_counts counts = {.rows = &w->meters.step_rows};
    *deadline = 0;
    double began = meters_step_begins(&w->meters);
    for (int i = 0; i < w->n_runners; i++) busy += runner_is_busy(w->runner[i]);
    if (busy > 1) settle(w, &counts); /* the device ends steps in the order in which they began */
    for (int i = 0; i < w->n_runners; i++) {
        double next = runner_expire(w->runner[i], clock_seconds(), &w->events);
        if (next > 0 && (*deadline == 0 || next < *deadline)) *deadline = next;
        runner_report(w->runner[i], clock_seconds(), &w->events);
        if (!runner_is_busy(w->runner[i])) continue;
        double bound = busy > 1 ? bound_for(w, w->runner[i]) : 0;
        worked |= runner_step(w->runner[i], busy > 1, bound, &w->events, &counts);
    }
    meters_step_ends(&w->meters, began, worked, &counts);
    publish_load(w);
    publish(w);
    return worked;
}

/* Holds the mutex, but not while requests come in. What others asked for reaches the runners, and only
 * once every live request has: a runner must not cancel what it does not have yet. */
static void take_in(struct worker *w)
{
    double now = clock_seconds();
    while (w->inbox) {
        struct request *in = w->inbox;
        w->inbox = w->inbox_last = NULL;
        pthread_mutex_unlock(&w->mutex);
        while (in) {
            struct request *q = in;
            in = q->next;
            meters_count(&w->meters.started);
            runner_add(q->runner, q, now, &w->events);
        }
        pthread_mutex_lock(&w->mutex);
    }
    for (struct request *q = w->asked ? w->live : NULL; q; q = q->live_next) {
        if (q->cancel_asked && !q->over) {
            runner_cancel(q, now, &w->events);
            meters_count(&w->meters.cancelled);
        }
        if (q->credit_given > 0) runner_credit(q, q->credit_given);
        q->credit_given = 0;
    }
    w->asked = false;
}

/* The functions use the device as they like: no step may be under way. */
static void run_calls(struct worker *w)
{
    while (w->calls) {
        struct call *call = w->calls;
        struct runner_counts counts = {0};
        w->calls = call->next;
        pthread_mutex_unlock(&w->mutex);
        settle(w, &counts);
        meters_step_ends(&w->meters, 0, false, &counts);
        int rc = call->function(call->argument, w->device, call->err);
        w->idle = !w->device;
        pthread_mutex_lock(&w->mutex);
        call->rc = rc;
        call->done = true;
        pthread_cond_broadcast(&w->answer);
    }
}

/* Holds the mutex. */
static bool nothing_came(const struct worker *w)
{
    return !w->stopping && !w->inbox && !w->calls && !w->asked;
}

/* Saves prefixes as long as nothing else is to be done. Holds the mutex, but not meanwhile. Returns when to go
 * on, 0 for never. */
static double save(struct worker *w)
{
    double later = 0;
    for (bool some = true; some && nothing_came(w);) {
        some = false;
        later = 0;
        pthread_mutex_unlock(&w->mutex);
        for (int i = 0; i < w->n_runners; i++) {
            double wait = runner_save(w->runner[i]), then = clock_seconds() + wait;
            some |= wait == 0;
            if (wait > 0 && (later == 0 || then < later)) later = then;
        }
        pthread_mutex_lock(&w->mutex);
    }
    return later;
}

static void wait_for_work(struct worker *w, double deadline)
{
    if (!w->idle) { /* may take a moment: not under the mutex */
        pthread_mutex_unlock(&w->mutex);
        device_idle(w->device);
        w->idle = true;
        pthread_mutex_lock(&w->mutex);
    }
    double later = save(w);
    if (later > 0 && (deadline <= 0 || later < deadline)) deadline = later;
    while (nothing_came(w)) {
        if (deadline <= 0) {
            pthread_cond_wait(&w->work, &w->mutex);
        } else if (!condition_wait(&w->work, &w->mutex, deadline)) {
            return;
        }
    }
}

/* Ends everything without a word: nobody listens any more. */
static void abandon(struct worker *w)
{
    struct request *over;
    pthread_mutex_lock(&w->mutex);
    w->draining = true;
    take_in(w);
    for (struct request *q = w->live; q; q = q->live_next) runner_cancel(q, 0, &w->events);
    w->live = NULL;
    w->n_live = 0;
    pthread_mutex_unlock(&w->mutex);
    for (int i = 0; i < w->n_runners; i++) {
        over = runner_reap(w->runner[i]);
        while (over) {
            struct request *next = over->next;
            runner_release(over);
            over = next;
        }
    }
    event_list_free(&w->events);
}

static void name_thread(const char *name)
{
#ifdef __APPLE__
    pthread_setname_np(name);
#else
    pthread_setname_np(pthread_self(), name);
#endif
}

static void *run(void *argument)
{
    struct worker *w = argument;
    name_thread("worker");
    bool worked = false, stopping = false;
    double deadline = 0;
    while (!stopping) {
        pthread_mutex_lock(&w->mutex);
        if (!worked && nothing_came(w)) wait_for_work(w, deadline);
        take_in(w);
        run_calls(w);
        stopping = w->stopping;
        pthread_mutex_unlock(&w->mutex);
        if (stopping) break;
        worked = step(w, &deadline);
        if (worked) w->idle = false;
    }
    abandon(w);
    if (w->last) w->last(w->last_argument);
    device_close(w->device);
    return NULL;
}

/* ---- everybody else's side ---- */

static int open_device(void *argument, struct device *none, struct err *err)
{
    struct worker *w = argument;
    (void)none;
    return device_open(&w->device, &w->options.device, err);
}

/* Signals are for the main thread: the worker and the threads of its device inherit a full mask. */
static int start(struct worker *w)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int worker_create(struct worker **out, const struct worker_options *options, struct err *err)
{
    *out = NULL;
    struct worker *w = calloc(1, sizeof *w);
    if (!w) return err_set(err, ERR_NOMEM, "out of memory for the worker");
    w->options = *options;
    w->idle = true;
    int rc = pthread_mutex_init(&w->mutex, NULL);
    if (!rc) rc = condition_create(&w->work);
    if (!rc) rc = condition_create(&w->answer);
    if (!rc) rc = condition_create(&w->delivery);
    if (!rc) rc = start(w);
    if (rc) {
        free(w);
        return err_set(err, ERR_IO, "cannot start the worker thread: %s", strerror(rc));
    }
    rc = worker_call(w, open_device, w, err);
    if (rc) {
        worker_destroy(w, NULL, NULL);
        return rc;
    }
    *out = w;
    return 0;
}

void worker_destroy(struct worker *w, void (*last)(void *argument), void *argument)
{
    if (!w) return;
    pthread_mutex_lock(&w->mutex);
    w->stopping = true;
    w->last = last;
    w->last_argument = argument;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    event_list_free(&w->outbox);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->answer);
    pthread_cond_destroy(&w->delivery);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

int worker_call(struct worker *w, int (*function)(void *argument, struct device *, struct err *),
                void *argument,
                struct err *err)
{
    struct call call = {.function = function, .argument = argument, .err = err};
    pthread_mutex_lock(&w->mutex);
    struct call **last = &w->calls;
    while (*last) last = &(*last)->next;
    *last = &call;
    pthread_cond_signal(&w->work);
    while (!call.done) pthread_cond_wait(&w->answer, &w->mutex);
    pthread_mutex_unlock(&w->mutex);
    return call.rc;
}

int worker_add_runner(struct worker *w, struct runner *r, struct err *err)
{
    if (w->n_runners == RUNNERS_MAX) return err_set(err, ERR_LIMIT, "%d models are loaded: no more can be", RUNNERS_MAX);
    w->runner[w->n_runners++] = r;
    atomic_fetch_add_explicit(&w->meters.blocks, runner_facts(r)->kv_blocks, memory_order_relaxed);
    return 0;
}

int worker_remove_runner(struct worker *w, struct runner *r, struct err *err)
{
    bool busy = false;
    pthread_mutex_lock(&w->mutex);
    take_in(w);
    for (struct request *q = w->live; q; q = q->live_next) busy |= q->runner == r && !q->warm;
    for (struct request *q = w->live; q && !busy; q = q->live_next) {
        if (q->runner == r) runner_cancel(q, clock_seconds(), &w->events);
    }
    pthread_mutex_unlock(&w->mutex);
    if (busy) return err_set(err, ERR_BUSY, "the model has requests in progress");
    publish(w);
    struct runner_load load = {0};
    runner_observe(r, &load);
    w->preempted += load.preempted;
    atomic_fetch_sub_explicit(&w->meters.blocks, runner_facts(r)->kv_blocks, memory_order_relaxed);
    int at = 0;
    while (w->runner[at] != r) at++;
    memmove(&w->runner[at], &w->runner[at + 1], (size_t)(--w->n_runners - at) * sizeof w->runner[0]);
    publish_load(w);
    return 0;
}

bool worker_is_idle(struct worker *w)
{
    pthread_mutex_lock(&w->mutex);
    bool idle = w->n_live == 0;
    pthread_mutex_unlock(&w->mutex);
    return idle;
}

int worker_submit(struct worker *w, struct runner *r, struct request *q, uint64_t *id, struct err *err)
{
    q->runner = r;
    q->submitted = clock_seconds();
    pthread_mutex_lock(&w->mutex);
    int rc = 0;
    if (w->draining) {
        rc = err_set(err, ERR_DRAINING, "shutting down: no new requests are taken");
    } else if (w->n_live >= w->options.capacity) {
        rc = err_set(err, ERR_BUSY, "the queue is full: %d requests are running or waiting", w->n_live);
    }
    if (rc) {
        pthread_mutex_unlock(&w->mutex);
        request_free(q);
        return rc;
    }
    *id = q->id = ++w->last_id;
    q->live_next = w->live;
    if (w->live) w->live->live_previous = q;
    w->live = q;
    w->n_live++;
    *(w->inbox_last ? &w->inbox_last->next : &w->inbox) = q;
    w->inbox_last = q;
    meters_count(&w->meters.requests);
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mutex);
    return 0;
}

/* Holds the mutex. */
static struct request *find_live(struct worker *w, uint64_t id)
{
    struct request *q = w->live;
    while (q && q->id != id) q = q->live_next;
    return q;
}

void worker_cancel(struct worker *w, uint64_t id)
{
    pthread_mutex_lock(&w->mutex);
    struct request *q = find_live(w, id);
    event_list_cancel(&w->outbox, id);
    if (q) {
        q->cancel_asked = w->asked = true;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->mutex);
}

void worker_credit(struct worker *w, uint64_t id, int events)
{
    if (events <= 0) return;
    pthread_mutex_lock(&w->mutex);
    struct request *q = find_live(w, id);
    if (q) {
        if (__builtin_add_overflow(q->credit_given, events, &q->credit_given)) q->credit_given = INT32_MAX;
        w->asked = true;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->mutex);
}

void worker_drain(struct worker *w)
{
    pthread_mutex_lock(&w->mutex);
    w->draining = true;
    pthread_mutex_unlock(&w->mutex);
}

struct event *worker_poll(struct worker *w)
{
    pthread_mutex_lock(&w->mutex);
    struct event *e = event_list_take(&w->outbox);
    pthread_mutex_unlock(&w->mutex);
    return e;
}

bool worker_wait(struct worker *w, double seconds)
{
    double until = clock_seconds() + seconds;
    pthread_mutex_lock(&w->mutex);
    while (!w->outbox.first && condition_wait(&w->delivery, &w->mutex, until)) {}
    bool some = w->outbox.first != NULL;
    pthread_mutex_unlock(&w->mutex);
    return some;
}

const struct device *worker_opened(const struct worker *w)
{
    return w->device;
}

const struct device_info *worker_device(const struct worker *w)
{
    return device_info(w->device);
}

void worker_status(const struct worker *w, struct engine_status *out)
{
    struct device_place place;
    device_place(w->device, &place);
    meters_read(&w->meters, out);
    out->device = device_info(w->device)->description;
    out->step_layer = place.layer;
    out->step_stage = place.stage;
    out->step_operator = place.stage ? operator_name(place.op) : NULL;
}

static struct engine_slot slot_of(struct request *q, double now)
{
    return (struct engine_slot){
        .id = q->id,
        .user = q->user,
        .state = (enum engine_slot_state)atomic_load_explicit(&q->progress.state, memory_order_acquire),
        .prompt_tokens = q->n_prompt,
        .computed_tokens = atomic_load_explicit(&q->progress.computed, memory_order_relaxed),
        .cached_tokens = atomic_load_explicit(&q->progress.cached, memory_order_relaxed),
        .generated_tokens = atomic_load_explicit(&q->progress.generated, memory_order_relaxed),
        .choices = q->choices,
        .max_tokens = q->max_tokens,
        .priority = q->priority,
        .owner = q->owner,
        .age = now - q->submitted,
    };
}

int worker_slots(struct worker *w, struct engine_slot *out, int room)
{
    double now = clock_seconds();
    pthread_mutex_lock(&w->mutex);
    int n = w->n_live, at = n; /* the newest comes first in the list */
    for (struct request *q = w->live; q; q = q->live_next) {
        if (--at < room) out[at] = slot_of(q, now);
    }
    pthread_mutex_unlock(&w->mutex);
    return n;
}
