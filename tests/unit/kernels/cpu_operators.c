/* The CPU device's other operators: against the reference device, and row independence of
 * attention. */
#include "cpu_fixture.h"

enum { HEADS = 6, KV_HEADS = 2, BLOCK_TOKENS = 16, BLOCKS = 96 };

struct attention_case {
    int dim, sequences, rows;
    int32_t position[700], sequence[700];
    float *qkv; /* [rows][(HEADS + 2 * KV_HEADS) * dim] */
    float *kv;  /* [BLOCKS][2][KV_HEADS][BLOCK_TOKENS][dim] */
    int32_t table[3 * BLOCKS];
};

static size_t kv_count(const struct attention_case *a)
{
    return (size_t)(BLOCKS * 2 * KV_HEADS * BLOCK_TOKENS * a->dim);
}

static size_t qkv_width(const struct attention_case *a)
{
    return (size_t)((HEADS + 2 * KV_HEADS) * a->dim);
}

static struct attention_case *make_case(int dim, int rows)
{
    struct attention_case *a = calloc(1, sizeof *a);
    cr_assert_not_null(a);
    a->dim = dim;
    a->rows = rows;
    a->qkv = random_floats((size_t)rows * qkv_width(a));
    a->kv = random_floats(kv_count(a));
    for (size_t i = 0; i < kv_count(a); i++)
        a->kv[i] = f16_to_f32(f32_to_f16(a->kv[i]));
    for (int i = 0; i < 3 * BLOCKS; i++)
        a->table[i] = i * 37 % BLOCKS;
    return a;
}

static void free_case(struct attention_case *a)
{
    free(a->qkv);
    free(a->kv);
    free(a);
}

/* Runs rows [first, first + n) on a device. */
static float *attend(struct device *device, const struct attention_case *a, int first, int n)
{
    struct attention_args args = {.rows = n,
                                  .n_heads = HEADS,
                                  .n_kv_heads = KV_HEADS,
                                  .head_dim = a->dim,
                                  .q_stride = (int)qkv_width(a),
                                  .block_tokens = BLOCK_TOKENS,
                                  .table_stride = BLOCKS,
                                  .scale = 1.0f / sqrtf((float)a->dim),
                                  .context = BLOCKS * BLOCK_TOKENS};
    enum dtype kv_type = device_info(device)->kv_type;
    size_t count = kv_count(a);
    uint16_t *half = malloc(count * sizeof *half);
    cr_assert_not_null(half);
    for (size_t i = 0; i < count; i++)
        half[i] = f32_to_f16(a->kv[i]);
    struct buffer *qkv =
        new_buffer(device, DTYPE_F32, (size_t)n * qkv_width(a), a->qkv + (size_t)first * qkv_width(a));
    struct buffer *position = new_buffer(device, DTYPE_I32, (size_t)n, a->position + first);
    struct buffer *sequence = new_buffer(device, DTYPE_I32, (size_t)n, a->sequence + first);
    struct buffer *table = new_buffer(device, DTYPE_I32, 3 * BLOCKS, a->table);
    struct buffer *kv =
        new_buffer(device, kv_type, count, kv_type == DTYPE_F16 ? (void *)half : (void *)a->kv);
    struct buffer *out = new_buffer(device, DTYPE_F32, (size_t)(n * HEADS * a->dim), NULL);
    struct commands *c = commands_begin(device);
    device_attention(c, &args, qkv, position, sequence, table, kv, out);
    run_commands(c);
    float *result = read_floats(out);
    struct buffer *all[] = {qkv, position, sequence, table, kv, out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_free(all[i]);
    free(half);
    return result;
}

static struct device *reference;

static void open_reference(void)
{
    struct err err;
    cr_assert_eq(device_open(&reference, &(struct device_options){.name = "reference"}, &err), 0, "%s",
                 err.text);
}

static void close_reference(void)
{
    device_close(reference);
}

TestSuite(cpu_operators, .init = open_reference, .fini = close_reference);

static void compare(const char *isa, const char *what, const float *a, const float *b, size_t n,
                    double rms_bound, double max_bound)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)a[i] - (double)b[i]);
        cr_assert(error <= max_bound, "%s %s: element %zu is %g, not %g", isa, what, i, (double)a[i],
                  (double)b[i]);
        squares += error * error;
    }
    cr_assert_leq(sqrt(squares / (double)n), rms_bound, "%s %s: rms error %g", isa, what,
                  sqrt(squares / (double)n));
}

