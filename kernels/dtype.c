/* Element types: GGUF's block layouts decoded and, for the simple ones, encoded in plain C. */
#include <math.h>
#include <string.h>

#include "backend.h"

static const struct {
    const char *name;
    int gguf;
    size_t block, bytes;
} types[DTYPE_COUNT] = {
#define X(name, gguf, block, bytes) [DTYPE_##name] = {#name, gguf, block, bytes},
#include "dtype.def"
#undef X
};

const char *dtype_name(enum dtype t)
{
    return types[t].name;
}

int dtype_from_gguf(uint32_t gguf)
{
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (types[t].gguf >= 0 && (uint32_t)types[t].gguf == gguf)
            return t;
    return -1;
}

size_t dtype_block(enum dtype t)
{
    return types[t].block;
}

size_t dtype_block_bytes(enum dtype t)
{
    return types[t].bytes;
}

size_t dtype_bytes(enum dtype t, size_t count)
{
    REQUIRE(count % types[t].block == 0);
    return count / types[t].block * types[t].bytes;
}

bool dtype_is_weight(enum dtype t)
{
    return t != DTYPE_I32;
}

/* Without branches: exponent and mantissa read as a float are 2^112 too small, also where subnormal. */
static inline float half_value(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, bits = (uint32_t)(h & 0x7fff) << 13;
    uint32_t infinite = (h & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
    float f;
    memcpy(&f, &bits, 4);
    f *= 0x1p112f;
    memcpy(&bits, &f, 4);
    bits |= sign | infinite;
    memcpy(&f, &bits, 4);
    return f;
}

float f16_to_f32(uint16_t h)
{
    return half_value(h);
}

uint16_t f32_to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (bits >= 0x477ff000) /* rounds beyond the largest f16 */
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) { /* subnormal: adding 0.5 rounds to a multiple of 2^-24 */
        float magnitude;
        memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | ((bits - 0x38000000) >> 13));
}

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return half_value(h);
}

static float bf16_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* Q4_0, Q4_1, Q5_0, Q5_1: d (and m), for 5 bits a mask of fifth bits, nibbles: the low ones are
 * elements 0-15, the high ones 16-31. */
static void decode_nibbles(const uint8_t *p, bool has_min, bool five, float *restrict y)
{
    float d = half_at(p), m = has_min ? half_at(p + 2) : (five ? -16 : -8) * d;
    p += has_min ? 4 : 2;
    uint32_t high = 0;
    if (five) {
        memcpy(&high, p, 4);
        p += 4;
    }
    for (int i = 0; i < 16; i++) {
        int low = p[i] & 15, top = p[i] >> 4;
        y[i] = d * (float)(low | (int)(high >> i & 1) << 4) + m;
        y[i + 16] = d * (float)(top | (int)(high >> (i + 16) & 1) << 4) + m;
    }
}

static void decode_q2_k(const uint8_t *scales, float *restrict y)
{
    const uint8_t *q = scales + 16;
    float d = half_at(q + 64), dmin = half_at(q + 66);
    for (int half = 0; half < 2; half++, q += 32)
        for (int shift = 0; shift < 8; shift += 2)
            for (int l = 0; l < 32; l++) {
                uint8_t scale = scales[half * 8 + shift + l / 16];
                *y++ = d * (float)(scale & 15) * (float)(q[l] >> shift & 3) - dmin * (float)(scale >> 4);
            }
}

static void decode_q3_k(const uint8_t *high, float *restrict y)
{
    const uint8_t *q = high + 32, *packed = q + 64;
    float d = half_at(packed + 12);
    for (int half = 0; half < 2; half++, q += 32)
        for (int j = 0; j < 4; j++)
            for (int l = 0; l < 32; l++) {
                int s = half * 8 + 2 * j + l / 16;
                int scale = (s < 8 ? packed[s] & 15 : packed[s - 8] >> 4) | (packed[8 + s % 4] >> 2 * (s / 4) & 3) << 4;
                int value = (q[l] >> 2 * j & 3) - (high[l] >> (half * 4 + j) & 1 ? 0 : 4);
                *y++ = d * (float)(scale - 32) * (float)value;
            }
}

