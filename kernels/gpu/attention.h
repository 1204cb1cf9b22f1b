/* Attention of few rows (decode): one group of threads per query head, part of the context and row.
 *
 * A key is held by LP lanes, eight dimensions each, so that 8 simd groups of 32 / LP keys are independent
 * streams of an online softmax (Milakov, Gimelshein, arXiv:1805.02867) that meet once, at the end. What
 * the cache holds of earlier steps does not depend on the kernel before: two batches of keys are on their
 * way before the wait. For that a group must find room beside those of the matmul before, which are on every
 * multiprocessor: its threads' registers are half of one at most. */
#ifndef HEARTH_GPU_ATTENTION_H
#define HEARTH_GPU_ATTENTION_H

#include "compat.h"
#include "gpu_args.h"
#include "norm.h"

#define ATTENTION_THREADS 256
#define ATTENTION_SIMDS 8
#define ATTENTION_BATCH 4   /* keys of a stream that are loaded together */
#define ATTENTION_NONE -1e30f /* below every score; its weight is 0 */

struct alignas(16) kv_octet {
    half_t h[8];
};

struct octet_floats {
    float x[8];
};

static inline struct octet_floats octet_to_floats(struct kv_octet o)
{
    struct octet_floats f;
    UNROLL for (int i = 0; i < 8; i++)
        f.x[i] = half_to_float(o.h[i]);
    return f;
}

static inline struct kv_octet octet_to_half(struct octet_floats f, float factor)
{
    struct kv_octet o;
    UNROLL for (int i = 0; i < 8; i++)
        o.h[i] = saturated_half(f.x[i] * factor);
    return o;
}

static inline struct octet_floats octet_load(GLOBAL(const float) p)
{
    struct octet_floats f;
    float4 a = load_fresh(GLOBAL_CAST(const float4, p)), b = load_fresh(GLOBAL_CAST(const float4, p + 4));
    f.x[0] = a.x, f.x[1] = a.y, f.x[2] = a.z, f.x[3] = a.w;
    f.x[4] = b.x, f.x[5] = b.y, f.x[6] = b.z, f.x[7] = b.w;
    return f;
}

/* Where the keys of one row and KV head lie in the paged cache. */
struct kv_pages {
    GLOBAL(const half_t) kv; /* the head's first key of block 0 */
    GLOBAL(const int) table; /* the sequence's blocks */
    int head_dim, block_tokens, block_shift;
    int values; /* elements from a key to its value; twice this is a block */

    /* Element where key j begins. */
    inline long key(int j) const
    {
        int block = block_shift >= 0 ? j >> block_shift : j / block_tokens;
        return (long)table[block] * (2 * values) + (long)(j - block * block_tokens) * head_dim;
    }
};

static inline struct kv_pages kv_pages_of(struct gpu_attention_args args, GLOBAL(const half_t) kv,
                                          GLOBAL(const int) table, int sequence, int kv_head)
{
    struct kv_pages p;
    p.kv = kv + (long)kv_head * args.block_tokens * args.head_dim;
    p.table = table + (long)sequence * args.table_stride;
    p.values = args.n_kv_heads * args.block_tokens * args.head_dim;
    p.head_dim = args.head_dim;
    p.block_tokens = args.block_tokens;
    p.block_shift = args.block_shift;
    return p;
}

static inline void octet_store(SHARED_PTR(float) to, struct octet_floats f)
{
    SHARED_CAST(float4, to)[0] = make_float4(f.x[0], f.x[1], f.x[2], f.x[3]);
    SHARED_CAST(float4, to)[1] = make_float4(f.x[4], f.x[5], f.x[6], f.x[7]);
}

static inline struct octet_floats octet_read(SHARED_PTR(float) from)
{
    struct octet_floats f;
    float4 a = SHARED_CAST(float4, from)[0], b = SHARED_CAST(float4, from)[1];
    f.x[0] = a.x, f.x[1] = a.y, f.x[2] = a.z, f.x[3] = a.w;
    f.x[4] = b.x, f.x[5] = b.y, f.x[6] = b.z, f.x[7] = b.w;
    return f;
}

static inline struct octet_floats scaled(struct octet_floats f, float factor)
{
    UNROLL for (int i = 0; i < 8; i++)
        f.x[i] *= factor;
    return f;
}

