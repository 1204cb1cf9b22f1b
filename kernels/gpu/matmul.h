/* Products of quantised matrices with many rows of x: tiles of TM rows by 128 outputs on the matrix
 * units, in steps of one unit of 32 columns.
 *
 * x comes as halves by asynchronous copies, a few steps' worth in shared memory; the weights of the next two
 * steps wait in registers. Of two neighbouring lanes each loads one of two neighbouring units of a row, so
 * that no weight is loaded twice and the 32 bytes that memory gives at least are used whole; then they swap
 * halves of their units. The eight simd groups stand two by four over the tile. Of a SwiGLU every simd group
 * has 16 outputs of the gate and the same 16 of up. */
#ifndef HEARTH_GPU_MATMUL_H
#define HEARTH_GPU_MATMUL_H

#include "compat.h"
#include "forms.h"
#include "gpu_args.h"
#include "weight_k.h"

#define MATMUL_THREADS 256
#define MATMUL_OUTPUTS 128
#define MATMUL_STRIDE 40 /* halves between rows in shared memory: 8 rows' 16 bytes lie in different banks */
#define MATMUL_X_STEPS(rows) ((rows) < 64 ? 4 : 2)
#define MATMUL_X(rows) (MATMUL_X_STEPS(rows) * (rows) * MATMUL_STRIDE)
#define MATMUL_W_STEPS(rows) ((rows) < 128 ? 2 : 1) /* weights of so many steps fit into shared memory */
#define MATMUL_W(rows) (MATMUL_W_STEPS(rows) * MATMUL_OUTPUTS * MATMUL_STRIDE)

struct matmul_buffers {
    GLOBAL(const half_t) x;
    GLOBAL(const unsigned char) w0;
    GLOBAL(const unsigned char) w1;
    GLOBAL(const unsigned char) w2;
    GLOBAL(const float) bias;
    GLOBAL(const float) add;
    GLOBAL(float) y;
    GLOBAL(half_t) halves;
};

/* A tile's place: which weight, and its first output there. */
struct matmul_place {
    int segment, output;
};

static inline struct matmul_place matmul_place_of(struct gpu_matmul_args a, int tile)
{
    struct matmul_place p;
    p.segment = tile < a.tile_end[0] ? 0 : tile < a.tile_end[1] ? 1 : 2;
    tile -= p.segment == 0 ? 0 : p.segment == 1 ? a.tile_end[0] : a.tile_end[1];
    p.output = tile * (a.flags & MATMUL_SWIGLU ? MATMUL_OUTPUTS / 2 : MATMUL_OUTPUTS);
    return p;
}

static inline int matmul_out(struct gpu_matmul_args a, int segment)
{
    return segment == 0 ? a.out[0] : segment == 1 ? a.out[1] : a.out[2];
}

/* The weight row that stands in row j of the tile. */
struct matmul_source {
    struct weight_matrix m;
    int row;
};

static inline struct matmul_source matmul_source_of(struct gpu_matmul_args a, struct matmul_buffers b,
                                                    struct matmul_place p, int j)
{
    struct matmul_source s;
    int segment = p.segment, row = p.output + j;
    if (a.flags & MATMUL_SWIGLU) {
        segment = j / 16 & 1;
        row = p.output + j / 32 * 16 + j % 16;
    }
    int last = matmul_out(a, segment) - 1;
    s.m.data = segment == 0 ? b.w0 : segment == 1 ? b.w1 : b.w2;
    s.m.rows = last + 1;
    s.m.columns = a.columns;
    s.row = row < last ? row : last;
    return s;
}

/* Counts as a copy also where there is no such unit. */
template <int TM>
static inline void matmul_copy_x(struct gpu_matmul_args a, THREAD_IDS ids, GLOBAL(const half_t) x, int unit,
                                 int end, SHARED_PTR(half_t) to)
{
    UNROLL for (int i = 0; i < (4 * TM + MATMUL_THREADS - 1) / MATMUL_THREADS; i++) {
        int chunk = ids.thread + i * MATMUL_THREADS, row = ids.group.y * TM + chunk / 4;
        row = row < a.rows ? row : a.rows - 1;
        if (chunk < 4 * TM && unit < end)
            copy_async16(to + (chunk / 4 * MATMUL_STRIDE + chunk % 4 * 8),
                         x + ((long)row * a.units * 32 + unit * 32 + chunk % 4 * 8));
    }
    copy_async_commit();
}

static inline struct codes matmul_neighbours(struct codes c)
{
    UNROLL for (int i = 0; i < 4; i++)
        c.q[i] = simd_xor(c.q[i], 1);
    c.d = simd_xor(c.d, 1);
    return c;
}

