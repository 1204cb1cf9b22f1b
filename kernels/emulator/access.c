/* Memory as a group sees it: shared arrays, asynchronous copies into them, accesses that must be
 * looked at. */
#include "core.h"

#include <string.h>

const struct emulator_memory emulator_nowhere = {.name = "a pointer that was never set"};

const struct emulator_memory *emulator_shared(const char *name, size_t bytes)
{
    struct emulator_core *core = emulator_here;
    struct emulator_thread *t = &core->thread[core->current];
    int i = t->arrays++;
    size_t offset = t->shared_used, limit = core->dispatch->shared_limit;
    if (i == EMULATOR_ARRAYS)
        core_fail(core, "more than %d shared arrays", EMULATOR_ARRAYS);
    if (bytes > limit - offset)
        core_fail(core, "shared array %s: %zu bytes, where %zu of %zu are taken", name, bytes, offset, limit);
    t->shared_used = (offset + bytes + 15) & ~(size_t)15;
    if (t->shared_used > limit)
        t->shared_used = limit;
    struct emulator_memory *array = &core->array[i];
    if (i == core->arrays) {
        unsigned slow = core->dispatch->races ? EMULATOR_RACES : 0;
        core->arrays++;
        *array = (struct emulator_memory){.base = core->shared + offset, .bytes = bytes, .name = name,
                                          .slow_read = slow, .slow_write = slow, .shared = true,
                                          .shadow = core->shared_shadow, .origin = core->shared};
        for (size_t at = 0; at + 4 <= bytes; at += 4)
            memcpy(array->base + at, &(uint32_t){EMULATOR_POISON}, 4);
    } else if (array->bytes != bytes || array->base != core->shared + offset ||
               strcmp(array->name, name) != 0) {
        core_fail(core, "thread %d declares the shared array %s where others declare %s", core->current, name,
                  array->name);
    }
    return array;
}

void emulator_misaligned(const struct emulator_memory *m, const void *p, size_t alignment)
{
    struct emulator_core *core = emulator_here;
    core_fail(core, "%s is misaligned: byte %td of it as a type of alignment %zu",
              m->name ? m->name : "an operand", (const char *)p - m->base, alignment);
}

void emulator_access(const struct emulator_memory *m, const void *p, size_t size, size_t element, bool write)
{
    struct emulator_core *core = emulator_here;
    ptrdiff_t at = (const char *)p - m->base,
              index = (at - (at < 0 ? (ptrdiff_t)element - 1 : 0)) / (ptrdiff_t)element;
    const char *verb = write ? "written" : "read";
    unsigned slow = write ? m->slow_write : m->slow_read;
    if (!m->base)
        core_fail(core, "%s[%td] %s, which is absent", m->name, (ptrdiff_t)(uintptr_t)p / (ptrdiff_t)element,
                  verb);
    if (at < 0 || (size_t)at >= m->bytes || m->bytes - (size_t)at < size)
        core_fail(core, "%s[%td] %s, %zu elements", m->name, index, verb, m->bytes / element);
    if (slow & EMULATOR_FORBIDDEN)
        core_fail(core, "%s[%td] written, which is bound for reading", m->name, index);
    if ((slow & EMULATOR_EARLY) && !core->thread[core->current].waited)
        core_fail(core, "%s[%td] %s before DEPENDENCY_WAIT, while %s uses it", m->name, index, verb,
                  m->before);
    if (slow & EMULATOR_RACES)
        shadow_access(core, m, p, size, element, write);
}

void emulator_copy_async(void *to, const void *from, const struct emulator_memory *shared)
{
    struct emulator_core *core = emulator_here;
    struct emulator_thread *t = &core->thread[core->current];
    if (t->copies == EMULATOR_COPIES)
        core_fail(core, "thread %d has more than %d asynchronous copies under way", core->current,
                  EMULATOR_COPIES);
    t->copy[t->copies].to = to;
    t->copy[t->copies].shared = shared;
    t->copy[t->copies].group = t->commits;
    memcpy(t->copy[t->copies++].data, from, 16);
}

void emulator_copy_commit(void)
{
    emulator_here->thread[emulator_here->current].commits++;
}

/* Copies count as writes when they begin, for those who still read what was there, and when they end. */
void emulator_copy_wait(int groups)
{
    struct emulator_core *core = emulator_here;
    struct emulator_thread *t = &core->thread[core->current];
    int left = 0;
    for (int i = 0; i < t->copies; i++) {
        if (t->copy[i].group >= t->commits - groups) {
            t->copy[left++] = t->copy[i];
            continue;
        }
        if (core->dispatch->races)
            shadow_access(core, t->copy[i].shared, t->copy[i].to, 16, 2, true);
        memcpy(t->copy[i].to, t->copy[i].data, 16);
    }
    t->copies = left;
}
