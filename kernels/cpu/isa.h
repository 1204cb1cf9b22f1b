/* For sources that are compiled once per instruction set: ISA is its name, BASE that of the one it
 * takes everything from but its integer kernels, mostly itself. */
#ifndef HEARTH_CPU_ISA_H
#define HEARTH_CPU_ISA_H

#include "cpu.h"

#define ISA_JOIN2(name, isa) name##_##isa
#define ISA_JOIN(name, isa) ISA_JOIN2(name, isa)
#define NAME(name) ISA_JOIN(name, ISA)
#ifndef BASE
#define BASE ISA
#endif
#define SHARED(name) ISA_JOIN(name, BASE)

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

extern const struct dot_kernels NAME(dot_kernels);
void SHARED(quantise)(const struct activation *, const float *x, int group);
void SHARED(dot_float)(enum dtype, int rows, const uint8_t *tile, int columns, const float *x, float *sum);
void SHARED(finish)(const struct finish *);
void SHARED(rms_norm)(const float *x, const float *weight, float eps, int n, float *y);
void SHARED(rope)(float *x, const float *cs, int rope_dim, int style);
void SHARED(to_f16)(const float *x, uint16_t *y, int n);
void SHARED(swiglu)(const float *gate, const float *up, float *y, int n);
void SHARED(attend)(const struct attention_span *);
void SHARED(attend_merge)(float *total, const float *state, int width);
uint64_t SHARED(read)(const void *, size_t bytes);

#endif
