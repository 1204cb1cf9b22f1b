/* Helpers of the CPU device's tests: seeded numbers, random weights of every type, and one device
 * per instruction set that this machine has. */
#ifndef HEARTH_TEST_CPU_FIXTURE_H
#define HEARTH_TEST_CPU_FIXTURE_H

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "../../../kernels/backend.h"

static const char *const isa_names[] = {"avx512vnni", "avx2", "neon", "scalar"};

/* Runs `body` with a device of each instruction set. */
static void with_each_isa(int threads, void (*body)(struct device *, const char *isa))
{
    int ran = 0;
    for (size_t i = 0; i < sizeof isa_names / sizeof *isa_names; i++) {
        struct device *device = NULL;
        struct err err;
        int rc = device_open(
            &device, &(struct device_options){.name = "cpu", .threads = threads, .isa = isa_names[i]}, &err);
        if (rc == ERR_UNSUPPORTED)
            continue;
        cr_assert_eq(rc, 0, "%s", err.text);
        body(device, isa_names[i]);
        device_close(device);
        ran++;
    }
    cr_assert_geq(ran, 1);
}

static uint32_t random_state = 1;

static inline uint32_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static inline float random_normal(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)(random_bits() >> 8) / 16777216.0f - 0.5f;
    return sum * 1.73f;
}

static inline float *random_floats(size_t n)
{
    float *x = malloc(n * sizeof *x);
    cr_assert_not_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_normal() * (random_bits() % 97 == 0 ? 20.0f : 1.0f); /* with outliers */
    return x;
}

/* Weights of any type: random bits, with factors that are sane numbers. */
static inline uint8_t *random_weight(enum dtype dtype, size_t count)
{
    static const struct {
        enum dtype dtype;
        int at[2]; /* of f16 factors in a block, -1: none */
    } factors[] = {
        {DTYPE_Q4_0, {0, -1}}, {DTYPE_Q4_1, {0, 2}}, {DTYPE_Q5_0, {0, -1}}, {DTYPE_Q5_1, {0, 2}},
        {DTYPE_Q8_0, {0, -1}}, {DTYPE_Q2_K, {80, 82}}, {DTYPE_Q3_K, {108, -1}}, {DTYPE_Q4_K, {0, 2}},
        {DTYPE_Q5_K, {0, 2}}, {DTYPE_Q6_K, {208, -1}}, {DTYPE_IQ4_NL, {0, -1}}, {DTYPE_IQ4_XS, {0, -1}},
    };
    size_t blocks = count / dtype_block(dtype), size = dtype_block_bytes(dtype);
    uint8_t *data = malloc(blocks * size);
    cr_assert_not_null(data);
    if (dtype_block(dtype) == 1) {
        for (size_t i = 0; i < count; i++) {
            float x = random_normal() * 0.1f;
            cr_assert_eq(dtype_from_f32(dtype, &x, 1, data + i * size), 0);
        }
        return data;
    }
    for (size_t i = 0; i < blocks * size; i++)
        data[i] = (uint8_t)(random_bits() >> 11);
    for (size_t f = 0; f < sizeof factors / sizeof *factors; f++)
        for (size_t b = 0; b < blocks && factors[f].dtype == dtype; b++)
            for (int i = 0; i < 2 && factors[f].at[i] >= 0; i++) {
                uint16_t h = f32_to_f16(0.001f + 0.01f * (float)(random_bits() >> 8) / 16777216.0f);
                memcpy(data + b * size + factors[f].at[i], &h, 2);
            }
    return data;
}

static inline struct buffer *new_buffer(struct device *device, enum dtype dtype, size_t count,
                                        const void *data)
{
    struct buffer *b = NULL;
    struct err err;
    cr_assert_eq(buffer_create(device, dtype, count, &b, &err), 0, "%s", err.text);
    if (data)
        cr_assert_eq(buffer_write(b, 0, count, data, &err), 0, "%s", err.text);
    return b;
}

static inline struct buffer *new_weight(struct device *device, enum dtype dtype, size_t rows, size_t columns,
                                        const void *data, unsigned use)
{
    struct buffer *b = NULL;
    struct err err;
    cr_assert_eq(device_weight_create(device, dtype, rows, columns, data, use, &b, &err), 0, "%s", err.text);
    return b;
}

static inline void run_commands(struct commands *c)
{
    struct err err;
    cr_assert_eq(commands_submit(c, &err), 0, "%s", err.text);
    cr_assert_eq(commands_wait(c, &err), 0, "%s", err.text);
}

static inline float *read_floats(struct buffer *b)
{
    float *out = malloc(buffer_count(b) * sizeof *out);
    struct err err;
    cr_assert_not_null(out);
    cr_assert_eq(buffer_read(b, 0, buffer_count(b), out, &err), 0, "%s", err.text);
    return out;
}

#endif
