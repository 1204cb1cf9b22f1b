/* The dialect of compat.h in CUDA C++ (compute capability 7.5 and up), for nvcc and NVRTC alike: no
 * header is included, what CUDA knows without one is all there is.
 *
 * No pointer is __restrict__: under dependent launch the compiler would take what the previous kernel
 * still writes for constant, and read it before DEPENDENCY_WAIT. Memory is read by volatile instructions
 * where their place relative to that wait matters. */
#ifndef HEARTH_COMPAT_CUDA_H
#define HEARTH_COMPAT_CUDA_H

/* Kernel sources say `static inline`; here every such function is one of the device. */
#define inline __device__ __forceinline__

typedef unsigned int uint;

/* ---- kernels ---- */

struct cuda_ids {
    struct {
        int x, y, z;
    } group;
    int thread, lane, simd;
};
#define THREAD_IDS struct cuda_ids
#define BUF(i, T, name) T *name
#define CUDA_ENTRY(name, threads, args_type, ...)                                                             \
    extern "C" __global__ void __launch_bounds__(threads) name(args_type args, __VA_ARGS__)
/* A kernel of the other module: checked, never compiled. */
#define CUDA_ABSENT(name, args_type, ...)                                                                     \
    template <int> static __device__ void name(args_type args, __VA_ARGS__)
#define CUDA_JOIN(a, b) a##_##b
#define CUDA_TYPED(name, weight) CUDA_JOIN(name, weight)
/* Two groups of 256 threads share a multiprocessor: one that waits has room beside the kernel before it. */
#define CUDA_BOUNDS(threads) threads, (threads) == 256 ? 2 : 0
#ifdef GPU_TYPED
#define KERNEL(name, threads, args_type, ...) CUDA_ABSENT(name, args_type, __VA_ARGS__)
#define TYPED_KERNEL(name, threads, args_type, ...)                                                           \
    CUDA_ENTRY(CUDA_TYPED(name, GPU_WEIGHT_NAME), threads, args_type, __VA_ARGS__)
#define TYPED_KERNEL_PAIRED(name, threads, args_type, ...)                                                    \
    CUDA_ENTRY(CUDA_TYPED(name, GPU_WEIGHT_NAME), CUDA_BOUNDS(threads), args_type, __VA_ARGS__)
#else
#define TYPED_KERNEL_PAIRED TYPED_KERNEL
#define KERNEL(name, threads, args_type, ...) CUDA_ENTRY(name, CUDA_BOUNDS(threads), args_type, __VA_ARGS__)
#define TYPED_KERNEL(name, threads, args_type, ...) CUDA_ABSENT(name, args_type, __VA_ARGS__)
#endif
#define KERNEL_IDS                                                                                            \
    const struct cuda_ids ids = {{(int)blockIdx.x, (int)blockIdx.y, (int)blockIdx.z}, (int)threadIdx.x,       \
                                 (int)threadIdx.x & 31, (int)threadIdx.x >> 5};                               \
    (void)ids, (void)args

/* ---- memory ---- */

template <typename T> using cuda_pointer = T *; /* so that one declaration may name several */
#define GLOBAL(T) cuda_pointer<T>
#define GLOBAL_CAST(T, p) ((T *)(p))
#define IS_NULL(p) ((p) == nullptr)
#define SHARED(T, name, count) __shared__ __align__(16) T name[count]
#define SHARED_PTR(T) cuda_pointer<T>
#define PRIVATE(T) cuda_pointer<T>
#define TABLE(T, name, count) static __device__ const T name[count]
#define SHARED_CAST(T, p) ((T *)(p))

struct half_t {
    unsigned short bits;
};

static inline float half_to_float(half_t h)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h.bits));
    return f;
}

static inline half_t float_to_half(float f)
{
    half_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(f));
    return h;
}

static inline uint pack_half2(float low, float high)
{
#if __CUDA_ARCH__ >= 800
    uint pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return float_to_half(low).bits | (uint)float_to_half(high).bits << 16;
#endif
}

/* Loads by size: 1, 2, 4, 8 or 16 bytes that are aligned to it. */
template <int bytes> struct cuda_load;

#define CUDA_LOADS(size, word, registers, ...)                                                                \
    template <> struct cuda_load<size> {                                                                      \
        word v[registers];                                                                                    \
        inline void once(const void *p)                                                                       \
        {                                                                                                     \
            asm volatile("ld.global.nc.L1::no_allocate." __VA_ARGS__);                                        \
        }                                                                                                     \
        inline void fresh(const void *p)                                                                      \
        {                                                                                                     \
            asm volatile("ld.global.cg." __VA_ARGS__ : "memory");                                             \
        }                                                                                                     \
    }

