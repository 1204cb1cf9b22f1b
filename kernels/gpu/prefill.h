/* Attention of many rows (prefill): tiles of 16 rows x heads against tiles of keys in shared memory, on the
 * matrix units, with an online softmax (Dao et al., arXiv:2205.14135).
 *
 * A group takes 64 pairs of rows and query heads of one KV head, 16 rows of one head for each simd group.
 * Rows that follow one another in a sequence are done together; a tile where several sequences meet is
 * done one run of rows after another, by several groups.
 *
 * Sums stay in the matrix units while a row's peak grows by less than 2^8: weights are then at most that,
 * which 16-bit floats hold. When it grows further, what was summed moves to the result's own place. */
#ifndef HEARTH_GPU_PREFILL_H
#define HEARTH_GPU_PREFILL_H

#include "attention.h"
#include "compat.h"
#include "gpu_args.h"
#include "norm.h"

#define PREFILL_THREADS 128
#define PREFILL_SIMDS 4
#define PREFILL_QUERIES 64
#define PREFILL_STARTS 8
#define PREFILL_HEADROOM 8.0f

struct prefill_data {
    GLOBAL(const float) qkv;
    GLOBAL(const int) position;
    GLOBAL(const int) sequence;
    GLOBAL(const int) table;
    GLOBAL(const half_t) kv;
    GLOBAL(float) out;
    GLOBAL(half_t) halves;  /* FORM_HALF */
    SHARED_PTR(half_t) k;   /* [KEYS][STRIDE] */
    SHARED_PTR(half_t) v;
    SHARED_PTR(float) work; /* of this simd group: [16][KEYS + 4] */
};

/* Rows [first, last] follow one another in one sequence. */
struct prefill_run {
    int first, last, position; /* position: of the first */
    struct kv_pages pages;
};

/* The first row after `row` and before `end` that does not continue the row before it, or `end`. */
static inline int prefill_run_end(struct prefill_data d, THREAD_IDS ids, int row, int end)
{
    int next = end;
    for (int i = row + 1 + ids.lane; i < end && next == end; i += 32) {
        bool follows = load_fresh(d.sequence + i) == load_fresh(d.sequence + (i - 1)) &&
                       load_fresh(d.position + i) == load_fresh(d.position + (i - 1)) + 1;
        next = follows ? end : i;
    }
    return row + end - (int)simd_max((float)(row + end - next));
}

/* Sizes of shared tiles, in elements. */
template <int DIMS> struct prefill_shape {
    enum {
        KEYS = DIMS > 128 ? 16 : 32,
        STRIDE = DIMS + 8, /* of keys and values: rows begin in different banks */
        SCORES = KEYS + 4, /* strides of scores and of weights */
        WEIGHTS = KEYS + 8,
        CHUNK = 2 * KEYS   /* of a query, as much as the scores' place holds */
    };
};

/* What a simd group holds of its 16 rows; two lanes share a row. A query is the sum of two 16-bit floats: keys
 * of models with large biases give scores of hundreds, whose last bits still count in the softmax. */
template <int DIMS> struct prefill_tile {
    frag_half q[DIMS / 16], q_rest[DIMS / 16];
    frag_float o[DIMS / 16];
    int row, position; /* of the lane; position is -1 where there is nothing to do */
    int last_position; /* the greatest of the simd group's rows, -1: it has none */
    float peak, total;
    bool spilled;      /* a part of the sums is in `out` */
};

/* KEYS keys, or values, of the run into shared memory; 0 beyond the last and beyond the head's dimensions. */
template <int DIMS>
static inline void prefill_stage(SHARED_PTR(half_t) to, struct prefill_run run, THREAD_IDS ids, int first,
                                 int offset)
{
    typedef struct prefill_shape<DIMS> shape;
    int end = run.position + run.last - run.first + 1;
    UNROLL for (int i = 0; i < shape::KEYS * DIMS / 8 / PREFILL_THREADS; i++) {
        int unit = i * PREFILL_THREADS + ids.thread, j = unit / (DIMS / 8), c = unit % (DIMS / 8) * 8;
        SHARED_PTR(half_t) at = to + (j * shape::STRIDE + c);
        if (first + j < end && c < run.pages.head_dim)
            copy_async16(at, run.pages.kv + (run.pages.key(first + j) + offset + c));
        else
            SHARED_CAST(uint4, at)[0] = make_uint4(0, 0, 0, 0);
    }
    copy_async_commit();
}

