/* Operands on two devices, and the comparison with its bounds. */
#include "parity.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#define UNTOUCHED -7.25f /* what results are before they are written, and guards after */
#define GUARD 37         /* elements behind a result */

const struct pair nothing = {{NULL, NULL}};
const int row_counts[N_ROWS] = {1, 2, 3, 5, 17, 64, 130};

/* How far a result may be off, by operator and arithmetic: rms of the errors relative to the rms of the
 * result, and the largest error relative to that rms or to the value, whichever is more. */
static const struct bound {
    double rms, max;
} bounds[][CPU_INT15 + 1] = {
    /* Sums of a few hundred f32 products in another order. */
    [OPERATOR_matmul] = {[FLOAT32] = {2e-6, 3e-5},
                         /* x (and w) rounded to 11 bits: 2^-12 / sqrt(3) each on average */
                         [HALF] = {1e-3, 1e-2},
                         /* x to 8 bits of its row's blocks of 32, with outliers of 20 standard deviations */
                         [CPU_INT8] = {0.03, 0.25},
                         /* to 15 bits */
                         [CPU_INT15] = {3e-4, 3e-3}},
    /* A product and a sum of few factors, contracted or not. */
    [OPERATOR_embed] = {[FLOAT32] = {1e-6, 1e-6}},
    /* A sum of squares in another order, and a reciprocal root. */
    [OPERATOR_rms_norm] = {[FLOAT32] = {1e-6, 1e-5}},
    /* Angles rounded to f32 after a reduction of up to 130,000 radians. */
    [OPERATOR_rope_kv] = {[FLOAT32] = {3e-6, 4e-5},
                          /* what differs in the last bit of f32 may round to another f16 */
                          [HALF] = {1e-4, 1.1e-3}},
    [OPERATOR_attention] = {[FLOAT32] = {1e-5, 1e-4},
                            /* q, and the weights of the keys, rounded to 11 bits for the matrix units */
                            [HALF] = {1.5e-3, 3e-2}},
    [OPERATOR_swiglu] = {[FLOAT32] = {1e-6, 1e-5}},
    /* A product and a sum, contracted or not. */
    [OPERATOR_add_scaled] = {[FLOAT32] = {1e-6, 1e-6}},
    /* Copies. */
    [OPERATOR_gather] = {[EXACT] = {0, 0}},
    [OPERATOR_kv_copy] = {[EXACT] = {0, 0}},
    /* Ids; the cases keep away from ties. */
    [OPERATOR_sample] = {[EXACT] = {0, 0}},
    /* A layer: the errors of its matmuls, each once more through what follows. */
    [OPERATOR_COUNT] = {[EXACT] = {0, 0},
                        [FLOAT32] = {2e-4, 3e-3},
                        [HALF] = {3e-3, 3e-2},
                        /* an input on the edge between two 8-bit values may fall to either side */
                        [GPU_INT8] = {0.02, 0.15},
                        [CPU_INT8] = {0.06, 0.5},
                        [CPU_INT15] = {2e-3, 2e-2}},
};

void case_fail(struct parity *p, const char *format, ...)
{
    if (p->failure[0])
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->failure, sizeof p->failure, format, arguments);
    va_end(arguments);
}

bool is_gpu(const struct parity *p)
{
    return device_info(p->device[TESTED])->gpu;
}

enum arithmetic matmul_arithmetic(const struct parity *p, enum dtype type, int rows, bool precise)
{
    if (is_gpu(p))
        return rows > 4 ? HALF : FLOAT32;
    if (dtype_block(type) == 1)
        return FLOAT32;
    return precise ? CPU_INT15 : CPU_INT8;
}

static void *keep(struct parity *p, void *memory)
{
    REQUIRE(memory && p->n_memory < CASE_BUFFERS);
    return p->memory[p->n_memory++] = memory;
}

static void *untouched(enum dtype dtype, size_t count)
{
    size_t size = dtype_block_bytes(dtype);
    unsigned char *data = malloc((count ? count : 1) * size);
    float f = UNTOUCHED;
    uint16_t h = f32_to_f16(f);
    REQUIRE(data);
    for (size_t i = 0; i < count; i++)
        memcpy(data + i * size, size == 2 ? (void *)&h : (void *)&f, size);
    return data;
}

static struct pair make_pair(struct parity *p, enum dtype dtype, size_t count, const void *data, bool scratch)
{
    struct pair pair = nothing;
    struct err err;
    REQUIRE(p->n_pairs < CASE_BUFFERS);
    BOTH(i) {
        int rc = scratch ? buffer_create_scratch(p->device[i], dtype, count, &pair.on[i], &err)
                         : buffer_create(p->device[i], dtype, count, &pair.on[i], &err);
        if (rc == 0 && data)
            rc = buffer_write(pair.on[i], 0, count, data, &err);
        if (rc < 0)
            case_fail(p, "a buffer: %s", err.text);
    }
    return p->pairs[p->n_pairs++] = pair;
}

