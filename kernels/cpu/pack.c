/* Repacks GGUF rows into tiles of 16 interleaved rows (cpu.h has the layout), and decodes single
 * rows of such tiles. Plain C: one packed layout serves every instruction set. Packing is most of the time
 * that a model takes to load, so each type has a function of its own, made from what they share. */
#include <string.h>

#include "cpu.h"

#define INLINE static inline __attribute__((always_inline))

const struct packing packings[DTYPE_COUNT] = {
#define ENTRY(name, ...) [DTYPE_##name] = {__VA_ARGS__},
    PACKING_LIST(ENTRY)
#undef ENTRY
};

const uint8_t iq4_table[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

/* One row's super-block taken apart: values, and scales as the packed form keeps them. */
struct parts {
    uint8_t u[8][BLOCK];
    uint16_t d, m;               /* f16; of K types the factors, otherwise of the block */
    uint8_t scale[16], least[16]; /* 8-bit factors per sub-block; scale is signed where the type's is */
};

INLINE uint16_t load16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

INLINE void split_nibbles(const uint8_t *q, uint8_t *u)
{
    for (int i = 0; i < 16; i++) {
        u[i] = q[i] & 15;
        u[i + 16] = q[i] >> 4;
    }
}

INLINE void take_32(enum dtype dtype, const uint8_t *p, struct parts *s)
{
    const struct packing *k = &packings[dtype];
    s->d = load16(p);
    p += 2;
    if (k->minimum) {
        s->m = load16(p);
        p += 2;
    }
    if (k->bits == 8) {
        for (int i = 0; i < BLOCK; i++)
            s->u[0][i] = p[i] ^ 128;
        return;
    }
    uint32_t high = 0, w[8];
    if (k->bits == 5) {
        memcpy(&high, p, 4);
        p += 4;
    }
    split_nibbles(p, s->u[0]);
    if (k->bits == 5) {
        memcpy(w, s->u[0], BLOCK);
        for (int j = 0; j < 8; j++) /* the product has bit c of four at the lowest of byte c */
            w[j] |= ((high >> 4 * j & 15) * 0x204081 & 0x01010101) << 4;
        memcpy(s->u[0], w, BLOCK);
    }
}

static void take_q2_k(const uint8_t *p, struct parts *s)
{
    const uint8_t *q = p + 16;
    s->d = load16(p + 80);
    s->m = load16(p + 82) ^ 0x8000;
    for (int j = 0; j < 16; j++)
        s->scale[j] = p[j];
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < BLOCK; i++)
            s->u[j][i] = q[j / 4 * 32 + i] >> 2 * (j % 4) & 3;
}

static void take_q3_k(const uint8_t *p, struct parts *s)
{
    const uint8_t *q = p + 32, *scales = p + 96;
    s->d = load16(p + 108);
    for (int j = 0; j < 16; j++) {
        int low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4;
        s->scale[j] = (uint8_t)((low | (scales[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32);
    }
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < BLOCK; i++)
            s->u[j][i] = (uint8_t)((q[j / 4 * 32 + i] >> 2 * (j % 4) & 3) | (p[i] >> j & 1) << 2);
}

INLINE void take_q45_k(const uint8_t *p, bool five, struct parts *s)
{
    const uint8_t *scales = p + 4, *high = p + 16, *q = five ? p + 48 : p + 16;
    s->d = load16(p);
    s->m = load16(p + 2) ^ 0x8000;
    for (int j = 0; j < 4; j++) {
        s->scale[j] = scales[j] & 63;
        s->least[j] = scales[j + 4] & 63;
        s->scale[j + 4] = (uint8_t)((scales[j + 8] & 15) | scales[j] >> 6 << 4);
        s->least[j + 4] = (uint8_t)(scales[j + 8] >> 4 | scales[j + 4] >> 6 << 4);
    }
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < BLOCK; i++) {
            s->u[2 * j][i] = q[32 * j + i] & 15;
            s->u[2 * j + 1][i] = q[32 * j + i] >> 4;
        }
    if (five)
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < BLOCK; i++)
                s->u[j][i] |= (uint8_t)((high[i] >> j & 1) << 4);
}

static void take_q6_k(const uint8_t *p, struct parts *s)
{
    const uint8_t *high = p + 128;
    s->d = load16(p + 208);
    memcpy(s->scale, p + 192, 16);
    for (int j = 0; j < 8; j++) {
        const uint8_t *low = p + j / 4 * 64 + (j & 1) * 32;
        for (int i = 0; i < BLOCK; i++)
            s->u[j][i] = (uint8_t)((low[i] >> (j % 4 < 2 ? 0 : 4) & 15) |
                                   (high[j / 4 * 32 + i] >> 2 * (j % 4) & 3) << 4);
    }
}

