/* The sampler: filters are cuts in one total order (value, then lower id), found by a small heap or
 * a histogram, so that a vocabulary of 150,000 is never sorted. */
#include "sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "dry.h"
#include "philox.h"
#include "token_counts.h"

#if defined(__GNUC__) && !defined(__clang__)
/* Nobody reads exception flags, and to keep them right gcc makes no vector code of the loops below. */
#pragma GCC optimize("no-trapping-math")
#endif

#define BUCKETS 1024
#define HEAP_MAX 512          /* beyond it a histogram is faster than a heap */
#define GREEDY_BELOW 1e-5
#define RUN 1024
#define LIKELY 1e-4f          /* relative to the best: usually all that top_p keeps is above it */

struct candidate {
    float value;  /* logit after bias and penalties */
    float weight; /* its probability, not normalised */
    int32_t id;
};

struct sampler {
    int vocab;
    uint8_t *allowed, *real;     /* [vocab] */
    float *value, *weight;       /* [vocab] */
    struct candidate *candidate; /* [vocab] in ascending id */
    struct candidate *sorted;    /* [vocab] of one bucket */
    struct candidate heap[HEAP_MAX]; /* the worst of the best on top */
    int n_heap;
    struct dry_room dry;
};

int sampler_create(struct sampler **out, int vocab, const bool *allowed, const bool *real, struct err *err)
{
    size_t n = (size_t)vocab;
    *out = NULL;
    struct sampler *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, ERR_NOMEM, "out of memory for the sampler");
    s->vocab = vocab;
    s->allowed = malloc(n);
    s->real = malloc(n);
    s->value = malloc(n * sizeof *s->value);
    s->weight = malloc(n * sizeof *s->weight);
    s->candidate = malloc(n * sizeof *s->candidate);
    s->sorted = malloc(n * sizeof *s->sorted);
    if (!s->allowed || !s->real || !s->value || !s->weight || !s->candidate || !s->sorted) {
        sampler_destroy(s);
        return err_set(err, ERR_NOMEM, "out of memory for the sampler");
    }
    for (int i = 0; i < vocab; i++) {
        s->allowed[i] = allowed[i];
        s->real[i] = real[i];
    }
    *out = s;
    return 0;
}

void sampler_destroy(struct sampler *s)
{
    if (!s) return;
    free(s->allowed);
    free(s->real);
    free(s->value);
    free(s->weight);
    free(s->candidate);
    free(s->sorted);
    dry_room_dispose(&s->dry);
    free(s);
}

/* ---- arithmetic over the whole vocabulary, in loops that compilers vectorise ---- */

/* exp(x) for x <= 0 to 2 ulp, the same bits on every machine; 0 below -87.7. No branch, so that loops
 * over it become vector code. */
static inline float exp_negative(float x)
{
    float clamped = x > -88.03f ? x : -88.03f; /* there n is -127 and the scale 0 */
    float n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounds to an integer */
    float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* weight[i] = exp((value[i] - max) * inverse), inverse > 0. */
static void weigh(float *weight, const float *value, int n, float max, float inverse)
{
    for (int i = 0; i < n; i++) weight[i] = exp_negative((value[i] - max) * inverse);
}

static double sum(const float *weight, int n)
{
    double lane[8] = {0}, total = 0;
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) lane[j] += (double)weight[i + j];
    }
    for (int j = 0; j < 8; j++) total += lane[j];
    for (; i < n; i++) total += (double)weight[i];
    return total;
}

/* Copies the logits of tokens in the mask, -INFINITY for the others; false for NaN or +INFINITY. */
static bool load(float *value, const float *logits, const uint8_t *mask, int n)
{
    int bad = 0;
    for (int i = 0; i < n; i++) {
        float v = mask[i] ? logits[i] : -INFINITY;
        bad += !(v < INFINITY);
        value[i] = v;
    }
    return !bad;
}

static float maximum(const float *value, int n)
{
    float lane[8], best = -INFINITY;
    int i = 0;
    for (int j = 0; j < 8; j++) lane[j] = -INFINITY;
    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) lane[j] = value[i + j] > lane[j] ? value[i + j] : lane[j];
    }
    for (int j = 0; j < 8; j++) best = lane[j] > best ? lane[j] : best;
    for (; i < n; i++) best = value[i] > best ? value[i] : best;
    return best;
}

