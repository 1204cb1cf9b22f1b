/* The operator list as a table: operands' names and types, what of them a command touches, and the checks
 * that every command passes before any device sees it. */
#include <string.h>

#include "commands.h"

struct operand {
    enum access access;
    enum dtype dtype;
    const char *name;
};

#define IN(type, name) {ACCESS_IN, DTYPE_##type, #name}
#define OUT(type, name) {ACCESS_OUT, DTYPE_##type, #name}
#define INOUT(type, name) {ACCESS_INOUT, DTYPE_##type, #name}
#define OPT(type, name) {ACCESS_OPT, DTYPE_##type, #name}
#define WEIGHT(name) {ACCESS_WEIGHT, 0, #name}
#define OPTWEIGHT(name) {ACCESS_OPTWEIGHT, 0, #name}
#define KVIN(name) {ACCESS_KVIN, 0, #name}
#define KVOUT(name) {ACCESS_KVOUT, 0, #name}
static const struct {
    const char *name;
    struct operand operand[OPERATOR_MAX_BUFFERS];
} operators[OPERATOR_COUNT] = {
#define OPERATOR(name, ...) [OPERATOR_##name] = {#name, {__VA_ARGS__}},
#include "kernels.def"
#undef OPERATOR
};

const char *operator_name(enum operator op)
{
    return op == OPERATOR_COUNT ? "copy" : operators[op].name;
}

enum access operand_access(enum operator op, int i)
{
    return op == OPERATOR_COUNT || i >= OPERATOR_MAX_BUFFERS ? ACCESS_NONE : operators[op].operand[i].access;
}

const char *operand_name(enum operator op, int i)
{
    return operators[op].operand[i].name;
}

/* Rows of `width` elements every `stride`, the first at `offset`. */
static struct operand_span rows_span(int rows, size_t stride, size_t offset, size_t width)
{
    return (struct operand_span){offset, (size_t)(rows - 1) * stride + offset + width};
}

static struct operand_span dense(int rows, size_t width)
{
    return (struct operand_span){0, (size_t)rows * width};
}

/* Where data tells which part is touched (a table's rows, KV blocks, gathered rows), all is. */
void command_spans(const struct command *c, struct operand_span span[OPERATOR_MAX_BUFFERS])
{
    memset(span, 0, sizeof *span * OPERATOR_MAX_BUFFERS);
    switch (c->op) {
    case OPERATOR_embed: {
        const struct embed_args *a = &c->args.embed;
        span[0] = dense(a->rows, 1);
        span[3] = dense(a->rows, (size_t)a->width);
        break;
    }
    case OPERATOR_rms_norm: {
        const struct rms_norm_args *a = &c->args.rms_norm;
        size_t inner = (size_t)a->groups * (size_t)a->width;
        span[0] = rows_span(a->rows, (size_t)a->x_stride, (size_t)a->x_offset, inner);
        span[1] = dense(1, (size_t)a->width);
        span[2] = rows_span(a->rows, (size_t)a->y_stride, (size_t)a->y_offset, inner);
        break;
    }
    case OPERATOR_matmul: {
        const struct matmul_args *a = &c->args.matmul;
        size_t out = (size_t)a->out[0] + (size_t)a->out[1] + (size_t)a->out[2];
        span[0] = dense(a->rows, (size_t)a->in);
        span[4] = dense(1, out);
        span[5] = span[6] = dense(a->rows, out);
        break;
    }
    case OPERATOR_rope_kv: {
        const struct rope_kv_args *a = &c->args.rope_kv;
        span[0] = dense(a->rows, (size_t)(a->n_heads + 2 * a->n_kv_heads) * (size_t)a->head_dim);
        span[1] = span[2] = dense(a->rows, 1);
        span[3] = dense(1, (size_t)a->rope_dim);
        break;
    }
    case OPERATOR_attention: {
        const struct attention_args *a = &c->args.attention;
        size_t width = (size_t)a->n_heads * (size_t)a->head_dim;
        span[0] = rows_span(a->rows, (size_t)a->q_stride, 0, width);
        span[1] = span[2] = dense(a->rows, 1);
        span[5] = dense(a->rows, width);
        break;
    }
    case OPERATOR_swiglu: {
        const struct swiglu_args *a = &c->args.swiglu;
        span[0] = dense(a->rows, 2 * (size_t)a->width);
        span[1] = dense(a->rows, (size_t)a->width);
        break;
    }
    case OPERATOR_gather: {
        const struct gather_args *a = &c->args.gather;
        span[1] = dense(a->rows, 1);
        span[2] = dense(a->rows, (size_t)a->width);
        break;
    }
    case OPERATOR_add_scaled: {
        const struct add_scaled_args *a = &c->args.add_scaled;
        size_t first = (size_t)a->scale_first;
        span[0] = dense(a->rows, (size_t)a->width);
        span[1] = (struct operand_span){first, first + (size_t)a->rows};
        span[2] = rows_span(a->rows, (size_t)a->y_stride, (size_t)a->y_offset, (size_t)a->width);
        break;
    }
    case OPERATOR_kv_copy: span[0] = dense(c->args.kv_copy.pairs, 2); break;
    case OPERATOR_sample: {
        const struct sample_args *a = &c->args.sample;
        span[0] = dense(a->rows, (size_t)a->vocab);
        span[1] = dense(1, ((size_t)a->vocab + 31) / 32);
        span[2] = dense(a->rows, SAMPLE_ROW_INTS);
        span[3] = dense(a->rows, 1);
        break;
    }
    case OPERATOR_COUNT: REQUIRE(!"an operator");
    }
}

