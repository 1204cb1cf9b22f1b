/* Matrix multiplication of the CPU device: every weight type against exact weights in double, and
 * a row's bits, which must not depend on the rows beside it. */
#include "cpu_fixture.h"

static const enum dtype weight_types[] = {
#define X(name, gguf, block, bytes) DTYPE_##name,
#include "../../../kernels/dtype.def"
#undef X
};

struct problem {
    enum dtype dtype;
    int rows, in, out;
    float *x, *exact;   /* [rows][in]; the weight decoded, [out][in] */
    uint8_t *data;
    int precise;
};

/* With `whole`, every block of an input row is exactly representable in 8 bits. */
static struct problem make_problem(enum dtype dtype, int rows, int in, int out, bool whole)
{
    size_t n = (size_t)in * (size_t)out;
    struct problem p = {dtype,
                        rows,
                        in,
                        out,
                        random_floats((size_t)rows * (size_t)in),
                        malloc(n * sizeof(float)),
                        random_weight(dtype, n)};
    cr_assert_not_null(p.exact);
    dtype_to_f32(dtype, p.data, n, p.exact);
    for (int i = 0; whole && i < rows * in; i++)
        p.x[i] = i % in % 32 == 7 ? 127.0f / 64 : (float)((int)(random_bits() % 255) - 127) / 64;
    return p;
}

static void free_problem(struct problem *p)
{
    free(p->x);
    free(p->exact);
    free(p->data);
}

static float *multiply(struct device *device, const struct problem *p, int first, int rows)
{
    struct buffer *x =
        new_buffer(device, DTYPE_F32, (size_t)rows * (size_t)p->in, p->x + (size_t)first * (size_t)p->in);
    struct buffer *w = new_weight(device, p->dtype, (size_t)p->out, (size_t)p->in, p->data, WEIGHT_MATMUL);
    struct buffer *y = new_buffer(device, DTYPE_F32, (size_t)rows * (size_t)p->out, NULL);
    struct commands *c = commands_begin(device);
    device_matmul(c, &(struct matmul_args){rows, p->in, {p->out, 0, 0}, p->precise}, x, w, NULL, NULL, NULL, NULL, y);
    run_commands(c);
    float *out = read_floats(y);
    buffer_free(x);
    buffer_free(w);
    buffer_free(y);
    return out;
}

/* Errors relative to the length of the vector of products. */
static void check_problem(struct device *device, const char *isa, struct problem *p, double rms_bound,
                          double max_bound)
{
    float *y = multiply(device, p, 0, p->rows);
    double squares = 0, peak = 0;
    for (int r = 0; r < p->rows; r++)
        for (int o = 0; o < p->out; o++) {
            double sum = 0, length = 1e-30;
            for (int i = 0; i < p->in; i++) {
                double product = (double)p->x[r * p->in + i] * (double)p->exact[o * p->in + i];
                sum += product;
                length += product * product;
            }
            double error = fabs(y[r * p->out + o] - sum) / sqrt(length);
            squares += error * error;
            peak = fmax(peak, error);
            cr_assert(error <= max_bound, "%s %s %d x %d, %d rows: row %d output %d is %g, not %g", isa,
                      dtype_name(p->dtype), p->out, p->in, p->rows, r, o, (double)y[r * p->out + o], sum);
        }
    double rms = sqrt(squares / p->rows / p->out);
    cr_assert(rms <= rms_bound, "%s %s: rms error %g (max %g)", isa, dtype_name(p->dtype), rms, peak);
    free(y);
}

static bool is_float(enum dtype dtype)
{
    return dtype_block(dtype) == 1;
}

/* The kernels themselves: with inputs that lose nothing in 8 bits only float rounding is left. */
static void arithmetic(struct device *device, const char *isa)
{
    static const int rows[] = {1, 2, 3, 4, 5, 6, 7, 11, 13, 29};
    for (size_t t = 0; t < sizeof weight_types / sizeof *weight_types; t++) {
        enum dtype dtype = weight_types[t];
        if (!dtype_is_weight(dtype))
            continue;
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            int in = is_float(dtype) ? 37 : (int)dtype_block(dtype) * (dtype_block(dtype) == 32 ? 37 : 5);
            struct problem p = make_problem(dtype, rows[i], in, 51, true);
            check_problem(device, isa, &p, 2e-6, 2e-5);
            free_problem(&p);
        }
    }
}

