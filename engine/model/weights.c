/* Puts a model file's tensors on a device, by the table of its architecture. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/faults.h"
#include "architectures.h"

struct loader {
    struct weights *w;
    const struct gguf *g;
    const struct architecture *architecture;
    bool *used; /* [gguf_n_tensors] */
};

static int check_shape(const struct loader *l, const struct tensor_rule *rule, const struct gguf_tensor *t,
                       struct err *err)
{
    size_t columns = architecture_dimension(&l->w->hp, rule->columns);
    size_t rows = architecture_dimension(&l->w->hp, rule->rows);
    int n = (int)t->name.length; /* it equals a name of the table */
    if (t->shape[0] == columns && t->shape[1] == rows && t->shape[2] == 1 && t->shape[3] == 1) {
        if (!dtype_is_weight(t->dtype))
            return err_set(err, ERR_FORMAT, "tensor %.*s has the type %s, which is none for weights", n,
                           t->name.bytes, dtype_name(t->dtype));
        return 0;
    }
    char found[96];
    int length = snprintf(found, sizeof found, "%" PRIu64, t->shape[0]);
    for (int d = 1; d < t->n_dims; d++)
        length += snprintf(found + length, sizeof found - (size_t)length, ", %" PRIu64, t->shape[d]);
    if (rule->rows == DIM_ONE)
        return err_set(err, ERR_FORMAT, "tensor %.*s has the shape [%s], wanted [%zu]", n, t->name.bytes,
                       found, columns);
    return err_set(err, ERR_FORMAT, "tensor %.*s has the shape [%s], wanted [%zu, %zu]", n, t->name.bytes,
                   found, columns, rows);
}

/* An F32 operand; several tensors may share one buffer, absent ones are zeros in it. */
static int load_f32(const struct loader *l, const struct tensor_rule *rule, const struct gguf_tensor *t,
                    struct buffer **slot, struct err *err)
{
    const struct hyperparameters *hp = &l->w->hp;
    size_t count = (size_t)t->shape[0];
    float *values = malloc(count * sizeof *values);
    if (!values)
        return err_set(err, ERR_NOMEM, "no memory for %zu values", count);
    dtype_to_f32(t->dtype, t->data, count, values);
    int rc = 0;
    if (!*slot)
        rc = buffer_create(l->w->device, FAULT(f16_as_f32) && strstr(rule->name, "bias") ? DTYPE_F16 : DTYPE_F32,
                           architecture_dimension(hp, rule->whole), slot, err);
    if (rc == 0)
        rc = buffer_write(*slot, architecture_dimension(hp, rule->first), count, values, err);
    free(values);
    return rc;
}

static int load_weight(struct loader *l, const struct tensor_rule *rule, const struct gguf_tensor *t,
                       struct buffer **slot, struct err *err)
{
    unsigned use = WEIGHT_MATMUL;
    if (slot == &l->w->embedding)
        use = l->w->hp.tied ? WEIGHT_EMBED | WEIGHT_MATMUL : WEIGHT_EMBED;
    int rc = device_weight_create(l->w->device, t->dtype, architecture_dimension(&l->w->hp, rule->rows),
                                  (size_t)t->shape[0], t->data, use, slot, err);
    if (rc == 0 && weight_is_copy(*slot))
        gguf_release(l->g, t->data, t->bytes); /* at once: the file and its copy are never there together */
    return rc;
}

/* The tensor of one rule, in one layer or (layer < 0) of the whole model. */
static int load_tensor(struct loader *l, const struct tensor_rule *rule, int layer, struct err *err)
{
    char name[64];
    char *base = (char *)l->w;
    if (layer >= 0) {
        snprintf(name, sizeof name, "blk.%d.%s", layer, rule->name);
        base = (char *)&l->w->layers[layer];
    } else {
        snprintf(name, sizeof name, "%s", rule->name);
    }
    const struct gguf_tensor *t = gguf_find_tensor(l->g, name);
    if (!t)
        return rule->required ? err_set(err, ERR_FORMAT, "tensor %s is missing", name) : 0;
    l->used[t - gguf_tensor(l->g, 0)] = true;
    int rc = check_shape(l, rule, t, err);
    if (rc == 0)
        rc = gguf_unchanged(l->g, err);
    if (rc)
        return rc;
    struct buffer **slot = (struct buffer **)(base + rule->slot);
    struct err why;
    rc = rule->class == TENSOR_F32 ? load_f32(l, rule, t, slot, &why) : load_weight(l, rule, t, slot, &why);
    if (rc)
        return err_set(err, rc, "tensor %s: %s", name, why.text);
    l->w->parameters += t->shape[0] * t->shape[1];
    return 0;
}

/* A tensor that no rule asks for would be left out of the arithmetic: refused rather than wrong. */
static int check_all_used(const struct loader *l, struct err *err)
{
    for (size_t i = 0; i < gguf_n_tensors(l->g); i++)
        if (!l->used[i]) {
            struct gguf_string name = gguf_tensor(l->g, i)->name;
            return err_set(err, ERR_UNSUPPORTED, "tensor %.*s is not known to architecture %s",
                           name.length < 96 ? (int)name.length : 96, name.bytes, l->architecture->name);
        }
    return 0;
}

/* Radians per position of pair i: base^(-2i/d), divided by the file's factor, stretched or not. */
static double rope_frequency(const struct hyperparameters *hp, int i, double factor)
{
    double plain = pow((double)hp->rope_base, -2.0 * i / hp->rope_dim) / factor, mix = 0;
    if (hp->yarn_ext > 0) {
        double ramp = (i - (double)hp->yarn_low) / fmax(0.001, (double)hp->yarn_high - (double)hp->yarn_low);
        mix = (1 - fmin(1, fmax(0, ramp))) * (double)hp->yarn_ext;
    }
    return (double)hp->rope_scale * plain * (1 - mix) + plain * mix;
}