struct pair pair_buffer(struct parity *p, enum dtype dtype, size_t count, const void *data)
{
    if (data)
        return make_pair(p, dtype, count, data, false);
    return make_pair(p, dtype, count + GUARD, keep(p, untouched(dtype, count + GUARD)), false);
}

struct pair pair_scratch(struct parity *p, enum dtype dtype, size_t count)
{
    return make_pair(p, dtype, count, NULL, true);
}

struct pair pair_random(struct parity *p, size_t count)
{
    return pair_buffer(p, DTYPE_F32, count, keep(p, random_floats(count)));
}

struct pair pair_kv(struct parity *p, size_t count)
{
    enum dtype type = device_info(p->device[TESTED])->kv_type;
    float *x = keep(p, random_floats(count));
    uint16_t *half = keep(p, malloc(count * sizeof *half));
    for (size_t i = 0; i < count; i++)
        half[i] = f32_to_f16(x[i]);
    return pair_buffer(p, type, count, type == DTYPE_F16 ? (void *)half : (void *)x);
}

struct pair pair_weight(struct parity *p, enum dtype type, size_t rows, size_t columns)
{
    struct pair pair = nothing;
    struct err err;
    const void *data = keep(p, random_weight(type, rows * columns));
    REQUIRE(p->n_pairs < CASE_BUFFERS);
    BOTH(i)
    if (device_weight_create(p->device[i], type, rows, columns, data, WEIGHT_MATMUL | WEIGHT_EMBED,
                             &pair.on[i], &err) < 0)
        case_fail(p, "a weight: %s", err.text);
    return p->pairs[p->n_pairs++] = pair;
}

void case_begin(struct parity *p)
{
    BOTH(i)
        p->commands[i] = commands_begin(p->device[i]);
}

bool case_run(struct parity *p)
{
    struct err err;
    BOTH(i) {
        int rc = commands_submit(p->commands[i], &err);
        if (rc == 0)
            rc = commands_wait(p->commands[i], &err);
        if (rc < 0)
            case_fail(p, "%s: %s", i == TESTED ? p->name : "reference", err.text);
        device_idle(p->device[i]);
    }
    return !p->failure[0];
}

void case_end(struct parity *p)
{
    while (p->n_pairs > 0) {
        struct pair pair = p->pairs[--p->n_pairs];
        BOTH(i)
            buffer_free(pair.on[i]);
    }
    while (p->n_memory > 0)
        free(p->memory[--p->n_memory]);
}

static double value_at(enum dtype dtype, const void *data, size_t i)
{
    switch (dtype) {
    case DTYPE_F16: return (double)f16_to_f32(((const uint16_t *)data)[i]);
    case DTYPE_I32: return ((const int32_t *)data)[i];
    default: return (double)((const float *)data)[i];
    }
}

/* The worst element of the worst case is what is reported. */
static void take(struct parity *p, const struct bound *bound, double rms, double max)
{
    p->cases++;
    if (p->cases == 1 || rms * p->rms_bound >= p->rms * bound->rms) {
        p->rms = rms;
        p->rms_bound = bound->rms;
    }
    if (p->cases == 1 || max * p->max_bound >= p->max * bound->max) {
        p->max = max;
        p->max_bound = bound->max;
    }
}

void case_compare(struct parity *p, struct pair pair, enum arithmetic arithmetic, const char *format, ...)
{
    size_t n = buffer_count(pair.on[TESTED]), counted = 0, worst = 0;
    enum dtype dtype = buffer_dtype(pair.on[TESTED]);
    void *data[2];
    char text[128];
    struct err err;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    BOTH(i) {
        data[i] = keep(p, malloc((n ? n : 1) * dtype_block_bytes(dtype)));
        if (buffer_read(pair.on[i], 0, n, data[i], &err) < 0) {
            case_fail(p, "%s: %s", text, err.text);
            return;
        }
    }
    double squares = 0, errors = 0, max = 0;
    for (size_t i = 0; i < n; i++) {
        double want = value_at(dtype, data[REFERENCE], i);
        counted += want != (double)UNTOUCHED;
        squares += want != (double)UNTOUCHED ? want * want : 0;
    }
    double scale = counted ? sqrt(squares / (double)counted) : 1;
    scale = scale > 0 ? scale : 1;
    for (size_t i = 0; i < n; i++) {
        double got = value_at(dtype, data[TESTED], i), want = value_at(dtype, data[REFERENCE], i);
        double error = got == want ? 0 : fabs(got - want), relative = error / fmax(scale, fabs(want));
        if (!(relative <= max)) { /* also where it is no number */
            max = relative == relative ? relative : INFINITY;
            worst = i;
        }
        errors += error * error;
    }
    double rms = counted ? sqrt(errors / (double)counted) / scale : 0;
    const struct bound *bound = &bounds[p->op][arithmetic];
    take(p, bound, rms, max);
    if (!(rms <= bound->rms) || !(max <= bound->max))
        case_fail(p, "%s: element %zu is %.9g, not %.9g (max %.2g, rms %.2g)", text, worst,
                  value_at(dtype, data[TESTED], worst), value_at(dtype, data[REFERENCE], worst), max, rms);
}
