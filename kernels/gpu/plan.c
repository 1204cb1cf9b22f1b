/* Walks a list of commands, puts neighbours together that one kernel can do, and keeps track of
 * which results are still wanted and in which forms they exist. */
#include "plan.h"

#include "../faults.h"

#include <string.h>

const struct gpu_program_info gpu_programs[GPU_PROGRAM_COUNT] = {
#define PROGRAM(name, threads) [GPU_##name] = {#name, threads, false},
#define TYPED_PROGRAM(name, threads) [GPU_##name] = {#name, threads, true},
#include "programs.def"
#undef PROGRAM
#undef TYPED_PROGRAM
};

const char *const gpu_weight_names[GPU_WEIGHT_COUNT] = {
#define GPU_WEIGHT(name, dtype, split) #name,
#include "weights.def"
#undef GPU_WEIGHT
};

/* Is the F32 form of b, written by command i, read by more than a matmul that takes another form? */
static bool f32_needed(const struct plan *p, int i, const struct buffer *b)
{
    int reader = recorded_reader(&p->list, i, b);
    if (reader < 0)
        return recorded_needed(&p->list, i, b, -1);
    const struct command *c = &p->list.command[reader];
    if (c->copy != COPY_NONE || c->op != OPERATOR_matmul || c->buffer[0] != b || c->buffer[5] == b)
        return true;
    if (!matmul_takes(p, FORM_INT8, c) && !matmul_takes(p, FORM_HALF, c))
        return true;
    return recorded_needed(&p->list, i, b, reader);
}

/* ---- steps, scratch, forms ---- */

static struct gpu_step *append(struct plan *p)
{
    if (p->n_steps == p->capacity) {
        int capacity = p->capacity ? 2 * p->capacity : 256;
        struct gpu_step *step = realloc(p->step, (size_t)capacity * sizeof *step);
        if (!step) {
            if (!p->err.code)
                err_set(&p->err, ERR_NOMEM, "out of memory for a list of kernels");
            if (!p->capacity)
                return NULL;
            p->n_steps--; /* the list is lost: its last place serves as the dummy */
        } else {
            p->step = step;
            p->capacity = capacity;
        }
    }
    struct gpu_step *s = &p->step[p->n_steps++];
    memset(s, 0, sizeof *s);
    return s;
}

struct gpu_step *plan_dispatch(struct plan *p, int command, enum gpu_program program, const void *args,
                               size_t args_bytes, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z)
{
    struct gpu_step *s = append(p);
    const struct command *c = &p->list.command[command];
    REQUIRE(args_bytes <= GPU_MAX_ARGS && grid_x > 0 && grid_y > 0 && grid_z > 0);
    s->kind = GPU_DISPATCH;
    s->program = program;
    s->grid[0] = grid_x;
    s->grid[1] = grid_y;
    s->grid[2] = grid_z;
    s->args_bytes = (uint32_t)args_bytes;
    memcpy(s->args, args, args_bytes);
    s->op = c->op;
    s->layer = c->layer;
    s->stage = c->stage;
    return s;
}

void plan_operand(struct gpu_step *s, const struct gpu_operand *operand, bool written, const char *name)
{
    REQUIRE(s->n_operands < GPU_MAX_OPERANDS);
    struct gpu_operand *o = &s->operand[s->n_operands++];
    if (operand)
        *o = *operand;
    o->written = written;
    o->name = name;
}

static struct gpu_operand operand_of(const struct buffer *b)
{
    size_t bytes = b->rows ? b->bytes : b->count * dtype_block_bytes(b->dtype);
    return (struct gpu_operand){.memory = b->memory, .offset = b->offset, .bytes = bytes};
}

void plan_in(struct gpu_step *s, const struct buffer *b, const char *name)
{
    struct gpu_operand o = b ? operand_of(b) : (struct gpu_operand){0};
    plan_operand(s, &o, false, name);
}

void plan_out(struct gpu_step *s, const struct buffer *b, const char *name)
{
    struct gpu_operand o = b ? operand_of(b) : (struct gpu_operand){0};
    plan_operand(s, &o, b != NULL, name);
}

struct gpu_operand plan_scratch(struct plan *p, int which, size_t bytes)
{
    struct plan_scratch *s = &p->scratch[which];
    for (int f = 0; f < FORM_COUNT; f++)
        if (p->form[f].of && p->form[f].operand.memory == s->memory)
            p->form[f].of = NULL;
    if (bytes > s->bytes) {
        struct gpu_memory *grown = NULL;
        size_t wanted = bytes + bytes / 2;
        if (p->n_retired == sizeof p->retired / sizeof *p->retired) {
            if (!p->err.code)
                err_set(&p->err, ERR_NOMEM, "scratch memory grows too often");
        } else if (p->driver->alloc(p->state, wanted, &grown, p->err.code ? NULL : &p->err) == 0) {
            if (s->memory)
                p->retired[p->n_retired++] = s->memory;
            *s = (struct plan_scratch){grown, wanted};
        }
    }
    return (struct gpu_operand){.memory = s->memory, .bytes = bytes};
}

void plan_put_form(struct plan *p, enum plan_form form, const struct buffer *of, const struct gpu_operand *operand,
                   float scale)
{
    p->form[form].of = of;
    p->form[form].operand = *operand;
    p->form[form].scale = scale;
    p->form[form].fresh = true;
}

const struct gpu_operand *plan_get_form(const struct plan *p, enum plan_form form, const struct buffer *of,
                                        float *scale)
{
    if (p->form[form].of != of || !of)
        return NULL;
    if (scale)
        *scale = p->form[form].scale;
    return &p->form[form].operand;
}

