/* Rotary positions: the angles of a step's rows once for all layers, and the kernel that turns Q and K and
 * appends K and V to the cache. */
#ifndef HEARTH_GPU_ROPE_H
#define HEARTH_GPU_ROPE_H

#include "compat.h"
#include "gpu_args.h"
#include "norm.h"

#define ROPE_THREADS 256

/* The angle is position * (high + low); position * high is split exactly into p + d, so that only the
 * small rest is rounded. */
KERNEL(rope_table, 256, gpu_rope_table_args, BUF(0, const int, position), BUF(1, const float, frequency),
       BUF(2, float2, cs))
{
    KERNEL_IDS;
    long i = (long)ids.group.x * ROPE_THREADS + ids.thread;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    if (i < (long)args.rows * args.pairs) {
        int pair = (int)(i % args.pairs);
        float at = (float)load_fresh(position + i / args.pairs);
        float high = load_fresh(frequency + 2 * pair), low = load_fresh(frequency + 2 * pair + 1);
        float p = at * high, d = k_fma(at, high, -p) + at * low;
        float c = k_cos(p), s = k_sin(p);
        cs[i] = make_float2((c - d * s) * args.magnitude, (s + d * c) * args.magnitude);
    }
}

/* One group per row. Each pair, and each element that is only copied, belongs to one thread. */
KERNEL(rope_kv, 256, rope_kv_args, BUF(0, float, qkv), BUF(1, const int, slot), BUF(2, const float2, cs),
       BUF(3, half_t, kv))
{
    KERNEL_IDS;
    int dim = args.head_dim, half_dim = args.rope_dim / 2, row = ids.group.x, tokens = args.block_tokens;
    int heads = args.n_heads, kv_heads = args.n_kv_heads, rest = dim - args.rope_dim;
    GLOBAL(float) x = qkv + (long)row * (heads + 2 * kv_heads) * dim;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    int at = load_fresh(slot + row);
    /* Head h of K; h + kv_heads of V. */
    GLOBAL(half_t) cache = kv + ((long)(at / tokens) * 2 * kv_heads * tokens + at % tokens) * dim;
    long head_stride = (long)tokens * dim;

    for (int i = ids.thread; i < (heads + kv_heads) * half_dim; i += ROPE_THREADS) {
        int head = i / half_dim, pair = i % half_dim;
        int a = args.style == ROPE_HALVES ? pair : 2 * pair;
        int b = args.style == ROPE_HALVES ? pair + half_dim : a + 1;
        float2 t = load_fresh(cs + (long)row * half_dim + pair);
        float u = load_fresh(x + head * dim + a), v = load_fresh(x + head * dim + b);
        float turned_u = u * t.x - v * t.y, turned_v = u * t.y + v * t.x;
        x[head * dim + a] = turned_u;
        x[head * dim + b] = turned_v;
        if (head >= heads) {
            cache[(head - heads) * head_stride + a] = saturated_half(turned_u);
            cache[(head - heads) * head_stride + b] = saturated_half(turned_v);
        }
    }
    for (int i = ids.thread; i < kv_heads * rest; i += ROPE_THREADS) {
        int head = i / rest, e = args.rope_dim + i % rest;
        cache[head * head_stride + e] = saturated_half(load_fresh(x + (heads + head) * dim + e));
    }
    for (int i = ids.thread; i < kv_heads * dim; i += ROPE_THREADS) {
        int head = i / dim + kv_heads, e = i % dim;
        cache[head * head_stride + e] = saturated_half(load_fresh(x + (heads + head) * dim + e));
    }
}

#endif
