/* Integer kernels for AVX2: two vectors of 8 weight rows by 4 columns.
 *
 * Weights of up to 6 bits: products of a block add up in 16 bits, wrapping. Accumulators start at
 * -offset * (sums of the activations), and with that the true sums fit: at most 16 products of
 * 16 * 127, or 8 of 32 * 127 where a block has two scales. Widening multiplies by the
 * activation's scale. 8-bit weights are widened to 16 bits first (16 times 127 would not do).
 *
 * One or two rows unpack weights in registers, as fast as memory delivers them. More rows unpack a
 * block to the stack and multiply it from there by 3 to 6 rows at a time: every broadcast of an
 * activation then serves two vectors, and the processor unpacks the next block meanwhile.
 * The order of float operations of an output is the same in every kernel here. */
#include <immintrin.h>

#include "dot.h"

#define FEW_ROWS 2     /* are multiplied from registers */
#define PART_ROWS 6    /* of a panel or an unpacked block are multiplied together, at most */
#define FAR_AHEAD 8192 /* bytes from what is being read to what is fetched into the second-level cache */

INLINE bool is_wide(const struct packing k)
{
    return k.bits == 8 || k.table;
}

INLINE __m256i shift_left(__m256i v, int by)
{
    return by >= 0 ? _mm256_slli_epi16(v, by) : _mm256_srli_epi16(v, -by);
}

INLINE __m256i load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Group j of 4 columns, rows 8h to 8h + 7, of a packed block. */
INLINE __m256i group_values(const struct packing k, const int h, const int j, const uint8_t *p)
{
    p += 32 * h;
    if (k.bits == 8)
        return load(p + 64 * j);
    __m256i w = _mm256_setzero_si256();
    int shift = 0;
    if (k.bits >= 4) {
        __m256i both = load(p + 64 * (j % 4));
        w = _mm256_and_si256(j < 4 ? both : _mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
        p += 256;
        shift = 4;
    }
    if (k.bits == 6 || k.bits < 4) {
        __m256i two = shift_left(load(p + 64 * (j / 4)), shift - 2 * (j % 4));
        w = _mm256_or_si256(w, _mm256_and_si256(two, _mm256_set1_epi8((char)(3 << shift))));
        p += 128;
        shift += 2;
    }
    if (k.bits & 1)
        w = _mm256_or_si256(
            w, _mm256_and_si256(shift_left(load(p), shift - j), _mm256_set1_epi8((char)(1 << shift))));
    if (k.table)
        w = _mm256_shuffle_epi8(
            _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)iq4_table)), w);
    return w;
}

INLINE __m256 load_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE __m256i load_8(const uint8_t *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

/* Scale (and minimum) of sub-block i, rows 8h to 8h + 7: p points behind the block's values. */
INLINE void half_scale(const struct packing k, const int h, const int i, const uint8_t *header,
                       const uint8_t *p, __m256 *d, __m256 *m)
{
    if (k.super == 1) {
        *d = load_f16(p + 16 * h);
        if (k.minimum)
            *m = load_f16(p + 32 + 16 * h);
    } else if (k.bits == 2) {
        __m256i both = load_8(p + 16 * i + 8 * h), low = _mm256_set1_epi32(15);
        *d = _mm256_mul_ps(load_f16(header + 16 * h), _mm256_cvtepi32_ps(_mm256_and_si256(both, low)));
        *m = _mm256_mul_ps(load_f16(header + 32 + 16 * h),
                           _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(both, 4), low)));
    } else {
        *d = _mm256_mul_ps(load_f16(header + 16 * h), _mm256_cvtepi32_ps(load_8(p + 16 * i + 8 * h)));
        if (k.minimum)
            *m = _mm256_mul_ps(load_f16(header + 32 + 16 * h),
                               _mm256_cvtepi32_ps(load_8(p + 16 * (k.subs + i) + 8 * h)));
    }
    if (k.minimum && k.offset)
        *m = _mm256_fmadd_ps(*d, _mm256_set1_ps((float)k.offset), *m);
}

/* Keeps the compiler from adding products in another order, which costs it all its registers. */
#define IN_ORDER(acc) __asm__ volatile("" : "+x"(acc))

INLINE __m256i broadcast(const void *p)
{
    return _mm256_set1_epi32(load_word(p));
}

