/* Reads an adapter by the table of its model's architecture. */
#include "adapter.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "architectures.h"

enum { NAME_SIZE = 80 };

struct place {
    struct adapter_pair pair;
    const struct gguf_tensor *a, *b; /* NULL: the weight stays as it is */
};

struct adapter {
    struct gguf *file;
    double alpha;
    int n_layers, rank;
    size_t n_used;       /* tensors */
    bool *used;          /* [gguf_n_tensors], while it is read */
    struct place output;
    struct place place[]; /* [n_layers][ADAPTED_COUNT] */
};

/* What the model has in a slot of struct layer. */
static const size_t slots[ADAPTED_COUNT] = {
    [ADAPTED_Q] = offsetof(struct layer, q),           [ADAPTED_K] = offsetof(struct layer, k),
    [ADAPTED_V] = offsetof(struct layer, v),           [ADAPTED_ATTN_OUT] = offsetof(struct layer, attn_out),
    [ADAPTED_GATE] = offsetof(struct layer, gate),     [ADAPTED_UP] = offsetof(struct layer, up),
    [ADAPTED_DOWN] = offsetof(struct layer, down),
};

static int expect_text(const struct gguf *g, const char *key, const char *wanted, struct err *err)
{
    struct gguf_string s;
    int rc = gguf_get_string(g, key, &s, err);
    if (rc)
        return gguf_required(rc, err);
    if (s.length == strlen(wanted) && memcmp(s.bytes, wanted, s.length) == 0)
        return 0;
    return err_set(err, ERR_UNSUPPORTED, "key %s is \"%.*s\", wanted \"%s\"", key, s.length < 64 ? (int)s.length : 64,
                   s.bytes, wanted);
}

static int read_metadata(struct adapter *a, const struct hyperparameters *hp, struct err *err)
{
    struct gguf_value tokens;
    int rc = expect_text(a->file, "general.type", "adapter", err);
    if (rc == 0)
        rc = expect_text(a->file, "adapter.type", "lora", err);
    if (rc == 0)
        rc = expect_text(a->file, "general.architecture", hp->architecture, err);
    if (rc)
        return rc;
    rc = gguf_get_array(a->file, "adapter.alora.invocation_tokens", GGUF_U32, &tokens, err);
    if (rc != ERR_NOT_FOUND)
        return err_set(err, ERR_UNSUPPORTED, "key adapter.alora.invocation_tokens: adapters that begin in the middle of "
                                             "a text are not supported");
    rc = gguf_get_float(a->file, "adapter.lora.alpha", &a->alpha, err);
    if (rc)
        return gguf_required(rc, err);
    if (fabs(a->alpha) > 1e6)
        return err_set(err, ERR_FORMAT, "key adapter.lora.alpha is %g, more than 1,000,000", a->alpha);
    return 0;
}

/* Tensor NAME.lora_a or .lora_b; NULL where there is none. */
static const struct gguf_tensor *take(struct adapter *a, const char *name, const char *suffix)
{
    char full[NAME_SIZE];
    snprintf(full, sizeof full, "%s.%s", name, suffix);
    const struct gguf_tensor *t = gguf_find_tensor(a->file, full);
    if (!t)
        return NULL;
    a->used[t - gguf_tensor(a->file, 0)] = true;
    a->n_used++;
    return t;
}

static int check_shape(const struct gguf_tensor *t, size_t columns, size_t rows, struct err *err)
{
    int n = (int)t->name.length; /* it equals a name of the table */
    if (!dtype_is_weight(t->dtype))
        return err_set(err, ERR_FORMAT, "tensor %.*s has the type %s, which is none for weights", n, t->name.bytes,
                       dtype_name(t->dtype));
    if (t->shape[0] == columns && t->shape[1] == rows && t->shape[2] == 1 && t->shape[3] == 1)
        return 0;
    return err_set(err, ERR_FORMAT, "tensor %.*s has the shape [%" PRIu64 ", %" PRIu64 "], wanted [%zu, %zu]", n,
                   t->name.bytes, t->shape[0], t->shape[1], columns, rows);
}

/* What there is for one weight of the model. */
static int read_place(struct adapter *a, const struct gguf *model, const char *name, size_t columns, size_t rows,
                      struct place *p, struct err *err)
{
    p->a = take(a, name, "lora_a");
    p->b = take(a, name, "lora_b");
    if (!p->a && !p->b)
        return 0;
    if (!p->a || !p->b)
        return err_set(err, ERR_FORMAT, "tensor %s.lora_%c is missing", name, p->a ? 'b' : 'a');
    if (!gguf_find_tensor(model, name))
        return err_set(err, ERR_FORMAT, "tensor %s.lora_a: the model has no %s", name, name);
    if (p->a->shape[1] < 1 || p->a->shape[1] > ADAPTER_RANK_MAX)
        return err_set(err, ERR_FORMAT, "tensor %s.lora_a has the rank %" PRIu64 ", not within 1 to %d", name,
                       p->a->shape[1], ADAPTER_RANK_MAX);
    int rc = check_shape(p->a, columns, (size_t)p->a->shape[1], err);
    if (rc == 0)
        rc = check_shape(p->b, (size_t)p->a->shape[1], rows, err);
    p->pair.rank = (int)p->a->shape[1];
    p->pair.factor = a->alpha != 0 ? (float)(a->alpha / p->pair.rank) : 1;
    if (p->pair.rank > a->rank)
        a->rank = p->pair.rank;
    return rc;
}

