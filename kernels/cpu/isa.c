/* What one instruction set brings, compiled once for each. */
#include "isa.h"

#if defined(__AVX512VNNI__)
#define LABEL "AVX-512 VNNI"
#define OPTION "avx512vnni"
#elif defined(__AVX2__)
#define LABEL "AVX2"
#define OPTION "avx2"
#elif defined(CPU_NEON)
#define LABEL "NEON dot product"
#define OPTION "neon"
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#else
#define LABEL "plain C"
#define OPTION "scalar"
#endif

static bool supported(void)
{
#if defined(__AVX512VNNI__)
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("fma");
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(CPU_NEON) && defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
#elif defined(CPU_NEON) && defined(__APPLE__)
    int there = 0;
    size_t size = sizeof there;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &there, &size, NULL, 0) == 0 && there;
#else
    return true;
#endif
}

const struct isa NAME(isa) = {
    .name = OPTION,
    .label = LABEL,
    .supported = supported,
    .dot = &NAME(dot_kernels),
    .quantise = NAME(quantise),
    .dot_float = NAME(dot_float),
    .finish = NAME(finish),
    .rms_norm = NAME(rms_norm),
    .rope = NAME(rope),
    .to_f16 = NAME(to_f16),
    .swiglu = NAME(swiglu),
    .attend = NAME(attend),
    .attend_merge = NAME(attend_merge),
    .read = NAME(read),
};
