/* Runs a group: its threads take turns, switching where they wait for one another. */
#include "core.h"

#include <stdarg.h>
#include <string.h>

#define STACK_BYTES ((size_t)128 << 10)

_Thread_local struct emulator_core *emulator_here;
bool emulator_fused;

int core_create(struct emulator_core **out, struct err *err)
{
    struct emulator_core *core = calloc(1, sizeof *core);
    if (!core)
        return err_set(err, ERR_NOMEM, "out of memory for the emulator");
#ifdef __x86_64__
    emulator_fused = __builtin_cpu_supports("fma");
#endif
    core->shared = aligned_alloc(256, EMULATOR_SHARED);
    core->shared_shadow = calloc(EMULATOR_SHARED / 4 * SHADOW_WORDS, sizeof *core->shared_shadow);
    if (!core->shared || !core->shared_shadow ||
        fiber_stacks_create(core->fiber, EMULATOR_THREADS, STACK_BYTES) < 0) {
        free(core->shared);
        free(core->shared_shadow);
        free(core);
        return err_set(err, ERR_NOMEM, "out of memory for %d stacks of the emulator", EMULATOR_THREADS);
    }
    *out = core;
    return 0;
}

void core_free(struct emulator_core *core)
{
    if (!core)
        return;
    fiber_stacks_free(core->fiber, EMULATOR_THREADS);
    free(core->shared);
    free(core->shared_shadow);
    free(core);
}

void core_fail(struct emulator_core *core, const char *format, ...)
{
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    err_set(&core->err, ERR_DEVICE, "%s: %s (thread %d of group %u,%u,%u)", core->dispatch->kernel->name,
            text, core->current, core->group[0], core->group[1], core->group[2]);
    fiber_switch(&core->fiber[core->current], &core->home, 1);
    abort();
}

/* ---- turns ---- */

static const char *const meeting_names[] = {
    [EMULATOR_BARRIER] = "simd_barrier", [EMULATOR_SUM] = "simd_sum", [EMULATOR_MAX] = "simd_max",
    [EMULATOR_XOR] = "simd_xor", [EMULATOR_BROADCAST] = "simd_broadcast", [EMULATOR_MMA] = "frag_mma",
};

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void describe(const struct emulator_core *core, int thread, char *text, size_t size)
{
    const struct emulator_thread *t = &core->thread[thread];
    const char *what = "runs";
    switch (t->state) {
    case EMULATOR_AT_BARRIER: what = "group_barrier"; break;
    case EMULATOR_AT_MEETING: what = meeting_names[t->meeting]; break;
    case EMULATOR_AT_DEPENDENCY: snprintf(text, size, "waits in DEPENDENCY_WAIT"); return;
    case EMULATOR_ENDED: snprintf(text, size, "has ended"); return;
    case EMULATOR_READY: break;
    }
    snprintf(text, size, "waits in %s at %s:%d", what, file_name(t->place.file), t->place.line);
}

/* The first thread that `waits` waits for. */
static int missing(const struct emulator_core *core, int waits)
{
    bool lanes = core->thread[waits].state == EMULATOR_AT_MEETING;
    int i = lanes ? waits & ~31 : 0, end = lanes ? i + 32 : core->dispatch->kernel->threads;
    while (i < end - 1 && core->thread[i].state == core->thread[waits].state)
        i++;
    return i;
}

/* Nobody can go on: names a thread that waits and one that keeps it waiting. */
static __attribute__((noreturn)) void stuck(struct emulator_core *core)
{
    int waits = 0;
    while (core->thread[waits].state == EMULATOR_ENDED)
        waits++;
    if (core->thread[missing(core, waits)].state == EMULATOR_AT_MEETING)
        waits = missing(core, waits); /* which is itself kept */
    char a[96], b[96];
    describe(core, waits, a, sizeof a);
    describe(core, missing(core, waits), b, sizeof b);
    core->current = waits;
    core_fail(core, "thread %d %s for thread %d, which %s", waits, a, missing(core, waits), b);
}

/* Who runs after `thread`: lanes of its simd group first, then other simd groups; -1: nobody can. */
static int next_ready(const struct emulator_core *core, int thread)
{
    int s = thread >> 5;
    uint32_t ready = core->simd[s].ready, later = ready & (uint32_t)(~1ull << (thread & 31));
    for (int i = 0; i < core->n_simds; i++) {
        if (ready)
            return s << 5 | __builtin_ctz(later ? later : ready);
        s = s + 1 == core->n_simds ? 0 : s + 1;
        ready = later = core->simd[s].ready;
    }
    return -1;
}

/* Lets others run until this thread is ready again. */
static void wait_turn(struct emulator_core *core)
{
    int self = core->current, next = next_ready(core, self);
    if (next < 0)
        stuck(core);
    core->current = next;
    fiber_switch(&core->fiber[self], &core->fiber[next], 0);
}