/* ---- the order of tokens ---- */

static inline bool before(struct candidate a, struct candidate b)
{
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

static int compare(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return before(*x, *y) ? -1 : before(*y, *x) ? 1 : 0;
}

static void heap_sift(struct candidate *heap, int n, int i)
{
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child], heap[child + 1])) child++;
        if (!before(heap[i], heap[child])) break;
        struct candidate swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
    }
}

/* The k best finite values into s->heap, the last of them on top. */
static void heap_best(struct sampler *s, const float *value, int n, int k)
{
    s->n_heap = 0;
    for (int i = 0; i < n; i++) {
        if (s->n_heap == k && !(value[i] > s->heap[0].value)) continue; /* ties: the lower id was first */
        if (value[i] == -INFINITY) continue;
        struct candidate c = {value[i], 0, i};
        if (s->n_heap < k) {
            s->heap[s->n_heap++] = c;
            if (s->n_heap < k) continue;
            for (int j = k / 2; j-- > 0;) heap_sift(s->heap, k, j);
        } else {
            s->heap[0] = c;
            heap_sift(s->heap, k, 0);
        }
    }
    if (s->n_heap < k) {
        for (int j = s->n_heap / 2; j-- > 0;) heap_sift(s->heap, s->n_heap, j);
    }
}

/* The last candidate that is kept when the best are taken until `quota` is reached: of their
 * weights, or of their number. */
static struct candidate cut_at(struct sampler *s, int n, bool by_weight, double quota)
{
    float max = -INFINITY, min = INFINITY;
    for (int i = 0; i < n; i++) {
        max = s->candidate[i].value > max ? s->candidate[i].value : max;
        min = s->candidate[i].value < min ? s->candidate[i].value : min;
    }
    float scale = BUCKETS / (max - min); /* 0 where one is huge, infinite where they are equal */
    int last_bucket = scale > 0 && scale < FLT_MAX ? BUCKETS - 1 : 0;
    if (last_bucket == 0) scale = 0;
    double bucket[BUCKETS] = {0};
    for (int i = 0; i < n; i++) {
        int b = (int)((max - s->candidate[i].value) * scale);
        bucket[b < last_bucket ? b : last_bucket] += by_weight ? s->candidate[i].weight : 1;
    }
    double got = 0;
    int boundary = 0;
    while (boundary < last_bucket && got + bucket[boundary] < quota) got += bucket[boundary++];

    int m = 0;
    for (int i = 0; i < n; i++) {
        int b = (int)((max - s->candidate[i].value) * scale);
        if ((b < last_bucket ? b : last_bucket) == boundary) s->sorted[m++] = s->candidate[i];
    }
    qsort(s->sorted, (size_t)m, sizeof *s->sorted, compare);
    for (int i = 0; i < m; i++) {
        got += by_weight ? s->sorted[i].weight : 1;
        if (got >= quota) return s->sorted[i];
    }
    return s->sorted[m - 1];
}

/* Keeps the candidates up to and with `cut`; returns how many. */
static int keep(struct candidate *candidate, int n, struct candidate cut)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (!before(cut, candidate[i])) candidate[kept++] = candidate[i];
    }
    return kept;
}

/* ---- choosing ---- */

static void adjust(float *value, int vocab, const struct sampling *p, const struct token_counts *counts)
{
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].id >= 0 && p->bias[i].id < vocab) value[p->bias[i].id] += p->bias[i].bias;
    }
    struct token_count t;
    for (size_t i = 0; token_counts_next(counts, &i, &t);) {
        if (t.id >= vocab || value[t.id] == -INFINITY) continue;
        float v = value[t.id];
        if (p->repetition_penalty != 1) {
            v = (float)(v > 0 ? v / p->repetition_penalty : v * p->repetition_penalty);
        }
        if (t.output > 0) v -= (float)(p->presence_penalty + p->frequency_penalty * t.output);
        value[t.id] = v;
    }
}

static int32_t greedy(const float *value, float max)
{
    int32_t i = 0;
    while (value[i] != max) i++;
    return i;
}

