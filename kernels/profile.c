/* What each operator of each stage took, and how much it had to read and to multiply. */
#include <string.h>

#include "backend.h"

_Static_assert(OPERATOR_COUNT < PROFILE_ROWS, "a row for each operator");

/* Inputs that keep 15 bits are multiplied in two halves. */
static void matmul_work(const struct command *c, bool int8, struct profile_row *row)
{
    const struct matmul_args *a = &c->args.matmul;
    for (int i = 0; i < 3 && c->buffer[1 + i]; i++) {
        const struct buffer *w = c->buffer[1 + i];
        bool quantised = int8 && dtype_block(w->dtype) > 1;
        row->bytes += (double)w->bytes;
        row->operations += (quantised && a->precise ? 4.0 : 2.0) * a->rows * a->in * a->out[i];
        row->int8 = quantised;
    }
}

/* A sequence's keys and values are read once for all its rows, which lie together in order. */
static void attention_work(const struct command *c, struct profile_row *row)
{
    const struct attention_args *a = &c->args.attention;
    const struct buffer *kv = c->buffer[4];
    const int32_t *position = c->buffer[1]->memory, *sequence = c->buffer[2]->memory;
    double head = a->head_dim;
    double bytes = head / (double)dtype_block(kv->dtype) * (double)dtype_block_bytes(kv->dtype);
    for (int r = 0; r < a->rows; r++) {
        double seen = position[r] + 1;
        row->operations += 4 * seen * a->n_heads * head;
        if (r + 1 == a->rows || sequence[r + 1] != sequence[r])
            row->bytes += 2 * seen * a->n_kv_heads * bytes;
    }
}

static struct profile_row *find_row(struct profile *p, const struct command *c)
{
    for (int i = 0; i < p->n; i++) {
        struct profile_row *row = &p->row[i];
        if (row->op == c->op && (row->stage == c->stage || !strcmp(row->stage, c->stage)))
            return row;
    }
    if (p->n == PROFILE_ROWS)
        return NULL;
    p->row[p->n] = (struct profile_row){.op = c->op, .stage = c->stage};
    return &p->row[p->n++];
}

void profile_add(struct device *device, const struct command *c, double seconds, double waiting)
{
    struct profile_row *row = find_row(&device->profile, c);
    if (!row)
        return;
    row->calls++;
    row->seconds += seconds;
    device->profile.waiting += waiting;
    if (c->op == OPERATOR_matmul)
        matmul_work(c, device->backend->int8_rate != NULL, row);
    else if (c->op == OPERATOR_attention)
        attention_work(c, row);
}
