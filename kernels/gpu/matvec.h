/* Products of quantised matrices with few rows of x (1, 2 or up to 4): bound by reading the weights.
 *
 * Every lane holds units of R weight rows in registers, loaded a step ahead and for the first step before
 * the wait on the previous kernel. x is staged in shared memory once per group: as floats, or
 * quantised to 8 bits per unit. In the first case a unit's eight quads are permuted by the unit's number, in
 * the second its halves lie in two planes: either way the lanes' 16-byte reads meet no bank twice. */
#ifndef HEARTH_GPU_MATVEC_H
#define HEARTH_GPU_MATVEC_H

#include "compat.h"
#include "forms.h"
#include "gpu_args.h"
#include "weight_k.h"

#define MATVEC_THREADS 256
#define MATVEC_SIMDS 8
#define MATVEC_AHEAD 160 /* bytes of units that may be on their way twice */

/* The largest of 8 neighbouring lanes. */
static inline float octet_max(float v)
{
    v = k_max(v, simd_xor(v, 1));
    v = k_max(v, simd_xor(v, 2));
    return k_max(v, simd_xor(v, 4));
}

/* What a step reads of x where that is in 8 bits already: a lane's unit of one row. */
struct matvec_codes {
    int4 q[2];
    float d;

    inline void load(GLOBAL(const unsigned char) ready, int rows, int units, int row, int unit)
    {
        GLOBAL(const unsigned char) p = ready + ((long)row * units + unit) * 32;
        q[0] = load_fresh(GLOBAL_CAST(const int4, p));
        q[1] = load_fresh(GLOBAL_CAST(const int4, p + 16));
        d = load_fresh(GLOBAL_CAST(const float, ready + (long)rows * units * 32) + row * units + unit);
    }
};

/* x as one kernel sees it: shared memory and where it comes from. */
struct matvec_x {
    GLOBAL(const float) x;
    GLOBAL(const unsigned char) ready; /* FORM_INT8 */
    GLOBAL(const float) norm;
    SHARED_PTR(float) stage;
    int units; /* that fit into `stage`, of each row */
    int first; /* the first that is there */
};

/* Elements column … column + 3 of a row, 0 beyond the last. */
static inline float4 load_quad(GLOBAL(const float) row, int column, int columns)
{
    if (columns % 4 == 0 && column < columns)
        return load_fresh(GLOBAL_CAST(const float4, row + column));
    return make_float4(column < columns ? load_fresh(row + column) : 0.0f,
                       column + 1 < columns ? load_fresh(row + column + 1) : 0.0f,
                       column + 2 < columns ? load_fresh(row + column + 2) : 0.0f,
                       column + 3 < columns ? load_fresh(row + column + 3) : 0.0f);
}

static inline float square_sum(float4 v, float sum)
{
    return k_fma(v.x, v.x, k_fma(v.y, v.y, k_fma(v.z, v.z, k_fma(v.w, v.w, sum))));
}

/* One quad of a row's staged units: i counts them from the first that is there. */
template <bool INT8>
static inline void stage_quad(struct matvec_x s, int row, int rows_staged, int i, bool inside, float4 v)
{
    int unit = i / 8, quad = i % 8;
    if (!INT8) {
        if (inside)
            SHARED_CAST(float4, s.stage)[(row * s.units + unit) * 8 + (quad ^ (unit & 7))] = v;
        return;
    }
    float peak = octet_max(k_max(k_max(k_abs(v.x), k_abs(v.y)), k_max(k_abs(v.z), k_abs(v.w))));
    float inverse = peak > 0 ? 127 / peak : 0.0f;
    if (inside) {
        SHARED_PTR(int) q = SHARED_CAST(int, s.stage) + row * s.units * 8;
        q[(quad / 4 * s.units + unit) * 4 + quad % 4] =
            pack4(v.x * inverse, v.y * inverse, v.z * inverse, v.w * inverse);
        if (quad == 0)
            s.stage[(rows_staged * 8 + row) * s.units + unit] = peak / 127;
    }
}

/* Stages a row's units [first, first + n), times the norm's weight; returns the thread's part of the sum of
 * squares. AHEAD quads of a thread are on their way together. */