static inline float octet_dot(struct octet_floats a, struct octet_floats b)
{
    float even = 0, odd = 0;
    UNROLL for (int i = 0; i < 8; i += 2) {
        even = k_fma(a.x[i], b.x[i], even);
        odd = k_fma(a.x[i + 1], b.x[i + 1], odd);
    }
    return even + odd;
}

/* The sum over the LP lanes that hold a key. */
template <int LP> static inline float key_sum(float v)
{
    UNROLL for (int mask = 1; mask < LP; mask *= 2)
        v += simd_xor(v, mask);
    return v;
}

/* The next ATTENTION_BATCH keys of a stream, as they lie in memory. */
template <int LP> struct key_batch {
    struct kv_octet k[ATTENTION_BATCH], v[ATTENTION_BATCH];

    /* Of the group, per load and per batch. */
    enum { KEYS = ATTENTION_SIMDS * (32 / LP), ALL = KEYS * ATTENTION_BATCH };

    /* The lane's first key of a batch. */
    static inline int start(THREAD_IDS ids, int first)
    {
        return first + ids.simd * (32 / LP) + ids.lane / LP;
    }

    /* Keys from `first` on; beyond `end` the last one again. end > 0. */
    inline void load(struct kv_pages pages, THREAD_IDS ids, int first, int end)
    {
        int at = start(ids, first), c = ids.lane % LP * 8;
        c = c < pages.head_dim ? c : 0;
        UNROLL for (int i = 0; i < ATTENTION_BATCH; i++) {
            int j = at + i * KEYS;
            GLOBAL(const half_t) p = pages.kv + (pages.key(j < end ? j : end - 1) + c);
            k[i] = load_fresh(GLOBAL_CAST(const struct kv_octet, p));
            v[i] = load_fresh(GLOBAL_CAST(const struct kv_octet, p + pages.values));
        }
    }
};

/* One stream of an online softmax: eight dimensions of the sum of weight * value, relative to 2^peak. */
template <int LP> struct softmax_stream {
    float peak, total;
    struct octet_floats sum;

    inline void start()
    {
        peak = ATTENTION_NONE;
        total = 0;
        UNROLL for (int i = 0; i < 8; i++)
            sum.x[i] = 0;
    }

    inline void add(struct key_batch<LP> batch, struct octet_floats q, THREAD_IDS ids, int first, int end)
    {
        int at = batch.start(ids, first);
        float score[ATTENTION_BATCH], next = peak;
        UNROLL for (int i = 0; i < ATTENTION_BATCH; i++)
            score[i] = key_sum<LP>(octet_dot(q, octet_to_floats(batch.k[i])));
        UNROLL for (int i = 0; i < ATTENTION_BATCH; i++) {
            score[i] = at + i * key_batch<LP>::KEYS < end ? score[i] : 2 * ATTENTION_NONE;
            next = k_max(next, score[i]);
        }
        rescale(next);
        UNROLL for (int i = 0; i < ATTENTION_BATCH; i++) {
            float weight = k_exp2(score[i] - peak);
            struct octet_floats v = octet_to_floats(batch.v[i]);
            total += weight;
            UNROLL for (int d = 0; d < 8; d++)
                sum.x[d] = k_fma(weight, v.x[d], sum.x[d]);
        }
    }

    inline void rescale(float next)
    {
        float factor = k_exp2(peak - next);
        peak = next;
        total *= factor;
        UNROLL for (int i = 0; i < 8; i++)
            sum.x[i] *= factor;
    }

    /* The streams of a simd group become one, in every lane. */
    inline void join()
    {
        float next = peak;
        UNROLL for (int mask = LP; mask < 32; mask *= 2)
            next = k_max(next, simd_xor(next, mask));
        rescale(next);
        UNROLL for (int mask = LP; mask < 32; mask *= 2) {
            total += simd_xor(total, mask);
            UNROLL for (int i = 0; i < 8; i++)
                sum.x[i] += simd_xor(sum.x[i], mask);
        }
    }
};

