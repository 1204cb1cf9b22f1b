/* The KV cache in Q8_0, on the CPU device and the reference device. */
#include "cpu_fixture.h"

enum { HEADS = 6, KV_HEADS = 2, BLOCK_TOKENS = 16, BLOCKS = 48, ROWS = 530 };

static struct device *open_q8(const char *name, int threads, const char *isa)
{
    struct device *device = NULL;
    struct err err;
    int rc = device_open(&device,
                         &(struct device_options){
                             .name = name, .threads = threads, .isa = isa, .kv_type = DTYPE_Q8_0},
                         &err);
    if (rc == ERR_UNSUPPORTED)
        return NULL;
    cr_assert_eq(rc, 0, "%s", err.text);
    cr_assert_eq(device_info(device)->kv_type, DTYPE_Q8_0);
    return device;
}

/* Runs `body` with the reference device and one of each instruction set. */
static void with_each(int threads, void (*body)(struct device *reference, struct device *, const char *isa))
{
    struct device *reference = open_q8("reference", 2, NULL);
    for (size_t i = 0; i < sizeof isa_names / sizeof *isa_names; i++) {
        struct device *device = open_q8("cpu", threads, isa_names[i]);
        if (device)
            body(reference, device, isa_names[i]);
        device_close(device);
    }
    device_close(reference);
}

static size_t kv_count(int dim)
{
    return (size_t)(BLOCKS * 2 * KV_HEADS * BLOCK_TOKENS * dim);
}

/* Attention of rows [first, first + n) at positions of their own number. */
static float *attend(struct device *device, int dim, const float *q, const uint8_t *kv, int first, int n)
{
    int32_t position[ROWS], sequence[ROWS] = {0}, table[BLOCKS];
    struct attention_args args = {.rows = n,
                                  .n_heads = HEADS,
                                  .n_kv_heads = KV_HEADS,
                                  .head_dim = dim,
                                  .q_stride = HEADS * dim,
                                  .block_tokens = BLOCK_TOKENS,
                                  .table_stride = BLOCKS,
                                  .scale = 1.0f / sqrtf((float)dim),
                                  .context = BLOCKS * BLOCK_TOKENS};
    for (int i = 0; i < n; i++)
        position[i] = first + i;
    for (int i = 0; i < BLOCKS; i++)
        table[i] = i * 37 % BLOCKS;
    struct buffer *all[] = {
        new_buffer(device, DTYPE_F32, (size_t)(n * HEADS * dim), q + (size_t)(first * HEADS * dim)),
        new_buffer(device, DTYPE_I32, (size_t)n, position),
        new_buffer(device, DTYPE_I32, (size_t)n, sequence),
        new_buffer(device, DTYPE_I32, BLOCKS, table),
        new_buffer(device, DTYPE_Q8_0, kv_count(dim), kv),
        new_buffer(device, DTYPE_F32, (size_t)(n * HEADS * dim), NULL)};
    struct commands *c = commands_begin(device);
    device_attention(c, &args, all[0], all[1], all[2], all[3], all[4], all[5]);
    run_commands(c);
    float *out = read_floats(all[5]);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_free(all[i]);
    return out;
}

/* Against the reference, and a row alone against the row in a prompt. */
static void attention_is_right(struct device *reference, struct device *device, const char *isa)
{
    static const int dims[] = {64, 32, 96, 128}, chunks[] = {1, 2, 9, 500};
    for (int i = 0; i < 4; i++) {
        int dim = dims[i], width = HEADS * dim;
        float *q = random_floats((size_t)(ROWS * width)), *x = random_floats(kv_count(dim));
        uint8_t *kv = malloc(dtype_bytes(DTYPE_Q8_0, kv_count(dim)));
        cr_assert_eq(dtype_from_f32(DTYPE_Q8_0, x, kv_count(dim), kv), 0);
        float *all = attend(device, dim, q, kv, 0, ROWS), *want = attend(reference, dim, q, kv, 0, ROWS);
        for (int k = 0; k < ROWS * width; k++)
            cr_assert_lt(fabsf(all[k] - want[k]), 4e-4f, "%s, heads of %d: element %d is %g, not %g", isa,
                         dim, k, (double)all[k], (double)want[k]);
        int first = 13;
        for (int k = 0; k < 4; first += chunks[k++]) {
            float *some = attend(device, dim, q, kv, first, chunks[k]);
            const float *same = all + (size_t)(first * width);
            cr_assert(!memcmp(some, same, (size_t)(chunks[k] * width) * sizeof *some),
                      "%s, heads of %d: rows from %d on differ in a chunk of %d", isa, dim, first, chunks[k]);
            free(some);
        }
        free(q);
        free(x);
        free(kv);
        free(all);
        free(want);
    }
}

Test(cpu_kv, attention_with_bytes)
{
    with_each(1, attention_is_right);
    with_each(4, attention_is_right);
}

