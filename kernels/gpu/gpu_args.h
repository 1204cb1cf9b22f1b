/* Argument structs of the GPU kernels that differ from the operators' (args.h): the same rules. */
#ifndef HEARTH_GPU_ARGS_H
#define HEARTH_GPU_ARGS_H

#include "../args.h"

/* RMSNorm, and the same rows as 16-bit floats where a matmul wants those. */
struct gpu_norm_args {
    struct rms_norm_args norm;
    int half_form; /* 1: y is also written as halves, row by row of groups * width */
};
ARGS_ASSERT(gpu_norm_args, 36);

/* cs[row][rope_dim / 2][2]: cos and sin of every rotated pair of every row's position, for all layers. */
struct gpu_rope_table_args {
    int rows, pairs; /* pairs: rope_dim / 2 */
    float magnitude;
};
ARGS_ASSERT(gpu_rope_table_args, 12);

/* What attention leaves: bits of `forms`. */
enum { ATTENTION_F32 = 1, ATTENTION_INT8 = 2, ATTENTION_HALF = 4 };

struct gpu_attention_args {
    int rows, n_heads, n_kv_heads, head_dim;
    int q_stride;
    int block_tokens, block_shift; /* shift: of a power of two, else -1 */
    int table_stride;
    int rope_dim, style;           /* of the kernels that rotate */
    int splits;                    /* groups that share a row's context */
    int early;                     /* 1: the kernel before writes neither the cache nor the positions */
    int heads_each;                /* prefill: query heads of a group, 1, 2 or 4 */
    int forms;
    float scale;                   /* on q . k, times log2(e): weights are powers of two */
};
ARGS_ASSERT(gpu_attention_args, 60);

struct gpu_swiglu_args {
    int rows, width;
    float half_scale; /* of the 16-bit form; 0: none is wanted */
};
ARGS_ASSERT(gpu_swiglu_args, 12);

struct gpu_copy_args {
    int words;
};
ARGS_ASSERT(gpu_copy_args, 4);

#define SAMPLE_SLICES 32 /* of the vocabulary, whose best tokens are found side by side; a lane for each */

struct gpu_bandwidth_args {
    int vectors, groups; /* of 16 bytes; of the grid */
};
ARGS_ASSERT(gpu_bandwidth_args, 8);

/* ---- matrix products ---- */

#define MATVEC_FLOAT_STAGE 6144 /* words of shared memory for x: 32 a unit and row */
#define MATVEC_CODE_STAGE 4096  /* in 8 bits: 9 a unit and row */

/* Few rows (matvec.h). A group's 8 simd groups are 8 / slices sets of weight rows, each worked on by `slices`
 * simd groups that share its columns. Units are 32 columns; a step is what a simd group's lanes take at
 * once: of step_units units slice_units each. */
struct gpu_matvec_args {
    int rows, in, units;
    int end[3];            /* outputs up to and including each weight's */
    int outputs;
    int sets, groups;      /* sets of rows that fill a group: group g does g, g + groups, … */
    int y_stride, y_first; /* columns of y; the first that is written */
    int slices, steps, step_units, slice_units;
    int stage_steps;       /* so many steps' columns of x are in shared memory at once */
    int flags;             /* MATVEC_… */
    float eps;
};
ARGS_ASSERT(gpu_matvec_args, 72);

enum {
    MATVEC_NORM = 1,    /* x is normalised: x * norm[i] / rms(x) */
    MATVEC_BIAS = 2,
    MATVEC_ADD = 4,
    MATVEC_SWIGLU = 8,  /* w0 gives the gate, w1 up: y = silu(gate) * up */
    MATVEC_FLOATS = 16, /* writes y */
    MATVEC_CODES = 32,  /* writes the 8-bit form of y: with MATVEC_SWIGLU, by groups of 32 outputs */
    MATVEC_READY = 64   /* x is read in its 8-bit form */
};

/* Many rows (matmul.h). */
struct gpu_matmul_args {
    int rows, units;
    int columns;      /* of every weight */
    int tile_end[3];  /* tiles of outputs up to and including each weight's */
    int out[3];       /* outputs of each weight */
    int first[3];     /* the column of y where each weight's begin */
    int y_stride, outputs; /* columns of y and of the 16-bit result */
    int steps;        /* units for each group along z */
    int flags;        /* MATMUL_… */
    float scale;      /* x was divided by it */
};
ARGS_ASSERT(gpu_matmul_args, 68);

enum {
    MATMUL_BIAS = 1,
    MATMUL_ADD = 2,
    MATMUL_SWIGLU = 4, /* w0 gives the gate, w1 up */
    MATMUL_FLOATS = 8, /* writes y; where groups share columns along z: one y after the other, for matmul_sum */
    MATMUL_HALVES = 16 /* writes y / MATMUL_HALF_SCALE as halves: with MATMUL_SWIGLU */
};
#define MATMUL_HALF_SCALE 16

struct gpu_matmul_sum_args {
    int rows, outputs, parts;
    int y_stride, y_first;
    int flags; /* MATMUL_BIAS, MATMUL_ADD */
};
ARGS_ASSERT(gpu_matmul_sum_args, 24);

struct gpu_to_half_args {
    int rows, width, stride; /* stride: halves of a row of the result; those beyond width become 0 */
    int norm;                /* 1: rows are normalised */
    float eps;
};
ARGS_ASSERT(gpu_to_half_args, 20);

#endif
