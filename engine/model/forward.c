/* The forward pass of a decoder with grouped-query attention and a gated FFN (arXiv:2407.10671,
 * arXiv:2407.21783), over rows of many sequences. */
#include "forward.h"

#include <math.h>
#include <string.h>

#include "../../kernels/faults.h"
#include "forward_private.h"

static bool all_within(const int32_t *values, int n, int32_t least, int32_t limit)
{
    for (int i = 0; i < n; i++)
        if (values[i] < least || values[i] >= limit)
            return false;
    return true;
}

/* Kernels index with these numbers unchecked. */
static int check_batch(const struct forward *f, const struct batch *b, struct err *err)
{
    const struct forward_options *o = &f->options;
    if (b->n_rows < 1 || b->n_rows > o->max_rows || b->n_sequences < 1 || b->n_sequences > o->max_sequences ||
        b->n_states < 0 || b->n_sampled < 0 || b->n_outputs < b->n_states || b->n_outputs > b->n_rows ||
        b->n_outputs - b->n_states > o->max_outputs || b->n_sampled > b->n_outputs - b->n_states ||
        b->n_copies < 0 || b->n_copies > o->n_blocks || b->mask < 0 ||
        b->mask >= FORWARD_MASKS || (b->scale && b->scale_stride < b->n_rows))
        return err_set(err, ERR_INVALID, "no step has %d rows, %d outputs, %d sequences and %d copies here",
                       b->n_rows, b->n_outputs, b->n_sequences, b->n_copies);
    if (!all_within(b->token, b->n_rows, -f->n_ids, f->w->hp.vocab))
        return err_set(err, ERR_INVALID, "a token id is outside the vocabulary");
    if (!all_within(b->position, b->n_rows, 0, o->max_context) ||
        !all_within(b->sequence, b->n_rows, 0, b->n_sequences) ||
        !all_within(b->slot, b->n_rows, 0, o->n_blocks * o->block_tokens) ||
        !all_within(b->table, b->n_sequences * f->table_stride, 0, o->n_blocks) ||
        !all_within(b->copy, 2 * b->n_copies, 0, o->n_blocks) ||
        !all_within(b->output, b->n_outputs, 0, b->n_rows))
        return err_set(err, ERR_INVALID, "a row points outside its sequence, the KV cache or the batch");
    return 0;
}

/* y = norm(x) of whole rows. */
static void norm(const struct recording *r, int rows, struct buffer *x, struct buffer *weight,
                 struct buffer *y)
{
    int width = r->f->w->hp.width;
    struct rms_norm_args args = {.rows = rows, .groups = 1, .width = width, .x_stride = width,
                                 .y_stride = width, .eps = r->f->w->hp.rms_eps};
    device_rms_norm(r->c, &args, x, weight, y);
}

/* Normalises `groups` heads inside the QKV rows, beginning at `offset`. */
static void head_norm(const struct recording *r, int groups, int offset, struct buffer *weight)
{
    const struct forward *f = r->f;
    struct rms_norm_args args = {.rows = r->shape.rows, .groups = groups, .width = f->w->hp.head_dim,
                                 .x_stride = f->qkv_width, .x_offset = offset,
                                 .y_stride = f->qkv_width, .y_offset = offset, .eps = f->w->hp.rms_eps};
    device_rms_norm(r->c, &args, f->qkv, weight, f->qkv);
}

/* Q, K and V of every row; K and V go to the cache. */
static void project(const struct recording *r, int l)
{
    const struct forward *f = r->f;
    const struct hyperparameters *hp = &f->w->hp;
    const struct layer *w = &f->w->layers[l];
    int rows = r->shape.rows, kv_width = hp->n_kv_heads * hp->head_dim;
    struct matmul_args qkv = {
        .rows = rows, .in = hp->width, .out = {f->q_width, kv_width, kv_width}, .precise = 1};
    struct rope_kv_args rope = {
        .rows = rows, .n_heads = hp->n_heads, .n_kv_heads = hp->n_kv_heads, .head_dim = hp->head_dim,
        .rope_dim = hp->rope_dim, .style = hp->rope_style, .block_tokens = f->options.block_tokens,
        .magnitude = hp->rope_magnitude};

    commands_stage(r->c, l, "attention norm");
    norm(r, rows, f->x, w->attn_norm, f->h);
    commands_stage(r->c, l, "Q/K/V");
    device_matmul(r->c, &qkv, f->h, w->q, w->k, w->v, w->qkv_bias, NULL, f->qkv);
    forward_adapt(r, &(struct product){.layer = l, .which = ADAPTED_Q, .x = f->h, .y = f->qkv, .in = hp->width,
                                       .width = f->q_width, .y_stride = f->qkv_width});
    for (int i = 0; i < 2; i++)
        forward_adapt(r, &(struct product){.layer = l, .which = i ? ADAPTED_V : ADAPTED_K, .x = f->h, .y = f->qkv,
                                           .in = hp->width, .width = kv_width, .y_stride = f->qkv_width,
                                           .y_offset = f->q_width + i * kv_width});
    if (w->q_norm) {
        commands_stage(r->c, l, "Q/K norm");
        head_norm(r, hp->n_heads, 0, w->q_norm);
        head_norm(r, hp->n_kv_heads, f->q_width, w->k_norm);
    }
    commands_stage(r->c, l, "RoPE");
    device_rope_kv(r->c, &rope, f->qkv, r->input[INPUT_POSITION], r->input[INPUT_SLOT], f->w->rope_frequency,
                   f->kv[l]);
}

