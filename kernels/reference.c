/* The reference device: every operator in plain C. What other devices are compared with; it reads like
 * the definitions. Activations are f32 and KV is f32, unless device_options asks for another device's
 * roundings. Threads take whole outputs, so that results do not depend on their number. */
#include <math.h>
#include <string.h>

#include "reference.h"

#define LANES 16      /* independent partial sums of a dot product: what a plain compiler vectorises */
#define INT8_BLOCK 32 /* elements that share a scale */

int reference_reserve(struct reference_scratch *s, size_t count, struct err *err)
{
    if (count <= s->capacity)
        return 0;
    free(s->memory);
    s->capacity = 0;
    s->memory = host_memory(count * sizeof *s->memory);
    if (!s->memory)
        return err_set(err, ERR_NOMEM, "out of memory for %zu floats of scratch", count);
    s->capacity = count;
    return 0;
}

int reference_run(struct reference *s, void (*work)(void *, int), size_t count, struct err *err)
{
    for (int i = 0; i < s->threads; i++) {
        int rc = reference_reserve(&s->own[i], count, err);
        if (rc < 0)
            return rc;
    }
    pool_run(s->pool, work, s);
    return 0;
}

float reference_dot(const float *a, const float *b, size_t n)
{
    float sum[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            sum[l] += a[i + l] * b[i + l];
    for (; i < n; i++)
        sum[0] += a[i] * b[i];
    double total = 0;
    for (size_t l = 0; l < LANES; l++)
        total += (double)sum[l];
    return (float)total;
}

/* A thread's share of n pieces. */
static void share(const struct reference *s, int thread, size_t n, size_t *first, size_t *last)
{
    *first = n * (size_t)thread / (size_t)s->threads;
    *last = n * ((size_t)thread + 1) / (size_t)s->threads;
}

static const void *weight_row(const struct buffer *w, size_t row)
{
    return (const char *)w->memory + row * (w->columns / dtype_block(w->dtype)) * dtype_block_bytes(w->dtype);
}

static void embed(const struct command *c)
{
    const struct embed_args *a = &c->args.embed;
    const struct buffer *table = c->buffer[2];
    float *x = c->buffer[3]->memory;
    for (int r = 0; r < a->rows; r++)
        dtype_to_f32(table->dtype, weight_row(table, (size_t)host_token(c, r)), (size_t)a->width,
                     x + (size_t)r * (size_t)a->width);
}

static void rms_norm(const struct rms_norm_args *a, struct buffer *const *b)
{
    const float *weight = b[1]->memory;
    for (int r = 0; r < a->rows; r++)
        for (int g = 0; g < a->groups; g++) {
            const float *x = (float *)b[0]->memory + (size_t)r * (size_t)a->x_stride + a->x_offset +
                             g * a->width;
            float *y = (float *)b[2]->memory + (size_t)r * (size_t)a->y_stride + a->y_offset + g * a->width;
            double squares = 0;
            for (int i = 0; i < a->width; i++)
                squares += (double)x[i] * (double)x[i];
            float scale = (float)(1 / sqrt(squares / a->width + (double)a->eps));
            for (int i = 0; i < a->width; i++)
                y[i] = x[i] * scale * weight[i];
        }
}

/* x as it looks after a journey through 8 bits per block; a row's last block may be short. */
static void through_int8(const float *x, float *y, size_t width)
{
    for (size_t first = 0; first < width; first += INT8_BLOCK) {
        size_t end = first + INT8_BLOCK < width ? first + INT8_BLOCK : width;
        float most = 0;
        for (size_t i = first; i < end; i++)
            most = fmaxf(most, fabsf(x[i]));
        float inverse = most > 0 ? 127 / most : 0, scale = most / 127;
        for (size_t i = first; i < end; i++)
            y[i] = rintf(x[i] * inverse) * scale;
    }
}

/* Each thread decodes its share of the weights' rows, once for all rows of x. */
static void matmul_share(void *context, int thread)
{
    struct reference *s = context;
    const struct command *c = s->command;
    const struct matmul_args *a = &c->args.matmul;
    struct buffer *const *b = c->buffer;
    const float *x = a->rows <= s->int8_rows ? s->x.memory : b[0]->memory;
    const float *bias = b[4] ? b[4]->memory : NULL, *add = b[5] ? b[5]->memory : NULL;
    float *y = b[6]->memory, *row = s->own[thread].memory;
    size_t in = (size_t)a->in, out = (size_t)a->out[0] + (size_t)a->out[1] + (size_t)a->out[2], first, last;
    share(s, thread, out, &first, &last);
    for (size_t column = first; column < last; column++) {
        size_t o = column;
        int segment = 0;
        while (o >= (size_t)a->out[segment])
            o -= (size_t)a->out[segment++];
        dtype_to_f32(b[1 + segment]->dtype, weight_row(b[1 + segment], o), in, row);
        for (size_t r = 0; r < (size_t)a->rows; r++) {
            float sum = reference_dot(x + r * in, row, in) + (bias ? bias[column] : 0);
            y[r * out + column] = add ? add[r * out + column] + sum : sum;
        }
    }
}

static int matmul(struct reference *s, const struct command *c, struct err *err)
{
    const struct matmul_args *a = &c->args.matmul;
    size_t in = (size_t)a->in, rows = (size_t)a->rows;
    if (a->rows <= s->int8_rows) {
        int rc = reference_reserve(&s->x, rows * in, err);
        if (rc < 0)
            return rc;
        for (size_t r = 0; r < rows; r++)
            through_int8((const float *)c->buffer[0]->memory + r * in, s->x.memory + r * in, in);
    }
    return reference_run(s, matmul_share, in, err);
}

static void swiglu(const struct swiglu_args *a, struct buffer *const *b)
{
    for (size_t r = 0, width = (size_t)a->width; r < (size_t)a->rows; r++) {
        const float *gate = (float *)b[0]->memory + 2 * r * width, *up = gate + width;
        float *y = (float *)b[1]->memory + r * width;
        for (size_t i = 0; i < width; i++)
            y[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
    }
}

static void gather(const struct gather_args *a, struct buffer *const *b)
{
    const int32_t *index = b[1]->memory;
    size_t width = (size_t)a->width;
    for (size_t r = 0; r < (size_t)a->rows; r++) {
        REQUIRE(index[r] >= 0 && ((size_t)index[r] + 1) * width <= b[0]->count);
        memcpy((float *)b[2]->memory + r * width, (float *)b[0]->memory + (size_t)index[r] * width,
               width * sizeof(float));
    }
}

static void add_scaled(const struct add_scaled_args *a, struct buffer *const *b)
{
    const float *x = b[0]->memory, *scale = (const float *)b[1]->memory + a->scale_first;
    for (size_t r = 0, width = (size_t)a->width; r < (size_t)a->rows; r++) {
        float *y = (float *)b[2]->memory + r * (size_t)a->y_stride + a->y_offset, factor = scale[r] * a->factor;
        for (size_t i = 0; i < width && factor != 0; i++)
            y[i] += x[r * width + i] * factor;
    }
}

static int sample(struct reference *s, const struct command *c, struct err *err)
{
    const struct sample_args *a = &c->args.sample;
    int rc = reference_reserve(&s->own[0], 2 * (size_t)a->vocab, err);
    if (rc == 0)
        sample_rows(a, c->buffer[0]->memory, c->buffer[1]->memory, c->buffer[2]->memory, c->buffer[3]->memory,
                    s->own[0].memory);
    return rc;
}

static int run(struct reference *s, const struct command *c, struct err *err)
{
    s->command = c;
    switch (c->op) {
    case OPERATOR_embed: embed(c); return 0;
    case OPERATOR_rms_norm: rms_norm(&c->args.rms_norm, c->buffer); return 0;
    case OPERATOR_matmul: return matmul(s, c, err);
    case OPERATOR_rope_kv: return reference_rope_kv(s, c, err);
    case OPERATOR_attention: return reference_attention(s, c, err);
    case OPERATOR_swiglu: swiglu(&c->args.swiglu, c->buffer); return 0;
    case OPERATOR_gather: gather(&c->args.gather, c->buffer); return 0;
    case OPERATOR_add_scaled: add_scaled(&c->args.add_scaled, c->buffer); return 0;
    case OPERATOR_kv_copy: reference_kv_copy(c); return 0;
    case OPERATOR_sample: return sample(s, c, err);
    case OPERATOR_COUNT: break;
    }
    REQUIRE(!"an operator");
}

static int reference_submit(struct device *device, const struct command *list, int n, bool whole,
                            uint64_t *ticket, struct err *err)
{
    struct reference *s = device->state;
    (void)whole; /* all results are always written */
    *ticket = 0;
    for (int i = 0; i < n; i++) {
        device_enter(device, &list[i]);
        if (list[i].copy != COPY_NONE) {
            host_copy(&list[i]);
            continue;
        }
        double start = host_now();
        int rc = run(s, &list[i], err);
        if (rc < 0)
            return rc;
        if (device->profiling)
            profile_add(device, &list[i], host_now() - start, 0);
    }
    device_enter(device, NULL);
    return 0;
}

static void reference_close(struct device *device)
{
    struct reference *s = device->state;
    pool_close(s->pool);
    for (int i = 0; s->own && i < s->threads; i++)
        free(s->own[i].memory);
    free(s->own);
    free(s->x.memory);
    free(s);
}

static int reference_open(struct device *device, const struct device_options *options, struct err *err)
{
    if (options->threads < 0 || options->threads > 1024)
        return err_set(err, ERR_INVALID, "%d threads: must be 0 (automatic) to 1024", options->threads);
    if (options->kv_type != DTYPE_F32 && options->kv_type != DTYPE_F16 && options->kv_type != DTYPE_Q8_0)
        return err_set(err, ERR_INVALID, "the reference device keeps KV as F32, F16 or Q8_0");
    struct reference *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_NOMEM, "out of memory for the reference device");
    device->state = s;
    s->threads = options->threads ? options->threads : pool_default_threads();
    s->int8_rows = options->int8_rows;
    s->own = calloc((size_t)s->threads, sizeof *s->own);
    int rc = s->own ? pool_open(&s->pool, s->threads, err) : err_set(err, ERR_NOMEM, "out of memory");
    if (rc < 0) {
        reference_close(device);
        return rc;
    }
    struct device_info *info = &device->info;
    *info = (struct device_info){.name = "reference", .threads = s->threads, .kv_type = options->kv_type,
                                 .int8_rows = s->int8_rows};
    snprintf(info->description, sizeof info->description, "plain C, %s activations, %d thread%s",
             s->int8_rows ? "int8" : "f32", s->threads, s->threads == 1 ? "" : "s");
    return 0;
}

static int reference_weight(struct buffer *b, const void *data, unsigned use, struct err *err)
{
    (void)use, (void)err;
    b->bytes = b->count / dtype_block(b->dtype) * dtype_block_bytes(b->dtype);
    b->memory = (void *)data; /* read in place, never written */
    return 0;
}

static void reference_free(struct buffer *b)
{
    if (!b->rows)
        host_free(b);
}

static void reference_idle(struct device *device)
{
    struct reference *s = device->state;
    pool_park(s->pool);
}

static double reference_bandwidth(struct device *device, size_t bytes)
{
    (void)device;
    size_t n = bytes / sizeof(uint64_t);
    uint64_t *memory = calloc(n ? n : 1, sizeof *memory), sum = 0;
    if (!memory)
        return 0;
    for (size_t i = 0; i < n; i += 512)
        memory[i] = i;
    double start = host_now();
    for (size_t i = 0; i < n; i++)
        sum += memory[i];
    double seconds = host_now() - start;
    free(memory);
    return sum == 1 ? 0 : (double)(n * sizeof *memory) / seconds;
}

const struct backend backend_reference = {
    .open = reference_open,
    .close = reference_close,
    .alloc = host_alloc,
    .weight = reference_weight,
    .free = reference_free,
    .view = host_view,
    .read = host_read,
    .write = host_write,
    .submit = reference_submit,
    .wait = host_wait,
    .idle = reference_idle,
    .bandwidth = reference_bandwidth,
};
