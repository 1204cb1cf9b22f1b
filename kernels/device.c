/* The common half of every device: creation, checks, recording, ranges in flight. */
#include "device.h"

#include <string.h>

#include "backend.h"

enum access { ACCESS_NONE, ACCESS_IN, ACCESS_OUT, ACCESS_INOUT, ACCESS_OPT, ACCESS_WEIGHT, ACCESS_OPTWEIGHT,
              ACCESS_KVIN, ACCESS_KVOUT };

struct operand {
    enum access access;
    enum dtype dtype;
    const char *name;
};

#define IN(type, name) {ACCESS_IN, DTYPE_##type, #name}
#define OUT(type, name) {ACCESS_OUT, DTYPE_##type, #name}
#define INOUT(type, name) {ACCESS_INOUT, DTYPE_##type, #name}
#define OPT(type, name) {ACCESS_OPT, DTYPE_##type, #name}
#define WEIGHT(name) {ACCESS_WEIGHT, 0, #name}
#define OPTWEIGHT(name) {ACCESS_OPTWEIGHT, 0, #name}
#define KVIN(name) {ACCESS_KVIN, 0, #name}
#define KVOUT(name) {ACCESS_KVOUT, 0, #name}
static const struct {
    const char *name;
    struct operand operand[OPERATOR_MAX_BUFFERS];
} operators[OPERATOR_COUNT] = {
#define OPERATOR(name, ...) [OPERATOR_##name] = {#name, {__VA_ARGS__}},
#include "kernels.def"
#undef OPERATOR
};

struct commands {
    struct device *device;
    struct command *list;
    int n, capacity;
    bool submitted;
    struct err err; /* the first failure while recording */
};

const char *operator_name(enum operator op)
{
    return operators[op].name;
}

int device_open(struct device **out, const struct device_options *options, struct err *err)
{
    const char *name = options->name ? options->name : "auto";
    const struct backend *backend = NULL;
    if (!strcmp(name, "auto") || !strcmp(name, "cpu"))
        backend = &backend_cpu;
    else if (!strcmp(name, "reference"))
        backend = &backend_reference;
    if (!backend)
        return err_set(err, ERR_UNSUPPORTED, "no device \"%s\" in this build (known: auto, cpu, reference)", name);
    struct device *device = calloc(1, sizeof *device);
    struct commands *commands = calloc(1, sizeof *commands);
    if (!device || !commands) {
        free(device);
        free(commands);
        return err_set(err, ERR_NOMEM, "out of memory for a device");
    }
    device->backend = backend;
    device->commands = commands;
    commands->device = device;
    int rc = backend->open(device, options, err);
    if (rc < 0) {
        free(commands);
        free(device);
        return rc;
    }
    *out = device;
    return 0;
}

void device_close(struct device *device)
{
    if (!device)
        return;
    REQUIRE(device->buffers == 0);
    device->backend->close(device);
    free(device->commands->list);
    free(device->commands);
    free(device);
}

const struct device_info *device_info(const struct device *device)
{
    return &device->info;
}

void device_idle(struct device *device)
{
    device->backend->idle(device);
}

double device_read_bandwidth(struct device *device, size_t bytes)
{
    return device->backend->bandwidth(device, bytes);
}

void device_profile(struct device *device, double *seconds)
{
    device->backend->profile(device, seconds);
}

static struct buffer *buffer_new(struct device *device, enum dtype dtype, size_t count)
{
    struct buffer *b = calloc(1, sizeof *b);
    if (b) {
        b->device = device;
        b->dtype = dtype;
        b->count = count;
    }
    return b;
}

