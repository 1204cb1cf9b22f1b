/* What the fake's two parts share. */
#ifndef HEARTH_FAKE_CUDA_PRIVATE_H
#define HEARTH_FAKE_CUDA_PRIVATE_H

#include "../../kernels/cuda/api.h"
#include "fake_cuda.h"

#define X(member, symbol, parameters) int symbol parameters;
CUDA_CALLS(X)
NVRTC_CALLS(X)
#undef X

/* Counts a call; what it must answer: 0, the failure asked for, or one that stays. */
int fake_cuda_count(const char *symbol);
#define COUNT                                                                                                  \
    int rc = fake_cuda_count(__func__);                                                                        \
    if (rc)                                                                                                    \
    return rc

/* Zeroed objects, counted while they live. */
void *fake_cuda_make(size_t bytes);
void fake_cuda_unmake(void *);

#endif