static int make_rope_table(struct weights *w, struct err *err)
{
    size_t pairs = (size_t)w->hp.rope_dim / 2;
    float *factors = calloc(pairs, sizeof *factors), *table = calloc(pairs, 2 * sizeof *table);
    int rc = 0;
    if (!factors || !table)
        rc = err_set(err, ERR_NOMEM, "no memory for %zu RoPE frequencies", pairs);
    if (rc == 0 && w->rope_factors)
        rc = buffer_read(w->rope_factors, 0, pairs, factors, err);
    for (size_t i = 0; i < pairs && rc == 0; i++) {
        double exact = rope_frequency(&w->hp, (int)i, w->rope_factors ? (double)factors[i] : 1);
        table[2 * i] = (float)exact;
        table[2 * i + 1] = (float)(exact - (double)table[2 * i]);
    }
    if (rc == 0)
        rc = buffer_create(w->device, DTYPE_F32, 2 * pairs, &w->rope_frequency, err);
    if (rc == 0)
        rc = buffer_write(w->rope_frequency, 0, 2 * pairs, table, err);
    buffer_free(w->rope_factors);
    w->rope_factors = NULL;
    free(factors);
    free(table);
    return rc;
}

static int load_all(struct loader *l, struct err *err)
{
    struct hyperparameters *hp = &l->w->hp;
    hp->tied = gguf_find_tensor(l->g, "output.weight") == NULL;
    for (size_t i = 0; i < l->architecture->n_tensors; i++) {
        const struct tensor_rule *rule = &l->architecture->tensors[i];
        int rc = 0;
        if (!rule->per_layer)
            rc = load_tensor(l, rule, -1, err);
        for (int layer = 0; rule->per_layer && layer < hp->n_layers && rc == 0; layer++)
            rc = load_tensor(l, rule, layer, err);
        if (rc)
            return rc;
    }
    int rc = check_all_used(l, err);
    if (rc == 0)
        rc = make_rope_table(l->w, err);
    return rc ? rc : gguf_unchanged(l->g, err);
}

/* Buffers of a layer in one list, so that all are summed and freed alike. */
#define LAYER_BUFFERS(X) \
    X(attn_norm) X(q) X(k) X(v) X(qkv_bias) X(q_norm) X(k_norm) X(attn_out) X(ffn_norm) X(gate) X(up) X(down)

static size_t bytes_of(const struct buffer *b)
{
    return b ? buffer_bytes(b) : 0;
}

/* What the file's tensors take. Of an embedding that is not the output too, a decode step reads one row. */
static void sum_bytes(struct weights *w)
{
    w->decode_bytes = bytes_of(w->output_norm) + bytes_of(w->output);
    for (int i = 0; i < w->hp.n_layers; i++) {
#define X(field) w->decode_bytes += bytes_of(w->layers[i].field);
        LAYER_BUFFERS(X)
#undef X
        w->hp.qkv_bias |= w->layers[i].qkv_bias != NULL;
        w->hp.qk_norm |= w->layers[i].q_norm != NULL;
    }
    w->bytes = w->decode_bytes;
    if (!w->hp.tied) {
        w->bytes += bytes_of(w->embedding);
        w->decode_bytes += bytes_of(w->embedding) / (size_t)w->hp.vocab;
    }
}

int weights_load(struct weights **out, struct device *device, struct gguf *g, struct err *err)
{
    struct weights *w = calloc(1, sizeof *w);
    struct loader l = {.w = w, .g = g};
    l.used = calloc(gguf_n_tensors(g) + 1, sizeof *l.used);
    int rc;
    if (!w || !l.used) {
        rc = err_set(err, ERR_NOMEM, "no memory for a model's weights");
        goto fail;
    }
    w->device = device;
    if ((rc = architecture_read(g, &l.architecture, &w->hp, err)) != 0)
        goto fail;
    w->layers = calloc((size_t)w->hp.n_layers, sizeof *w->layers);
    if (!w->layers) {
        rc = err_set(err, ERR_NOMEM, "no memory for %d layers", w->hp.n_layers);
        goto fail;
    }
    if ((rc = load_all(&l, err)) != 0)
        goto fail;
    if (w->hp.tied)
        w->output = w->embedding;
    sum_bytes(w);
    gguf_release_metadata(g);
    free(l.used);
    *out = w;
    return 0;
fail:
    free(l.used);
    weights_free(w);
    return rc;
}

void weights_free(struct weights *w)
{
    if (!w)
        return;
    for (int i = 0; w->layers && i < w->hp.n_layers; i++) {
#define X(field) buffer_free(w->layers[i].field);
        LAYER_BUFFERS(X)
#undef X
    }
    free(w->layers);
    if (w->output != w->embedding)
        buffer_free(w->output);
    buffer_free(w->embedding);
    buffer_free(w->output_norm);
    buffer_free(w->rope_factors);
    buffer_free(w->rope_frequency);
    free(w);
}

const struct hyperparameters *weights_hyperparameters(const struct weights *w)
{
    return &w->hp;
}

size_t weights_bytes(const struct weights *w)
{
    return w->bytes;
}

size_t weights_decode_bytes(const struct weights *w)
{
    return w->decode_bytes;
}

uint64_t weights_parameters(const struct weights *w)
{
    return w->parameters;
}
