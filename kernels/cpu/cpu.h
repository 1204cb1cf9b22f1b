/* Internals of the CPU device: packed weights, quantised activations, the thread pool and the
 * table of what an instruction set brings. Private to kernels/cpu/. */
#ifndef HEARTH_CPU_H
#define HEARTH_CPU_H

#include <stdatomic.h>

#include "../backend.h"
#include "arena.h"
#include "pool.h"

#define TILE 16         /* weight rows of a packed tile, and outputs of one kernel call */
#define BLOCK 32        /* columns of a block */
#define GROUP_MAX 16    /* activation rows of one kernel call, at most */
#define SEGMENTS 3      /* weights of one matmul, at most */
#define ATTENTION_TILE 64  /* keys of an attention tile; tiles start at multiples of it */
#define ATTENTION_SPAN 512 /* positions of one online softmax; spans are merged in order */

/* How a quantised type lies in packed tiles. Kernels work with u - offset, which keeps 16-bit sums
 * of products in range: w = scale * (u - offset), where there is a minimum
 * w = scale * (u - offset) + (minimum + scale * offset). */
struct packing {
    int bits;    /* of an unsigned value u; 0: a float type */
    int table;   /* u is an index into iq4_table */
    int subs;    /* scales of a block of 32 columns */
    int super;   /* blocks that share f16 factors for 8-bit scales; 1: the block has f16 scales itself */
    int minimum; /* whether a block adds a constant */
    int offset;
};
/*  X(type, bits, table, subs, super, minimum, offset) */
#define PACKING_LIST(X)         \
    X(Q4_0, 4, 0, 1, 1, 0, 8)   \
    X(Q4_1, 4, 0, 1, 1, 1, 0)   \
    X(Q5_0, 5, 0, 1, 1, 0, 16)  \
    X(Q5_1, 5, 0, 1, 1, 1, 16)  \
    X(Q8_0, 8, 0, 1, 1, 0, 128) \
    X(Q2_K, 2, 0, 2, 8, 1, 0)   \
    X(Q3_K, 3, 0, 2, 8, 0, 4)   \
    X(Q4_K, 4, 0, 1, 8, 1, 0)   \
    X(Q5_K, 5, 0, 1, 8, 1, 16)  \
    X(Q6_K, 6, 0, 2, 8, 0, 32)  \
    X(IQ4_NL, 4, 1, 1, 1, 0, 128) \
    X(IQ4_XS, 4, 1, 1, 8, 0, 128)
extern const struct packing packings[DTYPE_COUNT];
extern const uint8_t iq4_table[16]; /* values of IQ4_NL and IQ4_XS, + 128 */

/* A packed weight. Tiles of 16 rows lie one after the other; rows beyond the last are zero.
 * Quantised: per super-block the f16 factors [16] of scales (then of minima), per block
 *   bits 4 to 6: nibbles [4][16 rows][4 columns], low: group j of 4 columns, high: group j + 4
 *   bits 5, 3:   a further bit  [16][4], bit j for group j
 *   bits 6, 2, 3: two further bits [2][16][4], bits 2i of byte c for group 4c + i
 *   bits 8:      [8][16][4]
 * in the order nibbles, two bits, one bit, and then the scales: f16 [16] (and minima f16 [16]),
 * or bytes [subs][16] (and minima likewise; Q2_K has both in one byte).
 * Float types: [columns][16 rows] elements. */
struct packed {
    enum dtype dtype;
    size_t rows, columns, tiles, tile_bytes;
    uint8_t *data;      /* [tiles][tile_bytes], of the arena; NULL where only rows are read */
    const uint8_t *raw; /* rows as in the file, not owned; NULL where data is there */
};
size_t packed_super_bytes(const struct packing *);
/* Packs tiles [first, last) from GGUF rows at `data`. */
void pack_tiles(const struct packed *, const uint8_t *data, size_t first, size_t last);
/* Decodes one row to f32. */
void packed_row(const struct packed *, size_t row, float *out);

/* The quantised input of a matmul, in groups of T <= GROUP_MAX rows. The value of column k is
 * row_scale * scale[block] * q[k]; scale is an integer of 1 to 32767, so that integer kernels
 * can multiply by it. */