Test(cpu_matmul, every_type_is_exact_where_8_bits_are)
{
    with_each_isa(2, arithmetic);
}

/* Real inputs, outliers among them: what 8 bits per block of 32 cost. */
static void accuracy(struct device *device, const char *isa)
{
    for (size_t t = 0; t < sizeof weight_types / sizeof *weight_types; t++) {
        enum dtype dtype = weight_types[t];
        if (!dtype_is_weight(dtype))
            continue;
        struct problem p = make_problem(dtype, 9, 512, 160, false);
        if (is_float(dtype))
            check_problem(device, isa, &p, 2e-6, 2e-5);
        else
            check_problem(device, isa, &p, 0.025, 0.15);
        p.precise = 1;
        check_problem(device, isa, &p, 1.5e-4, 8e-4);
        free_problem(&p);
    }
}

Test(cpu_matmul, eight_bits_are_close_and_fifteen_closer)
{
    with_each_isa(2, accuracy);
}

/* The same bits alone, in small batches and among many, with one thread and with three. */
static void check_independence(struct device *device, const char *isa, int precise)
{
    static const int batches[] = {1, 2, 3, 5, 6, 8, 13, 16, 31, 64, 300};
    for (size_t t = 0; t < sizeof weight_types / sizeof *weight_types; t++) {
        enum dtype dtype = weight_types[t];
        if (!dtype_is_weight(dtype))
            continue;
        struct problem p = make_problem(dtype, 300, 1280, 33, false);
        p.precise = precise;
        float *all = multiply(device, &p, 0, 300);
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
            int n = batches[i], first = n == 300 ? 0 : 17;
            float *some = multiply(device, &p, first, n);
            cr_assert(!memcmp(some, all + first * p.out, (size_t)n * (size_t)p.out * sizeof *some),
                      "%s %s: rows differ in a batch of %d, precise %d", isa, dtype_name(dtype), n, p.precise);
            free(some);
        }
        free(all);
        free_problem(&p);
    }
}

static void independence(struct device *device, const char *isa)
{
    check_independence(device, isa, 0);
    check_independence(device, isa, 1);
}

Test(cpu_matmul, rows_are_bitwise_independent)
{
    with_each_isa(3, independence);
    with_each_isa(1, independence);
}

/* Arm's matrix instructions sum up like its dot products; elsewhere there is nothing to compare. */
Test(cpu_matmul, i8mm_has_the_bits_of_dot_products)
{
    static const char *const names[2] = {"i8mm", "neon"};
    struct device *device[2] = {NULL};
    struct err err;
    for (int i = 0; i < 2; i++)
        if (device_open(&device[i], &(struct device_options){.name = "cpu", .threads = 1, .isa = names[i]},
                        &err) == ERR_UNSUPPORTED)
            goto done;
    for (size_t t = 0; t < sizeof weight_types / sizeof *weight_types; t++) {
        if (!dtype_is_weight(weight_types[t]))
            continue;
        struct problem p = make_problem(weight_types[t], 7, 512, 33, false);
        float *y[2] = {multiply(device[0], &p, 0, 7), multiply(device[1], &p, 0, 7)};
        cr_assert_arr_eq(y[0], y[1], 7 * 33 * sizeof **y, "%s", dtype_name(weight_types[t]));
        free(y[0]);
        free(y[1]);
        free_problem(&p);
    }
done:
    for (int i = 0; i < 2; i++)
        device_close(device[i]);
}