int buffer_create(struct device *device, enum dtype dtype, size_t count, struct buffer **out, struct err *err)
{
    size_t bytes;
    REQUIRE(dtype_block(dtype) == 1);
    if (__builtin_mul_overflow(count, dtype_block_bytes(dtype), &bytes))
        return err_set(err, ERR_NOMEM, "a buffer of %zu elements is too large", count);
    struct buffer *b = buffer_new(device, dtype, count);
    if (!b)
        return err_set(err, ERR_NOMEM, "out of memory for a buffer");
    int rc = device->backend->alloc(b, err);
    if (rc < 0) {
        free(b);
        return rc;
    }
    device->buffers++;
    *out = b;
    return 0;
}

int device_weight_create(struct device *device, enum dtype dtype, size_t rows, size_t columns, const void *data,
                         unsigned use, struct buffer **out, struct err *err)
{
    REQUIRE(dtype_is_weight(dtype) && rows && columns && columns % dtype_block(dtype) == 0);
    struct buffer *b = buffer_new(device, dtype, rows * columns);
    if (!b)
        return err_set(err, ERR_NOMEM, "out of memory for a weight");
    b->rows = rows;
    b->columns = columns;
    int rc = device->backend->weight(b, data, use, err);
    if (rc < 0) {
        free(b);
        return rc;
    }
    device->buffers++;
    *out = b;
    return 0;
}

bool weight_is_copy(const struct buffer *b)
{
    return b->copied;
}

void buffer_free(struct buffer *b)
{
    if (!b)
        return;
    REQUIRE(!b->in_flight);
    b->device->buffers--;
    b->device->backend->free(b);
    free(b);
}

enum dtype buffer_dtype(const struct buffer *b)
{
    return b->dtype;
}

size_t buffer_count(const struct buffer *b)
{
    return b->count;
}

size_t buffer_bytes(const struct buffer *b)
{
    return b->bytes;
}

static int check_range(const struct buffer *b, size_t first, size_t count, struct err *err)
{
    if (b->rows)
        return err_set(err, ERR_INVALID, "a weight cannot be read or written");
    if (first > b->count || count > b->count - first)
        return err_set(err, ERR_INVALID, "elements %zu to %zu of a buffer of %zu", first, first + count, b->count);
    if (b->in_flight)
        return err_set(err, ERR_IN_FLIGHT, "a buffer that queued commands touch cannot be read or written");
    return 0;
}

int buffer_read(struct buffer *b, size_t first, size_t count, void *out, struct err *err)
{
    int rc = check_range(b, first, count, err);
    if (rc == 0)
        b->device->backend->read(b, first, count, out);
    return rc;
}

int buffer_write(struct buffer *b, size_t first, size_t count, const void *in, struct err *err)
{
    int rc = check_range(b, first, count, err);
    if (rc == 0)
        b->device->backend->write(b, first, count, in);
    return rc;
}

