/* The operators that are dealt out by rows. */
#include <string.h>

#include "../host.h"
#include "cpu.h"

/* A thread's share of n pieces. */
static void share(const struct cpu *cpu, int thread, int n, int *first, int *last)
{
    *first = (int)((long long)n * thread / cpu->threads);
    *last = (int)((long long)n * (thread + 1) / cpu->threads);
}

static void embed(const struct cpu *cpu, const struct command *c, int thread)
{
    const struct embed_args *a = &c->args.embed;
    int first, last;
    share(cpu, thread, a->rows, &first, &last);
    for (int r = first; r < last; r++)
        packed_row(c->buffer[2]->memory, (size_t)host_token(c, r),
                   (float *)c->buffer[3]->memory + (size_t)r * (size_t)a->width);
}

static void rms_norm(const struct cpu *cpu, const struct command *c, int thread)
{
    const struct rms_norm_args *a = &c->args.rms_norm;
    const float *x = c->buffer[0]->memory, *weight = c->buffer[1]->memory;
    float *y = c->buffer[2]->memory;
    int first, last;
    share(cpu, thread, a->rows * a->groups, &first, &last);
    for (int i = first; i < last; i++) {
        size_t row = (size_t)(i / a->groups), at = (size_t)(i % a->groups) * (size_t)a->width;
        cpu->isa->rms_norm(x + row * (size_t)a->x_stride + (size_t)a->x_offset + at, weight, a->eps, a->width,
                           y + row * (size_t)a->y_stride + (size_t)a->y_offset + at);
    }
}

/* Whether an earlier rope_kv of the submission has made the same angles: layers differ in their
 * data only, and no operator writes positions. */
static bool same_angles(const struct command *a, const struct command *b)
{
    return a->op == OPERATOR_rope_kv && !memcmp(&a->args.rope_kv, &b->args.rope_kv, sizeof a->args.rope_kv) &&
           a->buffer[1] == b->buffer[1] && a->buffer[3] == b->buffer[3];
}

static bool angles_are_there(const struct cpu *cpu, int command)
{
    for (int i = command - 1; i >= 0 && cpu->command[i].copy != COPY_IN; i--)
        if (cpu->command[i].op == OPERATOR_rope_kv)
            return same_angles(&cpu->command[i], &cpu->command[command]);
    return false;
}

static void rope_row(const struct cpu *cpu, const struct command *c, int r, const float *cs)
{
    const struct rope_kv_args *a = &c->args.rope_kv;
    size_t dim = (size_t)a->head_dim, heads = (size_t)a->n_heads, kv_heads = (size_t)a->n_kv_heads;
    size_t tokens = (size_t)a->block_tokens, slot = (size_t)((const int32_t *)c->buffer[2]->memory)[r];
    float *row = (float *)c->buffer[0]->memory + (size_t)r * (heads + 2 * kv_heads) * dim;
    uint8_t *kv = c->buffer[4]->memory;
    enum dtype type = c->buffer[4]->dtype;
    for (size_t h = 0; h < heads + kv_heads; h++)
        cpu->isa->rope(row + h * dim, cs, a->rope_dim, a->style);
    REQUIRE((slot / tokens + 1) * 2 * kv_heads * tokens * dim <= c->buffer[4]->count);
    for (size_t i = 0; i < 2 * kv_heads; i++) { /* K of each head, then V of each */
        const float *x = row + (heads + i) * dim;
        size_t at = (slot / tokens * 2 * kv_heads + i) * tokens + slot % tokens;
        uint8_t *out = kv + at * dtype_bytes(type, dim);
        if (type == DTYPE_Q8_0)
            host_store_q8(x, dim, out);
        else
            cpu->isa->to_f16(x, (uint16_t *)(void *)out, a->head_dim);
    }
}

static void rope_kv(struct cpu *cpu, int command, int thread)
{
    const struct command *c = &cpu->command[command];
    const struct rope_kv_args *a = &c->args.rope_kv;
    const int32_t *position = c->buffer[1]->memory;
    bool there = angles_are_there(cpu, command);
    int first, last;
    share(cpu, thread, a->rows, &first, &last);
    for (int r = first; r < last; r++) {
        float *cs = cpu->angles + (size_t)r * (size_t)a->rope_dim;
        if (!there)
            rope_angles(a, position[r], c->buffer[3]->memory, cs);
        rope_row(cpu, c, r, cs);
    }
}