static double total_weight(const struct candidate *candidate, int n)
{
    double total = 0;
    for (int i = 0; i < n; i++) total += candidate[i].weight;
    return total;
}

/* The top_k best tokens, in ascending id. */
static int collect_best(struct sampler *s, int top_k, float max, float inverse)
{
    int n = 0;
    struct candidate cut = {-FLT_MAX, 0, INT32_MAX};
    if (top_k <= HEAP_MAX) {
        heap_best(s, s->value, s->vocab, top_k);
        cut = s->heap[0];
    }
    for (int32_t i = 0; i < s->vocab; i++) {
        if (s->value[i] < cut.value) continue;
        struct candidate c = {s->value[i], 0, i};
        if (!before(cut, c)) s->candidate[n++] = c;
    }
    if (n > top_k) n = keep(s->candidate, n, cut_at(s, n, false, top_k));
    for (int i = 0; i < n; i++) {
        s->candidate[i].weight = exp_negative((s->candidate[i].value - max) * inverse);
    }
    return n;
}

/* The tokens of at least a weight above 0, in ascending id; s->weight is filled. */
static int collect_above(struct sampler *s, float weight)
{
    int n = 0;
    for (int32_t i = 0; i < s->vocab; i++) {
        if (s->weight[i] >= weight) s->candidate[n++] = (struct candidate){s->value[i], s->weight[i], i};
    }
    return n;
}

/* The candidates that top_k and top_p leave; those that min_p alone would drop may be missing. */
static int collect(struct sampler *s, const struct sampling *p, float max, float inverse)
{
    if (p->top_k > 0) {
        int n = collect_best(s, p->top_k, max, inverse);
        if (p->top_p >= 1) return n;
        return keep(s->candidate, n, cut_at(s, n, true, p->top_p * total_weight(s->candidate, n)));
    }
    weigh(s->weight, s->value, s->vocab, max, inverse);
    if (p->top_p >= 1) return collect_above(s, p->min_p > FLT_MIN ? (float)p->min_p : FLT_MIN);
    double quota = p->top_p * sum(s->weight, s->vocab);
    int n = collect_above(s, LIKELY);
    if (total_weight(s->candidate, n) < quota) n = collect_above(s, FLT_MIN);
    return keep(s->candidate, n, cut_at(s, n, true, quota));
}

/* Exclude top choices (oobabooga/text-generation-webui pull request 6335): now and then, of the tokens above a
 * threshold all but the least likely go. Returns how many candidates are left. */
static int exclude_top(struct candidate *candidate, int n, const struct sampling *p, int choice, int64_t position)
{
    if (p->xtc_probability <= 0) return n;
    double uniform = philox_uniform_of(PHILOX_EXCLUDE, p->seed, (uint32_t)choice, (uint64_t)position);
    if (uniform >= p->xtc_probability) return n;
    double threshold = p->xtc_threshold * total_weight(candidate, n);
    int above = 0, kept = 0;
    struct candidate least = {0};
    for (int i = 0; i < n; i++) {
        if (candidate[i].weight < threshold) continue;
        if (above++ == 0 || before(least, candidate[i])) least = candidate[i];
    }
    if (above < 2) return n;
    for (int i = 0; i < n; i++) {
        if (!before(candidate[i], least)) candidate[kept++] = candidate[i];
    }
    return kept;
}

static int32_t pick(const struct candidate *candidate, int n, double point)
{
    double passed = 0;
    for (int i = 0; i < n; i++) {
        passed += candidate[i].weight;
        if (point < passed) return candidate[i].id;
    }
    return -1;
}

/* Without filters: over the whole vocabulary, a run of tokens at a time. */
static int32_t pick_any(struct sampler *s, float max, float inverse, double uniform)
{
    weigh(s->weight, s->value, s->vocab, max, inverse);
    double point = uniform * sum(s->weight, s->vocab), passed = 0;
    for (int first = 0; first < s->vocab; first += RUN) {
        int n = s->vocab - first < RUN ? s->vocab - first : RUN;
        double run = sum(s->weight + first, n);
        if (point >= passed + run) {
            passed += run;
            continue;
        }
        for (int i = first; i < first + n; i++) {
            passed += s->weight[i];
            if (point < passed) return i;
        }
    }
    return -1;
}

