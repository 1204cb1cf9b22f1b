/* One reader per weight layout; nothing else depends on the type of a weight.
 *
 * A unit is 32 consecutive weights of a row. load() brings it to registers as it lies in memory and does
 * nothing more, so that it may stand long before its use; expand(h) gives its first or second 16 weights
 * as d * q (+ m) with q as packed signed bytes, or as floats. The layouts in memory are those of
 * dtype.c and layout.h. */
#ifndef HEARTH_GPU_WEIGHT_H
#define HEARTH_GPU_WEIGHT_H

#include "compat.h"

struct weight_matrix {
    GLOBAL(const unsigned char) data;
    long rows;
    int columns;
};

/* ---- sixteen weights, sixteen activations, and their products ---- */

struct codes { /* w = d * q */
    int q[4];
    float d;
};

struct codes_min { /* w = d * q + m */
    int q[4];
    float d, m;
};

struct values {
    float v[16];
};

struct x_floats {
    float v[16];
    float sum;
};

struct x_codes { /* x = d * q */
    int q[4];
    int sum; /* of q */
    float d;
};

static inline float quad_dot(int q, float a, float b, float c, float d, float sum)
{
    float4 w = unpack4(q);
    return k_fma(w.x, a, k_fma(w.y, b, k_fma(w.z, c, k_fma(w.w, d, sum))));
}

template <typename C> static inline float codes_dot(C w, struct x_floats x)
{
    float sum = 0;
    UNROLL for (int i = 0; i < 4; i++)
        sum = quad_dot(w.q[i], x.v[4 * i], x.v[4 * i + 1], x.v[4 * i + 2], x.v[4 * i + 3], sum);
    return sum;
}

template <typename C> static inline float codes_dot(C w, struct x_codes x)
{
    int sum = 0;
    UNROLL for (int i = 0; i < 4; i++)
        sum = dot4(w.q[i], x.q[i], sum);
    return (float)sum;
}

static inline float weights_dot(struct codes w, struct x_floats x, float sum)
{
    return k_fma(w.d, codes_dot(w, x), sum);
}

static inline float weights_dot(struct codes_min w, struct x_floats x, float sum)
{
    return k_fma(w.d, codes_dot(w, x), k_fma(w.m, x.sum, sum));
}

static inline float weights_dot(struct values w, struct x_floats x, float sum)
{
    UNROLL for (int i = 0; i < 16; i++)
        sum = k_fma(w.v[i], x.v[i], sum);
    return sum;
}

static inline float weights_dot(struct codes w, struct x_codes x, float sum)
{
    return k_fma(w.d * x.d, codes_dot(w, x), sum);
}

static inline float weights_dot(struct codes_min w, struct x_codes x, float sum)
{
    return k_fma(x.d, k_fma(w.d, codes_dot(w, x), w.m * (float)x.sum), sum);
}

static inline float weights_dot(struct values w, struct x_codes x, float sum)
{
    float part = 0;
    UNROLL for (int i = 0; i < 4; i++)
        part = quad_dot(x.q[i], w.v[4 * i], w.v[4 * i + 1], w.v[4 * i + 2], w.v[4 * i + 3], part);
    return k_fma(x.d, part, sum);
}

template <typename C> static inline struct values scaled_values(C w, float m)
{
    struct values out;
    UNROLL for (int i = 0; i < 4; i++) {
        float4 q = unpack4(w.q[i]);
        out.v[4 * i] = k_fma(w.d, q.x, m);
        out.v[4 * i + 1] = k_fma(w.d, q.y, m);
        out.v[4 * i + 2] = k_fma(w.d, q.z, m);
        out.v[4 * i + 3] = k_fma(w.d, q.w, m);
    }
    return out;
}

static inline struct values weight_values(struct codes w)
{
    return scaled_values(w, 0);
}

static inline struct values weight_values(struct codes_min w)
{
    return scaled_values(w, w.m);
}

static inline struct values weight_values(struct values w)
{
    return w;
}

/* ---- loads of what is aligned to 2 or 4 bytes only ---- */

template <int N> struct words {
    unsigned w[N];
};

static inline unsigned load_word(GLOBAL(const unsigned char) p)
{
    return load_once(GLOBAL_CAST(const unsigned, p));
}

static inline unsigned load_short(GLOBAL(const unsigned char) p)
{
    return load_once(GLOBAL_CAST(const unsigned short, p));
}

static inline float load_scale(GLOBAL(const unsigned char) p)
{
    return half_to_float(load_once(GLOBAL_CAST(const half_t, p)));
}

template <int N> static inline struct words<N> load_words(GLOBAL(const unsigned char) p)
{
    struct words<N> out;
    UNROLL for (int i = 0; i < N; i++)
        out.w[i] = load_word(p + 4 * i);
    return out;
}

/* N words at an even offset: aligned words around them and the last half word, shifted together. The data
 * begins at a multiple of 4. */
