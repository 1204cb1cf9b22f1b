/* A model on a device, and the forward pass over rows. Used by the worker thread alone. */
#ifndef HEARTH_FORWARD_H
#define HEARTH_FORWARD_H

#include "../../kernels/device.h"
#include "gguf.h"

struct weights; /* tensors of one model on a device, with its hyperparameters */

struct hyperparameters {
    char architecture[32];
    int n_layers, width, n_heads, n_kv_heads, head_dim, ff_width, vocab, context;
    int rope_dim, rope_style;
    float rms_eps, rope_base, rope_scale;
    float yarn_ext, yarn_low, yarn_high, rope_magnitude;
    bool qk_norm, qkv_bias, tied;
};

/* Checks every tensor's name, type and shape against the architecture's table and puts it on the
 * device. The file may be closed only after weights_free, except for pages given back.
 * ERR_UNSUPPORTED: architecture or rope scaling; ERR_FORMAT names key or tensor. */
int weights_load(struct weights **out, struct device *, struct gguf *, struct err *) WARN_UNUSED;
void weights_free(struct weights *); /* NULL is fine */
const struct hyperparameters *weights_hyperparameters(const struct weights *);
size_t weights_bytes(const struct weights *);        /* on the device */
size_t weights_decode_bytes(const struct weights *); /* read by one decode step, in the device's layout */
uint64_t weights_parameters(const struct weights *);

/* Scratch buffers and the paged KV cache for one model. */
struct forward;
struct forward_options {
    int max_rows;      /* of one step */
    int max_outputs;   /* rows whose logits one step may ask for */
    int max_sequences;
    int block_tokens;  /* tokens per KV block */
    int n_blocks;      /* of all sequences together */
    int max_context;   /* tokens of one sequence: table_stride = ceil(max_context / block_tokens) */
};
int forward_create(struct forward **out, struct device *, const struct weights *,
                   const struct forward_options *, struct err *) WARN_UNUSED;
void forward_destroy(struct forward *); /* NULL is fine */
size_t forward_kv_block_bytes(struct device *, const struct weights *, int block_tokens); /* all layers */

/* One step: any mix of prefill chunks and single decode rows. Rows of one sequence stand in
 * ascending position; the K and V of a row are visible to the rows after it. */
struct batch {
    int n_rows;
    const int32_t *token;    /* [n_rows] */
    const int32_t *position; /* [n_rows] */
    const int32_t *sequence; /* [n_rows] row of `table` */
    const int32_t *slot;     /* [n_rows] where K and V go: block * block_tokens + offset */
    int n_sequences;
    const int32_t *table;    /* [n_sequences][table_stride] KV blocks; entries beyond the end are 0 */
    int n_outputs;
    const int32_t *output;   /* [n_outputs] rows whose logits are wanted */
    int n_copies;
    const int32_t *copy;     /* [n_copies][2] KV blocks copied from, to, before the step */
};
/* logits [n_outputs][vocab], host memory. ERR_DEVICE. */
int forward_step(struct forward *, const struct batch *, float *logits, struct err *) WARN_UNUSED;
int forward_table_stride(const struct forward *);

#endif