CUDA_LOADS(1, unsigned short, 1, "u8 %0, [%1];" : "=h"(v[0]) : "l"(p));
CUDA_LOADS(2, unsigned short, 1, "u16 %0, [%1];" : "=h"(v[0]) : "l"(p));
CUDA_LOADS(4, uint, 1, "u32 %0, [%1];" : "=r"(v[0]) : "l"(p));
CUDA_LOADS(8, uint, 2, "v2.u32 {%0, %1}, [%2];" : "=r"(v[0]), "=r"(v[1]) : "l"(p));
CUDA_LOADS(16, uint, 4, "v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "l"(p));

template <typename T> union cuda_cast {
    cuda_load<sizeof(T)> from;
    T to;
    inline cuda_cast() {}
};

template <typename T> static inline T load_once(const T *p)
{
    cuda_cast<T> c;
    c.from.once(p);
    return c.to;
}

template <typename T> static inline T load_fresh(const T *p)
{
    cuda_cast<T> c;
    c.from.fresh(p);
    return c.to;
}

/* ---- work together ---- */

static inline void group_barrier()
{
    __syncthreads();
}

static inline void simd_barrier()
{
    __syncwarp();
}

template <typename T> static inline T simd_xor(T v, int mask)
{
    return __shfl_xor_sync(0xffffffffu, v, mask);
}

template <typename T> static inline T simd_broadcast(T v, int lane)
{
    return __shfl_sync(0xffffffffu, v, lane);
}

template <typename T> static inline T simd_sum(T v)
{
#pragma unroll
    for (int mask = 16; mask; mask >>= 1)
        v += simd_xor(v, mask);
    return v;
}

static inline float simd_max(float v)
{
#pragma unroll
    for (int mask = 16; mask; mask >>= 1)
        v = fmaxf(v, simd_xor(v, mask));
    return v;
}

template <typename T> static inline T simd_max(T v)
{
#pragma unroll
    for (int mask = 16; mask; mask >>= 1) {
        T other = simd_xor(v, mask);
        v = other > v ? other : v;
    }
    return v;
}

/* PTX for older cards has the instructions as comments, so that cuda/compile.c can take the same text for
 * newer ones: all else is alike. */
#if __CUDA_ARCH__ >= 900
#define CUDA_FROM_90 ""
#else
#define CUDA_FROM_90 "//sm_90 "
#endif

static inline void cuda_dependency_wait()
{
    asm volatile(CUDA_FROM_90 "griddepcontrol.wait;" ::: "memory");
}

static inline void cuda_dependency_launch()
{
    asm volatile(CUDA_FROM_90 "griddepcontrol.launch_dependents;" ::: "memory");
}

#define DEPENDENCY_WAIT() cuda_dependency_wait()
#define DEPENDENCY_LAUNCH() cuda_dependency_launch()
#define DEPENDENCY_LAUNCH_EARLY() cuda_dependency_launch()

/* ---- arithmetic: CUDA's own, without fast-math. Errors in ulp: exp 1, exp2 2, log 1, rsqrt 2, sin and cos 2
 * over the whole range; sqrt and division are exactly rounded ---- */

static inline float k_exp(float x)
{
    return expf(x);
}

static inline float k_exp2(float x)
{
    return exp2f(x);
}

static inline float k_log(float x)
{
    return logf(x);
}

static inline float k_sqrt(float x)
{
    return sqrtf(x);
}

static inline float k_rsqrt(float x)
{
    return rsqrtf(x);
}

static inline float k_sin(float x)
{
    return sinf(x);
}

static inline float k_cos(float x)
{
    return cosf(x);
}

static inline float k_fma(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline float k_abs(float x)
{
    return fabsf(x);
}

static inline float k_max(float a, float b)
{
    return fmaxf(a, b);
}

static inline float k_min(float a, float b)
{
    return fminf(a, b);
}

static inline float k_rint(float x)
{
    return rintf(x);
}

static inline uint float_bits(float f)
{
    return __float_as_uint(f);
}

static inline float bits_float(uint bits)
{
    return __uint_as_float(bits);
}

static inline int dot4(int a, int b, int c)
{
    return __dp4a(a, b, c);
}

/* Byte b + 128 becomes the lowest mantissa bits of 2^23: a permutation and a subtraction, both faster
 * than a conversion, and exact. */
static inline float4 unpack4(int q)
{
    uint b = (uint)q ^ 0x80808080u;
    return make_float4(__uint_as_float(__byte_perm(b, 0x4B000000u, 0x7440)) - 8388736.0f,
                       __uint_as_float(__byte_perm(b, 0x4B000000u, 0x7441)) - 8388736.0f,
                       __uint_as_float(__byte_perm(b, 0x4B000000u, 0x7442)) - 8388736.0f,
                       __uint_as_float(__byte_perm(b, 0x4B000000u, 0x7443)) - 8388736.0f);
}

static inline uint mul_high(uint a, uint b)
{
    return __umulhi(a, b);
}

/* ---- matrix units ----
 * A tile is four quadrants of 8 x 8, q[2 * i + j] at rows 8i, columns 8j. Lane l holds two neighbours
 * of each: by rows, (l / 4, 2 (l % 4)) and the one right of it, as a left factor wants them; by columns,
 * (2 (l % 4), l / 4) and the one below, as a right factor does. Once all is inlined the compiler knows
 * which, and only a tile that was loaded for the other side costs a transposition. */

struct frag_half {
    uint q[4];
    bool by_columns;
};

struct frag_float {
    float c[2][4]; /* of columns 0…7, 8…15: row l / 4, then row l / 4 + 8 */
};

static inline void frag_zero(frag_float &c)
{
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            c.c[j][k] = 0.0f;
}

/* Each quadrant's rows stand at 8 lanes' addresses; lanes 8n… give the n-th result. */
static inline void cuda_load_quadrants(uint &q0, uint &q1, uint &q2, uint &q3, const half_t *p, int stride)
{
    int lane = (int)threadIdx.x & 31;
    uint address = (uint)__cvta_generic_to_shared(p + (lane & 15) * stride + (lane >> 4) * 8);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(q0), "=r"(q1), "=r"(q2), "=r"(q3)
                 : "r"(address)
                 : "memory");
}

static inline void frag_load(frag_half &a, const half_t *p, int stride)
{
    cuda_load_quadrants(a.q[0], a.q[2], a.q[1], a.q[3], p, stride);
    a.by_columns = false;
}

static inline void frag_load_t(frag_half &b, const half_t *p, int stride)
{
    cuda_load_quadrants(b.q[0], b.q[1], b.q[2], b.q[3], p, stride);
    b.by_columns = true;
}

static inline uint cuda_transpose(uint q)
{
    uint t;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(t) : "r"(q));
    return t;
}

