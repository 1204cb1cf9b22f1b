/* Loading a model into a runner, and the choice of its sizes. */
#include <string.h>
#include <time.h>

#include "../log.h"
#include "../host_memory.h"
#include "runner_private.h"

#define DEFAULT_TOKENS 4096 /* of KV for each parallel sequence, where nobody says otherwise */

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The KV cache holds what the options say, or the longest sequence and DEFAULT_TOKENS for each parallel
 * one, whichever is more; but not more than a quarter of the memory that is still available. */
static int choose_sizes(struct runner *r, const struct runner_options *o, int *blocks, struct err *err)
{
    const struct hyperparameters *h = r->facts.hyper;
    int context = o->context ? o->context : h->context;
    if (context < 1 || context > h->context) {
        return err_set(err, ERR_INVALID, "a context of %d tokens is outside 1 to %d, the model's own",
                       context, h->context);
    }
    size_t block_bytes = forward_kv_block_bytes(r->device, r->weights, BLOCK_TOKENS);
    int64_t tokens = o->kv_tokens;
    if (tokens == 0) {
        int64_t each = context < DEFAULT_TOKENS ? context : DEFAULT_TOKENS;
        tokens = each * o->parallel > context ? each * o->parallel : context;
        int64_t fits = (int64_t)(host_memory_available() / 4 / block_bytes) * BLOCK_TOKENS;
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
             o->kv_tokens ? "as asked for" : "chosen by model, parallel and a quarter of free memory");
    return 0;
}

/* Which tokens may be generated, which count in log-probabilities, which end a text. */
static int make_masks(struct runner *r, const struct runner_options *o, struct err *err)
{
    int vocab = r->facts.hyper->vocab;
    bool *allowed = calloc((size_t)vocab, sizeof *allowed), *real = calloc((size_t)vocab, sizeof *real);
    r->end = calloc((size_t)vocab, sizeof *r->end);
    r->end_ids = calloc((size_t)o->n_end_ids + 1, sizeof *r->end_ids);
    int rc = ERR_NOMEM;
    if (!allowed || !real || !r->end || !r->end_ids) {
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
    m->output = malloc(outputs * sizeof *m->output);
    m->logits = malloc(outputs * (size_t)r->facts.hyper->vocab * sizeof *m->logits);
    if (m->token && m->position && m->sequence && m->slot && m->table && m->output && m->logits) return 0;
    return err_set(err, ERR_NOMEM, "out of memory for the rows of a step");
}

static int prepare(struct runner *r, const struct runner_options *o, struct err *err)
{
    int blocks = 0, rc = choose_sizes(r, o, &blocks, err);
    if (rc) return rc;
    struct forward_options forward = {
        .max_rows = r->max_rows,
        .max_outputs = r->max_outputs,
        .max_sequences = r->parallel,
        .block_tokens = BLOCK_TOKENS,
        .n_blocks = blocks,
        .max_context = r->facts.limits.context,
    };
    rc = forward_create(&r->forward, r->device, r->weights, &forward, err);
    if (rc) return rc;
    r->stride = forward_table_stride(r->forward);
    rc = kv_blocks_create(&r->kv, blocks, BLOCK_TOKENS, err);
    if (rc) return rc;
    struct scheduler_options scheduler = {r->parallel, r->max_rows, SCORE_ROWS};
    rc = scheduler_create(&r->scheduler, &scheduler, r->kv, err);
    if (rc) return rc;
    rc = make_masks(r, o, err);
    if (rc) return rc;
    r->facts.limits.kv = r->kv;
    r->facts.limits.vocab = r->facts.hyper->vocab;
    r->facts.kv_blocks = blocks;
    r->facts.block_tokens = BLOCK_TOKENS;
    r->facts.step_rows = r->max_rows;
    r->facts.parameters = weights_parameters(r->weights);
    r->facts.weight_bytes = weights_bytes(r->weights);
    return make_room(r, err);
}

int runner_create(struct runner **out, struct device *device, const struct runner_options *o, struct err *err)
{
    *out = NULL;
    struct runner *r = calloc(1, sizeof *r);
    if (!r) return err_set(err, ERR_NOMEM, "out of memory for a model");
    r->device = device;
    r->tokenizer = o->tokenizer;
    r->parallel = o->parallel;
    r->max_rows = o->step_tokens > o->parallel ? o->step_tokens : o->parallel;
    r->max_outputs = o->parallel + SCORE_ROWS;
    int rc = weights_load(&r->weights, device, o->gguf, err);
    if (rc) goto fail;
    r->facts.hyper = weights_hyperparameters(r->weights);
    rc = prepare(r, o, err);
    if (rc) goto fail;
    *out = r;
    return 0;

fail:
    runner_destroy(r);
    return rc;
}

void runner_destroy(struct runner *r)
{
    if (!r) return;
    scheduler_destroy(r->scheduler);
    kv_blocks_destroy(r->kv);
    sampler_destroy(r->sampler);
    forward_destroy(r->forward);
    weights_free(r->weights);
    free(r->end);
    free(r->end_ids);
    free(r->room.token);
    free(r->room.position);
    free(r->room.sequence);
    free(r->room.slot);
    free(r->room.table);
    free(r->room.output);
    free(r->room.logits);
    free(r);
}

const struct runner_facts *runner_facts(const struct runner *r)
{
    return &r->facts;
}

void runner_load(const struct runner *r, int *running, int *waiting, int *blocks_used)
{
    *running += scheduler_running(r->scheduler);
    *blocks_used += kv_blocks_total(r->kv) - kv_blocks_free(r->kv);
    for (const struct request *q = r->first; q; q = q->next) *waiting += q->admitted == 0 && !q->over;
}
