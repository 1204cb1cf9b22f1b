/* Integer kernels for Intel AMX: panels are multiplied as tiles, all else is as for AVX-512 VNNI.
 *
 * The tiles of a block, or of half a block where that has scales of its own: T activation rows, the
 * weights of 16 outputs, and the T x 16 products, which are added to the sums by the float operations of
 * the AVX-512 VNNI kernels in their order. Results are the same bits. */
#include "amx.h"
#include "dot_avx512.h"

extern const struct dot_kernels SHARED(dot_kernels);

/* Tiles of the first and the second half. */
#define PRODUCTS_0 0
#define PRODUCTS_1 1
#define ROWS_0 2
#define ROWS_1 3
#define WEIGHTS_0 4
#define WEIGHTS_1 5

/* What this thread's tiles are laid out for: rows * 2 + sub-blocks, or 0. */
static _Thread_local int layout;

INLINE void lay_out(const struct packing k, const int T)
{
    if (layout == 2 * T + k.subs)
        return;
    struct tile_config config = {.palette = 1};
    for (int i = 0; i < k.subs; i++) {
        config.rows[PRODUCTS_0 + i] = config.rows[ROWS_0 + i] = (uint8_t)T;
        config.rows[WEIGHTS_0 + i] = (uint8_t)(8 / k.subs);
        config.row_bytes[PRODUCTS_0 + i] = config.row_bytes[WEIGHTS_0 + i] = 64;
        config.row_bytes[ROWS_0 + i] = (uint16_t)(BLOCK / k.subs);
    }
    tile_configure(&config);
    layout = 2 * T + k.subs;
}

/* Multiplies a block. */
INLINE void multiply(const struct packing k, const uint8_t *q, const uint8_t *w, int32_t product[2][16][16])
{
    tile_zero(PRODUCTS_0);
    tile_load(ROWS_0, q, BLOCK);
    tile_load(WEIGHTS_0, w, 64);
    tile_dot(PRODUCTS_0, ROWS_0, WEIGHTS_0);
    if (k.subs == 2) {
        tile_zero(PRODUCTS_1);
        tile_load(ROWS_1, q + BLOCK / 2, BLOCK);
        tile_load(WEIGHTS_1, w + 256, 64);
        tile_dot(PRODUCTS_1, ROWS_1, WEIGHTS_1);
    }
    tile_store(PRODUCTS_0, product[0], 64);
    if (k.subs == 2)
        tile_store(PRODUCTS_1, product[1], 64);
}

INLINE __m512 spread_float(const void *p)
{
    return _mm512_castsi512_ps(_mm512_set1_epi32(load_word(p)));
}

/* Adds sub-block i to f. */
INLINE void add_products(const struct packing k, const int T, const int i, int32_t product[16][16],
                         const float *scale, const float *minimum, const uint8_t *q, const uint32_t *extra,
                         __m512 *f)
{
    __m512 d = _mm512_load_ps(scale + 16 * i), m = d;
    if (k.minimum)
        m = _mm512_load_ps(minimum + 16 * i);
    UNROLL
    for (int t = 0; t < T; t++) {
        __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(product[t])), d);
        f[t] = _mm512_fmadd_ps(scaled, spread_float(q + 32 * T + 4 * t), f[t]);
        if (k.minimum)
            f[t] = _mm512_fmadd_ps(m, spread_float(extra + (k.subs + i) * T + t), f[t]);
    }
}

/* The tiles of a block are multiplied while the products of the one before are added. */
INLINE void dot_unpacked(const struct packing k, const int T, const int N, const struct dot *a)
{
    (void)N; /* 1 */
    _Alignas(64) int32_t product[2][2][16][16];
    __m512 f[GROUP_MAX];
    UNROLL
    for (int t = 0; t < T; t++)
        f[t] = a->first ? _mm512_setzero_ps() : _mm512_loadu_ps(a->sum + 16 * t);
    const uint8_t *w = a->weights, *q = a->q;
    const float *scale = a->scale, *minimum = a->minimum;
    const uint32_t *extra = a->extra;
    lay_out(k, T);
    multiply(k, q, w, product[0]);
    for (int b = 0; b < a->blocks; b++) {
        w += 512;
        if (b + 1 < a->blocks)
            multiply(k, q + ACTIVATION_BYTES * T, w, product[(b + 1) % 2]);
        UNROLL
        for (int i = 0; i < k.subs; i++)
            add_products(k, T, i, product[b % 2][i], scale, minimum, q, extra, f);
        q += ACTIVATION_BYTES * T;
        extra += extra_words(&k) * T;
        scale += 16 * k.subs;
        minimum += 16 * k.subs;
    }
    UNROLL
    for (int t = 0; t < T; t++)
        _mm512_storeu_ps(a->sum + 16 * t, f[t]);
}

/* Tiles have signed bytes: the offset goes here. */
INLINE void unpack_blocks(const struct packing k, const uint8_t *p, int blocks, const struct panel *out)
{
    unpack_panel(k, k.offset, p, blocks, out);
}

static void direct_tile(enum dtype dtype, int rows, const struct dot *a)
{
    SHARED(dot_kernels).direct_tile(dtype, rows, a);
}

static void leave(void)
{
    if (layout)
        tile_release();
    layout = 0;
}

/* More than 8 rows come in groups of at least 8. */
#define PANEL_SHAPES(X, ...) \
    X(8, 1, __VA_ARGS__) X(9, 1, __VA_ARGS__) X(10, 1, __VA_ARGS__) \
    X(11, 1, __VA_ARGS__) X(12, 1, __VA_ARGS__) X(13, 1, __VA_ARGS__) \
    X(14, 1, __VA_ARGS__) X(15, 1, __VA_ARGS__) X(16, 1, __VA_ARGS__)
#include "dot_tables.h"

const struct dot_kernels NAME(dot_kernels) = {
    .panels = 9, .direct = 8, .group = GROUP_MAX, .tiles = 1, .panel_block = 512, .run = BLOCK, .wide = false,
    .direct_tile = direct_tile, .unpack = unpack, .panel_tiles = panel_tiles, .leave = leave,
};
