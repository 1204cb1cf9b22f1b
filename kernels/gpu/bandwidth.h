/* Reads memory and does nothing else: what decode can reach at most. */

static inline uint mix(uint4 v)
{
    return v.x ^ v.y ^ v.z ^ v.w;
}

/* `vectors` uint4, four at a time for each thread; the sum is written only where it is one that zeroes
 * cannot have, so that no load is left out. */
KERNEL(read_bandwidth, 256, gpu_bandwidth_args, BUF(0, const uint4, data), BUF(1, uint, sum))
{
    KERNEL_IDS;
    DEPENDENCY_WAIT();
    DEPENDENCY_LAUNCH();
    int step = args.groups * 256;
    uint bits = 0;
    int i = ids.group.x * 256 + ids.thread;
    for (; i + 3 * step < args.vectors; i += 4 * step) {
        uint4 a = load_once(data + i), b = load_once(data + (i + step));
        uint4 c = load_once(data + (i + 2 * step)), d = load_once(data + (i + 3 * step));
        bits |= mix(a) | mix(b) | mix(c) | mix(d);
    }
    for (; i < args.vectors; i += step)
        bits |= mix(load_once(data + i));
    if (bits != 0)
        sum[0] = bits;
}
