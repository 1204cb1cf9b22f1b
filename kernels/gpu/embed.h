/* Token ids to rows of the embedding table. */
#ifndef HEARTH_GPU_EMBED_H
#define HEARTH_GPU_EMBED_H

#include "compat.h"
#include "weight_k.h"

/* Every thread makes one unit of a row. */
TYPED_KERNEL(embed, 256, struct embed_args, BUF(0, const int, token), BUF(1, const int, sampled),
             BUF(2, const unsigned char, table), BUF(3, float, x))
{
    KERNEL_IDS;
    int row = ids.group.y, unit = ids.group.x * 256 + ids.thread;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    if (32 * unit >= args.width)
        return;
    int id = load_fresh(token + row);
    if (id < 0)
        id = load_fresh(sampled + (-1 - id));
    id = id < 0 || id >= args.vocab ? 0 : id; /* a step that failed leaves -1: it must not lead astray */
    struct weight_matrix m;
    m.data = table;
    m.rows = args.vocab;
    m.columns = args.width;
    weight_reader reader;
    reader.load(m, id, unit);
    GLOBAL(float) to = x + ((long)row * args.width + 32 * unit);
    int n = args.width - 32 * unit;
    UNROLL for (int h = 0; h < 2; h++) {
        struct values v = weight_values(reader.expand(h));
        UNROLL for (int i = 0; i < 16; i++)
            if (16 * h + i < n)
                to[16 * h + i] = v.v[i];
    }
}

#endif