static void swiglu(const struct cpu *cpu, const struct command *c, int thread)
{
    const struct swiglu_args *a = &c->args.swiglu;
    const float *in = c->buffer[0]->memory;
    float *y = c->buffer[1]->memory;
    size_t width = (size_t)a->width;
    int pieces = a->rows >= cpu->threads ? 1 : cpu->threads, first, last; /* of a row */
    int each = round_up((a->width + pieces - 1) / pieces, 64);
    share(cpu, thread, a->rows * pieces, &first, &last);
    for (int i = first; i < last; i++) {
        const float *gate = in + (size_t)(i / pieces) * 2 * width;
        int from = i % pieces * each, n = a->width - from < each ? a->width - from : each;
        if (n > 0)
            cpu->isa->swiglu(gate + from, gate + width + from, y + (size_t)(i / pieces) * width + from, n);
    }
}

static void gather(const struct cpu *cpu, const struct command *c, int thread)
{
    const struct gather_args *a = &c->args.gather;
    const float *x = c->buffer[0]->memory;
    const int32_t *index = c->buffer[1]->memory;
    float *y = c->buffer[2]->memory;
    size_t width = (size_t)a->width;
    int first, last;
    share(cpu, thread, a->rows, &first, &last);
    for (int r = first; r < last; r++) {
        REQUIRE(index[r] >= 0 && ((size_t)index[r] + 1) * width <= c->buffer[0]->count);
        memcpy(y + (size_t)r * width, x + (size_t)index[r] * width, width * sizeof *y);
    }
}

static void add_scaled(const struct cpu *cpu, const struct command *c, int thread)
{
    const struct add_scaled_args *a = &c->args.add_scaled;
    const float *x = c->buffer[0]->memory, *scale = (const float *)c->buffer[1]->memory + a->scale_first;
    float *y = (float *)c->buffer[2]->memory + a->y_offset;
    size_t width = (size_t)a->width;
    int first, last;
    share(cpu, thread, a->rows, &first, &last);
    for (int r = first; r < last; r++) {
        float factor = scale[r] * a->factor, *to = y + (size_t)r * (size_t)a->y_stride;
        const float *from = x + (size_t)r * width;
        for (size_t i = 0; i < width && factor != 0; i++)
            to[i] += from[i] * factor;
    }
}

/* Pairs may build on each other, so one thread copies them in order. */
static void kv_copy(const struct command *c, int thread)
{
    const struct kv_copy_args *a = &c->args.kv_copy;
    const int32_t *pair = c->buffer[0]->memory;
    uint8_t *kv = c->buffer[1]->memory;
    size_t block = (size_t)a->block_elements, bytes = dtype_bytes(c->buffer[1]->dtype, block);
    for (int i = 0; i < a->pairs && thread == 0; i++) {
        size_t from = (size_t)pair[2 * i], to = (size_t)pair[2 * i + 1];
        REQUIRE(pair[2 * i] >= 0 && pair[2 * i + 1] >= 0 && (from + 1) * block <= c->buffer[1]->count &&
                (to + 1) * block <= c->buffer[1]->count);
        memmove(kv + to * bytes, kv + from * bytes, bytes);
    }
}

static void sample(const struct cpu *cpu, const struct command *c, int thread)
{
    const struct sample_args *a = &c->args.sample, one = {1, a->vocab};
    int first, last;
    share(cpu, thread, a->rows, &first, &last);
    for (int r = first; r < last; r++)
        sample_rows(&one, (const float *)c->buffer[0]->memory + (size_t)r * (size_t)a->vocab,
                    c->buffer[1]->memory, (const int32_t *)c->buffer[2]->memory + r * SAMPLE_ROW_INTS,
                    (int32_t *)c->buffer[3]->memory + r, (float *)(void *)cpu->own[thread]);
}

void cpu_rows(struct cpu *cpu, int command, int thread)
{
    const struct command *c = &cpu->command[command];
    switch (c->op) {
    case OPERATOR_embed: embed(cpu, c, thread); break;
    case OPERATOR_rms_norm: rms_norm(cpu, c, thread); break;
    case OPERATOR_rope_kv: rope_kv(cpu, command, thread); break;
    case OPERATOR_swiglu: swiglu(cpu, c, thread); break;
    case OPERATOR_gather: gather(cpu, c, thread); break;
    case OPERATOR_add_scaled: add_scaled(cpu, c, thread); break;
    case OPERATOR_kv_copy: kv_copy(c, thread); break;
    case OPERATOR_sample: sample(cpu, c, thread); break;
    default: REQUIRE(!"an operator on rows");
    }
}
