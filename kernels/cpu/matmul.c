/* Matrix multiplication: quantises the input once for all segments, then deals out tiles.
 *
 * A piece of work is some tiles times some groups of rows. Few rows read the packed tiles
 * directly; for many a tile is unpacked, a part of its columns at a time, and that panel serves
 * all groups from the cache. */
#include <string.h>

#include "cpu.h"

#define PANEL_BLOCKS 16  /* of a panel; a multiple of every super-block */
#define PANEL_TILES 8    /* tiles that are unpacked together, at most */
#define PANEL_ROWS 256   /* about so many rows share a panel */
#define PRIVATE_ELEMENTS 8192 /* up to so many inputs every thread quantises for itself */

struct segment {
    const struct packed *weight;
    int column; /* of the output */
    int units;  /* pieces of work over tiles */
};

/* A matmul laid out for the pool. */
struct plan {
    const struct cpu *cpu;
    const float *x, *bias, *add;
    float *y;
    int rows, in, out, segments;
    int passes; /* 2: the activations' rounding errors are multiplied as well */
    struct segment segment[SEGMENTS];
    struct activation activation;
    bool quantised, private;
    int group_units, groups_each; /* pieces over groups, groups of a piece */
    int tiles_each, units;
};

static const struct packed *weight_of(const struct command *c, int i)
{
    return c->buffer[1 + i] ? c->buffer[1 + i]->memory : NULL;
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
    for (int s = 0; s < SEGMENTS; s++)
        if (a->packing[s])
            a->extra[s] = place(memory, &at, cells * (size_t)extra_words(a->packing[s]) * sizeof *a->extra[s]);
    return at;
}

/* Per thread: a panel of one tile after the other, and sums [groups][tiles][T][16]. */
static size_t panel_bytes(const struct dot_kernels *d)
{
    return PANEL_TILES * (size_t)PANEL_BLOCKS * (size_t)(d->panel_block + 2 * 2 * TILE * (int)sizeof(float));
}

static size_t own_bytes(const struct dot_kernels *d, int rows)
{
    size_t most = rows < PANEL_ROWS + GROUP_MAX ? (size_t)rows : PANEL_ROWS + GROUP_MAX;
    return panel_bytes(d) + most * PANEL_TILES * TILE * sizeof(float) + GROUP_MAX * TILE * sizeof(float) + 64;
}

/* Whether the input is so small that a barrier costs more than quantising it once per thread. */
static bool is_private(const struct cpu *cpu, const struct matmul_args *m)
{
    return cpu->threads == 1 || (size_t)m->rows * (size_t)m->in <= PRIVATE_ELEMENTS;
}

static size_t make_plan(struct plan *p, const struct cpu *cpu, const struct command *c, unsigned char *memory)
{
    const struct matmul_args *m = &c->args.matmul;
    const struct dot_kernels *d = cpu->isa->dot;
    *p = (struct plan){
        .cpu = cpu, .x = c->buffer[0]->memory, .y = c->buffer[6]->memory, .rows = m->rows, .in = m->in};
    p->bias = c->buffer[4] ? c->buffer[4]->memory : NULL;
    p->add = c->buffer[5] ? c->buffer[5]->memory : NULL;
    struct activation *a = &p->activation;
    p->passes = m->precise ? 2 : 1;
    *a = (struct activation){.rows = m->rows, .columns = m->in, .blocks = m->in / BLOCK * p->passes};
    bool direct = m->rows <= d->direct;
    a->run = direct ? 4 : d->run;
    a->groups = direct ? 1 : (m->rows + d->group - 1) / d->group;

    size_t tiles = 0;
    bool wide = false;
    for (int i = 0; i < SEGMENTS && weight_of(c, i); i++) {
        const struct packed *w = weight_of(c, i);
        p->segment[p->segments++] = (struct segment){.weight = w, .column = p->out};
        p->out += (int)w->rows;
        tiles += w->tiles;
        const struct packing *k = &packings[w->dtype];
        if (k->bits) {
            a->packing[i] = k;
            p->quantised = true;
            wide |= d->wide && (k->bits == 8 || k->table);
        }
    }
    p->private = is_private(cpu, m);
    p->groups_each = direct ? a->groups : PANEL_ROWS / d->group + 1;
    p->group_units = (a->groups + p->groups_each - 1) / p->groups_each;
    size_t share = tiles / (size_t)(cpu->threads * 8) + 1;
    p->tiles_each = direct ? (int)share : share < PANEL_TILES ? (int)share : PANEL_TILES;
    for (int i = 0; i < p->segments; i++) {
        p->segment[i].units = ((int)p->segment[i].weight->tiles + p->tiles_each - 1) / p->tiles_each;
        p->units += p->segment[i].units * p->group_units;
    }
    return p->quantised ? place_activation(a, wide, memory) : 0;
}