/* One row appended to an empty cache, then its block copied: the bytes of that cache, as f32. */
static float *append(struct device *device, const float *qkv)
{
    enum { dim = 64, block = 2 * KV_HEADS * BLOCK_TOKENS * dim };
    struct rope_kv_args args = {1, HEADS, KV_HEADS, dim, dim, 0, BLOCK_TOKENS, 1.0f};
    int32_t position = 77, slot = BLOCK_TOKENS + 3, pair[2] = {1, 2};
    float frequency[dim] = {1.0f, 0, 0.5f};
    uint8_t bytes[3 * block / 32 * 34];
    struct err err;
    struct buffer *all[] = {new_buffer(device, DTYPE_F32, (HEADS + 2 * KV_HEADS) * dim, qkv),
                            new_buffer(device, DTYPE_I32, 1, &position),
                            new_buffer(device, DTYPE_I32, 1, &slot),
                            new_buffer(device, DTYPE_F32, dim, frequency),
                            new_buffer(device, DTYPE_Q8_0, 3 * block, NULL),
                            new_buffer(device, DTYPE_I32, 2, pair)};
    struct commands *c = commands_begin(device);
    device_rope_kv(c, &args, all[0], all[1], all[2], all[3], all[4]);
    device_kv_copy(c, &(struct kv_copy_args){1, block}, all[5], all[4]);
    run_commands(c);
    cr_expect_eq(buffer_read(all[4], 16, 32, bytes, &err), ERR_INVALID, "half a block");
    cr_assert_eq(buffer_read(all[4], 0, 3 * block, bytes, &err), 0, "%s", err.text);
    float *out = malloc(3 * block * sizeof *out);
    dtype_to_f32(DTYPE_Q8_0, bytes, 3 * block, out);
    cr_assert(!memcmp(out + block, out + 2 * block, block * sizeof *out), "the copy of a block");
    for (int i = 0; i < block; i++)
        cr_assert_eq(out[i], 0, "an untouched block");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_free(all[i]);
    return out;
}

static void append_is_right(struct device *reference, struct device *device, const char *isa)
{
    enum { dim = 64, block = 2 * KV_HEADS * BLOCK_TOKENS * dim };
    float *x = random_floats((HEADS + 2 * KV_HEADS) * dim), *v = x + (HEADS + KV_HEADS) * dim;
    memset(v, 0, 32 * sizeof *v);
    v[40] = INFINITY;
    v[dim] = 1e-30f;
    float *got = append(device, x), *want = append(reference, x);
    for (int i = 0; i < 3 * block; i++) {
        cr_assert(isfinite(got[i]));
        cr_assert_leq(fabsf(got[i] - want[i]), 0.06f, "%s: element %d is %g, not %g", isa, i, (double)got[i],
                      (double)want[i]);
    }
    const float *row = got + block + KV_HEADS * BLOCK_TOKENS * dim + 3 * dim; /* V of the first head */
    for (int i = 0; i < 32; i++)
        cr_assert_eq(row[i], 0);
    cr_assert_float_eq(row[40], 65504, 40);
    const float *other = row + BLOCK_TOKENS * dim;
    float peak = 0;
    for (int i = 32; i < dim; i++)
        peak = fmaxf(peak, fabsf(v[dim + i]));
    for (int i = 32; i < dim; i++)
        cr_assert_leq(fabsf(other[i] - v[dim + i]), peak / 250, "%s: V is kept as it is", isa);
    free(got);
    free(want);
    free(x);
}

Test(cpu_kv, append_and_copy)
{
    with_each(2, append_is_right);
}

Test(cpu_kv, what_does_not_fit_is_refused)
{
    struct device *device = NULL;
    struct err err;
    struct device_options options = {.name = "cpu", .kv_type = DTYPE_Q4_0};
    cr_assert_eq(device_open(&device, &options, &err), ERR_INVALID);
    options.name = "reference";
    cr_assert_eq(device_open(&device, &options, &err), ERR_INVALID);
    device = open_q8("cpu", 1, NULL);
    struct buffer *ints = new_buffer(device, DTYPE_I32, 4, NULL),
                  *floats = new_buffer(device, DTYPE_F32, 480, NULL),
                  *bytes = new_buffer(device, DTYPE_Q8_0, 3072, NULL),
                  *half = new_buffer(device, DTYPE_F16, 3072, NULL);
    struct attention_args args = {
        .rows = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 48, .q_stride = 48, .block_tokens = 16,
        .table_stride = 2, .scale = 1, .context = 32};
    for (int i = 0; i < 2; i++) {
        struct commands *c = commands_begin(device);
        args.head_dim = args.q_stride = i ? 64 : 48;
        device_attention(c, &args, floats, ints, ints, ints, i ? half : bytes, floats);
        cr_assert_eq(commands_submit(c, &err), ERR_INVALID);
        cr_assert(strstr(err.text, "Q8_0"), "%s", err.text);
    }
    struct buffer *all[] = {ints, floats, bytes, half};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_free(all[i]);
    device_close(device);
}
