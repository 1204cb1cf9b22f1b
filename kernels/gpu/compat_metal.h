/* The dialect of compat.h in Metal's shading language (3.0: macOS 13, Apple GPUs, 32 lanes).
 *
 * Buffers stand at the index of their BUF; the arguments at METAL_ARGS, and at METAL_NULL the buffer that
 * stands for absent operands: the validation layer wants every argument bound. */
#ifndef HEARTH_COMPAT_METAL_H
#define HEARTH_COMPAT_METAL_H

#include <metal_stdlib>
using namespace metal;

/* Known to metal/device_metal.m too. */
#define METAL_ARGS 29
#define METAL_NULL 30

/* ---- kernels ---- */

struct metal_ids {
    struct {
        int x, y, z;
    } group;
    int in_group, lane, simd; /* in_group: `thread` to the kernels, see the end */
};
#define THREAD_IDS struct metal_ids
#define BUF(i, T, name) device T *name [[buffer(i)]]
#define KERNEL(name, threads, args_type, ...)                                                                \
    [[kernel, max_total_threads_per_threadgroup(threads)]] void name(                                        \
        __VA_ARGS__, constant args_type &args [[buffer(METAL_ARGS)]],                                        \
        device const char *metal_null [[buffer(METAL_NULL)]],                                                \
        uint3 metal_group [[threadgroup_position_in_grid]],                                                  \
        uint metal_thread [[thread_index_in_threadgroup]], uint metal_lane [[thread_index_in_simdgroup]],    \
        uint metal_simd [[simdgroup_index_in_threadgroup]])
#define METAL_JOIN(a, b) a##_##b
#define METAL_TYPED(name, weight) METAL_JOIN(name, weight)
#define TYPED_KERNEL(name, threads, args_type, ...)                                                          \
    KERNEL(METAL_TYPED(name, GPU_WEIGHT_NAME), threads, args_type, __VA_ARGS__)
#define TYPED_KERNEL_PAIRED TYPED_KERNEL
#define KERNEL_IDS                                                                                           \
    const struct metal_ids ids = {{int(metal_group.x), int(metal_group.y), int(metal_group.z)},              \
                                  int(metal_thread), int(metal_lane), int(metal_simd)};                      \
    (void)ids, (void)args, (void)metal_null

/* ---- memory ---- */

#define GLOBAL(T) metal_device<T>
#define GLOBAL_CAST(T, p) metal_cast<T>(p)
#define PRIVATE(T) metal_private<T>
#define TABLE(T, name, count) constant T name[count]
#define IS_NULL(p) ((device const char *)(p) == metal_null)
#ifndef METAL_ARRAY
#define METAL_ARRAY(T, name, count) alignas(16) threadgroup T name[count]
#endif
#define SHARED(T, name, count) METAL_ARRAY(T, name, count)
#define SHARED_PTR(T) metal_shared<T>
#define SHARED_CAST(T, p) metal_cast<T>(p)

/* Names of pointer types, so that one declaration may name several. */
template <typename T> using metal_device = device T *;
template <typename T> using metal_shared = threadgroup T *;
template <typename T> using metal_private = thread T *;

/* Functions and not plain casts: the address space stays what it is. */
template <typename T, typename U> static inline device T *metal_cast(device U *p)
{
    return (device T *)p;
}

template <typename T, typename U> static inline threadgroup T *metal_cast(threadgroup U *p)
{
    return (threadgroup T *)p;
}

template <typename T> static inline T load_once(device const T *p)
{
    return *p;
}

template <typename T> static inline T load_fresh(device const T *p)
{
    return *p;
}

typedef half half_t;

static inline float half_to_float(half_t h)
{
    return float(h);
}

static inline half_t float_to_half(float f)
{
    return half(f);
}

static inline uint pack_half2(float low, float high)
{
    half2 both = {half(low), half(high)};
    return as_type<uint>(both);
}

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}

static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

static inline int2 make_int2(int x, int y)
{
    return {x, y};
}

static inline int4 make_int4(int x, int y, int z, int w)
{
    return {x, y, z, w};
}

static inline uint2 make_uint2(uint x, uint y)
{
    return {x, y};
}

