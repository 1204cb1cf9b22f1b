/* backend_cpu: opens the pool, keeps memory, and runs submitted commands on all threads. */
#include <string.h>

#include "../host.h"
#include "../lifetime.h"
#include "cpu.h"

static const struct isa *const isas[] = {
#if defined(__x86_64__)
    &isa_avx512amx,
    &isa_avx512vnni,
    &isa_avx2,
#elif defined(__aarch64__)
    &isa_i8mm,
    &isa_neon,
#endif
    &isa_plain,
#if defined(CPU_AMX_EMULATED)
    &isa_avx512amx_emulated, /* only by name, for tests */
#endif
};

static const struct isa *isa_find(const char *name)
{
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        if ((!name || !strcmp(name, isas[i]->name)) && isas[i]->supported())
            return isas[i];
    return NULL;
}

static void cpu_close(struct device *device)
{
    struct cpu *cpu = device->state;
    pool_close(cpu->pool);
    for (int i = 0; cpu->own && i < cpu->threads; i++)
        free(cpu->own[i]);
    free(cpu->own);
    free(cpu->shared);
    free(cpu->angles);
    free(cpu->next);
    free(cpu->work);
    free(cpu);
}

static int cpu_open(struct device *device, const struct device_options *options, struct err *err)
{
    const struct isa *isa = isa_find(options->isa);
    if (!isa)
        return err_set(err, ERR_UNSUPPORTED, "this machine or build has no instruction set \"%s\"",
                       options->isa);
    if (options->threads < 0 || options->threads > 1024)
        return err_set(err, ERR_INVALID, "%d threads: must be 0 (automatic) to 1024", options->threads);
    if (options->kv_type && options->kv_type != DTYPE_F16 && options->kv_type != DTYPE_Q8_0)
        return err_set(err, ERR_INVALID, "the CPU device keeps KV as F16 or Q8_0");
    struct cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        return err_set(err, ERR_NOMEM, "out of memory for the CPU device");
    cpu->isa = isa;
    cpu->threads = options->threads ? options->threads : pool_default_threads();
    cpu->own = calloc((size_t)cpu->threads, sizeof *cpu->own);
    int rc = cpu->own ? pool_open(&cpu->pool, cpu->threads, err) : err_set(err, ERR_NOMEM, "out of memory");
    if (rc < 0) {
        free(cpu->own);
        free(cpu);
        return rc;
    }
    device->state = cpu;
    struct device_info *info = &device->info;
    snprintf(info->name, sizeof info->name, "cpu");
    snprintf(info->description, sizeof info->description, "%s, %d thread%s", isa->label, cpu->threads,
             cpu->threads == 1 ? "" : "s");
    info->threads = cpu->threads;
    info->kv_type = options->kv_type ? options->kv_type : DTYPE_F16;
    return 0;
}

struct packing_job {
    struct packed *weight;
    const uint8_t *data;
    size_t first, last; /* tiles */
    int threads;
};

static void pack_share(void *context, int thread)
{
    struct packing_job *job = context;
    size_t tiles = job->last - job->first, n = (size_t)job->threads, i = (size_t)thread;
    pack_tiles(job->weight, job->data, job->first + tiles * i / n, job->first + tiles * (i + 1) / n);
}

static void cpu_fill(struct buffer *b, size_t rows)
{
    struct cpu *cpu = b->device->state;
    size_t end = b->filled + rows;
    struct packing_job job = {b->memory, b->source, b->filled / TILE, end / TILE + (end % TILE != 0), cpu->threads};
    pool_run(cpu->pool, pack_share, &job);
}

static size_t tile_bytes(enum dtype dtype, size_t columns)
{
    const struct packing *k = &packings[dtype];
    return k->bits ? columns / dtype_block(dtype) * packed_super_bytes(k) : columns * TILE * dtype_block_bytes(dtype);
}

static size_t cpu_weight_bytes(enum dtype dtype, size_t rows, size_t columns, unsigned use)
{
    if (!(use & WEIGHT_MATMUL))
        return dtype_bytes(dtype, rows * columns);
    return (rows / TILE + (rows % TILE != 0)) * tile_bytes(dtype, columns);
}

static int cpu_weight(struct buffer *b, const void *data, unsigned use, struct err *err)
{
    struct cpu *cpu = b->device->state;
    struct packed *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ERR_NOMEM, "out of memory for a weight");
    *w = (struct packed){.dtype = b->dtype, .rows = b->rows, .columns = b->columns};
    w->tiles = b->rows / TILE + (b->rows % TILE != 0);
    b->memory = w;
    b->bytes = sizeof *w;
    if (!(use & WEIGHT_MATMUL)) { /* rows are read where they are */
        w->raw = data;
        b->copied = false;
        return 0;
    }
    size_t bytes;
    w->tile_bytes = tile_bytes(b->dtype, b->columns);
    if (__builtin_mul_overflow(w->tiles, w->tile_bytes, &bytes) || !(w->data = arena_take(&cpu->weights, bytes))) {
        free(w);
        return err_set(err, ERR_NOMEM, "out of memory for a weight of %zu by %zu", b->rows, b->columns);
    }
    b->bytes += bytes;
    b->copied = true;
    b->source = data;
    return 0;
}

static void cpu_free(struct buffer *b)
{
    struct cpu *cpu = b->device->state;
    if (!b->rows) {
        host_free(b);
        return;
    }
    arena_give(&cpu->weights, ((struct packed *)b->memory)->data);
    free(b->memory);
}

static int grow(unsigned char **memory, size_t bytes, struct err *err)
{
    free(*memory);
    *memory = host_memory(bytes);
    return *memory ? 0 : err_set(err, ERR_NOMEM, "out of memory for %zu bytes of scratch", bytes);
}

