/* What changes from step to step, in one buffer that one upload fills: the arguments of the operators are
 * then the same for all steps of one shape, and a device may replay what it recorded for another. */
#ifndef HEARTH_STEP_INPUTS_H
#define HEARTH_STEP_INPUTS_H

#include "forward.h"

enum step_input {
    INPUT_TOKEN, INPUT_POSITION, INPUT_SEQUENCE, INPUT_SLOT, /* [rows] */
    INPUT_OUTPUT,   /* [rows] */
    INPUT_SAMPLING, /* [outputs with logits][SAMPLE_ROW_INTS] */
    INPUT_SCALE,    /* [adapters][rows] floats by their bits */
    INPUT_OUTPUT_SCALE, /* [adapters][outputs] */
    INPUT_TABLE,    /* [sequences][table_stride] */
    INPUT_COPY,     /* [copies][2] */
    INPUT_COUNT
};

/* All that operator arguments depend on. */
struct step_shape {
    int rows, outputs, sampled, states, copies;
    int context;      /* above every position: a power of two from 256 on, or all there is */
    int table_stride; /* KV blocks of such a context */
    uint32_t adapters; /* bits of those that some row has */
    bool single;      /* no two rows belong to one sequence */
    bool whole;       /* the outputs are all the rows, in order */
};

struct step_inputs;
/* table_stride: KV blocks of the longest sequence. */
int step_inputs_create(struct step_inputs **out, struct device *, const struct forward_options *,
                       int table_stride, struct err *) WARN_UNUSED;
void step_inputs_destroy(struct step_inputs *); /* NULL is fine */
size_t step_inputs_bytes(const struct forward_options *, int table_stride);

struct step_shape step_shape(const struct forward_options *, int table_stride, const struct batch *);
/* Records the upload of a batch that was checked; `buffers` are its parts; NULL for those that can hold nothing. */
void step_inputs_upload(struct step_inputs *, struct commands *, const struct batch *,
                        const struct step_shape *, struct buffer *buffers[INPUT_COUNT]);

#endif
