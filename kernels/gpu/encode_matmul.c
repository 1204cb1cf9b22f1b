/* Encodes matmuls with what stands around them: which kernel, cut how. Few rows go to the kernels of
 * matvec.h, which read weights as fast as memory gives them; more rows to the tiles on the matrix units. */
#include "gpu_args.h"
#include "plan.h"

#define SIMDS 8           /* of a group */
#define FEW_ROWS 4        /* that one matvec takes */
#define EMBED_UNITS 256   /* of a group */
#define TILE_OUTPUTS 128
#define TILE_GROUPS 2     /* that share a multiprocessor */
#define LEAST_STEPS 8     /* of a tile, where groups share its columns */
#define SUM_OUTPUTS 256   /* of a group that adds up their results */

static int pieces(int n, int each)
{
    return (n + each - 1) / each;
}

bool matmul_takes(const struct plan *p, enum plan_form form, const struct command *c)
{
    const struct matmul_args *a = &c->args.matmul;
    if (a->in % 32)
        return false;
    return form == FORM_HALF ? a->rows > FEW_ROWS : p->int8 && a->rows <= PLAN_INT8_ROWS;
}

void encode_embed(struct plan *p, int command)
{
    const struct command *c = &p->list.command[command];
    const struct embed_args *a = &c->args.embed;
    struct gpu_step *s = plan_dispatch(p, command, GPU_embed, a, sizeof *a,
                                       (uint32_t)pieces(pieces(a->width, 32), EMBED_UNITS), (uint32_t)a->rows, 1);
    s->weight = plan_weight(c->buffer[2]);
    s->overlaps = true;
    plan_in(s, c->buffer[0], "ids");
    plan_in(s, c->buffer[1], "sampled");
    plan_in(s, c->buffer[2], "table");
    plan_out(s, c->buffer[3], "x");
}

/* A group of commands, with what its kernels read and write. */
struct job {
    struct plan *p;
    int command;
    const struct command *matmul, *norm, *swiglu; /* the latter two may be NULL */
    const struct buffer *x, *y;                   /* before the norm, after the SwiGLU */
    bool floats;                                  /* the F32 form of y is wanted */
    int rows, in, total;                          /* total: columns of y */
};

/* Weights of one layout whose outputs stand side by side. */
struct run {
    int first, n;        /* of the matmul's weights */
    int column, outputs; /* of y */
};

#define ALIGNED_OUTPUTS 8 /* weights that share a dispatch begin at multiples of what a simd group does at once */

static int find_runs(const struct command *c, struct run run[3])
{
    const struct matmul_args *a = &c->args.matmul;
    int n = 0, column = 0;
    for (int i = 0; i < 3 && c->buffer[1 + i]; i++) {
        struct run *last = n ? &run[n - 1] : NULL;
        if (last && plan_weight(c->buffer[1 + i]) == plan_weight(c->buffer[1 + last->first]) &&
            last->outputs % ALIGNED_OUTPUTS == 0) {
            last->n++;
            last->outputs += a->out[i];
        } else {
            run[n++] = (struct run){.first = i, .n = 1, .column = column, .outputs = a->out[i]};
        }
        column += a->out[i];
    }
    return n;
}

static void plan_weights(struct gpu_step *s, const struct command *c, const struct run *run)
{
    s->weight = plan_weight(c->buffer[1 + run->first]);
    for (int i = 0; i < 3; i++)
        plan_in(s, i < run->n ? c->buffer[1 + run->first + i] : NULL, operand_name(OPERATOR_matmul, 1 + i));
}

/* ---- few rows ---- */

struct shape {
    enum gpu_program program;
    int rows, weights; /* of the kernel: rows of x, weight rows of a simd group */
};

static struct shape choose_shape(bool int8, int rows, int weights)
{
    static const struct shape shapes[2][3][3] = {
        {{{GPU_matvec_f32_1_2, 1, 2}, {GPU_matvec_f32_1_4, 1, 4}, {GPU_matvec_f32_1_8, 1, 8}},
         {{GPU_matvec_f32_2_4, 2, 4}, {GPU_matvec_f32_2_4, 2, 4}, {GPU_matvec_f32_2_4, 2, 4}},
         {{GPU_matvec_f32_4_4, 4, 4}, {GPU_matvec_f32_4_4, 4, 4}, {GPU_matvec_f32_4_4, 4, 4}}},
        {{{GPU_matvec_int8_1_2, 1, 2}, {GPU_matvec_int8_1_4, 1, 4}, {GPU_matvec_int8_1_8, 1, 8}},
         {{GPU_matvec_int8_2_4, 2, 4}, {GPU_matvec_int8_2_4, 2, 4}, {GPU_matvec_int8_2_8, 2, 8}},
         {{GPU_matvec_int8_4_4, 4, 4}, {GPU_matvec_int8_4_4, 4, 4}, {GPU_matvec_int8_4_8, 4, 8}}}};
    return shapes[int8][rows > 2 ? 2 : rows - 1][weights == 8 ? 2 : weights == 4];
}

