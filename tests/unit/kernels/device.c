/* What every device refuses: wrong element types, short buffers, memory that queued commands
 * touch. Run on the reference device. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "../../../kernels/device.h"

static struct device *device;

static void open_device(void)
{
    struct err err = {0};
    cr_assert_eq(device_open(&device, &(struct device_options){.name = "reference"}, &err), 0, "%s",
                 err.text);
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

static const struct rms_norm_args norm = {
    .rows = 2, .groups = 1, .width = 8, .x_stride = 8, .y_stride = 8, .eps = 1e-6f};

Test(device, unknown_device_is_named)
{
    struct device *none = NULL;
    struct err err;
    cr_assert_eq(device_open(&none, &(struct device_options){.name = "quantum"}, &err), ERR_UNSUPPORTED);
    cr_assert(strstr(err.text, "quantum") && strstr(err.text, "auto") && strstr(err.text, "cpu, reference"),
              "%s", err.text);
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
    cr_assert_eq(buffer_read(x, 0, 16, got, &err), 0, "what is only read can be read: %s", err.text);
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
    struct buffer *x = buffer(DTYPE_F32, 4), *i = buffer(DTYPE_I32, 2), *y = buffer(DTYPE_F32, 4),
                  *z = buffer(DTYPE_F32, 4);
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

static int refused(int rc, const struct err *err)
{
    cr_assert(rc == 0 || rc == ERR_IN_FLIGHT, "%s", err->text);
    return rc != 0;
}

/* Rows 1 and 2 of four, columns 2 to 5 of eight: what lies before and after is free. */
Test(device, only_the_range_that_is_touched_is_in_flight)
{
    struct buffer *x = buffer(DTYPE_F32, 32), *w = buffer(DTYPE_F32, 4), *y = buffer(DTYPE_F32, 32);
    struct rms_norm_args args = {.rows = 2,
                                 .groups = 1,
                                 .width = 4,
                                 .x_stride = 8,
                                 .x_offset = 10,
                                 .y_stride = 8,
                                 .y_offset = 10,
                                 .eps = 1};
    float value = 1;
    struct err err;
    struct commands *c = commands_begin(device);
    device_rms_norm(c, &args, x, w, y);
    for (size_t i = 0; i < 32; i++) {
        int within = i >= 10 && i < 22;
        cr_assert_eq(refused(buffer_read(y, i, 1, &value, &err), &err), within, "reading %zu", i);
        cr_assert_eq(refused(buffer_write(y, i, 1, &value, &err), &err), within, "writing %zu", i);
        cr_assert_eq(refused(buffer_write(x, i, 1, &value, &err), &err), within, "writing x %zu", i);
        cr_assert_eq(refused(buffer_read(x, i, 1, &value, &err), &err), 0, "reading x %zu", i);
    }
    cr_assert_eq(refused(buffer_write(y, 0, 10, (float[10]){0}, &err), &err), 0);
    cr_assert_eq(refused(buffer_write(y, 0, 11, (float[11]){0}, &err), &err), 1);
    commands_drop(c);
    cr_assert_eq(buffer_write(y, 0, 32, (float[32]){0}, &err), 0);
    buffer_free(x);
    buffer_free(w);
    buffer_free(y);
}

