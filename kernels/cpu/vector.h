/* Float vectors of the instruction set that a source is compiled for: vf with the operators of
 * C, VW floats wide, and what the operators do not cover. */
#ifndef HEARTH_CPU_VECTOR_H
#define HEARTH_CPU_VECTOR_H

#include <string.h>

#include "isa.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define VW 16
typedef __m512 vf;
typedef int32_t vi __attribute__((vector_size(64)));
INLINE vf vf_set(float x) { return _mm512_set1_ps(x); }
INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf vf_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE vf vf_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
INLINE void vf_to_f16(uint16_t *p, vf v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__)
#include <immintrin.h>
#define VW 8
typedef __m256 vf;
typedef int32_t vi __attribute__((vector_size(32)));
INLINE vf vf_set(float x) { return _mm256_set1_ps(x); }
INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf vf_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INLINE vf vf_i8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
INLINE void vf_to_f16(uint16_t *p, vf v)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(CPU_NEON)
#include <arm_neon.h>
#define VW 4
typedef float32x4_t vf;
typedef int32_t vi __attribute__((vector_size(16)));
INLINE vf vf_set(float x) { return vdupq_n_f32(x); }
INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
INLINE void vf_store(float *p, vf v) { vst1q_f32(p, v); }
INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
INLINE vf vf_max(vf a, vf b) { return vmaxq_f32(a, b); }
INLINE vf vf_min(vf a, vf b) { return vminq_f32(a, b); }
INLINE vf vf_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
INLINE vf vf_i8(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}
INLINE void vf_to_f16(uint16_t *p, vf v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
#else
#define VW 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
INLINE vf vf_set(float x) { return (vf){x, x, x, x}; }
INLINE vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
INLINE vf vf_pick(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
INLINE vf vf_max(vf a, vf b) { return vf_pick(a > b, a, b); }
INLINE vf vf_min(vf a, vf b) { return vf_pick(a < b, a, b); }
INLINE vf vf_f16(const uint16_t *p)
{
    return (vf){f16_to_f32(p[0]), f16_to_f32(p[1]), f16_to_f32(p[2]), f16_to_f32(p[3])};
}
INLINE vf vf_i8(const int8_t *p) { return (vf){p[0], p[1], p[2], p[3]}; }
INLINE void vf_to_f16(uint16_t *p, vf v)
{
    for (int i = 0; i < VW; i++)
        p[i] = f32_to_f16(v[i]);
}
#endif

/* Lanes of a where the mask is all ones, zero elsewhere. */
INLINE vf vf_and(vi mask, vf a)
{
    return (vf)(mask & (vi)a);
}

INLINE vf vf_abs(vf a)
{
    vi sign = (vi)vf_set(-0.0f);
    return (vf)(~sign & (vi)a);
}

/* Horizontal sum and maximum, as a tree over the lanes. */
#if defined(__AVX2__)
INLINE __m256 fold(vf v, bool sum)
{
#if VW == 16
    __m256 low = _mm512_castps512_ps256(v), high = _mm512_extractf32x8_ps(v, 1);
    return sum ? _mm256_add_ps(low, high) : _mm256_max_ps(low, high);
#else
    (void)sum;
    return v;
#endif
}

INLINE float vf_sum(vf v)
{
    __m256 w = fold(v, true);
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

INLINE float vf_peak(vf v)
{
    __m256 w = fold(v, false);
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
#elif defined(CPU_NEON)
INLINE float vf_sum(vf v)
{
    return vaddv_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v)));
}

INLINE float vf_peak(vf v)
{
    return vmaxvq_f32(v);
}
#else
INLINE float vf_sum(vf v)
{
    float lane[VW];
    vf_store(lane, v);
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

INLINE float vf_peak(vf v)
{
    float lane[VW];
    vf_store(lane, v);
    float a = lane[0] > lane[2] ? lane[0] : lane[2], b = lane[1] > lane[3] ? lane[1] : lane[3];
    return a > b ? a : b;
}
#endif

/* The first n < VW floats, the others zero; and back. */
INLINE vf vf_load_some(const float *p, int n)
{
    float lane[VW] = {0};
    memcpy(lane, p, (size_t)n * sizeof *p);
    return vf_load(lane);
}

INLINE void vf_store_some(float *p, vf v, int n)
{
    float lane[VW];
    vf_store(lane, v);
    memcpy(p, lane, (size_t)n * sizeof *p);
}

/* e^x within 2 units in the last place for x <= 88; 0 below -87.3. */
INLINE vf vf_exp(vf x)
{
    const vf magic = vf_set(0x1.8p23f);
    vi normal = x > vf_set(-87.3f);
    vf clamped = vf_max(vf_set(-87.3f), vf_min(x, vf_set(88.3f)));
    vf shifted = vf_fma(clamped, vf_set(0x1.715476p0f), magic), n = shifted - magic;
    vf r = vf_fma(n, vf_set(-0x1.62e4p-1f), clamped);
    r = vf_fma(n, vf_set(-0x1.7f7d1cp-20f), r);
    vf p = vf_set(0x1.6850e4p-10f);
    p = vf_fma(p, r, vf_set(0x1.123bccp-7f));
    p = vf_fma(p, r, vf_set(0x1.555b98p-5f));
    p = vf_fma(p, r, vf_set(0x1.55548ep-3f));
    p = vf_fma(p, r, vf_set(0x1.fffff8p-2f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    /* n stands in the low bits of `shifted`: 2^n goes onto the exponent */
    return vf_and(normal, (vf)((vi)p + ((vi)shifted << 23)));
}

#endif
