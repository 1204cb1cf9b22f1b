/* Argument structs of the operators, shared by C, Metal and CUDA sources.
 *
 * Fixed-width members only, no standard header (NVRTC has none), sizes asserted. They are
 * constant for one batch shape; what changes from step to step lies in buffers. */
#ifndef HEARTH_ARGS_H
#define HEARTH_ARGS_H

#if defined(__METAL_VERSION__) || defined(__CUDACC__)
#define ARGS_ASSERT(type, size)
#else
#define ARGS_ASSERT(type, size) _Static_assert(sizeof(struct type) == (size), #type)
#endif

/* x[r][i] = table[ids[r]][i] */
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

/* Rotates Q and K of each row in place by its position (RoPE, arXiv:2104.09864; YaRN,
 * arXiv:2309.00071) and appends K and V to the KV buffer at the row's slot.
 * qkv row: [n_heads*head_dim | n_kv_heads*head_dim | n_kv_heads*head_dim]. */
struct rope_kv_args {
    int rows, n_heads, n_kv_heads, head_dim;
    int rope_dim;        /* rotated elements of each head, even, <= head_dim */
    int style;           /* enum rope_style */
    int block_tokens;    /* tokens per KV block */
    float freq_base;
    float freq_scale;    /* 1 / linear scaling factor; 1/factor for YaRN's interpolated part */
    float yarn_ext;      /* 0: no YaRN; 1: full extrapolation mix */
    float yarn_low, yarn_high; /* correction range, in pairs */
    float magnitude;     /* factor on cos and sin; 1 without YaRN */
};
ARGS_ASSERT(rope_kv_args, 52);

/* out[r][h] = softmax(q[r][h] . K[0..position[r]] * scale) V[0..position[r]]
 * causal; the KV head of query head h is h / (n_heads / n_kv_heads). Row r reads the KV blocks
 * table[sequence[r]][0 .. position[r] / block_tokens]. */
struct attention_args {
    int rows, n_heads, n_kv_heads, head_dim;
    int q_stride;     /* elements between rows of the qkv buffer; Q comes first */
    int block_tokens;
    int table_stride; /* table entries per sequence */
    float scale;
};
ARGS_ASSERT(attention_args, 32);

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

/* For each pair p: KV block pair[2p+1] becomes a copy of block pair[2p]. */
struct kv_copy_args {
    int pairs;
    int block_elements; /* elements of one block: 2 * n_kv_heads * block_tokens * head_dim */
};
ARGS_ASSERT(kv_copy_args, 8);

#endif