/* Too few groups to keep every multiprocessor busy? */
static bool too_few(const struct plan *p, int outputs, int each, int slices)
{
    return 8 * pieces(outputs, SIMDS / slices * each) < 7 * p->facts->cores;
}

/* Simd groups that share rows, so that there are enough groups: as long as each has `least` / 2 units. */
static int choose_slices(const struct plan *p, const struct gpu_matvec_args *a, int each, int least)
{
    int slices = 1;
    while (slices < SIMDS && a->units >= least * slices && too_few(p, a->outputs, each, slices))
        slices *= 2;
    return slices;
}

/* Where there are many sets a group stays, with its x, for several: as many as the GPU has room for, unless
 * the last of their rounds would leave most of it idle. */
static int choose_groups(const struct plan *p, int sets)
{
    int room = p->facts->cores * 2, rounds = pieces(sets, room);
    return 3 * sets > 2 * rounds * room ? (sets < room ? sets : room) : pieces(sets, rounds);
}

/* Chooses the kernel and cuts the work: as many weight rows a simd group as leave enough groups, then more simd
 * groups on the same rows, as long as each has units for most of its lanes. */
static struct shape cut(const struct plan *p, struct gpu_matvec_args *a, bool int8, bool small)
{
    bool codes = a->flags & MATVEC_CODES, swiglu = a->flags & MATVEC_SWIGLU;
    a->units = pieces(a->in, 32);
    /* Eight rows read x half as often as four, and are more bytes under way; weights that take more registers
     * would spill. */
    bool eight = codes || (!int8 && small && !too_few(p, a->outputs, swiglu ? 4 : 8, 1));
    if (!int8 && swiglu && pieces(a->outputs, SIMDS * 4) <= 2 * p->facts->cores)
        eight = false; /* what the GPU has room for at once is spread more evenly in smaller pieces */
    int slices = 1;
    if (int8 && small && a->rows == 1 && !swiglu) {
        slices = choose_slices(p, a, 8, 48);
        eight = !too_few(p, a->outputs, 8, slices);
    }
    struct shape shape = choose_shape(int8, a->rows, eight ? 8 : 4);
    int each = swiglu ? shape.weights / 2 : shape.weights;
    if (!eight)
        slices = choose_slices(p, a, each, 28);
    if (!codes && !swiglu && too_few(p, a->outputs, each, slices)) {
        shape = choose_shape(int8, a->rows, 2);
        each = shape.weights;
    }
    int capacity = (int8 ? MATVEC_CODE_STAGE / 9 : MATVEC_FLOAT_STAGE / 32) / shape.rows;
    if (a->flags & MATVEC_READY)
        capacity = a->units > SIMDS * 32 ? a->units : SIMDS * 32;
    int at_once = slices * 32 < capacity ? slices * 32 : capacity / slices * slices;
    a->slices = slices;
    a->slice_units = pieces(pieces(a->units, pieces(a->units, at_once)), slices);
    a->step_units = a->slice_units * slices;
    a->steps = pieces(a->units, a->step_units);
    a->stage_steps = capacity / a->step_units < a->steps ? capacity / a->step_units : a->steps;
    a->sets = pieces(a->outputs, SIMDS / slices * each);
    a->groups = choose_groups(p, a->sets);
    return shape;
}