static int check_weights(const struct command *c, struct err *err)
{
    if (c->op == OPERATOR_embed) {
        const struct buffer *w = c->buffer[2];
        const struct embed_args *a = &c->args.embed;
        if (w->rows != (size_t)a->vocab || w->columns != (size_t)a->width)
            return err_set(err, ERR_INVALID, "embed: table is [%zu][%zu], the arguments say [%d][%d]",
                           w->rows, w->columns, a->vocab, a->width);
    }
    if (c->op == OPERATOR_matmul) {
        const struct matmul_args *a = &c->args.matmul;
        for (int i = 0; i < 3; i++) {
            const struct buffer *w = c->buffer[1 + i];
            size_t rows = w ? w->rows : 0, columns = w ? w->columns : (size_t)a->in;
            if (rows != (size_t)a->out[i] || columns != (size_t)a->in)
                return err_set(err, ERR_INVALID, "matmul: w%d is [%zu][%zu], the arguments say [%d][%d]", i,
                               rows, columns, a->out[i], a->in);
        }
    }
    return 0;
}

static int check_operand(const struct command *c, int i, size_t least, struct err *err)
{
    const struct operand *o = &operators[c->op].operand[i];
    const struct buffer *b = c->buffer[i];
    const char *op = operators[c->op].name;
    if (!b) {
        if (o->access == ACCESS_OPT || o->access == ACCESS_OPTWEIGHT)
            return 0;
        return err_set(err, ERR_INVALID, "%s: buffer %s is missing", op, o->name);
    }
    bool weight = o->access == ACCESS_WEIGHT || o->access == ACCESS_OPTWEIGHT;
    if (weight != (b->rows != 0))
        return err_set(err, ERR_INVALID, "%s: buffer %s must %sbe a weight", op, o->name,
                       weight ? "" : "not ");
    if (weight)
        return 0;
    bool kv = o->access == ACCESS_KVIN || o->access == ACCESS_KVOUT;
    enum dtype want = kv ? b->device->info.kv_type : o->dtype;
    if (b->dtype != want)
        return err_set(err, ERR_INVALID, "%s: buffer %s is %s, the operator wants %s", op, o->name,
                       dtype_name(b->dtype), dtype_name(want));
    if (b->count < least)
        return err_set(err, ERR_INVALID, "%s: buffer %s has %zu elements, the operator wants %zu", op,
                       o->name, b->count, least);
    return 0;
}