template <int N> static inline struct words<N> load_words_even(GLOBAL(const unsigned char) data, long at)
{
    bool odd = (at & 2) != 0;
    GLOBAL(const unsigned char) p = data + (at & ~3L);
    struct words<N> in = load_words<N>(p), out;
    unsigned last = load_short(data + (at + 4 * N - 2));
    UNROLL for (int i = 0; i < N; i++)
        out.w[i] = odd ? in.w[i] >> 16 | (i + 1 < N ? in.w[i + 1 < N ? i + 1 : i] : last) << 16 : in.w[i];
    return out;
}

/* The float of a half's bits. */
static inline float half_bits(unsigned h)
{
    unsigned magnitude = h & 0x7fff;
    float f = bits_float((magnitude << 13) + (magnitude >= 0x7c00 ? 0x70000000u : 0x38000000u));
    if (magnitude < 0x400)
        f = (float)magnitude * bits_float(0x33800000u); /* subnormal: units of 2^-24 */
    return h & 0x8000 ? -f : f;
}

/* ---- split layouts ---- */

struct reader_Q8_0_split {
    uint4 low, high;
    half_t d;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        int units = m.columns / 32;
        GLOBAL(const unsigned char) p = m.data + ((long)row * m.columns + unit * 16);
        low = load_once(GLOBAL_CAST(const uint4, p));
        high = load_once(GLOBAL_CAST(const uint4, p + units * 16));
        d = load_once(GLOBAL_CAST(const half_t, m.data + m.rows * m.columns + ((long)row * units + unit) * 2));
    }
    inline struct codes expand(int h) const
    {
        uint4 w = h ? high : low;
        struct codes c = {{(int)w.x, (int)w.y, (int)w.z, (int)w.w}, half_to_float(d)};
        return c;
    }
};

struct reader_Q4_0_split {
    uint4 w;
    half_t d;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        long at = (long)row * (m.columns / 32) + unit;
        w = load_once(GLOBAL_CAST(const uint4, m.data + at * 16));
        d = load_once(GLOBAL_CAST(const half_t, m.data + m.rows * (m.columns / 2) + at * 2));
    }
    inline struct codes_min expand(int h) const
    {
        float scale = half_to_float(d);
        int shift = 4 * h, mask = 0x0f0f0f0f;
        struct codes_min c = {{(int)(w.x >> shift) & mask, (int)(w.y >> shift) & mask, (int)(w.z >> shift) & mask,
                               (int)(w.w >> shift) & mask}, scale, -8 * scale};
        return c;
    }
};

/* ---- blocks of 32 as in the file ---- */

struct reader_Q8_0 {
    struct words<8> q;
    float d;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        long at = ((long)row * (m.columns / 32) + unit) * 34;
        d = load_scale(m.data + at);
        q = load_words_even<8>(m.data, at + 2);
    }
    inline struct codes expand(int h) const
    {
        struct codes c = {{(int)q.w[4 * h], (int)q.w[4 * h + 1], (int)q.w[4 * h + 2], (int)q.w[4 * h + 3]}, d};
        return c;
    }
};

/* Sixteen nibbles of four words, and from `high` their fifth bits. */
static inline struct codes_min nibbles(struct words<4> w, int h, unsigned high, float d, float m)
{
    struct codes_min c;
    UNROLL for (int i = 0; i < 4; i++) {
        unsigned bits = high >> (16 * h + 4 * i);
        unsigned fifth = (bits & 1) << 4 | (bits & 2) << 11 | (bits & 4) << 18 | (bits & 8) << 25;
        c.q[i] = (int)((w.w[i] >> 4 * h & 0x0f0f0f0fu) | fifth);
    }
    c.d = d;
    c.m = m;
    return c;
}

struct reader_Q4_0 {
    struct words<4> q;
    float d;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        long at = ((long)row * (m.columns / 32) + unit) * 18;
        d = load_scale(m.data + at);
        q = load_words_even<4>(m.data, at + 2);
    }
    inline struct codes_min expand(int h) const
    {
        return nibbles(q, h, 0, d, -8 * d);
    }
};

struct reader_Q4_1 {
    struct words<5> b;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        b = load_words<5>(m.data + ((long)row * (m.columns / 32) + unit) * 20);
    }
    inline struct codes_min expand(int h) const
    {
        struct words<4> q = {{b.w[1], b.w[2], b.w[3], b.w[4]}};
        return nibbles(q, h, 0, half_bits(b.w[0]), half_bits(b.w[0] >> 16));
    }
};

struct reader_Q5_0 {
    struct words<5> b; /* fifth bits, nibbles */
    float d;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        long at = ((long)row * (m.columns / 32) + unit) * 22;
        d = load_scale(m.data + at);
        b = load_words_even<5>(m.data, at + 2);
    }
    inline struct codes_min expand(int h) const
    {
        struct words<4> q = {{b.w[1], b.w[2], b.w[3], b.w[4]}};
        return nibbles(q, h, b.w[0], d, -16 * d);
    }
};

struct reader_Q5_1 {
    struct words<6> b;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        b = load_words<6>(m.data + ((long)row * (m.columns / 32) + unit) * 24);
    }
    inline struct codes_min expand(int h) const
    {
        struct words<4> q = {{b.w[2], b.w[3], b.w[4], b.w[5]}};
        return nibbles(q, h, b.w[1], half_bits(b.w[0]), half_bits(b.w[0] >> 16));
    }
};

#endif
