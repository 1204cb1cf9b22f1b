/* Encoders of RoPE and attention: the table of angles once per list, and which kernel with how many groups
 * attends. */
#include <string.h>

#include "gpu_args.h"
#include "plan.h"

#define ROPE_THREADS 256
#define DECODE_ROWS 8     /* rows of one sequence up to which the kernels for decode do better than tiles */
#define SPLIT_FROM 512    /* context from which a row's keys may be shared between groups */
#define SPLIT_KEYS 256    /* that a group should have at least */
#define SPLITS_MAX 32     /* the lanes that combine them */
#define DECODE_GROUPS 2   /* of the kernels for decode that share a multiprocessor */
#define PREFILL_QUERIES 64 /* rows times heads of a group */
#define PREFILL_STARTS 8   /* groups that share the sequences of one tile */

static bool same_operand(const struct gpu_operand *a, const struct gpu_operand *b)
{
    return a->memory == b->memory && a->offset == b->offset && a->bytes == b->bytes;
}

static bool step_writes(const struct gpu_step *s, const struct gpu_operand *o)
{
    for (uint32_t i = 0; i < s->n_operands; i++) {
        const struct gpu_operand *w = &s->operand[i];
        if (w->written && w->memory == o->memory && w->offset < o->offset + o->bytes &&
            o->offset < w->offset + w->bytes)
            return true;
    }
    return false;
}

static bool step_writes_buffer(const struct gpu_step *s, const struct buffer *b)
{
    size_t bytes = b->count * dtype_block_bytes(b->dtype);
    struct gpu_operand o = {.memory = b->memory, .offset = b->offset, .bytes = bytes};
    return step_writes(s, &o);
}

/* Is the table that an earlier step of this list made the one that is wanted, and still so? What the plan
 * remembers is only where that step was: a list begins with other steps there. */
static bool table_is_there(struct plan *p, const struct gpu_step *wanted)
{
    if (p->rope.step >= p->n_steps - 1)
        return false;
    const struct gpu_step *made = &p->step[p->rope.step];
    if (made->kind != GPU_DISPATCH || made->program != GPU_rope_table ||
        made->args_bytes != wanted->args_bytes || memcmp(made->args, wanted->args, wanted->args_bytes))
        return false;
    for (int i = 0; i < 3; i++)
        if (!same_operand(&made->operand[i], &wanted->operand[i]))
            return false;
    for (; p->rope.checked < p->n_steps - 1; p->rope.checked++)
        for (int i = 0; i < 3; i++)
            if (step_writes(&p->step[p->rope.checked], &made->operand[i]))
                return false;
    return true;
}

/* The angles of a rope_kv command's rows; the kernel that makes them is added where it is missing. */
static struct gpu_operand rope_table(struct plan *p, int command)
{
    const struct command *c = &p->list.command[command];
    const struct rope_kv_args *a = &c->args.rope_kv;
    struct gpu_rope_table_args args = {.rows = a->rows, .pairs = a->rope_dim / 2, .magnitude = a->magnitude};
    size_t n = (size_t)args.rows * (size_t)args.pairs;
    struct gpu_operand table = plan_scratch(p, SCRATCH_ROPE, n * 8);
    struct gpu_step *s = plan_dispatch(p, command, GPU_rope_table, &args, sizeof args,
                                       (uint32_t)((n + ROPE_THREADS - 1) / ROPE_THREADS), 1, 1);
    s->overlaps = true;
    plan_in(s, c->buffer[1], "position");
    plan_in(s, c->buffer[3], "frequency");
    plan_operand(s, &table, true, "angles");
    if (table_is_there(p, s)) {
        p->n_steps--;
    } else {
        p->rope.step = p->n_steps - 1;
        p->rope.checked = p->n_steps;
    }
    return table;
}

void encode_rope(struct plan *p, int command)
{
    const struct command *c = &p->list.command[command];
    const struct rope_kv_args *a = &c->args.rope_kv;
    struct gpu_operand table = rope_table(p, command);
    struct gpu_step *s = plan_dispatch(p, command, GPU_rope_kv, a, sizeof *a, (uint32_t)a->rows, 1, 1);
    s->overlaps = true;
    plan_out(s, c->buffer[0], "qkv");
    plan_in(s, c->buffer[2], "slot");
    plan_operand(s, &table, false, "angles");
    plan_out(s, c->buffer[4], "kv");
}

/* May the kernel read cache, positions and tables before its predecessors have ended? Only if none of those that
 * may still run writes them: the last one that did not launch early, and all after it. */
