/* What the integer kernels of every instruction set have in common: each includes this, defines
 * dot_packed, dot_unpacked and unpack_blocks over a constant `struct packing`, and from those
 * dot_tables.h makes one function per type and number of rows. */
#ifndef HEARTH_CPU_DOT_H
#define HEARTH_CPU_DOT_H

#include <string.h>

#include "isa.h"

#define PREFETCH 2048 /* bytes ahead of what is being read of a packed weight */

INLINE int load_word(const void *p)
{
    int v;
    memcpy(&v, p, 4);
    return v;
}

INLINE int dot_header_bytes(const struct packing k)
{
    return k.super == 1 ? 0 : 2 * TILE * (1 + k.minimum);
}

INLINE int dot_block_bytes(const struct packing k)
{
    return k.bits * 64 + (k.super == 1 ? 2 * TILE * (1 + k.minimum)
                                       : TILE * k.subs * (k.bits == 2 ? 1 : 1 + k.minimum));
}

#endif