static inline struct codes_min matmul_neighbours(struct codes_min c)
{
    UNROLL for (int i = 0; i < 4; i++)
        c.q[i] = simd_xor(c.q[i], 1);
    c.d = simd_xor(c.d, 1);
    c.m = simd_xor(c.m, 1);
    return c;
}

static inline struct words<8> matmul_neighbours(struct words<8> v)
{
    UNROLL for (int i = 0; i < 8; i++)
        v.w[i] = simd_xor(v.w[i], 1);
    return v;
}

static inline struct words<8> matmul_pack(struct values v)
{
    struct words<8> out;
    UNROLL for (int i = 0; i < 8; i++)
        out.w[i] = pack_half2(v.v[2 * i], v.v[2 * i + 1]);
    return out;
}

/* Sixteen weights in as few registers as may be, and as halves. */
template <typename C> static inline C matmul_short(C c)
{
    return c;
}

static inline struct words<8> matmul_short(struct values v)
{
    return matmul_pack(v);
}

template <typename C> static inline struct words<8> matmul_halves(C c)
{
    return matmul_pack(weight_values(c));
}

static inline struct words<8> matmul_halves(struct words<8> v)
{
    return v;
}

static inline void matmul_put_weights(struct words<8> v, SHARED_PTR(half_t) to)
{
    UNROLL for (int i = 0; i < 2; i++)
        SHARED_CAST(uint4, to)[i] = make_uint4(v.w[4 * i], v.w[4 * i + 1], v.w[4 * i + 2], v.w[4 * i + 3]);
}

/* A simd group's TM / 2 by 32 outputs. */
template <int TM> struct matmul_sums {
    frag_float c[TM / 32][2];

    inline void clear()
    {
        UNROLL for (int i = 0; i < TM / 32; i++)
            UNROLL for (int j = 0; j < 2; j++)
                frag_zero(c[i][j]);
    }

    inline void multiply(SHARED_PTR(const half_t) x, SHARED_PTR(const half_t) w)
    {
        UNROLL for (int k = 0; k < 32; k += 16) {
            frag_half right[2];
            UNROLL for (int j = 0; j < 2; j++)
                frag_load_t(right[j], w + (j * 16 * MATMUL_STRIDE + k), MATMUL_STRIDE);
            UNROLL for (int i = 0; i < TM / 32; i++) {
                frag_half left;
                frag_load(left, x + (i * 16 * MATMUL_STRIDE + k), MATMUL_STRIDE);
                UNROLL for (int j = 0; j < 2; j++)
                    frag_mma(c[i][j], left, right[j]);
            }
        }
    }
};

/* Sixteen columns of a tile through shared memory: lane l has column l % 16 of every second row. */
struct matmul_column {
    float v[8];

    inline void take(SHARED_PTR(float) room, int lane)
    {
        simd_barrier();
        UNROLL for (int i = 0; i < 8; i++)
            v[i] = room[i * 32 + lane];
        simd_barrier();
    }
};

/* Writes rows row, row + 2 … of one output. */
static inline void matmul_write(struct gpu_matmul_args a, struct matmul_buffers b, int z, int row, int output,
                                int column, struct matmul_column c)
{
    float bias = a.flags & MATMUL_BIAS ? b.bias[column] : 0.0f;
    UNROLL for (int i = 0; i < 8; i++) {
        int r = row + 2 * i;
        if (r >= a.rows)
            continue;
        if (a.flags & MATMUL_FLOATS) {
            long at = ((long)z * a.rows + r) * a.y_stride + column;
            float v = c.v[i] + bias;
            if (a.flags & MATMUL_ADD)
                v += load_fresh(b.add + (FAULT(wrong_stride) ? at - (long)r * (a.y_stride / 2) : at));
            b.y[at] = v;
        }
        if (a.flags & MATMUL_HALVES)
            b.halves[(long)r * a.outputs + output] = saturated_half(c.v[i] * (1.0f / MATMUL_HALF_SCALE));
    }
}

template <int TM>
static inline void matmul_finish(struct gpu_matmul_args a, THREAD_IDS ids, struct matmul_buffers b,
                                 struct matmul_place p, struct matmul_sums<TM> sums, SHARED_PTR(float) room)
{
    bool swiglu = (a.flags & MATMUL_SWIGLU) != 0;
    int first = p.segment == 0 ? a.first[0] : p.segment == 1 ? a.first[1] : a.first[2];
    int out = matmul_out(a, p.segment), column = ids.lane % 16;
    UNROLL for (int i = 0; i < TM / 32; i++) {
        int row = ids.group.y * TM + ids.simd / 4 * (TM / 2) + i * 16 + ids.lane / 16;
        struct matmul_column gate;
        UNROLL for (int j = 0; j < 2; j++) {
            struct matmul_column c;
            frag_store(sums.c[i][j], room, 16);
            c.take(room, ids.lane);
            UNROLL for (int k = 0; k < 8; k++)
                c.v[k] *= a.scale;
            if (swiglu && j == 0) {
                gate = c;
                continue;
            }
            if (swiglu) {
                UNROLL for (int k = 0; k < 8; k++)
                    c.v[k] *= silu(gate.v[k]);
            }
            int output = p.output + (swiglu ? ids.simd % 4 * 16 : ids.simd % 4 * 32 + j * 16) + column;
            if (output < out)
                matmul_write(a, b, ids.group.z, row, output, first + output, c);
        }
    }
}

