/* What adapters add to the products of a step: two thin matmuls and a sum for each, over all rows, of which those keep
 * their bits that do not have the adapter. */
#include "forward_private.h"

static void add_pair(const struct recording *r, const struct product *p, int adapter, const struct adapter_pair *pair)
{
    const struct forward *f = r->f;
    int all = p->outputs ? r->shape.outputs : r->shape.rows, rows = p->layer < 0 ? all - r->shape.states : all;
    struct matmul_args down = {.rows = rows, .in = p->in, .out = {pair->rank}, .precise = 1};
    struct matmul_args up = {.rows = rows, .in = pair->rank, .out = {p->width}, .precise = 1};
    struct add_scaled_args add = {.rows = rows, .width = p->width, .y_stride = p->y_stride, .y_offset = p->y_offset,
                                  .scale_first = adapter * all, .factor = pair->factor};
    struct buffer *delta = p->layer < 0 ? f->delta_logits : f->delta;

    commands_stage(r->c, p->layer, "LoRA");
    device_matmul(r->c, &down, p->x, pair->a, NULL, NULL, NULL, NULL, f->low);
    device_matmul(r->c, &up, f->low, pair->b, NULL, NULL, NULL, NULL, delta);
    device_add_scaled(r->c, &add, delta, r->input[p->outputs ? INPUT_OUTPUT_SCALE : INPUT_SCALE], p->y);
}

void forward_adapt(const struct recording *r, const struct product *p)
{
    for (int i = 0; r->shape.adapters >> i; i++) {
        const struct adapter_pair *pair = adapter_pair(r->f->options.adapters[i], p->layer, p->which);
        if (pair->a && r->shape.adapters >> i & 1)
            add_pair(r, p, i, pair);
    }
}