static void encode_few(const struct job *j, const struct run *run)
{
    struct plan *p = j->p;
    const struct command *c = j->matmul;
    const struct gpu_operand *ready = j->norm ? NULL : plan_get_form(p, FORM_INT8, j->x, NULL);
    struct gpu_operand codes = {0}, x_codes = ready ? *ready : codes;
    bool int8 = matmul_takes(p, FORM_INT8, c), leave = int8 && j->swiglu && j->total % 32 == 0;
    struct gpu_matvec_args a = {.rows = j->rows, .in = j->in, .y_stride = j->total, .y_first = run->column,
                                .outputs = j->swiglu ? j->total : run->outputs,
                                .eps = j->norm ? j->norm->args.rms_norm.eps : 0};
    a.flags = (j->norm ? MATVEC_NORM : 0) | (c->buffer[4] ? MATVEC_BIAS : 0) | (c->buffer[5] ? MATVEC_ADD : 0) |
              (j->swiglu ? MATVEC_SWIGLU : 0) | (int8 && ready ? MATVEC_READY : 0) | (leave ? MATVEC_CODES : 0) |
              (j->floats || !leave ? MATVEC_FLOATS : 0);
    for (int i = 0, end = 0; i < 3; i++) {
        end += i < run->n ? c->args.matmul.out[run->first + i] : 0;
        a.end[i] = end;
    }
    enum gpu_weight layout = plan_weight(c->buffer[1 + run->first]);
    bool small = layout == GPU_WEIGHT_Q8_0_split || layout == GPU_WEIGHT_Q4_0_split;
    struct shape shape = cut(p, &a, int8, small);
    if (leave)
        codes = plan_scratch(p, SCRATCH_INT8_B, (size_t)j->rows * (size_t)j->total / 32 * 36);
    struct gpu_step *s = plan_dispatch(p, j->command, shape.program, &a, sizeof a, (uint32_t)a.groups, 1, 1);
    s->overlaps = s->launches_early = true;
    plan_in(s, j->x, "x");
    plan_operand(s, a.flags & MATVEC_READY ? &x_codes : NULL, false, "x in 8 bits");
    plan_in(s, j->norm ? j->norm->buffer[1] : NULL, "norm weight");
    plan_weights(s, c, run);
    plan_in(s, c->buffer[4], "bias");
    plan_in(s, c->buffer[5], "add");
    plan_out(s, a.flags & MATVEC_FLOATS ? j->y : NULL, "y");
    plan_operand(s, leave ? &codes : NULL, leave, "y in 8 bits");
    if (leave)
        plan_put_form(p, FORM_INT8, j->y, &codes, 1);
}

/* ---- many rows ---- */

/* x as halves, rows padded to whole units; where no command before left them so, a kernel makes them. */
static struct gpu_operand half_rows(const struct job *j, float *scale)
{
    struct plan *p = j->p;
    const struct gpu_operand *ready = j->norm ? NULL : plan_get_form(p, FORM_HALF, j->x, scale);
    if (ready)
        return *ready;
    struct gpu_to_half_args args = {.rows = j->rows, .width = j->in, .stride = pieces(j->in, 32) * 32,
                                    .norm = j->norm != NULL, .eps = j->norm ? j->norm->args.rms_norm.eps : 0};
    struct gpu_operand half = plan_scratch(p, SCRATCH_HALF, (size_t)j->rows * (size_t)args.stride * 2);
    struct gpu_step *s = plan_dispatch(p, j->command, GPU_to_half, &args, sizeof args, (uint32_t)j->rows, 1, 1);
    s->overlaps = true;
    plan_in(s, j->x, "x");
    plan_in(s, j->norm ? j->norm->buffer[1] : NULL, "norm weight");
    plan_operand(s, &half, true, "x as halves");
    if (!j->norm && args.stride == j->in)
        plan_put_form(p, FORM_HALF, j->x, &half, 1);
    *scale = 1;
    return half;
}

/* Adds up what groups that shared columns left. */
static void encode_sum(const struct job *j, const struct run *run, const struct gpu_operand *partial, int parts)
{
    const struct command *c = j->matmul;
    struct gpu_matmul_sum_args args = {.rows = j->rows, .outputs = run->outputs, .parts = parts,
                                       .y_stride = j->total, .y_first = run->column,
                                       .flags = (c->buffer[4] ? MATMUL_BIAS : 0) | (c->buffer[5] ? MATMUL_ADD : 0)};
    struct gpu_step *s = plan_dispatch(j->p, j->command, GPU_matmul_sum, &args, sizeof args,
                                       (uint32_t)pieces(run->outputs, SUM_OUTPUTS), (uint32_t)j->rows, 1);
    s->overlaps = true;
    plan_operand(s, partial, false, "parts");
    plan_in(s, c->buffer[4], "bias");
    plan_in(s, c->buffer[5], "add");
    plan_out(s, j->y, "y");
}

/* Rows of a tile: large ones read less, small ones fill the GPU. */
static int tile_rows(const struct plan *p, int rows, int tiles)
{
    if (rows <= 32)
        return 32;
    return rows <= 64 || pieces(rows, 128) * tiles < p->facts->cores ? 64 : 128;
}