void matmul_scratch(const struct cpu *cpu, const struct command *c, struct scratch *need)
{
    struct plan p;
    size_t activation = make_plan(&p, cpu, c, NULL);
    need->own = aligned(own_bytes(cpu->isa->dot, p.rows)) + (p.private ? activation : 0);
    need->shared = p.private ? 0 : activation;
}

static void point_at(const struct plan *p, int s, int group, int block, struct dot *a)
{
    const struct activation *x = &p->activation;
    int first = group_start(x->rows, x->groups, group),
        T = group_start(x->rows, x->groups, group + 1) - first;
    size_t at = (size_t)first * (size_t)x->blocks + (size_t)block * (size_t)T;
    a->q = x->q + at * ACTIVATION_BYTES;
    a->wide = x->wide ? x->wide + at * WIDE_ELEMENTS : NULL;
    a->extra = x->extra[s] + at * (size_t)extra_words(x->packing[s]);
}

/* Writes T rows of 16 sums to the output, from row `first` on. */
static void finish_tile(const struct plan *p, int s, size_t tile, int first, int T, const float *sum)
{
    const struct segment *g = &p->segment[s];
    size_t column = (size_t)g->column + tile * TILE, left = g->weight->rows - tile * TILE;
    int n = left < TILE ? (int)left : TILE;
    for (int t = 0; t < T; t++) {
        size_t at = (size_t)(first + t) * (size_t)p->out + column;
        float scale = packings[g->weight->dtype].bits ? p->activation.row_scale[first + t] : 1.0f;
        p->cpu->isa->finish(sum + t * TILE, scale, p->bias ? p->bias + column : NULL,
                            p->add ? p->add + at : NULL, p->y + at, n);
    }
}

/* Both passes of one part of the columns before the next part, as panels have it: the order of an
 * output's sums must not depend on the number of rows. */
static void run_direct(const struct plan *p, int s, size_t first, size_t last, unsigned char *own)
{
    const struct packed *w = p->segment[s].weight;
    const struct packing *k = &packings[w->dtype];
    int blocks = p->in / BLOCK, part = p->passes == 1 ? blocks : PANEL_BLOCKS;
    struct dot a = {.sum = (float *)(void *)own};
    for (size_t tile = first; tile < last; tile++) {
        for (int block = 0; block < blocks; block += part) {
            a.blocks = blocks - block < part ? blocks - block : part;
            a.weights = w->data + tile * w->tile_bytes + (size_t)(block / k->super) * packed_super_bytes(k);
            for (int pass = 0; pass < p->passes; pass++) {
                point_at(p, s, 0, pass * blocks + block, &a);
                a.first = block == 0 && pass == 0;
                p->cpu->isa->dot->direct_tile(w->dtype, p->rows, &a);
            }
        }
        finish_tile(p, s, tile, 0, p->rows, a.sum);
    }
}

