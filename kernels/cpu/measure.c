/* What this machine reaches at most: reading memory, and multiplying what lies in the first cache. */
#include <string.h>

#include "../host.h"
#include "cpu.h"

enum { MEASUREMENTS = 5, PANEL = 16 /* blocks */ };

struct reading {
    const struct cpu *cpu;
    const char *memory;
    size_t bytes;
    atomic_ullong seen; /* so that no reading can be left out */
};

static void read_share(void *context, int thread)
{
    struct reading *r = context;
    size_t share = r->bytes / (size_t)r->cpu->threads / 4096 * 4096;
    atomic_fetch_xor(&r->seen, r->cpu->isa->read(r->memory + share * (size_t)thread, share));
}

double cpu_bandwidth(struct device *device, size_t bytes)
{
    struct cpu *cpu = device->state;
    void *memory = host_memory(bytes);
    double best = 0;
    if (!memory)
        return 0;
    memset(memory, 1, bytes);
    for (int i = 0; i < MEASUREMENTS; i++) {
        struct reading r = {.cpu = cpu, .memory = memory, .bytes = bytes};
        double start = host_now();
        pool_run(cpu->pool, read_share, &r);
        double rate = (double)(bytes / (size_t)cpu->threads / 4096 * 4096 * (size_t)cpu->threads) /
                      (host_now() - start);
        best = rate > best ? rate : best;
    }
    free(memory);
    return best;
}

struct multiplying {
    const struct cpu *cpu;
    unsigned char *memory; /* [threads][each] */
    size_t each;
    long rounds;
};

/* The next `bytes` of `memory`, which is NULL where only the size is asked for. */
static void *place(unsigned char *memory, size_t *at, size_t bytes)
{
    void *here = memory ? memory + *at : NULL;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

/* A panel of 4-bit weights times one group of rows, all zero. Returns the bytes that they take. */
static size_t lay_out(const struct dot_kernels *d, unsigned char *memory, struct dot *a)
{
    size_t tiles = (size_t)d->tiles, group = (size_t)d->group, at = 0;
    *a = (struct dot){.blocks = PANEL,
                      .next_values = PANEL * (size_t)d->panel_block,
                      .next_floats = PANEL * TILE};
    a->weights = place(memory, &at, tiles * a->next_values);
    a->scale = place(memory, &at, tiles * a->next_floats * sizeof(float));
    a->sum = place(memory, &at, tiles * group * TILE * sizeof(float));
    a->q = place(memory, &at, PANEL * group * ACTIVATION_BYTES);
    a->extra = place(memory, &at, PANEL * group * sizeof(uint32_t));
    return at;
}

static void multiply_share(void *context, int thread)
{
    const struct multiplying *m = context;
    const struct dot_kernels *d = m->cpu->isa->dot;
    struct dot a;
    lay_out(d, m->memory + m->each * (size_t)thread, &a);
    for (long i = 0; i < m->rounds; i++)
        d->panel_tiles(DTYPE_Q4_0, d->group, d->tiles, &a);
}

double cpu_int8_rate(struct device *device)
{
    struct cpu *cpu = device->state;
    const struct dot_kernels *d = cpu->isa->dot;
    struct dot a;
    struct multiplying m = {.cpu = cpu, .rounds = 100};
    m.each = lay_out(d, NULL, &a);
    m.memory = host_memory(m.each * (size_t)cpu->threads);
    if (!m.memory)
        return 0;
    memset(m.memory, 0, m.each * (size_t)cpu->threads);
    double best = 0, round = 2.0 * PANEL * BLOCK * TILE * d->tiles * d->group * cpu->threads;
    for (int i = 0; i < MEASUREMENTS; i++) {
        double start = host_now();
        pool_run(cpu->pool, multiply_share, &m);
        double rate = round * (double)m.rounds / (host_now() - start);
        best = rate > best ? rate : best;
        m.rounds = (long)(0.02 * best / round) + 1; /* a fiftieth of a second */
    }
    free(m.memory);
    return best;
}
