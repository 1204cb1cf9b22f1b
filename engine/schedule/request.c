/* Requests: checked and copied at the door, so that the worker meets only sound ones. */
#include <math.h>
#include <string.h>

#include "sequence.h"

#define CHOICES_MAX 128
#define TOP_MAX 128

static bool outside(double value, double low, double high)
{
    return !(value >= low && value <= high); /* NAN is outside */
}

static int check_sampling(const struct sampling *p, int vocab, struct err *err)
{
    if (outside(p->temperature, 0, 1e6)) return err_set(err, ERR_INVALID, "temperature must be at least 0");
    if (p->top_k < 0) return err_set(err, ERR_INVALID, "top_k must be at least 0");
    if (outside(p->top_p, 0, 1)) return err_set(err, ERR_INVALID, "top_p must be between 0 and 1");
    if (outside(p->min_p, 0, 1)) return err_set(err, ERR_INVALID, "min_p must be between 0 and 1");
    if (outside(p->presence_penalty, -100, 100) || outside(p->frequency_penalty, -100, 100)) {
        return err_set(err, ERR_INVALID, "presence and frequency penalties must be between -100 and 100");
    }
    if (outside(p->repetition_penalty, 0.01, 100)) {
        return err_set(err, ERR_INVALID, "repetition_penalty must be between 0.01 and 100");
    }
    if (p->penalty_window < 0) return err_set(err, ERR_INVALID, "the penalties' window must be at least 0");
    if (outside(p->dry_multiplier, 0, 100)) {
        return err_set(err, ERR_INVALID, "dry_multiplier must be between 0 and 100");
    }
    if (p->dry_multiplier > 0 && (outside(p->dry_base, 1, 100) || p->dry_allowed_length < 1 || p->dry_window < 0)) {
        return err_set(err, ERR_INVALID, "dry_base must be between 1 and 100, dry_allowed_length at least 1 and DRY's "
                       "window at least 0");
    }
    if (outside(p->xtc_probability, 0, 1) || outside(p->xtc_threshold, 0, 1)) {
        return err_set(err, ERR_INVALID, "xtc_probability and xtc_threshold must be between 0 and 1");
    }
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].id < 0 || p->bias[i].id >= vocab) {
            return err_set(err, ERR_INVALID, "logit_bias: there is no token %d", p->bias[i].id);
        }
        if (outside(p->bias[i].bias, -100, 100)) {
            return err_set(err, ERR_INVALID, "logit_bias: values must be between -100 and 100");
        }
    }
    return 0;
}

static int check_length(const struct engine_request *q, int context, struct err *err)
{
    size_t room = (size_t)context, completion = q->max_tokens > 0 ? (size_t)q->max_tokens : 0;
    if (q->max_tokens > 0 && (q->n_prompt > room || completion > room - q->n_prompt)) {
        return err_set(err, ERR_TOO_LONG,
                       "This model's maximum context length is %d tokens. However, you requested %zu tokens "
                       "(%zu in the messages, %zu in the completion). Please reduce the length of the "
                       "messages or completion.", context, q->n_prompt + completion, q->n_prompt, completion);
    }
    if (q->n_prompt > room || (q->max_tokens != 0 && q->n_prompt == room)) {
        return err_set(err, ERR_TOO_LONG,
                       "This model's maximum context length is %d tokens. However, your messages resulted in "
                       "%zu tokens. Please reduce the length of the messages.", context, q->n_prompt);
    }
    return 0;
}

static int check_scales(const struct engine_request *q, const struct request_limits *limits, struct err *err)
{
    for (size_t i = 0; i < q->n_scales; i++) {
        const struct engine_scale *s = &q->scales[i];
        if (s->adapter < 0 || s->adapter >= limits->n_adapters) {
            return err_set(err, ERR_INVALID, "there is no LoRA adapter %d", s->adapter);
        }
        if (outside((double)s->scale, -1000, 1000)) {
            return err_set(err, ERR_INVALID, "scales of LoRA adapters must be between -1000 and 1000");
        }
        for (size_t j = 0; j < i; j++) {
            if (q->scales[j].adapter == s->adapter) {
                return err_set(err, ERR_INVALID, "LoRA adapter %d has two scales", s->adapter);
            }
        }
    }
    return 0;
}