struct activation {
    int rows, columns, blocks, groups;
    float *row_scale;          /* [rows] */
    int run;                   /* columns of a row that lie together in q: 4, 8 or 32 */
    uint8_t *q;                /* per group, per block: q [32 / run][T][run], f32 scale [T], int16 scale twice [T] */
    int16_t *wide;             /* per group, per block: columns 0 and 2 then 1 and 3 of four, [8][2][T][2] */
    int kinds;                 /* of extra values: */
    uint32_t *extra[SEGMENTS]; /* per group, per block: int32 start [subs][T] (, f32 sum [subs][T]) */
    const struct packing *packing[SEGMENTS]; /* a type of each kind */
};
#define ACTIVATION_BYTES 40 /* of q, per block and row */
#define WIDE_ELEMENTS 64    /* of wide, per block and row */
/* Values of a byte each: they have no room for 16-bit sums of products. */
static inline bool is_byte_wide(const struct packing *p)
{
    return p->bits == 8 || p->table;
}
static inline int extra_words(const struct packing *p)
{
    return p->subs * (1 + p->minimum);
}
/* Groups are as even as can be: the first row of group g. */
static inline int group_start(int rows, int groups, int g)
{
    int base = rows / groups, more = rows % groups;
    return g * base + (g < more ? g : more);
}

/* One kernel call: a tile of 16 outputs, or two of a panel, times a group of T rows over `blocks`
 * blocks. */
struct dot {
    const uint8_t *weights;       /* packed tile, or a panel's values */
    const float *scale, *minimum; /* of a panel: [blocks][subs][16] */
    size_t next_values, next_floats; /* bytes and floats from a panel's tile to the next */
    const uint8_t *q;
    const int16_t *wide;
    const uint32_t *extra;
    float *sum;              /* [tiles][T][16] */
    int blocks;
    bool first;              /* start at zero rather than at what is in `sum` */
};

/* Sums on their way to a matmul's output:
 * y = sum * scale + bias + add, or with `up` y = silu(sum * scale + bias) * (up * scale + up_bias). */
struct finish {
    const float *sum, *up;       /* [tiles][rows][16] */
    const float *scale;          /* [rows] */
    const float *bias, *up_bias; /* [n], or NULL */
    const float *add;            /* [rows][stride], or NULL */
    float *y;                    /* [rows][stride] */
    size_t stride;
    int rows, n;                 /* n: columns; the last tile may be cut */
};

/* An unpacked part of a tile, for many rows. */
struct panel {
    uint8_t *values;
    float *scale, *minimum;
};

/* Attention of some rows of one sequence, for one KV head, over positions [first, last). A query
 * is one head of one row: query r * heads + h. Its state is the output not yet divided by the sum
 * of the weights [width], then the maximum and that sum; attention_stride floats. */
struct attention_span {
    const struct attention_args *args;
    const float *q;          /* Q of the KV head's first query head in the first row */
    const int32_t *position; /* [rows] */
    const int32_t *table;    /* the sequence's KV blocks */
    enum dtype kv_type;      /* F16, or Q8_0: then a head's row is head_dim / 32 blocks of the GGUF type */
    const void *kv;
    int rows, head;
    int first, last;         /* first is a multiple of ATTENTION_SPAN, last at most one span further */
    float *scratch;          /* attention_scratch floats */
    float *state;            /* [queries][attention_stride], overwritten */
};
#define ATTENTION_QUERIES 128 /* aimed at for one span */

/* Integer kernels. A panel's float arrays are [blocks][subs][16]. */
struct dot_kernels {
    int panels;      /* from so many rows on panels pay; fewer read packed tiles */
    int direct;      /* these in groups of so many rows at most, */
    int group;       /* and panels in groups of so many */
    int tiles;       /* and of a panel one kernel takes 1, or 1 or 2, tiles */
    int panel_block; /* bytes of a panel's values per block, at most */
    int run;         /* of the activations that panels are multiplied by; 4 otherwise */
    bool wide;       /* whether 8-bit weights need 16-bit activations */
    void (*direct_tile)(enum dtype, int rows, const struct dot *);
    void (*unpack)(enum dtype, const uint8_t *packed, int blocks, const struct panel *);
    void (*panel_tiles)(enum dtype, int rows, int tiles, const struct dot *);
    void (*leave)(void); /* called by a thread after its last panel of a matmul; or NULL */
};

