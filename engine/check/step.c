/* Recording a step on two devices, running it there in parts, and comparing what comes out. */
#include "step.h"

#include <stdlib.h>
#include <string.h>

/* ---- a device with a model ---- */

int check_side_open(struct check_side *out, const struct device_options *options, struct gguf *g,
                    struct err *err)
{
    *out = (struct check_side){0};
    int rc = device_open(&out->own_device, options, err);
    if (rc == 0)
        rc = weights_load(&out->own_weights, out->own_device, g, err);
    out->device = out->own_device;
    out->weights = out->own_weights;
    return rc;
}

/* One more than it takes: block 0, where a table of zeros leads, holds nothing. */
static int blocks_of(int context)
{
    return (context - 1) / CHECK_BLOCK_TOKENS + 2;
}

int check_side_prepare(struct check_side *s, int context, struct err *err)
{
    struct forward_options options = {.max_rows = context,
                                      .max_outputs = 1,
                                      .max_sequences = 1,
                                      .block_tokens = CHECK_BLOCK_TOKENS,
                                      .n_blocks = blocks_of(context),
                                      .max_context = context};
    return forward_create(&s->forward, s->device, s->weights, &options, err);
}

void check_side_close(struct check_side *s)
{
    forward_destroy(s->forward);
    weights_free(s->own_weights);
    device_close(s->own_device);
    *s = (struct check_side){0};
}

/* ---- rows ---- */

int check_rows_create(struct check_rows *r, int context, struct err *err)
{
    int blocks = blocks_of(context);
    *r = (struct check_rows){0};
    int32_t **arrays[] = {&r->token, &r->position, &r->sequence, &r->slot, &r->table};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if ((*arrays[i] = calloc((size_t)context, sizeof **arrays[i])) == NULL) {
            check_rows_dispose(r);
            return err_set(err, ERR_NOMEM, "out of memory for %d rows", context);
        }
    for (int i = 0; i < blocks - 1; i++)
        r->table[i] = blocks - 1 - i;
    r->batch = (struct batch){.token = r->token,
                              .position = r->position,
                              .sequence = r->sequence,
                              .slot = r->slot,
                              .n_sequences = 1,
                              .table = r->table,
                              .n_outputs = 1,
                              .output = &r->output};
    return 0;
}

void check_rows_dispose(struct check_rows *r)
{
    free(r->token);
    free(r->position);
    free(r->sequence);
    free(r->slot);
    free(r->table);
    *r = (struct check_rows){0};
}

const struct batch *check_rows_set(struct check_rows *r, const int32_t *tokens, int first, int n)
{
    for (int i = 0; i < n; i++) {
        int position = first + i;
        r->token[i] = tokens[i];
        r->position[i] = position;
        r->slot[i] =
            r->table[position / CHECK_BLOCK_TOKENS] * CHECK_BLOCK_TOKENS + position % CHECK_BLOCK_TOKENS;
    }
    r->batch.n_rows = n;
    r->output = n - 1;
    return &r->batch;
}

/* ---- a recorded step ---- */

/* A recording that failed shows when it is run. */
static int record(const struct check_side *s, const struct batch *b, struct commands **out, struct err *err)
{
    int rc = forward_record(s->forward, b, out, err);
    return rc ? rc : commands_run(*out, 0, 0, false, err);
}

int check_step_record(struct check_step *s, struct check_side *tested, struct check_side *reference,
                      const struct batch *b, struct err *err)
{
    *s = (struct check_step){.tested = tested, .reference = reference, .rows = b->n_rows};
    int rc = record(tested, b, &s->tested_commands, err);
    if (rc == 0)
        rc = record(reference, b, &s->reference_commands, err);
    if (rc)
        return rc;
    s->n = commands_count(s->tested_commands);
    REQUIRE(s->n == commands_count(s->reference_commands));
    s->info = calloc((size_t)s->n + 1, sizeof *s->info);
    s->values = calloc((size_t)s->n + 1, sizeof *s->values);
    if (!s->info || !s->values)
        return err_set(err, ERR_NOMEM, "out of memory for %d commands", s->n);
    for (int i = 0; i < s->n; i++) {
        struct command_info other;
        commands_info(s->tested_commands, i, &s->info[i]);
        commands_info(s->reference_commands, i, &other);
        REQUIRE(s->info[i].op == other.op);
        REQUIRE(other.op == OPERATOR_COUNT ||
                (s->info[i].rows == other.rows && s->info[i].width == other.width));
    }
    return 0;
}