/* Accumulators to floats that the weight's scale is missing from; q is at the block's scales. */
INLINE __m256 widen(__m256i acc, const uint8_t *pair)
{
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(acc, broadcast(pair)));
}

INLINE __m256 add_minimum(const struct packing k, const size_t T, int i, int t, __m256 m,
                          const uint32_t *extra, __m256 f)
{
    const uint32_t *sum = extra + (size_t)(k.subs + i) * T + t;
    return k.minimum ? _mm256_fmadd_ps(m, _mm256_castsi256_ps(broadcast(sum)), f) : f;
}

/* Sub-block i of weight rows 8h to 8h + 7 for T rows; p points at the block. */
INLINE void narrow_dot(const struct packing k, const int T, const int h, const int i, const uint8_t *header,
                       const uint8_t *p, const uint8_t *q, const uint32_t *extra, __m256 *f)
{
    const int first = i * 8 / k.subs, last = first + 8 / k.subs;
    __m256i acc[GROUP_MAX];
    UNROLL
    for (int t = 0; t < T; t++)
        acc[t] = broadcast(extra + i * T + t);
    UNROLL
    for (int j = first; j < last; j++) {
        __m256i w = group_values(k, h, j, p);
        UNROLL
        for (int t = 0; t < T; t++) {
            acc[t] = _mm256_add_epi16(acc[t], _mm256_maddubs_epi16(w, broadcast(q + (j * T + t) * 4)));
            IN_ORDER(acc[t]);
        }
    }
    __m256 d, m = _mm256_setzero_ps();
    half_scale(k, h, i, header, p + 64 * k.bits, &d, &m);
    UNROLL
    for (int t = 0; t < T; t++) {
        f[t] = _mm256_fmadd_ps(widen(acc[t], q + 36 * T + 4 * t), d, f[t]);
        f[t] = add_minimum(k, T, i, t, m, extra, f[t]);
    }
}

/* The same for 8-bit weights: columns 0 and 2, then 1 and 3, of each four, in 16 bits. */
INLINE void wide_dot(const struct packing k, const int T, const int h, const uint8_t *header,
                     const uint8_t *p, const uint8_t *q, const int16_t *wide, const uint32_t *extra,
                     __m256 *f)
{
    const __m256i low = _mm256_set1_epi16(255);
    __m256i acc[GROUP_MAX];
    UNROLL
    for (int t = 0; t < T; t++)
        acc[t] = broadcast(extra + t);
    UNROLL
    for (int j = 0; j < 8; j++) {
        __m256i w = group_values(k, h, j, p), even = _mm256_and_si256(w, low), odd = _mm256_srli_epi16(w, 8);
        UNROLL
        for (int t = 0; t < T; t++) {
            acc[t] = _mm256_add_epi32(acc[t], _mm256_madd_epi16(even, broadcast(wide + (2 * j * T + t) * 2)));
            IN_ORDER(acc[t]);
            acc[t] =
                _mm256_add_epi32(acc[t], _mm256_madd_epi16(odd, broadcast(wide + ((2 * j + 1) * T + t) * 2)));
            IN_ORDER(acc[t]);
        }
    }
    __m256 d, m;
    half_scale(k, h, 0, header, p + 64 * k.bits, &d, &m);
    UNROLL
    for (int t = 0; t < T; t++) {
        __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[t]), d);
        f[t] = _mm256_fmadd_ps(scaled, _mm256_castsi256_ps(broadcast(q + 32 * T + 4 * t)), f[t]);
    }
}

/* One row is done as fast as memory delivers: lines then come from far ahead, and to the second-level
 * cache, as the first level's might be gone before they are read. */
INLINE void fetch_ahead(const uint8_t *p, const int bytes, const bool far)
{
    UNROLL
    for (int i = 0; i < bytes; i += 64) {
        if (far)
            _mm_prefetch((const char *)p + FAR_AHEAD + i, _MM_HINT_T1);
        else
            _mm_prefetch((const char *)p + PREFETCH + i, _MM_HINT_T0);
    }
}

