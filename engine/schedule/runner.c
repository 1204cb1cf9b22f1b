/* Loading a model into a runner, and the choice of its sizes. */
#include <string.h>
#include <time.h>

#include "../check/check.h"
#include "../log.h"
#include "../host_memory.h"
#include "runner_private.h"

#define DEFAULT_TOKENS 4096 /* of KV for each parallel sequence, where nobody says otherwise */
#define LEAST_TOKENS 2048   /* of KV without which a model is not worth loading */
#define SMALL_BYTES (64 << 10) /* of a model's many small things */

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int rows_of(const struct runner_options *o)
{
    return o->step_tokens > o->parallel ? o->step_tokens : o->parallel;
}

static struct forward_options forward_sizes(const struct runner_options *o, int context, int blocks)
{
    return (struct forward_options){
        .max_rows = rows_of(o),
        .max_outputs = o->parallel + SCORE_ROWS,
        .max_sequences = o->parallel,
        .block_tokens = BLOCK_TOKENS,
        .n_blocks = blocks,
        .max_context = context,
        .adapters = o->adapters,
        .n_adapters = o->n_adapters,
    };
}

/* Bytes that the KV cache may take: a quarter of the host's memory that is still available; of a device's own
 * memory what the weights and a step leave, twice its scratch buffers for the device's own kinds of them and
 * a sixteenth of all spared. */
static uint64_t kv_budget(const struct runner *r, int context)
{
    uint64_t all = device_info(r->device)->memory;
    if (r->options->kv_bytes) return r->options->kv_bytes;
    if (all == 0) return host_memory_available() / 4;
    struct forward_options sizes = forward_sizes(r->options, context, 1);
    uint64_t scratch = forward_scratch_bytes(r->facts.hyper, &sizes);
    uint64_t used = weights_bytes(r->weights) + 3 * scratch + all / 16;
    return all > used ? all - used : 0;
}

static int check_context(const struct runner_options *o, const struct hyperparameters *h, int *context,
                         struct err *err)
{
    *context = o->context ? o->context : h->context;
    if (*context >= 1 && *context <= h->context) return 0;
    return err_set(err, ERR_INVALID, "a context of %d tokens is outside 1 to %d, the model's own", *context,
                   h->context);
}

/* Tokens of KV cache, memory being no object: what the options say, or the longest sequence and DEFAULT_TOKENS
 * for each parallel one, whichever is more. */
static int64_t wanted_tokens(const struct runner_options *o, int context)
{
    if (o->kv_tokens) return o->kv_tokens;
    int64_t each = context < DEFAULT_TOKENS ? context : DEFAULT_TOKENS;
    return each * o->parallel > context ? each * o->parallel : context;
}

