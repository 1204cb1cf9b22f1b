/* For sources that are compiled once per instruction set: ISA is its name. */
#ifndef HEARTH_CPU_ISA_H
#define HEARTH_CPU_ISA_H

#include "cpu.h"

#define ISA_JOIN2(name, isa) name##_##isa
#define ISA_JOIN(name, isa) ISA_JOIN2(name, isa)
#define NAME(name) ISA_JOIN(name, ISA)

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

extern const struct dot_kernels NAME(dot_kernels);
void NAME(quantise)(const struct activation *, const float *x, int group);
void NAME(dot_float)(enum dtype, int rows, const uint8_t *tile, int columns, const float *x, float *sum);
void NAME(finish)(const float *sum, float scale, const float *bias, const float *add, float *y, int n);
void NAME(rms_norm)(const float *x, const float *weight, float eps, int n, float *y);
void NAME(rope)(float *x, const float *cs, int rope_dim, int style);
void NAME(to_f16)(const float *x, uint16_t *y, int n);
void NAME(swiglu)(const float *gate, const float *up, float *y, int n);
void NAME(attend)(const struct attention_span *);
void NAME(attend_merge)(float *total, const float *state, int width);
uint64_t NAME(read)(const void *, size_t bytes);

#endif
