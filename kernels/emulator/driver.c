/* The emulator as a GPU driver: lists of steps run in a thread of their own, and what they leave for the
 * host is seen when it waits. */
#include <string.h>

#include "../cpu/topology.h"
#include "state.h"

#define GRID_CORES 8 /* what grids are chosen by: results do not depend on the machine */

struct emulator_list {
    struct gpu_step *step;
    int n;
    char **result; /* of the downloads, by step */
    uint64_t ticket;
    struct err err;
    struct emulator_list *next;
};

static void run_list(struct emulator *e, struct emulator_list *list)
{
    e->n_before = 0; /* the first step of a list starts when all before it has ended */
    for (int i = 0; i < list->n; i++) {
        const struct gpu_step *step = &list->step[i];
        struct err err = {0};
        int rc = emulator_run_step(e, step, &list->result[i], &err);
        if (rc < 0) {
            err_set(&list->err, rc, "emulator: %s%s%s", step->stage ? step->stage : "",
                    step->stage ? ": " : "", err.text);
            return;
        }
    }
}

static void *worker_main(void *state)
{
    struct emulator *e = state;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        struct emulator_list *list = e->first;
        while (list && list->ticket <= e->done)
            list = list->next;
        if (!list && e->stop)
            break;
        if (!list) {
            pthread_cond_wait(&e->changed, &e->lock);
            continue;
        }
        pthread_mutex_unlock(&e->lock);
        run_list(e, list);
        pthread_mutex_lock(&e->lock);
        e->done = list->ticket;
        pthread_cond_broadcast(&e->changed);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

static void list_free(struct emulator_list *list)
{
    for (int i = 0; list->result && i < list->n; i++)
        free(list->result[i]);
    free(list->result);
    free(list->step);
    free(list);
}

static int emulator_submit(void *state, const struct gpu_step *step, int n, uint64_t *ticket, struct err *err)
{
    struct emulator *e = state;
    for (int i = 0; i < n; i++) {
        int rc = emulator_check_step(e, &step[i], err);
        if (rc < 0)
            return rc;
    }
    struct emulator_list *list = calloc(1, sizeof *list);
    if (list) {
        list->step = malloc((size_t)(n + 1) * sizeof *step);
        list->result = calloc((size_t)n + 1, sizeof *list->result);
    }
    if (!list || !list->step || !list->result) {
        if (list)
            list_free(list);
        return err_set(err, ERR_NOMEM, "emulator: out of memory for a list of %d kernels", n);
    }
    if (n)
        memcpy(list->step, step, (size_t)n * sizeof *step);
    list->n = n;
    pthread_mutex_lock(&e->lock);
    *ticket = list->ticket = ++e->queued;
    if (e->first)
        e->last->next = list;
    else
        e->first = list;
    e->last = list;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    return 0;
}

static int emulator_wait(void *state, uint64_t ticket, struct err *err)
{
    struct emulator *e = state;
    int rc = 0;
    pthread_mutex_lock(&e->lock);
    while (e->done < ticket)
        pthread_cond_wait(&e->changed, &e->lock);
    while (e->first && e->first->ticket <= ticket) {
        struct emulator_list *list = e->first;
        e->first = list->next;
        if (list->err.code && rc == 0) {
            rc = list->err.code;
            if (err)
                *err = list->err;
        }
        for (int i = 0; i < list->n && !list->err.code; i++)
            if (list->step[i].kind == GPU_DOWNLOAD)
                memcpy(list->step[i].host, list->result[i], list->step[i].operand[0].bytes);
        list_free(list);
    }
    pthread_mutex_unlock(&e->lock);
    return rc;
}

/* ---- the device ---- */

static void emulator_close(void *state)
{
    struct emulator *e = state;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->worker, NULL);
    while (e->first) {
        struct emulator_list *list = e->first;
        e->first = list->next;
        list_free(list);
    }
    while (e->memory)
        emulator_free(e, e->memory);
    emulator_pool_free(e->pool);
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static bool chosen(const char *variable, const char *value)
{
    const char *set = getenv(variable);
    return set && !strcmp(set, value);
}

static int emulator_open(void **state, const struct device_options *options, struct gpu_facts *facts,
                         struct err *err)
{
    struct emulator *e = calloc(1, sizeof *e);
    if (!e)
        return err_set(err, ERR_NOMEM, "out of memory for the emulator");
    int threads = options->threads > 0 ? options->threads : topology_threads();
    e->run = 1;
    e->unified = chosen("HEARTH_EMULATOR", "unified");
    e->races = !chosen("HEARTH_EMULATOR_RACES", "0");
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->changed, NULL);
    int rc = emulator_pool_create(&e->pool, threads, err);
    if (rc == 0 && pthread_create(&e->worker, NULL, worker_main, e) != 0)
        rc = err_set(err, ERR_NOMEM, "no thread for the emulator");
    if (rc < 0) {
        emulator_pool_free(e->pool);
        pthread_cond_destroy(&e->changed);
        pthread_mutex_destroy(&e->lock);
        free(e);
        return rc;
    }
    *facts = (struct gpu_facts){.name = "emulator",
                                .simd_width = 32,
                                .cores = GRID_CORES,
                                .unified = e->unified,
                                .int8_dot = !e->unified};
    snprintf(facts->description, sizeof facts->description, "GPU kernels on the CPU, %d threads, %s", threads,
             e->races ? "bounds and races checked" : "bounds checked");
    *state = e;
    return 0;
}

static void emulator_idle(void *state)
{
    (void)state; /* its threads sleep by themselves */
}

static double emulator_bandwidth(void *state, size_t bytes)
{
    struct emulator *e = state;
    char *memory = malloc(bytes ? bytes : 1);
    if (!memory)
        return 0;
    memset(memory, 1, bytes);
    double begin = emulator_now();
    emulator_pool_read(e->pool, memory, bytes);
    double seconds = emulator_now() - begin;
    free(memory);
    return seconds > 0 ? (double)bytes / seconds : 0;
}

static void emulator_profile(void *state, double *seconds)
{
    struct emulator *e = state;
    pthread_mutex_lock(&e->lock);
    memcpy(seconds, e->profile, sizeof e->profile);
    memset(e->profile, 0, sizeof e->profile);
    pthread_mutex_unlock(&e->lock);
}

void emulator_plant(void *state, const struct emulator_kernel *const *kernel, int n)
{
    struct emulator *e = state;
    e->planted = kernel;
    e->n_planted = n;
}

const struct gpu_driver gpu_driver_emulator = {
    .open = emulator_open,
    .close = emulator_close,
    .alloc = emulator_alloc,
    .wrap = emulator_wrap,
    .free = emulator_free,
    .submit = emulator_submit,
    .wait = emulator_wait,
    .idle = emulator_idle,
    .bandwidth = emulator_bandwidth,
    .profile = emulator_profile,
};