/* The query head of the simd group; beyond the last of its KV head there is nothing to do. */
static inline int prefill_head(struct gpu_attention_args args, THREAD_IDS ids)
{
    int per_kv = args.n_heads / args.n_kv_heads, blocks = (per_kv + args.heads_each - 1) / args.heads_each;
    int in_kv = ids.group.y % blocks * args.heads_each + ids.simd % args.heads_each;
    return in_kv < per_kv ? ids.group.y / blocks * per_kv + in_kv : -1;
}

template <int DIMS>
static inline void prefill_start(PRIVATE(struct prefill_tile<DIMS>) t, struct gpu_attention_args args,
                                 struct prefill_data d, struct prefill_run run, THREAD_IDS ids, int first_row)
{
    const int chunk_dims = prefill_shape<DIMS>::CHUNK, stride = chunk_dims + 8;
    int head = prefill_head(args, ids), own_last = first_row + 15 < run.last ? first_row + 15 : run.last;
    bool any = head >= 0 && own_last >= first_row && first_row + 15 >= run.first;
    t->row = first_row + ids.lane / 2;
    bool inside = any && t->row >= run.first && t->row <= run.last;
    t->position = inside ? run.position + t->row - run.first : -1;
    t->last_position = any ? run.position + own_last - run.first : -1;
    t->peak = ATTENTION_NONE;
    t->total = 0;
    t->spilled = false;
    UNROLL for (int i = 0; i < DIMS / 16; i++)
        frag_zero(t->o[i]);
    if (!any)
        return;
    long row = inside ? t->row : run.first;
    GLOBAL(const float) from = d.qkv + (row * args.q_stride + head * args.head_dim);
    SHARED_PTR(half_t) rows = SHARED_CAST(half_t, d.work);
    UNROLL for (int turn = 0; turn < 2 * DIMS / chunk_dims; turn++) {
        int chunk = turn / 2 * chunk_dims, rest = turn % 2;
        UNROLL for (int i = 0; i < chunk_dims / 16; i++) {
            int c = ids.lane % 2 * (chunk_dims / 2) + 8 * i;
            bool there = inside && chunk + c < args.head_dim;
            struct octet_floats x = octet_load(from + (there ? chunk + c : 0));
            UNROLL for (int e = 0; e < 8; e++)
                x.x[e] -= rest ? half_to_float(float_to_half(x.x[e])) : 0.0f;
            SHARED_PTR(half_t) to = rows + (ids.lane / 2 * stride + c);
            SHARED_CAST(struct kv_octet, to)[0] = octet_to_half(x, there ? 1.0f : 0.0f);
        }
        simd_barrier();
        UNROLL for (int i = 0; i < chunk_dims / 16; i++) {
            if (rest)
                frag_load(t->q_rest[chunk / 16 + i], rows + 16 * i, stride);
            else
                frag_load(t->q[chunk / 16 + i], rows + 16 * i, stride);
        }
        simd_barrier();
    }
}

/* What was summed, times the row's factor, to `out`; in the end in the forms that are wanted. */
template <int DIMS>
static inline void prefill_drain(PRIVATE(struct prefill_tile<DIMS>) t, struct gpu_attention_args args,
                                 struct prefill_data d, THREAD_IDS ids, float factor, bool last)
{
    int part = ids.lane % 2 * 8;
    long at = ((long)t->row * args.n_heads + prefill_head(args, ids)) * args.head_dim + part;
    UNROLL for (int i = 0; i < DIMS / 16; i++) {
        frag_store(t->o[i], d.work, 20);
        simd_barrier();
        struct octet_floats x = octet_read(d.work + (ids.lane / 2 * 20 + part));
        simd_barrier();
        frag_zero(t->o[i]);
        if (t->position < 0 || 16 * i + part >= args.head_dim)
            continue;
        GLOBAL(float) to = d.out + (at + 16 * i);
        if (t->spilled) {
            struct octet_floats before = octet_load(to);
            UNROLL for (int e = 0; e < 8; e++)
                x.x[e] += before.x[e];
        }
        x = scaled(x, factor);
        if (!last || args.forms & ATTENTION_F32) {
            GLOBAL_CAST(float4, to)[0] = make_float4(x.x[0], x.x[1], x.x[2], x.x[3]);
            GLOBAL_CAST(float4, to)[1] = make_float4(x.x[4], x.x[5], x.x[6], x.x[7]);
        }
        if (last && args.forms & ATTENTION_HALF)
            GLOBAL_CAST(struct kv_octet, d.halves + (at + 16 * i))[0] = octet_to_half(x, 1.0f);
    }
    t->spilled = true;
}

