/* The dialect of the portable kernels: what compat_metal.h, compat_cuda.h and compat_emulator.h each
 * define, and nothing else is used. The sources are C++14 without a standard library, without
 * lambdas, references to buffers, exceptions or virtual functions; templates are fine.
 *
 * Kernels
 *   KERNEL(name, threads, args_type, BUF(0, const float, x), BUF(1, float, y), …)
 *   {
 *       KERNEL_IDS;                  first line of every kernel: declares `ids`
 *       … `args` is the argument struct, x and y are GLOBAL pointers …
 *   }
 *   TYPED_KERNEL(name, …) likewise; its entry point is name_WEIGHT (GPU_WEIGHT_NAME).
 *   TYPED_KERNEL_PAIRED(name, …) likewise; two groups are to live on a multiprocessor, whatever it costs
 *   ids.group.x/y/z  ids.thread (in group)  ids.lane (0…31)  ids.simd (thread / 32)
 *   A helper that needs them takes `THREAD_IDS ids`. Groups have exactly `threads` threads.
 *   Every other function is `static inline`, in a struct `inline`.
 *   UNROLL                   before a loop whose count is known and whose arrays should be registers
 *
 * Memory
 *   GLOBAL(T)                a pointer type to device memory: GLOBAL(const float) row = x + 5;
 *                            +, -, +=, [], * and IS_NULL(p) work; no comparison, no cast but
 *   GLOBAL_CAST(T, p)        the same address as another type, aligned for it
 *   SHARED(T, name, count);  declares an array shared by the group, in the kernel's own scope only
 *   SHARED_PTR(T)            a pointer type to it; SHARED_CAST(T, p)
 *   PRIVATE(T)               a pointer type to the thread's own variables and arrays: what helpers take instead
 *                            of references, plain pointers and array parameters (Metal has none of these)
 *   TABLE(T, name, count) = {…};  a constant array at file scope; no other constants there but enums
 *   load_once(p)             *p of memory that is read once (weights): bypasses caches where it can
 *   load_fresh(p)            *p of memory that the previous kernel wrote
 *   half_t                   16-bit float in memory; float half_to_float(half_t), half_t float_to_half(float)
 *   uint pack_half2(float low, float high)   two halves side by side, rounded to nearest even
 *   float2 float4 int2 int4 uint2 uint4: members x y z w, made by make_float4(…) and so on; no operators
 *
 * Work together
 *   group_barrier()          all threads of the group; shared and device memory of the group is seen after it
 *   simd_barrier()           the 32 lanes; shared memory is seen after it
 *   simd_sum(float) simd_max(float) simd_xor(v, mask) simd_broadcast(v, lane)   float, int or uint; all 32
 *                            lanes take part
 *   DEPENDENCY_WAIT()        before the first access to anything the previous kernel may write or read;
 *                            weights may be loaded before it. Every kernel has exactly one, reached by all threads
 *   DEPENDENCY_LAUNCH()      after DEPENDENCY_WAIT: the next kernel may start its prologue
 *   DEPENDENCY_LAUNCH_EARLY()  instead of it, before DEPENDENCY_WAIT, in kernels whose steps say so
 *                            (launches_early): the next one may start while those before this one still run
 *
 * Arithmetic
 *   k_exp k_log k_sqrt k_rsqrt k_sin k_cos k_fma k_abs k_max k_min k_rint (to nearest even) k_exp2 on float;
 *   float_bits(float)->uint, bits_float(uint)->float
 *   int dot4(int a, int b, int c)   c + the sum of products of four signed bytes
 *   float4 unpack4(int q)           four signed bytes as floats
 *   uint mul_high(uint, uint)       upper half of the product (Philox)
 *
 * Matrix units: 16 x 16 tiles, held by one simd group
 *   frag_half a, b; frag_float c;
 *   frag_zero(c); frag_load(a, SHARED_PTR(const half_t), stride)   a[i][k], row-major
 *   frag_load_t(b, p, stride)        b from rows of the other matrix: p[j*stride + k] becomes b[k][j]
 *   frag_mma(c, a, b)                c += a b, float accumulation
 *   frag_store(c, SHARED_PTR(float), stride)
 *                                    Rows of 16-bit tiles begin at multiples of 16 bytes, of float tiles of 8.
 *                                    CUDA: a right factor by frag_load, a left one by frag_load_t cost more
 *   copy_async16(SHARED_PTR(half_t), GLOBAL(const half_t))  16 bytes; copy_async_commit(); copy_async_wait(n)
 *                                    until at most n committed groups are left; then group_barrier()
 *
 * Names that Metal reserves: device constant threadgroup thread (but in ids.thread) kernel vertex fragment
 * sampler half; types it has not: double, long long.
 *
 * Faults: FAULT(name) is false, except in a build with -Dfaults=true where that fault of faults.def was
 * chosen. Kernels use it to plant the bugs of the fault drill. */
#ifndef HEARTH_COMPAT_H
#define HEARTH_COMPAT_H

#if defined(__METAL_VERSION__)
#include "compat_metal.h"
#elif defined(__CUDACC__)
#include "compat_cuda.h"
#else
#include "compat_emulator.h"
#endif

#if defined(__CUDACC__) || defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

#ifndef PRIVATE
#define PRIVATE(T) T *
#endif
#ifndef TABLE
#ifdef __CUDACC__
#define TABLE(T, name, count) static __constant__ const T name[count]
#else
#define TABLE(T, name, count) static const T name[count]
#endif
#endif

#endif
