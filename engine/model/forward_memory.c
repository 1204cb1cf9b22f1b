/* The buffers of a forward pass: made, counted, freed. */
#include <stdlib.h>
#include <string.h>

#include "forward_private.h"

size_t forward_kv_block_elements(const struct hyperparameters *hp, int block_tokens)
{
    return 2 * (size_t)hp->n_kv_heads * (size_t)hp->head_dim * (size_t)block_tokens;
}

size_t forward_kv_block_bytes(const struct device *device, const struct hyperparameters *hp, int block_tokens)
{
    enum dtype type = device_info(device)->kv_type;
    return (size_t)hp->n_layers * dtype_bytes(type, forward_kv_block_elements(hp, block_tokens));
}

int forward_block_read(struct forward *f, int32_t block, void *out, struct err *err)
{
    size_t n = forward_kv_block_elements(&f->w->hp, f->options.block_tokens);
    size_t bytes = dtype_bytes(device_info(f->device)->kv_type, n);
    int rc = 0;
    for (int l = 0; l < f->w->hp.n_layers && rc == 0; l++)
        rc = buffer_read(f->kv[l], (size_t)block * n, n, (char *)out + (size_t)l * bytes, err);
    return rc;
}

int forward_block_write(struct forward *f, int32_t block, const void *in, struct err *err)
{
    size_t n = forward_kv_block_elements(&f->w->hp, f->options.block_tokens);
    size_t bytes = dtype_bytes(device_info(f->device)->kv_type, n);
    int rc = 0;
    for (int l = 0; l < f->w->hp.n_layers && rc == 0; l++)
        rc = buffer_write(f->kv[l], (size_t)block * n, n, (const char *)in + (size_t)l * bytes, err);
    return rc;
}

int forward_table_stride(const struct forward *f)
{
    return f->table_stride;
}

/* What lives within one step. The residual stream is kept, so that a step can be run a layer at a time. */
struct activation {
    size_t rows, columns;
    struct buffer **out;
    bool kept;
};
enum { N_ACTIVATIONS = 12 };

static void list_activations(struct forward *f, struct activation list[N_ACTIVATIONS])
{
    const struct hyperparameters *hp = &f->w->hp;
    size_t rows = (size_t)f->options.max_rows, outputs = (size_t)f->options.max_outputs;
    size_t width = (size_t)hp->width, ff = (size_t)hp->ff_width;
    size_t q = (size_t)f->q_width, qkv = (size_t)f->qkv_width;
    size_t rank = 0, widest = 0, adapted_vocab = 0;
    for (int i = 0; i < f->options.n_adapters; i++) {
        size_t own = (size_t)adapter_rank(f->options.adapters[i]);
        rank = own > rank ? own : rank;
        widest = ff > qkv ? ff : qkv; /* as wide as x too */
        widest = widest > width ? widest : width;
        adapted_vocab = adapter_has_output(f->options.adapters[i]) ? (size_t)hp->vocab : adapted_vocab;
    }
    const struct activation all[N_ACTIVATIONS] = {
        {rows, width, &f->x, true}, {rows, width, &f->h, false}, {rows, qkv, &f->qkv, false},
        {rows, q, &f->attn, false}, {rows, 2 * ff, &f->gate_up, false}, {rows, ff, &f->act, false},
        {rows, width, &f->wanted_x, true}, {rows, q, &f->wanted_attn, false},
        {outputs, (size_t)hp->vocab, &f->logits, false}, {rows, rank, &f->low, false},
        {rows, widest, &f->delta, false}, {outputs, adapted_vocab, &f->delta_logits, false}};
    memcpy(list, all, sizeof all);
}

static size_t mask_words(const struct forward *f)
{
    return ((size_t)f->w->hp.vocab + 31) / 32;
}

static int create_masks(struct forward *f, struct err *err)
{
    size_t n = mask_words(f);
    int32_t *every = malloc(n * sizeof *every);
    if (!every)
        return err_set(err, ERR_NOMEM, "no memory for a mask of %zu words", n);
    memset(every, 0xff, n * sizeof *every);
    int rc = 0;
    for (int i = 0; i < FORWARD_MASKS && rc == 0; i++) {
        rc = buffer_create(f->device, DTYPE_I32, n, &f->allowed[i], err);
        if (rc == 0)
            rc = buffer_write(f->allowed[i], 0, n, f->options.allowed[i] ? f->options.allowed[i] : every,
                              err);
        f->options.allowed[i] = NULL; /* the caller's */
    }
    free(every);
    return rc;
}

static int create_buffers(struct forward *f, struct err *err)
{
    const struct hyperparameters *hp = &f->w->hp;
    const struct forward_options *o = &f->options;
    struct activation list[N_ACTIVATIONS];
    list_activations(f, list);
    int rc = 0;
    for (int i = 0; i < N_ACTIVATIONS && rc == 0; i++) {
        size_t count;
        if (__builtin_mul_overflow(list[i].rows, list[i].columns, &count))
            return err_set(err, ERR_NOMEM, "a buffer of %zu rows of %zu is too large", list[i].rows,
                           list[i].columns);
        if (count == 0)
            continue;
        rc = (list[i].kept ? buffer_create : buffer_create_scratch)(f->device, DTYPE_F32, count, list[i].out,
                                                                    err);
    }
    size_t kv_count, block = forward_kv_block_elements(hp, o->block_tokens);
    if (__builtin_mul_overflow((size_t)o->n_blocks, block, &kv_count))
        return err_set(err, ERR_NOMEM, "a KV cache of %d blocks is too large", o->n_blocks);
    for (int l = 0; l < hp->n_layers && rc == 0; l++)
        rc = buffer_create(f->device, device_info(f->device)->kv_type, kv_count, &f->kv[l], err);
    if (rc == 0)
        rc = buffer_create(f->device, DTYPE_I32, (size_t)o->max_outputs, &f->ids, err);
    if (rc == 0)
        rc = create_masks(f, err);
    if (rc == 0)
        rc = step_inputs_create(&f->inputs, f->device, o, f->table_stride, err);
    return rc;
}