Test(device, views_share_memory_and_are_in_flight_together)
{
    struct buffer *all = buffer(DTYPE_F32, 24), *a = NULL, *b = NULL, *inner = NULL, *none = NULL;
    const float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float got[8];
    struct err err;
    cr_assert_eq(buffer_view(all, 8, 8, &a, &err), 0);
    cr_assert_eq(buffer_view(all, 16, 8, &b, &err), 0);
    cr_assert_eq(buffer_view(a, 2, 4, &inner, &err), 0);
    cr_assert_eq(buffer_view(all, 20, 5, &none, &err), ERR_INVALID);
    cr_assert_eq(buffer_bytes(a), 0);
    cr_assert_eq(buffer_write(all, 8, 8, values, &err), 0);
    cr_assert_eq(buffer_read(inner, 1, 2, got, &err), 0);
    cr_assert(got[0] == 4 && got[1] == 5);
    struct commands *c = commands_begin(device);
    device_swiglu(c, &(struct swiglu_args){1, 4}, a, b);
    cr_assert_eq(buffer_write(all, 0, 8, values, &err), 0);
    cr_assert_eq(buffer_write(all, 0, 9, values, &err), ERR_IN_FLIGHT);
    cr_assert_eq(buffer_write(inner, 0, 1, values, &err), ERR_IN_FLIGHT);
    cr_assert_eq(buffer_read(all, 16, 4, got, &err), ERR_IN_FLIGHT);
    cr_assert_eq(buffer_read(b, 4, 4, got, &err), 0);
    cr_assert_eq(commands_submit(c, &err), 0);
    cr_assert_eq(commands_wait(c, &err), 0);
    cr_assert_eq(buffer_read(all, 16, 4, got, &err), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_float_eq(got[i], values[i] / (1 + expf(-values[i])) * values[i + 4], 1e-5);
    buffer_free(inner);
    buffer_free(a);
    buffer_free(b);
    buffer_free(all);
}

/* Three recorders at a time, submitted in another order than begun and waited for in that order. */
Test(device, recorders_are_independent)
{
    struct buffer *x = buffer(DTYPE_F32, 6);
    struct err err;
    float in[6] = {1, 2, 3, 4, 5, 6}, got[6] = {0};
    struct commands *a = commands_begin(device), *b = commands_begin(device), *c = commands_begin(device);
    cr_assert(a != b && b != c && a != c);
    device_download(a, x, 0, 6, got);
    device_upload(b, x, 0, 6, in);
    memset(in, 0, sizeof in); /* was copied */
    device_upload(c, x, 2, 2, in);
    commands_drop(c);
    cr_assert_eq(commands_submit(b, &err), 0);
    cr_assert_eq(commands_submit(a, &err), 0);
    cr_assert_eq(buffer_read(x, 0, 1, in, &err), ERR_IN_FLIGHT);
    cr_assert_eq(commands_wait(b, &err), 0);
    cr_assert_eq(buffer_read(x, 0, 1, in, &err), 0);
    cr_assert_eq(buffer_write(x, 0, 1, in, &err), ERR_IN_FLIGHT);
    cr_assert_eq(commands_wait(a, &err), 0);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(got[i], i + 1);
    buffer_free(x);
}

Test(device, copies_beyond_the_end_are_refused_at_submit)
{
    struct buffer *x = buffer(DTYPE_F32, 6);
    float data[8] = {0};
    struct err err;
    struct commands *c = commands_begin(device);
    device_upload(c, x, 2, 5, data);
    device_download(c, x, 0, 1, data);
    cr_assert_eq(commands_submit(c, &err), ERR_INVALID);
    cr_assert(strstr(err.text, "upload") && strstr(err.text, "of 6"), "%s", err.text);
    c = commands_begin(device);
    device_download(c, x, SIZE_MAX, 2, data);
    cr_assert_eq(commands_submit(c, &err), ERR_INVALID);
    for (int i = 0; i < 2 * COMMANDS_IN_FLIGHT; i++) { /* recorders come back after failures */
        c = commands_begin(device);
        device_gather(c, &(struct gather_args){0, 1}, x, x, x);
        cr_assert_eq(commands_submit(c, &err), ERR_INVALID);
    }
    buffer_free(x);
}

/* Large uploads beside small ones keep their data apart until they run. */
Test(device, uploads_of_all_sizes)
{
    enum { N = 400000 };
    struct buffer *x = buffer(DTYPE_I32, N);
    int32_t *data = malloc(N * sizeof *data), *got = malloc(N * sizeof *got);
    struct err err;
    for (int round = 0; round < 3; round++) {
        struct commands *c = commands_begin(device);
        for (int first = 0, n = 1; first < N; first += n, n = n < 100000 ? 2 * n + 1 : n) {
            int count = first + n < N ? n : N - first;
            for (int i = 0; i < count; i++)
                data[i] = (first + i) * 3 + round;
            device_upload(c, x, (size_t)first, (size_t)count, data);
        }
        device_download(c, x, 0, N, got);
        cr_assert_eq(commands_submit(c, &err), 0);
        cr_assert_eq(commands_wait(c, &err), 0);
        for (int i = 0; i < N; i++)
            cr_assert_eq(got[i], i * 3 + round);
    }
    free(data);
    free(got);
    buffer_free(x);
}

Test(device, recorded_commands_can_be_looked_at_and_run_in_parts)
{
    struct buffer *x = buffer(DTYPE_F32, 16), *w = buffer(DTYPE_F32, 8), *y = buffer(DTYPE_F32, 16),
                  *scratch = NULL;
    const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    float got[16];
    struct err err;
    struct command_info info;
    cr_assert_eq(buffer_create_scratch(device, DTYPE_F32, 16, &scratch, &err), 0);
    cr_assert_eq(buffer_write(w, 0, 8, ones, &err), 0);
    struct commands *c = commands_begin(device);
    device_upload(c, x, 0, 16, ones);
    commands_stage(c, 3, "norm");
    device_rms_norm(c, &norm, x, w, scratch);
    commands_stage(c, 4, "act");
    device_swiglu(c, &(struct swiglu_args){1, 8}, scratch, y);
    cr_assert_eq(commands_count(c), 3);
    commands_info(c, 0, &info);
    cr_assert(info.op == OPERATOR_COUNT && info.layer == -1 && info.output == x && info.width == 16);
    commands_info(c, 1, &info);
    cr_assert(info.op == OPERATOR_rms_norm && info.layer == 3 && info.output == scratch && info.rows == 2 &&
              info.stride == 8 && info.offset == 0 && info.width == 8);
    cr_assert_str_eq(info.stage, "norm");
    cr_assert_eq(commands_run(c, 0, 2, true, &err), 0);
    cr_assert_eq(buffer_read(scratch, 0, 16, got, &err), 0, "%s", err.text);
    cr_assert_float_eq(got[15], 1, 1e-5);
    cr_assert_eq(buffer_read(y, 0, 8, got, &err), 0);
    cr_assert_eq(got[0], 0, "not run yet");
    cr_assert_eq(commands_run(c, 2, 1, true, &err), 0);
    cr_assert_eq(buffer_read(y, 0, 8, got, &err), 0);
    cr_assert_float_eq(got[7], 1 / (1 + expf(-1)), 1e-5);
    commands_drop(c);
    buffer_free(x);
    buffer_free(w);
    buffer_free(y);
    buffer_free(scratch);
}

/* Whole views where data tells which part is touched: KV blocks, gathered rows, tables. */
Test(device, what_data_selects_is_in_flight_as_a_whole)
{
    struct buffer *pair = buffer(DTYPE_I32, 2), *kv = buffer(DTYPE_F32, 64), *half = NULL;
    float value = 0;
    struct err err;
    cr_assert_eq(buffer_view(kv, 0, 32, &half, &err), 0);
    struct commands *c = commands_begin(device);
    device_kv_copy(c, &(struct kv_copy_args){1, 8}, pair, half);
    cr_assert_eq(buffer_read(kv, 31, 1, &value, &err), ERR_IN_FLIGHT);
    cr_assert_eq(buffer_read(kv, 32, 1, &value, &err), 0);
    cr_assert_eq(commands_submit(c, &err), 0);
    cr_assert_eq(commands_wait(c, &err), 0);
    buffer_free(half);
    buffer_free(kv);
    buffer_free(pair);
}

/* The reference device with another device's roundings: KV in 16 bits, activations in 8. */
Test(device, reference_rounds_like_others)
{
    struct device *other = NULL;
    struct buffer *x = NULL, *w = NULL, *y = NULL;
    struct err err;
    const struct device_options options = {
        .name = "reference", .threads = 3, .kv_type = DTYPE_F16, .int8_rows = 1};
    float values[40], weight[2][40] = {{0}}, got[4];
    cr_assert_eq(device_open(&other, &options, &err), 0, "%s", err.text);
    cr_assert_eq(device_info(other)->kv_type, DTYPE_F16);
    for (int i = 0; i < 40; i++)
        values[i] = i == 3 ? 127 : i == 35 ? -12.7f : i < 32 ? 0.4f : 0.26f;
    weight[0][0] = weight[1][39] = 1;
    cr_assert_eq(buffer_create(other, DTYPE_F32, 80, &x, &err), 0);
    cr_assert_eq(buffer_create(other, DTYPE_F32, 4, &y, &err), 0);
    cr_assert_eq(device_weight_create(other, DTYPE_F32, 2, 40, weight, WEIGHT_MATMUL, &w, &err), 0);
    cr_assert_eq(buffer_write(x, 0, 40, values, &err), 0);
    cr_assert_eq(buffer_write(x, 40, 40, values, &err), 0);
    for (int rows = 1; rows <= 2; rows++) {
        struct commands *c = commands_begin(other);
        device_matmul(c, &(struct matmul_args){.rows = rows, .in = 40, .out = {2}}, x, w, NULL, NULL, NULL,
                      NULL, y);
        device_download(c, y, 0, 2, got);
        cr_assert_eq(commands_submit(c, &err), 0);
        cr_assert_eq(commands_wait(c, &err), 0);
        cr_assert_float_eq(got[0], rows == 1 ? 0 : 0.4f, 1e-6);
        cr_assert_float_eq(got[1], rows == 1 ? 0.3f : 0.26f, 1e-6);
    }
    buffer_free(x);
    buffer_free(w);
    buffer_free(y);
    device_close(other);
}

Test(device, error_text_is_one_line_of_utf8)
{
    struct err err;
    cr_assert_eq(err_set(&err, ERR_FORMAT, "key %s", "a\nb\xff\xc3"), ERR_FORMAT);
    cr_assert_str_eq(err.text, "key a b??");
    cr_assert_eq(err_set(NULL, ERR_IO, "ignored"), ERR_IO);
    cr_assert_str_eq(err_name(ERR_BUSY), "queue full");
}
