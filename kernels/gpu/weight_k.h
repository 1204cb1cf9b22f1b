/* Readers of the layouts with blocks of 256 weights, of codebooks and of floats; see weight.h. */
#ifndef HEARTH_GPU_WEIGHT_K_H
#define HEARTH_GPU_WEIGHT_K_H

#include "weight.h"

/* Where the block of a unit begins, for blocks of 256. */
static inline long block_at(struct weight_matrix m, int row, int unit, int bytes)
{
    return ((long)row * (m.columns / 256) + unit / 8) * bytes;
}

struct reader_Q2_K {
    struct words<8> q;  /* shifted so that the unit's bits are the lowest two */
    unsigned scales, d; /* two scales; d and dmin */

    inline void load(struct weight_matrix m, int row, int unit)
    {
        long at = block_at(m, row, unit, 84);
        int j = unit % 8;
        q = load_words<8>(m.data + (at + 16 + j / 4 * 32));
        scales = load_short(m.data + (at + 2 * j));
        d = load_word(m.data + (at + 80));
        UNROLL for (int i = 0; i < 8; i++)
            q.w[i] >>= 2 * (j % 4);
    }
    inline struct codes_min expand(int h) const
    {
        unsigned scale = scales >> 8 * h;
        struct codes_min c;
        UNROLL for (int i = 0; i < 4; i++)
            c.q[i] = (int)(q.w[4 * h + i] & 0x03030303u);
        c.d = half_bits(d) * (float)(scale & 15);
        c.m = -half_bits(d >> 16) * (float)(scale >> 4 & 15);
        return c;
    }
};

struct reader_Q3_K {
    struct words<8> low, high;
    unsigned scales; /* two of 6 bits */
    float d;
    int j;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        long at = block_at(m, row, unit, 110);
        j = unit % 8;
        high = load_words_even<8>(m.data, at);
        low = load_words_even<8>(m.data, at + 32 + j / 4 * 32);
        unsigned nibble = load_short(m.data + (at + 96 + 2 * (j % 4))) >> (j < 4 ? 0 : 4);
        unsigned top = load_short(m.data + (at + 104 + 2 * (j % 2))) >> 2 * (j / 2);
        scales = (nibble & 0x0f0f) | (top & 0x0303) << 4;
        d = load_scale(m.data + (at + 108));
    }
    inline struct codes_min expand(int h) const
    {
        struct codes_min c;
        UNROLL for (int i = 0; i < 4; i++)
            c.q[i] = (int)((low.w[4 * h + i] >> 2 * (j % 4) & 0x03030303u) |
                           (high.w[4 * h + i] >> j & 0x01010101u) << 2);
        c.d = d * (float)((int)(scales >> 8 * h & 63) - 32);
        c.m = -4 * c.d;
        return c;
    }
};

/* The 6-bit scale (low byte) and minimum (next byte) of unit j of Q4_K and Q5_K. */
static inline unsigned k4_scale(struct words<3> s, int j)
{
    int shift = 8 * (j % 4);
    if (j < 4)
        return (s.w[0] >> shift & 63) | (s.w[1] >> shift & 63) << 8;
    unsigned low = s.w[2] >> shift;
    return (low & 15) | (s.w[0] >> shift >> 6 & 3) << 4 | ((low >> 4 & 15) | (s.w[1] >> shift >> 6 & 3) << 4) << 8;
}

struct reader_Q4_K {
    struct words<8> q;
    unsigned scale, d;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        GLOBAL(const unsigned char) p = m.data + block_at(m, row, unit, 144);
        int j = unit % 8;
        d = load_word(p);
        scale = k4_scale(load_words<3>(p + 4), j);
        q = load_words<8>(p + (16 + j / 2 * 32));
        UNROLL for (int i = 0; i < 8; i++)
            q.w[i] >>= 4 * (j & 1);
    }
    inline struct codes_min expand(int h) const
    {
        struct codes_min c;
        UNROLL for (int i = 0; i < 4; i++)
            c.q[i] = (int)(q.w[4 * h + i] & 0x0f0f0f0fu);
        c.d = half_bits(d) * (float)(scale & 255);
        c.m = -half_bits(d >> 16) * (float)(scale >> 8);
        return c;
    }
};

struct reader_Q5_K {
    struct words<8> q, high;
    unsigned scale, d;
    int j;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        GLOBAL(const unsigned char) p = m.data + block_at(m, row, unit, 176);
        j = unit % 8;
        d = load_word(p);
        scale = k4_scale(load_words<3>(p + 4), j);
        high = load_words<8>(p + 16);
        q = load_words<8>(p + (48 + j / 2 * 32));
    }
    inline struct codes_min expand(int h) const
    {
        struct codes_min c;
        UNROLL for (int i = 0; i < 4; i++)
            c.q[i] = (int)((q.w[4 * h + i] >> 4 * (j & 1) & 0x0f0f0f0fu) |
                           (high.w[4 * h + i] >> j & 0x01010101u) << 4);
        c.d = half_bits(d) * (float)(scale & 255);
        c.m = -half_bits(d >> 16) * (float)(scale >> 8);
        return c;
    }
};

