/* Errors and their bounds. */
#include "measure.h"

#include <math.h>
#include <string.h>

/* One row: the largest error, and the mean square of all, relative to the reference's. */
static void measure_row(const float *reference, const float *tested, size_t width, double *max,
                        double *square)
{
    double scale = 0, error = 0;
    for (size_t i = 0; i < width; i++) {
        double d = (double)tested[i] - (double)reference[i];
        scale += (double)reference[i] * (double)reference[i];
        error += d * d;
    }
    if (scale == 0)
        scale = (double)width; /* a row of zeros: the errors themselves */
    double rms = sqrt(scale / (double)width);
    for (size_t i = 0; i < width; i++) {
        double d = fabs((double)tested[i] - (double)reference[i]);
        d /= fmax(rms, fabs((double)reference[i]));
        *max = d > *max ? d : *max;
    }
    *square = error / scale;
}

int check_measure(const float *reference, const float *tested, size_t rows, size_t width,
                  struct check_error *out, struct err *err)
{
    double squares = 0;
    *out = (struct check_error){.finite = true};
    for (size_t i = 0; i < rows * width; i++) {
        if (!isfinite(reference[i]))
            return err_set(err, ERR_FORMAT,
                           "the reference itself gives values that are not finite: is the file damaged?");
        if (!isfinite(tested[i]))
            *out = (struct check_error){.max = INFINITY, .rms = INFINITY};
    }
    if (!out->finite)
        return 0;
    for (size_t r = 0; r < rows; r++) {
        double square;
        measure_row(reference + r * width, tested + r * width, width, &out->max, &square);
        squares += square;
    }
    out->rms = rows ? sqrt(squares / (double)rows) : 0;
    return 0;
}

/* What a device computes with decides how closely it can follow. */
enum arithmetic {
    SAME,     /* the reference itself: the same bits */
    CPU_INT8, /* the CPU device: activations of 8 or 15 bits, in blocks of its own */
    GPU_F32,  /* few rows: float32 throughout; sums in another order, K and V rounded to 16 bits alike */
    GPU_INT8, /* few rows, 8-bit activations that the reference imitates: a value at the edge of two
               * steps may round the other way, and layers carry that on */
    GPU_HALF, /* many rows: matrix units take 16-bit factors (2^-11 relative), sums are float32 */
    ARITHMETICS
};
enum { FEW_ROWS = 4 }; /* up to which a GPU uses no matrix units */

struct bounds {
    struct check_bound element;   /* norm, RoPE, SwiGLU, embedding: a few roundings, and exp, sin, cos */
    struct check_bound matmul;
    struct check_bound attention; /* weights of the softmax and V are 16-bit factors in GPU_HALF */
    struct check_bound layer;     /* one layer from the reference's input */
    struct check_bound layers;    /* all layers so far: errors pile up */
    struct check_bound logits;    /* the whole model, as served: K and V of the prompt come from GPU_HALF */
    double margin;                /* of logits */
};
static const struct bounds bounds[ARITHMETICS] = {
    [SAME] = {.margin = 0},
    [CPU_INT8] = {{1e-4, 1e-5}, {0.5, 0.05}, {0.02, 2e-3}, {1, 0.05}, {2, 0.1}, {1, 0.2}, 1},
    [GPU_F32] = {{1e-4, 1e-5}, {1e-4, 1e-5}, {2e-3, 2e-4}, {2e-3, 2e-4}, {5e-3, 5e-4}, {0.05, 5e-3}, 0.02},
    [GPU_INT8] = {{1e-4, 1e-5}, {0.02, 1e-3}, {2e-3, 2e-4}, {0.1, 0.01}, {0.5, 0.1}, {0.5, 0.1}, 0.5},
    [GPU_HALF] = {{1e-4, 1e-5}, {0.02, 2e-3}, {0.02, 2e-3}, {0.02, 2e-3}, {0.05, 5e-3}, {0.05, 5e-3}, 0.02},
};

static enum arithmetic arithmetic(const struct device_info *info, int rows)
{
    if (!strcmp(info->name, "reference"))
        return SAME;
    if (!info->gpu)
        return CPU_INT8;
    if (rows > FEW_ROWS)
        return GPU_HALF;
    return rows <= info->int8_rows ? GPU_INT8 : GPU_F32;
}

struct check_bound check_bound(const struct device_info *info, enum check_kind kind, enum operator op,
                               int rows)
{
    /* Where 8 bits are used, they are in every step: the last layer goes on with few rows. */
    const struct bounds *b = &bounds[arithmetic(info, kind != CHECK_OPERATOR && info->int8_rows ? 1 : rows)];
    switch (kind) {
    case CHECK_LAYER: return b->layer;
    case CHECK_LAYERS: return b->layers;
    case CHECK_LOGITS: return b->logits;
    case CHECK_OPERATOR: break;
    }
    if (op == OPERATOR_matmul)
        return b->matmul;
    if (op == OPERATOR_attention)
        return b->attention;
    if (op == OPERATOR_gather)
        return (struct check_bound){0};
    return b->element;
}

bool check_within(const struct check_error *error, const struct check_bound *bound)
{
    return error->finite && error->max <= bound->max && error->rms <= bound->rms;
}

void check_describe(char *out, size_t size, const char *where, const struct check_error *e,
                    const struct check_bound *b)
{
    if (!e->finite)
        snprintf(out, size, "%s: values that are not finite", where);
    else if (e->max > b->max)
        snprintf(out, size, "%s: max %.2g, bound %.2g", where, e->max, b->max);
    else
        snprintf(out, size, "%s: RMS %.2g, bound %.2g", where, e->rms, b->rms);
}

double check_margin(const struct device_info *info)
{
    return bounds[arithmetic(info, 1)].margin;
}
