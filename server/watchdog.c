/* The watchdog. It believes only what it has seen: a process that was stopped, or a machine that slept, has
 * steps that look old although nobody could have ended them. */
#include "watchdog.h"

#include "../engine/log.h"
#include "notify.h"

#define LOOKS 8        /* at a step before it counts as stalled */
#define SHORTEST 10    /* ms between two looks */
#define LONGEST 5000

static void tell(const struct watchdog *w, const struct engine_status *s)
{
    char layer[32] = "";
    if (s->step_layer >= 0)
        snprintf(layer, sizeof layer, ", layer %d", s->step_layer);
    if (s->step_stage)
        log_error("stalled: a step of %d rows has not returned for %.1f s; it is in %s of %s%s (%s)",
                  s->step_rows, w->seen, s->step_operator, s->step_stage, layer, s->device);
    else
        log_error("stalled: a step of %d rows has not returned for %.1f s (%s)", s->step_rows, w->seen,
                  s->device);
}

bool watchdog_stalled(struct watchdog *w)
{
    struct engine_status s;
    if (!w->engine || w->limit <= 0)
        return false;
    engine_status(w->engine, &s);
    uint64_t now = uv_hrtime();
    double passed = (double)(now - w->looked) / 1e9, most = (double)w->interval * 2e-3;
    bool same = s.steps == w->steps && s.step_seconds > 0;
    double before = w->seen;
    w->looked = now;
    w->steps = s.steps;
    w->seen = same ? before + (passed < most ? passed : most) : 0;
    if (w->seen > s.step_seconds)
        w->seen = s.step_seconds;

    bool stalled = w->seen >= w->limit;
    if (stalled && !w->stalled)
        tell(w, &s);
    else if (!stalled && w->stalled)
        log_warning("no longer stalled: the step returned");
    w->stalled = stalled;
    return stalled;
}

static void on_look(uv_timer_t *timer)
{
    struct watchdog *w = timer->data;
    if (!watchdog_stalled(w) && w->report)
        notify_send("WATCHDOG=1");
}

void watchdog_start(struct watchdog *w, uv_loop_t *loop, double limit)
{
    double manager = notify_watchdog_seconds(), every = limit > 0 ? limit * 1e3 / LOOKS : LONGEST;
    uv_timer_init(loop, &w->timer);
    w->timer.data = w;
    w->limit = limit;
    w->report = manager > 0;
    if (w->report && manager * 1e3 / 3 < every)
        every = manager * 1e3 / 3;
    w->interval = every < SHORTEST ? SHORTEST : every > LONGEST ? LONGEST : (uint64_t)every;
    if (w->limit > 0 || w->report)
        uv_timer_start(&w->timer, on_look, w->interval, w->interval);
}

void watchdog_engine(struct watchdog *w, const struct engine *engine)
{
    w->engine = engine;
    w->looked = uv_hrtime();
    w->seen = 0;
}