template <bool INT8, int AHEAD>
static inline float stage_row(struct matvec_x s, THREAD_IDS ids, int in, int row, int rows_staged, int n, bool norm)
{
    float squares = 0;
    for (int base = ids.simd * 32; base < 8 * n; base += AHEAD * MATVEC_THREADS) {
        float4 v[AHEAD], w[AHEAD];
        UNROLL for (int k = 0; k < AHEAD; k++) {
            int i = base + k * MATVEC_THREADS + ids.lane, column = 4 * i + 32 * s.first;
            v[k] = w[k] = make_float4(0, 0, 0, 0);
            if (i < 8 * n)
                v[k] = load_quad(s.x + (long)row * in, column, in);
            if (i < 8 * n && norm)
                w[k] = load_quad(s.norm, column, in);
        }
        UNROLL for (int k = 0; k < AHEAD; k++) {
            int i = base + k * MATVEC_THREADS + ids.lane;
            if (base + k * MATVEC_THREADS >= 8 * n)
                break;
            if (norm) {
                squares = square_sum(v[k], squares);
                v[k] = make_float4(v[k].x * w[k].x, v[k].y * w[k].y, v[k].z * w[k].z, v[k].w * w[k].w);
            }
            stage_quad<INT8>(s, row, rows_staged, i, i < 8 * n, v[k]);
        }
    }
    return squares;
}

/* Half h of a unit of x as floats. */
static inline struct x_floats read_floats(struct matvec_x s, int row, int unit, int h)
{
    struct x_floats out;
    SHARED_PTR(float4) p = SHARED_CAST(float4, s.stage) + (row * s.units + unit - s.first) * 8;
    out.sum = 0;
    UNROLL for (int i = 0; i < 4; i++) {
        float4 v = p[(4 * h + i) ^ ((unit - s.first) & 7)];
        out.v[4 * i] = v.x;
        out.v[4 * i + 1] = v.y;
        out.v[4 * i + 2] = v.z;
        out.v[4 * i + 3] = v.w;
        out.sum += v.x + v.y + (v.z + v.w);
    }
    return out;
}

/* The same as 8-bit quants. */
static inline struct matvec_codes read_codes(struct matvec_x s, int rows_staged, int row, int unit)
{
    struct matvec_codes c;
    unit -= s.first;
    c.q[0] = SHARED_CAST(int4, s.stage)[row * s.units * 2 + unit];
    c.q[1] = SHARED_CAST(int4, s.stage)[row * s.units * 2 + s.units + unit];
    c.d = s.stage[(rows_staged * 8 + row) * s.units + unit];
    return c;
}

static inline struct x_codes half_of_codes(struct matvec_codes c, int h)
{
    int4 q = h ? c.q[1] : c.q[0];
    struct x_codes out;
    out.d = c.d;
    out.q[0] = q.x;
    out.q[1] = q.y;
    out.q[2] = q.z;
    out.q[3] = q.w;
    out.sum = dot4(0x01010101, q.x, dot4(0x01010101, q.y, dot4(0x01010101, q.z, dot4(0x01010101, q.w, 0))));
    return out;
}

/* The R weight rows of a simd group in one set: two runs of R / 2 (gate and up), or one. */
struct matvec_rows {
    struct weight_matrix a, b;
    int row_a, row_b, last_a, last_b; /* first rows of the runs; the matrices' last rows */
};

template <int R> struct matvec_place {
    GLOBAL(const unsigned char) w0;
    GLOBAL(const unsigned char) w1;
    GLOBAL(const unsigned char) w2;

    inline struct matvec_rows rows(struct gpu_matvec_args a, int output) const
    {
        struct matvec_rows out;
        output = output < a.outputs ? output : a.outputs - 1; /* loaded, never written */
        if (a.flags & MATVEC_SWIGLU) {
            out.a.data = w0;
            out.b.data = w1;
            out.a.rows = out.b.rows = a.outputs;
            out.row_a = out.row_b = output;
        } else {
            output = output < a.outputs ? output : a.outputs - 1; /* beyond the last: anything that is there */
            int s = output < a.end[0] ? 0 : output < a.end[1] ? 1 : 2;
            int begin = s == 0 ? 0 : s == 1 ? a.end[0] : a.end[1];
            int end = s == 0 ? a.end[0] : s == 1 ? a.end[1] : a.end[2];
            out.a.data = s == 0 ? w0 : s == 1 ? w1 : w2;
            out.b.data = out.a.data;
            out.a.rows = out.b.rows = end - begin;
            out.row_a = output - begin;
            out.row_b = out.row_a + (R + 1) / 2;
        }
        out.a.columns = out.b.columns = a.in;
        out.last_a = out.last_b = (int)out.a.rows - 1;
        return out;
    }
};

/* What a lane holds of one step: units of R weight rows. The reader is a parameter because modules may be
 * linked together, and then one name is one thing. */