/* What the decode kernels are given, beside their arguments. */
struct attention_data {
    GLOBAL(const float) qkv;
    GLOBAL(const int) position;
    GLOBAL(const int) sequence;
    GLOBAL(const int) table;
    GLOBAL(half_t) kv;
    GLOBAL(const int) slot;  /* of the kernels that rotate, like cs */
    GLOBAL(const float2) cs;
    GLOBAL(float) out;
    GLOBAL(signed char) codes; /* FORM_INT8 */
    GLOBAL(half_t) halves;     /* FORM_HALF */
    GLOBAL(float) partial;     /* [rows][n_heads][splits][head_dim + 2]: sums, peak, total */
    SHARED_PTR(float) shared;  /* [ATTENTION_SIMDS][8 * LP + 2]: what streams end with */
    SHARED_PTR(float) own;     /* [3][8 * LP] of the kernels that rotate: the row's query, key and value */
};

/* One element of a row's result in the forms that are wanted; the 32 lanes hold neighbours. */
static inline void attention_write(struct gpu_attention_args args, GLOBAL(float) out,
                                   GLOBAL(signed char) codes, GLOBAL(half_t) halves, int row, int column,
                                   float v)
{
    int width = args.n_heads * args.head_dim;
    long at = (long)row * width + column;
    if (args.forms & ATTENTION_F32)
        out[at] = v;
    if (args.forms & ATTENTION_HALF)
        halves[at] = saturated_half(v);
    if (args.forms & ATTENTION_INT8) {
        float peak = simd_max(k_abs(v)), inverse = peak > 0 ? 127 / peak : 0.0f;
        codes[at] = (signed char)(int)k_rint(v * inverse);
        if (column % 32 == 0)
            GLOBAL_CAST(float, codes + (long)args.rows * width)[at / 32] = peak / 127;
    }
}

/* Streams of the group's simd groups into the result, or into this split's place in `partial`. */
template <int LP>
static inline void attention_finish(struct gpu_attention_args args, struct attention_data d, THREAD_IDS ids,
                                    struct softmax_stream<LP> stream)
{
    const int dims = 8 * LP;
    int head = ids.group.x, split = ids.group.y, row = ids.group.z, t = ids.thread;
    SHARED_PTR(float) peaks = d.shared + ATTENTION_SIMDS * dims;
    SHARED_PTR(float) totals = peaks + ATTENTION_SIMDS;
    stream.join();
    if (ids.lane < LP)
        octet_store(d.shared + (ids.simd * dims + ids.lane * 8), stream.sum);
    if (ids.lane == 0) {
        peaks[ids.simd] = stream.peak;
        totals[ids.simd] = stream.total;
    }
    if (!FAULT(missing_barrier))
        group_barrier();
    if (ids.simd * 32 >= args.head_dim)
        return;
    float peak = ATTENTION_NONE, total = 0, sum = 0;
    UNROLL for (int i = 0; i < ATTENTION_SIMDS; i++)
        peak = k_max(peak, peaks[i]);
    UNROLL for (int i = 0; i < ATTENTION_SIMDS; i++) {
        float factor = k_exp2(peaks[i] - peak);
        total = k_fma(factor, totals[i], total);
        sum = k_fma(factor, d.shared[i * dims + t], sum);
    }
    if (args.splits > 1) {
        long at = (long)(row * args.n_heads + head) * args.splits + split;
        GLOBAL(float) to = d.partial + at * (args.head_dim + 2);
        if (t < args.head_dim)
            to[t] = sum;
        if (t == 0) {
            to[args.head_dim] = peak;
            to[args.head_dim + 1] = total;
        }
    } else if (t < args.head_dim) {
        attention_write(args, d.out, d.codes, d.halves, row, head * args.head_dim + t, sum / total);
    }
}