struct isa {
    const char *name, *label;
    bool (*supported)(void);
    const struct dot_kernels *dot;
    /* Quantises group number `group`, whose rows are at x. */
    void (*quantise)(const struct activation *, const float *x, int group);
    /* sum [rows][16] = x [rows][columns] times a float tile; at most FLOAT_ROWS rows */
    void (*dot_float)(enum dtype, int rows, const uint8_t *tile, int columns, const float *x, float *sum);
    void (*finish)(const struct finish *);
    void (*rms_norm)(const float *x, const float *weight, float eps, int n, float *y);
    void (*rope)(float *x, const float *cs, int rope_dim, int style);
    void (*to_f16)(const float *x, uint16_t *y, int n); /* saturates */
    void (*swiglu)(const float *gate, const float *up, float *y, int n);
    void (*attend)(const struct attention_span *);
    /* Adds a later span's state to `total`, for one query. */
    void (*attend_merge)(float *total, const float *state, int width);
    uint64_t (*read)(const void *, size_t bytes); /* reads everything once, for the bandwidth */
};
#define FLOAT_ROWS 4
extern const struct isa isa_avx512amx, isa_avx512amx_emulated, isa_avx512vnni, isa_avx2, isa_i8mm, isa_neon, isa_plain;

static inline int round_up(int n, int to)
{
    return (n + to - 1) / to * to;
}
static inline int attention_width(const struct attention_args *a)
{
    return round_up(a->head_dim, 16);
}
static inline size_t attention_stride(const struct attention_args *a)
{
    return (size_t)attention_width(a) + 16;
}
/* Floats: queries, their weights twice; K and V widened and as stored, and their scales. */
static inline size_t attention_scratch(const struct attention_args *a, int rows)
{
    size_t width = (size_t)attention_width(a), queries = (size_t)(rows * (a->n_heads / a->n_kv_heads));
    return queries * (width + 2 * ATTENTION_TILE) + ATTENTION_TILE * (2 * width + width / 2 + 2 * (width / BLOCK));
}

/* What the pool does between two barriers: a command, with a norm before and a SwiGLU after it where a
 * matmul does these too. */
struct work {
    int command;
    const struct command *norm, *swiglu; /* or NULL */
};

struct cpu {
    struct pool *pool;
    struct arena weights;
    const struct isa *isa;
    int threads;
    const struct command *command; /* being submitted, `commands` of them */
    int commands;
    struct work *work;             /* what becomes of them, `works` of them */
    int works;
    atomic_int *next;              /* [commands] the next piece of work of each */
    int capacity;                  /* commands that `work` and `next` have room for */
    unsigned char *shared;         /* scratch that all threads see */
    size_t shared_bytes;
    unsigned char **own;           /* [threads] scratch of each */
    size_t own_bytes;
    float *angles;                 /* of the submission's rows, made once for all layers */
    size_t angles_bytes;
};

/* What a command needs before it can run without allocating: bytes of both kinds of scratch. */
struct scratch {
    size_t shared, own, angles;
};
void matmul_scratch(const struct cpu *, const struct work *, struct scratch *);
void attention_needs(const struct cpu *, const struct command *, struct scratch *);
static inline size_t sample_floats(const struct command *c)
{
    return 2 * (size_t)c->args.sample.vocab;
}
/* Whether a matmul can take its norm and its SwiGLU along: all its weights are quantised. */
bool cpu_matmul_joins(const struct command *);
/* Run by all threads at once; the caller has a barrier after each. */
void cpu_matmul(struct cpu *, const struct work *, int thread);
void cpu_attention(struct cpu *, int command, int thread);
void cpu_rows(struct cpu *, int command, int thread); /* every other operator */
/* What struct backend asks of the machine. */
double cpu_bandwidth(struct device *, size_t bytes);
double cpu_int8_rate(struct device *);

#endif
