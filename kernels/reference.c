/* The reference device: every operator in plain C, f32 activations and f32 KV, no threads. What
 * other devices are compared with; it reads like the definitions. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "backend.h"

#define LANES 16 /* independent partial sums of a dot product: what a plain compiler vectorises */

struct reference {
    float *row; /* one decoded weight row */
    size_t row_capacity;
    float *scores;
    size_t scores_capacity;
    double seconds[OPERATOR_COUNT];
};

static int reserve(float **p, size_t *capacity, size_t count, struct err *err)
{
    if (count <= *capacity)
        return 0;
    float *grown = realloc(*p, count * sizeof **p);
    if (!grown)
        return err_set(err, ERR_NOMEM, "out of memory for scratch");
    *p = grown;
    *capacity = count;
    return 0;
}

static float dot(const float *a, const float *b, size_t n)
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

static const void *weight_row(const struct buffer *w, size_t row)
{
    return (const char *)w->memory + row * (w->columns / dtype_block(w->dtype)) * dtype_block_bytes(w->dtype);
}

static void embed(const struct embed_args *a, struct buffer *const *b)
{
    const int32_t *ids = b[0]->memory;
    float *x = b[2]->memory;
    for (int r = 0; r < a->rows; r++) {
        REQUIRE(ids[r] >= 0 && ids[r] < a->vocab);
        dtype_to_f32(b[1]->dtype, weight_row(b[1], (size_t)ids[r]), (size_t)a->width, x + (size_t)r * (size_t)a->width);
    }
}

static void rms_norm(const struct rms_norm_args *a, struct buffer *const *b)
{
    const float *weight = b[1]->memory;
    for (int r = 0; r < a->rows; r++)
        for (int g = 0; g < a->groups; g++) {
            const float *x = (float *)b[0]->memory + (size_t)r * (size_t)a->x_stride + a->x_offset + g * a->width;
            float *y = (float *)b[2]->memory + (size_t)r * (size_t)a->y_stride + a->y_offset + g * a->width;
            double squares = 0;
            for (int i = 0; i < a->width; i++)
                squares += (double)x[i] * (double)x[i];
            float scale = (float)(1 / sqrt(squares / a->width + (double)a->eps));
            for (int i = 0; i < a->width; i++)
                y[i] = x[i] * scale * weight[i];
        }
}

static int matmul(struct reference *s, const struct matmul_args *a, struct buffer *const *b, struct err *err)
{
    const float *x = b[0]->memory, *bias = b[4] ? b[4]->memory : NULL, *add = b[5] ? b[5]->memory : NULL;
    float *y = b[6]->memory;
    size_t in = (size_t)a->in, out = (size_t)(a->out[0] + a->out[1] + a->out[2]), column = 0;
    int rc = reserve(&s->row, &s->row_capacity, in, err);
    if (rc < 0)
        return rc;
    for (int segment = 0; segment < 3; segment++)
        for (int o = 0; o < a->out[segment]; o++, column++) {
            dtype_to_f32(b[1 + segment]->dtype, weight_row(b[1 + segment], (size_t)o), in, s->row);
            for (size_t r = 0; r < (size_t)a->rows; r++) {
                float sum = dot(x + r * in, s->row, in) + (bias ? bias[column] : 0);
                y[r * out + column] = add ? add[r * out + column] + sum : sum;
            }
        }
    return 0;
}

void rope_angles(const struct rope_kv_args *a, int position, const float *factors, float *cs)
{
    for (int i = 0; i < a->rope_dim / 2; i++) {
        double angle = position * pow(a->freq_base, -2.0 * i / a->rope_dim);
        if (factors)
            angle /= (double)factors[i];
        double interpolated = (double)a->freq_scale * angle, mix = 0;
        if (a->yarn_ext > 0) {
            double ramp = (i - (double)a->yarn_low) / fmax(0.001, (double)a->yarn_high - (double)a->yarn_low);
            mix = (1 - fmin(1, fmax(0, ramp))) * (double)a->yarn_ext;
        }
        angle = interpolated * (1 - mix) + angle * mix;
        cs[2 * i] = (float)(cos(angle) * (double)a->magnitude);
        cs[2 * i + 1] = (float)(sin(angle) * (double)a->magnitude);
    }
}

