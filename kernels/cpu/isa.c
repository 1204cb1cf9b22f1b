/* What one instruction set brings, compiled once for each. */
#include "isa.h"

#if defined(CPU_AMX_EMULATED)
#define LABEL "AMX int8, emulated"
#define OPTION "avx512amx-emulated"
#elif defined(CPU_AMX)
#define LABEL "AMX int8"
#define OPTION "avx512amx"
#elif defined(__AVX512VNNI__)
#define LABEL "AVX-512 VNNI"
#define OPTION "avx512vnni"
#elif defined(__AVX2__)
#define LABEL "AVX2"
#define OPTION "avx2"
#elif defined(CPU_NEON)
#if defined(CPU_I8MM)
#define LABEL "NEON i8mm"
#define OPTION "i8mm"
#define WANTS_I8MM true
#else
#define LABEL "NEON dot product"
#define OPTION "neon"
#define WANTS_I8MM false
#endif
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#else
#define LABEL "plain C"
#define OPTION "scalar"
#endif

#if defined(CPU_NEON) && defined(__APPLE__)
static bool has_feature(const char *name)
{
    int there = 0;
    size_t size = sizeof there;
    return sysctlbyname(name, &there, &size, NULL, 0) == 0 && there;
}
#endif

#if defined(CPU_AMX) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REQUEST_PERMISSION 0x1023 /* ARCH_REQ_XCOMP_PERM */
#define TILE_DATA 18              /* XFEATURE_XTILEDATA */

/* The system saves a process's tiles only once it has asked for them. */
static bool has_tiles(void)
{
    unsigned a, b, c, d;
    const unsigned wanted = 1u << 24 | 1u << 25; /* AMX-TILE, AMX-INT8 */
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & wanted) == wanted &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#elif defined(__AVX512VNNI__)
static bool has_tiles(void)
{
#if defined(CPU_AMX)
    return false;
#else
    return true; /* none are needed */
#endif
}
#endif

static bool supported(void)
{
#if defined(__AVX512VNNI__)
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("fma") && has_tiles();
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(CPU_NEON) && defined(__linux__)
    bool dot = getauxval(AT_HWCAP) >> 20 & 1, matrix = getauxval(AT_HWCAP2) >> 13 & 1; /* ASIMDDP, I8MM */
    return dot && (matrix || !WANTS_I8MM);
#elif defined(CPU_NEON) && defined(__APPLE__)
    return has_feature("hw.optional.arm.FEAT_DotProd") &&
           (!WANTS_I8MM || has_feature("hw.optional.arm.FEAT_I8MM"));
#else
    return true;
#endif
}

const struct isa NAME(isa) = {
    .name = OPTION,
    .label = LABEL,
    .supported = supported,
    .dot = &NAME(dot_kernels),
    .quantise = SHARED(quantise),
    .dot_float = SHARED(dot_float),
    .finish = SHARED(finish),
    .rms_norm = SHARED(rms_norm),
    .rope = SHARED(rope),
    .to_f16 = SHARED(to_f16),
    .swiglu = SHARED(swiglu),
    .attend = SHARED(attend),
    .attend_merge = SHARED(attend_merge),
    .read = SHARED(read),
};
