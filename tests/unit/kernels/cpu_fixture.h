/* Helpers of the CPU device's tests: buffers with contents, and one device per instruction set that this
 * machine has. */
#ifndef HEARTH_TEST_CPU_FIXTURE_H
#define HEARTH_TEST_CPU_FIXTURE_H

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "../../../kernels/backend.h"
#include "../../support/random_data.h"

static const char *const isa_names[] = {"avx512amx", "avx512amx-emulated", "avx512vnni", "avx2", "i8mm", "neon", "scalar"};

/* Runs `body` with a device of each instruction set. */
static inline void with_each_isa(int threads, void (*body)(struct device *, const char *isa))
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