static inline void cuda_mma(float *c, uint a0, uint a1, uint a2, uint a3, uint b0, uint b1)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(b0));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a2), "r"(a3), "r"(b1));
#endif
}

static inline void frag_mma(frag_float &c, const frag_half &a, const frag_half &b)
{
    uint l[4], r[4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
        l[k] = a.by_columns ? cuda_transpose(a.q[k]) : a.q[k];
        r[k] = b.by_columns ? b.q[k] : cuda_transpose(b.q[k]);
    }
    cuda_mma(c.c[0], l[0], l[2], l[1], l[3], r[0], r[2]);
    cuda_mma(c.c[1], l[0], l[2], l[1], l[3], r[1], r[3]);
}

static inline void frag_store(const frag_float &c, float *p, int stride)
{
    int lane = (int)threadIdx.x & 31;
    p += (lane >> 2) * stride + (lane & 3) * 2;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        *(float2 *)(p + j * 8) = make_float2(c.c[j][0], c.c[j][1]);
        *(float2 *)(p + j * 8 + 8 * stride) = make_float2(c.c[j][2], c.c[j][3]);
    }
}

static inline void copy_async16(half_t *to, const half_t *from)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :
                 : "r"((uint)__cvta_generic_to_shared(to)), "l"(from)
                 : "memory");
#else
    *(uint4 *)to = load_fresh((const uint4 *)from);
#endif
}

static inline void copy_async_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* The instruction wants a constant. */
static inline void copy_async_wait(int groups)
{
#if __CUDA_ARCH__ >= 800
    if (groups <= 0)
        asm volatile("cp.async.wait_group 0;" ::: "memory");
    else if (groups == 1)
        asm volatile("cp.async.wait_group 1;" ::: "memory");
    else if (groups == 2)
        asm volatile("cp.async.wait_group 2;" ::: "memory");
    else
        asm volatile("cp.async.wait_group 3;" ::: "memory");
#endif
}

/* The bugs of the fault drill are planted in the emulator alone. */
#define FAULT(name) false

#endif