/* The least number of elements that each operand must have; 0: not checked (absent or a weight). */
static void least_counts(const struct command *c, size_t need[OPERATOR_MAX_BUFFERS])
{
    memset(need, 0, sizeof(size_t) * OPERATOR_MAX_BUFFERS);
    switch (c->op) {
    case OPERATOR_embed: {
        const struct embed_args *a = &c->args.embed;
        need[0] = (size_t)a->rows;
        need[2] = (size_t)a->rows * (size_t)a->width;
        break;
    }
    case OPERATOR_rms_norm: {
        const struct rms_norm_args *a = &c->args.rms_norm;
        size_t inner = (size_t)a->groups * (size_t)a->width, before = (size_t)(a->rows - 1);
        need[0] = before * (size_t)a->x_stride + (size_t)a->x_offset + inner;
        need[1] = (size_t)a->width;
        need[2] = before * (size_t)a->y_stride + (size_t)a->y_offset + inner;
        break;
    }
    case OPERATOR_matmul: {
        const struct matmul_args *a = &c->args.matmul;
        size_t out = (size_t)a->out[0] + (size_t)a->out[1] + (size_t)a->out[2];
        need[0] = (size_t)a->rows * (size_t)a->in;
        need[4] = out;
        need[5] = need[6] = (size_t)a->rows * out;
        break;
    }
    case OPERATOR_rope_kv: {
        const struct rope_kv_args *a = &c->args.rope_kv;
        need[0] = (size_t)a->rows * (size_t)(a->n_heads + 2 * a->n_kv_heads) * (size_t)a->head_dim;
        need[1] = need[2] = (size_t)a->rows;
        need[3] = (size_t)a->rope_dim / 2;
        break;
    }
    case OPERATOR_attention: {
        const struct attention_args *a = &c->args.attention;
        size_t width = (size_t)a->n_heads * (size_t)a->head_dim;
        need[0] = (size_t)(a->rows - 1) * (size_t)a->q_stride + width;
        need[1] = need[2] = (size_t)a->rows;
        need[3] = (size_t)a->table_stride;
        need[5] = (size_t)a->rows * width;
        break;
    }
    case OPERATOR_swiglu: {
        const struct swiglu_args *a = &c->args.swiglu;
        need[0] = 2 * (size_t)a->rows * (size_t)a->width;
        need[1] = (size_t)a->rows * (size_t)a->width;
        break;
    }
    case OPERATOR_gather: {
        const struct gather_args *a = &c->args.gather;
        need[1] = (size_t)a->rows;
        need[2] = (size_t)a->rows * (size_t)a->width;
        break;
    }
    case OPERATOR_kv_copy:
        need[0] = 2 * (size_t)c->args.kv_copy.pairs;
        break;
    case OPERATOR_COUNT: REQUIRE(!"an operator");
    }
}

static int check_weights(const struct command *c, struct err *err)
{
    if (c->op == OPERATOR_embed) {
        const struct buffer *w = c->buffer[1];
        const struct embed_args *a = &c->args.embed;
        if (w->rows != (size_t)a->vocab || w->columns != (size_t)a->width)
            return err_set(err, ERR_INVALID, "embed: table is [%zu][%zu], the arguments say [%d][%d]", w->rows,
                           w->columns, a->vocab, a->width);
    }
    if (c->op == OPERATOR_matmul) {
        const struct matmul_args *a = &c->args.matmul;
        for (int i = 0; i < 3; i++) {
            const struct buffer *w = c->buffer[1 + i];
            size_t rows = w ? w->rows : 0, columns = w ? w->columns : (size_t)a->in;
            if (rows != (size_t)a->out[i] || columns != (size_t)a->in)
                return err_set(err, ERR_INVALID, "matmul: w%d is [%zu][%zu], the arguments say [%d][%d]", i, rows,
                               columns, a->out[i], a->in);
        }
    }
    return 0;
}

static int check_operands(const struct command *c, struct err *err)
{
    size_t need[OPERATOR_MAX_BUFFERS];
    least_counts(c, need);
    for (int i = 0; i < OPERATOR_MAX_BUFFERS; i++) {
        const struct operand *o = &operators[c->op].operand[i];
        const struct buffer *b = c->buffer[i];
        const char *op = operators[c->op].name;
        if (o->access == ACCESS_NONE)
            break;
        bool weight = o->access == ACCESS_WEIGHT || o->access == ACCESS_OPTWEIGHT;
        if (!b) {
            if (o->access == ACCESS_OPT || o->access == ACCESS_OPTWEIGHT)
                continue;
            return err_set(err, ERR_INVALID, "%s: buffer %s is missing", op, o->name);
        }
        if (weight != (b->rows != 0))
            return err_set(err, ERR_INVALID, "%s: buffer %s must %sbe a weight", op, o->name, weight ? "" : "not ");
        enum dtype want = o->access == ACCESS_KVIN || o->access == ACCESS_KVOUT ? b->device->info.kv_type : o->dtype;
        if (!weight && b->dtype != want)
            return err_set(err, ERR_INVALID, "%s: buffer %s is %s, the operator wants %s", op, o->name,
                           dtype_name(b->dtype), dtype_name(want));
        if (!weight && b->count < need[i])
            return err_set(err, ERR_INVALID, "%s: buffer %s has %zu elements, the operator wants %zu", op, o->name,
                           b->count, need[i]);
    }
    return check_weights(c, err);
}