/* Tiles [first, last), at most PANEL_TILES, times groups [from, to). */
static void run_panel(const struct plan *p, int s, size_t first, size_t last, int from, int to,
                      unsigned char *own)
{
    const struct dot_kernels *d = p->cpu->isa->dot;
    const struct packed *w = p->segment[s].weight;
    const struct packing *k = &packings[w->dtype];
    int tiles = (int)(last - first), blocks = p->in / BLOCK, groups = p->activation.groups;
    int row0 = group_start(p->rows, groups, from);
    float *sums = (float *)(void *)own,
          *floats = sums + (size_t)(PANEL_ROWS + GROUP_MAX) * PANEL_TILES * TILE;
    if (p->rows < PANEL_ROWS + GROUP_MAX)
        floats = sums + (size_t)p->rows * PANEL_TILES * TILE;
    size_t scales = (size_t)PANEL_BLOCKS * (size_t)k->subs * TILE;
    uint8_t *values = (uint8_t *)(floats + 2 * PANEL_TILES * scales);
    for (int block = 0; block < blocks; block += PANEL_BLOCKS) {
        int n = blocks - block < PANEL_BLOCKS ? blocks - block : PANEL_BLOCKS;
        struct panel panel[PANEL_TILES];
        for (int i = 0; i < tiles; i++) {
            panel[i].values = values + (size_t)i * PANEL_BLOCKS * (size_t)d->panel_block;
            panel[i].scale = floats + (size_t)i * 2 * scales;
            panel[i].minimum = panel[i].scale + scales;
            const uint8_t *packed = w->data + (first + (size_t)i) * w->tile_bytes;
            d->unpack(w->dtype, packed + (size_t)(block / k->super) * packed_super_bytes(k), n, &panel[i]);
        }
        for (int g = from; g < to; g++) {
            int row = group_start(p->rows, groups, g), T = group_start(p->rows, groups, g + 1) - row;
            struct dot a = {.blocks = n,
                            .next_values = PANEL_BLOCKS * (size_t)d->panel_block,
                            .next_floats = 2 * scales};
            for (int i = 0, together; i < tiles; i += together) {
                together = tiles - i < d->tiles ? 1 : d->tiles;
                a.weights = panel[i].values;
                a.scale = panel[i].scale;
                a.minimum = panel[i].minimum;
                a.sum = sums + ((size_t)(row - row0) * (size_t)tiles + (size_t)(i * T)) * TILE;
                for (int pass = 0; pass < p->passes; pass++) {
                    point_at(p, s, g, pass * blocks + block, &a);
                    a.first = block == 0 && pass == 0;
                    d->panel_tiles(w->dtype, T, together, &a);
                }
                for (int j = 0; j < together && block + n == blocks; j++)
                    finish_tile(p, s, first + (size_t)(i + j), row, T, a.sum + j * T * TILE);
            }
        }
    }
}

static void run_float(const struct plan *p, int s, size_t first, size_t last, unsigned char *own)
{
    const struct packed *w = p->segment[s].weight;
    float *sum = (float *)(void *)own;
    for (size_t tile = first; tile < last; tile++)
        for (int row = 0; row < p->rows; row += FLOAT_ROWS) {
            int T = p->rows - row < FLOAT_ROWS ? p->rows - row : FLOAT_ROWS;
            p->cpu->isa->dot_float(w->dtype, T, w->data + tile * w->tile_bytes, p->in,
                                   p->x + (size_t)row * (size_t)p->in, sum);
            finish_tile(p, s, tile, row, T, sum);
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
    if (!packings[w->dtype].bits) {
        if (from == 0)
            run_float(p, s, first, last, own);
    } else if (p->rows <= p->cpu->isa->dot->direct) {
        run_direct(p, s, first, last, own);
    } else {
        run_panel(p, s, first, last, from, to, own);
    }
}

void cpu_matmul(struct cpu *cpu, int command, int thread)
{
    const struct command *c = &cpu->command[command];
    struct plan p;
    unsigned char *own = cpu->own[thread];
    unsigned char *beside = own + aligned(own_bytes(cpu->isa->dot, c->args.matmul.rows));
    make_plan(&p, cpu, c, is_private(cpu, &c->args.matmul) ? beside : cpu->shared);
    if (p.quantised) {
        int step = p.private ? 1 : cpu->threads;
        for (int g = p.private ? 0 : thread; g < p.activation.groups; g += step)
            cpu->isa->quantise(&p.activation, p.x, g);
        if (!p.private)
            pool_barrier(cpu->pool);
    }
    for (;;) {
        int unit = atomic_fetch_add_explicit(&cpu->next[command], 1, memory_order_relaxed);
        if (unit >= p.units)
            return;
        run_unit(&p, unit, own);
    }
}