template <typename READER, int R> struct matvec_units {
    READER w[R];

    inline void load(struct matvec_rows rows, int unit)
    {
        UNROLL for (int r = 0; r < R; r++) {
            bool first = r < (R + 1) / 2;
            int row = first ? rows.row_a + r : rows.row_b + r - (R + 1) / 2;
            int last = first ? rows.last_a : rows.last_b;
            w[r].load(first ? rows.a : rows.b, row < last ? row : last, unit);
        }
    }
};

template <int R, int ROWS> struct matvec_sums {
    float v[R][ROWS];

    inline void clear()
    {
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int m = 0; m < ROWS; m++)
                v[r][m] = 0;
    }

    template <typename READER>
    inline void add_floats(struct matvec_units<READER, R> u, struct matvec_x s, int unit)
    {
        UNROLL for (int h = 0; h < 2; h++) {
            UNROLL for (int m = 0; m < ROWS; m++) {
                struct x_floats x = read_floats(s, m, unit, h);
                UNROLL for (int r = 0; r < R; r++)
                    v[r][m] = weights_dot(u.w[r].expand(h), x, v[r][m]);
            }
        }
    }

    template <typename READER> inline void add_codes(struct matvec_units<READER, R> u, struct matvec_codes c, int m)
    {
        UNROLL for (int h = 0; h < 2; h++) {
            struct x_codes x = half_of_codes(c, h);
            UNROLL for (int r = 0; r < R; r++)
                v[r][m] = weights_dot(u.w[r].expand(h), x, v[r][m]);
        }
    }

    /* Lane r * ROWS + m gets the sum of its value over all lanes: with each exchange a lane gives half of the
     * values away, and then there is one. */
    inline float spread(int lane) const
    {
        const int n = R * ROWS;
        float t[R * ROWS];
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int m = 0; m < ROWS; m++)
                t[r * ROWS + m] = v[r][m];
        UNROLL for (int apart = n / 2; apart > 0; apart /= 2)
            UNROLL for (int i = 0; i < n / 2; i++)
                if (i < apart) {
                    bool upper = (lane & apart) != 0;
                    float kept = upper ? t[i + apart] : t[i], given = upper ? t[i] : t[i + apart];
                    t[i] = kept + simd_xor(given, apart);
                }
        UNROLL for (int mask = n; mask < 32; mask *= 2)
            t[0] += simd_xor(t[0], mask);
        return t[0];
    }
};

/* The lane's unit in a step, or -1. */
static inline int matvec_unit(struct gpu_matvec_args a, int step, int slice, int lane)
{
    int within = slice * a.slice_units + lane, unit = step * a.step_units + within;
    return lane < a.slice_units && within < a.step_units && unit < a.units ? unit : -1;
}

/* Where results go. */
struct matvec_result {
    GLOBAL(const float) bias;
    GLOBAL(const float) add;
    GLOBAL(float) y;
    GLOBAL(unsigned char) codes;

    /* What is added to a result, loaded long before it is there. */
    inline float addend(struct gpu_matvec_args a, int row, int output) const
    {
        float v = 0;
        if (row >= a.rows || output >= a.outputs)
            return v;
        if (a.flags & MATVEC_BIAS)
            v = bias[a.y_first + output];
        if (a.flags & MATVEC_ADD)
            v += load_fresh(add + ((long)row * a.y_stride + a.y_first + output));
        return v;
    }

    inline void write(struct gpu_matvec_args a, int row, int output, float v)
    {
        if (row < a.rows && output < a.outputs)
            y[(long)row * a.y_stride + a.y_first + output] = v;
    }

    /* Lane l has output `first` + l of a row. */
    inline void write_codes(struct gpu_matvec_args a, int row, int first, int lane, float v)
    {
        float peak = simd_max(k_abs(v)), inverse = peak > 0 ? 127 / peak : 0.0f;
        if (row >= a.rows)
            return;
        codes[(long)row * a.outputs + first + lane] = (unsigned char)((int)k_rint(v * inverse) & 255);
        if (lane == 0)
            GLOBAL_CAST(float, codes + (long)a.rows * a.outputs)[(row * a.outputs + first) / 32] = peak / 127;
    }
};

/* 1 / rms of row m from what the simd groups left of its sum of squares. */
template <int ROWS> static inline float matvec_factor(struct gpu_matvec_args a, SHARED_PTR(float) sums, int m)
{
    float total = 0;
    UNROLL for (int i = 0; i < MATVEC_SIMDS; i++)
        total += sums[i * ROWS + m];
    return 1.0f / k_sqrt(total / (float)a.in + a.eps);
}

