/* The forward pass of a decoder with grouped-query attention and a gated FFN (arXiv:2407.10671,
 * arXiv:2407.21783), over rows of many sequences. */
#include "forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "architectures.h"

struct forward {
    struct device *device;
    const struct weights *w;
    struct forward_options options;
    int table_stride;
    int qkv_width, q_width;

    struct buffer *token, *position, *sequence, *slot; /* I32 [max_rows] */
    struct buffer *table;                              /* I32 [max_sequences][table_stride] */
    struct buffer *output;                             /* I32 [max_outputs] */
    struct buffer *copy;                               /* I32 [n_blocks][2] */
    struct buffer *x, *h;        /* F32 [max_rows][width]: residual stream; a norm's output */
    struct buffer *qkv;          /* F32 [max_rows][qkv_width] */
    struct buffer *attn;         /* F32 [max_rows][q_width] */
    struct buffer *gate_up;      /* F32 [max_rows][2*ff_width] */
    struct buffer *act;          /* F32 [max_rows][ff_width] */
    struct buffer *wanted_x;     /* F32 [max_outputs][width]: x of the rows whose logits are wanted */
    struct buffer *wanted_attn;  /* F32 [max_outputs][q_width] */
    struct buffer *logits;       /* F32 [max_outputs][vocab] */
    struct buffer **kv;          /* [n_layers] kv_type [n_blocks][2][n_kv_heads][block_tokens][head_dim] */
};

static size_t kv_block_elements(const struct hyperparameters *hp, int block_tokens)
{
    return 2 * (size_t)hp->n_kv_heads * (size_t)hp->head_dim * (size_t)block_tokens;
}

size_t forward_kv_block_bytes(struct device *device, const struct weights *w, int block_tokens)
{
    enum dtype type = device_info(device)->kv_type;
    size_t blocks = kv_block_elements(&w->hp, block_tokens) / dtype_block(type);
    return (size_t)w->hp.n_layers * blocks * dtype_block_bytes(type);
}

int forward_table_stride(const struct forward *f)
{
    return f->table_stride;
}

/* A scratch buffer of rows * columns elements. */
static int scratch(struct forward *f, enum dtype type, size_t rows, size_t columns, struct buffer **out,
                   struct err *err)
{
    size_t count;
    if (__builtin_mul_overflow(rows, columns, &count))
        return err_set(err, ERR_NOMEM, "a buffer of %zu rows of %zu is too large", rows, columns);
    return buffer_create(f->device, type, count, out, err);
}

static int create_buffers(struct forward *f, struct err *err)
{
    const struct hyperparameters *hp = &f->w->hp;
    const struct forward_options *o = &f->options;
    size_t rows = (size_t)o->max_rows, outputs = (size_t)o->max_outputs;
    size_t width = (size_t)hp->width, ff = (size_t)hp->ff_width;
    size_t q = (size_t)f->q_width, qkv = (size_t)f->qkv_width;
    const struct {
        enum dtype type;
        size_t rows, columns;
        struct buffer **out;
    } wanted[] = {
        {DTYPE_I32, rows, 1, &f->token}, {DTYPE_I32, rows, 1, &f->position},
        {DTYPE_I32, rows, 1, &f->sequence}, {DTYPE_I32, rows, 1, &f->slot},
        {DTYPE_I32, (size_t)o->max_sequences, (size_t)f->table_stride, &f->table},
        {DTYPE_I32, outputs, 1, &f->output}, {DTYPE_I32, (size_t)o->n_blocks, 2, &f->copy},
        {DTYPE_F32, rows, width, &f->x}, {DTYPE_F32, rows, width, &f->h},
        {DTYPE_F32, rows, qkv, &f->qkv}, {DTYPE_F32, rows, q, &f->attn},
        {DTYPE_F32, rows, 2 * ff, &f->gate_up}, {DTYPE_F32, rows, ff, &f->act},
        {DTYPE_F32, outputs, width, &f->wanted_x}, {DTYPE_F32, outputs, q, &f->wanted_attn},
        {DTYPE_F32, outputs, (size_t)hp->vocab, &f->logits},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && rc == 0; i++)
        rc = scratch(f, wanted[i].type, wanted[i].rows, wanted[i].columns, wanted[i].out, err);
    for (int l = 0; l < hp->n_layers && rc == 0; l++)
        rc = scratch(f, device_info(f->device)->kv_type, (size_t)o->n_blocks,
                     kv_block_elements(hp, o->block_tokens), &f->kv[l], err);
    return rc;
}

