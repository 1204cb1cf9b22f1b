/* Keeps the driver's memory resident between requests, where the system has residency sets (macOS 15).
 * The system takes pages back after about a second without use, and the next request would pay for it:
 * a heartbeat asks for them again, until minutes have passed without work or memory is short. */
#include "metal.h"

#include <errno.h>
#include <sys/sysctl.h>
#include <sys/time.h>

#define BEATS_PER_SECOND 2
#define IDLE_SECONDS 180
#define PRESSURE_NORMAL 1

static bool memory_is_short(void)
{
    int level = PRESSURE_NORMAL;
    size_t size = sizeof level;
    return sysctlbyname("kern.memorystatus_vm_pressure_level", &level, &size, NULL, 0) == 0 &&
           level > PRESSURE_NORMAL;
}

/* Waits for a beat; the mutex is held. */
static void wait_beat(struct metal_residency *r)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    struct timespec until = {.tv_sec = now.tv_sec,
                             .tv_nsec = now.tv_usec * 1000L + 1000000000L / BEATS_PER_SECOND};
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&r->wake, &r->mutex, &until);
}

static void *heartbeat(void *argument)
{
    struct metal_residency *r = argument;
    pthread_mutex_lock(&r->mutex);
    while (!r->stop) {
        if (!r->held) {
            pthread_cond_wait(&r->wake, &r->mutex);
            continue;
        }
        wait_beat(r);
        if (r->stop || !r->held)
            continue;
        if (!r->busy && (--r->beats <= 0 || memory_is_short())) {
            [r->set endResidency];
            r->held = false;
        } else {
            [r->set requestResidency];
        }
    }
    pthread_mutex_unlock(&r->mutex);
    return NULL;
}

void metal_residency_init(struct metal *m)
{
    struct metal_residency *r = &m->residency;
#if !defined(__MAC_OS_X_VERSION_MAX_ALLOWED) || __MAC_OS_X_VERSION_MAX_ALLOWED >= 150000
    if (@available(macOS 15.0, *)) {
        if ([m->device respondsToSelector:@selector(newResidencySetWithDescriptor:error:)]) {
            MTLResidencySetDescriptor *descriptor = [[MTLResidencySetDescriptor alloc] init];
            NSError *error = nil;
            r->set = (id)[m->device newResidencySetWithDescriptor:descriptor error:&error];
            [descriptor release];
            if (r->set)
                [m->queue addResidencySet:(id)r->set];
        }
    }
#endif
    if (!r->set)
        return;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->wake, NULL);
    r->started = pthread_create(&r->thread, NULL, heartbeat, r) == 0;
}

void metal_residency_dispose(struct metal *m)
{
    struct metal_residency *r = &m->residency;
    if (!r->set)
        return;
    if (r->started) {
        pthread_mutex_lock(&r->mutex);
        r->stop = true;
        pthread_cond_signal(&r->wake);
        pthread_mutex_unlock(&r->mutex);
        pthread_join(r->thread, NULL);
    }
    if (r->held)
        [r->set endResidency];
    [r->set release];
    pthread_mutex_destroy(&r->mutex);
    pthread_cond_destroy(&r->wake);
}

static void change(struct metal *m, id<MTLBuffer> buffer, bool add)
{
    struct metal_residency *r = &m->residency;
    if (!r->set)
        return;
    pthread_mutex_lock(&r->mutex);
    if (add)
        [r->set addAllocation:buffer];
    else
        [r->set removeAllocation:buffer];
    [r->set commit];
    pthread_mutex_unlock(&r->mutex);
}

void metal_residency_add(struct metal *m, id<MTLBuffer> buffer)
{
    change(m, buffer, true);
}

void metal_residency_remove(struct metal *m, id<MTLBuffer> buffer)
{
    change(m, buffer, false);
}

void metal_residency_hold(struct metal *m)
{
    struct metal_residency *r = &m->residency;
    if (!r->set)
        return;
    pthread_mutex_lock(&r->mutex);
    r->busy = true;
    if (!r->held) {
        [r->set requestResidency];
        r->held = true;
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->mutex);
}

void metal_residency_release(struct metal *m)
{
    struct metal_residency *r = &m->residency;
    if (!r->set)
        return;
    pthread_mutex_lock(&r->mutex);
    r->busy = false;
    r->beats = IDLE_SECONDS * BEATS_PER_SECOND;
    if (r->held && (!r->started || memory_is_short())) {
        [r->set endResidency];
        r->held = false;
    }
    pthread_mutex_unlock(&r->mutex);
}