/* What a row's streams read of the cache: loaded before the wait where that is allowed. */
template <int LP, bool ROPE> struct attention_prologue {
    typedef struct key_batch<LP> batch;
    struct kv_pages pages;
    batch a, b;
    int first, end; /* this split's keys of the cache */

    inline void load(struct gpu_attention_args args, struct attention_data d, THREAD_IDS ids, int kv_head)
    {
        int row = ids.group.z;
        int keys = load_fresh(d.position + row) + (ROPE ? 0 : 1);
        int each = ((keys + args.splits - 1) / args.splits + batch::KEYS - 1) / batch::KEYS * batch::KEYS;
        first = ids.group.y * each;
        end = first + each < keys ? first + each : keys;
        pages = kv_pages_of(args, d.kv, d.table, load_fresh(d.sequence + row), kv_head);
        if (first < end)
            a.load(pages, ids, first, end);
        if (first + batch::ALL < end)
            b.load(pages, ids, first + batch::ALL, end);
    }

    inline struct softmax_stream<LP> stream(struct softmax_stream<LP> s, struct octet_floats q,
                                            THREAD_IDS ids)
    {
        for (int at = first; at < end; at += 2 * batch::ALL) {
            s.add(a, q, ids, at, end);
            if (at + batch::ALL >= end)
                break;
            if (at + 2 * batch::ALL < end)
                a.load(pages, ids, at + 2 * batch::ALL, end);
            s.add(b, q, ids, at + batch::ALL, end);
            if (at + 3 * batch::ALL < end)
                b.load(pages, ids, at + 3 * batch::ALL, end);
        }
        return s;
    }
};

/* Element e of a head before it is turned: what that takes is loaded at once. */
struct rope_element {
    float own, other;
    float2 angle;
    bool turns, front;

    inline void load(struct gpu_attention_args args, GLOBAL(const float) head, GLOBAL(const float2) cs, int e,
                     bool rotated)
    {
        int half_dim = args.rope_dim / 2;
        bool halves = args.style == ROPE_HALVES;
        int apart = halves ? half_dim : 1;
        front = halves ? e < half_dim : e % 2 == 0;
        turns = rotated && e < args.rope_dim;
        own = load_fresh(head + e);
        other = 0;
        angle = make_float2(1, 0);
        if (turns) {
            other = load_fresh(head + (front ? e + apart : e - apart));
            angle = load_fresh(cs + (!halves ? e / 2 : front ? e : e - half_dim));
        }
    }

    inline float turned() const
    {
        return turns ? own * angle.x + other * (front ? -angle.y : angle.y) : own;
    }
};

/* The row's query, key and value go to d.own, turned, and rounded as the cache holds them; the group of the
 * first query head appends them. A few elements a thread, all loaded before the first is used. */
template <int LP>
static inline void attention_append(struct gpu_attention_args args, struct attention_data d, THREAD_IDS ids,
                                    int kv_head, bool appends)
{
    const int dims = 8 * LP, each = (3 * dims + ATTENTION_THREADS - 1) / ATTENTION_THREADS;
    int dim = args.head_dim, row = ids.group.z, head = ids.group.x, tokens = args.block_tokens;
    int values = args.n_kv_heads * tokens * dim, slot = 0;
    GLOBAL(const float) x = d.qkv + (long)row * args.q_stride;
    GLOBAL(const float2) cs = d.cs + (long)row * (args.rope_dim / 2);
    struct rope_element element[each];
    if (appends)
        slot = load_fresh(d.slot + row);
    UNROLL for (int n = 0; n < each; n++) {
        int i = ids.thread + n * ATTENTION_THREADS, part = i / dims, e = i % dims;
        int at = part == 0 ? head : args.n_heads + kv_head + (part - 1) * args.n_kv_heads;
        if (part < 3 && e < dim)
            element[n].load(args, x + at * dim, cs, e, part < 2);
    }
    int block = args.block_shift >= 0 ? slot >> args.block_shift : slot / tokens;
    long appended = (long)block * (2 * values) + (kv_head * tokens + slot - block * tokens) * dim;
    UNROLL for (int n = 0; n < each; n++) {
        int i = ids.thread + n * ATTENTION_THREADS, part = i / dims, e = i % dims;
        if (part >= 3)
            break;
        if (e >= dim) {
            d.own[i] = 0.0f;
        } else if (part == 0) {
            d.own[i] = element[n].turned() * args.scale;
        } else {
            half_t v = saturated_half(element[n].turned());
            d.own[i] = half_to_float(v);
            if (appends)
                d.kv[appended + (part - 1) * values + e] = v;
        }
    }
}