int forward_create(struct forward **out, struct device *device, const struct weights *w,
                   const struct forward_options *options, struct err *err)
{
    const struct hyperparameters *hp = &w->hp;
    if (options->max_rows < 1 || options->max_outputs < 1 || options->max_sequences < 1 ||
        options->block_tokens < 1 || options->n_blocks < 1 || options->max_context < 1 ||
        options->n_blocks > INT32_MAX / options->block_tokens ||
        options->max_sequences > INT32_MAX / options->max_context ||
        kv_block_elements(hp, options->block_tokens) > INT32_MAX)
        return err_set(err, ERR_INVALID, "no steps of %d rows, %d outputs, %d sequences of %d, %d blocks",
                       options->max_rows, options->max_outputs, options->max_sequences, options->max_context,
                       options->n_blocks);
    struct forward *f = calloc(1, sizeof *f);
    if (f)
        f->kv = calloc((size_t)hp->n_layers, sizeof *f->kv);
    if (!f || !f->kv) {
        free(f);
        return err_set(err, ERR_NOMEM, "no memory for a forward pass");
    }
    f->device = device;
    f->w = w;
    f->options = *options;
    f->table_stride = (options->max_context - 1) / options->block_tokens + 1;
    f->q_width = hp->n_heads * hp->head_dim;
    f->qkv_width = f->q_width + 2 * hp->n_kv_heads * hp->head_dim;
    int rc = create_buffers(f, err);
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
    struct buffer *const buffers[] = {
        f->token, f->position, f->sequence, f->slot, f->table, f->output, f->copy, f->x, f->h, f->qkv,
        f->attn, f->gate_up, f->act, f->wanted_x, f->wanted_attn, f->logits};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_free(buffers[i]);
    for (int l = 0; l < f->w->hp.n_layers; l++)
        buffer_free(f->kv[l]);
    free(f->kv);
    free(f);
}

static bool all_within(const int32_t *values, int n, int32_t limit)
{
    for (int i = 0; i < n; i++)
        if (values[i] < 0 || values[i] >= limit)
            return false;
    return true;
}

/* Kernels index with these numbers unchecked. */
static int check_batch(const struct forward *f, const struct batch *b, struct err *err)
{
    const struct forward_options *o = &f->options;
    if (b->n_rows < 1 || b->n_rows > o->max_rows || b->n_sequences < 1 || b->n_sequences > o->max_sequences ||
        b->n_outputs < 0 || b->n_outputs > o->max_outputs || b->n_outputs > b->n_rows || b->n_copies < 0 ||
        b->n_copies > o->n_blocks)
        return err_set(err, ERR_INVALID, "no step has %d rows, %d outputs, %d sequences and %d copies here",
                       b->n_rows, b->n_outputs, b->n_sequences, b->n_copies);
    if (!all_within(b->token, b->n_rows, f->w->hp.vocab))
        return err_set(err, ERR_INVALID, "a token id is outside the vocabulary");
    if (!all_within(b->position, b->n_rows, o->max_context) ||
        !all_within(b->sequence, b->n_rows, b->n_sequences) ||
        !all_within(b->slot, b->n_rows, o->n_blocks * o->block_tokens) ||
        !all_within(b->table, b->n_sequences * f->table_stride, o->n_blocks) ||
        !all_within(b->copy, 2 * b->n_copies, o->n_blocks) || !all_within(b->output, b->n_outputs, b->n_rows))
        return err_set(err, ERR_INVALID, "a row points outside its sequence, the KV cache or the batch");
    return 0;
}

