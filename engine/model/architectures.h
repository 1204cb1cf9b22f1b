/* What a model file must hold, by architecture: hyperparameters from metadata, tensors by table. */
#ifndef HEARTH_ARCHITECTURES_H
#define HEARTH_ARCHITECTURES_H

#include "forward.h"

/* Sizes that shapes are made of, all known from the hyperparameters. */
enum dimension {
    DIM_ONE,
    DIM_WIDTH, /* embedding length */
    DIM_Q,     /* n_heads * head_dim */
    DIM_KV,    /* n_kv_heads * head_dim */
    DIM_QK,    /* Q and K together */
    DIM_QKV,   /* Q, K and V together */
    DIM_HEAD,  /* head_dim */
    DIM_PAIRS, /* rope_dim / 2 */
    DIM_FF,
    DIM_VOCAB,
    DIM_NONE,  /* 0 */
};

/* What the operators that read it want: WEIGHT is kept in the file's type, whatever its neighbours
 * have; an F32 operand is converted. */
enum tensor_class { TENSOR_WEIGHT, TENSOR_F32 };

struct layer {
    struct buffer *attn_norm; /* [width] */
    struct buffer *q, *k, *v; /* [n_heads*head_dim][width], [n_kv_heads*head_dim][width] twice */
    struct buffer *qkv_bias;  /* [(n_heads + 2*n_kv_heads) * head_dim], or NULL */
    struct buffer *q_norm, *k_norm; /* [head_dim], or NULL */
    struct buffer *attn_out;  /* [width][n_heads*head_dim] */
    struct buffer *ffn_norm;  /* [width] */
    struct buffer *gate, *up; /* [ff_width][width] */
    struct buffer *down;      /* [width][ff_width] */
};

struct weights {
    struct hyperparameters hp;
    struct device *device;
    struct buffer *embedding;    /* [vocab][width] */
    struct buffer *output_norm;  /* [width] */
    struct buffer *output;       /* [vocab][width]; the embedding itself where tied */
    struct buffer *rope_factors; /* [rope_dim/2], or NULL; until rope_frequency is made of it */
    struct buffer *rope_frequency; /* [rope_dim/2][2] of each pair: radians per position, and what float32
                                    * lost of them */
    struct layer *layers;        /* [n_layers] */
    size_t bytes, decode_bytes;
    uint64_t parameters;
    struct loader *loader;       /* NULL once all is there */
};

struct tensor_rule {
    const char *name;            /* of a layer's tensor: without its "blk.N." */
    enum tensor_class class;
    enum dimension rows, columns; /* a vector has one row */
    bool required;
    bool per_layer;
    size_t slot;                 /* offset of its buffer in struct layer or struct weights */
    enum dimension whole, first; /* F32: the buffer's length, and where in it this tensor begins */
};

struct architecture {
    const char *name;
    enum rope_style rope_style;
    const struct tensor_rule *tensors;
    size_t n_tensors;
};

/* The architecture that the file names, and its hyperparameters; all sizes are positive, fit
 * together and are small enough that products of two are no overflow. */
int architecture_read(const struct gguf *, const struct architecture **, struct hyperparameters *,
                      struct err *) WARN_UNUSED;
size_t architecture_dimension(const struct hyperparameters *, enum dimension);

#endif
