/* The layout of a step's inputs. There are two, for steps of at most one row per sequence (decode) and for
 * others, so that what a decode step uploads is small; in neither do places depend on the step. */
#include "step_inputs.h"

#include <stdlib.h>
#include <string.h>

enum { LAYOUT_DECODE, LAYOUT_FULL, LAYOUT_COUNT, LEAST_CONTEXT = 256, ALIGNMENT = 16 };

struct layout {
    size_t rows, outputs;                      /* at most; outputs: with logits */
    size_t first[INPUT_COUNT], n[INPUT_COUNT]; /* elements of the buffer */
    size_t end;
    struct buffer *view[INPUT_COUNT];
};

struct step_inputs {
    size_t table_stride;      /* of struct batch's tables */
    int32_t *values;          /* what is uploaded */
    struct buffer *buffer;    /* I32 */
    struct layout layout[LAYOUT_COUNT];
};

static void lay_out(struct layout *l, size_t rows, size_t outputs, const struct forward_options *o,
                    size_t table_stride)
{
    *l = (struct layout){.rows = rows, .outputs = outputs};
    const size_t n[INPUT_COUNT] = {rows, rows, rows, rows, rows, outputs * SAMPLE_ROW_INTS,
                                   (size_t)o->n_adapters * rows, (size_t)o->n_adapters * rows,
                                   (size_t)o->max_sequences * table_stride, 2 * (size_t)o->n_blocks};
    for (int i = 0; i < INPUT_COUNT; i++) {
        l->first[i] = l->end;
        l->n[i] = n[i];
        l->end += (n[i] + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
}

static void lay_out_all(struct layout layout[LAYOUT_COUNT], const struct forward_options *o, int table_stride)
{
    size_t rows = (size_t)o->max_rows, outputs = (size_t)o->max_outputs, few = (size_t)o->max_sequences;
    few = few < rows ? few : rows;
    lay_out(&layout[LAYOUT_DECODE], few, few < outputs ? few : outputs, o, (size_t)table_stride);
    lay_out(&layout[LAYOUT_FULL], rows, outputs, o, (size_t)table_stride);
}

size_t step_inputs_bytes(const struct forward_options *o, int table_stride)
{
    struct layout layout[LAYOUT_COUNT];
    lay_out_all(layout, o, table_stride);
    return layout[LAYOUT_FULL].end * sizeof(int32_t);
}

int step_inputs_create(struct step_inputs **out, struct device *device, const struct forward_options *o,
                       int table_stride, struct err *err)
{
    struct step_inputs *in = calloc(1, sizeof *in);
    if (!in)
        return err_set(err, ERR_NOMEM, "no memory for the inputs of a step");
    in->table_stride = (size_t)table_stride;
    lay_out_all(in->layout, o, table_stride);
    size_t n = in->layout[LAYOUT_FULL].end;
    in->values = calloc(n, sizeof *in->values);
    int rc = in->values ? buffer_create(device, DTYPE_I32, n, &in->buffer, err)
                        : err_set(err, ERR_NOMEM, "no memory for the inputs of a step");
    for (int l = 0; l < LAYOUT_COUNT; l++)
        for (int i = 0; i < INPUT_COUNT && rc == 0; i++)
            if (in->layout[l].n[i])
                rc = buffer_view(in->buffer, in->layout[l].first[i], in->layout[l].n[i], &in->layout[l].view[i],
                                 err);
    if (rc) {
        step_inputs_destroy(in);
        return rc;
    }
    *out = in;
    return 0;
}

void step_inputs_destroy(struct step_inputs *in)
{
    if (!in)
        return;
    for (int l = 0; l < LAYOUT_COUNT; l++)
        for (int i = 0; i < INPUT_COUNT; i++)
            buffer_free(in->layout[l].view[i]);
    buffer_free(in->buffer);
    free(in->values);
    free(in);
}

struct step_shape step_shape(const struct forward_options *o, int table_stride, const struct batch *b)
{
    struct step_shape s = {.rows = b->n_rows, .outputs = b->n_outputs, .sampled = b->n_sampled,
                           .states = b->n_states, .copies = b->n_copies, .single = true, .whole = b->n_outputs == b->n_rows};
    int64_t last = 0, context = LEAST_CONTEXT, most = (int64_t)table_stride * o->block_tokens;
    for (int r = 0; r < b->n_rows; r++) {
        last = b->position[r] > last ? b->position[r] : last;
        if (r > 0 && b->sequence[r] <= b->sequence[r - 1])
            s.single = false;
    }
    for (int i = 0; i < b->n_outputs; i++)
        if (b->output[i] != i)
            s.whole = false;
    for (int a = 0; b->scale && a < o->n_adapters; a++)
        for (int r = 0; r < b->n_rows; r++)
            if (b->scale[a * b->scale_stride + r] != 0)
                s.adapters |= (uint32_t)1 << a;
    while (context <= last)
        context *= 2;
    s.context = (int)(context < most ? context : most);
    s.table_stride = (s.context - 1) / o->block_tokens + 1;
    return s;
}

static void put(struct step_inputs *in, const struct layout *l, enum step_input i, const void *from, int n)
{
    if (n > 0)
        memcpy(in->values + l->first[i], from, (size_t)n * sizeof *in->values);
}

/* Of the adapters at work, at all rows and at those whose logits are wanted. */
static void put_scales(struct step_inputs *in, const struct layout *l, const struct batch *b, uint32_t adapters)
{
    for (int a = 0; adapters >> a; a++) {
        const float *scale = b->scale + (size_t)a * (size_t)b->scale_stride;
        float *out = (float *)(in->values + l->first[INPUT_OUTPUT_SCALE]) + (size_t)a * (size_t)b->n_outputs;
        memcpy(in->values + l->first[INPUT_SCALE] + (size_t)a * (size_t)b->n_rows, scale,
               (size_t)b->n_rows * sizeof *scale);
        for (int i = 0; i < b->n_outputs; i++)
            memcpy(out + i, scale + b->output[i], sizeof *scale);
    }
}

void step_inputs_upload(struct step_inputs *in, struct commands *c, const struct batch *b,
                        const struct step_shape *s, struct buffer *buffers[INPUT_COUNT])
{
    const struct layout *few = &in->layout[LAYOUT_DECODE];
    bool fits = (size_t)b->n_rows <= few->rows && (size_t)(b->n_outputs - b->n_states) <= few->outputs;
    const struct layout *l = fits ? few : &in->layout[LAYOUT_FULL];
    put(in, l, INPUT_TOKEN, b->token, b->n_rows);
    put(in, l, INPUT_POSITION, b->position, b->n_rows);
    put(in, l, INPUT_SEQUENCE, b->sequence, b->n_rows);
    put(in, l, INPUT_SLOT, b->slot, b->n_rows);
    put(in, l, INPUT_OUTPUT, b->output, b->n_outputs);
    put(in, l, INPUT_SAMPLING, b->sampling, b->n_sampled * SAMPLE_ROW_INTS);
    put(in, l, INPUT_COPY, b->copy, 2 * b->n_copies);
    if (s->adapters)
        put_scales(in, l, b, s->adapters);
    size_t stride = (size_t)s->table_stride;
    int32_t *table = in->values + l->first[INPUT_TABLE];
    for (size_t i = 0; i < (size_t)b->n_sequences; i++)
        memcpy(table + i * stride, b->table + i * in->table_stride, stride * sizeof *table);
    device_upload(c, in->buffer, 0, l->first[INPUT_TABLE] + (size_t)b->n_sequences * stride, in->values);
    if (b->n_copies)
        device_upload(c, in->buffer, l->first[INPUT_COPY], 2 * (size_t)b->n_copies,
                      in->values + l->first[INPUT_COPY]);
    memcpy(buffers, l->view, sizeof l->view);
}