INLINE void dot_packed(const struct packing k, const int T, const struct dot *a)
{
    __m256 f[2][GROUP_MAX];
    UNROLL
    for (int t = 0; t < T; t++)
        UNROLL
        for (int h = 0; h < 2; h++)
            f[h][t] = a->first ? _mm256_setzero_ps() : _mm256_loadu_ps(a->sum + TILE * t + 8 * h);
    const uint8_t *p = a->weights, *q = a->q;
    const int16_t *wide = a->wide;
    const uint32_t *extra = a->extra;
    for (int b = 0; b < a->blocks; b += k.super) {
        const uint8_t *header = p;
        fetch_ahead(p, dot_header_bytes(k), T == 1);
        p += dot_header_bytes(k);
        for (int s = 0; s < k.super; s++) {
            fetch_ahead(p, dot_block_bytes(k), T == 1);
            UNROLL
            for (int h = 0; h < 2; h++) {
                if (is_wide(k)) {
                    wide_dot(k, T, h, header, p, q, wide, extra, f[h]);
                    continue;
                }
                UNROLL
                for (int i = 0; i < k.subs; i++)
                    narrow_dot(k, T, h, i, header, p, q, extra, f[h]);
            }
            p += dot_block_bytes(k);
            q += ACTIVATION_BYTES * T;
            wide = is_wide(k) ? wide + WIDE_ELEMENTS * T : NULL;
            extra += extra_words(&k) * T;
        }
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        _mm256_storeu_ps(a->sum + TILE * t, f[0][t]);
        _mm256_storeu_ps(a->sum + TILE * t + 8, f[1][t]);
    }
}

/* Panels: narrow [8 groups][16 rows][4]; wide [8 groups][columns 0 and 2, then 1 and 3][16][2] in
 * 16 bits. A block of one times n <= PART_ROWS rows of a group of T, from the row on that the
 * pointers stand at. Sums stay in memory, registers hold 2 by n accumulators. */
INLINE void panel_narrow(const struct packing k, const int n, const size_t T, const uint8_t *w,
                         const float *d, const float *m, const uint8_t *q, const uint32_t *extra, float *sum)
{
    UNROLL
    for (int i = 0; i < k.subs; i++) {
        const int first = i * 8 / k.subs, last = first + 8 / k.subs;
        __m256i acc[PART_ROWS][2];
        UNROLL
        for (int t = 0; t < n; t++)
            acc[t][0] = acc[t][1] = broadcast(extra + (size_t)i * T + t);
        UNROLL
        for (int j = first; j < last; j++) {
            __m256i low = load(w + 64 * j), high = load(w + 64 * j + 32);
            const uint8_t *row = q + 4 * T * (size_t)j;
            UNROLL
            for (int t = 0; t < n; t++) {
                __m256i a = broadcast(row + 4 * t);
                acc[t][0] = _mm256_add_epi16(acc[t][0], _mm256_maddubs_epi16(low, a));
                IN_ORDER(acc[t][0]);
                acc[t][1] = _mm256_add_epi16(acc[t][1], _mm256_maddubs_epi16(high, a));
                IN_ORDER(acc[t][1]);
            }
        }
        UNROLL
        for (int h = 0; h < 2; h++) {
            __m256 scale = _mm256_loadu_ps(d + TILE * i + 8 * h);
            __m256 least = k.minimum ? _mm256_loadu_ps(m + TILE * i + 8 * h) : scale;
            UNROLL
            for (int t = 0; t < n; t++) {
                float *s = sum + TILE * t + 8 * h;
                __m256 f = _mm256_fmadd_ps(widen(acc[t][h], q + 36 * T + 4 * t), scale, _mm256_loadu_ps(s));
                _mm256_storeu_ps(s, add_minimum(k, T, i, t, least, extra, f));
            }
        }
    }
}