/* The 6-bit scale and minimum of sub-block j of Q4_K and Q5_K. */
static void k4_scale(const uint8_t *p, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = p[j] & 63;
        *min = p[j + 4] & 63;
    } else {
        *scale = (p[j + 4] & 15) | p[j - 4] >> 6 << 4;
        *min = p[j + 4] >> 4 | p[j] >> 6 << 4;
    }
}

static void decode_q45_k(const uint8_t *p, bool five, float *restrict y)
{
    float d = half_at(p), dmin = half_at(p + 2);
    const uint8_t *scales = p + 4, *high = p + 16, *q = five ? p + 48 : p + 16;
    for (int j = 0; j < 8; j++) {
        int scale, min;
        k4_scale(scales, j, &scale, &min);
        for (int l = 0; l < 32; l++) {
            int value = j & 1 ? q[j / 2 * 32 + l] >> 4 : q[j / 2 * 32 + l] & 15;
            if (five)
                value |= (high[l] >> j & 1) << 4;
            *y++ = d * (float)scale * (float)value - dmin * (float)min;
        }
    }
}

static void decode_q6_k(const uint8_t *low, float *restrict y)
{
    const uint8_t *high = low + 128;
    const int8_t *scales = (const int8_t *)high + 64;
    float d = half_at(high + 80);
    for (int half = 0; half < 2; half++, low += 64, high += 32)
        for (int j = 0; j < 4; j++)
            for (int l = 0; l < 32; l++) {
                int nibble = j < 2 ? low[32 * (j & 1) + l] & 15 : low[32 * (j & 1) + l] >> 4;
                int value = (nibble | (high[l] >> 2 * j & 3) << 4) - 32;
                *y++ = d * (float)scales[half * 8 + 2 * j + l / 16] * (float)value;
            }
}

static void decode_iq4_xs(const uint8_t *p, float *restrict y)
{
    uint16_t high;
    memcpy(&high, p + 2, 2);
    float d = half_at(p);
    for (int j = 0; j < 8; j++, y += 32) {
        int scale = (p[4 + j / 2] >> 4 * (j & 1) & 15) | (high >> 2 * j & 3) << 4;
        const uint8_t *q = p + 8 + 16 * j;
        for (int l = 0; l < 16; l++) {
            y[l] = d * (float)(scale - 32) * (float)iq4_values[q[l] & 15];
            y[l + 16] = d * (float)(scale - 32) * (float)iq4_values[q[l] >> 4];
        }
    }
}

static void decode_q8_0(const uint8_t *p, float *restrict y)
{
    float d = half_at(p);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)(int8_t)p[2 + i];
}

static void decode_iq4_nl(const uint8_t *p, float *restrict y)
{
    float d = half_at(p);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)iq4_values[p[2 + i] & 15];
        y[i + 16] = d * (float)iq4_values[p[2 + i] >> 4];
    }
}

static void decode_block(enum dtype t, const uint8_t *p, float *y)
{
    switch (t) {
    case DTYPE_Q4_0: decode_nibbles(p, false, false, y); break;
    case DTYPE_Q4_1: decode_nibbles(p, true, false, y); break;
    case DTYPE_Q5_0: decode_nibbles(p, false, true, y); break;
    case DTYPE_Q5_1: decode_nibbles(p, true, true, y); break;
    case DTYPE_Q8_0: decode_q8_0(p, y); break;
    case DTYPE_Q2_K: decode_q2_k(p, y); break;
    case DTYPE_Q3_K: decode_q3_k(p, y); break;
    case DTYPE_Q4_K: decode_q45_k(p, false, y); break;
    case DTYPE_Q5_K: decode_q45_k(p, true, y); break;
    case DTYPE_Q6_K: decode_q6_k(p, y); break;
    case DTYPE_IQ4_NL: decode_iq4_nl(p, y); break;
    case DTYPE_IQ4_XS: decode_iq4_xs(p, y); break;
    default: REQUIRE(!"a quantised type");
    }
}