static void rotate(const struct rope_kv_args *a, float *head, const float *cs)
{
    int half = a->rope_dim / 2;
    for (int i = 0; i < half; i++) {
        float *p = a->style == ROPE_HALVES ? &head[i] : &head[2 * i];
        float *q = a->style == ROPE_HALVES ? &head[i + half] : &head[2 * i + 1];
        float c = cs[2 * i], s = cs[2 * i + 1], u = *p, v = *q;
        *p = u * c - v * s;
        *q = u * s + v * c;
    }
}

static int rope_kv(struct reference *s, const struct rope_kv_args *a, struct buffer *const *b, struct err *err)
{
    const int32_t *position = b[1]->memory, *slot = b[2]->memory;
    const float *factors = b[3] ? b[3]->memory : NULL;
    float *kv = b[4]->memory;
    size_t dim = (size_t)a->head_dim, heads = (size_t)a->n_heads, kv_heads = (size_t)a->n_kv_heads;
    size_t tokens = (size_t)a->block_tokens;
    int rc = reserve(&s->row, &s->row_capacity, (size_t)a->rope_dim, err);
    if (rc < 0)
        return rc;
    for (int r = 0; r < a->rows; r++) {
        float *row = (float *)b[0]->memory + (size_t)r * (heads + 2 * kv_heads) * dim;
        rope_angles(a, position[r], factors, s->row);
        for (size_t h = 0; h < heads + kv_heads; h++)
            rotate(a, row + h * dim, s->row);
        size_t block = (size_t)slot[r] / tokens, offset = (size_t)slot[r] % tokens;
        REQUIRE((block + 1) * 2 * kv_heads * tokens * dim <= b[4]->count);
        for (size_t part = 0; part < 2; part++)
            for (size_t h = 0; h < kv_heads; h++)
                memcpy(kv + (((block * 2 + part) * kv_heads + h) * tokens + offset) * dim,
                       row + (heads + part * kv_heads + h) * dim, dim * sizeof *kv);
    }
    return 0;
}

static int attention(struct reference *s, const struct attention_args *a, struct buffer *const *b, struct err *err)
{
    const int32_t *position = b[1]->memory, *sequence = b[2]->memory, *table = b[3]->memory;
    const float *kv = b[4]->memory;
    size_t dim = (size_t)a->head_dim, tokens = (size_t)a->block_tokens, kv_heads = (size_t)a->n_kv_heads;
    int group = a->n_heads / a->n_kv_heads;
    for (int r = 0; r < a->rows; r++) {
        const int32_t *blocks = table + (size_t)sequence[r] * (size_t)a->table_stride;
        size_t n = (size_t)position[r] + 1;
        int rc = reserve(&s->scores, &s->scores_capacity, n, err);
        if (rc < 0)
            return rc;
        for (int h = 0; h < a->n_heads; h++) {
            const float *q = (float *)b[0]->memory + (size_t)r * (size_t)a->q_stride + (size_t)h * dim;
            float *out = (float *)b[5]->memory + ((size_t)r * (size_t)a->n_heads + (size_t)h) * dim, peak = -INFINITY;
            size_t head = (size_t)(h / group);
            for (size_t t = 0; t < n; t++) {
                size_t at = ((size_t)blocks[t / tokens] * 2 * kv_heads + head) * tokens + t % tokens;
                s->scores[t] = dot(q, kv + at * dim, dim) * a->scale;
                peak = fmaxf(peak, s->scores[t]);
            }
            double sum = 0;
            memset(out, 0, dim * sizeof *out);
            for (size_t t = 0; t < n; t++) {
                size_t at = (((size_t)blocks[t / tokens] * 2 + 1) * kv_heads + head) * tokens + t % tokens;
                float p = expf(s->scores[t] - peak);
                sum += (double)p;
                for (size_t i = 0; i < dim; i++)
                    out[i] += p * kv[at * dim + i];
            }
            for (size_t i = 0; i < dim; i++)
                out[i] = (float)(out[i] / sum);
        }
    }
    return 0;
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
        memcpy((float *)b[2]->memory + r * width, (float *)b[0]->memory + (size_t)index[r] * width, width * sizeof(float));
    }
}