static void thread_main(void)
{
    struct emulator_core *core = emulator_here;
    int self = core->current;
    fiber_entered(&core->fiber[self]);
    core->dispatch->kernel->run(core->dispatch->args, core->operand);
    if (!core->thread[self].waited)
        core_fail(core, "thread %d ends without DEPENDENCY_WAIT", self);
    core->thread[self].state = EMULATOR_ENDED;
    core->simd[self >> 5].ready &= ~(1u << (self & 31));
    struct fiber *to = &core->home;
    if (++core->ended < core->dispatch->kernel->threads) {
        int next = next_ready(core, self);
        if (next < 0)
            stuck(core);
        core->current = next;
        to = &core->fiber[next];
    }
    fiber_switch(&core->fiber[self], to, 1);
    abort();
}

int core_run(struct emulator_core *core, const struct emulator_dispatch *dispatch, const uint32_t group[3],
             uint32_t run)
{
    int n = dispatch->kernel->threads;
    emulator_here = core;
    core->dispatch = dispatch;
    memcpy(core->group, group, sizeof core->group);
    core->run = run;
    core->n_simds = n / 32;
    core->ended = core->at_barrier = core->at_dependency = core->arrays = 0;
    core->err.code = 0;
    memcpy(core->operand, dispatch->operand, sizeof core->operand);
    for (int s = 0; s < core->n_simds; s++)
        core->simd[s] = (struct emulator_simd){.ready = UINT32_MAX};
    for (int i = 0; i < n; i++) {
        struct emulator_thread *t = &core->thread[i];
        t->state = EMULATOR_READY;
        t->waited = t->launched = false;
        t->arrays = t->copies = t->commits = 0;
        t->shared_used = 0;
        fiber_prepare(&core->fiber[i], thread_main);
    }
    core->current = (int)(run * 2654435761u >> 16) % core->n_simds * 32;
    fiber_switch(&core->home, &core->fiber[core->current], 0);
    if (!core->err.code)
        return 0;
    for (int i = 0; i < n; i++)
        fiber_abandon(&core->fiber[i]);
    return core->err.code;
}

/* ---- what threads do together ---- */

static bool same_place(struct emulator_place a, struct emulator_place b)
{
    return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file));
}

static void all_ready(struct emulator_core *core)
{
    for (int s = 0; s < core->n_simds; s++)
        core->simd[s].ready = UINT32_MAX;
    for (int i = 0; i < core->dispatch->kernel->threads; i++)
        core->thread[i].state = EMULATOR_READY;
}

/* The current thread waits for the whole group; true for the last one, which goes on. */
static bool group_waits(struct emulator_core *core, enum emulator_state state, int *arrived)
{
    if (++*arrived == core->dispatch->kernel->threads) {
        *arrived = 0;
        all_ready(core);
        return true;
    }
    core->thread[core->current].state = state;
    core->simd[core->current >> 5].ready &= ~(1u << (core->current & 31));
    wait_turn(core);
    return false;
}

void emulator_group_barrier(struct emulator_place place)
{
    struct emulator_core *core = emulator_here;
    if (core->at_barrier == 0)
        core->barrier = place;
    else if (!same_place(core->barrier, place))
        core_fail(core, "thread %d is in group_barrier at %s:%d, others at %s:%d", core->current,
                  file_name(place.file), place.line, file_name(core->barrier.file), core->barrier.line);
    core->thread[core->current].place = place;
    if (core->at_barrier + 1 == core->dispatch->kernel->threads)
        for (int s = 0; s < core->n_simds; s++)
            core->simd[s].barrier_clock = ++core->simd[s].clock;
    group_waits(core, EMULATOR_AT_BARRIER, &core->at_barrier);
}

static float as_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t as_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* The order of additions is that of exchanges with lane ^ 16, 8, 4, 2, 1. */
static uint32_t reduce(const uint32_t *in, bool sum)
{
    float v[32];
    for (int i = 0; i < 32; i++)
        v[i] = as_float(in[i]);
    for (int half = 16; half > 0; half /= 2)
        for (int i = 0; i < half; i++) {
            float a = v[i], b = v[i + half];
            v[i] = sum ? a + b : a > b || b != b ? a : b;
        }
    return as_bits(v[0]);
}

/* c += a b of the tiles that the 32 lanes hold. */
static void multiply(struct emulator_simd *s)
{
    float a[16][16], b[16][16], c[16][16];
    for (int i = 0; i < 256; i++) {
        int row = i / 16, column = i % 16;
        float x = s->tile[i / 8].a[i % 8], y = s->tile[i / 8].b[i % 8];
        *(s->tile[i / 8].a_turned ? &a[column][row] : &a[row][column]) = x;
        *(s->tile[i / 8].b_turned ? &b[column][row] : &b[row][column]) = y;
        c[row][column] = s->tile[i / 8].c[i % 8];
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 16; j++)
                c[i][j] += a[i][k] * b[k][j];
    for (int i = 0; i < 256; i++)
        s->tile[i / 8].c[i % 8] = c[i / 16][i % 16];
}