static int read_rule(struct adapter *a, const struct gguf *model, const struct tensor_rule *rule,
                     const struct hyperparameters *hp, struct err *err)
{
    size_t columns = architecture_dimension(hp, rule->columns), rows = architecture_dimension(hp, rule->rows);
    if (rule->class != TENSOR_WEIGHT)
        return 0;
    if (!rule->per_layer)
        return rule->slot == offsetof(struct weights, output)
                   ? read_place(a, model, rule->name, columns, rows, &a->output, err) : 0;
    int which = 0, rc = 0;
    while (which < ADAPTED_COUNT && slots[which] != rule->slot)
        which++;
    REQUIRE(which < ADAPTED_COUNT);
    for (int l = 0; l < hp->n_layers && rc == 0; l++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "blk.%d.%s", l, rule->name);
        rc = read_place(a, model, name, columns, rows, &a->place[l * ADAPTED_COUNT + which], err);
    }
    return rc;
}

/* A tensor that is for nothing would be left out of the arithmetic: refused rather than wrong. */
static int check_all_used(const struct adapter *a, struct err *err)
{
    for (size_t i = 0; i < gguf_n_tensors(a->file); i++) {
        struct gguf_string name = gguf_tensor(a->file, i)->name;
        if (!a->used[i])
            return err_set(err, ERR_UNSUPPORTED, "tensor %.*s is for no weight of the model that can be adapted",
                           name.length < 96 ? (int)name.length : 96, name.bytes);
    }
    return a->n_used ? 0 : err_set(err, ERR_FORMAT, "there are no tensors");
}

int adapter_read(struct adapter **out, struct gguf *file, const struct gguf *model, struct err *err)
{
    const struct architecture *architecture;
    struct hyperparameters hp;
    *out = NULL;
    int rc = architecture_read(model, &architecture, &hp, err);
    if (rc)
        return rc;
    struct adapter *a = calloc(1, sizeof *a + (size_t)hp.n_layers * ADAPTED_COUNT * sizeof a->place[0]);
    if (a)
        a->used = calloc(gguf_n_tensors(file) + 1, sizeof *a->used);
    if (!a || !a->used) {
        adapter_free(a);
        return err_set(err, ERR_NOMEM, "no memory for an adapter");
    }
    a->file = file;
    a->n_layers = hp.n_layers;
    rc = read_metadata(a, &hp, err);
    for (size_t i = 0; i < architecture->n_tensors && rc == 0; i++)
        rc = read_rule(a, model, &architecture->tensors[i], &hp, err);
    if (rc == 0)
        rc = check_all_used(a, err);
    free(a->used);
    a->used = NULL;
    if (rc) {
        adapter_free(a);
        return rc;
    }
    *out = a;
    return 0;
}

static int load_tensor(const struct adapter *a, struct device *device, const struct gguf_tensor *t,
                       struct buffer **out, struct err *err)
{
    int rc = gguf_unchanged(a->file, err);
    if (rc)
        return rc;
    rc = device_weight_create(device, t->dtype, (size_t)t->shape[1], (size_t)t->shape[0], t->data, WEIGHT_MATMUL,
                              out, err);
    if (rc == 0 && weight_is_copy(*out))
        gguf_release(a->file, t->data, t->bytes);
    return rc;
}

/* The places of all layers, then the output's. */
static struct place *place_at(struct adapter *a, int i)
{
    return i < a->n_layers * ADAPTED_COUNT ? &a->place[i] : &a->output;
}

int adapter_load(struct adapter *a, struct device *device, struct err *err)
{
    int rc = 0;
    for (int i = 0; i <= a->n_layers * ADAPTED_COUNT && rc == 0; i++) {
        struct place *p = place_at(a, i);
        if (!p->a)
            continue;
        rc = load_tensor(a, device, p->a, &p->pair.a, err);
        if (rc == 0)
            rc = load_tensor(a, device, p->b, &p->pair.b, err);
    }
    return rc ? rc : gguf_unchanged(a->file, err);
}

void adapter_unload(struct adapter *a)
{
    for (int i = 0; i <= a->n_layers * ADAPTED_COUNT; i++) {
        struct adapter_pair *pair = &place_at(a, i)->pair;
        buffer_free(pair->a);
        buffer_free(pair->b);
        pair->a = pair->b = NULL;
    }
}

void adapter_free(struct adapter *a)
{
    if (!a)
        return;
    free(a->used);
    free(a);
}

size_t adapter_bytes(const struct adapter *a, const struct device *device)
{
    size_t bytes = 0;
    for (size_t i = 0; i < gguf_n_tensors(a->file); i++) {
        const struct gguf_tensor *t = gguf_tensor(a->file, i);
        bytes += device_weight_bytes(device, t->dtype, (size_t)t->shape[1], (size_t)t->shape[0], WEIGHT_MATMUL);
    }
    return bytes;
}

int adapter_rank(const struct adapter *a)
{
    return a->rank;
}

double adapter_alpha(const struct adapter *a)
{
    return a->alpha;
}

bool adapter_has_output(const struct adapter *a)
{
    return a->output.a != NULL;
}

const struct adapter_pair *adapter_pair(const struct adapter *a, int layer, enum adapted which)
{
    return layer < 0 ? &a->output.pair : &a->place[layer * ADAPTED_COUNT + (int)which].pair;
}