static inline uint4 make_uint4(uint x, uint y, uint z, uint w)
{
    return {x, y, z, w};
}

/* ---- work together; simd_sum, simd_max and simd_broadcast are Metal's own ---- */

static inline void group_barrier()
{
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
}

static inline void simd_barrier()
{
    simdgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
}

template <typename T> static inline T simd_xor(T v, int mask)
{
    return simd_shuffle_xor(v, ushort(mask));
}

/* Dispatches that depend on one another are ordered by the encoder's barriers. */
#define DEPENDENCY_WAIT() (void)0
#define DEPENDENCY_LAUNCH() (void)0
#define DEPENDENCY_LAUNCH_EARLY() (void)0

/* ---- arithmetic: the precise functions whatever the compiler's options are ---- */

static inline float k_exp(float x)
{
    return precise::exp(x);
}

static inline float k_exp2(float x)
{
    return precise::exp2(x);
}

static inline float k_log(float x)
{
    return precise::log(x);
}

static inline float k_sqrt(float x)
{
    return precise::sqrt(x);
}

static inline float k_rsqrt(float x)
{
    return precise::rsqrt(x);
}

static inline float k_sin(float x)
{
    return precise::sin(x);
}

static inline float k_cos(float x)
{
    return precise::cos(x);
}

static inline float k_fma(float a, float b, float c)
{
    return fma(a, b, c);
}

static inline float k_abs(float x)
{
    return fabs(x);
}

static inline float k_max(float a, float b)
{
    return fmax(a, b);
}

static inline float k_min(float a, float b)
{
    return fmin(a, b);
}

static inline float k_rint(float x)
{
    return rint(x);
}

static inline uint float_bits(float f)
{
    return as_type<uint>(f);
}

static inline float bits_float(uint bits)
{
    return as_type<float>(bits);
}

static inline int dot4(int a, int b, int c)
{
    char4 x = as_type<char4>(a), y = as_type<char4>(b);
    return c + x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
}

static inline float4 unpack4(int q)
{
    char4 v = as_type<char4>(q);
    return {float(v.x), float(v.y), float(v.z), float(v.w)};
}

static inline uint mul_high(uint a, uint b)
{
    return mulhi(a, b);
}

/* ---- matrix units: a 16 x 16 tile is four of 8 x 8 ---- */

/* Tiles are members of structs too; the object of a member function is the thread's own. */
#ifndef METAL_MEMBER
#define METAL_MEMBER thread
#endif

struct frag_half {
    simdgroup_half8x8 t[2][2];
};

struct frag_float {
    simdgroup_float8x8 t[2][2];
};

static inline void frag_zero(METAL_MEMBER frag_float &c)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            c.t[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

static inline void frag_load(METAL_MEMBER frag_half &a, threadgroup const half *p, int stride)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            simdgroup_load(a.t[i][j], p + i * 8 * stride + j * 8, ulong(stride));
}

static inline void frag_load_t(METAL_MEMBER frag_half &b, threadgroup const half *p, int stride)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            simdgroup_load(b.t[i][j], p + j * 8 * stride + i * 8, ulong(stride), ulong2{0, 0}, true);
}

static inline void frag_mma(METAL_MEMBER frag_float &c, METAL_MEMBER const frag_half &a,
                            METAL_MEMBER const frag_half &b)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            for (int k = 0; k < 2; k++)
                simdgroup_multiply_accumulate(c.t[i][j], a.t[i][k], b.t[k][j], c.t[i][j]);
}

static inline void frag_store(METAL_MEMBER const frag_float &c, threadgroup float *p, int stride)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            simdgroup_store(c.t[i][j], p + i * 8 * stride + j * 8, ulong(stride));
}

/* No asynchronous copies: the barrier that follows copy_async_wait orders plain ones. */
static inline void copy_async16(threadgroup half *to, device const half *from)
{
    *(threadgroup uint4 *)to = *(device const uint4 *)from;
}

static inline void copy_async_commit()
{
}

static inline void copy_async_wait(int)
{
}

#define FAULT(name) false /* the drill runs on the emulator */

/* `thread` is a word of the language, which the kernels need for ids.thread alone. */
#undef thread
#define thread in_group

#endif
