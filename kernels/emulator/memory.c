/* The emulator's memory: the host's, with what is known about it. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "state.h"

static void link_memory(struct emulator *e, struct gpu_memory *m)
{
    pthread_mutex_lock(&e->lock);
    m->next = e->memory;
    e->memory = m;
    pthread_mutex_unlock(&e->lock);
}

int emulator_alloc(void *state, size_t bytes, struct gpu_memory **out, struct err *err)
{
    struct gpu_memory *m = calloc(1, sizeof *m);
    void *base = NULL;
    if (!m || bytes > SIZE_MAX / 8 || posix_memalign(&base, 256, bytes) != 0) {
        free(m);
        return err_set(err, ERR_NOMEM, "emulator: no memory for %zu bytes", bytes);
    }
    memset(base, 0, bytes);
    *m = (struct gpu_memory){.base = base, .bytes = bytes};
    link_memory(state, m);
    *out = m;
    return 0;
}

int emulator_wrap(void *state, const void *data, size_t bytes, struct gpu_memory **out, size_t *offset,
                         struct err *err)
{
    struct gpu_memory *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, ERR_NOMEM, "emulator: out of memory");
    *offset = (uintptr_t)data % (size_t)sysconf(_SC_PAGESIZE);
    *m = (struct gpu_memory){.base = (char *)data - *offset, .bytes = bytes + *offset, .wrapped = true};
    link_memory(state, m);
    *out = m;
    return 0;
}

static void drop_shadow(struct gpu_memory *m)
{
    if (m->shadow)
        munmap(m->shadow, (m->bytes + 3) / 4 * SHADOW_WORDS * sizeof *m->shadow);
    m->shadow = NULL;
}

void emulator_poison(char *at, size_t bytes)
{
    for (size_t i = 0; i + 4 <= bytes; i += 4)
        memcpy(at + i, &(uint32_t){EMULATOR_POISON}, 4);
}

/* Who still reads freed memory shall see it. */
void emulator_free(void *state, struct gpu_memory *memory)
{
    struct emulator *e = state;
    pthread_mutex_lock(&e->lock);
    struct gpu_memory **link = &e->memory;
    while (*link != memory) {
        REQUIRE(*link);
        link = &(*link)->next;
    }
    *link = memory->next;
    pthread_mutex_unlock(&e->lock);
    drop_shadow(memory);
    if (!memory->wrapped) {
        emulator_poison(memory->base, memory->bytes);
        free(memory->base);
    }
    free(memory);
}

void *emulator_bytes(const struct gpu_memory *memory)
{
    return memory->base;
}

/* Mapped, so that only what is touched takes room. */
int emulator_make_shadow(struct gpu_memory *m, struct err *err)
{
    if (m->shadow)
        return 0;
    void *shadow = mmap(NULL, (m->bytes + 3) / 4 * SHADOW_WORDS * sizeof *m->shadow, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (shadow == MAP_FAILED)
        return err_set(err, ERR_NOMEM, "emulator: no memory to watch %zu bytes for races", m->bytes);
    m->shadow = shadow;
    return 0;
}

void emulator_drop_shadows(struct emulator *e)
{
    pthread_mutex_lock(&e->lock);
    for (struct gpu_memory *m = e->memory; m; m = m->next)
        drop_shadow(m);
    pthread_mutex_unlock(&e->lock);
}
