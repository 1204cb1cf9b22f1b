/* A result lives from the command that writes it to the last that reads it. */
#include "lifetime.h"

static bool overlap(const struct buffer *a, const struct buffer *b)
{
    if (a == b)
        return true;
    const struct buffer *root_a = a->parent ? a->parent : a, *root_b = b->parent ? b->parent : b;
    return root_a == root_b && a->first < b->first + b->count && b->first < a->first + a->count;
}

static bool reads(const struct command *c, const struct buffer *b)
{
    if (c->copy != COPY_NONE)
        return c->copy == COPY_OUT && overlap(c->buffer[0], b);
    for (int i = 0; i < OPERATOR_MAX_BUFFERS; i++) {
        enum access access = operand_access(c->op, i);
        if (access == ACCESS_NONE)
            break;
        if (c->buffer[i] && access != ACCESS_OUT && overlap(c->buffer[i], b))
            return true;
    }
    return false;
}

bool command_writes(const struct command *c, const struct buffer *b)
{
    if (c->copy != COPY_NONE)
        return c->copy == COPY_IN && overlap(c->buffer[0], b);
    for (int i = 0; i < OPERATOR_MAX_BUFFERS; i++) {
        enum access access = operand_access(c->op, i);
        if (access == ACCESS_NONE)
            break;
        bool written = access == ACCESS_OUT || access == ACCESS_INOUT || access == ACCESS_KVOUT;
        if (written && c->buffer[i] && overlap(c->buffer[i], b))
            return true;
    }
    return false;
}

/* A buffer's readers read what its last writer wrote, so an operator that writes it ends the life of
 * what was there. */
static bool ends(const struct command *c, const struct buffer *b)
{
    if (c->copy != COPY_NONE)
        return false;
    for (int i = 0; i < OPERATOR_MAX_BUFFERS; i++) {
        enum access access = operand_access(c->op, i);
        if (access == ACCESS_NONE)
            break;
        if (access == ACCESS_OUT && c->buffer[i] == b)
            return true;
    }
    return false;
}

bool recorded_needed(const struct recorded *r, int i, const struct buffer *b, int consumer)
{
    if (r->keep_all)
        return true;
    for (int k = i + 1; k < r->n; k++) {
        if (k != consumer && reads(&r->command[k], b))
            return true;
        if (ends(&r->command[k], b))
            return false;
    }
    return !b->scratch;
}

int recorded_reader(const struct recorded *r, int i, const struct buffer *b)
{
    for (int k = i + 1; k < r->n; k++) {
        if (reads(&r->command[k], b))
            return k;
        if (ends(&r->command[k], b))
            return -1;
    }
    return -1;
}

bool recorded_is(const struct recorded *r, int i, enum operator op)
{
    return i < r->n && r->command[i].copy == COPY_NONE && r->command[i].op == op;
}

bool recorded_norm_joins(const struct recorded *r, int norm)
{
    if (r->keep_all || !recorded_is(r, norm + 1, OPERATOR_matmul))
        return false;
    const struct command *c = &r->command[norm], *m = c + 1;
    const struct rms_norm_args *a = &c->args.rms_norm;
    return m->buffer[0] == c->buffer[2] && m->buffer[5] != c->buffer[2] && !reads(c, m->buffer[6]) &&
           a->groups == 1 && a->x_offset == 0 && a->y_offset == 0 && a->x_stride == a->width &&
           a->y_stride == a->width && !recorded_needed(r, norm, c->buffer[2], norm + 1);
}

bool recorded_swiglu_joins(const struct recorded *r, int matmul)
{
    if (r->keep_all || !recorded_is(r, matmul + 1, OPERATOR_swiglu))
        return false;
    const struct command *m = &r->command[matmul], *s = &r->command[matmul + 1];
    const struct matmul_args *a = &m->args.matmul;
    if (reads(m, s->buffer[1]) || (matmul > 0 && reads(m - 1, s->buffer[1])))
        return false; /* perhaps the input of all three, which some threads still read */
    return s->buffer[0] == m->buffer[6] && m->buffer[5] == NULL && s->args.swiglu.rows == a->rows &&
           a->out[0] == s->args.swiglu.width && a->out[1] == a->out[0] && a->out[2] == 0 &&
           !recorded_needed(r, matmul, m->buffer[6], matmul + 1);
}
