/* Attention dealt out over the pool: by rows and KV heads, and for few rows by spans of the
 * context too. Either way a row's spans are computed apart and merged in order, so a result does
 * not depend on the way. */
#include <string.h>

#include "cpu.h"

struct plan {
    const struct attention_args *args;
    const float *qkv;
    const int32_t *position, *sequence, *table;
    const void *kv;
    enum dtype kv_type;
    float *out;
    int heads;      /* query heads of a KV head */
    int rows_each;  /* rows of a piece of work */
    int spans;      /* of the longest row */
    bool apart;     /* each span a piece of its own */
};

static void make_plan(struct plan *p, const struct cpu *cpu, const struct command *c, int longest)
{
    const struct attention_args *a = &c->args.attention;
    *p = (struct plan){.args = a,
                       .qkv = c->buffer[0]->memory,
                       .position = c->buffer[1]->memory,
                       .sequence = c->buffer[2]->memory,
                       .table = c->buffer[3]->memory,
                       .kv = c->buffer[4]->memory,
                       .kv_type = c->buffer[4]->dtype,
                       .out = c->buffer[5]->memory,
                       .heads = a->n_heads / a->n_kv_heads};
    p->spans = longest / ATTENTION_SPAN + 1;
    int pieces = cpu->threads * 4, most = ATTENTION_QUERIES / p->heads;
    p->rows_each = a->rows * a->n_kv_heads / pieces;
    p->rows_each = p->rows_each > most ? most : p->rows_each;
    p->rows_each = p->rows_each < 1 ? 1 : p->rows_each;
    p->apart = p->spans > 1 && a->rows * a->n_kv_heads < pieces && cpu->threads > 1;
}

/* Positions may come with the submission itself, so the most that there can be counts. */
void attention_needs(const struct cpu *cpu, const struct command *c, struct scratch *need)
{
    struct plan p;
    make_plan(&p, cpu, c, c->args.attention.context - 1);
    size_t states = (size_t)(p.rows_each * p.heads) * attention_stride(p.args);
    need->own = (attention_scratch(p.args, p.rows_each) + 2 * states) * sizeof(float);
    if (p.apart)
        need->shared = (size_t)p.args->rows * (size_t)p.args->n_heads * (size_t)p.spans *
                       attention_stride(p.args) * sizeof(float);
}

/* Rows [row, row + rows) of one sequence over one span. */
static void attend_rows(const struct cpu *cpu, const struct plan *p, int row, int rows, int head, int span,
                        float *scratch, float *state)
{
    const struct attention_args *a = p->args;
    struct attention_span s = {
        .args = a,
        .q = p->qkv + (size_t)row * (size_t)a->q_stride + (size_t)(head * p->heads * a->head_dim),
        .position = p->position + row,
        .table = p->table + (size_t)p->sequence[row] * (size_t)a->table_stride,
        .kv_type = p->kv_type,
        .kv = p->kv,
        .rows = rows,
        .head = head,
        .first = span * ATTENTION_SPAN,
        .last = (span + 1) * ATTENTION_SPAN,
        .scratch = scratch,
        .state = state,
    };
    cpu->isa->attend(&s);
}

static void write_row(const struct plan *p, int row, int head, const float *states)
{
    const struct attention_args *a = p->args;
    int width = attention_width(a);
    float *out =
        p->out + ((size_t)row * (size_t)a->n_heads + (size_t)(head * p->heads)) * (size_t)a->head_dim;
    for (int h = 0; h < p->heads; h++, states += attention_stride(a), out += a->head_dim) {
        float inverse = 1.0f / states[width + 1];
        for (int i = 0; i < a->head_dim; i++)
            out[i] = states[i] * inverse;
    }
}

static void merge(const struct cpu *cpu, const struct plan *p, int queries, float *total, const float *more)
{
    size_t stride = attention_stride(p->args);
    for (int i = 0; i < queries; i++)
        cpu->isa->attend_merge(total + (size_t)i * stride, more + (size_t)i * stride,
                               attention_width(p->args));
}

