/* The dialect of compat.h on the CPU: every access to memory is checked, and what threads do together
 * goes through the emulator's runtime, which knows where each of them stands. */
#ifndef HEARTH_COMPAT_EMULATOR_H
#define HEARTH_COMPAT_EMULATOR_H

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "../emulator/emulator.h"

typedef unsigned int uint;

/* ---- kernels ---- */

#define THREAD_IDS struct emulator_ids
#define KERNEL_IDS                                                                                           \
    const struct emulator_ids ids = emulator_ids();                                                          \
    (void)ids, (void)args
#define BUF(i, T, name) emulator_pointer<T, false> name
#define KERNEL(name, threads, args_type, ...)                                                                \
    static void name(const args_type &args, __VA_ARGS__);                                                    \
    static const struct emulator_kernel emulator_##name =                                                    \
        emulator_entry<decltype(&name), &name>::kernel(#name, threads);                                      \
    static void name(const args_type &args, __VA_ARGS__)
#define TYPED_KERNEL KERNEL
#define TYPED_KERNEL_PAIRED KERNEL

/* ---- memory ---- */

static inline void emulator_check(const struct emulator_memory *of, const void *p, size_t size,
                                  size_t element, bool write)
{
    size_t at = (size_t)((const char *)p - of->base);
    if (__builtin_expect(at >= of->bytes || of->bytes - at < size || (write ? of->slow_write : of->slow_read),
                         0))
        emulator_access(of, p, size, element, write);
}

template <typename T, bool shared> struct emulator_pointer;

/* An element that may be written: p[i] of a pointer to what is not const. */
template <typename T, bool shared> struct emulator_element {
    emulator_pointer<T, shared> at;

    emulator_element(emulator_pointer<T, shared> p) : at(p)
    {
    }
    emulator_element(const emulator_element &) = default;
    operator T() const
    {
        return at.load();
    }
    T operator=(T value) const
    {
        at.store(value);
        return value;
    }
    T operator=(const emulator_element &other) const
    {
        return *this = (T)other;
    }
    template <typename U> T operator+=(U value) const
    {
        return *this = (T)(at.load() + value);
    }
    template <typename U> T operator-=(U value) const
    {
        return *this = (T)(at.load() - value);
    }
    template <typename U> T operator*=(U value) const
    {
        return *this = (T)(at.load() * value);
    }
    template <typename U> T operator|=(U value) const
    {
        return *this = (T)(at.load() | value);
    }
};

template <typename T, bool shared> struct emulator_pointer {
    typedef typename std::remove_const<T>::type value;
    typedef
        typename std::conditional<std::is_const<T>::value, value, emulator_element<T, shared>>::type element;

    T *p;
    const struct emulator_memory *of;

    emulator_pointer() : p(nullptr), of(&emulator_nowhere)
    {
    }
    emulator_pointer(T *at, const struct emulator_memory *memory) : p(at), of(memory)
    {
    }
    template <typename U, typename = typename std::enable_if<std::is_same<const U, T>::value>::type>
    emulator_pointer(const emulator_pointer<U, shared> &other) : p(other.p), of(other.of)
    {
    }
    value load() const
    {
        emulator_check(of, p, sizeof(T), sizeof(T), false);
        return *p;
    }
    void store(value v) const
    {
        emulator_check(of, p, sizeof(T), sizeof(T), true);
        *const_cast<value *>(p) = v;
    }
    element get(std::true_type) const
    {
        return load();
    }
    element get(std::false_type) const
    {
        return element(*this);
    }
    element operator*() const
    {
        return get(std::is_const<T>());
    }
    element operator[](ptrdiff_t i) const
    {
        return *(*this + i);
    }
    emulator_pointer operator+(ptrdiff_t n) const
    {
        return emulator_pointer((T *)((uintptr_t)p + (uintptr_t)n * sizeof(T)), of);
    }
    emulator_pointer operator-(ptrdiff_t n) const
    {
        return *this + -n;
    }
    emulator_pointer &operator+=(ptrdiff_t n)
    {
        return *this = *this + n;
    }
    emulator_pointer &operator-=(ptrdiff_t n)
    {
        return *this = *this + -n;
    }
};

template <typename T, typename U, bool shared>
static inline emulator_pointer<T, shared> emulator_cast(const emulator_pointer<U, shared> &from)
{
    static_assert(std::is_const<T>::value || !std::is_const<U>::value, "a cast takes const away");
    if ((uintptr_t)from.p % alignof(T))
        emulator_misaligned(from.of, (const void *)from.p, alignof(T));
    return emulator_pointer<T, shared>((T *)from.p, from.of);
}

#define GLOBAL(T) emulator_pointer<T, false>
#define GLOBAL_CAST(T, p) emulator_cast<T>(p)
#define SHARED_PTR(T) emulator_pointer<T, true>
#define SHARED_CAST(T, p) emulator_cast<T>(p)
#define SHARED(T, name, count) const emulator_pointer<T, true> name = emulator_array<T>(#name, count)
#define IS_NULL(pointer) ((pointer).of->base == nullptr)

template <typename T> static inline emulator_pointer<T, true> emulator_array(const char *name, size_t count)
{
    const struct emulator_memory *memory = emulator_shared(name, count * sizeof(T));
    return emulator_pointer<T, true>((T *)memory->base, memory);
}

template <typename T>
static inline typename std::remove_const<T>::type load_once(const emulator_pointer<T, false> &p)
{
    return p.load();
}

template <typename T>
static inline typename std::remove_const<T>::type load_fresh(const emulator_pointer<T, false> &p)
{
    return p.load();
}

/* From a kernel's function to its entry: operands become pointers in the order of the BUFs. */
template <typename F, F f> struct emulator_entry;
template <typename A, typename... P, void (*f)(const A &, P...)>
struct emulator_entry<void (*)(const A &, P...), f> {
    template <typename T> static T pointer(const struct emulator_memory *of)
    {
        typedef decltype(T::p) plain;
        if ((uintptr_t)of->base % alignof(typename std::remove_pointer<plain>::type))
            emulator_misaligned(of, of->base, alignof(typename std::remove_pointer<plain>::type));
        return T((plain)of->base, of);
    }
    template <size_t... i>
    static void call(const void *args, const struct emulator_memory *operands, std::index_sequence<i...>)
    {
        f(*(const A *)args, pointer<P>(&operands[i])...);
    }
    static void run(const void *args, const struct emulator_memory *operands)
    {
        call(args, operands, std::index_sequence_for<P...>());
    }
    static constexpr struct emulator_kernel kernel(const char *name, int threads)
    {
        return {name, threads, sizeof(A), (int)sizeof...(P), run};
    }
};

/* ---- types ---- */

struct half_t {
    unsigned short bits;
};

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    uint x, y;
};
struct alignas(16) uint4 {
    uint x, y, z, w;
};

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