/* Rows whose peak leaves the headroom get a new one. */
template <int DIMS>
static inline void prefill_grow(PRIVATE(struct prefill_tile<DIMS>) t, struct gpu_attention_args args,
                                struct prefill_data d, THREAD_IDS ids, float next)
{
    bool fresh = t->peak <= ATTENTION_NONE, high = next > t->peak + PREFILL_HEADROOM;
    if (simd_max(high && !fresh ? 1.0f : 0.0f) > 0) {
        float factor = high ? k_exp2(t->peak - next) : 1.0f;
        prefill_drain(t, args, d, ids, factor, false);
        t->total *= factor;
    }
    if (high)
        t->peak = next;
}

/* Scores of the keys from `first` on become weights, as halves in d.work. */
template <int DIMS>
static inline void prefill_weigh(PRIVATE(struct prefill_tile<DIMS>) t, struct gpu_attention_args args,
                                 struct prefill_data d, THREAD_IDS ids, int first)
{
    typedef struct prefill_shape<DIMS> shape;
    const int own_keys = shape::KEYS / 2;
    UNROLL for (int j = 0; j < shape::KEYS / 16; j++) {
        frag_float c;
        frag_zero(c);
        UNROLL for (int i = 0; i < DIMS / 16; i++) {
            frag_half b;
            frag_load_t(b, d.k + (j * 16 * shape::STRIDE + i * 16), shape::STRIDE);
            frag_mma(c, t->q_rest[i], b);
            frag_mma(c, t->q[i], b);
        }
        frag_store(c, d.work + j * 16, shape::SCORES);
    }
    simd_barrier();
    int column = ids.lane % 2 * own_keys, row = ids.lane / 2;
    float score[shape::KEYS / 2], next = ATTENTION_NONE;
    UNROLL for (int i = 0; i < own_keys; i += 4) {
        float4 s = SHARED_CAST(float4, d.work + (row * shape::SCORES + column + i))[0];
        score[i] = s.x, score[i + 1] = s.y, score[i + 2] = s.z, score[i + 3] = s.w;
    }
    UNROLL for (int i = 0; i < own_keys; i++) {
        score[i] = first + column + i <= t->position ? score[i] * args.scale : 2 * ATTENTION_NONE;
        next = k_max(next, score[i]);
    }
    simd_barrier();
    prefill_grow(t, args, d, ids, k_max(next, simd_xor(next, 1)));
    SHARED_PTR(half_t) weights = SHARED_CAST(half_t, d.work) + (row * shape::WEIGHTS + column);
    UNROLL for (int i = 0; i < own_keys; i += 8) {
        struct kv_octet octet;
        UNROLL for (int e = 0; e < 8; e++) {
            float w = k_exp2(score[i + e] - t->peak);
            t->total += w;
            octet.h[e] = float_to_half(w);
        }
        SHARED_CAST(struct kv_octet, weights + i)[0] = octet;
    }
    simd_barrier();
}

/* Adds the values of those keys by their weights. */
template <int DIMS>
static inline void prefill_sum(PRIVATE(struct prefill_tile<DIMS>) t, struct prefill_data d)
{
    typedef struct prefill_shape<DIMS> shape;
    SHARED_PTR(const half_t) weights = SHARED_CAST(const half_t, d.work);
    SHARED_PTR(const half_t) values = SHARED_CAST(const half_t, d.v);
    UNROLL for (int j = 0; j < shape::KEYS / 16; j++) {
        frag_half p;
        frag_load(p, weights + j * 16, shape::WEIGHTS);
        UNROLL for (int i = 0; i < DIMS / 16; i++) {
            frag_half b;
            frag_load(b, values + (j * 16 * shape::STRIDE + i * 16), shape::STRIDE);
            frag_mma(t->o[i], p, b);
        }
    }
}