void dtype_to_f32(enum dtype t, const void *src, size_t count, float *restrict dst)
{
    const uint8_t *p = src;
    REQUIRE(count % types[t].block == 0);
    switch (t) {
    case DTYPE_F32: memcpy(dst, src, 4 * count); break;
    case DTYPE_F16:
        for (size_t i = 0; i < count; i++)
            dst[i] = half_at(p + 2 * i);
        break;
    case DTYPE_BF16:
        for (size_t i = 0; i < count; i++)
            dst[i] = bf16_at(p + 2 * i);
        break;
    default:
        for (size_t i = 0; i < count; i += types[t].block, p += types[t].bytes)
            decode_block(t, p, dst + i);
    }
}

static uint8_t *put_half(uint8_t *p, float f)
{
    uint16_t h = f32_to_f16(f);
    memcpy(p, &h, 2);
    return p + 2;
}

static int clamp(float f, int low, int high)
{
    return f < (float)low ? low : f > (float)high ? high : (int)f;
}

/* The inverse of decode_nibbles. Without a minimum the element of largest magnitude maps to the
 * lowest code, as in the format's reference. */
static void encode_nibbles(const float *x, bool has_min, bool five, uint8_t *p)
{
    int levels = five ? 32 : 16;
    float low = x[0], high = x[0], peak = x[0];
    for (int i = 1; i < 32; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        if (fabsf(x[i]) > fabsf(peak))
            peak = x[i];
    }
    float d = has_min ? (high - low) / (float)(levels - 1) : peak / -(float)(levels / 2);
    float base = has_min ? low : 0, inverse = d != 0 ? 1 / d : 0, offset = has_min ? 0.5f : (float)(levels / 2) + 0.5f;
    p = put_half(p, d);
    if (has_min)
        p = put_half(p, low);
    uint8_t *fifth = p, *nibbles = five ? p + 4 : p;
    uint32_t bits = 0;
    for (int i = 0; i < 16; i++) {
        int a = clamp((x[i] - base) * inverse + offset, 0, levels - 1);
        int b = clamp((x[i + 16] - base) * inverse + offset, 0, levels - 1);
        nibbles[i] = (uint8_t)((a & 15) | (b & 15) << 4);
        bits |= (uint32_t)(a >> 4) << i | (uint32_t)(b >> 4) << (i + 16);
    }
    if (five)
        memcpy(fifth, &bits, 4);
}

static void encode_q8_0(const float *x, uint8_t *p)
{
    float peak = 0;
    for (int i = 0; i < 32; i++)
        peak = fmaxf(peak, fabsf(x[i]));
    float d = peak / 127, inverse = d > 0 ? 1 / d : 0;
    p = put_half(p, d);
    for (int i = 0; i < 32; i++)
        p[i] = (uint8_t)(int8_t)clamp(roundf(x[i] * inverse), -127, 127);
}

static void encode_bf16(float f, uint8_t *p)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (f == f)
        bits += 0x7fff + (bits >> 16 & 1);
    uint16_t h = (uint16_t)(bits >> 16);
    memcpy(p, &h, 2);
}

int dtype_from_f32(enum dtype t, const float *src, size_t count, void *dst)
{
    REQUIRE(count % types[t].block == 0);
    uint8_t *p = dst;
    for (size_t i = 0; i < count; i += types[t].block, p += types[t].bytes) {
        switch (t) {
        case DTYPE_F32: memcpy(p, src + i, 4); break;
        case DTYPE_F16: put_half(p, src[i]); break;
        case DTYPE_BF16: encode_bf16(src[i], p); break;
        case DTYPE_Q8_0: encode_q8_0(src + i, p); break;
        case DTYPE_Q4_0: encode_nibbles(src + i, false, false, p); break;
        case DTYPE_Q4_1: encode_nibbles(src + i, true, false, p); break;
        case DTYPE_Q5_0: encode_nibbles(src + i, false, true, p); break;
        case DTYPE_Q5_1: encode_nibbles(src + i, true, true, p); break;
        default: return ERR_UNSUPPORTED;
        }
    }
    return 0;
}