static bool may_start_early(const struct plan *p, const struct command *attention)
{
    for (int s = p->n_steps - 1; s >= 0; s--) {
        for (int i = 1; i <= 4; i++)
            if (step_writes_buffer(&p->step[s], attention->buffer[i]))
                return false;
        if (!p->step[s].launches_early)
            return true;
    }
    return false;
}

static int choose_splits(const struct plan *p, const struct attention_args *a)
{
    int groups = a->rows * a->n_heads, most = p->facts->cores * DECODE_GROUPS / groups;
    if (a->context <= SPLIT_FROM || most < 2)
        return 1;
    int wanted = (a->context + SPLIT_KEYS - 1) / SPLIT_KEYS;
    wanted = wanted < most ? wanted : most;
    return wanted < SPLITS_MAX ? wanted : SPLITS_MAX;
}

static struct gpu_attention_args common_args(const struct attention_args *a)
{
    int shift = 0;
    while (1 << shift < a->block_tokens)
        shift++;
    return (struct gpu_attention_args){
        .rows = a->rows, .n_heads = a->n_heads, .n_kv_heads = a->n_kv_heads, .head_dim = a->head_dim,
        .q_stride = a->q_stride, .table_stride = a->table_stride, .block_tokens = a->block_tokens,
        .block_shift = 1 << shift == a->block_tokens ? shift : -1, .splits = 1, .heads_each = 1,
        .forms = ATTENTION_F32, .scale = a->scale * 1.44269504f};
}

/* Forms of the result beside or instead of the F32 one. */
struct attention_forms {
    struct gpu_operand codes, halves;
};

static struct attention_forms choose_forms(struct plan *p, int attention, bool result_needed,
                                           int *forms)
{
    const struct command *c = &p->list.command[attention], *m = c + 1;
    const struct attention_args *a = &c->args.attention;
    struct attention_forms f = {0};
    size_t n = (size_t)a->rows * (size_t)a->n_heads * (size_t)a->head_dim;
    *forms = 0;
    if (attention + 1 < p->list.n && m->copy == COPY_NONE && m->op == OPERATOR_matmul &&
        m->buffer[0] == c->buffer[5]) {
        if (a->head_dim % 32 == 0 && matmul_takes(p, FORM_INT8, m)) {
            *forms = ATTENTION_INT8;
            f.codes = plan_scratch(p, SCRATCH_INT8_A, n + n / 8);
        } else if (matmul_takes(p, FORM_HALF, m)) {
            *forms = ATTENTION_HALF;
            f.halves = plan_scratch(p, SCRATCH_HALF, n * 2);
        }
    }
    if (result_needed || *forms == 0)
        *forms |= ATTENTION_F32;
    return f;
}

static void put_result(struct plan *p, struct gpu_step *s, const struct command *c,
                       const struct attention_forms *f, int forms, bool last)
{
    plan_out(s, c->buffer[5], "out");
    plan_operand(s, forms & ATTENTION_INT8 ? &f->codes : NULL, forms & ATTENTION_INT8, "out as 8 bits");
    plan_operand(s, forms & ATTENTION_HALF ? &f->halves : NULL, forms & ATTENTION_HALF, "out as halves");
    if (last && forms & ATTENTION_INT8)
        plan_put_form(p, FORM_INT8, c->buffer[5], &f->codes, 1);
    if (last && forms & ATTENTION_HALF)
        plan_put_form(p, FORM_HALF, c->buffer[5], &f->halves, 1);
}

/* Query heads of a group that share its keys: as many as leave little idle. */
static int choose_heads(int per_kv)
{
    for (int heads = 4; heads > 1; heads /= 2)
        if (4 * per_kv >= 3 * ((per_kv + heads - 1) / heads * heads))
            return heads;
    return 1;
}

