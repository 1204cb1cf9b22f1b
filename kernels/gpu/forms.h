/* What several kernels make of a result: 16-bit and 8-bit forms, SiLU. */
#ifndef HEARTH_GPU_FORMS_H
#define HEARTH_GPU_FORMS_H

#include "compat.h"

/* Largest finite 16-bit float: what saturated forms stop at. */
static inline half_t saturated_half(float x)
{
    return float_to_half(k_min(k_max(x, -65504.0f), 65504.0f));
}

/* Four values, rounded to signed bytes. */
static inline int pack4(float a, float b, float c, float d)
{
    return (int)(((uint)(int)k_rint(a) & 255u) | ((uint)(int)k_rint(b) & 255u) << 8 |
                 ((uint)(int)k_rint(c) & 255u) << 16 | (uint)(int)k_rint(d) << 24);
}

static inline float silu(float g)
{
    return g / (1.0f + k_exp(-g));
}

#endif