struct reader_Q6_K {
    struct words<8> low, high;
    unsigned scales; /* two signed bytes */
    float d;
    int j;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        long at = block_at(m, row, unit, 210);
        j = unit % 8;
        low = load_words_even<8>(m.data, at + 64 * (j / 4) + 32 * (j & 1));
        high = load_words_even<8>(m.data, at + 128 + 32 * (j / 4));
        scales = load_short(m.data + (at + 192 + 2 * j));
        d = load_scale(m.data + (at + 208));
    }
    inline struct codes_min expand(int h) const
    {
        struct codes_min c;
        UNROLL for (int i = 0; i < 4; i++)
            c.q[i] = (int)((low.w[4 * h + i] >> (j & 2 ? 4 : 0) & 0x0f0f0f0fu) |
                           (high.w[4 * h + i] >> 2 * (j % 4) & 0x03030303u) << 4);
        int scale = (int)(scales >> 8 * h & 255);
        c.d = d * (float)(scale < 128 ? scale : scale - 256);
        c.m = -32 * c.d;
        return c;
    }
};

/* ---- codebooks ---- */

TABLE(signed char, iq4_values, 16) = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static inline struct codes iq4_codes(struct words<4> w, int h, float d)
{
    struct codes c;
    UNROLL for (int i = 0; i < 4; i++) {
        unsigned q = w.w[i] >> 4 * h, out = 0;
        UNROLL for (int b = 0; b < 4; b++)
            out |= ((unsigned)iq4_values[q >> 8 * b & 15] & 255u) << 8 * b;
        c.q[i] = (int)out;
    }
    c.d = d;
    return c;
}

struct reader_IQ4_NL {
    struct words<4> q;
    float d;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        long at = ((long)row * (m.columns / 32) + unit) * 18;
        d = load_scale(m.data + at);
        q = load_words_even<4>(m.data, at + 2);
    }
    inline struct codes expand(int h) const
    {
        return iq4_codes(q, h, d);
    }
};

struct reader_IQ4_XS {
    struct words<4> q;
    float d;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        GLOBAL(const unsigned char) p = m.data + block_at(m, row, unit, 136);
        int j = unit % 8;
        unsigned head = load_word(p), low = load_word(p + 4);
        int scale = (int)((low >> 4 * j & 15) | (head >> 16 >> 2 * j & 3) << 4);
        d = half_bits(head & 0xffff) * (float)(scale - 32);
        q = load_words<4>(p + (8 + 16 * j));
    }
    inline struct codes expand(int h) const
    {
        return iq4_codes(q, h, d);
    }
};

/* ---- floats; any number of columns: beyond the last they are zero ---- */

struct reader_F32 {
    float v[32];

    inline void load(struct weight_matrix m, int row, int unit)
    {
        GLOBAL(const float) p = GLOBAL_CAST(const float, m.data) + ((long)row * m.columns + 32 * unit);
        int n = m.columns - 32 * unit;
        UNROLL for (int i = 0; i < 32; i++)
            v[i] = i < n ? load_once(p + i) : 0.0f;
    }
    inline struct values expand(int h) const
    {
        struct values out;
        UNROLL for (int i = 0; i < 16; i++)
            out.v[i] = v[16 * h + i];
        return out;
    }
};

/* 32 values of 16 bits, two to a word. */
static inline struct words<16> load_shorts(struct weight_matrix m, int row, int unit)
{
    struct words<16> out;
    long at = ((long)row * m.columns + 32 * unit) * 2;
    int n = m.columns - 32 * unit;
    if (n >= 32 && (at & 2) == 0)
        return load_words<16>(m.data + at);
    UNROLL for (int i = 0; i < 16; i++) {
        out.w[i] = 2 * i < n ? load_short(m.data + (at + 4 * i)) : 0;
        out.w[i] |= 2 * i + 1 < n ? load_short(m.data + (at + 4 * i + 2)) << 16 : 0;
    }
    return out;
}

struct reader_F16 {
    struct words<16> b;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        b = load_shorts(m, row, unit);
    }
    inline struct values expand(int h) const
    {
        struct values out;
        UNROLL for (int i = 0; i < 16; i++)
            out.v[i] = half_bits(b.w[8 * h + i / 2] >> 16 * (i & 1));
        return out;
    }
};

struct reader_BF16 {
    struct words<16> b;

    inline void load(struct weight_matrix m, int row, int unit)
    {
        b = load_shorts(m, row, unit);
    }
    inline struct values expand(int h) const
    {
        struct values out;
        UNROLL for (int i = 0; i < 16; i++)
            out.v[i] = bits_float(i & 1 ? b.w[8 * h + i / 2] & 0xffff0000u : b.w[8 * h + i / 2] << 16);
        return out;
    }
};

/* ---- the reader of this module ---- */

#ifdef GPU_TYPED
#define READER_OF_(name) reader_##name
#define READER_OF(name) READER_OF_(name)
typedef struct READER_OF(GPU_WEIGHT_NAME) weight_reader;
#endif

#endif