/* All lanes are there: what each gets. */
static void combine(struct emulator_core *core, struct emulator_simd *s)
{
    switch (s->meeting) {
    case EMULATOR_BARRIER: s->clock++; break;
    case EMULATOR_SUM:
    case EMULATOR_MAX: {
        uint32_t result = reduce(s->in, s->meeting == EMULATOR_SUM);
        for (int i = 0; i < 32; i++)
            s->out[i] = result;
        break;
    }
    case EMULATOR_XOR:
    case EMULATOR_BROADCAST:
        for (int i = 0; i < 32; i++) {
            int from = s->meeting == EMULATOR_XOR ? i ^ s->argument[i] : s->argument[i];
            if (from < 0 || from > 31)
                core_fail(core, "%s asks for lane %d", meeting_names[s->meeting], from);
            s->out[i] = s->in[from];
        }
        break;
    case EMULATOR_MMA: multiply(s); break;
    }
}

uint32_t emulator_meet(enum emulator_meeting meeting, uint32_t value, int argument,
                       struct emulator_place place)
{
    struct emulator_core *core = emulator_here;
    struct emulator_thread *t = &core->thread[core->current];
    struct emulator_simd *s = &core->simd[core->current >> 5];
    int lane = core->current & 31;
    if (s->arrived == 0) {
        s->meeting = meeting;
        s->place = place;
    } else if (s->meeting != meeting || !same_place(s->place, place)) {
        core_fail(core, "thread %d is in %s at %s:%d, lanes beside it in %s at %s:%d", core->current,
                  meeting_names[meeting], file_name(place.file), place.line, meeting_names[s->meeting],
                  file_name(s->place.file), s->place.line);
    }
    s->in[lane] = value;
    s->argument[lane] = argument;
    s->arrived |= 1u << lane;
    if (s->arrived == UINT32_MAX) {
        combine(core, s);
        s->arrived = 0;
        s->ready = UINT32_MAX;
        return s->out[lane];
    }
    s->ready &= ~(1u << lane);
    t->state = EMULATOR_AT_MEETING;
    t->meeting = meeting;
    t->place = place;
    wait_turn(core);
    t->state = EMULATOR_READY;
    return s->out[lane];
}

void emulator_mma(float *c, const float *a, bool a_turned, const float *b, bool b_turned,
                  struct emulator_place place)
{
    struct emulator_core *core = emulator_here;
    struct emulator_simd *s = &core->simd[core->current >> 5];
    int lane = core->current & 31;
    s->tile[lane].c = c;
    s->tile[lane].a = a;
    s->tile[lane].b = b;
    s->tile[lane].a_turned = a_turned;
    s->tile[lane].b_turned = b_turned;
    emulator_meet(EMULATOR_MMA, 0, 0, place);
}

struct emulator_ids emulator_ids(void)
{
    const struct emulator_core *core = emulator_here;
    int thread = core->current;
    return (struct emulator_ids){{(int)core->group[0], (int)core->group[1], (int)core->group[2]},
                                 thread, thread & 31, thread >> 5};
}

/* ---- dependent launch ---- */

/* All threads meet here, so that operands need the look at EMULATOR_EARLY only before. */
void emulator_dependency_wait(void)
{
    struct emulator_core *core = emulator_here;
    struct emulator_thread *t = &core->thread[core->current];
    if (t->waited)
        core_fail(core, "thread %d comes to DEPENDENCY_WAIT twice", core->current);
    if (core->at_dependency + 1 == core->dispatch->kernel->threads)
        for (int i = 0; i < core->dispatch->kernel->operands; i++) {
            core->operand[i].slow_read &= ~EMULATOR_EARLY;
            core->operand[i].slow_write &= ~EMULATOR_EARLY;
        }
    t->waited = true;
    group_waits(core, EMULATOR_AT_DEPENDENCY, &core->at_dependency);
}

void emulator_dependency_launch_early(void)
{
    struct emulator_core *core = emulator_here;
    if (!core->dispatch->launches_early)
        core_fail(core, "thread %d comes to DEPENDENCY_LAUNCH_EARLY, of which the step says nothing", core->current);
    core->thread[core->current].launched = true;
}

void emulator_dependency_launch(void)
{
    struct emulator_core *core = emulator_here;
    if (!core->thread[core->current].waited)
        core_fail(core, "thread %d comes to DEPENDENCY_LAUNCH before DEPENDENCY_WAIT", core->current);
    core->thread[core->current].launched = true;
}