/* Q, K and V of three types and widths, with bias and with the output as residual. */
static void segments(struct device *device, const char *isa)
{
    enum { rows = 21, in = 256 };
    static const enum dtype types[3] = {DTYPE_Q5_0, DTYPE_Q4_K, DTYPE_Q8_0};
    static const int out[3] = {48, 17, 30};
    struct problem p[3];
    struct buffer *w[3];
    float *x = random_floats(rows * in), *bias = random_floats(95), *add = random_floats(rows * 95);
    for (int i = 0; i < 3; i++) {
        p[i] = make_problem(types[i], rows, in, out[i], false);
        memcpy(p[i].x, x, rows * in * sizeof *x);
        w[i] = new_weight(device, types[i], (size_t)out[i], in, p[i].data, WEIGHT_MATMUL);
    }
    struct buffer *xb = new_buffer(device, DTYPE_F32, rows * in, x),
                  *bb = new_buffer(device, DTYPE_F32, 95, bias);
    struct buffer *y = new_buffer(device, DTYPE_F32, rows * 95, add);
    struct commands *c = commands_begin(device);
    device_matmul(c, &(struct matmul_args){rows, in, {48, 17, 30}}, xb, w[0], w[1], w[2], bb, y, y);
    run_commands(c);
    float *all = read_floats(y);
    for (int i = 0, column = 0; i < 3; column += out[i++]) {
        float *one = multiply(device, &p[i], 0, rows);
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < out[i]; o++) {
                int at = r * 95 + column + o;
                cr_assert_eq(all[at], one[r * out[i] + o] + bias[column + o] + add[at], "%s segment %d", isa,
                             i);
            }
        free(one);
    }
    for (int i = 0; i < 3; i++) {
        free_problem(&p[i]);
        buffer_free(w[i]);
    }
    buffer_free(xb);
    buffer_free(bb);
    buffer_free(y);
    free(all);
    free(x);
    free(bias);
    free(add);
}

Test(cpu_matmul, segments_bias_and_residual)
{
    with_each_isa(2, segments);
}

/* Inputs that are zero, huge or no numbers at all end in some output, not in a crash. */
static void odd_inputs(struct device *device, const char *isa)
{
    struct problem p = make_problem(DTYPE_Q5_0, 5, 64, 20, false);
    for (int i = 0; i < 64; i++) {
        p.x[i] = 0;
        p.x[64 + i] = 1e-44f;
        p.x[128 + i] = 3e38f;
        p.x[192 + i] = INFINITY;
        p.x[256 + i] = NAN;
    }
    float *y = multiply(device, &p, 0, 5);
    for (int o = 0; o < 20; o++)
        cr_assert(y[o] == 0.0f && fabsf(y[20 + o]) < 1e-38f, "%s", isa);
    free(y);
    free_problem(&p);
}

Test(cpu_matmul, odd_inputs_do_no_harm)
{
    with_each_isa(2, odd_inputs);
}

static struct device *open_isa(const char *isa)
{
    struct device *device = NULL;
    struct err err;
    int rc = device_open(&device, &(struct device_options){.name = "cpu", .threads = 2, .isa = isa}, &err);
    cr_assert(rc == 0 || rc == ERR_UNSUPPORTED, "%s", err.text);
    return device;
}

/* Tiles, whole and cut ones, change nothing: the same bits as AVX-512 VNNI's. */
static void check_amx(struct device *vnni, struct device *amx, enum dtype dtype, int precise)
{
    static const int rows[] = {1, 9, 12, 16, 17, 33, 64, 70};
    struct problem p = make_problem(dtype, 70, 768, 40, false);
    p.precise = precise;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        float *a = multiply(vnni, &p, 0, rows[i]), *b = multiply(amx, &p, 0, rows[i]);
        cr_assert(!memcmp(a, b, (size_t)rows[i] * (size_t)p.out * sizeof *a), "%s, %d rows, precise %d",
                  dtype_name(dtype), rows[i], precise);
        free(a);
        free(b);
    }
    free_problem(&p);
}

Test(cpu_matmul, amx_tiles_give_the_bits_of_avx512)
{
    static const char *const names[] = {"avx512amx", "avx512amx-emulated"};
    struct device *vnni = open_isa("avx512vnni");
    for (size_t i = 0; vnni && i < sizeof names / sizeof *names; i++) {
        struct device *amx = open_isa(names[i]);
        for (size_t t = 0; amx && t < sizeof weight_types / sizeof *weight_types; t++)
            for (int precise = 0; precise < 2 && dtype_is_weight(weight_types[t]); precise++)
                check_amx(vnni, amx, weight_types[t], precise);
        device_close(amx);
    }
    device_close(vnni);
}
