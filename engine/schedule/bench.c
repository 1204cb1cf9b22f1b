/* Measuring prefill and decode through the same forward pass that serves requests. */
#include <string.h>

#include "runner_private.h"

#define BANDWIDTH_BYTES ((size_t)1 << 29) /* at most; far beyond any cache */
#define REPETITIONS_MAX 1000

struct rates {
    double value[REPETITIONS_MAX];
    int n;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarise(struct rates *rates, double *median, double *min, double *max)
{
    qsort(rates->value, (size_t)rates->n, sizeof *rates->value, compare);
    int middle = rates->n / 2;
    *median = rates->n % 2 ? rates->value[middle] : (rates->value[middle - 1] + rates->value[middle]) / 2;
    *min = rates->value[0];
    *max = rates->value[rates->n - 1];
}

/* Tokens that stand for a prompt: any will do, as long as they are not all the same. */
static int32_t made_up(const struct runner *r, int i)
{
    return (int32_t)(((uint32_t)i * 2654435761u >> 8) % (uint32_t)r->facts.hyper->vocab);
}

/* The token that follows `row` is wanted: chosen on the device where it serves so, else from its logits. */
static void want(struct runner *r, struct batch *b, int row)
{
    r->room.output[b->n_outputs++] = row;
    if (r->depth > 1) r->room.sampling[b->n_sampled++] = (struct sample_row){.top_p = 1};
}

/* Ends the oldest step under way, which gives the next tokens of `n` sequences. */
static int end_oldest(struct runner *r, int32_t *next, int n, struct err *err)
{
    static const struct sampling greedy = {.top_p = 1, .repetition_penalty = 1};
    struct forward_result result;
    int rc = forward_end(r->forward, &result, err);
    for (int i = 0; i < n && !rc; i++) {
        if (r->depth > 1) {
            if (result.ids[i] < 0) rc = err_set(err, ERR_DEVICE, "the model's logits are not finite");
            continue;
        }
        const float *logits = result.logits + (size_t)i * (size_t)r->facts.hyper->vocab;
        next[i] = sampler_choose(r->sampler, logits, NULL, &greedy, NULL, 0, 0, err);
        if (next[i] < 0) rc = next[i];
    }
    return rc;
}

/* After a failure, what else is under way ends unseen. */
static int end_all(struct runner *r, int32_t *next, int n, int rc, struct err *err)
{
    struct err unseen;
    while (forward_in_flight(r->forward) > 0) {
        int ended = end_oldest(r, next, n, rc ? &unseen : err);
        rc = rc ? rc : ended;
    }
    return rc;
}

static int prefill(struct runner *r, struct kv_table *kv, int n, struct err *err)
{
    struct kv_copies none = {0};
    int rc = 0;
    for (int first = 0; first < n && !rc;) {
        int rows = n - first < r->max_rows ? n - first : r->max_rows;
        struct batch b;
        step_room_begin(r, &b);
        kv_table_extend(kv, r->kv, first, rows, &none);
        for (int i = 0; i < rows; i++) {
            int32_t token = made_up(r, first + i);
            step_room_rows(r, &b, kv, 0, &token, first + i, 1);
        }
        first += rows;
        if (first == n) want(r, &b, rows - 1);
        rc = forward_begin(r->forward, &b, err);
        if (!rc && forward_in_flight(r->forward) == r->depth) rc = end_oldest(r, NULL, 0, err);
    }
    return end_all(r, NULL, 0, rc, err);
}

static int decode(struct runner *r, struct kv_table *kv, int batch, int context, int steps, struct err *err)
{
    int32_t *next = malloc((size_t)batch * sizeof *next);
    if (!next) return err_set(err, ERR_NOMEM, "out of memory for a benchmark");
    int rc = 0;
    for (int i = 0; i < batch; i++) next[i] = made_up(r, i);
    for (int step = 0; step < steps && !rc; step++) {
        struct batch b;
        step_room_begin(r, &b);
        for (int i = 0; i < batch; i++) {
            step_room_rows(r, &b, &kv[i], i, &next[i], context + step, 1);
            want(r, &b, i);
        }
        for (int i = 0; i < b.n_sampled; i++) next[i] = -1 - i; /* the step before has them */
        rc = forward_begin(r->forward, &b, err);
        if (!rc && forward_in_flight(r->forward) == r->depth) rc = end_oldest(r, next, batch, err);
    }
    rc = end_all(r, next, batch, rc, err);
    free(next);
    return rc;
}

static int check(const struct runner *r, const struct engine_bench *q, struct err *err)
{
    int64_t context = (int64_t)q->context + q->generate;
    if (q->prompt < 0 || q->generate < 0 || q->context < 0 || q->batch < 1 || q->repetitions < 1 ||
        q->repetitions > REPETITIONS_MAX) {
        return err_set(err, ERR_INVALID, "benchmark sizes must be positive, with at most %d repetitions",
                       REPETITIONS_MAX);
    }
    if (q->batch > r->parallel) {
        return err_set(err, ERR_INVALID, "a batch of %d needs as many parallel sequences; there are %d",
                       q->batch, r->parallel);
    }
    if (q->prompt > r->facts.limits.context || context > r->facts.limits.context) {
        return err_set(err, ERR_INVALID, "the benchmark needs a context of %lld tokens; there are %d",
                       (long long)(context > q->prompt ? context : q->prompt), r->facts.limits.context);
    }
    int64_t blocks = (context + BLOCK_TOKENS - 1) / BLOCK_TOKENS * q->batch;
    if (blocks > r->facts.kv_blocks) {
        return err_set(err, ERR_INVALID, "the benchmark needs a KV cache of %lld tokens; there are %lld",
                       (long long)blocks * BLOCK_TOKENS, (long long)r->facts.kv_blocks * BLOCK_TOKENS);
    }
    return 0;
}

static int measure(struct runner *r, const struct engine_bench *q, struct kv_table *kv, struct rates *prompt,
                   struct rates *output, struct err *err)
{
    struct kv_copies none = {0};
    int total = q->context + q->generate;
    for (int i = -1; i < q->repetitions; i++) { /* the first, shorter pass warms up */
        double began = clock_seconds();
        int rc = prefill(r, &kv[0], i < 0 && q->prompt > 64 ? 64 : q->prompt, err);
        double end = clock_seconds();
        kv_table_clear(&kv[0], r->kv);
        if (rc) return rc;
        if (i >= 0 && q->prompt > 0) prompt->value[prompt->n++] = q->prompt / (end - began);

        for (int j = 0; j < q->batch && total > 0; j++) kv_table_extend(&kv[j], r->kv, 0, total, &none);
        began = clock_seconds();
        rc = decode(r, kv, q->batch, q->context, i < 0 && q->generate > 4 ? 4 : q->generate, err);
        end = clock_seconds();
        for (int j = 0; j < q->batch; j++) kv_table_clear(&kv[j], r->kv);
        if (rc) return rc;
        if (i < 0 || q->generate == 0) continue;
        output->value[output->n++] = (double)q->batch * q->generate / (end - began);
    }
    return 0;
}

static int compare_rows(const void *a, const void *b)
{
    const struct engine_profile_row *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

/* Takes what the device measured in `seconds`, `times` alike. */
static void take_profile(struct runner *r, struct engine_profile *out, double seconds, int times)
{
    _Static_assert(ENGINE_PROFILE_ROWS == PROFILE_ROWS, "one profile");
    struct profile p;
    device_profile(r->device, &p);
    out->n = p.n;
    out->seconds = seconds / times;
    out->waiting = p.waiting / times;
    for (int i = 0; i < p.n; i++) {
        const struct profile_row *row = &p.row[i];
        out->row[i] = (struct engine_profile_row){
            .op = operator_name(row->op), .stage = row->stage, .calls = (double)row->calls / times,
            .seconds = row->seconds / times, .bytes = row->bytes / times,
            .operations = row->operations / times, .int8 = row->int8};
    }
    qsort(out->row, (size_t)out->n, sizeof *out->row, compare_rows);
}

/* `times` prefills, or decodings of `generate` steps; returns the seconds they took, or a negative code. */
static double run_prefill(struct runner *r, const struct engine_bench *q, struct kv_table *kv, int times,
                          struct err *err)
{
    double seconds = 0;
    for (int i = 0; i < times; i++) {
        double began = clock_seconds();
        int rc = prefill(r, &kv[0], q->prompt, err);
        seconds += clock_seconds() - began;
        kv_table_clear(&kv[0], r->kv);
        if (rc) return rc;
    }
    return seconds;
}

static double run_decode(struct runner *r, const struct engine_bench *q, struct kv_table *kv, int times,
                         struct err *err)
{
    struct kv_copies none = {0};
    double seconds = 0;
    for (int i = 0; i < times; i++) {
        for (int j = 0; j < q->batch; j++) kv_table_extend(&kv[j], r->kv, 0, q->context + q->generate, &none);
        double began = clock_seconds();
        int rc = decode(r, kv, q->batch, q->context, q->generate, err);
        seconds += clock_seconds() - began;
        for (int j = 0; j < q->batch; j++) kv_table_clear(&kv[j], r->kv);
        if (rc) return rc;
    }
    return seconds;
}

static int profile(struct runner *r, const struct engine_bench *q, struct kv_table *kv,
                   struct engine_bench_result *out, struct err *err)
{
    static double (*const passes[])(struct runner *, const struct engine_bench *, struct kv_table *, int,
                                    struct err *) = {run_prefill, run_decode};
    struct engine_profile *const into[] = {&out->prefill, &out->decode};
    const int units[] = {q->prompt > 0, q->generate};
    for (int i = 0; i < 2; i++) {
        struct profile unseen;
        if (!units[i]) continue;
        double seconds = passes[i](r, q, kv, 1, err); /* warms up */
        device_profile(r->device, &unseen);
        if (seconds >= 0) seconds = passes[i](r, q, kv, q->repetitions, err);
        if (seconds < 0) return (int)seconds;
        take_profile(r, into[i], seconds, units[i] * q->repetitions);
    }
    out->int8_rate = device_int8_rate(r->device);
    return 0;
}

int runner_bench(struct runner *r, const struct engine_bench *q, struct engine_bench_result *out,
                 struct err *err)
{
    struct event_list nobody = {0};
    struct runner_counts counts = {0};
    memset(out, 0, sizeof *out);
    runner_settle(r, &nobody, &counts);
    int rc = check(r, q, err);
    if (rc) return rc;
    struct rates *prompt = calloc(1, sizeof *prompt), *output = calloc(1, sizeof *output);
    struct kv_table *kv = calloc((size_t)q->batch, sizeof *kv);
    if (!prompt || !output || !kv) {
        rc = err_set(err, ERR_NOMEM, "out of memory for a benchmark");
        goto done;
    }
    for (int i = 0; i < q->batch && !rc; i++) {
        rc = kv_table_create(&kv[i], r->kv, r->facts.limits.context, err);
    }
    if (!rc) rc = q->profile ? profile(r, q, kv, out, err) : measure(r, q, kv, prompt, output, err);
    if (rc) goto done;
    if (prompt->n) summarise(prompt, &out->prefill_tps, &out->prefill_tps_min, &out->prefill_tps_max);
    if (output->n) summarise(output, &out->decode_tps, &out->decode_tps_min, &out->decode_tps_max);
    size_t bytes = weights_decode_bytes(r->weights);
    double token_bytes = (double)r->facts.kv_bytes / r->facts.kv_blocks / BLOCK_TOKENS;
    out->weight_bytes = (double)bytes;
    out->kv_bytes = token_bytes * q->batch * (q->context + (q->generate + 1) / 2.0);
    out->bandwidth = device_read_bandwidth(r->device, bytes < BANDWIDTH_BYTES ? bytes : BANDWIDTH_BYTES);

done:
    for (int i = 0; kv && i < q->batch; i++) kv_table_destroy(&kv[i]);
    free(kv);
    free(prompt);
    free(output);
    return rc;
}