/* After commands first … last are encoded: forms of what they wrote are gone, but for their own. */
static void drop_forms(struct plan *p, int first, int last)
{
    for (int f = 0; f < FORM_COUNT; f++) {
        for (int i = first; i <= last && p->form[f].of && !p->form[f].fresh; i++)
            if (command_writes(&p->list.command[i], p->form[f].of))
                p->form[f].of = NULL;
        p->form[f].fresh = false;
    }
}

enum gpu_weight plan_weight(const struct buffer *b)
{
    return (enum gpu_weight)b->layout;
}

/* ---- groups ---- */

static bool try_group(struct plan *p, int norm, int matmul, int swiglu)
{
    int last = swiglu >= 0 ? swiglu : matmul;
    const struct buffer *result = p->list.command[last].buffer[swiglu >= 0 ? 1 : 6];
    struct matmul_group g = {norm, matmul, swiglu, f32_needed(p, last, result)};
    return encode_matmul(p, &g);
}

/* The matmul at `matmul` with its neighbours; returns the last command that is done with it. */
static int plan_matmul(struct plan *p, int norm, int matmul)
{
    int swiglu = recorded_swiglu_joins(&p->list, matmul) ? matmul + 1 : -1;
    if (norm >= 0 && swiglu >= 0 && try_group(p, norm, matmul, swiglu))
        return swiglu;
    if (norm >= 0 && try_group(p, norm, matmul, -1))
        return matmul;
    if (norm >= 0)
        encode_rms_norm(p, norm);
    if (swiglu >= 0 && try_group(p, -1, matmul, swiglu))
        return swiglu;
    REQUIRE(try_group(p, -1, matmul, -1));
    return matmul;
}

/* RoPE and attention of rows that are each a sequence of their own go together. */
static int plan_rope(struct plan *p, int rope)
{
    const struct command *r = &p->list.command[rope];
    if (!p->list.keep_all && recorded_is(&p->list, rope + 1, OPERATOR_attention)) {
        const struct command *a = &p->list.command[rope + 1];
        bool joins = a->args.attention.single && a->buffer[0] == r->buffer[0] && a->buffer[4] == r->buffer[4] &&
                     a->args.attention.rows == r->args.rope_kv.rows &&
                     !recorded_needed(&p->list, rope, r->buffer[0], rope + 1);
        if (joins && encode_attention(p, rope, rope + 1, f32_needed(p, rope + 1, a->buffer[5])))
            return rope + 1;
    }
    encode_rope(p, rope);
    return rope;
}

static void plan_copy(struct plan *p, const struct command *c)
{
    struct gpu_step *s = append(p);
    const struct buffer *b = c->buffer[0];
    size_t size = dtype_block_bytes(b->dtype);
    if (!s)
        return;
    s->kind = c->copy == COPY_IN ? GPU_UPLOAD : GPU_DOWNLOAD;
    s->op = OPERATOR_COUNT;
    s->layer = c->layer;
    s->stage = c->stage;
    s->n_operands = 1;
    s->operand[0] = (struct gpu_operand){.memory = b->memory, .offset = b->offset + c->first * size,
                                         .bytes = c->count * size, .written = c->copy == COPY_IN, .name = "copy"};
    s->host = c->host;
}

/* Plans the command at i and those that go with it; returns the last of them. */
static int plan_one(struct plan *p, int i)
{
    const struct command *c = &p->list.command[i];
    if (c->copy != COPY_NONE) {
        plan_copy(p, c);
        return i;
    }
    switch (c->op) {
    case OPERATOR_embed: encode_embed(p, i); return i;
    case OPERATOR_rms_norm:
        if (recorded_norm_joins(&p->list, i))
            return plan_matmul(p, i, i + 1);
        encode_rms_norm(p, i);
        return i;
    case OPERATOR_matmul: return plan_matmul(p, -1, i);
    case OPERATOR_rope_kv: return plan_rope(p, i);
    case OPERATOR_attention: REQUIRE(encode_attention(p, -1, i, f32_needed(p, i, c->buffer[5]))); return i;
    case OPERATOR_swiglu: encode_swiglu(p, i); return i;
    case OPERATOR_gather: encode_gather(p, i); return i;
    case OPERATOR_add_scaled: encode_add_scaled(p, i); return i;
    case OPERATOR_kv_copy: encode_kv_copy(p, i); return i;
    case OPERATOR_sample: encode_sample(p, i); return i;
    case OPERATOR_COUNT: break;
    }
    REQUIRE(!"an operator");
}

int plan_commands(struct plan *p, const struct command *list, int n, struct err *err)
{
    p->list.command = list;
    p->list.n = n;
    p->n_steps = 0;
    p->err.code = 0;
    memset(p->form, 0, sizeof p->form);
    if (!p->capacity) { /* a place that plan_dispatch can always give out */
        if (!append(p))
            return err_set(err, ERR_NOMEM, "out of memory for a list of kernels");
        p->n_steps = 0;
    }
    for (int i = 0; i < n; i++) {
        if (FAULT(early_return) && list[i].stage && !strcmp(list[i].stage, "down"))
            continue;
        int last = plan_one(p, i);
        drop_forms(p, i, last);
        i = last;
    }
    if (p->err.code && err)
        *err = p->err;
    return p->err.code;
}

void plan_collect(struct plan *p)
{
    while (p->n_retired > 0)
        p->driver->free(p->state, p->retired[--p->n_retired]);
}

void plan_free(struct plan *p)
{
    plan_collect(p);
    for (int i = 0; i < SCRATCH_COUNT; i++)
        if (p->scratch[i].memory)
            p->driver->free(p->state, p->scratch[i].memory);
    free(p->step);
    memset(p, 0, sizeof *p);
}
