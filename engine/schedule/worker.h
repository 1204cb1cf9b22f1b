/* The thread that owns the device, and the two queues between it and everybody else: requests,
 * cancellations and credit go in, events come out. */
#ifndef HEARTH_WORKER_H
#define HEARTH_WORKER_H

#include "runner.h"

struct worker;

struct worker_options {
    struct device_options device;
    int capacity; /* requests that may be alive at once */
    void (*wake)(void *user);
    void *wake_user;
};

/* Starts the thread, which opens the device. */
int worker_create(struct worker **out, const struct worker_options *, struct err *) WARN_UNUSED;
/* Ends all requests without further events, runs `last` on the thread (it frees what lies on the
 * device), closes the device and joins. NULL is fine. */
void worker_destroy(struct worker *, void (*last)(void *argument), void *argument);

/* Runs a function on the worker thread between two steps and waits for it. */
int worker_call(struct worker *, int (*function)(void *argument, struct device *, struct err *),
                void *argument,
                struct err *) WARN_UNUSED;
/* From inside a worker_call: the runner takes part in the steps from now on. */
int worker_add_runner(struct worker *, struct runner *, struct err *) WARN_UNUSED;
/* Likewise; it takes part no more. Its requests that only fill the cache are ended; ERR_BUSY: it has others. */
int worker_remove_runner(struct worker *, struct runner *, struct err *) WARN_UNUSED;
bool worker_is_idle(struct worker *); /* no request is alive */

/* Takes over the request, also when it fails. ERR_BUSY, ERR_DRAINING. */
int worker_submit(struct worker *, struct runner *, struct request *, uint64_t *id, struct err *) WARN_UNUSED;
void worker_cancel(struct worker *, uint64_t id);
void worker_credit(struct worker *, uint64_t id, int events);
void worker_drain(struct worker *);

struct event *worker_poll(struct worker *);
bool worker_wait(struct worker *, double seconds);
const struct device_info *worker_device(const struct worker *); /* constant */
const struct device *worker_opened(const struct worker *); /* for what is constant of the device itself */
void worker_status(const struct worker *, struct engine_status *);
int worker_slots(struct worker *, struct engine_slot *out, int room); /* as engine_slots */

#endif