/* Ends a set: lane r * ROWS + m has its simd group's sum v of weight row r and row m of x. */
template <int ROWS, int R>
static inline void matvec_finish(struct gpu_matvec_args a, THREAD_IDS ids, struct matvec_result result, int set,
                                 float v, float factor, float addend, SHARED_PTR(float) part)
{
    bool swiglu = (a.flags & MATVEC_SWIGLU) != 0;
    int slice = ids.simd & (a.slices - 1), of = ids.simd / a.slices, each = swiglu ? R / 2 : R;
    int first = set * (MATVEC_SIMDS / a.slices) * each, r = ids.lane / ROWS, m = ids.lane % ROWS;
    if (a.slices > 1) {
        if (ids.lane < R * ROWS)
            part[ids.simd * R * ROWS + ids.lane] = v;
        group_barrier();
        v = 0;
        if (slice == 0 && ids.lane < R * ROWS)
            for (int s = 0; s < a.slices; s++)
                v += part[(ids.simd + s) * R * ROWS + ids.lane];
    }
    v *= factor;
    if (swiglu)
        v = silu(v) * simd_xor(v, R / 2 * ROWS);
    bool mine = slice == 0 && r < each;
    if ((a.flags & MATVEC_FLOATS) && mine)
        result.write(a, m, first + of * each + r, v + addend);
    if (a.flags & MATVEC_CODES) {
        if (mine)
            part[m * 32 + of * each + r] = v;
        group_barrier();
        if (ids.simd < ROWS)
            result.write_codes(a, ids.simd, first, ids.lane, part[ids.simd * 32 + ids.lane]);
    }
}

/* One kernel: ROWS rows of x, R weight rows per simd group, x as floats or 8-bit quants. `sums` holds
 * MATVEC_SIMDS * ROWS floats, `parts` 2 * MATVEC_SIMDS * R * ROWS. */
template <bool INT8, int ROWS, int R>
static inline void matvec(struct gpu_matvec_args a, THREAD_IDS ids, int groups, struct matvec_x x,
                          struct matvec_place<R> place, struct matvec_result result, SHARED_PTR(float) sums,
                          SHARED_PTR(float) parts)
{
    const bool ahead = R * sizeof(weight_reader) <= MATVEC_AHEAD; /* registers for the units of the step after, too */
    struct matvec_units<weight_reader, R> now, next;
    struct matvec_sums<R, ROWS> sum;
    const bool x_ahead = INT8 && ROWS == 1 && R <= 4; /* and for those of x */
    const int staged = ROWS == 1 && !INT8 && R == 4 ? 5 : 2; /* quads of x of a thread, on their way together */
    struct matvec_codes x_now, x_next;
    bool swiglu = (a.flags & MATVEC_SWIGLU) != 0, norm = (a.flags & MATVEC_NORM) != 0;
    bool ready = INT8 && (a.flags & MATVEC_READY) != 0;
    int slice = ids.simd & (a.slices - 1), of = ids.simd / a.slices, each = swiglu ? R / 2 : R;
    int per_set = MATVEC_SIMDS / a.slices * each;
    x.units = INT8 ? MATVEC_CODE_STAGE / (9 * ROWS) : MATVEC_FLOAT_STAGE / (32 * ROWS);
    x.first = 0;
    struct matvec_rows rows = place.rows(a, ids.group.x * per_set + of * each);
    int unit = matvec_unit(a, 0, slice, ids.lane);
    if (unit >= 0)
        now.load(rows, unit);
    DEPENDENCY_LAUNCH_EARLY();
    DEPENDENCY_WAIT();
    if (x_ahead && ready && unit >= 0)
        x_now.load(x.ready, a.rows, a.units, 0, unit);
    float squares[ROWS], factor = 1;
    UNROLL for (int m = 0; m < ROWS; m++)
        squares[m] = 0;
    int parity = 0;
    for (int set = ids.group.x; set < a.sets; set += groups, parity ^= 1) {
        sum.clear();
        float addend = 0;
        if (!swiglu && slice == 0 && ids.lane < R * ROWS)
            addend = result.addend(a, ids.lane % ROWS, set * per_set + of * each + ids.lane / ROWS);
        for (int step = 0; step < a.steps; step++) {
            bool first = set == ids.group.x;
            if (!ready && step % a.stage_steps == 0 && (first || a.stage_steps < a.steps)) {
                x.first = step * a.step_units;
                int n = a.stage_steps * a.step_units;
                n = n < a.units - x.first ? n : a.units - x.first;
                if (step > 0 || !first)
                    group_barrier();
                UNROLL for (int m = 0; m < ROWS; m++) {
                    float part = stage_row<INT8, staged>(x, ids, a.in, m < a.rows ? m : a.rows - 1, ROWS, n, norm);
                    if (first)
                        squares[m] += part;
                }
                if (first && norm) {
                    UNROLL for (int m = 0; m < ROWS; m++) {
                        float part = simd_sum(squares[m]);
                        if (ids.lane == 0)
                            sums[ids.simd * ROWS + m] = part;
                    }
                }
                group_barrier();
            }
            int later = step + 1 < a.steps ? step + 1 : 0, later_set = later ? set : set + groups, later_unit = -1;
            if (later_set < a.sets) {
                if (!later)
                    rows = place.rows(a, later_set * per_set + of * each);
                later_unit = matvec_unit(a, later, slice, ids.lane);
            }
            if (ahead && later_unit >= 0)
                next.load(rows, later_unit);
            if (x_ahead && ready && later_unit >= 0)
                x_next.load(x.ready, a.rows, a.units, 0, later_unit);
            if (unit >= 0 && !INT8)
                sum.add_floats(now, x, unit);
            if (unit >= 0 && INT8) {
                UNROLL for (int m = 0; m < ROWS; m++) {
                    struct matvec_codes c;
                    if (!ready)
                        c = read_codes(x, ROWS, m, unit);
                    else if (x_ahead)
                        c = x_now;
                    else
                        c.load(x.ready, a.rows, a.units, m < a.rows ? m : a.rows - 1, unit);
                    sum.add_codes(now, c, m);
                }
            }
            x_now = x_next;
            if (!ahead && later_unit >= 0)
                now.load(rows, later_unit);
            if (ahead)
                now = next;
            unit = later_unit;
        }
        if (set == ids.group.x && norm)
            factor = matvec_factor<ROWS>(a, sums, ids.lane % ROWS);
        matvec_finish<ROWS, R>(a, ids, result, set, sum.spread(ids.lane), factor, addend,
                               parts + parity * MATVEC_SIMDS * R * ROWS);
    }
}