/* A head's row in the KV cache is whole blocks of its type. */
static int check_head(const struct command *c, struct err *err)
{
    int dim = c->op == OPERATOR_rope_kv ? c->args.rope_kv.head_dim : c->args.attention.head_dim;
    enum dtype type = c->buffer[4]->dtype;
    if (dim % (int)dtype_block(type))
        return err_set(err, ERR_INVALID, "%s: heads of %d elements are no whole blocks of %s",
                       operators[c->op].name, dim, dtype_name(type));
    return 0;
}

int command_check(const struct command *c, struct err *err)
{
    struct operand_span span[OPERATOR_MAX_BUFFERS];
    int rows;
    memcpy(&rows, &c->args, sizeof rows); /* what every argument struct begins with */
    if (rows < 1)
        return err_set(err, ERR_INVALID, "%s: %d rows", operators[c->op].name, rows);
    command_spans(c, span);
    for (int i = 0; i < OPERATOR_MAX_BUFFERS && operators[c->op].operand[i].access != ACCESS_NONE; i++) {
        int rc = check_operand(c, i, span[i].end, err);
        if (rc < 0)
            return rc;
    }
    if (c->op == OPERATOR_rope_kv || c->op == OPERATOR_attention) {
        int rc = check_head(c, err);
        if (rc < 0)
            return rc;
    }
    return check_weights(c, err);
}

static void rows_of(struct command_info *info, struct buffer *b, int rows, size_t width)
{
    info->output = b;
    info->rows = (size_t)rows;
    info->stride = info->width = width;
}

void command_output(const struct command *c, struct command_info *info)
{
    struct buffer *const *b = c->buffer;
    *info = (struct command_info){.op = c->op, .layer = c->layer, .stage = c->stage};
    switch (c->op) {
    case OPERATOR_embed: rows_of(info, b[3], c->args.embed.rows, (size_t)c->args.embed.width); break;
    case OPERATOR_rms_norm: {
        const struct rms_norm_args *a = &c->args.rms_norm;
        rows_of(info, b[2], a->rows, (size_t)a->groups * (size_t)a->width);
        info->stride = (size_t)a->y_stride;
        info->offset = (size_t)a->y_offset;
        break;
    }
    case OPERATOR_matmul: {
        const struct matmul_args *a = &c->args.matmul;
        rows_of(info, b[6], a->rows, (size_t)a->out[0] + (size_t)a->out[1] + (size_t)a->out[2]);
        break;
    }
    case OPERATOR_rope_kv: {
        const struct rope_kv_args *a = &c->args.rope_kv;
        rows_of(info, b[0], a->rows, (size_t)(a->n_heads + 2 * a->n_kv_heads) * (size_t)a->head_dim);
        break;
    }
    case OPERATOR_attention: {
        const struct attention_args *a = &c->args.attention;
        rows_of(info, b[5], a->rows, (size_t)a->n_heads * (size_t)a->head_dim);
        break;
    }
    case OPERATOR_swiglu: rows_of(info, b[1], c->args.swiglu.rows, (size_t)c->args.swiglu.width); break;
    case OPERATOR_gather: rows_of(info, b[2], c->args.gather.rows, (size_t)c->args.gather.width); break;
    case OPERATOR_add_scaled: {
        const struct add_scaled_args *a = &c->args.add_scaled;
        rows_of(info, b[2], a->rows, (size_t)a->width);
        info->stride = (size_t)a->y_stride;
        info->offset = (size_t)a->y_offset;
        break;
    }
    case OPERATOR_kv_copy: rows_of(info, b[1], 1, b[1]->count); break;
    case OPERATOR_sample: rows_of(info, b[3], c->args.sample.rows, 1); break;
    case OPERATOR_COUNT:
        rows_of(info, b[0], 1, c->count);
        info->offset = c->first;
        break;
    }
}