static void encode_prefill(struct plan *p, int attention, const struct attention_forms *f, int forms)
{
    const struct command *c = &p->list.command[attention];
    const struct attention_args *a = &c->args.attention;
    struct gpu_attention_args args = common_args(a);
    int per_kv = a->n_heads / a->n_kv_heads;
    enum gpu_program program = a->head_dim <= 64    ? GPU_prefill_attention_64
                               : a->head_dim <= 128 ? GPU_prefill_attention_128
                                                    : GPU_prefill_attention_256;
    args.forms = forms;
    args.heads_each = choose_heads(per_kv);
    int rows = PREFILL_QUERIES / args.heads_each, blocks = (per_kv + args.heads_each - 1) / args.heads_each;
    struct gpu_step *s = plan_dispatch(p, attention, program, &args, sizeof args,
                                       (uint32_t)((a->rows + rows - 1) / rows),
                                       (uint32_t)(a->n_kv_heads * blocks), PREFILL_STARTS);
    s->overlaps = true;
    plan_in(s, c->buffer[0], "qkv");
    plan_in(s, c->buffer[1], "position");
    plan_in(s, c->buffer[2], "sequence");
    plan_in(s, c->buffer[3], "table");
    plan_in(s, c->buffer[4], "kv");
    put_result(p, s, c, f, forms, true);
}

static void encode_decode(struct plan *p, int rope, int attention, const struct attention_forms *f, int forms)
{
    const struct command *c = &p->list.command[attention], *r = rope >= 0 ? &p->list.command[rope] : NULL;
    const struct attention_args *a = &c->args.attention;
    struct gpu_attention_args args = common_args(a);
    struct gpu_operand table = {0}, partial = {0};
    enum gpu_program program = a->head_dim <= 64    ? r ? GPU_rope_attention_64 : GPU_attention_64
                               : a->head_dim <= 128 ? r ? GPU_rope_attention_128 : GPU_attention_128
                               : r                  ? GPU_rope_attention_256
                                                    : GPU_attention_256;
    args.forms = forms;
    args.splits = choose_splits(p, a);
    if (r) {
        table = rope_table(p, rope);
        args.rope_dim = r->args.rope_kv.rope_dim;
        args.style = r->args.rope_kv.style;
        args.early = may_start_early(p, c);
    }
    if (args.splits > 1)
        partial = plan_scratch(p, SCRATCH_PARTIAL,
                               (size_t)a->rows * (size_t)a->n_heads * (size_t)args.splits *
                                   (size_t)(a->head_dim + 2) * sizeof(float));
    struct gpu_step *s = plan_dispatch(p, attention, program, &args, sizeof args, (uint32_t)a->n_heads,
                                       (uint32_t)args.splits, (uint32_t)a->rows);
    s->overlaps = true;
    plan_in(s, c->buffer[0], "qkv");
    plan_in(s, c->buffer[1], "position");
    plan_in(s, c->buffer[2], "sequence");
    plan_in(s, c->buffer[3], "table");
    if (r)
        plan_out(s, c->buffer[4], "kv");
    else
        plan_in(s, c->buffer[4], "kv");
    plan_in(s, r ? r->buffer[2] : NULL, "slot");
    plan_operand(s, r ? &table : NULL, false, "angles");
    put_result(p, s, c, f, args.splits > 1 ? 0 : forms, args.splits == 1);
    plan_operand(s, args.splits > 1 ? &partial : NULL, args.splits > 1, "partial results");
    if (args.splits == 1)
        return;
    s = plan_dispatch(p, attention, GPU_attention_combine, &args, sizeof args, (uint32_t)a->n_heads,
                      (uint32_t)a->rows, 1);
    s->overlaps = true;
    plan_operand(s, &partial, false, "partial results");
    put_result(p, s, c, f, forms, true);
}

/* Every row a sequence of its own, whose own key the kernel makes and appends before it is read back. */
static bool rope_joins(const struct command *rope, const struct command *attention)
{
    const struct rope_kv_args *r = &rope->args.rope_kv;
    const struct attention_args *a = &attention->args.attention;
    return a->single && rope->buffer[1] == attention->buffer[1] && r->n_heads == a->n_heads &&
           r->n_kv_heads == a->n_kv_heads && r->head_dim == a->head_dim && r->block_tokens == a->block_tokens &&
           a->q_stride == (r->n_heads + 2 * r->n_kv_heads) * r->head_dim;
}

bool encode_attention(struct plan *p, int rope, int attention, bool result_needed)
{
    const struct attention_args *a = &p->list.command[attention].args.attention;
    int forms;
    REQUIRE(a->head_dim % 8 == 0 && a->head_dim <= 256 && a->n_heads % a->n_kv_heads == 0);
    if (rope >= 0 && !rope_joins(&p->list.command[rope], &p->list.command[attention]))
        return false;
    struct attention_forms f = choose_forms(p, attention, result_needed, &forms);
    if (a->single || a->rows <= DECODE_ROWS)
        encode_decode(p, rope, attention, &f, forms);
    else
        encode_prefill(p, attention, &f, forms);
    return true;
}