/* Prefill of one sequence and single rows of others, contexts within and beyond one span. */
static void attention_matches(struct device *device, const char *isa)
{
    static const int dims[] = {64, 128, 80, 12};
    for (int i = 0; i < 4; i++) {
        struct attention_case *a = make_case(dims[i], 40);
        for (int r = 0; r < a->rows; r++) {
            a->sequence[r] = r < 30 ? 0 : r % 3;
            a->position[r] = r < 30 ? 500 + r : r * 29;
        }
        a->position[39] = 0;
        float *got = attend(device, a, 0, a->rows), *want = attend(reference, a, 0, a->rows);
        compare(isa, "attention", got, want, (size_t)(a->rows * HEADS * a->dim), 2e-5, 4e-4);
        free(got);
        free(want);
        free_case(a);
    }
}

Test(cpu_operators, attention_matches_the_reference)
{
    with_each_isa(2, attention_matches);
    with_each_isa(5, attention_matches);
}

static void attention_independent(struct device *device, const char *isa)
{
    struct attention_case *a = make_case(64, 700);
    for (int r = 0; r < a->rows; r++)
        a->position[r] = r;
    float *all = attend(device, a, 0, a->rows);
    static const int chunks[] = {1, 7, 64, 511};
    size_t width = HEADS * 64;
    for (int i = 0; i < 4; i++)
        for (int first = i == 0 ? 600 : 0; first < a->rows; first += chunks[i]) {
            int n = a->rows - first < chunks[i] ? a->rows - first : chunks[i];
            float *some = attend(device, a, first, n);
            cr_assert(!memcmp(some, all + (size_t)first * width, (size_t)n * width * sizeof *some),
                      "%s: rows from %d on differ in a chunk of %d", isa, first, n);
            free(some);
        }
    free(all);
    free_case(a);
}

Test(cpu_operators, attention_rows_are_bitwise_independent)
{
    with_each_isa(1, attention_independent);
    with_each_isa(4, attention_independent);
}

/* rms_norm, swiglu, gather and embed on one device, results one after the other. */
static float *run_rows(struct device *device, int width, const float *x, const uint8_t *table,
                       enum dtype dtype, unsigned use, size_t *count)
{
    enum { rows = 7 };
    size_t n = (size_t)(rows * width);
    int32_t ids[rows] = {3, 0, 17, 18, -2, 5, -1}, sampled[2] = {9, 5}, index[3] = {6, 0, 6};
    struct buffer *in = new_buffer(device, DTYPE_F32, 2 * n, x),
                  *w = new_buffer(device, DTYPE_F32, (size_t)width, x);
    struct buffer *normed = new_buffer(device, DTYPE_F32, n, NULL),
                  *gated = new_buffer(device, DTYPE_F32, n, NULL);
    struct buffer *picked = new_buffer(device, DTYPE_F32, (size_t)(3 * width), NULL);
    struct buffer *id = new_buffer(device, DTYPE_I32, rows, ids),
                  *at = new_buffer(device, DTYPE_I32, 3, index),
                  *chosen = new_buffer(device, DTYPE_I32, 2, sampled);
    struct buffer *weight = new_weight(device, dtype, 19, (size_t)width, table, use);
    struct buffer *embedded = new_buffer(device, DTYPE_F32, n, NULL);
    struct commands *c = commands_begin(device);
    device_rms_norm(c, &(struct rms_norm_args){rows, 1, width, 2 * width, width, width, 0, 1e-6f}, in, w,
                    normed);
    device_swiglu(c, &(struct swiglu_args){rows, width}, in, gated);
    device_gather(c, &(struct gather_args){3, width}, normed, at, picked);
    device_embed(c, &(struct embed_args){rows, width, 19}, id, chosen, weight, embedded);
    run_commands(c);
    struct buffer *outputs[] = {normed, gated, picked, embedded};
    float *all = malloc((3 * n + (size_t)(3 * width)) * sizeof *all);
    *count = 0;
    for (int i = 0; i < 4; i++) {
        float *part = read_floats(outputs[i]);
        memcpy(all + *count, part, buffer_count(outputs[i]) * sizeof *all);
        *count += buffer_count(outputs[i]);
        free(part);
        buffer_free(outputs[i]);
    }
    struct buffer *rest[] = {in, w, id, at, chosen, weight};
    for (int i = 0; i < 6; i++)
        buffer_free(rest[i]);
    return all;
}