/* ROPE: the row's Q, K and V are as the matmul left them; its own key is not in the cache. */
template <int LP, bool ROPE>
static inline void attention_run(struct gpu_attention_args args, struct attention_data d, THREAD_IDS ids)
{
    int c = ids.lane % LP * 8, per_kv = args.n_heads / args.n_kv_heads, kv_head = ids.group.x / per_kv;
    struct attention_prologue<LP, ROPE> p;
    if (ROPE && args.early)
        p.load(args, d, ids, kv_head);
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    if (!ROPE || !args.early)
        p.load(args, d, ids, kv_head);

    struct softmax_stream<LP> s;
    struct octet_floats q;
    s.start();
    if (ROPE) {
        attention_append<LP>(args, d, ids, kv_head, kv_head * per_kv == ids.group.x && ids.group.y == 0);
        group_barrier();
        q = octet_read(d.own + c);
        if (ids.simd == 0 && ids.group.y == 0) {
            float score = key_sum<LP>(octet_dot(q, octet_read(d.own + (8 * LP + c))));
            if (ids.lane < LP) {
                s.peak = score;
                s.total = 1;
                s.sum = octet_read(d.own + (16 * LP + c));
            }
        }
    } else {
        bool inside = c < args.head_dim;
        GLOBAL(const float) x = d.qkv + ((long)ids.group.z * args.q_stride + ids.group.x * args.head_dim);
        q = scaled(octet_load(x + (inside ? c : 0)), inside ? args.scale : 0.0f);
    }
    attention_finish<LP>(args, d, ids, p.stream(s, q, ids));
}

/* The kernels: dimensions of a head that the lanes have room for, with and without the rotation. */
#define ATTENTION_KERNEL(name, dims, rotates)                                                                \
    KERNEL(name, 256, gpu_attention_args, BUF(0, const float, qkv), BUF(1, const int, position),             \
           BUF(2, const int, sequence), BUF(3, const int, table), BUF(4, half_t, kv),                        \
           BUF(5, const int, slot), BUF(6, const float2, cs), BUF(7, float, out),                            \
           BUF(8, signed char, codes), BUF(9, half_t, halves), BUF(10, float, partial))                      \
    {                                                                                                        \
        KERNEL_IDS;                                                                                          \
        SHARED(float, shared, ATTENTION_SIMDS *(dims + 2));                                                  \
        SHARED(float, own, (rotates) ? 3 * dims : 4);                                                        \
        struct attention_data d = {qkv, position, sequence, table, kv, slot, cs,                             \
                                   out, codes, halves, partial, shared, own};                                \
        attention_run<dims / 8, rotates>(args, d, ids);                                                      \
    }

ATTENTION_KERNEL(attention_64, 64, false)
ATTENTION_KERNEL(attention_128, 128, false)
ATTENTION_KERNEL(attention_256, 256, false)
ATTENTION_KERNEL(rope_attention_64, 64, true)
ATTENTION_KERNEL(rope_attention_128, 128, true)
ATTENTION_KERNEL(rope_attention_256, 256, true)

/* One group per head and row: the splits of a context, at most 32, become one result. */
KERNEL(attention_combine, 256, gpu_attention_args, BUF(0, const float, partial), BUF(1, float, out),
       BUF(2, signed char, codes), BUF(3, half_t, halves))
{
    KERNEL_IDS;
    int head = ids.group.x, row = ids.group.y, dim = args.head_dim, t = ids.thread, n = args.splits;
    GLOBAL(const float) from = partial + (long)(row * args.n_heads + head) * n * (dim + 2);
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    if (ids.simd * 32 >= dim)
        return;
    GLOBAL(const float) ends = from + ((ids.lane < n ? ids.lane : 0) * (dim + 2) + dim);
    float own_peak = load_fresh(ends), own_total = load_fresh(ends + 1);
    own_peak = ids.lane < n ? own_peak : 2 * ATTENTION_NONE;
    float own_factor = k_exp2(own_peak - simd_max(own_peak));
    float total = simd_sum(own_factor * own_total), sum = 0;
    for (int first = 0; first < n; first += 8) {
        float v[8];
        UNROLL for (int i = 0; i < 8; i++)
            v[i] = first + i < n && t < dim ? load_fresh(from + ((first + i) * (dim + 2) + t)) : 0.0f;
        UNROLL for (int i = 0; i < 8; i++)
            sum = k_fma(simd_broadcast(own_factor, first + i), v[i], sum);
    }
    if (t < dim)
        attention_write(args, out, codes, halves, row, head * dim + t, sum / total);
}

#endif