static void take_iq4_xs(const uint8_t *p, struct parts *s)
{
    uint16_t high = load16(p + 2);
    s->d = load16(p);
    for (int j = 0; j < 8; j++) {
        s->scale[j] = (uint8_t)(((p[4 + j / 2] >> 4 * (j & 1) & 15) | (high >> 2 * j & 3) << 4) - 32);
        split_nibbles(p + 8 + 16 * j, s->u[j]);
    }
}

INLINE void take(enum dtype dtype, const uint8_t *p, struct parts *s)
{
    switch (dtype) {
    case DTYPE_Q2_K: take_q2_k(p, s); break;
    case DTYPE_Q3_K: take_q3_k(p, s); break;
    case DTYPE_Q4_K: take_q45_k(p, false, s); break;
    case DTYPE_Q5_K: take_q45_k(p, true, s); break;
    case DTYPE_Q6_K: take_q6_k(p, s); break;
    case DTYPE_IQ4_XS: take_iq4_xs(p, s); break;
    default: take_32(dtype, p, s); break;
    }
}

INLINE size_t block_bytes(const struct packing *k)
{
    if (k->super == 1)
        return (size_t)(k->bits * 64 + 2 * TILE * (1 + k->minimum));
    int bytes = k->bits == 2 ? 1 : 1 + k->minimum; /* Q2_K: scale and minimum in one byte */
    return (size_t)(k->bits * 64 + TILE * k->subs * bytes);
}

INLINE size_t header_bytes(const struct packing *k)
{
    return k->super == 1 ? 0 : (size_t)(2 * TILE * (1 + k->minimum));
}

size_t packed_super_bytes(const struct packing *k)
{
    return header_bytes(k) + (size_t)k->super * block_bytes(k);
}

/* Lays out 32 values of a row: each group of 4 columns is a word of 4 bytes. */
INLINE void place_values(const struct packing *k, const uint8_t *u, int row, uint8_t *out)
{
    uint32_t w[8], *o = (uint32_t *)(void *)out + row;
    memcpy(w, u, BLOCK);
    if (k->bits == 8) {
        for (int j = 0; j < 8; j++)
            o[j * TILE] = w[j];
        return;
    }
    if (k->bits >= 4) {
        for (int j = 0; j < 4; j++)
            o[j * TILE] = (w[j] & 0x0f0f0f0f) | (w[j + 4] & 0x0f0f0f0f) << 4;
        o += 4 * TILE;
    }
    int shift = k->bits >= 4 ? 4 : 0;
    if (k->bits == 6 || k->bits < 4) {
        for (int c = 0; c < 2; c++) {
            uint32_t two = 0;
            for (int i = 0; i < 4; i++)
                two |= (w[4 * c + i] >> shift & 0x03030303) << 2 * i;
            o[c * TILE] = two;
        }
        o += 2 * TILE;
        shift += 2;
    }
    if (k->bits & 1) {
        uint32_t one = 0;
        for (int j = 0; j < 8; j++)
            one |= (w[j] >> shift & 0x01010101) << j;
        *o = one;
    }
}

INLINE void place(const struct packing *k, const struct parts *s, int row, uint8_t *out)
{
    if (k->super > 1) {
        memcpy(out + 2 * row, &s->d, 2);
        if (k->minimum)
            memcpy(out + 2 * TILE + 2 * row, &s->m, 2);
    }
    out += header_bytes(k);
    for (int j = 0; j < k->super; j++, out += block_bytes(k)) {
        place_values(k, s->u[j], row, out);
        uint8_t *scales = out + k->bits * 64;
        if (k->super == 1) {
            memcpy(scales + 2 * row, &s->d, 2);
            if (k->minimum)
                memcpy(scales + 2 * TILE + 2 * row, &s->m, 2);
            continue;
        }
        for (int i = 0; i < k->subs; i++) {
            scales[i * TILE + row] = s->scale[j * k->subs + i];
            if (k->minimum && k->bits != 2)
                scales[(k->subs + i) * TILE + row] = s->least[j * k->subs + i];
        }
    }
}

static void pack_float(const struct packed *w, const uint8_t *data, size_t tile)
{
    size_t size = dtype_block_bytes(w->dtype);
    uint8_t *out = w->data + tile * w->tile_bytes;
    for (size_t r = 0; r < TILE; r++) {
        bool there = tile * TILE + r < w->rows;
        const uint8_t *in = data + (tile * TILE + r) * w->columns * size;
        for (size_t c = 0; c < w->columns; c++) {
            uint8_t *o = out + (c * TILE + r) * size;
            if (!there)
                memset(o, 0, size);
            else if (size == 2)
                memcpy(o, in + c * 2, 2);
            else
                memcpy(o, in + c * 4, 4);
        }
    }
}