static int make_room(struct cpu *cpu, int commands, struct err *err)
{
    if (commands <= cpu->capacity)
        return 0;
    free(cpu->next);
    free(cpu->work);
    cpu->next = malloc((size_t)commands * sizeof *cpu->next);
    cpu->work = malloc((size_t)commands * sizeof *cpu->work);
    cpu->capacity = cpu->next && cpu->work ? commands : 0;
    return cpu->capacity ? 0 : err_set(err, ERR_NOMEM, "out of memory for %d commands", commands);
}

/* Puts a norm and a SwiGLU to the matmul between them: both save a pass over memory and a barrier. */
static void join_commands(struct cpu *cpu, bool whole)
{
    struct recorded list = {cpu->command, cpu->commands, whole};
    cpu->works = 0;
    for (int i = 0; i < list.n; i++) {
        struct work w = {.command = i};
        if (recorded_is(&list, i, OPERATOR_rms_norm) && recorded_norm_joins(&list, i) &&
            cpu_matmul_joins(&list.command[i + 1]))
            w = (struct work){.command = i + 1, .norm = &list.command[i]};
        if (recorded_is(&list, w.command, OPERATOR_matmul) && recorded_swiglu_joins(&list, w.command) &&
            cpu_matmul_joins(&list.command[w.command]))
            w.swiglu = &list.command[w.command + 1];
        i = w.command + (w.swiglu != NULL);
        cpu->work[cpu->works++] = w;
    }
}

/* Makes all scratch that the work needs; after a few steps nothing is left to allocate. */
static int reserve(struct cpu *cpu, struct err *err)
{
    struct scratch most = {0};
    for (int i = 0; i < cpu->works; i++) {
        const struct command *c = &cpu->command[cpu->work[i].command];
        struct scratch need = {0};
        if (c->op == OPERATOR_matmul)
            matmul_scratch(cpu, &cpu->work[i], &need);
        else if (c->op == OPERATOR_attention)
            attention_needs(cpu, c, &need);
        else if (c->op == OPERATOR_rope_kv)
            need.angles = (size_t)c->args.rope_kv.rows * (size_t)c->args.rope_kv.rope_dim * sizeof(float);
        else if (c->op == OPERATOR_sample)
            need.own = sample_floats(c) * sizeof(float);
        most.own = need.own > most.own ? need.own : most.own;
        most.shared = need.shared > most.shared ? need.shared : most.shared;
        most.angles = need.angles > most.angles ? need.angles : most.angles;
    }
    int rc = 0;
    if (most.own > cpu->own_bytes) {
        cpu->own_bytes = 0;
        for (int i = 0; i < cpu->threads && rc == 0; i++)
            rc = grow(&cpu->own[i], most.own, err);
        cpu->own_bytes = rc == 0 ? most.own : 0;
    }
    if (rc == 0 && most.shared > cpu->shared_bytes) {
        rc = grow(&cpu->shared, most.shared, err);
        cpu->shared_bytes = rc == 0 ? most.shared : 0;
    }
    if (rc == 0 && most.angles > cpu->angles_bytes) {
        rc = grow((unsigned char **)(void *)&cpu->angles, most.angles, err);
        cpu->angles_bytes = rc == 0 ? most.angles : 0;
    }
    return rc;
}

/* Every thread walks the list; the barrier after each piece of work makes its results seen. */
static void run_commands(void *context, int thread)
{
    struct device *device = context;
    struct cpu *cpu = device->state;
    bool profiling = thread == 0 && device->profiling;
    double before = profiling ? host_now() : 0, done = 0;
    for (int i = 0; i < cpu->works; i++) {
        int command = cpu->work[i].command;
        enum operator op = cpu->command[command].op;
        if (thread == 0)
            device_enter(device, &cpu->command[command]);
        if (op == OPERATOR_COUNT) {
            if (thread == 0)
                host_copy(&cpu->command[command]);
        } else if (op == OPERATOR_matmul)
            cpu_matmul(cpu, &cpu->work[i], thread);
        else if (op == OPERATOR_attention)
            cpu_attention(cpu, command, thread);
        else
            cpu_rows(cpu, command, thread);
        if (profiling)
            done = host_now();
        if (i + 1 < cpu->works) /* the pool has the last one */
            pool_barrier(cpu->pool);
        if (profiling) {
            double after = host_now();
            profile_add(device, &cpu->command[command], after - before, after - done);
            before = after;
        }
    }
}

static int cpu_submit(struct device *device, const struct command *list, int n, bool whole, uint64_t *ticket,
                      struct err *err)
{
    struct cpu *cpu = device->state;
    *ticket = 0;
    int rc = make_room(cpu, n, err);
    if (rc < 0)
        return rc;
    cpu->command = list;
    cpu->commands = n;
    join_commands(cpu, whole);
    rc = reserve(cpu, err);
    if (rc < 0)
        return rc;
    for (int i = 0; i < n; i++)
        atomic_store_explicit(&cpu->next[i], 0, memory_order_relaxed);
    pool_run(cpu->pool, run_commands, device);
    device_enter(device, NULL);
    return 0;
}

static void cpu_idle(struct device *device)
{
    struct cpu *cpu = device->state;
    pool_park(cpu->pool);
}

const struct backend backend_cpu = {
    .open = cpu_open, .close = cpu_close, .alloc = host_alloc, .weight = cpu_weight,
    .fill = cpu_fill, .fill_rows = TILE, .weight_bytes = cpu_weight_bytes, .free = cpu_free,
    .view = host_view, .read = host_read, .write = host_write, .submit = cpu_submit, .wait = host_wait,
    .idle = cpu_idle, .bandwidth = cpu_bandwidth, .int8_rate = cpu_int8_rate,
};