INLINE void panel_wide(const int n, const size_t T, const uint8_t *w, const float *d, const uint8_t *q,
                       const int16_t *wide, const uint32_t *extra, float *sum)
{
    __m256i acc[PART_ROWS][2];
    UNROLL
    for (int t = 0; t < n; t++)
        acc[t][0] = acc[t][1] = broadcast(extra + t);
    UNROLL
    for (int j = 0; j < 16; j++) {
        __m256i low = load(w + 64 * j), high = load(w + 64 * j + 32);
        const int16_t *row = wide + 2 * T * (size_t)j;
        UNROLL
        for (int t = 0; t < n; t++) {
            __m256i a = broadcast(row + 2 * t);
            acc[t][0] = _mm256_add_epi32(acc[t][0], _mm256_madd_epi16(low, a));
            IN_ORDER(acc[t][0]);
            acc[t][1] = _mm256_add_epi32(acc[t][1], _mm256_madd_epi16(high, a));
            IN_ORDER(acc[t][1]);
        }
    }
    UNROLL
    for (int h = 0; h < 2; h++) {
        __m256 scale = _mm256_loadu_ps(d + 8 * h);
        UNROLL
        for (int t = 0; t < n; t++) {
            float *s = sum + TILE * t + 8 * h;
            __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[t][h]), scale);
            __m256 factor = _mm256_castsi256_ps(broadcast(q + 32 * T + 4 * t));
            _mm256_storeu_ps(s, _mm256_fmadd_ps(scaled, factor, _mm256_loadu_ps(s)));
        }
    }
}

INLINE void dot_unpacked(const struct packing k, const int T, const int N, const struct dot *a)
{
    (void)N;
    if (a->first)
        memset(a->sum, 0, (size_t)T * TILE * sizeof *a->sum);
    const uint8_t *w = a->weights, *q = a->q;
    const float *d = a->scale, *m = a->minimum;
    const uint32_t *extra = a->extra;
    const int16_t *wide = a->wide;
    for (int b = 0; b < a->blocks; b++) {
        if (is_wide(k)) {
            panel_wide(T, T, w, d, q, wide, extra, a->sum);
            wide += WIDE_ELEMENTS * T;
        } else {
            panel_narrow(k, T, T, w, d, m, q, extra, a->sum);
        }
        w += is_wide(k) ? 1024 : 512;
        d += TILE * k.subs;
        m += TILE * k.subs;
        q += ACTIVATION_BYTES * T;
        extra += extra_words(&k) * T;
    }
}

INLINE void unpack_half(const struct packing k, const int h, const uint8_t *p, uint8_t *out)
{
    UNROLL
    for (int j = 0; j < 8; j++) {
        __m256i w = group_values(k, h, j, p);
        if (is_wide(k)) {
            _mm256_store_si256((__m256i *)(void *)(out + 128 * j + 32 * h),
                               _mm256_and_si256(w, _mm256_set1_epi16(255)));
            _mm256_store_si256((__m256i *)(void *)(out + 128 * j + 64 + 32 * h), _mm256_srli_epi16(w, 8));
        } else {
            _mm256_store_si256((__m256i *)(void *)(out + 64 * j + 32 * h), w);
        }
    }
}

INLINE void unpack_block(const struct packing k, const uint8_t *header, const uint8_t *p, uint8_t *values,
                         float *scale, float *minimum)
{
    UNROLL
    for (int h = 0; h < 2; h++) {
        unpack_half(k, h, p, values);
        UNROLL
        for (int i = 0; i < k.subs; i++) {
            __m256 d, m = _mm256_setzero_ps();
            half_scale(k, h, i, header, p + 64 * k.bits, &d, &m);
            _mm256_store_ps(scale + TILE * i + 8 * h, d);
            if (k.minimum)
                _mm256_store_ps(minimum + TILE * i + 8 * h, m);
        }
    }
}

INLINE void unpack_blocks(const struct packing k, const uint8_t *p, int blocks, const struct panel *out)
{
    uint8_t *values = out->values;
    float *scale = out->scale, *minimum = out->minimum;
    for (int b = 0; b < blocks; b += k.super) {
        const uint8_t *header = p;
        fetch_ahead(p, dot_header_bytes(k), false);
        p += dot_header_bytes(k);
        for (int s = 0; s < k.super; s++) {
            fetch_ahead(p, dot_block_bytes(k), false);
            unpack_block(k, header, p, values, scale, minimum);
            values += is_wide(k) ? 1024 : 512;
            scale += TILE * k.subs;
            minimum += TILE * k.subs;
            p += dot_block_bytes(k);
        }
    }
}

/* clang-format off */
#define DIRECT_ROWS(X, ...) X(1, __VA_ARGS__) X(2, __VA_ARGS__)
#define PANEL_SHAPES(X, ...) \
    X(1, 1, __VA_ARGS__) X(2, 1, __VA_ARGS__) X(3, 1, __VA_ARGS__) \
    X(4, 1, __VA_ARGS__) X(5, 1, __VA_ARGS__) X(6, 1, __VA_ARGS__)
