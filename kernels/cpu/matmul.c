/* Matrix multiplication: quantises the input once for all segments, then deals out tiles.
 *
 * A piece of work is some tiles times some groups of rows. Few rows read the packed tiles
 * directly; for many a tile is unpacked, a part of its columns at a time, and that panel serves
 * all groups from the cache. */
#include <string.h>

#include "cpu.h"

#define PANEL_BLOCKS 32  /* of a panel; a multiple of every super-block */
#define PANEL_TILES 4    /* tiles that are unpacked together, at most */
#define PANEL_ROWS 256   /* about so many rows share a panel */
#define PRIVATE_ELEMENTS 8192 /* up to so many inputs every thread quantises for itself */

struct segment {
    const struct packed *weight;
    int column; /* of the matmul's outputs */
    int kind;   /* of the activation's extra values */
    int units;  /* pieces of work over tiles */
};

/* A matmul laid out for the pool. */
struct plan {
    const struct cpu *cpu;
    const struct command *norm; /* makes x of what `x` points at, row by row; or NULL */
    const float *x, *bias, *add;
    float *y;
    int rows, in, out, segments;
    int passes; /* 2: the activations' rounding errors are multiplied as well */
    bool pair;  /* y = silu(first segment) * second, and both are worked on together */
    struct segment segment[SEGMENTS];
    struct activation activation;
    bool quantised, private;
    bool direct; /* packed tiles are read as they are, rather than through panels */
    int dealt;    /* segments that pieces of work are made of: of a pair, the first brings the second */
    size_t tiles; /* of these */
    /* Of panels: */
    int group_units, groups_each; /* pieces over groups, groups of a piece */
    int tiles_each, units;
};

static const struct packed *weight_of(const struct command *c, int i)
{
    return c->buffer[1 + i] ? c->buffer[1 + i]->memory : NULL;
}

bool cpu_matmul_joins(const struct command *c)
{
    for (int i = 0; i < SEGMENTS && weight_of(c, i); i++)
        if (!packings[weight_of(c, i)->dtype].bits)
            return false;
    return true;
}

