/* Activations to int8, compiled once per instruction set. */
#include "vector.h"

/* 32 floats times `inverse`, rounded to nearest, limited to +-127. */
#if defined(__AVX2__)
INLINE __m256i round_8(const float *x, __m256 inverse)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

INLINE void round_block(const float *x, float inverse, int8_t *q)
{
    __m256 factor = _mm256_set1_ps(inverse);
    __m256i low = _mm256_packs_epi32(round_8(x, factor), round_8(x + 8, factor));
    __m256i high = _mm256_packs_epi32(round_8(x + 16, factor), round_8(x + 24, factor));
    __m256i mixed = _mm256_max_epi8(_mm256_packs_epi16(low, high), _mm256_set1_epi8(-127));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((__m256i *)(void *)q, _mm256_permutevar8x32_epi32(mixed, order));
}

/* Sums of columns 0, 1 (mod 4) and of 2, 3 (mod 4) of each half of a block. */
INLINE void block_sums(const int8_t *q, int sum[2][2])
{
    __m256i pairs =
        _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_loadu_si256((const __m256i *)(const void *)q));
    pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0x4e));
    pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0xb1));
    int low = _mm256_extract_epi32(pairs, 0), high = _mm256_extract_epi32(pairs, 4);
    sum[0][0] = (int16_t)low;
    sum[0][1] = low >> 16;
    sum[1][0] = (int16_t)high;
    sum[1][1] = high >> 16;
}
#elif defined(CPU_NEON)
INLINE void round_block(const float *x, float inverse, int8_t *q)
{
    for (int i = 0; i < BLOCK; i += 8) {
        int16x4_t low = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse)));
        int16x4_t high = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse)));
        vst1_s8(q + i, vmax_s8(vqmovn_s16(vcombine_s16(low, high)), vdup_n_s8(-127)));
    }
}

/* No kernel here wants to know the columns' sums apart. */
INLINE void block_sums(const int8_t *q, int sum[2][2])
{
    for (int i = 0; i < 2; i++) {
        sum[i][0] = vaddlvq_s8(vld1q_s8(q + 16 * i));
        sum[i][1] = 0;
    }
}
#else
INLINE void round_block(const float *x, float inverse, int8_t *q)
{
    for (int i = 0; i < BLOCK; i++) {
        float v = x[i] * inverse;
        v = v > 127.0f ? 127.0f : v > -127.0f ? v : -127.0f;
        v += 0x1.8p23f; /* rounds to nearest even in the low bits */
        int32_t bits;
        memcpy(&bits, &v, sizeof bits);
        q[i] = (int8_t)(bits - 0x4b400000);
    }
}

INLINE void block_sums(const int8_t *q, int sum[2][2])
{
    memset(sum, 0, 4 * sizeof(int));
    for (int i = 0; i < BLOCK; i++)
        sum[i / 16][i / 2 % 2] += q[i];
}
#endif

/* n is a multiple of 32. */
INLINE float peak_of(const float *x, int n)
{
    vf peak = vf_set(0), other = vf_set(0);
    for (int i = 0; i < n; i += 2 * VW) {
        peak = vf_max(vf_abs(vf_load(x + i)), peak);
        other = vf_max(vf_abs(vf_load(x + i + VW)), other);
    }
    return vf_peak(vf_max(peak, other));
}

/* Where accumulators of one sub-block start: -offset * sum. The 16-bit kernels keep two sums of
 * products per weight row, columns 0 and 1 of four and columns 2 and 3. */
INLINE uint32_t start_value(const struct packing *k, int even, int odd)
{
#if defined(__AVX2__) && !defined(__AVX512F__)
    if (!is_byte_wide(k)) {
        uint32_t low = (uint32_t)(-k->offset * even) & 0xffff;
        return low | (uint32_t)(-k->offset * odd) << 16;
    }
#elif defined(CPU_NEON)
    if (is_byte_wide(k))
        return 0; /* these become signed when they are unpacked */
#endif
    return (uint32_t)(-k->offset * (even + odd));
}