static inline uint float_bits(float f)
{
    uint bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float bits_float(uint bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* A half's bits, moved to a float's place, are its value times 2^-112, also of the subnormal ones. */
static inline float half_to_float(half_t h)
{
    uint sign = (uint)(h.bits & 0x8000) << 16, rest = h.bits & 0x7fff;
    float f = bits_float(rest << 13) * 0x1p112f;
    return bits_float((rest >= 0x7c00 ? rest << 13 | 0x7f800000 : float_bits(f)) | sign);
}

/* To nearest even. */
static inline half_t float_to_half(float f)
{
    uint bits = float_bits(f), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000)
        return {(unsigned short)(sign | 0x7e00)};
    if (rest >= 0x477ff000)
        return {(unsigned short)(sign | 0x7c00)};
    if (rest < 0x38800000) /* subnormal: the addition rounds where the last place of a half lies */
        return {(unsigned short)(sign | (float_bits(bits_float(rest) + 0.5f) - 0x3f000000))};
    return {(unsigned short)(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13)};
}

static inline uint pack_half2(float low, float high)
{
    return float_to_half(low).bits | (uint)float_to_half(high).bits << 16;
}

/* ---- work together ---- */

#define EMULATOR_PLACE struct emulator_place place = {__builtin_FILE(), __builtin_LINE()}

static inline void group_barrier(EMULATOR_PLACE)
{
    emulator_group_barrier(place);
}

static inline void simd_barrier(EMULATOR_PLACE)
{
    emulator_meet(EMULATOR_BARRIER, 0, 0, place);
}

static inline float simd_sum(float v, EMULATOR_PLACE)
{
    return bits_float(emulator_meet(EMULATOR_SUM, float_bits(v), 0, place));
}

static inline float simd_max(float v, EMULATOR_PLACE)
{
    return bits_float(emulator_meet(EMULATOR_MAX, float_bits(v), 0, place));
}

static inline float simd_xor(float v, int mask, EMULATOR_PLACE)
{
    return bits_float(emulator_meet(EMULATOR_XOR, float_bits(v), mask, place));
}

static inline int simd_xor(int v, int mask, EMULATOR_PLACE)
{
    return (int)emulator_meet(EMULATOR_XOR, (uint)v, mask, place);
}

static inline uint simd_xor(uint v, int mask, EMULATOR_PLACE)
{
    return emulator_meet(EMULATOR_XOR, v, mask, place);
}

static inline float simd_broadcast(float v, int lane, EMULATOR_PLACE)
{
    return bits_float(emulator_meet(EMULATOR_BROADCAST, float_bits(v), lane, place));
}

static inline int simd_broadcast(int v, int lane, EMULATOR_PLACE)
{
    return (int)emulator_meet(EMULATOR_BROADCAST, (uint)v, lane, place);
}

static inline uint simd_broadcast(uint v, int lane, EMULATOR_PLACE)
{
    return emulator_meet(EMULATOR_BROADCAST, v, lane, place);
}

#define DEPENDENCY_WAIT() emulator_dependency_wait()
#define DEPENDENCY_LAUNCH() emulator_dependency_launch()
#define DEPENDENCY_LAUNCH_EARLY() emulator_dependency_launch_early()

/* ---- arithmetic ---- */

static inline float k_exp(float x)
{
    return std::exp(x);
}

static inline float k_exp2(float x)
{
    return std::exp2(x);
}

static inline float k_log(float x)
{
    return std::log(x);
}

static inline float k_sqrt(float x)
{
    return std::sqrt(x);
}

static inline float k_rsqrt(float x)
{
    return 1.0f / std::sqrt(x);
}

static inline float k_sin(float x)
{
    return std::sin(x);
}

static inline float k_cos(float x)
{
    return std::cos(x);
}

/* Rounded once, as on a GPU: the instruction where the processor turns out to have it. */
static inline float k_fma(float a, float b, float c)
{
#if defined(__x86_64__) && !defined(__FMA__)
    if (__builtin_expect(emulator_fused, 1)) {
        __asm__("vfmadd213ss %2, %1, %0" : "+x"(a) : "x"(b), "x"(c));
        return a;
    }
#endif
    return __builtin_fmaf(a, b, c);
}

static inline float k_abs(float x)
{
    return std::fabs(x);
}

static inline float k_max(float a, float b)
{
    return a > b || b != b ? a : b;
}

static inline float k_min(float a, float b)
{
    return a < b || b != b ? a : b;
}

static inline float k_rint(float x)
{
    return std::nearbyint(x);
}

static inline int dot4(int a, int b, int c)
{
    for (int i = 0; i < 32; i += 8)
        c += (int)(signed char)((uint)a >> i) * (int)(signed char)((uint)b >> i);
    return c;
}

static inline float4 unpack4(int q)
{
    uint bits = (uint)q;
    return {(float)(signed char)bits, (float)(signed char)(bits >> 8), (float)(signed char)(bits >> 16),
            (float)(signed char)(bits >> 24)};
}

static inline uint mul_high(uint a, uint b)
{
    return (uint)((unsigned long long)a * b >> 32);
}

/* ---- matrix units: lane i holds 8 elements of row i / 2 ---- */

struct frag_half {
    float v[8];
    bool turned;
};

struct frag_float {
    float v[8];
};

static inline void frag_zero(frag_float &c)
{
    for (float &v : c.v)
        v = 0;
}

static inline void emulator_frag(frag_half &a, emulator_pointer<const half_t, true> p, int stride,
                                 bool turned)
{
    const struct emulator_ids ids = emulator_ids();
    p += ids.lane / 2 * (ptrdiff_t)stride + ids.lane % 2 * 8;
    emulator_check(p.of, p.p, sizeof a.v / 2, sizeof(half_t), false);
    for (int i = 0; i < 8; i++)
        a.v[i] = half_to_float(p.p[i]);
    a.turned = turned;
}

static inline void frag_load(frag_half &a, emulator_pointer<const half_t, true> p, int stride)
{
    emulator_frag(a, p, stride, false);
}

static inline void frag_load_t(frag_half &b, emulator_pointer<const half_t, true> p, int stride)
{
    emulator_frag(b, p, stride, true);
}

static inline void frag_mma(frag_float &c, const frag_half &a, const frag_half &b, EMULATOR_PLACE)
{
    emulator_mma(c.v, a.v, a.turned, b.v, b.turned, place);
}

static inline void frag_store(const frag_float &c, emulator_pointer<float, true> p, int stride)
{
    const struct emulator_ids ids = emulator_ids();
    p += ids.lane / 2 * (ptrdiff_t)stride + ids.lane % 2 * 8;
    emulator_check(p.of, p.p, sizeof c.v, sizeof(float), true);
    memcpy(p.p, c.v, sizeof c.v);
}

/* Read at once, written when it is waited for, so that a read too early shows. */
static inline void copy_async16(emulator_pointer<half_t, true> to, emulator_pointer<const half_t, false> from)
{
    emulator_cast<const uint4>(from).load();
    emulator_check(to.of, emulator_cast<uint4>(to).p, 16, sizeof(half_t), true);
    emulator_copy_async(to.p, from.p, to.of);
}

static inline void copy_async_commit()
{
    emulator_copy_commit();
}

static inline void copy_async_wait(int groups)
{
    emulator_copy_wait(groups);
}

/* ---- faults ---- */

#include "../faults.h"

#endif