INLINE void pack_quantised(enum dtype dtype, const struct packed *w, const uint8_t *data, size_t tile)
{
    const struct packing *k = &packings[dtype];
    size_t supers = w->columns / (size_t)(BLOCK * k->super), in_bytes = dtype_block_bytes(dtype);
    size_t left = w->rows - tile * TILE, rows = left < TILE ? left : TILE;
    uint8_t *out = w->data + tile * w->tile_bytes;
    struct parts s = {0};
    if (rows < TILE)
        memset(out, 0, w->tile_bytes);
    for (size_t b = 0; b < supers; b++, out += packed_super_bytes(k))
        for (size_t r = 0; r < rows; r++) {
            take(dtype, data + ((tile * TILE + r) * supers + b) * in_bytes, &s);
            place(k, &s, (int)r, out);
        }
}

#define PACK_FUNCTION(name, ...)                                                        \
    static void pack_##name(const struct packed *w, const uint8_t *data, size_t tile)   \
    {                                                                                   \
        pack_quantised(DTYPE_##name, w, data, tile);                                    \
    }
PACKING_LIST(PACK_FUNCTION)
#undef PACK_FUNCTION

void pack_tiles(const struct packed *w, const uint8_t *data, size_t first, size_t last)
{
#define ENTRY(name, ...) [DTYPE_##name] = pack_##name,
    static void (*const functions[DTYPE_COUNT])(const struct packed *, const uint8_t *, size_t) = {
        PACKING_LIST(ENTRY)};
#undef ENTRY
    for (size_t t = first; t < last; t++)
        (functions[w->dtype] ? functions[w->dtype] : pack_float)(w, data, t);
}

/* The unsigned value of column c of a block. */
static int value_at(const struct packing *k, const uint8_t *block, int row, int c)
{
    int j = c / 4, at = row * 4 + c % 4, u = 0, shift = 0;
    if (k->bits == 8)
        return block[j * 64 + at];
    if (k->bits >= 4) {
        u = block[j % 4 * 64 + at] >> (j < 4 ? 0 : 4) & 15;
        block += 256;
        shift = 4;
    }
    if (k->bits == 6 || k->bits < 4) {
        u |= (block[j / 4 * 64 + at] >> 2 * (j % 4) & 3) << shift;
        block += 128;
        shift += 2;
    }
    if (k->bits & 1)
        u |= (block[at] >> j & 1) << shift;
    return k->table ? iq4_table[u] : u;
}

static void block_row(const struct packing *k, const uint8_t *header, const uint8_t *block, int row,
                      float *out)
{
    const uint8_t *scales = block + k->bits * 64;
    int width = BLOCK / k->subs;
    for (int i = 0; i < k->subs; i++) {
        float scale, least = 0;
        int offset = k->minimum ? 0 : k->offset;
        if (k->super == 1) {
            scale = f16_to_f32(load16(scales + 2 * row));
            if (k->minimum)
                least = f16_to_f32(load16(scales + 2 * TILE + 2 * row));
        } else {
            int8_t factor = (int8_t)scales[i * TILE + row];
            int nibbles = scales[i * TILE + row];
            scale = f16_to_f32(load16(header + 2 * row)) * (float)(k->bits == 2 ? nibbles & 15 : factor);
            if (k->minimum)
                least = f16_to_f32(load16(header + 2 * TILE + 2 * row)) *
                        (float)(k->bits == 2 ? nibbles >> 4 : scales[(k->subs + i) * TILE + row]);
        }
        for (int c = i * width; c < (i + 1) * width; c++)
            out[c] = scale * (float)(value_at(k, block, row, c) - offset) + least;
    }
}

void packed_row(const struct packed *w, size_t row, float *out)
{
    if (w->raw) {
        size_t bytes = w->columns / dtype_block(w->dtype) * dtype_block_bytes(w->dtype);
        dtype_to_f32(w->dtype, w->raw + row * bytes, w->columns, out);
        return;
    }
    const struct packing *k = &packings[w->dtype];
    const uint8_t *p = w->data + row / TILE * w->tile_bytes;
    size_t r = row % TILE;
    if (!k->bits) {
        size_t size = dtype_block_bytes(w->dtype);
        for (size_t c = 0; c < w->columns; c++)
            dtype_to_f32(w->dtype, p + (c * TILE + r) * size, 1, out + c);
        return;
    }
    size_t step = packed_super_bytes(k), columns = (size_t)(BLOCK * k->super);
    for (size_t c = 0; c < w->columns; c += columns, p += step)
        for (int j = 0; j < k->super; j++)
            block_row(k, p, p + header_bytes(k) + (size_t)j * block_bytes(k), (int)r,
                      out + c + (size_t)j * BLOCK);
}