struct commands *commands_begin(struct device *device)
{
    struct commands *c = device->commands;
    REQUIRE(!c->submitted);
    for (int i = 0; i < c->n; i++)
        for (int j = 0; j < OPERATOR_MAX_BUFFERS; j++)
            if (c->list[i].buffer[j])
                c->list[i].buffer[j]->in_flight = false;
    c->n = 0;
    c->err.code = 0;
    return c;
}

static void record(struct commands *c, enum operator op, const void *args, size_t size, struct buffer **buffers, int n)
{
    REQUIRE(!c->submitted);
    if (c->err.code)
        return;
    if (c->n == c->capacity) {
        int capacity = c->capacity ? 2 * c->capacity : 256;
        struct command *list = realloc(c->list, (size_t)capacity * sizeof *list);
        if (!list) {
            err_set(&c->err, ERR_NOMEM, "out of memory for commands");
            return;
        }
        c->list = list;
        c->capacity = capacity;
    }
    struct command *command = &c->list[c->n];
    memset(command, 0, sizeof *command);
    command->op = op;
    memcpy(&command->args, args, size);
    memcpy(command->buffer, buffers, (size_t)n * sizeof *buffers);
    if (check_operands(command, &c->err) < 0)
        return;
    for (int i = 0; i < n; i++)
        if (buffers[i])
            buffers[i]->in_flight = true;
    c->n++;
}

#define PARAMETERS_2 struct buffer *b0, struct buffer *b1
#define PARAMETERS_3 PARAMETERS_2, struct buffer *b2
#define PARAMETERS_5 PARAMETERS_3, struct buffer *b3, struct buffer *b4
#define PARAMETERS_6 PARAMETERS_5, struct buffer *b5
#define PARAMETERS_7 PARAMETERS_6, struct buffer *b6
#define NAMES_2 b0, b1
#define NAMES_3 NAMES_2, b2
#define NAMES_5 NAMES_3, b3, b4
#define NAMES_6 NAMES_5, b5
#define NAMES_7 NAMES_6, b6
#define COUNT_OF(_1, _2, _3, _4, _5, _6, _7, n, ...) n
#define COUNT(...) COUNT_OF(__VA_ARGS__, 7, 6, 5, 4, 3, 2, 1, 0)
#define ENCODER(name, n) ENCODER_(name, n)
#define ENCODER_(name, n)                                                                        \
    void device_##name(struct commands *c, const struct name##_args *args, PARAMETERS_##n)      \
    {                                                                                            \
        record(c, OPERATOR_##name, args, sizeof *args, (struct buffer *[]){NAMES_##n}, n);       \
    }
#undef IN
#undef OUT
#undef INOUT
#undef OPT
#undef WEIGHT
#undef OPTWEIGHT
#undef KVIN
#undef KVOUT
#define OPERATOR(name, ...) ENCODER(name, COUNT(__VA_ARGS__))
#include "kernels.def"
#undef OPERATOR

int commands_submit(struct commands *c, struct err *err)
{
    REQUIRE(!c->submitted);
    if (c->err.code) {
        int code = c->err.code;
        if (err)
            *err = c->err;
        commands_begin(c->device);
        return code;
    }
    int rc = c->device->backend->submit(c->device, c->list, c->n, err);
    if (rc < 0) {
        commands_begin(c->device);
        return rc;
    }
    c->submitted = true;
    return 0;
}

int commands_wait(struct commands *c, struct err *err)
{
    if (!c->submitted)
        return 0;
    int rc = c->device->backend->wait(c->device, err);
    c->submitted = false;
    commands_begin(c->device);
    return rc;
}
