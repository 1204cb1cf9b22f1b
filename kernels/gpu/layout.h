/* Weight layouts on a GPU, host side: which one a weight gets, and its making.
 *
 * A split layout keeps quants and scales apart, so that the lanes of a simd group read 16 aligned bytes
 * each, side by side:
 *   Q8_0_split  quants [rows][2][columns / 32][16]: the first halves of a row's blocks, then the second ones;
 *               scales f16 [rows][columns / 32]
 *   Q4_0_split  nibbles [rows][columns / 32][16] as in the file; scales f16 [rows][columns / 32]
 * Both planes are in row order, so a run of rows is a run of bytes in each: layout_piece names it. */
#ifndef HEARTH_LAYOUT_H
#define HEARTH_LAYOUT_H

#include "gpu.h"

/* The layout for weights of that type: raw where they are used in place (`unified`). */
enum gpu_weight layout_choose(enum dtype, bool unified);

/* Bytes of a whole weight. */
size_t layout_bytes(enum gpu_weight, size_t rows, size_t columns);

/* Planes of the layout: 1 for a raw one. */
int layout_planes(enum gpu_weight);

/* Where rows [first, first + n) of a plane lie in the weight. */
struct layout_piece {
    size_t offset, bytes;
};
struct layout_piece layout_piece(enum gpu_weight, int plane, size_t rows, size_t columns, size_t first, size_t n);

/* Makes that piece at `out` from the GGUF data of the whole weight. */
void layout_convert(enum gpu_weight, int plane, const void *gguf, size_t columns, size_t first, size_t n, void *out);

#endif