static void rows_match(struct device *device, const char *isa)
{
    for (int t = 0; t < DTYPE_COUNT; t++) {
        enum dtype dtype = (enum dtype)t;
        if (!dtype_is_weight(dtype))
            continue;
        int width = dtype_block(dtype) == 1 ? 37 : dtype_block(dtype) == 32 ? 96 : 512;
        uint8_t *table = random_weight(dtype, (size_t)(19 * width));
        float *x = random_floats((size_t)(14 * width));
        x[width] = 400.0f; /* gates far outside of where exp works */
        x[width + 1] = -400.0f;
        for (unsigned use = WEIGHT_EMBED; use <= (WEIGHT_EMBED | WEIGHT_MATMUL); use++) {
            size_t n, m;
            float *got = run_rows(device, width, x, table, dtype, use, &n);
            float *want = run_rows(reference, width, x, table, dtype, use, &m);
            cr_assert_eq(n, m);
            compare(isa, dtype_name(dtype), got, want, n, 2e-6, 4e-4);
            free(got);
            free(want);
        }
        free(table);
        free(x);
    }
}

Test(cpu_operators, norm_gate_gather_and_embed_match_the_reference)
{
    with_each_isa(2, rows_match);
}

/* RoPE in both styles; then blocks copied. Returns qkv, then the KV buffer. */
static float *run_rope(struct device *device, const struct rope_kv_args *args, const float *x, size_t *count)
{
    int32_t position[5] = {0, 1, 77, 4000, 3}, slot[5] = {5, 16, 47, 0, 31}, pair[4] = {1, 3, 3, 4};
    float frequency[64];
    for (int i = 0; i < 32; i++) {
        double exact = pow(10000, -2.0 * i / args->rope_dim);
        frequency[2 * i] = (float)exact;
        frequency[2 * i + 1] = (float)(exact - (double)frequency[2 * i]);
    }
    size_t width = (size_t)((args->n_heads + 2 * args->n_kv_heads) * args->head_dim), n = 5 * width;
    int block = 2 * args->n_kv_heads * args->block_tokens * args->head_dim;
    enum dtype kv_type = device_info(device)->kv_type;
    struct buffer *qkv = new_buffer(device, DTYPE_F32, n, x),
                  *kv = new_buffer(device, kv_type, (size_t)(5 * block), NULL);
    struct buffer *at = new_buffer(device, DTYPE_I32, 5, position),
                  *to = new_buffer(device, DTYPE_I32, 5, slot);
    struct buffer *table = new_buffer(device, DTYPE_F32, 64, frequency),
                  *pairs = new_buffer(device, DTYPE_I32, 4, pair);
    struct commands *c = commands_begin(device);
    device_rope_kv(c, args, qkv, at, to, table, kv);
    device_kv_copy(c, &(struct kv_copy_args){2, block}, pairs, kv);
    run_commands(c);
    float *all = malloc((n + (size_t)(5 * block)) * sizeof *all), *rotated = read_floats(qkv);
    struct err err;
    memcpy(all, rotated, n * sizeof *all);
    uint16_t *half = malloc((size_t)(5 * block) * sizeof(float));
    cr_assert_eq(buffer_read(kv, 0, (size_t)(5 * block),
                             kv_type == DTYPE_F16 ? (void *)half : (void *)(all + n), &err),
                 0);
    for (int i = 0; kv_type == DTYPE_F16 && i < 5 * block; i++)
        all[n + (size_t)i] = f16_to_f32(half[i]);
    *count = n + (size_t)(5 * block);
    struct buffer *rest[] = {qkv, kv, at, to, table, pairs};
    for (int i = 0; i < 6; i++)
        buffer_free(rest[i]);
    free(rotated);
    free(half);
    return all;
}

static void rope_matches(struct device *device, const char *isa)
{
    float *x = random_floats(5 * 8 * 64);
    for (int i = 0; i < 4; i++) {
        struct rope_kv_args args = {5, 4, 2, 64, i < 2 ? 64 : 40, i % 2, 16, i < 2 ? 1.0f : 1.1f};
        size_t n, m;
        float *got = run_rope(device, &args, x, &n), *want = run_rope(reference, &args, x, &m);
        cr_assert_eq(n, m);
        compare(isa, "rope", got, want, n, 1e-3, 2e-2); /* K and V are f16 here, f32 there */
        compare(isa, "rope", got, want, 5 * 8 * 64, 1e-6, 1e-5);
        free(got);
        free(want);
    }
    free(x);
}

Test(cpu_operators, rope_and_block_copies_match_the_reference)
{
    with_each_isa(2, rope_matches);
}

