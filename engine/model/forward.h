/* A model on a device, and the forward pass over rows. Used by the worker thread alone. */
#ifndef HEARTH_FORWARD_H
#define HEARTH_FORWARD_H

#include "../../kernels/device.h"
#include "adapter.h"

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
/* The same in pieces, so that the device can do other work in between: weights_begin, then weights_more until it
 * sets *done. *out is whole only then, but can be freed at any time; `g` stays until either. */
int weights_begin(struct weights **out, struct device *, struct gguf *, struct err *) WARN_UNUSED;
int weights_more(struct weights *, size_t bytes, bool *done, struct err *) WARN_UNUSED;
/* The tensor whose data the next weights_more begins with, for one who wants them in memory by then; NULL: it is
 * in the middle of one, or there are no more. Any thread, while nobody else uses the weights. */
const struct gguf_tensor *weights_next(const struct weights *);
/* What a file's weights will take on the device, and its hyperparameters; nothing is loaded. Any thread. */
int weights_measure(const struct device *, const struct gguf *, struct hyperparameters *, size_t *bytes,
                    struct err *) WARN_UNUSED;
void weights_free(struct weights *); /* NULL is fine */
const struct hyperparameters *weights_hyperparameters(const struct weights *);
size_t weights_bytes(const struct weights *);        /* on the device */
size_t weights_decode_bytes(const struct weights *); /* read by one decode step, in the device's layout */
uint64_t weights_parameters(const struct weights *);

/* Scratch buffers and the paged KV cache for one model. */
struct forward;
enum { FORWARD_IN_FLIGHT = 2, FORWARD_MASKS = 2 };
struct forward_options {
    int max_rows;      /* of one step */
    int max_outputs;   /* rows whose logits one step may ask for; states of any */
    int max_sequences;
    int block_tokens;  /* tokens per KV block */
    int n_blocks;      /* of all sequences together */
    int max_context;   /* tokens of one sequence: table_stride = ceil(max_context / block_tokens) */
    /* [(vocab + 31) / 32] bits: what the device may choose, by batch.mask; copied. NULL: every token */
    const int32_t *allowed[FORWARD_MASKS];
    struct adapter *const *adapters; /* [n_adapters] that rows may have; they outlive it, on the device */
    int n_adapters;    /* ADAPTERS_MAX at most */
};
int forward_create(struct forward **out, struct device *, const struct weights *,
                   const struct forward_options *, struct err *) WARN_UNUSED;
void forward_destroy(struct forward *); /* NULL is fine; nothing is in flight */
size_t forward_kv_block_bytes(const struct device *, const struct hyperparameters *, int block_tokens); /* all layers */
/* What forward_create will take beside the KV cache: of the device's memory, and of the host's for results. */
size_t forward_scratch_bytes(const struct hyperparameters *, const struct forward_options *);
size_t forward_result_bytes(const struct hyperparameters *, const struct forward_options *);

/* One step: any mix of prefill chunks and single decode rows. Rows of one sequence stand in
 * ascending position; the K and V of a row are visible to the rows after it. */
struct batch {
    int n_rows;
    const int32_t *token;    /* [n_rows] an id; or -1 - i: what the last step that chose put at place i */
    const int32_t *position; /* [n_rows] */
    const int32_t *sequence; /* [n_rows] row of `table` */
    const int32_t *slot;     /* [n_rows] where K and V go: block * block_tokens + offset */
    int n_sequences;
    const int32_t *table;    /* [n_sequences][table_stride] KV blocks; entries beyond the end are 0 */
    const float *scale;      /* [n_adapters][scale_stride] of each adapter at each row, 0: not at work; NULL:
                              * none is */
    int scale_stride;        /* n_rows at least */
    int n_outputs;
    const int32_t *output;   /* [n_outputs] rows whose logits are wanted, or their states */
    int n_sampled;           /* the first outputs: the device chooses their tokens, the logits stay there */
    int n_states;            /* the last outputs: what they are after the output norm is wanted, no logits */
    const struct sample_row *sampling; /* [n_sampled] */
    int mask;                /* which set of tokens they may choose from */
    int n_copies;
    const int32_t *copy;     /* [n_copies][2] KV blocks copied from, to, before the step */
};

/* Records and submits a step; at most FORWARD_IN_FLIGHT are under way. The batch is no longer needed
 * when it returns. */
int forward_begin(struct forward *, const struct batch *, struct err *) WARN_UNUSED;
int forward_in_flight(const struct forward *);

struct forward_result { /* valid until the next forward_begin but one */
    const int32_t *ids;  /* [n_sampled]; -1 where the logits are not finite */
    const float *logits; /* [n_outputs - n_sampled - n_states][vocab] */
    const float *states; /* [n_states][width] */
};
/* Waits for the oldest step under way. ERR_DEVICE. */
int forward_end(struct forward *, struct forward_result *, struct err *) WARN_UNUSED;

/* A step from begin to end, none being under way, of no states: logits [n_outputs - n_sampled][vocab]. */
int forward_step(struct forward *, const struct batch *, float *logits, struct err *) WARN_UNUSED;
/* A step that is recorded and not submitted, none being under way: for commands_run. *out is given back with
 * commands_drop. */
int forward_record(struct forward *, const struct batch *, struct commands **out, struct err *) WARN_UNUSED;
int forward_table_stride(const struct forward *);

/* K and V of a block, all layers: forward_kv_block_bytes of them, in the device's own order. No step under way
 * touches the block. */
int forward_block_read(struct forward *, int32_t block, void *out, struct err *) WARN_UNUSED;
int forward_block_write(struct forward *, int32_t block, const void *in, struct err *) WARN_UNUSED;

#endif