/* clang-format on */
#include "dot_tables.h"

/* A block of a tile, unpacked like a panel. */
struct block {
    uint8_t values[1024];
    float scale[2 * TILE], minimum[2 * TILE];
} __attribute__((aligned(64)));

typedef void part_function(const struct block *, size_t T, const uint8_t *q, const int16_t *wide,
                           const uint32_t *extra, float *sum);

/* clang-format off */
#define PART(n, name, ...) \
    static void part_##name##_##n(const struct block *b, size_t T, const uint8_t *q, const int16_t *wide, \
                                  const uint32_t *extra, float *sum) \
    { \
        const struct packing k = {__VA_ARGS__}; \
        if (is_wide(k)) \
            panel_wide(n, T, b->values, b->scale, q, wide, extra, sum); \
        else \
            panel_narrow(k, n, T, b->values, b->scale, b->minimum, q, extra, sum); \
    }
#define PARTS(name, ...) \
    PART(1, name, __VA_ARGS__) PART(2, name, __VA_ARGS__) PART(3, name, __VA_ARGS__) \
    PART(4, name, __VA_ARGS__) PART(5, name, __VA_ARGS__) PART(6, name, __VA_ARGS__)
PANEL_LIST(PARTS)
#define PARTS_ENTRY(name, ...) \
    {part_##name##_1, part_##name##_2, part_##name##_3, part_##name##_4, part_##name##_5, part_##name##_6},
static part_function *const part_functions[][PART_ROWS] = {PANEL_LIST(PARTS_ENTRY)};
/* clang-format on */

/* A tile times T rows, by way of unpacked blocks. */
INLINE void dot_unpacking(const struct packing k, int T, const struct dot *a)
{
    part_function *part[GROUP_MAX / PART_ROWS + 1];
    int start[GROUP_MAX / PART_ROWS + 1], parts = (T + PART_ROWS - 1) / PART_ROWS;
    for (int i = 0; i < parts; i++) {
        start[i] = group_start(T, parts, i);
        part[i] = part_functions[panel_kind(k)][group_start(T, parts, i + 1) - start[i] - 1];
    }
    if (a->first)
        memset(a->sum, 0, (size_t)T * TILE * sizeof *a->sum);
    const uint8_t *p = a->weights, *q = a->q;
    const int16_t *wide = a->wide;
    const uint32_t *extra = a->extra;
    struct block block;
    for (int b = 0; b < a->blocks; b += k.super) {
        const uint8_t *header = p;
        fetch_ahead(p, dot_header_bytes(k), false);
        p += dot_header_bytes(k);
        for (int s = 0; s < k.super; s++) {
            fetch_ahead(p, dot_block_bytes(k), false);
            unpack_block(k, header, p, block.values, block.scale, block.minimum);
            for (int i = 0; i < parts; i++) {
                int t = start[i];
                part[i](&block, (size_t)T, q + 4 * t, is_wide(k) ? wide + 2 * t : NULL, extra + t,
                        a->sum + TILE * t);
            }
            p += dot_block_bytes(k);
            q += ACTIVATION_BYTES * T;
            wide = is_wide(k) ? wide + WIDE_ELEMENTS * T : NULL;
            extra += extra_words(&k) * T;
        }
    }
}

#define UNPACKING_FUNCTION(name, ...) \
    static void unpacking_##name(int T, const struct dot *a) \
    { \
        dot_unpacking((struct packing){__VA_ARGS__}, T, a); \
    }
PACKING_LIST(UNPACKING_FUNCTION)

static void direct_rows(enum dtype dtype, int rows, const struct dot *a)
{
#define ENTRY(name, ...) [DTYPE_##name] = unpacking_##name,
    static void (*const functions[DTYPE_COUNT])(int, const struct dot *) = {PACKING_LIST(ENTRY)};
#undef ENTRY
    if (rows <= FEW_ROWS)
        direct_tile(dtype, rows, a);
    else
        functions[dtype](rows, a);
}

const struct dot_kernels NAME(dot_kernels) = {
    .panels = 49, .direct = GROUP_MAX, .group = PART_ROWS, .tiles = 1, .panel_block = 1024, .run = 4, .wide = true,
    .direct_tile = direct_rows, .unpack = unpack, .panel_tiles = panel_tiles,
};
