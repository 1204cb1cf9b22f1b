/* Puts a model file's tensors on a device, by the table of its architecture. */
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/faults.h"
#include "architectures.h"

struct loader {
    struct weights *w;
    struct gguf *g;
    const struct architecture *architecture;
    bool *used;                      /* [gguf_n_tensors] */
    size_t rule;                     /* the next tensor: of this rule, */
    int layer;                       /* in this layer */
    struct buffer *filling;          /* of the tensor before it, which is not whole yet; or NULL */
    const struct gguf_tensor *source; /* of `filling` */
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
    int rc = device_weight_begin(l->w->device, t->dtype, architecture_dimension(&l->w->hp, rule->rows),
                                 (size_t)t->shape[0], t->data, use, slot, err);
    if (rc == 0) {
        l->filling = *slot;
        l->source = t;
    }
    return rc;
}

/* *bytes: at most, and then what was taken. */
static int fill(struct loader *l, size_t *bytes, struct err *err)
{
    int rc = gguf_unchanged(l->g, err);
    if (rc || !weight_fill(l->filling, bytes))
        return rc;
    if (weight_is_copy(l->filling))
        gguf_release(l->g, l->source->data, l->source->bytes); /* the file and its copy are never there together */
    l->filling = NULL;
    return 0;
}

static const struct gguf_tensor *find_tensor(const struct gguf *g, const struct tensor_rule *rule, int layer,
                                             char name[64])
{
    if (rule->per_layer)
        snprintf(name, 64, "blk.%d.%s", layer, rule->name);
    else
        snprintf(name, 64, "%s", rule->name);
    return gguf_find_tensor(g, name);
}

/* The tensor of one rule, in one layer or of the whole model. */
static int load_tensor(struct loader *l, const struct tensor_rule *rule, int layer, struct err *err)
{
    char name[64];
    char *base = rule->per_layer ? (char *)&l->w->layers[layer] : (char *)l->w;
    const struct gguf_tensor *t = find_tensor(l->g, rule, layer, name);
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

/* Goes to the next tensor of the table. */
static void advance(struct loader *l)
{
    bool per_layer = l->architecture->tensors[l->rule].per_layer;
    if (per_layer && ++l->layer < l->w->hp.n_layers)
        return;
    l->layer = 0;
    l->rule++;
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

static void free_loader(struct weights *w)
{
    if (w->loader)
        free(w->loader->used);
    free(w->loader);
    w->loader = NULL;
}

int weights_begin(struct weights **out, struct device *device, struct gguf *g, struct err *err)
{
    struct weights *w = calloc(1, sizeof *w);
    struct loader *l = calloc(1, sizeof *l);
    bool *used = calloc(gguf_n_tensors(g) + 1, sizeof *used);
    if (!w || !l || !used) {
        free(w);
        free(l);
        free(used);
        return err_set(err, ERR_NOMEM, "no memory for a model's weights");
    }
    *l = (struct loader){.w = w, .g = g, .used = used};
    w->loader = l;
    w->device = device;
    int rc = architecture_read(g, &l->architecture, &w->hp, err);
    if (rc == 0) {
        w->hp.tied = gguf_find_tensor(g, "output.weight") == NULL;
        w->layers = calloc((size_t)w->hp.n_layers, sizeof *w->layers);
        if (!w->layers)
            rc = err_set(err, ERR_NOMEM, "no memory for %d layers", w->hp.n_layers);
    }
    if (rc) {
        weights_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

static int finish(struct weights *w, struct err *err)
{
    struct loader *l = w->loader;
    int rc = check_all_used(l, err);
    if (rc == 0)
        rc = make_rope_table(w, err);
    if (rc == 0)
        rc = gguf_unchanged(l->g, err);
    if (rc)
        return rc;
    if (w->hp.tied)
        w->output = w->embedding;
    sum_bytes(w);
    gguf_release_metadata(l->g);
    free_loader(w);
    return 0;
}

int weights_more(struct weights *w, size_t bytes, bool *done, struct err *err)
{
    struct loader *l = w->loader;
    *done = false;
    for (size_t taken = 0; taken < bytes && (l->filling || l->rule < l->architecture->n_tensors);) {
        int rc = 0;
        if (!l->filling) {
            rc = load_tensor(l, &l->architecture->tensors[l->rule], l->layer, err);
            advance(l);
        }
        if (rc == 0 && l->filling) {
            size_t piece = bytes - taken;
            rc = fill(l, &piece, err);
            taken += piece;
        }
        if (rc)
            return rc;
    }
    if (l->filling || l->rule < l->architecture->n_tensors)
        return 0;
    *done = true;
    return finish(w, err);
}

const struct gguf_tensor *weights_next(const struct weights *w)
{
    const struct loader *l = w->loader;
    char name[64];
    if (!l || l->filling || l->rule == l->architecture->n_tensors)
        return NULL;
    return find_tensor(l->g, &l->architecture->tensors[l->rule], l->layer, name);
}

int weights_load(struct weights **out, struct device *device, struct gguf *g, struct err *err)
{
    bool done = false;
    int rc = weights_begin(out, device, g, err);
    if (rc)
        return rc;
    while (rc == 0 && !done)
        rc = weights_more(*out, SIZE_MAX, &done, err);
    if (rc) {
        weights_free(*out);
        *out = NULL;
    }
    return rc;
}

int weights_measure(const struct device *device, const struct gguf *g, struct hyperparameters *hp, size_t *bytes,
                    struct err *err)
{
    const struct architecture *architecture;
    int rc = architecture_read(g, &architecture, hp, err);
    if (rc)
        return rc;
    hp->tied = gguf_find_tensor(g, "output.weight") == NULL;
    *bytes = 0;
    for (size_t i = 0; i < architecture->n_tensors; i++) {
        const struct tensor_rule *rule = &architecture->tensors[i];
        for (int layer = 0; layer < (rule->per_layer ? hp->n_layers : 1); layer++) {
            char name[64];
            const struct gguf_tensor *t = find_tensor(g, rule, layer, name);
            bool embedding = rule->slot == offsetof(struct weights, embedding) && !rule->per_layer;
            unsigned use = !embedding ? WEIGHT_MATMUL : hp->tied ? WEIGHT_EMBED | WEIGHT_MATMUL : WEIGHT_EMBED;
            if (!t || !dtype_is_weight(t->dtype))
                continue;
            *bytes += rule->class == TENSOR_F32
                          ? (size_t)t->shape[0] * sizeof(float)
                          : device_weight_bytes(device, t->dtype, (size_t)t->shape[1], (size_t)t->shape[0], use);
        }
    }
    return 0;
}

void weights_free(struct weights *w)
{
    if (!w)
        return;
    free_loader(w);
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