static uint64_t block_count(int64_t tokens)
{
    return ((uint64_t)tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
}

int runner_measure(const struct device *device, const struct runner_options *o, struct runner_needs *out,
                   struct err *err)
{
    struct hyperparameters h;
    size_t weights;
    int context, rc = weights_measure(device, o->gguf, &h, &weights, err);
    if (!rc) rc = check_context(o, &h, &context, err);
    if (rc) return rc;
    struct forward_options sizes = forward_sizes(o, context, 1);
    size_t block_bytes = forward_kv_block_bytes(device, &h, BLOCK_TOKENS);
    int64_t most = wanted_tokens(o, context), least = o->context ? context : LEAST_TOKENS;
    if (least > context) least = context;
    if (o->kv_tokens || least > most) least = most;
    for (int i = 0; i < o->n_adapters; i++) weights += adapter_bytes(o->adapters[i], device);
    out->fixed = weights + forward_scratch_bytes(&h, &sizes) + forward_result_bytes(&h, &sizes) + SMALL_BYTES;
    out->kv_least = block_count(least) * block_bytes;
    out->kv_most = block_count(most) * block_bytes;
    return 0;
}

/* The KV cache holds what is wanted, but not more than there is memory for. */
static int choose_sizes(struct runner *r, const struct runner_options *o, int *blocks, struct err *err)
{
    const struct hyperparameters *h = r->facts.hyper;
    int context, rc = check_context(o, h, &context, err);
    if (rc) return rc;
    size_t block_bytes = forward_kv_block_bytes(r->device, h, BLOCK_TOKENS);
    int64_t tokens = wanted_tokens(o, context);
    if (o->kv_tokens == 0) {
        int64_t fits = (int64_t)(kv_budget(r, context) / block_bytes) * BLOCK_TOKENS;
        if (tokens > fits) tokens = fits > BLOCK_TOKENS ? fits : BLOCK_TOKENS;
    }
    int64_t n = (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    if (n > INT32_MAX / BLOCK_TOKENS) {
        return err_set(err, ERR_INVALID, "a KV cache of %lld tokens is too large", (long long)tokens);
    }
    if (context > n * BLOCK_TOKENS) context = (int)(n * BLOCK_TOKENS);
    *blocks = (int)n;
    r->facts.limits.context = context;
    r->facts.kv_bytes = (uint64_t)n * block_bytes;
    log_info("KV cache: %lld tokens in %lld blocks, %.0f MiB; one sequence: up to %d tokens (%s)",
             (long long)n * BLOCK_TOKENS, (long long)n, (double)r->facts.kv_bytes / 1048576, context,
             o->kv_tokens ? "as asked for"
             : o->kv_bytes ? "chosen by model, parallel and its share of the memory budget"
             : device_info(r->device)->memory ? "chosen by model, parallel and the device's memory"
                                              : "chosen by model, parallel and a quarter of free memory");
    return 0;
}

/* Which tokens may be generated, which count in log-probabilities, which end a text. */
static int make_masks(struct runner *r, const struct runner_options *o, struct err *err)
{
    int vocab = r->facts.hyper->vocab;
    bool *allowed = calloc((size_t)vocab, sizeof *allowed), *real = calloc((size_t)vocab, sizeof *real);
    r->end = calloc((size_t)vocab, sizeof *r->end);
    r->end_ids = calloc((size_t)o->n_end_ids + 1, sizeof *r->end_ids);
    size_t words = ((size_t)vocab + 31) / 32;
    for (int i = 0; i < FORWARD_MASKS; i++) r->mask[i] = calloc(words, sizeof *r->mask[i]);
    int rc = ERR_NOMEM;
    if (!allowed || !real || !r->end || !r->end_ids || !r->mask[0] || !r->mask[1]) {
        err_set(err, ERR_NOMEM, "out of memory for the vocabulary");
        goto done;
    }
    for (int i = 0; i < vocab && i < o->n_real; i++) {
        real[i] = o->real[i];
        allowed[i] = !tokenizer_is_hidden(o->tokenizer, i);
    }
    for (int i = 0; i < o->n_end_ids; i++) {
        int32_t id = o->end_ids[i];
        if (id < 0 || id >= vocab || r->end[id]) continue;
        r->end[id] = allowed[id] = real[id] = true;
        r->end_ids[r->facts.limits.n_end_ids++] = id;
    }
    r->facts.limits.end_ids = r->end_ids;
    for (int i = 0; i < vocab; i++) {
        uint32_t bit = 1u << (i % 32);
        if (allowed[i]) r->mask[MASK_WITH_ENDS][i / 32] |= (int32_t)bit;
        if (allowed[i] && !r->end[i]) r->mask[MASK_WITHOUT_ENDS][i / 32] |= (int32_t)bit;
    }
    rc = sampler_create(&r->sampler, vocab, allowed, real, err);
done:
    free(allowed);
    free(real);
    return rc;
}

static int make_room(struct runner *r, struct err *err)
{
    size_t rows = (size_t)r->max_rows, outputs = (size_t)r->max_outputs;
    struct step_room *m = &r->room;
    m->token = malloc(rows * sizeof *m->token);
    m->position = malloc(rows * sizeof *m->position);
    m->sequence = malloc(rows * sizeof *m->sequence);
    m->slot = malloc(rows * sizeof *m->slot);
    m->table = malloc((size_t)r->parallel * (size_t)r->stride * sizeof *m->table);
    m->output = malloc(rows * sizeof *m->output);
    m->sampling = malloc(outputs * sizeof *m->sampling);
    m->scale = calloc(rows * (size_t)r->facts.limits.n_adapters + 1, sizeof *m->scale);
    bool records = true;
    for (int i = 0; i < FORWARD_IN_FLIGHT; i++) {
        r->record[i].part = malloc((size_t)r->parallel * sizeof *r->record[i].part);
        records = records && r->record[i].part;
    }
    if (m->token && m->position && m->sequence && m->slot && m->table && m->output && m->sampling &&
        m->scale && records) {
        return 0;
    }
    return err_set(err, ERR_NOMEM, "out of memory for the rows of a step");
}

int runner_prepare(struct runner *r, struct err *err)
{
    const struct runner_options *o = r->options;
    int blocks = 0, rc = choose_sizes(r, o, &blocks, err);
    if (rc) return rc;
    rc = make_masks(r, o, err);
    if (rc) return rc;
    struct forward_options sizes = forward_sizes(o, r->facts.limits.context, blocks);
    r->stride = (sizes.max_context - 1) / BLOCK_TOKENS + 1;
    rc = kv_blocks_create(&r->kv, blocks, BLOCK_TOKENS, err);
    if (rc) return rc;
    struct scheduler_options scheduler = {r->parallel, r->max_rows, SCORE_ROWS, tier_ready, r};
    rc = scheduler_create(&r->scheduler, &scheduler, r->kv, err);
    if (rc) return rc;
    r->facts.limits.kv = r->kv;
    r->facts.limits.vocab = r->facts.hyper->vocab;
    r->facts.limits.width = r->facts.hyper->width;
    r->facts.kv_blocks = blocks;
    r->facts.block_tokens = BLOCK_TOKENS;
    r->facts.step_rows = r->max_rows;
    r->facts.parameters = weights_parameters(r->weights);
    r->facts.weight_bytes = weights_bytes(r->weights);
    for (int i = 0; i < o->n_adapters; i++) r->facts.weight_bytes += adapter_bytes(o->adapters[i], r->device);
    r->facts.limits.adapter_keys = o->adapter_keys;
    r->facts.limits.n_adapters = o->n_adapters;
    r->facts.other_bytes = forward_scratch_bytes(r->facts.hyper, &sizes) +
                           forward_result_bytes(r->facts.hyper, &sizes);
    if (o->store) r->digest = tier_digest(o->gguf);
    return make_room(r, err);
}

static int check_device(struct runner *r, struct gguf *g, struct err *err)
{
    double began = clock_seconds();
    int rc = check_start(r->device, r->weights, g, err);
    if (!rc) log_info("checked that the device computes rightly, in %.2f s", clock_seconds() - began);
    return rc;
}

int runner_open(struct runner *r, struct err *err)
{
    const struct runner_options *o = r->options;
    int rc = device_info(r->device)->gpu && !o->unchecked ? check_device(r, o->gguf, err) : 0;
    if (rc) return rc;
    r->adapters = o->adapters;
    for (int i = 0; i < o->n_adapters; i++) {
        rc = adapter_load(o->adapters[i], r->device, err);
        if (rc) return rc;
    }
    struct forward_options sizes = forward_sizes(o, r->facts.limits.context, r->facts.kv_blocks);
    for (int i = 0; i < FORWARD_MASKS; i++) sizes.allowed[i] = r->mask[i];
    rc = forward_create(&r->forward, r->device, r->weights, &sizes, err);
    if (rc) return rc;
    REQUIRE(r->stride == forward_table_stride(r->forward));
    rc = tier_create(r, o->store, &r->digest, o->name, err);
    r->options = NULL;
    return rc;
}

int runner_create(struct runner **out, struct device *device, const struct runner_options *o, struct err *err)
{
    *out = NULL;
    struct runner *r = calloc(1, sizeof *r);
    if (!r) return err_set(err, ERR_NOMEM, "out of memory for a model");
    r->device = device;
    r->options = o;
    r->tokenizer = o->tokenizer;
    r->parallel = o->parallel;
    r->max_rows = rows_of(o);
    r->pace.limit = o->max_itl;
    r->max_outputs = o->parallel + SCORE_ROWS;
    r->depth = o->in_flight ? o->in_flight : device_info(device)->queued ? FORWARD_IN_FLIGHT : 1;
    r->speculate = o->speculate;
    r->speculates = o->speculate != SPECULATE_OFF && r->depth == 1 && !device_info(device)->gpu;
    int rc = weights_begin(&r->weights, device, o->gguf, err);
    if (rc) {
        free(r);
        return rc;
    }
    r->facts.hyper = weights_hyperparameters(r->weights);
    *out = r;
    return 0;
}

int runner_load(struct runner *r, size_t bytes, bool *done, struct err *err)
{
    return weights_more(r->weights, bytes, done, err);
}

const struct gguf_tensor *runner_next(const struct runner *r)
{
    return weights_next(r->weights);
}

void runner_close(struct runner *r)
{
    struct event_list nobody = {0};
    struct runner_counts counts = {0};
    runner_settle(r, &nobody, &counts);
    tier_destroy(r);
    r->tier = (struct tier){0};
    forward_destroy(r->forward);
    for (int i = 0; r->adapters && i < r->facts.limits.n_adapters; i++) adapter_unload(r->adapters[i]);
    weights_free(r->weights);
    r->adapters = NULL;
    r->forward = NULL;
    r->weights = NULL;
}

void runner_destroy(struct runner *r)
{
    if (!r) return;
    runner_close(r);
    scheduler_destroy(r->scheduler);
    kv_blocks_destroy(r->kv);
    sampler_destroy(r->sampler);
    free(r->end);
    free(r->end_ids);
    free(r->room.token);
    free(r->room.position);
    free(r->room.sequence);
    free(r->room.slot);
    free(r->room.table);
    free(r->room.output);
    free(r->room.sampling);
    free(r->room.scale);
    for (int i = 0; i < FORWARD_IN_FLIGHT; i++) free(r->record[i].part);
    for (int i = 0; i < FORWARD_MASKS; i++) free(r->mask[i]);
    free(r);
}

int runner_pin(struct runner *r, const struct engine_scale *scales, size_t n_scales, const int32_t *ids, int n,
               struct err *err)
{
    struct prefix_key key = request_root(&r->facts.limits, scales, n_scales);
    int rc = 0;
    for (int i = 0; !rc && (i + 1) * BLOCK_TOKENS <= n; i++) {
        key = prefix_extend(key, ids + i * BLOCK_TOKENS, BLOCK_TOKENS);
        rc = kv_blocks_pin(r->kv, &key, err);
    }
    return rc;
}

double runner_save(struct runner *r)
{
    return tier_save(r);
}

const struct runner_facts *runner_facts(const struct runner *r)
{
    return &r->facts;
}
