/* The members of a forward pass, for forward.c and forward_memory.c. */
#ifndef HEARTH_FORWARD_PRIVATE_H
#define HEARTH_FORWARD_PRIVATE_H

#include "architectures.h"
#include "step_inputs.h"

/* A step under way. */
struct flight {
    struct commands *commands;
    int32_t *ids;  /* [max_outputs] */
    float *logits; /* [max_outputs][vocab] */
    float *states; /* [max_rows][width] */
};

struct forward {
    struct device *device;
    const struct weights *w;
    struct forward_options options;
    int table_stride;
    int qkv_width, q_width;

    struct step_inputs *inputs;
    struct buffer *x, *h;        /* F32 [max_rows][width]: residual stream; a norm's output */
    struct buffer *qkv;          /* F32 [max_rows][qkv_width] */
    struct buffer *attn;         /* F32 [max_rows][q_width] */
    struct buffer *gate_up;      /* F32 [max_rows][2*ff_width] */
    struct buffer *act;          /* F32 [max_rows][ff_width] */
    struct buffer *wanted_x;     /* F32 [max_rows][width]: x of the rows that are outputs */
    struct buffer *wanted_attn;  /* F32 [max_rows][q_width] */
    struct buffer *logits;       /* F32 [max_outputs][vocab] */
    struct buffer *low;          /* F32 [max_rows][rank]: A x of an adapter */
    struct buffer *delta;        /* F32 [max_rows][the widest result]: B (A x) */
    struct buffer *delta_logits; /* F32 [max_outputs][vocab] */
    struct buffer *ids;          /* I32 [max_outputs] what the last step that chose has chosen */
    struct buffer *allowed[FORWARD_MASKS]; /* I32 [(vocab + 31) / 32] bits */
    struct buffer **kv;          /* [n_layers] kv_type [n_blocks][2][n_kv_heads][block_tokens][head_dim] */

    struct flight flight[FORWARD_IN_FLIGHT];
    int first_flight, n_flights; /* the oldest; they follow in turn */
    int n_ids;                   /* that the last step that chose has chosen */
};

/* What the operators of a step are recorded with. */
struct recording {
    const struct forward *f;
    struct commands *c;
    struct step_shape shape;
    struct buffer *input[INPUT_COUNT];
    int mask;
};

/* The product of a weight that adapters may change: `width` columns of y, from y_offset on. */
struct product {
    int layer;         /* -1: the output */
    enum adapted which;
    bool outputs;      /* of the rows whose logits are wanted; else of all */
    struct buffer *x;  /* [rows][in] */
    struct buffer *y;  /* [rows][y_stride] */
    int in, width, y_stride, y_offset;
};
/* Adds what the adapters at work in the step add to it. */
void forward_adapt(const struct recording *, const struct product *);

size_t forward_kv_block_elements(const struct hyperparameters *, int block_tokens);

#endif