/* A piece over rows: every span of its rows, one run of rows of the same sequence after another. The last
 * rows of a prompt see the most, so they go first and no thread is left with a long piece at the end. */
static void run_rows(const struct cpu *cpu, const struct plan *p, int unit, float *own)
{
    const struct attention_args *a = p->args;
    int pieces = (a->rows + p->rows_each - 1) / p->rows_each, head = unit % a->n_kv_heads;
    int row = (pieces - 1 - unit / a->n_kv_heads) * p->rows_each;
    int end = row + p->rows_each < a->rows ? row + p->rows_each : a->rows;
    float *total = own, *state = total + (size_t)(p->rows_each * p->heads) * attention_stride(a);
    float *scratch = state + (size_t)(p->rows_each * p->heads) * attention_stride(a);
    while (row < end) {
        int rows = 1, longest = p->position[row];
        while (row + rows < end && p->sequence[row + rows] == p->sequence[row]) {
            longest = p->position[row + rows] > longest ? p->position[row + rows] : longest;
            rows++;
        }
        attend_rows(cpu, p, row, rows, head, 0, scratch, total);
        for (int span = 1; span <= longest / ATTENTION_SPAN; span++) {
            attend_rows(cpu, p, row, rows, head, span, scratch, state);
            merge(cpu, p, rows * p->heads, total, state);
        }
        for (int r = 0; r < rows; r++)
            write_row(p, row + r, head, total + (size_t)(r * p->heads) * attention_stride(a));
        row += rows;
    }
}

/* Where the states of one row, head and span lie. */
static float *state_of(const struct cpu *cpu, const struct plan *p, int row, int head, int span)
{
    size_t at = ((size_t)row * (size_t)p->args->n_kv_heads + (size_t)head) * (size_t)p->spans + (size_t)span;
    return (float *)(void *)cpu->shared + at * (size_t)p->heads * attention_stride(p->args);
}

static void run_apart(struct cpu *cpu, const struct plan *p, int command, int thread)
{
    const struct attention_args *a = p->args;
    int row_heads = a->rows * a->n_kv_heads, units = row_heads * p->spans;
    float *own = (float *)(void *)cpu->own[thread];
    for (;;) {
        int unit = atomic_fetch_add_explicit(&cpu->next[command], 1, memory_order_relaxed);
        if (unit >= units)
            break;
        int span = unit % p->spans, head = unit / p->spans % a->n_kv_heads,
            row = unit / p->spans / a->n_kv_heads;
        if (span <= p->position[row] / ATTENTION_SPAN)
            attend_rows(cpu, p, row, 1, head, span, own, state_of(cpu, p, row, head, span));
    }
    pool_barrier(cpu->pool);
    for (int i = thread; i < row_heads; i += cpu->threads) {
        int row = i / a->n_kv_heads, head = i % a->n_kv_heads;
        for (int span = 1; span <= p->position[row] / ATTENTION_SPAN; span++)
            merge(cpu, p, p->heads, state_of(cpu, p, row, head, 0), state_of(cpu, p, row, head, span));
        write_row(p, row, head, state_of(cpu, p, row, head, 0));
    }
}

void cpu_attention(struct cpu *cpu, int command, int thread)
{
    const struct command *c = &cpu->command[command];
    const struct attention_args *a = &c->args.attention;
    const int32_t *position = c->buffer[1]->memory;
    int longest = 0;
    for (int r = 0; r < a->rows; r++) {
        REQUIRE(position[r] >= 0 && position[r] < a->context);
        longest = position[r] > longest ? position[r] : longest;
    }
    struct plan p;
    make_plan(&p, cpu, c, longest);
    if (p.apart) {
        run_apart(cpu, &p, command, thread);
        return;
    }
    int units = (p.args->rows + p.rows_each - 1) / p.rows_each * p.args->n_kv_heads;
    for (;;) {
        int unit = atomic_fetch_add_explicit(&cpu->next[command], 1, memory_order_relaxed);
        if (unit >= units)
            return;
        run_rows(cpu, &p, unit, (float *)(void *)cpu->own[thread]);
    }
}