/* Takes away the tokens whose bits are not there; most words are all of a kind. */
static void restrict_to(float *value, const uint64_t *may, int vocab)
{
    for (int first = 0; first < vocab; first += 64) {
        uint64_t word = may[first / 64];
        int n = vocab - first < 64 ? vocab - first : 64;
        if (word == UINT64_MAX) continue;
        for (int i = 0; i < n; i++) value[first + i] = word >> i & 1 ? value[first + i] : -INFINITY;
    }
}

int32_t sampler_choose(struct sampler *s, const float *logits, const uint64_t *may, const struct sampling *p,
                       const struct sampler_past *past, int choice, int64_t position, struct err *err)
{
    if (!load(s->value, logits, s->allowed, s->vocab)) {
        return err_set(err, ERR_DEVICE, "the model's logits are not finite");
    }
    if (may) restrict_to(s->value, may, s->vocab);
    adjust(s->value, s->vocab, p, past ? past->counts : NULL);
    int rc = past && p->dry_multiplier > 0 ? dry_apply(&s->dry, s->value, s->vocab, p, past, err) : 0;
    if (rc) return rc;
    float max = maximum(s->value, s->vocab);
    if (may && max == -INFINITY) {
        return err_set(err, ERR_UNSUPPORTED, "no token of the model may come next where the grammar goes on");
    }
    if (!isfinite(max)) return err_set(err, ERR_DEVICE, "no token has a finite logit");
    if (p->temperature < GREEDY_BELOW || p->top_k == 1) return greedy(s->value, max);

    float inverse = (float)(1 / p->temperature);
    double uniform = philox_uniform(p->seed, (uint32_t)choice, (uint64_t)position);
    int32_t id;
    if (p->top_k == 0 && p->top_p >= 1 && p->min_p <= 0 && p->xtc_probability <= 0) {
        id = pick_any(s, max, inverse, uniform);
    } else {
        int n = collect(s, p, max, inverse);
        int kept = 0;
        for (int i = 0; i < n; i++) { /* min_p is relative to the best, whose weight is 1 */
            if (s->candidate[i].weight >= (float)p->min_p) s->candidate[kept++] = s->candidate[i];
        }
        kept = exclude_top(s->candidate, kept, p, choice, position);
        id = pick(s->candidate, kept, uniform * total_weight(s->candidate, kept));
    }
    return id >= 0 ? id : greedy(s->value, max); /* by rounding the point may lie on the end of the scale */
}

/* ---- log-probabilities ---- */

static bool normaliser(struct sampler *s, const float *logits, double *out)
{
    if (!load(s->value, logits, s->real, s->vocab)) return false;
    float max = maximum(s->value, s->vocab);
    if (!isfinite(max)) return false;
    weigh(s->weight, s->value, s->vocab, max, 1);
    *out = (double)max + log(sum(s->weight, s->vocab));
    return true;
}

float sampler_logprobs(struct sampler *s, const float *logits, int32_t chosen, struct engine_top *top,
                       int n_top)
{
    double norm;
    bool finite = normaliser(s, logits, &norm);
    s->n_heap = 0;
    if (finite && n_top > 0) {
        heap_best(s, s->value, s->vocab, n_top < HEAP_MAX ? n_top : HEAP_MAX);
        qsort(s->heap, (size_t)s->n_heap, sizeof *s->heap, compare);
    }
    for (int i = 0; i < n_top; i++) {
        top[i].id = i < s->n_heap ? s->heap[i].id : -1;
        top[i].logprob = i < s->n_heap ? (float)(s->heap[i].value - norm) : -INFINITY;
    }
    if (!finite) return NAN;
    return chosen >= 0 && chosen < s->vocab ? (float)(logits[chosen] - norm) : -INFINITY;
}

void sampler_want(struct sampler *s, const float *logits, const int32_t *ids, size_t n, float *out)
{
    double norm;
    bool finite = normaliser(s, logits, &norm);
    for (size_t i = 0; i < n; i++) {
        bool inside = ids[i] >= 0 && ids[i] < s->vocab;
        out[i] = !finite ? NAN : inside ? (float)(logits[ids[i]] - norm) : -INFINITY;
    }
}