static int upload(struct buffer *to, const int32_t *from, int n, struct err *err)
{
    return n ? buffer_write(to, 0, (size_t)n, from, err) : 0;
}

static int upload_batch(struct forward *f, const struct batch *b, struct err *err)
{
    int rc;
    if ((rc = upload(f->token, b->token, b->n_rows, err)) != 0 ||
        (rc = upload(f->position, b->position, b->n_rows, err)) != 0 ||
        (rc = upload(f->sequence, b->sequence, b->n_rows, err)) != 0 ||
        (rc = upload(f->slot, b->slot, b->n_rows, err)) != 0 ||
        (rc = upload(f->table, b->table, b->n_sequences * f->table_stride, err)) != 0 ||
        (rc = upload(f->output, b->output, b->n_outputs, err)) != 0 ||
        (rc = upload(f->copy, b->copy, 2 * b->n_copies, err)) != 0)
        return rc;
    return 0;
}

/* y = norm(x) of whole rows. */
static void norm(const struct forward *f, struct commands *c, int rows, struct buffer *x,
                 struct buffer *weight, struct buffer *y)
{
    int width = f->w->hp.width;
    struct rms_norm_args args = {.rows = rows, .groups = 1, .width = width, .x_stride = width,
                                 .y_stride = width, .eps = f->w->hp.rms_eps};
    device_rms_norm(c, &args, x, weight, y);
}

/* Normalises `groups` heads inside the QKV rows, beginning at `offset`. */
static void head_norm(const struct forward *f, struct commands *c, int rows, int groups, int offset,
                      struct buffer *weight)
{
    struct rms_norm_args args = {.rows = rows, .groups = groups, .width = f->w->hp.head_dim,
                                 .x_stride = f->qkv_width, .x_offset = offset,
                                 .y_stride = f->qkv_width, .y_offset = offset, .eps = f->w->hp.rms_eps};
    device_rms_norm(c, &args, f->qkv, weight, f->qkv);
}

/* Q, K and V of every row; K and V go to the cache. */
static void project(const struct forward *f, struct commands *c, int rows, int l)
{
    const struct hyperparameters *hp = &f->w->hp;
    const struct layer *w = &f->w->layers[l];
    int kv_width = hp->n_kv_heads * hp->head_dim;
    struct matmul_args qkv = {
        .rows = rows, .in = hp->width, .out = {f->q_width, kv_width, kv_width}, .precise = 1};
    struct rope_kv_args rope = {
        .rows = rows, .n_heads = hp->n_heads, .n_kv_heads = hp->n_kv_heads, .head_dim = hp->head_dim,
        .rope_dim = hp->rope_dim, .style = hp->rope_style, .block_tokens = f->options.block_tokens,
        .freq_base = hp->rope_base, .freq_scale = hp->rope_scale, .yarn_ext = hp->yarn_ext,
        .yarn_low = hp->yarn_low, .yarn_high = hp->yarn_high, .magnitude = hp->rope_magnitude};

    norm(f, c, rows, f->x, w->attn_norm, f->h);
    device_matmul(c, &qkv, f->h, w->q, w->k, w->v, w->qkv_bias, NULL, f->qkv);
    if (w->q_norm) {
        head_norm(f, c, rows, hp->n_heads, 0, w->q_norm);
        head_norm(f, c, rows, hp->n_kv_heads, f->q_width, w->k_norm);
    }
    device_rope_kv(c, &rope, f->qkv, f->position, f->slot, f->w->rope_factors, f->kv[l]);
}

static void attend(const struct forward *f, struct commands *c, int rows, int l)
{
    const struct hyperparameters *hp = &f->w->hp;
    struct attention_args args = {
        .rows = rows, .n_heads = hp->n_heads, .n_kv_heads = hp->n_kv_heads, .head_dim = hp->head_dim,
        .q_stride = f->qkv_width, .block_tokens = f->options.block_tokens, .table_stride = f->table_stride,
        .scale = 1 / sqrtf((float)hp->head_dim)};
    device_attention(c, &args, f->qkv, f->position, f->sequence, f->table, f->kv[l], f->attn);
}