static void encode_tiles(const struct job *j, const struct run *run, const struct gpu_operand *x, float scale)
{
    struct plan *p = j->p;
    const struct command *c = j->matmul;
    struct gpu_matmul_args a = {.rows = j->rows, .units = pieces(j->in, 32), .columns = j->in, .scale = scale,
                                .outputs = j->total, .y_stride = j->total};
    int tiles = 0, column = run->column;
    for (int i = 0; i < 3; i++) {
        a.out[i] = i < run->n ? c->args.matmul.out[run->first + i] : 0;
        a.first[i] = j->swiglu ? 0 : column;
        column += a.out[i];
        tiles += pieces(a.out[i], TILE_OUTPUTS);
        a.tile_end[i] = tiles;
    }
    if (j->swiglu) {
        tiles = pieces(a.out[0], TILE_OUTPUTS / 2);
        a.tile_end[0] = a.tile_end[1] = a.tile_end[2] = tiles;
    }
    int height = tile_rows(p, j->rows, tiles), groups = tiles * pieces(j->rows, height);
    int parts = j->swiglu ? 1 : p->facts->cores * TILE_GROUPS / groups;
    parts = parts < a.units / LEAST_STEPS ? parts : a.units / LEAST_STEPS;
    a.steps = parts > 1 ? pieces(pieces(a.units, parts), 2) * 2 : a.units; /* kernels load pairs of units */
    parts = pieces(a.units, a.steps);
    struct gpu_operand partial = {0}, halves = {0};
    bool leave = j->swiglu && j->total % 32 == 0;
    if (parts > 1) {
        partial = plan_scratch(p, SCRATCH_PARTIAL, (size_t)parts * (size_t)j->rows * (size_t)run->outputs * 4);
        for (int i = 0; i < 3; i++)
            a.first[i] -= run->column;
        a.y_stride = run->outputs;
    }
    if (leave)
        halves = plan_scratch(p, SCRATCH_HALF_RESULT, (size_t)j->rows * (size_t)j->total * 2);
    a.flags = (parts == 1 && c->buffer[4] ? MATMUL_BIAS : 0) | (parts == 1 && c->buffer[5] ? MATMUL_ADD : 0) |
              (j->swiglu ? MATMUL_SWIGLU : 0) | (leave ? MATMUL_HALVES : 0) |
              (j->floats || !leave ? MATMUL_FLOATS : 0);
    enum gpu_program program = height == 32 ? GPU_matmul_32 : height == 64 ? GPU_matmul_64 : GPU_matmul_128;
    struct gpu_step *s = plan_dispatch(p, j->command, program, &a, sizeof a, (uint32_t)tiles,
                                       (uint32_t)pieces(j->rows, height), (uint32_t)parts);
    /* Let in early, groups would pile up on the multiprocessors that are free first: up to 18 % slower on an H200. */
    s->overlaps = false;
    plan_operand(s, x, false, "x as halves");
    plan_weights(s, c, run);
    plan_in(s, c->buffer[4], "bias");
    plan_in(s, c->buffer[5], "add");
    if (parts > 1)
        plan_operand(s, &partial, true, "parts");
    else
        plan_out(s, a.flags & MATMUL_FLOATS ? j->y : NULL, "y");
    plan_operand(s, leave ? &halves : NULL, leave, "y as halves");
    if (parts > 1)
        encode_sum(j, run, &partial, parts);
    if (leave)
        plan_put_form(p, FORM_HALF, j->y, &halves, MATMUL_HALF_SCALE);
}

bool encode_matmul(struct plan *p, const struct matmul_group *g)
{
    const struct command *c = &p->list.command[g->matmul];
    const struct matmul_args *m = &c->args.matmul;
    struct job j = {.p = p, .command = g->matmul, .matmul = c, .x = c->buffer[0], .y = c->buffer[6],
                    .floats = g->result_needed, .rows = m->rows, .in = m->in,
                    .total = m->out[0] + m->out[1] + m->out[2]};
    struct run run[3];
    int runs = find_runs(c, run);
    if (g->swiglu >= 0) {
        if (runs != 1 || run[0].n != 2 || c->buffer[4])
            return false; /* gate and up of different layouts, or with a bias */
        j.swiglu = &p->list.command[g->swiglu];
        j.y = j.swiglu->buffer[1];
        j.total = m->out[0];
    } else {
        j.floats = true;
    }
    if (g->norm >= 0) {
        j.norm = &p->list.command[g->norm];
        j.x = j.norm->buffer[0];
    }
    if (m->rows <= FEW_ROWS) {
        for (int i = 0; i < runs; i++)
            encode_few(&j, &run[i]);
        return true;
    }
    float scale;
    struct gpu_operand x = half_rows(&j, &scale);
    for (int i = 0; i < runs; i++)
        encode_tiles(&j, &run[i], &x, scale);
    return true;
}
