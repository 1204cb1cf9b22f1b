/* One step of a list: a kernel with its operands and their rules, or a copy. */
#include <string.h>
#include <time.h>

#include "state.h"

static const struct emulator_kernel *const *const typed[] = {
#define GPU_WEIGHT(name, dtype, split) emulator_typed_##name,
#include "../gpu/weights.def"
#undef GPU_WEIGHT
};

static const bool split[] = {
#define GPU_WEIGHT(name, dtype, is_split) is_split,
#include "../gpu/weights.def"
#undef GPU_WEIGHT
};

static bool overlap(const struct gpu_operand *a, const struct gpu_operand *b)
{
    return a->memory && a->memory == b->memory && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes;
}

static const struct emulator_kernel *find_kernel(const struct emulator *e, const struct gpu_step *step)
{
    unsigned program = step->program;
    if (program >= GPU_PROGRAM_COUNT)
        return program - GPU_PROGRAM_COUNT < (unsigned)e->n_planted ? e->planted[program - GPU_PROGRAM_COUNT]
                                                                    : NULL;
    if (gpu_programs[program].typed)
        return step->weight < GPU_WEIGHT_COUNT ? typed[step->weight][program] : NULL;
    return emulator_plain[program];
}

/* What steps that may still run do with the memory of operand o. */
static void bind_early(const struct emulator *e, const struct gpu_operand *o, struct emulator_memory *m)
{
    for (int b = 0; b < e->n_before; b++) {
        const struct gpu_step *before = &e->before[b];
        for (uint32_t k = 0; k < before->n_operands; k++) {
            if (!overlap(o, &before->operand[k]))
                continue;
            m->before = before->kind == GPU_DISPATCH ? find_kernel(e, before)->name : "a copy";
            m->slow_write |= EMULATOR_EARLY;
            if (before->operand[k].written)
                m->slow_read |= EMULATOR_EARLY;
        }
    }
}

/* How the threads may use operand i: the rules besides its bounds. */
static int bind(struct emulator *e, const struct gpu_step *step, uint32_t i, struct emulator_memory *m,
                struct err *err)
{
    const struct gpu_operand *o = &step->operand[i];
    *m = (struct emulator_memory){.name = o->name ? o->name : "operand"};
    if (!o->memory)
        return 0;
    m->base = o->memory->base + o->offset;
    m->bytes = o->bytes;
    m->origin = o->memory->base;
    if (!o->written)
        m->slow_write |= EMULATOR_FORBIDDEN;
    bool races = false;
    for (uint32_t k = 0; k < step->n_operands && e->races; k++)
        races |= step->operand[k].written && overlap(o, &step->operand[k]);
    if (races) {
        int rc = emulator_make_shadow(o->memory, err);
        if (rc < 0)
            return rc;
        m->shadow = o->memory->shadow;
        m->slow_read |= EMULATOR_RACES;
        m->slow_write |= EMULATOR_RACES;
    }
    bind_early(e, o, m);
    return 0;
}

/* Operand i, where the kernel must write all of it and does not read it. */
static bool must_write(const struct gpu_step *step, uint32_t i)
{
    const struct gpu_operand *o = &step->operand[i];
    for (uint32_t k = 0; k < step->n_operands; k++)
        if (k != i && overlap(o, &step->operand[k]))
            return false;
    return o->memory && o->written && o->whole;
}

static int check_written(const struct emulator_memory *m, const char *kernel, struct err *err)
{
    for (size_t i = 0; i + 4 <= m->bytes; i += 4)
        if (!memcmp(m->base + i, &(uint32_t){EMULATOR_POISON}, 4))
            return err_set(err, ERR_DEVICE, "%s: %s is not written from byte %zu of %zu", kernel, m->name, i,
                           m->bytes);
    return 0;
}

static int check_operands(struct emulator *e, const struct gpu_step *step, const char *name, struct err *err)
{
    for (uint32_t i = 0; i < step->n_operands; i++) {
        const struct gpu_operand *o = &step->operand[i];
        pthread_mutex_lock(&e->lock);
        const struct gpu_memory *m = e->memory;
        while (m && m != o->memory)
            m = m->next;
        pthread_mutex_unlock(&e->lock);
        if (o->memory &&
            (!m || o->offset > m->bytes || o->bytes > m->bytes - o->offset || (o->written && m->wrapped)))
            return err_set(err, ERR_DEVICE, "emulator: %s: operand %s is no part of the device's memory",
                           name, o->name);
    }
    return 0;
}