void check_step_dispose(struct check_step *s)
{
    for (int i = 0; s->values && i < s->n; i++)
        free(s->values[i]);
    free(s->values);
    free(s->info);
    if (s->tested_commands)
        commands_drop(s->tested_commands);
    if (s->reference_commands)
        commands_drop(s->reference_commands);
    *s = (struct check_step){0};
}

int check_step_group(const struct check_step *s, int first)
{
    int end = first;
    while (end < s->n && s->info[end].layer == s->info[first].layer)
        end++;
    return end;
}

static bool has_result(const struct command_info *info)
{
    return info->op != OPERATOR_COUNT && info->op != OPERATOR_kv_copy;
}

/* The values that a command wrote, [rows][width]; *out is the caller's. */
static int read_result(const struct command_info *info, float **out, struct err *err)
{
    size_t span = info->rows ? (info->rows - 1) * info->stride + info->width : 0;
    REQUIRE(buffer_dtype(info->output) == DTYPE_F32 && info->width <= info->stride);
    float *values = malloc((span + 1) * sizeof *values);
    if (!values)
        return err_set(err, ERR_NOMEM, "out of memory for %zu values", span);
    int rc = buffer_read(info->output, info->offset, span, values, err);
    if (rc) {
        free(values);
        return rc;
    }
    for (size_t r = 1; r < info->rows; r++)
        memmove(values + r * info->width, values + r * info->stride, info->width * sizeof *values);
    *out = values;
    return 0;
}

int check_step_trace(struct check_step *s, int first, int end, struct err *err)
{
    int rc = 0;
    for (int i = first; i < end && rc == 0; i++) {
        struct command_info info;
        commands_info(s->reference_commands, i, &info);
        rc = commands_run(s->reference_commands, i, 1, true, err);
        if (rc == 0 && has_result(&info) && !s->values[i])
            rc = read_result(&info, &s->values[i], err);
    }
    return rc;
}

int check_step_last(const struct check_step *s, int end)
{
    int last = end - 1;
    while (last >= 0 && !s->values[last])
        last--;
    return last;
}

/* ---- on the tested device ---- */

static int measure(const struct check_step *s, int i, struct check_error *out, struct err *err)
{
    float *tested;
    int rc = read_result(&s->info[i], &tested, err);
    if (rc)
        return rc;
    rc = check_measure(s->values[i], tested, s->info[i].rows, s->info[i].width, out, err);
    free(tested);
    return rc;
}

int check_step_fused(struct check_step *s, int first, int end, struct check_error *out, struct err *err)
{
    int last = check_step_last(s, end);
    REQUIRE(last >= first);
    int rc = commands_run(s->tested_commands, first, end - first, false, err);
    return rc ? rc : measure(s, last, out, err);
}

int check_step_alone(struct check_step *s, int i, struct check_error *out, struct err *err)
{
    *out = (struct check_error){.finite = true};
    int rc = commands_run(s->tested_commands, i, 1, true, err);
    return rc || !s->values[i] ? rc : measure(s, i, out, err);
}

int check_step_feed(struct check_step *s, int i, struct err *err)
{
    const struct command_info *info = &s->info[i];
    if (!s->values[i])
        return 0;
    if (info->stride == info->width)
        return buffer_write(info->output, info->offset, info->rows * info->width, s->values[i], err);
    int rc = 0;
    for (size_t r = 0; r < info->rows && rc == 0; r++)
        rc = buffer_write(info->output, r * info->stride + info->offset, info->width,
                          s->values[i] + r * info->width, err);
    return rc;
}

const char *check_step_stage(const struct check_step *s, int i)
{
    const struct command_info *info = &s->info[i];
    if (info->op != OPERATOR_gather && info->stage && *info->stage)
        return info->stage;
    return info->op == OPERATOR_COUNT ? "copy" : operator_name(info->op);
}