static void attend(const struct recording *r, int l)
{
    const struct forward *f = r->f;
    const struct hyperparameters *hp = &f->w->hp;
    struct attention_args args = {
        .rows = r->shape.rows, .n_heads = hp->n_heads, .n_kv_heads = hp->n_kv_heads, .head_dim = hp->head_dim,
        .q_stride = f->qkv_width, .block_tokens = f->options.block_tokens,
        .table_stride = r->shape.table_stride, .scale = 1 / sqrtf((float)hp->head_dim),
        .context = r->shape.context, .single = r->shape.single};
    commands_stage(r->c, l, "attention");
    device_attention(r->c, &args, f->qkv, r->input[INPUT_POSITION], r->input[INPUT_SEQUENCE],
                     r->input[INPUT_TABLE], f->kv[l], f->attn);
}

/* x += O(attn), then x += down(swiglu(gate, up of norm(x))). */
static void mix(const struct recording *r, int rows, int l, struct buffer *x, struct buffer *attn)
{
    const struct forward *f = r->f;
    const struct hyperparameters *hp = &f->w->hp;
    const struct layer *w = &f->w->layers[l];
    struct matmul_args out = {.rows = rows, .in = f->q_width, .out = {hp->width}, .precise = 1};
    struct matmul_args gate_up = {.rows = rows, .in = hp->width, .out = {hp->ff_width, hp->ff_width}};
    struct swiglu_args swiglu = {.rows = rows, .width = hp->ff_width};
    struct matmul_args down = {.rows = rows, .in = hp->ff_width, .out = {hp->width}};
    bool last = l == hp->n_layers - 1; /* after which only rows whose logits are wanted are there */

    commands_stage(r->c, l, "O");
    device_matmul(r->c, &out, attn, w->attn_out, NULL, NULL, NULL, x, x);
    forward_adapt(r, &(struct product){.layer = l, .which = ADAPTED_ATTN_OUT, .outputs = last, .x = attn, .y = x,
                                       .in = f->q_width, .width = hp->width, .y_stride = hp->width});
    commands_stage(r->c, l, "FFN norm");
    norm(r, rows, x, w->ffn_norm, f->h);
    commands_stage(r->c, l, "gate/up");
    device_matmul(r->c, &gate_up, f->h, w->gate, w->up, NULL, NULL, NULL, f->gate_up);
    for (int i = 0; i < 2; i++)
        forward_adapt(r, &(struct product){.layer = l, .which = i ? ADAPTED_UP : ADAPTED_GATE, .outputs = last,
                                           .x = f->h, .y = f->gate_up, .in = hp->width, .width = hp->ff_width,
                                           .y_stride = 2 * hp->ff_width, .y_offset = i * hp->ff_width});
    commands_stage(r->c, l, "SwiGLU");
    device_swiglu(r->c, &swiglu, f->gate_up, f->act);
    commands_stage(r->c, l, "down");
    device_matmul(r->c, &down, f->act, w->down, NULL, NULL, NULL, x, x);
    forward_adapt(r, &(struct product){.layer = l, .which = ADAPTED_DOWN, .outputs = last, .x = f->act, .y = x,
                                       .in = hp->ff_width, .width = hp->width, .y_stride = hp->width});
}

static void gather(const struct recording *r, int width, struct buffer *from, struct buffer *to)
{
    struct gather_args args = {.rows = r->shape.outputs, .width = width};
    device_gather(r->c, &args, from, r->input[INPUT_OUTPUT], to);
}

/* After the last layer's K and V are cached, only the rows that are outputs go on. */
static void finish(const struct recording *r)
{
    const struct forward *f = r->f;
    const struct hyperparameters *hp = &f->w->hp;
    int last = hp->n_layers - 1, rows = r->shape.outputs;
    struct matmul_args logits = {.rows = rows - r->shape.states, .in = hp->width, .out = {hp->vocab}, .precise = 1};
    struct sample_args sample = {.rows = r->shape.sampled, .vocab = hp->vocab};
    struct buffer *x = f->x, *attn = f->attn;

    attend(r, last);
    if (!r->shape.whole) {
        gather(r, hp->width, f->x, f->wanted_x);
        gather(r, f->q_width, f->attn, f->wanted_attn);
        x = f->wanted_x;
        attn = f->wanted_attn;
    }
    mix(r, rows, last, x, attn);
    commands_stage(r->c, -1, "output norm");
    norm(r, rows, x, f->w->output_norm, f->h);
    if (logits.rows == 0)
        return;
    commands_stage(r->c, -1, "logits");
    device_matmul(r->c, &logits, f->h, f->w->output, NULL, NULL, NULL, NULL, f->logits);
    forward_adapt(r, &(struct product){.layer = -1, .outputs = true, .x = f->h, .y = f->logits, .in = hp->width,
                                       .width = hp->vocab, .y_stride = hp->vocab});
    if (r->shape.sampled) {
        commands_stage(r->c, -1, "sample");
        device_sample(r->c, &sample, f->logits, f->allowed[r->mask], r->input[INPUT_SAMPLING], f->ids);
    }
}