static void put_extra(const struct packing *k, int sum[2][2], int scale, int T, uint32_t *out)
{
    for (int i = 0; i < k->subs; i++) {
        int even = k->subs == 2 ? sum[i][0] : sum[0][0] + sum[1][0];
        int odd = k->subs == 2 ? sum[i][1] : sum[0][1] + sum[1][1];
        out[i * T] = start_value(k, even, odd);
        if (k->minimum) {
            float weighted = (float)scale * (float)(even + odd);
            memcpy(&out[(k->subs + i) * T], &weighted, 4);
        }
    }
}

/* Sign-extended, in pairs of columns 0 and 2, then 1 and 3, of each four. */
static void put_wide(const int8_t *q, int T, int16_t *out)
{
    for (int j = 0; j < 8; j++, q += 4) {
        int16_t *even = out + (2 * j) * T * 2, *odd = out + (2 * j + 1) * T * 2;
        even[0] = q[0];
        even[1] = q[2];
        odd[0] = q[1];
        odd[1] = q[3];
    }
}

INLINE void spread(const int8_t *q, const int run, int T, int t, uint8_t *out)
{
    UNROLL
    for (int j = 0; j < BLOCK / run; j++)
        memcpy(out + (j * T + t) * run, q + run * j, (size_t)run);
}

/* Stores block number `at` (in rows of blocks), column t of its group of T. */
static void put_block(const struct activation *a, const int8_t *q, int scale, int T, int t, size_t at)
{
    int sum[2][2];
    block_sums(q, sum);
    uint8_t *out = a->q + at * ACTIVATION_BYTES;
    if (a->run == 4)
        spread(q, 4, T, t, out);
    else if (a->run == 8)
        spread(q, 8, T, t, out);
    else
        spread(q, BLOCK, T, t, out);
    float as_float = (float)scale;
    int32_t twice = scale | scale << 16;
    memcpy(out + (32 * T + 4 * t), &as_float, 4);
    memcpy(out + (36 * T + 4 * t), &twice, 4);
    if (a->wide)
        put_wide(q, T, a->wide + at * WIDE_ELEMENTS + 2 * t);
    for (int i = 0; i < a->kinds; i++)
        put_extra(a->packing[i], sum, scale, T, a->extra[i] + at * (size_t)extra_words(a->packing[i]) + t);
}

static int scale_of(const float *x, float per_step)
{
    float steps = peak_of(x, BLOCK) * per_step;
    return steps < 32766.0f ? (int)steps + 1 : 32767;
}

/* In two passes the second stores the first one's rounding errors, behind all blocks of the group. */
static void quantise_block(const struct activation *a, const float *x, float unit, float per_step, int T,
                           int t, size_t at)
{
    int scale = scale_of(x, per_step), blocks = a->columns / BLOCK;
    float step = unit * (float)scale;
    int8_t q[BLOCK];
    round_block(x, 1.0f / step, q);
    put_block(a, q, scale, T, t, at);
    if (a->blocks == blocks)
        return;
    float rest[BLOCK]; /* at most step / 2 each */
    for (int i = 0; i < BLOCK; i++)
        rest[i] = x[i] - step * (float)q[i];
    int finer = (scale + 253) / 254;
    round_block(rest, 1.0f / (unit * (float)finer), q);
    put_block(a, q, finer, T, t, at + (size_t)blocks * (size_t)T);
}

void NAME(quantise)(const struct activation *a, const float *x, int group)
{
    int first = group_start(a->rows, a->groups, group),
        T = group_start(a->rows, a->groups, group + 1) - first;
    for (int t = 0; t < T; t++) {
        const float *row = x + (size_t)t * (size_t)a->columns;
        float unit = peak_of(row, a->columns) / 127.0f / 32767.0f;
        unit = unit >= 0x1p-120f && unit < 0x1p120f ? unit : 0x1p-120f; /* zero, or not a number */
        float per_step = 1.0f / (127.0f * unit);
        a->row_scale[first + t] = unit;
        int blocks = a->columns / BLOCK;
        for (int b = 0; b < blocks; b++) {
            size_t at = (size_t)first * (size_t)a->blocks + (size_t)b * (size_t)T;
            quantise_block(a, row + (size_t)b * BLOCK, unit, per_step, T, t, at);
        }
    }
}