static size_t aligned(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* The next `bytes` of `memory`, which is NULL where only the size is asked for. */
static void *place(unsigned char *memory, size_t *at, size_t bytes)
{
    void *here = memory ? memory + *at : NULL;
    *at += aligned(bytes);
    return here;
}

/* Lays the activation's arrays out from `memory` on; returns the bytes they take. */
static size_t place_activation(struct activation *a, bool wide, unsigned char *memory)
{
    size_t cells = (size_t)a->rows * (size_t)a->blocks, at = 0;
    a->row_scale = place(memory, &at, (size_t)a->rows * sizeof *a->row_scale);
    a->q = place(memory, &at, cells * ACTIVATION_BYTES);
    a->wide = wide ? place(memory, &at, cells * WIDE_ELEMENTS * sizeof *a->wide) : NULL;
    for (int i = 0; i < a->kinds; i++)
        a->extra[i] = place(memory, &at, cells * (size_t)extra_words(a->packing[i]) * sizeof *a->extra[i]);
    return at;
}

/* Types whose extra values are the same share them. */
static int kind_of(struct activation *a, const struct packing *k)
{
    for (int i = 0; i < a->kinds; i++) {
        const struct packing *p = a->packing[i];
        if (p->offset == k->offset && p->subs == k->subs && p->minimum == k->minimum &&
            is_byte_wide(p) == is_byte_wide(k))
            return i;
    }
    a->packing[a->kinds] = k;
    return a->kinds++;
}

/* Floats from a panel's tile to the next: scales, then minima. */
#define PANEL_FLOATS (2 * PANEL_BLOCKS * 2 * TILE)

static int panel_rows(int rows)
{
    return rows < PANEL_ROWS + GROUP_MAX ? rows : PANEL_ROWS + GROUP_MAX;
}

/* Per thread: rows of a group before they are quantised, then sums [groups][tiles][T][16] and a panel of
 * one tile after the other. */
static size_t own_bytes(const struct dot_kernels *d, int rows, int in)
{
    size_t sums = (size_t)(panel_rows(rows) + GROUP_MAX) * PANEL_TILES * TILE * sizeof(float);
    size_t panels = PANEL_TILES * ((size_t)PANEL_BLOCKS * (size_t)d->panel_block + PANEL_FLOATS * sizeof(float));
    size_t normed = (size_t)(rows < GROUP_MAX ? rows : GROUP_MAX) * (size_t)in * sizeof(float);
    return aligned(sums + panels > normed ? sums + panels : normed);
}

/* Whether the input is so small that a barrier costs more than quantising it once per thread. */
static bool is_private(const struct cpu *cpu, const struct matmul_args *m)
{
    return cpu->threads == 1 || (size_t)m->rows * (size_t)m->in <= PRIVATE_ELEMENTS;
}

/* How many tiles a piece of work on panels has: a few pieces for every thread, to even out. */
static int panel_share(const struct plan *p)
{
    int most = p->pair ? PANEL_TILES / 2 : PANEL_TILES;
    int share = (int)(p->tiles * (size_t)p->group_units / (size_t)(p->cpu->threads * 4));
    share = round_up(share < 1 ? 1 : share, p->cpu->isa->dot->tiles);
    return share < most ? share : most;
}

static size_t make_plan(struct plan *p, const struct cpu *cpu, const struct work *w, unsigned char *memory)
{
    const struct command *c = &cpu->command[w->command];
    const struct matmul_args *m = &c->args.matmul;
    const struct dot_kernels *d = cpu->isa->dot;
    *p = (struct plan){.cpu = cpu, .norm = w->norm, .pair = w->swiglu != NULL, .rows = m->rows, .in = m->in};
    p->x = (w->norm ? w->norm : c)->buffer[0]->memory;
    p->y = w->swiglu ? w->swiglu->buffer[1]->memory : c->buffer[6]->memory;
    p->bias = c->buffer[4] ? c->buffer[4]->memory : NULL;
    p->add = c->buffer[5] ? c->buffer[5]->memory : NULL;
    struct activation *a = &p->activation;
    p->passes = m->precise ? 2 : 1;
    *a = (struct activation){.rows = m->rows, .columns = m->in, .blocks = m->in / BLOCK * p->passes};
    p->direct = m->rows < d->panels;
    int group = p->direct ? d->direct : d->group;
    a->run = p->direct ? 4 : d->run;
    a->groups = (m->rows + group - 1) / group;

    bool wide = false;
    for (int i = 0; i < SEGMENTS && weight_of(c, i); i++) {
        const struct packed *weight = weight_of(c, i);
        struct segment *s = &p->segment[p->segments++];
        *s = (struct segment){.weight = weight, .column = p->out};
        p->out += (int)weight->rows;
        const struct packing *k = &packings[weight->dtype];
        if (k->bits) {
            s->kind = kind_of(a, k);
            p->quantised = true;
            wide |= d->wide && is_byte_wide(k);
        }
    }
    p->private = is_private(cpu, m);
    p->dealt = p->pair ? 1 : p->segments;
    for (int i = 0; i < p->dealt; i++)
        p->tiles += p->segment[i].weight->tiles;
    p->groups_each = PANEL_ROWS / d->group + 1;
    p->group_units = (a->groups + p->groups_each - 1) / p->groups_each;
    p->tiles_each = panel_share(p);
    for (int i = 0; i < p->dealt; i++) {
        p->segment[i].units = ((int)p->segment[i].weight->tiles + p->tiles_each - 1) / p->tiles_each;
        p->units += p->segment[i].units * p->group_units;
    }
    return p->quantised ? place_activation(a, wide, memory) : 0;
}

void matmul_scratch(const struct cpu *cpu, const struct work *w, struct scratch *need)
{
    struct plan p;
    size_t activation = make_plan(&p, cpu, w, NULL);
    need->own = own_bytes(cpu->isa->dot, p.rows, p.in) + (p.private ? activation : 0);
    need->shared = p.private ? 0 : activation;
}

/* Quantises group g; `normed` is room for its rows. */
static void quantise(const struct plan *p, int g, float *normed)
{
    int first = group_start(p->rows, p->activation.groups, g);
    int T = group_start(p->rows, p->activation.groups, g + 1) - first;
    size_t in = (size_t)p->in;
    const float *x = p->x + (size_t)first * in;
    if (p->norm) {
        for (int t = 0; t < T; t++)
            p->cpu->isa->rms_norm(x + (size_t)t * in, p->norm->buffer[1]->memory, p->norm->args.rms_norm.eps,
                                  p->in, normed + (size_t)t * in);
        x = normed;
    }
    p->cpu->isa->quantise(&p->activation, x, g);
}

static void point_at(const struct plan *p, int s, int group, int block, struct dot *a)
{
    const struct activation *x = &p->activation;
    int first = group_start(x->rows, x->groups, group), kind = p->segment[s].kind,
        T = group_start(x->rows, x->groups, group + 1) - first;
    size_t at = (size_t)first * (size_t)x->blocks + (size_t)block * (size_t)T;
    a->q = x->q + at * ACTIVATION_BYTES;
    a->wide = x->wide ? x->wide + at * WIDE_ELEMENTS : NULL;
    a->extra = x->extra[kind] + at * (size_t)extra_words(x->packing[kind]);
}

/* Writes T rows of the sums of `tiles` tiles to the output, from row `first` on. Of a pair the sums of
 * the second segment follow those of the first. */
static void finish_tiles(const struct plan *p, int s, size_t tile, int tiles, int first, int T, const float *sum,
                         const float *scale)
{
    const struct segment *g = &p->segment[s];
    size_t column = (size_t)g->column + tile * TILE, left = g->weight->rows - tile * TILE;
    size_t stride = (size_t)(p->pair ? p->segment[1].column : p->out), at = (size_t)first * stride + column;
    struct finish f = {.sum = sum, .scale = scale, .rows = T, .stride = stride, .y = p->y + at};
    f.n = left < (size_t)tiles * TILE ? (int)left : tiles * TILE;
    f.bias = p->bias ? p->bias + column : NULL;
    f.add = p->add ? p->add + at : NULL;
    if (p->pair) {
        f.up = sum + tiles * T * TILE;
        f.up_bias = p->bias ? p->bias + stride + column : NULL;
    }
    p->cpu->isa->finish(&f);
}

/* One tile times group g of T rows. Both passes of one part of the columns before the next part, as panels
 * have it: the order of an output's sums must not depend on the number of rows. */
static void direct_tile(const struct plan *p, int s, size_t tile, int g, int T, float *sum)
{
    const struct packed *w = p->segment[s].weight;
    const struct packing *k = &packings[w->dtype];
    int blocks = p->in / BLOCK, part = p->passes == 1 ? blocks : PANEL_BLOCKS;
    struct dot a = {.sum = sum};
    for (int block = 0; block < blocks; block += part) {
        a.blocks = blocks - block < part ? blocks - block : part;
        a.weights = w->data + tile * w->tile_bytes + (size_t)(block / k->super) * packed_super_bytes(k);
        for (int pass = 0; pass < p->passes; pass++) {
            point_at(p, s, g, pass * blocks + block, &a);
            a.first = block == 0 && pass == 0;
            p->cpu->isa->dot->direct_tile(w->dtype, T, &a);
        }
    }
}

/* Of a pair some tiles of one segment before those of the other: memory likes long runs. */
static void run_direct(const struct plan *p, int s, size_t first, size_t last, unsigned char *own)
{
    int groups = p->activation.groups, most = p->pair ? PANEL_TILES / 2 : 1;
    for (size_t tile = first; tile < last; tile += (size_t)most) {
        int n = last - tile < (size_t)most ? (int)(last - tile) : most, count = p->pair ? 2 * n : n;
        for (int i = 0; i < count; i++)
            for (int g = 0; g < groups; g++) {
                int row = group_start(p->rows, groups, g), T = group_start(p->rows, groups, g + 1) - row;
                direct_tile(p, s + i / n, tile + (size_t)(i % n), g, T,
                            (float *)(void *)own + (row * count + i * T) * TILE);
            }
        for (int g = 0; g < groups; g++) {
            int row = group_start(p->rows, groups, g), T = group_start(p->rows, groups, g + 1) - row;
            finish_tiles(p, s, tile, n, row, T, (float *)(void *)own + row * count * TILE,
                         p->activation.row_scale + row);
        }
    }
}

/* What run_panel works on: tiles of one segment, or as many of each of a pair. */
struct panels {
    const struct plan *plan;
    int segment;
    size_t first; /* tile */
    int tiles;    /* of each segment */
    int count;    /* in all */
    float *floats;
    uint8_t *values;
};

static struct panel panel_at(const struct panels *s, int i)
{
    float *scale = s->floats + (size_t)i * PANEL_FLOATS;
    return (struct panel){.values = s->values + (size_t)(i * PANEL_BLOCKS * s->plan->cpu->isa->dot->panel_block),
                          .scale = scale, .minimum = scale + PANEL_FLOATS / 2};
}

static void unpack_panels(const struct panels *s, int block, int blocks)
{
    for (int i = 0; i < s->count; i++) {
        const struct packed *w = s->plan->segment[s->segment + i / s->tiles].weight;
        const struct packing *k = &packings[w->dtype];
        const uint8_t *packed = w->data + (s->first + (size_t)(i % s->tiles)) * w->tile_bytes;
        struct panel panel = panel_at(s, i);
        s->plan->cpu->isa->dot->unpack(w->dtype, packed + (size_t)(block / k->super) * packed_super_bytes(k),
                                       blocks, &panel);
    }
}

/* All panels times one group; sum [panels][T][16]. */
static void multiply_group(const struct panels *s, int group, int T, int block, int blocks, float *sum)
{
    const struct plan *p = s->plan;
    const struct dot_kernels *d = p->cpu->isa->dot;
    struct dot a = {.blocks = blocks,
                    .next_values = (size_t)(PANEL_BLOCKS * d->panel_block),
                    .next_floats = PANEL_FLOATS};
    for (int i = 0, together; i < s->count; i += together) {
        int left = s->tiles - i % s->tiles, segment = s->segment + i / s->tiles;
        together = left < d->tiles ? 1 : d->tiles;
        struct panel panel = panel_at(s, i);
        a.weights = panel.values;
        a.scale = panel.scale;
        a.minimum = panel.minimum;
        a.sum = sum + (size_t)(i * T) * TILE;
        for (int pass = 0; pass < p->passes; pass++) {
            point_at(p, segment, group, pass * (p->in / BLOCK) + block, &a);
            a.first = block == 0 && pass == 0;
            d->panel_tiles(p->segment[segment].weight->dtype, T, together, &a);
        }
    }
}

/* Tiles [first, last), at most PANEL_TILES panels, times groups [from, to). */
static void run_panel(const struct plan *p, int s, size_t first, size_t last, int from, int to, unsigned char *own)
{
    int blocks = p->in / BLOCK, groups = p->activation.groups, row0 = group_start(p->rows, groups, from);
    float *sums = (float *)(void *)own;
    struct panels panels = {.plan = p, .segment = s, .first = first, .tiles = (int)(last - first)};
    panels.count = p->pair ? 2 * panels.tiles : panels.tiles;
    panels.floats = sums + (size_t)(panel_rows(p->rows) + GROUP_MAX) * PANEL_TILES * TILE;
    panels.values = (uint8_t *)(panels.floats + PANEL_TILES * PANEL_FLOATS);
    for (int block = 0; block < blocks; block += PANEL_BLOCKS) {
        int n = blocks - block < PANEL_BLOCKS ? blocks - block : PANEL_BLOCKS;
        unpack_panels(&panels, block, n);
        for (int g = from; g < to; g++) {
            int row = group_start(p->rows, groups, g), T = group_start(p->rows, groups, g + 1) - row;
            float *sum = sums + (size_t)(row - row0) * (size_t)panels.count * TILE;
            multiply_group(&panels, g, T, block, n, sum);
            if (block + n == blocks)
                finish_tiles(p, s, first, panels.tiles, row, T, sum, p->activation.row_scale + row);
        }
    }
}

static void run_float(const struct plan *p, int s, size_t first, size_t last, unsigned char *own)
{
    const struct packed *w = p->segment[s].weight;
    static const float scale[FLOAT_ROWS] = {1, 1, 1, 1};
    float *sum = (float *)(void *)own;
    for (size_t tile = first; tile < last; tile++)
        for (int row = 0; row < p->rows; row += FLOAT_ROWS) {
            int T = p->rows - row < FLOAT_ROWS ? p->rows - row : FLOAT_ROWS;
            p->cpu->isa->dot_float(w->dtype, T, w->data + tile * w->tile_bytes, p->in,
                                   p->x + (size_t)row * (size_t)p->in, sum);
            finish_tiles(p, s, tile, 1, row, T, sum, scale);
        }
}

static void run_unit(const struct plan *p, int unit, unsigned char *own)
{
    int s = 0;
    while (unit >= p->segment[s].units * p->group_units)
        unit -= p->segment[s++].units * p->group_units;
    const struct packed *w = p->segment[s].weight;
    int from = unit / p->segment[s].units * p->groups_each, to = from + p->groups_each;
    size_t first = (size_t)(unit % p->segment[s].units) * (size_t)p->tiles_each,
           last = first + (size_t)p->tiles_each;
    last = last < w->tiles ? last : w->tiles;
    to = to < p->activation.groups ? to : p->activation.groups;
    if (packings[w->dtype].bits)
        run_panel(p, s, first, last, from, to, own);
    else if (from == 0)
        run_float(p, s, first, last, own);
}

/* Tiles [first, last) counted over all dealt segments, without panels. */
static void run_range(const struct plan *p, size_t first, size_t last, unsigned char *own)
{
    for (int s = 0; s < p->dealt && first < last; s++) {
        size_t tiles = p->segment[s].weight->tiles, end = last < tiles ? last : tiles;
        if (first < end && packings[p->segment[s].weight->dtype].bits)
            run_direct(p, s, first, end, own);
        else if (first < end)
            run_float(p, s, first, end, own);
        first = first > tiles ? first - tiles : 0;
        last = last > tiles ? last - tiles : 0;
    }
}

/* Few rows stream through the weights: every thread through a large part of its own, as memory likes it,
 * then through small pieces of what is left, so that all end together. */
static void stream(struct cpu *cpu, const struct plan *p, int command, int thread, unsigned char *own)
{
    size_t threads = (size_t)cpu->threads, part = p->tiles * 3 / 4 / threads, rest = part * threads,
           each = p->tiles / (threads * 16) + 1;
    run_range(p, part * (size_t)thread, part * ((size_t)thread + 1), own);
    for (;;) {
        size_t first = rest + each * (size_t)atomic_fetch_add_explicit(&cpu->next[command], 1, memory_order_relaxed);
        if (first >= p->tiles)
            return;
        run_range(p, first, first + each < p->tiles ? first + each : p->tiles, own);
    }
}

void cpu_matmul(struct cpu *cpu, const struct work *work, int thread)
{
    const struct matmul_args *m = &cpu->command[work->command].args.matmul;
    struct plan p;
    unsigned char *own = cpu->own[thread];
    make_plan(&p, cpu, work,
              is_private(cpu, m) ? own + own_bytes(cpu->isa->dot, m->rows, m->in) : cpu->shared);
    if (p.quantised) {
        int step = p.private ? 1 : cpu->threads;
        for (int g = p.private ? 0 : thread; g < p.activation.groups; g += step)
            quantise(&p, g, (float *)(void *)own);
        if (!p.private)
            pool_barrier(cpu->pool);
    }
    if (p.direct) {
        stream(cpu, &p, work->command, thread, own);
        return;
    }
    for (;;) {
        int unit = atomic_fetch_add_explicit(&cpu->next[work->command], 1, memory_order_relaxed);
        if (unit >= p.units)
            break;
        run_unit(&p, unit, own);
    }
    if (cpu->isa->dot->leave)
        cpu->isa->dot->leave();
}
