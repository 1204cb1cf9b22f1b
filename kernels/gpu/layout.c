/* GGUF rows to the layouts of layout.h. */
#include "layout.h"

#include <string.h>

static const struct {
    enum dtype dtype;
    bool split;
} layouts[GPU_WEIGHT_COUNT] = {
#define GPU_WEIGHT(name, dtype, split) {DTYPE_##dtype, split},
#include "weights.def"
#undef GPU_WEIGHT
};

#define BLOCK 32      /* columns of one scale, in every split layout */
#define SCALE_BYTES 2

enum gpu_weight layout_choose(enum dtype dtype, bool unified)
{
    int chosen = GPU_WEIGHT_COUNT;
    for (int i = 0; i < GPU_WEIGHT_COUNT; i++)
        if (layouts[i].dtype == dtype && (chosen == GPU_WEIGHT_COUNT || (layouts[i].split && !unified)))
            chosen = i;
    REQUIRE(chosen < GPU_WEIGHT_COUNT);
    return (enum gpu_weight)chosen;
}

static size_t row_bytes(enum gpu_weight w, size_t columns)
{
    return columns / dtype_block(layouts[w].dtype) * dtype_block_bytes(layouts[w].dtype);
}

size_t layout_bytes(enum gpu_weight w, size_t rows, size_t columns)
{
    return rows * row_bytes(w, columns); /* planes hold what the blocks held */
}

int layout_planes(enum gpu_weight w)
{
    return layouts[w].split ? 2 : 1;
}

struct layout_piece layout_piece(enum gpu_weight w, int plane, size_t rows, size_t columns, size_t first, size_t n)
{
    size_t row = row_bytes(w, columns);
    if (!layouts[w].split)
        return (struct layout_piece){first * row, n * row};
    size_t scales = columns / BLOCK * SCALE_BYTES, quants = row - scales;
    if (plane == 0)
        return (struct layout_piece){first * quants, n * quants};
    return (struct layout_piece){rows * quants + first * scales, n * scales};
}

/* One row of the quants. */
static uint8_t *put_quants(const uint8_t *block, size_t blocks, size_t bytes, uint8_t *out)
{
    for (size_t half = 0; half < bytes / 16; half++)
        for (size_t b = 0; b < blocks; b++, out += 16)
            memcpy(out, block + b * (SCALE_BYTES + bytes) + SCALE_BYTES + 16 * half, 16);
    return out;
}

void layout_convert(enum gpu_weight w, int plane, const void *gguf, size_t columns, size_t first, size_t n, void *out)
{
    size_t row = row_bytes(w, columns), block_bytes = dtype_block_bytes(layouts[w].dtype);
    const uint8_t *from = (const uint8_t *)gguf + first * row;
    uint8_t *to = out;
    if (!layouts[w].split) {
        memcpy(out, from, n * row);
        return;
    }
    for (size_t r = 0; r < n; r++, from += row) {
        if (plane == 0) {
            to = put_quants(from, columns / BLOCK, block_bytes - SCALE_BYTES, to);
            continue;
        }
        for (size_t b = 0; b < columns / BLOCK; b++, to += SCALE_BYTES)
            memcpy(to, from + b * block_bytes, SCALE_BYTES);
    }
}