static int check(const struct engine_request *q, const struct request_limits *limits, struct err *err)
{
    if (q->n_prompt == 0) return err_set(err, ERR_INVALID, "the prompt is empty");
    if (q->choices < 0 || q->choices > CHOICES_MAX) {
        return err_set(err, ERR_INVALID, "n must be between 1 and %d", CHOICES_MAX);
    }
    if (q->max_tokens < -1) return err_set(err, ERR_INVALID, "max_tokens must be at least 0");
    if (q->n_top < 0 || q->n_top > TOP_MAX) {
        return err_set(err, ERR_INVALID, "at most %d log-probability alternatives are given", TOP_MAX);
    }
    if (q->warm && (q->max_tokens != 0 || q->choices > 1 || q->prompt_logprobs || q->no_cache)) {
        return err_set(err, ERR_INVALID, "a request that warms the cache does nothing else");
    }
    if (q->embed < ENGINE_POOL_NONE || q->embed > ENGINE_POOL_LAST) {
        return err_set(err, ERR_INVALID, "there is no pooling %d", (int)q->embed);
    }
    if (q->embed && (q->max_tokens != 0 || q->choices > 1 || q->prompt_logprobs || q->warm)) {
        return err_set(err, ERR_INVALID, "a request for an embedding does nothing else");
    }
    if (q->credit < 0) return err_set(err, ERR_INVALID, "credit must be at least 0");
    if (q->want && !q->prompt_logprobs) return err_set(err, ERR_INVALID, "want needs prompt_logprobs");
    for (size_t i = 0; i < q->n_stop; i++) {
        if (!q->stop[i][0]) return err_set(err, ERR_INVALID, "stop strings must not be empty");
    }
    const struct engine_thinking *t = &q->thinking;
    if (t->n_end < 0 || t->n_end > (int)(sizeof t->end / sizeof *t->end) || (t->n_end > 0 && t->budget < 0)) {
        return err_set(err, ERR_INVALID, "thinking: %d tokens after %d are out of range", t->n_end, t->budget);
    }
    for (int i = 0; i < t->n_end; i++) {
        if (t->end[i] < 0 || t->end[i] >= limits->vocab) return err_set(err, ERR_INVALID, "there is no token %d", t->end[i]);
    }
    int rc = check_length(q, limits->context, err);
    if (rc) return rc;
    for (size_t i = 0; i < q->n_prompt; i++) {
        if (q->prompt[i] < 0 || q->prompt[i] >= limits->vocab) {
            return err_set(err, ERR_INVALID, "there is no token %d", q->prompt[i]);
        }
        for (size_t j = 0; q->want && j < q->want[i].n; j++) {
            if (q->want[i].ids[j] < 0 || q->want[i].ids[j] >= limits->vocab) {
                return err_set(err, ERR_INVALID, "there is no token %d", q->want[i].ids[j]);
            }
        }
    }
    rc = check_scales(q, limits, err);
    return rc ? rc : check_sampling(&q->sampling, limits->vocab, err);
}

static void *copy(const void *from, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    void *to = malloc(bytes ? bytes : 1);
    if (to && bytes) memcpy(to, from, bytes);
    return to;
}

static bool copy_want(struct request *r, const struct want *want)
{
    size_t total = 0;
    for (int i = 0; i < r->n_prompt; i++) {
        if (__builtin_add_overflow(total, want[i].n, &total)) return false;
    }
    r->want = copy(want, (size_t)r->n_prompt, sizeof *want);
    r->want_ids = total < SIZE_MAX / sizeof *r->want_ids ? malloc((total + 1) * sizeof *r->want_ids) : NULL;
    if (!r->want || !r->want_ids) return false;
    int32_t *at = r->want_ids;
    for (int i = 0; i < r->n_prompt; i++) {
        if (want[i].n > 0) memcpy(at, want[i].ids, want[i].n * sizeof *at);
        r->want[i].ids = at;
        at += want[i].n;
    }
    return true;
}

/* The request's biases; a request that ignores ends also bans the tokens that make them. */
static bool copy_bias(struct request *r, const struct request_limits *limits)
{
    size_t n = r->sampling.n_bias, n_ends = r->ignore_eos ? (size_t)limits->n_end_ids : 0;
    r->bias = malloc((n + n_ends + 1) * sizeof *r->bias);
    if (!r->bias) return false;
    if (n > 0) memcpy(r->bias, r->sampling.bias, n * sizeof *r->bias);
    for (size_t i = 0; i < n_ends; i++) r->bias[n + i] = (struct logit_bias){limits->end_ids[i], -INFINITY};
    r->biased = n > 0;
    r->sampling.bias = r->bias;
    r->sampling.n_bias = n + n_ends;
    return true;
}

static bool copy_scales(struct request *r, const struct engine_request *q, const struct request_limits *limits)
{
    bool any = false;
    for (size_t i = 0; i < q->n_scales; i++) any |= q->scales[i].scale != 0;
    if (!any) return true;
    r->scale = calloc((size_t)limits->n_adapters, sizeof *r->scale);
    for (size_t i = 0; r->scale && i < q->n_scales; i++) r->scale[q->scales[i].adapter] = q->scales[i].scale;
    return r->scale != NULL;
}

