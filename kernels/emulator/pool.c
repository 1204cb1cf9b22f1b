/* The system threads of the emulator sleep between dispatches and take groups from one counter. */
#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>

struct emulator_pool {
    int threads;
    struct emulator_core **core;
    pthread_t *thread;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    uint64_t round;   /* counts jobs */
    int busy;         /* threads that have not done this round */
    bool stop;
    /* the job */
    const struct emulator_dispatch *dispatch;
    uint32_t groups, offset, stride;
    const char *memory;
    size_t bytes;
    atomic_uint next;
    atomic_bool failed;
    struct err err;
};

struct entry {
    struct emulator_pool *pool;
    int index;
};

static void read_part(struct emulator_pool *pool, int index)
{
    size_t part = pool->bytes / 8 / (size_t)pool->threads;
    const uint64_t *p = (const uint64_t *)pool->memory + part * (size_t)index;
    uint64_t sum[4] = {0};
    for (size_t i = 0; i + 4 <= part; i += 4)
        for (int k = 0; k < 4; k++)
            sum[k] += p[i + (size_t)k];
    volatile uint64_t keep = sum[0] + sum[1] + sum[2] + sum[3];
    (void)keep;
}

static void take_groups(struct emulator_pool *pool, int index)
{
    const uint32_t *grid = pool->dispatch->grid;
    while (!atomic_load_explicit(&pool->failed, memory_order_relaxed)) {
        uint32_t i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (i >= pool->groups)
            return;
        uint32_t g = (uint32_t)(((uint64_t)i * pool->stride + pool->offset) % pool->groups);
        uint32_t group[3] = {g % grid[0], g / grid[0] % grid[1], g / grid[0] / grid[1]};
        struct emulator_core *core = pool->core[index];
        if (core_run(core, pool->dispatch, group, pool->dispatch->first_run + g) == 0)
            continue;
        pthread_mutex_lock(&pool->lock);
        if (!atomic_exchange(&pool->failed, true))
            pool->err = core->err;
        pthread_mutex_unlock(&pool->lock);
    }
}

static void do_part(struct emulator_pool *pool, int index)
{
    if (pool->dispatch)
        take_groups(pool, index);
    else
        read_part(pool, index);
}

static void *thread_main(void *argument)
{
    struct entry entry = *(struct entry *)argument;
    struct emulator_pool *pool = entry.pool;
    uint64_t seen = 0;
    free(argument);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->round == seen && !pool->stop)
            pthread_cond_wait(&pool->work, &pool->lock);
        if (pool->stop)
            break;
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        do_part(pool, entry.index);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int emulator_pool_create(struct emulator_pool **out, int threads, struct err *err)
{
    struct emulator_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return err_set(err, ERR_NOMEM, "out of memory for the emulator");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->threads = threads;
    pool->core = calloc((size_t)threads, sizeof *pool->core);
    pool->thread = calloc((size_t)threads, sizeof *pool->thread);
    int rc = pool->core && pool->thread ? 0 : err_set(err, ERR_NOMEM, "out of memory for the emulator");
    for (int i = 0; i < threads && rc == 0; i++)
        rc = core_create(&pool->core[i], err);
    for (int i = 1; i < threads && rc == 0; i++) {
        struct entry *entry = malloc(sizeof *entry);
        if (entry)
            *entry = (struct entry){pool, i};
        if (!entry || pthread_create(&pool->thread[i], NULL, thread_main, entry) != 0) {
            free(entry);
            rc = err_set(err, ERR_NOMEM, "no thread %d of %d for the emulator", i + 1, threads);
        } else {
            pool->started = i;
        }
    }
    if (rc < 0) {
        emulator_pool_free(pool);
        return rc;
    }
    *out = pool;
    return 0;
}

void emulator_pool_free(struct emulator_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i <= pool->started; i++)
        pthread_join(pool->thread[i], NULL);
    for (int i = 0; pool->core && i < pool->threads; i++)
        core_free(pool->core[i]);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->idle);
    pthread_mutex_destroy(&pool->lock);
    free(pool->core);
    free(pool->thread);
    free(pool);
}

int emulator_pool_threads(const struct emulator_pool *pool)
{
    return pool->threads;
}

/* The job that is set is done by all threads, or by the caller alone. */
static void run_job(struct emulator_pool *pool, bool alone)
{
    if (alone || pool->threads == 1) {
        do_part(pool, 0);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->busy = pool->threads - 1;
    pool->round++;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    do_part(pool, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0)
        pthread_cond_wait(&pool->idle, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

int emulator_pool_run(struct emulator_pool *pool, const struct emulator_dispatch *dispatch, uint32_t seed,
             struct err *err)
{
    uint32_t n = dispatch->grid[0] * dispatch->grid[1] * dispatch->grid[2];
    uint32_t mixed = (seed + 1) * 2654435761u;
    pool->dispatch = dispatch;
    pool->groups = n;
    pool->offset = (mixed >> 8) % n;
    pool->stride = mixed % n;
    while (common_divisor(pool->stride, n) != 1)
        pool->stride = pool->stride + 1 < n ? pool->stride + 1 : 1;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->failed, false);
    run_job(pool, n == 1);
    if (!atomic_load(&pool->failed))
        return 0;
    if (err)
        *err = pool->err;
    return pool->err.code;
}

void emulator_pool_read(struct emulator_pool *pool, const void *memory, size_t bytes)
{
    pool->dispatch = NULL;
    pool->memory = memory;
    pool->bytes = bytes;
    run_job(pool, false);
}