/* Positions, tokens and results travel with the commands: what is in the buffers before does not count. */
static void copies_are_in_order(struct device *device, const char *isa)
{
    struct attention_case *a = make_case(64, 9);
    for (int r = 0; r < a->rows; r++)
        a->position[r] = r == 8 ? 1400 : r * 5;
    float *want = attend(device, a, 0, a->rows);
    size_t width = qkv_width(a), out_width = HEADS * 64;
    struct attention_args args = {.rows = 9,
                                  .n_heads = HEADS,
                                  .n_kv_heads = KV_HEADS,
                                  .head_dim = 64,
                                  .q_stride = (int)width,
                                  .block_tokens = BLOCK_TOKENS,
                                  .table_stride = BLOCKS,
                                  .scale = 0.125f,
                                  .context = BLOCKS * BLOCK_TOKENS};
    uint16_t *half = malloc(kv_count(a) * sizeof *half);
    float got[9 * HEADS * 64];
    for (size_t i = 0; i < kv_count(a); i++)
        half[i] = f32_to_f16(a->kv[i]);
    struct buffer *qkv = new_buffer(device, DTYPE_F32, 9 * width, NULL),
                  *rows = new_buffer(device, DTYPE_I32, 18, NULL);
    struct buffer *table = new_buffer(device, DTYPE_I32, 3 * BLOCKS, NULL), *position = NULL,
                  *sequence = NULL;
    struct buffer *kv = new_buffer(device, DTYPE_F16, kv_count(a), half);
    struct buffer *out = new_buffer(device, DTYPE_F32, 9 * out_width, NULL);
    struct err err;
    cr_assert_eq(buffer_view(rows, 0, 9, &position, &err), 0);
    cr_assert_eq(buffer_view(rows, 9, 9, &sequence, &err), 0);
    struct commands *c = commands_begin(device);
    device_upload(c, qkv, 0, 9 * width, a->qkv);
    device_upload(c, table, 0, 3 * BLOCKS, a->table);
    device_upload(c, rows, 0, 9, a->position);
    device_upload(c, sequence, 0, 9, a->sequence);
    device_attention(c, &args, qkv, position, sequence, table, kv, out);
    device_download(c, out, 0, 9 * out_width, got);
    run_commands(c);
    cr_assert(!memcmp(got, want, sizeof got), "%s", isa);
    struct buffer *all[] = {position, sequence, rows, qkv, table, kv, out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_free(all[i]);
    free(half);
    free(want);
    free_case(a);
}

Test(cpu_operators, copies_are_commands_in_order)
{
    with_each_isa(1, copies_are_in_order);
    with_each_isa(3, copies_are_in_order);
}

Test(cpu_operators, unknown_instruction_sets_are_refused)
{
    struct device *device = NULL;
    struct err err;
    cr_assert_eq(device_open(&device, &(struct device_options){.name = "cpu", .isa = "sse9"}, &err),
                 ERR_UNSUPPORTED);
    cr_assert(strstr(err.text, "sse9"));
    cr_assert_eq(device_open(&device, &(struct device_options){.name = "cpu", .threads = -1}, &err),
                 ERR_INVALID);
}

static const struct profile_row *row_of(const struct profile *p, enum operator op)
{
    for (int i = 0; i < p->n; i++)
        if (p->row[i].op == op)
            return &p->row[i];
    return NULL;
}

Test(cpu_operators, idle_bandwidth_and_profile)
{
    struct device *device = NULL;
    struct err err;
    struct profile p;
    cr_assert_eq(device_open(&device, &(struct device_options){.name = "cpu"}, &err), 0, "%s", err.text);
    cr_assert_geq(device_info(device)->threads, 1);
    cr_assert_gt(device_read_bandwidth(device, 1 << 22), 1e8);
    cr_assert_gt(device_int8_rate(device), 1e8);
    device_idle(device);
    float *x = random_floats(14 * 32);
    size_t n;
    uint8_t *table = random_weight(DTYPE_Q8_0, 19 * 32);
    free(run_rows(device, 32, x, table, DTYPE_Q8_0, WEIGHT_EMBED, &n));
    device_profile(device, &p);
    cr_assert_eq(p.n, 0, "nobody had asked");
    free(run_rows(device, 32, x, table, DTYPE_Q8_0, WEIGHT_EMBED, &n));
    device_profile(device, &p);
    cr_assert(row_of(&p, OPERATOR_rms_norm) && row_of(&p, OPERATOR_swiglu));
    cr_expect_gt(row_of(&p, OPERATOR_rms_norm)->seconds, 0);
    cr_expect_geq(row_of(&p, OPERATOR_rms_norm)->calls, 1);
    cr_expect_geq(p.waiting, 0);
    device_profile(device, &p);
    cr_assert_eq(p.n, 0);
    free(x);
    free(table);
    device_close(device);
}
