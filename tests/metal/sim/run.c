/* Dispatches on the emulator's cores: two system threads share the groups of each. Every access to an
 * operand passes through here, so that what a dispatch touches is known exactly. */
#include "run.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "../../../kernels/emulator/core.h"
#include "../../../kernels/emulator/driver.h"

#define CORES 2
#define NOTED (1u << 31) /* beside the emulator's own EMULATOR_… bits */

struct sim_core {
    struct emulator_core *core;
    struct sim_range touched[EMULATOR_OPERANDS][2]; /* read, written */
};

static struct sim_core cores[CORES];
static _Thread_local struct sim_core *here;

/* The dispatch under way. */
static struct {
    struct emulator_dispatch dispatch;
    uint32_t groups, next, runs;
    bool failed;
} run;

/* The linker gives every call of emulator_access to the first and the function itself to the second. */
void __wrap_emulator_access(const struct emulator_memory *, const void *p, size_t size, size_t element,
                            bool write);
void __real_emulator_access(const struct emulator_memory *, const void *p, size_t size, size_t element,
                            bool write);

void __wrap_emulator_access(const struct emulator_memory *m, const void *p, size_t size, size_t element,
                            bool write)
{
    size_t at = (size_t)((const char *)p - m->base);
    bool inside = m->base && at < m->bytes && m->bytes - at >= size;
    if (here && inside && (m->slow_read & NOTED)) {
        struct sim_range *touched = &here->touched[m - here->core->operand][write];
        if (touched->end == 0 || at < touched->begin)
            touched->begin = at;
        if (at + size > touched->end)
            touched->end = at + size;
    }
    if (!inside || ((write ? m->slow_write : m->slow_read) & ~NOTED))
        __real_emulator_access(m, p, size, element, write);
}

static void run_groups(struct sim_core *core)
{
    here = core;
    memset(core->touched, 0, sizeof core->touched);
    core->core->err.code = 0;
    const uint32_t *grid = run.dispatch.grid;
    for (;;) {
        uint32_t i = __atomic_fetch_add(&run.next, 1, __ATOMIC_RELAXED);
        if (i >= run.groups || __atomic_load_n(&run.failed, __ATOMIC_RELAXED))
            break;
        uint32_t group[3] = {i % grid[0], i / grid[0] % grid[1], i / grid[0] / grid[1]};
        if (core_run(core->core, &run.dispatch, group, i) < 0)
            __atomic_store_n(&run.failed, true, __ATOMIC_RELAXED);
    }
    here = NULL;
}

static void *helper(void *core)
{
    run_groups(core);
    return NULL;
}

static void merge(struct sim_range *into, const struct sim_range *from)
{
    if (from->end == 0)
        return;
    if (into->end == 0 || from->begin < into->begin)
        into->begin = from->begin;
    if (from->end > into->end)
        into->end = from->end;
}

bool sim_run(const struct emulator_kernel *kernel, const uint32_t grid[3], const void *args,
             struct sim_argument *arguments, char *message, size_t message_bytes)
{
    struct err err = {0};
    for (int i = 0; i < CORES; i++) {
        if (!cores[i].core && core_create(&cores[i].core, &err) < 0) {
            snprintf(message, message_bytes, "%s", err.text);
            return false;
        }
    }
    run.dispatch = (struct emulator_dispatch){.kernel = kernel,
                                              .args = args,
                                              .grid = {grid[0], grid[1], grid[2]},
                                              .shared_limit = EMULATOR_METAL_SHARED,
                                              .launches_early = true}; /* no such thing here: whoever likes */
    run.groups = grid[0] * grid[1] * grid[2];
    run.next = 0;
    run.failed = false;
    static char names[EMULATOR_OPERANDS][16];
    for (int i = 0; i < kernel->operands; i++) {
        unsigned noted = arguments[i].read_only ? 0 : NOTED;
        snprintf(names[i], sizeof names[i], "buffer %d", i);
        run.dispatch.operand[i] = (struct emulator_memory){
            .base = arguments[i].memory, .bytes = arguments[i].bytes, .name = names[i], .slow_read = noted,
            .slow_write = arguments[i].read_only ? EMULATOR_FORBIDDEN : noted};
    }
    pthread_t thread;
    bool two = run.groups > 1 && pthread_create(&thread, NULL, helper, &cores[1]) == 0;
    run_groups(&cores[0]);
    if (two)
        pthread_join(thread, NULL);
    for (int c = 0; c < 1 + two; c++) {
        for (int i = 0; i < kernel->operands; i++) {
            merge(&arguments[i].read, &cores[c].touched[i][0]);
            merge(&arguments[i].written, &cores[c].touched[i][1]);
        }
        if (cores[c].core->err.code)
            snprintf(message, message_bytes, "%s", cores[c].core->err.text);
    }
    return !run.failed;
}

void sim_run_end(void)
{
    for (int i = 0; i < CORES; i++) {
        core_free(cores[i].core);
        cores[i].core = NULL;
    }
}

static const struct emulator_kernel *const *const typed[] = {
#define GPU_WEIGHT(name, dtype, split) emulator_typed_##name,
#include "../../../kernels/gpu/weights.def"
#undef GPU_WEIGHT
};

const struct emulator_kernel *sim_function(const char *name, const char *weight)
{
    for (int i = 0; i < GPU_PROGRAM_COUNT; i++) {
        const struct gpu_program_info *program = &gpu_programs[i];
        size_t n = strlen(program->name);
        if (program->typed != (weight != NULL) || strncmp(name, program->name, n) != 0)
            continue;
        if (!weight && !name[n])
            return emulator_plain[i];
        if (!weight || name[n] != '_' || strcmp(name + n + 1, weight) != 0)
            continue;
        for (int w = 0; w < GPU_WEIGHT_COUNT; w++)
            if (!strcmp(weight, gpu_weight_names[w]))
                return typed[w][i];
    }
    return NULL;
}