struct prefix_key request_root(const struct request_limits *limits, const struct engine_scale *scales, size_t n)
{
    struct prefix_key root = limits->root;
    for (int a = 0; a < limits->n_adapters; a++) { /* in this order, whatever that of the scales is */
        for (size_t i = 0; i < n; i++) {
            if (scales[i].adapter != a || scales[i].scale == 0) continue;
            root = prefix_root_behind(root, &limits->adapter_keys[a], sizeof limits->adapter_keys[a]);
            root = prefix_root_behind(root, &scales[i].scale, sizeof scales[i].scale);
        }
    }
    return root;
}

static int create_sequences(struct request *r, const struct engine_request *q,
                            const struct request_limits *limits, struct err *err)
{
    struct engine_top *top;
    float *want;
    struct prefix_key root = request_root(limits, q->scales, q->n_scales);
    r->sequence = calloc((size_t)r->choices, sizeof *r->sequence);
    if (!r->sequence) return err_set(err, ERR_NOMEM, "out of memory for a request");
    for (int i = 0; i < r->choices; i++) {
        struct sequence *s = &r->sequence[i];
        s->request = r;
        s->choice = i;
        int rc = kv_table_create(&s->task.kv, limits->kv, r->limit, err);
        if (rc) return rc;
        kv_table_root(&s->task.kv, prefix_salted(root, q->cache_salt), q->owner);
        rc = text_stream_create(&s->stream, q->stop, q->n_stop, err);
        if (rc) return rc;
        struct event *e = event_create(0, 0, 0, 0, &top, &want);
        if (!e) return err_set(err, ERR_NOMEM, "out of memory for a request");
        event_list_add(&r->farewell, e);
    }
    return 0;
}

int request_create(struct request **out, const struct engine_request *q, const struct request_limits *limits,
                   struct err *err)
{
    *out = NULL;
    int rc = check(q, limits, err);
    if (rc) return rc;
    struct request *r = calloc(1, sizeof *r);
    if (!r) return err_set(err, ERR_NOMEM, "out of memory for a request");
    r->user = q->user;
    r->sampling = q->sampling;
    r->n_prompt = (int)q->n_prompt;
    r->choices = q->choices ? q->choices : 1;
    r->max_tokens = q->max_tokens;
    r->limit = q->max_tokens < 0 ? limits->context : r->n_prompt + q->max_tokens;
    r->ignore_eos = q->ignore_eos;
    r->grammar = grammar_retain(q->grammar);
    r->thinking = q->thinking;
    r->logprobs = q->logprobs;
    r->prompt_logprobs = q->prompt_logprobs;
    r->n_top = q->logprobs || q->prompt_logprobs ? q->n_top : 0;
    r->embed = q->embed;
    r->private = q->no_cache || (q->embed && q->embed != ENGINE_POOL_LAST); /* the others need early states too */
    r->warm = q->warm;
    r->explains = q->explain_cache && !r->private && !q->prompt_logprobs;
    r->bounded = q->credit > 0;
    r->credit = q->credit;
    r->deadline = q->deadline;
    r->priority = q->priority;
    r->owner = q->owner;
    r->tells_place = q->tells_place;
    r->told_ahead = -1;
    r->next_logprob = NAN;
    r->prompt = copy(q->prompt, q->n_prompt, sizeof *q->prompt);
    if (r->embed) r->pooled = calloc((size_t)limits->width, sizeof *r->pooled);
    if (!r->prompt || !copy_bias(r, limits) || !copy_scales(r, q, limits) || (q->want && !copy_want(r, q->want)) ||
        (r->embed && !r->pooled)) {
        rc = err_set(err, ERR_NOMEM, "out of memory for a request");
        goto fail;
    }
    if (r->sampling.dry_multiplier > 0) {
        rc = dry_breakers_create(&r->breakers, q->sampling.dry_breakers, q->sampling.n_dry_breakers, err);
        if (rc) goto fail;
    }
    r->sampling.dry_breakers = NULL; /* the caller's */
    rc = create_sequences(r, q, limits, err);
    if (rc) goto fail;
    *out = r;
    return 0;

fail:
    request_free(r);
    return rc;
}

void request_free(struct request *r)
{
    if (!r) return;
    for (int i = 0; r->sequence && i < r->choices; i++) {
        struct sequence *s = &r->sequence[i];
        kv_table_destroy(&s->task.kv);
        text_stream_destroy(s->stream);
        token_counts_destroy(s->counts);
        speculation_dispose(&s->speculation);
        grammar_state_destroy(s->grammar);
        free(s->tokens);
        free(s->held);
        free(s->held_top);
        free(s->text);
    }
    event_list_free(&r->farewell);
    engine_grammar_release(r->grammar);
    free(r->sequence);
    free(r->want);
    free(r->want_ids);
    dry_breakers_destroy(r->breakers);
    free(r->scale);
    free(r->bias);
    free(r->prompt);
    free(r->pooled);
    free(r);
}
