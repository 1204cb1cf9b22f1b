/* Argument structs of the operators, shared by C, Metal and CUDA sources.
 *
 * Fixed-width members only, no standard header (NVRTC has none), sizes asserted. They are
 * constant for one batch shape; what changes from step to step lies in buffers. */
#ifndef HEARTH_ARGS_H
#define HEARTH_ARGS_H

#if defined(__METAL_VERSION__) || defined(__CUDACC__)
#define ARGS_ASSERT(type, size)
#elif defined(__cplusplus)
#define ARGS_ASSERT(type, size) static_assert(sizeof(struct type) == (size), #type)
#else
#define ARGS_ASSERT(type, size) _Static_assert(sizeof(struct type) == (size), #type)
#endif

/* x[r][i] = table[id][i], id = ids[r], or sampled[-1 - ids[r]] where ids[r] is negative: a token that
 * an earlier step chose on the device and the host has not seen yet. Where that step found none (-1, sample),
 * the first row of the table stands in: the host will drop the result. */
struct embed_args {
    int rows;  /* rows of the step */
    int width; /* embedding length */
    int vocab; /* rows of the table; ids outside are a broken invariant */
};
ARGS_ASSERT(embed_args, 12);

/* y[r][g][i] = x[r][g][i] * weight[i] / sqrt(mean_i(x[r][g][i]^2) + eps)
 * Groups let one operator serve the layer norm (groups = 1) and the per-head QK norm, which
 * works inside the QKV rows: offsets and strides are in elements. x and y may be the same. */
struct rms_norm_args {
    int rows, groups, width;
    int x_stride, x_offset; /* row stride and first element of group 0 in x */
    int y_stride, y_offset;
    float eps;
};
ARGS_ASSERT(rms_norm_args, 32);

/* y[r][o] = sum_i x[r][i] * w[o][i] (+ bias[o]) (+ add[r][o])
 * The output columns are those of 1 to 3 weights one after the other (Q, K, V may differ in
 * type). `add` may be y itself (residual). */
struct matmul_args {
    int rows;
    int in;      /* columns of every weight */
    int out[3];  /* rows of each weight; 0 beyond the last */
    int precise; /* 1: where activations are quantised, keep 15 bits of x instead of 8 */
};
ARGS_ASSERT(matmul_args, 24);

enum rope_style { ROPE_HALVES = 0, ROPE_INTERLEAVED = 1 }; /* NeoX pairs (i, i+d/2); pairs (2i, 2i+1) */

/* Rotates Q and K of each row in place by its position (RoPE, arXiv:2104.09864) and appends K and V to
 * the KV buffer at the row's slot. Pair i turns by position * (frequency[i][0] + frequency[i][1]): the
 * second is what float32 lost of the first, so that long contexts stay exact. Base, scaling, YaRN and
 * Llama 3's factors are all in that table.
 * qkv row: [n_heads*head_dim | n_kv_heads*head_dim | n_kv_heads*head_dim]. */
struct rope_kv_args {
    int rows, n_heads, n_kv_heads, head_dim;
    int rope_dim;        /* rotated elements of each head, even, <= head_dim */
    int style;           /* enum rope_style */
    int block_tokens;    /* tokens per KV block */
    float magnitude;     /* factor on cos and sin; 1 without YaRN */
};
ARGS_ASSERT(rope_kv_args, 32);

/* out[r][h] = softmax(q[r][h] . K[0..position[r]] * scale) V[0..position[r]]
 * causal; the KV head of query head h is h / (n_heads / n_kv_heads). Row r reads the KV blocks
 * table[sequence[r]][0 .. position[r] / block_tokens]. */
struct attention_args {
    int rows, n_heads, n_kv_heads, head_dim;
    int q_stride;     /* elements between rows of the qkv buffer; Q comes first */
    int block_tokens;
    int table_stride; /* table entries per sequence */
    float scale;
    int context;      /* no row's position reaches this: a bound, so that a grid may be chosen by it */
    int single;       /* 1: no two rows belong to one sequence (decode) */
};
ARGS_ASSERT(attention_args, 40);

/* y[r][i] = silu(gate_up[r][i]) * gate_up[r][width + i] */
struct swiglu_args {
    int rows, width;
};
ARGS_ASSERT(swiglu_args, 8);

/* y[r] = x[index[r]] */
struct gather_args {
    int rows, width; /* rows: of y */
};
ARGS_ASSERT(gather_args, 8);

/* y[r][y_offset + i] += x[r][i] * (scale[scale_first + r] * factor); rows where that product is 0 stay as they are,
 * whatever x holds. */
struct add_scaled_args {
    int rows, width;        /* of x */
    int y_stride, y_offset; /* elements */
    int scale_first;
    float factor;
};
ARGS_ASSERT(add_scaled_args, 24);

/* For each pair p: KV block pair[2p+1] becomes a copy of block pair[2p]. */
struct kv_copy_args {
    int pairs;
    int block_elements; /* elements of one block: 2 * n_kv_heads * block_tokens * head_dim */
};
ARGS_ASSERT(kv_copy_args, 8);

/* ids[r] = a token chosen from logits[r] by the parameters of row r; -1 where an allowed logit is not
 * finite. In this order: temperature, top_k, top_p, min_p; then a walk through what is left by ascending
 * id, to the point that Philox4x32-10 (Salmon et al., SC 2011), keyed on seed, choice and position, gives. */
struct sample_args {
    int rows, vocab;
};
ARGS_ASSERT(sample_args, 8);

/* A row's parameters in the I32 buffer: floats by their bits. */
struct sample_row {
    float temperature; /* below 1e-5: the likeliest, of equals the lowest id */
    float top_p, min_p; /* 1 and 0: off */
    int top_k;          /* 0: off */
    unsigned seed_low, seed_high, choice, position;
};
ARGS_ASSERT(sample_row, 32);
#define SAMPLE_ROW_INTS 8

#endif