/* A run against all its keys. Values arrive while scores are made, the next keys while values are
 * summed. */
template <int DIMS>
static inline void prefill_attend(struct gpu_attention_args args, struct prefill_data d,
                                  struct prefill_run run, THREAD_IDS ids, int tile_row)
{
    const int keys = prefill_shape<DIMS>::KEYS;
    int end = run.position + run.last - run.first + 1;
    struct prefill_tile<DIMS> t;
    prefill_stage<DIMS>(d.k, run, ids, 0, 0);
    prefill_start(&t, args, d, run, ids, tile_row + ids.simd / args.heads_each * 16);
    copy_async_wait(0);
    group_barrier();
    for (int first = 0; first < end; first += keys) {
        bool sees = first <= t.last_position;
        prefill_stage<DIMS>(d.v, run, ids, first, run.pages.values);
        if (sees)
            prefill_weigh(&t, args, d, ids, first);
        copy_async_wait(0);
        group_barrier();
        if (first + keys < end)
            prefill_stage<DIMS>(d.k, run, ids, first + keys, 0);
        if (sees)
            prefill_sum(&t, d);
        copy_async_wait(0);
        group_barrier();
    }
    if (t.last_position >= 0) {
        t.total += simd_xor(t.total, 1);
        prefill_drain(&t, args, d, ids, 1.0f / t.total, true);
    }
    group_barrier();
}

template <int DIMS>
static inline void prefill_run_all(struct gpu_attention_args args, struct prefill_data d, THREAD_IDS ids)
{
    int per_kv = args.n_heads / args.n_kv_heads, blocks = (per_kv + args.heads_each - 1) / args.heads_each;
    int rows = PREFILL_QUERIES / args.heads_each, n_tiles = (args.rows + rows - 1) / rows;
    int tile_row = (n_tiles - 1 - ids.group.x) * rows; /* long rows first */
    int end = tile_row + rows < args.rows ? tile_row + rows : args.rows;
    for (int row = tile_row, turn = 0; row < end; turn++) {
        struct prefill_run run;
        run.first = row;
        row = prefill_run_end(d, ids, row, end);
        run.last = row - 1;
        if (turn % PREFILL_STARTS != ids.group.z)
            continue;
        run.position = load_fresh(d.position + run.first);
        run.pages = kv_pages_of(args, d.kv, d.table, load_fresh(d.sequence + run.first),
                                ids.group.y / blocks);
        prefill_attend<DIMS>(args, d, run, ids, tile_row);
    }
}

#define PREFILL_KERNEL(name, dims)                                                                           \
    KERNEL(name, 128, gpu_attention_args, BUF(0, const float, qkv), BUF(1, const int, position),             \
           BUF(2, const int, sequence), BUF(3, const int, table), BUF(4, const half_t, kv),                  \
           BUF(5, float, out), BUF(6, signed char, codes), BUF(7, half_t, halves))                           \
    {                                                                                                        \
        KERNEL_IDS;                                                                                          \
        SHARED(half_t, k, prefill_shape<dims>::KEYS *prefill_shape<dims>::STRIDE);                           \
        SHARED(half_t, v, prefill_shape<dims>::KEYS *prefill_shape<dims>::STRIDE);                           \
        SHARED(float, work, PREFILL_SIMDS * 16 * prefill_shape<dims>::SCORES);                               \
        struct prefill_data d = {qkv, position, sequence, table, kv, out, halves, k, v,                      \
                                 work + ids.simd * 16 * prefill_shape<dims>::SCORES};                        \
        (void)codes;                                                                                         \
        DEPENDENCY_WAIT();                                                                                   \
        DEPENDENCY_LAUNCH();                                                                                 \
        prefill_run_all<dims>(args, d, ids);                                                                 \
    }

PREFILL_KERNEL(prefill_attention_64, 64)
PREFILL_KERNEL(prefill_attention_128, 128)
PREFILL_KERNEL(prefill_attention_256, 256)

#endif