/* Of a pair's two units the second may be missing; what is loaded in its place is not used. */
static inline int matmul_unit(int unit, int end)
{
    return unit < end ? unit : end - 1;
}

/* One kernel: x_room holds MATMUL_X(TM) halves, w_room MATMUL_W(TM). */
template <int TM>
static inline void matmul(struct gpu_matmul_args a, THREAD_IDS ids, struct matmul_buffers b,
                          SHARED_PTR(half_t) x_room, SHARED_PTR(half_t) w_room)
{
    int begin = ids.group.z * a.steps, end = begin + a.steps;
    end = end < a.units ? end : a.units;
    /* Two lanes share a row: one stores the first halves of its units, the other the second. Eight lanes
     * write at once; the order of rows puts theirs into different banks. */
    int h = ids.lane & 1, pair = ids.thread / 2, j = (pair & ~6) | (pair & 2) << 1 | (pair & 4) >> 1;
    struct matmul_place place = matmul_place_of(a, ids.group.x);
    struct matmul_source source = matmul_source_of(a, b, place, j);
    weight_reader reader;
    reader.load(source.m, source.row, matmul_unit(begin + h, end));
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    const int ahead = MATMUL_X_STEPS(TM) - 1;
    UNROLL for (int i = 0; i < ahead; i++)
        matmul_copy_x<TM>(a, ids, b.x, begin + i, end, x_room + i * TM * MATMUL_STRIDE);
    struct matmul_sums<TM> sums;
    sums.clear();
    for (int first = begin; first < end; first += 2) {
        auto low = matmul_short(reader.expand(0)), high = matmul_short(reader.expand(1));
        auto other = matmul_neighbours(h ? low : high), now = h ? other : low, next = h ? high : other;
        UNROLL for (int i = 0; i < 2; i++) {
            int unit = first + i, step = unit - begin;
            if (unit >= end)
                continue;
            SHARED_PTR(half_t) w = w_room + i % MATMUL_W_STEPS(TM) * MATMUL_OUTPUTS * MATMUL_STRIDE;
            if (MATMUL_W_STEPS(TM) == 1)
                group_barrier(); /* until the step before has read its weights */
            matmul_put_weights(matmul_halves(i ? next : now), w + (j * MATMUL_STRIDE + 16 * h));
            if (i == 0 && first + 2 < end)
                reader.load(source.m, source.row, matmul_unit(first + 2 + h, end));
            copy_async_wait(ahead - 1);
            group_barrier();
            matmul_copy_x<TM>(a, ids, b.x, unit + ahead, end,
                              x_room + (step + ahead) % MATMUL_X_STEPS(TM) * TM * MATMUL_STRIDE);
            SHARED_PTR(const half_t) left =
                x_room + (step % MATMUL_X_STEPS(TM) * TM + ids.simd / 4 * (TM / 2)) * MATMUL_STRIDE;
            sums.multiply(left, w + ids.simd % 4 * 32 * MATMUL_STRIDE);
        }
    }
    group_barrier();
    matmul_finish<TM>(a, ids, b, place, sums, SHARED_CAST(float, w_room) + ids.simd * 256);
}

#define MATMUL(name, rows)                                                                                    \
    TYPED_KERNEL(name, MATMUL_THREADS, struct gpu_matmul_args, BUF(0, const half_t, x),                       \
                 BUF(1, const unsigned char, w0), BUF(2, const unsigned char, w1),                            \
                 BUF(3, const unsigned char, w2), BUF(4, const float, bias), BUF(5, const float, add),        \
                 BUF(6, float, y), BUF(7, half_t, halves))                                                    \
    {                                                                                                         \
        KERNEL_IDS;                                                                                           \
        SHARED(half_t, x_room, MATMUL_X(rows));                                                               \
        SHARED(half_t, w_room, MATMUL_W(rows));                                                               \
        struct matmul_buffers b = {x, w0, w1, w2, bias, add, y, halves};                                      \
        matmul<rows>(args, ids, b, x_room, w_room);                                                           \
    }

MATMUL(matmul_32, 32)
MATMUL(matmul_64, 64)
MATMUL(matmul_128, 128)

#endif
