/* Threads that run one function together: spinning while there is work, asleep soon after. */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "topology.h"

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

#define SPIN_NS 500000    /* how long a thread waits awake for the next run */
#define SPIN_ROUNDS 4096  /* how often a barrier looks before it lets others run */

struct pool {
    int threads;
    pthread_t *ids; /* [threads - 1] */
    void (*work)(void *, int);
    void *context;
    /* Written by different threads, so each on a cache line of its own. */
    _Alignas(64) atomic_uint run;     /* counts the calls of pool_run */
    _Alignas(64) atomic_int arrived;  /* at the current barrier */
    _Alignas(64) atomic_uint barrier; /* counts barriers passed */
    _Alignas(64) atomic_int sleepers;
    atomic_bool parked, stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

struct start {
    struct pool *pool;
    int thread;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void pool_barrier(struct pool *p)
{
    unsigned now = atomic_load_explicit(&p->barrier, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) == p->threads - 1) {
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&p->barrier, now + 1, memory_order_release);
        return;
    }
    for (int i = 0; atomic_load_explicit(&p->barrier, memory_order_acquire) == now; i++) {
        if (i < SPIN_ROUNDS)
            RELAX();
        else
            sched_yield();
    }
}

static void wait_for_run(struct pool *p, unsigned last)
{
    int64_t end = now_ns() + SPIN_NS;
    for (unsigned i = 1; atomic_load_explicit(&p->run, memory_order_acquire) == last; i++) {
        RELAX();
        if (i % 64 || (!atomic_load_explicit(&p->parked, memory_order_relaxed) && now_ns() < end))
            continue;
        pthread_mutex_lock(&p->mutex);
        atomic_fetch_add(&p->sleepers, 1);
        while (atomic_load(&p->run) == last)
            pthread_cond_wait(&p->wake, &p->mutex);
        atomic_fetch_sub(&p->sleepers, 1);
        pthread_mutex_unlock(&p->mutex);
    }
}

static void *pool_thread(void *argument)
{
    struct start start = *(struct start *)argument;
    struct pool *p = start.pool;
    free(argument);
    topology_enter(start.thread);
    for (unsigned last = 0;; last++) {
        wait_for_run(p, last);
        if (atomic_load(&p->stop))
            return NULL;
        p->work(p->context, start.thread);
        pool_barrier(p);
    }
}

static void announce(struct pool *p)
{
    atomic_fetch_add(&p->run, 1);
    if (atomic_load(&p->sleepers) == 0)
        return;
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

void pool_run(struct pool *p, void (*work)(void *, int), void *context)
{
    p->work = work;
    p->context = context;
    atomic_store_explicit(&p->parked, false, memory_order_relaxed);
    if (p->threads > 1)
        announce(p);
    work(context, 0);
    if (p->threads > 1)
        pool_barrier(p);
}

void pool_park(struct pool *p)
{
    atomic_store_explicit(&p->parked, true, memory_order_relaxed);
}

int pool_default_threads(void)
{
    return topology_threads();
}

int pool_open(struct pool **out, int threads, struct err *err)
{
    void *memory;
    if (posix_memalign(&memory, 64, sizeof(struct pool)))
        return err_set(err, ERR_NOMEM, "out of memory for the thread pool");
    struct pool *p = memset(memory, 0, sizeof *p);
    p->threads = 1;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->ids = calloc((size_t)threads, sizeof *p->ids);
    int rc = p->ids ? 0 : err_set(err, ERR_NOMEM, "out of memory for the thread pool");
    for (int i = 1; i < threads && rc == 0; i++) {
        struct start *start = malloc(sizeof *start);
        if (!start) {
            rc = err_set(err, ERR_NOMEM, "out of memory for the thread pool");
            break;
        }
        *start = (struct start){p, i};
        int failed = pthread_create(&p->ids[i - 1], NULL, pool_thread, start);
        if (failed) {
            free(start);
            rc = err_set(err, ERR_LIMIT, "thread %d of %d does not start: %s", i + 1, threads,
                         strerror(failed));
            break;
        }
        p->threads++;
    }
    if (rc < 0) {
        pool_close(p);
        return rc;
    }
    *out = p;
    return 0;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, true);
    announce(p);
    for (int i = 0; i < p->threads - 1; i++)
        pthread_join(p->ids[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    free(p->ids);
    free(p);
}
