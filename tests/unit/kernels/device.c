/* What every device refuses: wrong element types, short buffers, memory that queued commands
 * touch. Run on the reference device. */
#include <criterion/criterion.h>
#include <string.h>

#include "../../../kernels/device.h"

static struct device *device;

static void open_device(void)
{
    struct err err = {0};
    cr_assert_eq(device_open(&device, &(struct device_options){.name = "reference"}, &err), 0, "%s", err.text);
}

static void close_device(void)
{
    device_close(device);
}

TestSuite(device, .init = open_device, .fini = close_device);

static struct buffer *buffer(enum dtype dtype, size_t count)
{
    struct buffer *b = NULL;
    struct err err = {0};
    cr_assert_eq(buffer_create(device, dtype, count, &b, &err), 0, "%s", err.text);
    return b;
}

static const struct rms_norm_args norm = {.rows = 2, .groups = 1, .width = 8, .x_stride = 8, .y_stride = 8, .eps = 1e-6f};

Test(device, unknown_device_is_named)
{
    struct device *none = NULL;
    struct err err;
    cr_assert_eq(device_open(&none, &(struct device_options){.name = "quantum"}, &err), ERR_UNSUPPORTED);
    cr_assert(strstr(err.text, "quantum"));
}

/* An f16 tensor where the operator list says f32 once gave numbers like -12,938,306,000. */
Test(device, wrong_element_type_is_refused_with_both_names)
{
    struct buffer *x = buffer(DTYPE_F32, 16), *w = buffer(DTYPE_F16, 8), *y = buffer(DTYPE_F32, 16);
    struct commands *c = commands_begin(device);
    struct err err;
    device_rms_norm(c, &norm, x, w, y);
    cr_assert_eq(commands_submit(c, &err), ERR_INVALID);
    cr_assert(strstr(err.text, "rms_norm") && strstr(err.text, "weight") && strstr(err.text, "F16") &&
              strstr(err.text, "F32"), "%s", err.text);
    buffer_free(x);
    buffer_free(w);
    buffer_free(y);
}

Test(device, short_and_missing_buffers_are_refused)
{
    struct buffer *x = buffer(DTYPE_F32, 15), *w = buffer(DTYPE_F32, 8), *y = buffer(DTYPE_F32, 16);
    struct err err;
    struct commands *c = commands_begin(device);
    device_rms_norm(c, &norm, x, w, y);
    cr_assert_eq(commands_submit(c, &err), ERR_INVALID);
    cr_assert(strstr(err.text, "buffer x has 15"), "%s", err.text);
    c = commands_begin(device);
    device_rms_norm(c, &norm, y, NULL, y);
    cr_assert_eq(commands_submit(c, &err), ERR_INVALID);
    cr_assert(strstr(err.text, "weight is missing"), "%s", err.text);
    buffer_free(x);
    buffer_free(w);
    buffer_free(y);
}

Test(device, weight_of_another_shape_is_refused)
{
    float data[32] = {0};
    struct buffer *w = NULL, *x = buffer(DTYPE_F32, 8), *y = buffer(DTYPE_F32, 5);
    struct err err;
    cr_assert_eq(device_weight_create(device, DTYPE_F32, 4, 8, data, WEIGHT_MATMUL, &w, &err), 0);
    struct commands *c = commands_begin(device);
    device_matmul(c, &(struct matmul_args){.rows = 1, .in = 8, .out = {5}}, x, w, NULL, NULL, NULL, NULL, y);
    cr_assert_eq(commands_submit(c, &err), ERR_INVALID);
    cr_assert(strstr(err.text, "[4][8]"), "%s", err.text);
    c = commands_begin(device);
    device_matmul(c, &(struct matmul_args){.rows = 1, .in = 8, .out = {4}}, x, x, NULL, NULL, NULL, NULL, y);
    cr_assert_eq(commands_submit(c, &err), ERR_INVALID);
    cr_assert(strstr(err.text, "must be a weight"), "%s", err.text);
    buffer_free(w);
    buffer_free(x);
    buffer_free(y);
}

/* A host copy of a buffer that queued commands were about to fill once overwrote the residual. */
Test(device, memory_in_flight_is_refused)
{
    struct buffer *x = buffer(DTYPE_F32, 16), *w = buffer(DTYPE_F32, 8), *y = buffer(DTYPE_F32, 16);
    const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2};
    float got[16];
    struct err err;
    cr_assert_eq(buffer_write(x, 0, 16, ones, &err), 0);
    cr_assert_eq(buffer_write(w, 0, 8, ones, &err), 0);
    struct commands *c = commands_begin(device);
    device_rms_norm(c, &norm, x, w, y);
    cr_assert_eq(buffer_read(y, 0, 16, got, &err), ERR_IN_FLIGHT);
    cr_assert_eq(commands_submit(c, &err), 0);
    cr_assert_eq(buffer_write(x, 0, 16, ones, &err), ERR_IN_FLIGHT);
    cr_assert_eq(commands_wait(c, &err), 0);
    cr_assert_eq(buffer_read(y, 0, 16, got, &err), 0);
    for (int i = 0; i < 16; i++)
        cr_assert_float_eq(got[i], 1, 1e-5);
    cr_assert_eq(buffer_read(y, 8, 9, got, &err), ERR_INVALID);
    cr_assert_eq(buffer_read(y, SIZE_MAX, 2, got, &err), ERR_INVALID);
    buffer_free(x);
    buffer_free(w);
    buffer_free(y);
}

Test(device, results_stand_in_order)
{
    struct buffer *x = buffer(DTYPE_F32, 4), *i = buffer(DTYPE_I32, 2), *y = buffer(DTYPE_F32, 4), *z = buffer(DTYPE_F32, 4);
    const float values[4] = {1, 2, 3, 4};
    const int32_t swap[2] = {1, 0};
    float got[4];
    struct err err;
    cr_assert_eq(buffer_write(x, 0, 4, values, &err), 0);
    cr_assert_eq(buffer_write(i, 0, 2, swap, &err), 0);
    struct commands *c = commands_begin(device);
    const struct gather_args rows = {.rows = 2, .width = 2};
    device_gather(c, &rows, x, i, y);
    device_gather(c, &rows, y, i, z);
    cr_assert_eq(commands_submit(c, &err), 0);
    cr_assert_eq(commands_wait(c, &err), 0);
    cr_assert_eq(buffer_read(z, 0, 4, got, &err), 0);
    cr_assert_arr_eq(got, values, sizeof got);
    buffer_free(x);
    buffer_free(i);
    buffer_free(y);
    buffer_free(z);
}

Test(device, error_text_is_one_line_of_utf8)
{
    struct err err;
    cr_assert_eq(err_set(&err, ERR_FORMAT, "key %s", "a\nb\xff\xc3"), ERR_FORMAT);
    cr_assert_str_eq(err.text, "key a b??");
    cr_assert_eq(err_set(NULL, ERR_IO, "ignored"), ERR_IO);
    cr_assert_str_eq(err_name(ERR_BUSY), "queue full");
}
