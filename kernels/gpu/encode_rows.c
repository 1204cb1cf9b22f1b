/* Encoders of what works row by row: norms, SwiGLU, gathers, sums, copies within the cache, sampling. */
#include "gpu_args.h"
#include "plan.h"

#define ROWS_THREADS 256
#define SWIGLU_SCALE 16 /* of the 16-bit form: what an FFN makes may be large */

static uint32_t groups(size_t n, size_t each)
{
    return (uint32_t)((n + each - 1) / each);
}

/* The 16-bit form of a result [rows][width] where the next command is a matmul that takes it; else absent. */
static bool half_form(struct plan *p, int command, const struct buffer *result, int rows, int width,
                      struct gpu_operand *out)
{
    int next = command + 1;
    const struct command *c = &p->list.command[next];
    *out = (struct gpu_operand){0};
    if (next >= p->list.n || c->copy != COPY_NONE || c->op != OPERATOR_matmul || c->buffer[0] != result ||
        c->args.matmul.rows != rows || c->args.matmul.in != width || !matmul_takes(p, FORM_HALF, c))
        return false;
    *out = plan_scratch(p, SCRATCH_HALF, (size_t)rows * (size_t)width * 2);
    return true;
}

void encode_rms_norm(struct plan *p, int command)
{
    const struct command *c = &p->list.command[command];
    const struct rms_norm_args *a = &c->args.rms_norm;
    struct gpu_norm_args args = {.norm = *a};
    struct gpu_operand half;
    int width = a->groups * a->width;
    args.half_form = a->y_offset == 0 && a->y_stride == width &&
                     half_form(p, command, c->buffer[2], a->rows, width, &half);
    struct gpu_step *s = plan_dispatch(p, command, GPU_rms_norm, &args, sizeof args, (uint32_t)a->groups,
                                       (uint32_t)a->rows, 1);
    s->overlaps = true;
    plan_in(s, c->buffer[0], "x");
    plan_in(s, c->buffer[1], "weight");
    plan_out(s, c->buffer[2], "y");
    plan_operand(s, args.half_form ? &half : NULL, args.half_form, "y as halves");
    if (args.half_form)
        plan_put_form(p, FORM_HALF, c->buffer[2], &half, 1);
}

void encode_swiglu(struct plan *p, int command)
{
    const struct command *c = &p->list.command[command];
    const struct swiglu_args *a = &c->args.swiglu;
    struct gpu_operand half;
    bool halves = half_form(p, command, c->buffer[1], a->rows, a->width, &half);
    struct gpu_swiglu_args args = {
        .rows = a->rows, .width = a->width, .half_scale = halves ? SWIGLU_SCALE : 0};
    struct gpu_step *s = plan_dispatch(p, command, GPU_swiglu, &args, sizeof args,
                                       groups((size_t)a->width, 4 * ROWS_THREADS), (uint32_t)a->rows, 1);
    s->overlaps = true;
    plan_in(s, c->buffer[0], "gate_up");
    plan_out(s, c->buffer[1], "y");
    plan_operand(s, halves ? &half : NULL, halves, "y as halves");
    if (halves)
        plan_put_form(p, FORM_HALF, c->buffer[1], &half, SWIGLU_SCALE);
}

void encode_gather(struct plan *p, int command)
{
    const struct command *c = &p->list.command[command];
    const struct gather_args *a = &c->args.gather;
    struct gpu_step *s = plan_dispatch(p, command, GPU_gather, a, sizeof *a,
                                       groups((size_t)a->width, ROWS_THREADS), (uint32_t)a->rows, 1);
    s->overlaps = true;
    plan_in(s, c->buffer[0], "x");
    plan_in(s, c->buffer[1], "index");
    plan_out(s, c->buffer[2], "y");
}

void encode_add_scaled(struct plan *p, int command)
{
    const struct command *c = &p->list.command[command];
    const struct add_scaled_args *a = &c->args.add_scaled;
    struct gpu_step *s = plan_dispatch(p, command, GPU_add_scaled, a, sizeof *a,
                                       groups((size_t)a->width, ROWS_THREADS), (uint32_t)a->rows, 1);
    s->overlaps = true;
    plan_in(s, c->buffer[0], "x");
    plan_in(s, c->buffer[1], "scale");
    plan_out(s, c->buffer[2], "y");
}

void encode_kv_copy(struct plan *p, int command)
{
    const struct command *c = &p->list.command[command];
    const struct kv_copy_args *a = &c->args.kv_copy;
    struct gpu_step *s = plan_dispatch(p, command, GPU_kv_copy, a, sizeof *a,
                                       groups((size_t)a->block_elements, 8 * ROWS_THREADS), 1, 1);
    s->overlaps = true;
    plan_in(s, c->buffer[0], "pair");
    plan_out(s, c->buffer[1], "kv");
}

void encode_sample(struct plan *p, int command)
{
    const struct command *c = &p->list.command[command];
    const struct sample_args *a = &c->args.sample;
    struct gpu_operand peaks = plan_scratch(p, SCRATCH_PARTIAL, (size_t)a->rows * SAMPLE_SLICES * 3 * sizeof(float));
    struct gpu_step *s = plan_dispatch(p, command, GPU_sample_peaks, a, sizeof *a, SAMPLE_SLICES, (uint32_t)a->rows, 1);
    s->overlaps = s->launches_early = true;
    plan_in(s, c->buffer[0], "logits");
    plan_in(s, c->buffer[1], "allowed");
    plan_operand(s, &peaks, true, "peaks");
    s = plan_dispatch(p, command, GPU_sample, a, sizeof *a, (uint32_t)a->rows, 1, 1);
    s->overlaps = s->launches_early = true;
    plan_in(s, c->buffer[0], "logits");
    plan_in(s, c->buffer[1], "allowed");
    plan_in(s, c->buffer[2], "parameters");
    plan_operand(s, &peaks, false, "peaks");
    plan_out(s, c->buffer[3], "ids");
}
