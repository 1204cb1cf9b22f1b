/* Races: for each aligned 4 bytes of memory that is written, who wrote it last and who read it last.
 *
 * A record holds the run of the group, the thread, the thread's clock and which of the bytes; barriers move
 * clocks on. One writer and one kind of reader are remembered, so a race may be missed, never invented. */
#include "core.h"

/* run: 28 bits, thread: 10, clock: 18, bytes: 4, readers: 2; from the top. */
#define CLOCK_MAX ((1u << 18) - 1)
enum readers { READ_BY_ONE, READ_BY_SIMD, READ_BY_GROUP };

struct touch {
    uint32_t run, thread, clock, bytes;
    enum readers readers;
};

static struct touch unpack(uint64_t word)
{
    return (struct touch){(uint32_t)(word >> 36), word >> 26 & 1023, word >> 8 & CLOCK_MAX, word >> 4 & 15,
                          (enum readers)(word & 3)};
}

static uint64_t pack(struct touch t)
{
    return (uint64_t)t.run << 36 | (uint64_t)t.thread << 26 | (uint64_t)t.clock << 8 | t.bytes << 4 |
           t.readers;
}

/* May the touch, by another thread of the group, happen at any time beside the current thread's access? */
static bool unordered(const struct emulator_core *core, const struct touch *t)
{
    const struct emulator_simd *s = &core->simd[t->thread >> 5];
    if (t->thread >> 5 == (uint32_t)core->current >> 5)
        return t->clock == s->clock;
    return t->clock >= s->barrier_clock;
}

static bool conflicts(const struct emulator_core *core, const struct touch *t, bool shared, uint32_t bytes)
{
    if (!(t->bytes & bytes))
        return false;
    if (t->run != core->run)
        return !shared && t->run >= core->dispatch->first_run;
    if (t->readers == READ_BY_GROUP)
        return t->clock >= core->simd[t->thread >> 5].barrier_clock;
    if (t->readers == READ_BY_ONE && t->thread == (uint32_t)core->current)
        return false;
    return unordered(core, t);
}

static __attribute__((noreturn)) void report(struct emulator_core *core, const struct emulator_memory *m,
                                             ptrdiff_t index, bool write, const struct touch *other,
                                             bool other_wrote)
{
    const char *verb = write ? "written" : "read", *before = other_wrote ? "written" : "read";
    if (other->run != core->run)
        core_fail(core, "race: %s[%td] %s by group %u and %s by group %u of one dispatch", m->name, index,
                  before, other->run - core->dispatch->first_run, verb,
                  core->run - core->dispatch->first_run);
    core_fail(core, "race: %s[%td] %s by thread %u and %s by thread %d without a barrier between", m->name,
              index, before, other->thread, verb, core->current);
}

/* The current thread's touch, with what of an earlier one still counts. */
static struct touch merged(const struct emulator_core *core, const struct touch *old, uint32_t clock,
                           uint32_t bytes, bool write)
{
    struct touch now = {core->run, (uint32_t)core->current, clock, bytes, READ_BY_ONE};
    if (old->run != core->run)
        return now;
    if (old->thread == now.thread && old->readers == READ_BY_ONE) {
        if (old->clock == clock)
            now.bytes |= old->bytes;
        return now;
    }
    if (write || !unordered(core, old))
        return now;
    bool beside = old->thread >> 5 == now.thread >> 5 && old->readers != READ_BY_GROUP;
    now.readers = beside ? READ_BY_SIMD : READ_BY_GROUP;
    now.bytes &= old->bytes; /* of what both read: of the rest, the record could not tell who */
    return now.bytes ? now : (struct touch){core->run, (uint32_t)core->current, clock, bytes, READ_BY_ONE};
}

void shadow_access(struct emulator_core *core, const struct emulator_memory *m, const void *p, size_t size,
                   size_t element, bool write)
{
    uint32_t clock = core->simd[core->current >> 5].clock;
    if (clock >= CLOCK_MAX)
        return;
    size_t first = (size_t)((const char *)p - m->origin), end = first + size;
    for (size_t at = first & ~(size_t)3; at < end; at += 4) {
        uint32_t bytes = 15;
        if (at < first)
            bytes &= 15u << (first - at);
        if (at + 4 > end)
            bytes &= 15u >> (at + 4 - end);
        uint64_t *word = m->shadow + at / 4 * SHADOW_WORDS;
        ptrdiff_t index = ((const char *)p - m->base) / (ptrdiff_t)element;
        struct touch wrote = unpack(__atomic_load_n(&word[0], __ATOMIC_RELAXED));
        struct touch read = unpack(__atomic_load_n(&word[1], __ATOMIC_RELAXED));
        wrote.readers = READ_BY_ONE;
        if (conflicts(core, &wrote, m->shared, bytes))
            report(core, m, index, write, &wrote, true);
        if (write && conflicts(core, &read, m->shared, bytes))
            report(core, m, index, write, &read, false);
        struct touch now = merged(core, write ? &wrote : &read, clock, bytes, write);
        __atomic_store_n(&word[write ? 0 : 1], pack(now), __ATOMIC_RELAXED);
    }
}