int emulator_check_step(struct emulator *e, const struct gpu_step *step, struct err *err)
{
    if (step->kind != GPU_DISPATCH)
        return check_operands(e, step, "copy", err);
    const struct emulator_kernel *kernel = find_kernel(e, step);
    if (!kernel)
        return err_set(err, ERR_DEVICE, "emulator: no kernel of number %d", (int)step->program);
    if (step->args_bytes != kernel->args_bytes)
        return err_set(err, ERR_DEVICE, "emulator: %s: %u bytes of arguments, %zu wanted", kernel->name,
                       step->args_bytes, kernel->args_bytes);
    if (step->n_operands != (uint32_t)kernel->operands)
        return err_set(err, ERR_DEVICE, "emulator: %s: %u operands, %d wanted", kernel->name,
                       step->n_operands, kernel->operands);
    if (kernel->threads < 32 || kernel->threads > EMULATOR_THREADS || kernel->threads % 32)
        return err_set(err, ERR_DEVICE, "emulator: %s: groups of %d threads", kernel->name, kernel->threads);
    uint64_t groups = 1;
    for (int i = 0; i < 3; i++)
        groups = groups * step->grid[i] < SHADOW_RUNS / 4 ? groups * step->grid[i] : 0;
    if (groups == 0)
        return err_set(err, ERR_DEVICE, "emulator: %s: a grid of %u x %u x %u", kernel->name, step->grid[0],
                       step->grid[1], step->grid[2]);
    return check_operands(e, step, kernel->name, err);
}

double emulator_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* That step may still run when the next one begins; what it waited for, only if it launches that one early. */
static void remember(struct emulator *e, const struct gpu_step *step)
{
    if (!step->launches_early)
        e->n_before = 0;
    if (e->n_before == EMULATOR_BEFORE)
        memmove(e->before, e->before + 1, (size_t)--e->n_before * sizeof *e->before);
    e->before[e->n_before++] = *step;
}

static int run_dispatch(struct emulator *e, const struct gpu_step *step, struct err *err)
{
    const struct emulator_kernel *kernel = find_kernel(e, step);
    int rc = 0;
    uint32_t groups = step->grid[0] * step->grid[1] * step->grid[2];
    if (groups >= SHADOW_RUNS - e->run) { /* the numbers begin anew */
        emulator_drop_shadows(e);
        e->run = 1;
    }
    bool typed_split =
        step->program < GPU_PROGRAM_COUNT && gpu_programs[step->program].typed && split[step->weight];
    struct emulator_dispatch d = {.kernel = kernel,
                                  .args = step->args,
                                  .first_run = e->run,
                                  .races = e->races,
                                  .shared_limit = typed_split ? EMULATOR_SHARED : EMULATOR_METAL_SHARED,
                                  .launches_early = step->launches_early};
    memcpy(d.grid, step->grid, sizeof d.grid);
    for (uint32_t i = 0; i < step->n_operands && rc == 0; i++)
        rc = bind(e, step, i, &d.operand[i], err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < step->n_operands; i++)
        if (must_write(step, i)) /* what is left out shows, here and wherever it is read */
            emulator_poison(d.operand[i].base, d.operand[i].bytes);
    e->run += groups;
    double begin = emulator_now();
    rc = emulator_pool_run(e->pool, &d, e->seed++, err);
    for (uint32_t i = 0; i < step->n_operands && rc == 0; i++)
        if (must_write(step, i))
            rc = check_written(&d.operand[i], kernel->name, err);
    if (step->op < OPERATOR_COUNT) {
        pthread_mutex_lock(&e->lock);
        e->profile[step->op] += emulator_now() - begin;
        pthread_mutex_unlock(&e->lock);
    }
    remember(e, step);
    return rc;
}

/* Copies wait for what is before them. */
static int run_copy(struct emulator *e, const struct gpu_step *step, char **result, struct err *err)
{
    const struct gpu_operand *o = &step->operand[0];
    char *at = o->memory->base + o->offset;
    remember(e, step);
    if (step->kind == GPU_UPLOAD) {
        memcpy(at, step->host, o->bytes);
        return 0;
    }
    *result = malloc(o->bytes ? o->bytes : 1);
    if (!*result)
        return err_set(err, ERR_NOMEM, "emulator: no memory for a copy of %zu bytes", o->bytes);
    memcpy(*result, at, o->bytes);
    return 0;
}

int emulator_run_step(struct emulator *e, const struct gpu_step *step, char **result, struct err *err)
{
    return step->kind == GPU_DISPATCH ? run_dispatch(e, step, err) : run_copy(e, step, result, err);
}