static void record(const struct recording *r)
{
    const struct forward *f = r->f;
    const struct hyperparameters *hp = &f->w->hp;
    struct embed_args embed = {.rows = r->shape.rows, .width = hp->width, .vocab = hp->vocab};
    size_t block = forward_kv_block_elements(hp, f->options.block_tokens);
    struct kv_copy_args copy = {.pairs = r->shape.copies, .block_elements = (int)block};

    for (int l = 0; r->shape.copies && l < hp->n_layers; l++) {
        commands_stage(r->c, l, "KV copy");
        device_kv_copy(r->c, &copy, r->input[INPUT_COPY], f->kv[l]);
    }
    commands_stage(r->c, -1, "embedding");
    device_embed(r->c, &embed, r->input[INPUT_TOKEN], f->ids, f->w->embedding, f->x);
    for (int l = 0; l < hp->n_layers; l++) {
        project(r, l);
        if (l == hp->n_layers - 1)
            break;
        attend(r, l);
        mix(r, r->shape.rows, l, f->x, f->attn);
    }
    if (r->shape.outputs)
        finish(r);
}

/* The whole step with what it takes in and gives out. */
static int record_step(struct forward *f, const struct batch *b, struct flight *flight, struct err *err)
{
    int rc = check_batch(f, b, err);
    if (rc)
        return rc;
    struct recording r = {.f = f, .c = commands_begin(f->device), .mask = b->mask,
                          .shape = step_shape(&f->options, f->table_stride, b)};
    size_t vocab = (size_t)f->w->hp.vocab, width = (size_t)f->w->hp.width;
    size_t sampled = (size_t)b->n_sampled, states = (size_t)b->n_states;
    size_t read = (size_t)b->n_outputs - sampled - states;
    commands_stage(r.c, -1, "inputs");
    struct batch inputs = *b;
    if (FAULT(stale_buffer) && device_info(f->device)->gpu)
        inputs.n_sequences = 0;
    step_inputs_upload(f->inputs, r.c, &inputs, &r.shape, r.input);
    record(&r);
    commands_stage(r.c, -1, "results");
    if (sampled)
        device_download(r.c, f->ids, 0, sampled, flight->ids);
    if (read)
        device_download(r.c, f->logits, sampled * vocab, read * vocab, flight->logits);
    if (states)
        device_download(r.c, f->h, (sampled + read) * width, states * width, flight->states);
    flight->commands = r.c;
    if (FAULT(premature_copy) && (rc = buffer_read(f->logits, 0, 1, flight->logits, err)) != 0)
        commands_drop(r.c);
    return rc;
}

int forward_begin(struct forward *f, const struct batch *b, struct err *err)
{
    REQUIRE(f->n_flights < FORWARD_IN_FLIGHT);
    if (f->n_flights == 0)
        f->first_flight = 0; /* the same memory again and again, where steps are not queued */
    struct flight *flight = &f->flight[(f->first_flight + f->n_flights) % FORWARD_IN_FLIGHT];
    int rc = record_step(f, b, flight, err);
    if (rc == 0)
        rc = commands_submit(flight->commands, err);
    if (rc)
        return rc;
    f->n_flights++;
    if (b->n_sampled)
        f->n_ids = b->n_sampled;
    return 0;
}

int forward_in_flight(const struct forward *f)
{
    return f->n_flights;
}

int forward_end(struct forward *f, struct forward_result *out, struct err *err)
{
    REQUIRE(f->n_flights > 0);
    struct flight *flight = &f->flight[f->first_flight];
    f->first_flight = (f->first_flight + 1) % FORWARD_IN_FLIGHT;
    f->n_flights--;
    *out = (struct forward_result){flight->ids, flight->logits, flight->states};
    return commands_wait(flight->commands, err);
}

int forward_step(struct forward *f, const struct batch *b, float *logits, struct err *err)
{
    struct forward_result result;
    REQUIRE(f->n_flights == 0 && b->n_states == 0);
    int rc = forward_begin(f, b, err);
    if (rc == 0)
        rc = forward_end(f, &result, err);
    size_t read = rc ? 0 : (size_t)(b->n_outputs - b->n_sampled);
    if (read)
        memcpy(logits, result.logits, read * (size_t)f->w->hp.vocab * sizeof *logits);
    return rc;
}

int forward_record(struct forward *f, const struct batch *b, struct commands **out, struct err *err)
{
    REQUIRE(f->n_flights == 0);
    int rc = record_step(f, b, &f->flight[0], err);
    *out = rc ? NULL : f->flight[0].commands;
    return rc;
}