/* x += O(attn), then x += down(swiglu(gate, up of norm(x))). */
static void mix(const struct forward *f, struct commands *c, int rows, int l, struct buffer *x,
                struct buffer *attn)
{
    const struct hyperparameters *hp = &f->w->hp;
    const struct layer *w = &f->w->layers[l];
    struct matmul_args out = {.rows = rows, .in = f->q_width, .out = {hp->width}, .precise = 1};
    struct matmul_args gate_up = {.rows = rows, .in = hp->width, .out = {hp->ff_width, hp->ff_width}};
    struct swiglu_args swiglu = {.rows = rows, .width = hp->ff_width};
    struct matmul_args down = {.rows = rows, .in = hp->ff_width, .out = {hp->width}};

    device_matmul(c, &out, attn, w->attn_out, NULL, NULL, NULL, x, x);
    norm(f, c, rows, x, w->ffn_norm, f->h);
    device_matmul(c, &gate_up, f->h, w->gate, w->up, NULL, NULL, NULL, f->gate_up);
    device_swiglu(c, &swiglu, f->gate_up, f->act);
    device_matmul(c, &down, f->act, w->down, NULL, NULL, NULL, x, x);
}

static void gather(const struct forward *f, struct commands *c, int rows, int width, struct buffer *from,
                   struct buffer *to)
{
    struct gather_args args = {.rows = rows, .width = width};
    device_gather(c, &args, from, f->output, to);
}

/* After the last layer's K and V are cached, only the rows whose logits are wanted go on. */
static void finish(const struct forward *f, struct commands *c, const struct batch *b)
{
    const struct hyperparameters *hp = &f->w->hp;
    int last = hp->n_layers - 1;
    struct matmul_args logits = {.rows = b->n_outputs, .in = hp->width, .out = {hp->vocab}, .precise = 1};

    attend(f, c, b->n_rows, last);
    gather(f, c, b->n_outputs, hp->width, f->x, f->wanted_x);
    gather(f, c, b->n_outputs, f->q_width, f->attn, f->wanted_attn);
    mix(f, c, b->n_outputs, last, f->wanted_x, f->wanted_attn);
    norm(f, c, b->n_outputs, f->wanted_x, f->w->output_norm, f->wanted_x);
    device_matmul(c, &logits, f->wanted_x, f->w->output, NULL, NULL, NULL, NULL, f->logits);
}

static void record(const struct forward *f, struct commands *c, const struct batch *b)
{
    const struct hyperparameters *hp = &f->w->hp;
    struct embed_args embed = {.rows = b->n_rows, .width = hp->width, .vocab = hp->vocab};
    struct kv_copy_args copy = {.pairs = b->n_copies,
                                .block_elements = (int)kv_block_elements(hp, f->options.block_tokens)};

    for (int l = 0; b->n_copies && l < hp->n_layers; l++)
        device_kv_copy(c, &copy, f->copy, f->kv[l]);
    device_embed(c, &embed, f->token, f->w->embedding, f->x);
    for (int l = 0; l < hp->n_layers; l++) {
        project(f, c, b->n_rows, l);
        if (l == hp->n_layers - 1)
            break;
        attend(f, c, b->n_rows, l);
        mix(f, c, b->n_rows, l, f->x, f->attn);
    }
    if (b->n_outputs)
        finish(f, c, b);
}

int forward_step(struct forward *f, const struct batch *b, float *logits, struct err *err)
{
    int rc = check_batch(f, b, err);
    if (rc == 0)
        rc = upload_batch(f, b, err);
    if (rc)
        return rc;
    struct commands *c = commands_begin(f->device);
    record(f, c, b);
    if ((rc = commands_submit(c, err)) != 0 || (rc = commands_wait(c, err)) != 0 || b->n_outputs == 0)
        return rc;
    return buffer_read(f->logits, 0, (size_t)b->n_outputs * (size_t)f->w->hp.vocab, logits, err);
}