#define MATVEC(name, int8, n_rows, n_weights) MATVEC_KERNEL(TYPED_KERNEL, name, int8, n_rows, n_weights)
#define MATVEC_KERNEL(kernel, name, int8, n_rows, n_weights)                                                  \
    kernel(name, MATVEC_THREADS, gpu_matvec_args, BUF(0, const float, x),                               \
                 BUF(1, const unsigned char, codes), BUF(2, const float, norm), BUF(3, const unsigned char, w0), \
                 BUF(4, const unsigned char, w1), BUF(5, const unsigned char, w2), BUF(6, const float, bias), \
                 BUF(7, const float, add), BUF(8, float, y), BUF(9, unsigned char, y_codes))                  \
    {                                                                                                         \
        KERNEL_IDS;                                                                                           \
        SHARED(float, stage, int8 ? MATVEC_CODE_STAGE : MATVEC_FLOAT_STAGE);                                  \
        SHARED(float, sums, MATVEC_SIMDS * n_rows);                                                           \
        SHARED(float, parts, 2 * MATVEC_SIMDS * n_weights * n_rows);                                          \
        struct matvec_x from = {x, codes, norm, stage, 0, 0};                                                 \
        struct matvec_place<n_weights> place = {w0, w1, w2};                                                  \
        struct matvec_result to = {bias, add, y, y_codes};                                                    \
        matvec<int8, n_rows, n_weights>(args, ids, args.groups, from, place, to, sums, parts);                \
    }

MATVEC_KERNEL(TYPED_KERNEL_PAIRED, matvec_f32_1_2, false, 1, 2)
MATVEC_KERNEL(TYPED_KERNEL_PAIRED, matvec_f32_1_4, false, 1, 4)
MATVEC_KERNEL(TYPED_KERNEL_PAIRED, matvec_f32_1_8, false, 1, 8)
MATVEC(matvec_f32_2_4, false, 2, 4)
MATVEC(matvec_f32_4_4, false, 4, 4)
MATVEC_KERNEL(TYPED_KERNEL_PAIRED, matvec_int8_1_2, true, 1, 2)
MATVEC_KERNEL(TYPED_KERNEL_PAIRED, matvec_int8_1_4, true, 1, 4)
MATVEC_KERNEL(TYPED_KERNEL_PAIRED, matvec_int8_1_8, true, 1, 8)
MATVEC(matvec_int8_2_4, true, 2, 4)
MATVEC(matvec_int8_2_8, true, 2, 8)
MATVEC(matvec_int8_4_4, true, 4, 4)
MATVEC(matvec_int8_4_8, true, 4, 8)

#endif