static int create_flights(struct forward *f, struct err *err)
{
    size_t outputs = (size_t)f->options.max_outputs;
    size_t states = (size_t)f->options.max_rows * (size_t)f->w->hp.width;
    for (int i = 0; i < FORWARD_IN_FLIGHT; i++) {
        f->flight[i].ids = malloc(outputs * sizeof *f->flight[i].ids);
        f->flight[i].logits = malloc(outputs * (size_t)f->w->hp.vocab * sizeof *f->flight[i].logits);
        f->flight[i].states = malloc(states * sizeof *f->flight[i].states);
        if (!f->flight[i].ids || !f->flight[i].logits || !f->flight[i].states)
            return err_set(err, ERR_NOMEM, "no memory for the results of %zu rows", outputs);
    }
    return 0;
}

static void set_sizes(struct forward *f, const struct weights *w, const struct forward_options *options)
{
    const struct hyperparameters *hp = &w->hp;
    f->w = w;
    f->options = *options;
    f->table_stride = (options->max_context - 1) / options->block_tokens + 1;
    f->q_width = hp->n_heads * hp->head_dim;
    f->qkv_width = f->q_width + 2 * hp->n_kv_heads * hp->head_dim;
}

size_t forward_result_bytes(const struct hyperparameters *hp, const struct forward_options *options)
{
    size_t logits = (size_t)options->max_outputs * (size_t)hp->vocab;
    return (logits + (size_t)options->max_rows * (size_t)hp->width) * FORWARD_IN_FLIGHT * sizeof(float);
}

size_t forward_scratch_bytes(const struct hyperparameters *hp, const struct forward_options *options)
{
    const struct weights w = {.hp = *hp};
    struct forward f = {0};
    struct activation list[N_ACTIVATIONS];
    set_sizes(&f, &w, options);
    list_activations(&f, list);
    size_t bytes = step_inputs_bytes(options, f.table_stride);
    for (int i = 0; i < N_ACTIVATIONS; i++)
        bytes += list[i].rows * list[i].columns * sizeof(float);
    return bytes;
}

int forward_create(struct forward **out, struct device *device, const struct weights *w,
                   const struct forward_options *options, struct err *err)
{
    const struct hyperparameters *hp = &w->hp;
    if (options->max_rows < 1 || options->max_outputs < 1 || options->max_sequences < 1 ||
        options->block_tokens < 1 || options->n_blocks < 1 || options->max_context < 1 ||
        options->n_blocks > INT32_MAX / options->block_tokens ||
        options->max_sequences > INT32_MAX / options->max_context || options->n_adapters > ADAPTERS_MAX ||
        forward_kv_block_elements(hp, options->block_tokens) > INT32_MAX)
        return err_set(err, ERR_INVALID, "no steps of %d rows, %d outputs, %d sequences of %d, %d blocks",
                       options->max_rows, options->max_outputs, options->max_sequences, options->max_context,
                       options->n_blocks);
    enum dtype kv_type = device_info(device)->kv_type;
    if ((size_t)hp->head_dim % dtype_block(kv_type))
        return err_set(err, ERR_UNSUPPORTED, "heads of %d elements: a KV cache of %s has blocks of %zu",
                       hp->head_dim, dtype_name(kv_type), dtype_block(kv_type));
    struct forward *f = calloc(1, sizeof *f);
    if (f)
        f->kv = calloc((size_t)hp->n_layers, sizeof *f->kv);
    if (!f || !f->kv) {
        free(f);
        return err_set(err, ERR_NOMEM, "no memory for a forward pass");
    }
    f->device = device;
    set_sizes(f, w, options);
    int rc = create_buffers(f, err);
    if (rc == 0)
        rc = create_flights(f, err);
    if (rc) {
        forward_destroy(f);
        return rc;
    }
    *out = f;
    return 0;
}

void forward_destroy(struct forward *f)
{
    if (!f)
        return;
    REQUIRE(f->n_flights == 0);
    struct activation list[N_ACTIVATIONS];
    list_activations(f, list);
    for (int i = 0; i < N_ACTIVATIONS; i++)
        buffer_free(*list[i].out);
    for (int i = 0; i < FORWARD_MASKS; i++)
        buffer_free(f->allowed[i]);
    for (int i = 0; i < FORWARD_IN_FLIGHT; i++) {
        free(f->flight[i].ids);
        free(f->flight[i].logits);
        free(f->flight[i].states);
    }
    buffer_free(f->ids);
    step_inputs_destroy(f->inputs);
    for (int l = 0; l < f->w->hp.n_layers; l++)
        buffer_free(f->kv[l]);
    free(f->kv);
    free(f);
}