static void kv_copy(const struct kv_copy_args *a, struct buffer *const *b)
{
    const int32_t *pair = b[0]->memory;
    size_t bytes = (size_t)a->block_elements * sizeof(float);
    for (int i = 0; i < a->pairs; i++)
        memcpy((char *)b[1]->memory + (size_t)pair[2 * i + 1] * bytes, (char *)b[1]->memory + (size_t)pair[2 * i] * bytes,
               bytes);
}

static int run(struct reference *s, const struct command *c, struct err *err)
{
    switch (c->op) {
    case OPERATOR_embed: embed(&c->args.embed, c->buffer); return 0;
    case OPERATOR_rms_norm: rms_norm(&c->args.rms_norm, c->buffer); return 0;
    case OPERATOR_matmul: return matmul(s, &c->args.matmul, c->buffer, err);
    case OPERATOR_rope_kv: return rope_kv(s, &c->args.rope_kv, c->buffer, err);
    case OPERATOR_attention: return attention(s, &c->args.attention, c->buffer, err);
    case OPERATOR_swiglu: swiglu(&c->args.swiglu, c->buffer); return 0;
    case OPERATOR_gather: gather(&c->args.gather, c->buffer); return 0;
    case OPERATOR_kv_copy: kv_copy(&c->args.kv_copy, c->buffer); return 0;
    case OPERATOR_COUNT: break;
    }
    REQUIRE(!"an operator");
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int reference_submit(struct device *device, const struct command *list, int n, struct err *err)
{
    struct reference *s = device->state;
    for (int i = 0; i < n; i++) {
        double start = now();
        int rc = run(s, &list[i], err);
        if (rc < 0)
            return rc;
        s->seconds[list[i].op] += now() - start;
    }
    return 0;
}

static int reference_wait(struct device *device, struct err *err)
{
    (void)device, (void)err; /* submit has run everything */
    return 0;
}

static int reference_open(struct device *device, const struct device_options *options, struct err *err)
{
    (void)options;
    device->state = calloc(1, sizeof(struct reference));
    if (!device->state)
        return err_set(err, ERR_NOMEM, "out of memory for the reference device");
    device->info = (struct device_info){
        .name = "reference", .description = "plain C, f32 activations, 1 thread", .threads = 1, .kv_type = DTYPE_F32};
    return 0;
}

static void reference_close(struct device *device)
{
    struct reference *s = device->state;
    free(s->row);
    free(s->scores);
    free(s);
}

static int reference_alloc(struct buffer *b, struct err *err)
{
    b->bytes = b->count * dtype_block_bytes(b->dtype);
    b->memory = calloc(b->count ? b->count : 1, dtype_block_bytes(b->dtype));
    return b->memory ? 0 : err_set(err, ERR_NOMEM, "out of memory for a buffer of %zu bytes", b->bytes);
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
        free(b->memory);
}

static void reference_read(struct buffer *b, size_t first, size_t count, void *out)
{
    size_t size = dtype_block_bytes(b->dtype);
    memcpy(out, (char *)b->memory + first * size, count * size);
}

static void reference_write(struct buffer *b, size_t first, size_t count, const void *in)
{
    size_t size = dtype_block_bytes(b->dtype);
    memcpy((char *)b->memory + first * size, in, count * size);
}

static void reference_idle(struct device *device)
{
    (void)device; /* no threads */
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
    double start = now();
    for (size_t i = 0; i < n; i++)
        sum += memory[i];
    double seconds = now() - start;
    free(memory);
    return sum == 1 ? 0 : (double)(n * sizeof *memory) / seconds;
}

static void reference_profile(struct device *device, double *seconds)
{
    struct reference *s = device->state;
    memcpy(seconds, s->seconds, sizeof s->seconds);
    memset(s->seconds, 0, sizeof s->seconds);
}

const struct backend backend_reference = {
    .open = reference_open, .close = reference_close, .alloc = reference_alloc, .weight = reference_weight,
    .free = reference_free, .read = reference_read, .write = reference_write, .submit = reference_submit,
    .wait = reference_wait, .idle = reference_idle, .bandwidth = reference_bandwidth, .profile = reference_profile,
};
