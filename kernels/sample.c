/* The sample operator on the host. A filter is a cut in one total order (value, then lower id), found by
 * histograms over the bits of the values, so that nothing is sorted. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "backend.h"

#define BINS 2048
#define GREEDY_BELOW 1e-5f

/* Tokens at or before (key, id) in the order are kept. */
struct cut {
    uint32_t key;
    int32_t id;
};

struct row {
    const float *value; /* [vocab]; -INFINITY where not allowed */
    float *weight;      /* [vocab]; relative to the best; 0 where not kept */
    int vocab;
};

/* Unsigned numbers in the order of the floats; -0 and 0 are equal. */
static uint32_t key_of(float v)
{
    uint32_t bits;
    v = v == 0 ? 0 : v;
    memcpy(&bits, &v, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static bool kept(struct cut cut, uint32_t key, int32_t id)
{
    return key > cut.key || (key == cut.key && id <= cut.id);
}

/* The last token that is kept when the best of those with a weight are taken until `quota` is reached: of
 * their weights, or of their number. Eleven, eleven and ten bits of the key at a time. */
static struct cut cut_at(const struct row *r, bool by_weight, double quota)
{
    static const int shifts[] = {21, 10, 0};
    uint32_t prefix = 0, mask = 0;
    double got = 0;
    for (int step = 0; step < 3; step++) {
        double bin[BINS] = {0};
        int shift = shifts[step], last = step == 2 ? 1023 : BINS - 1, lowest = last;
        for (int i = 0; i < r->vocab; i++) {
            uint32_t key = key_of(r->value[i]);
            if (r->weight[i] <= 0 || (key & mask) != prefix)
                continue;
            int b = (int)(key >> shift & (uint32_t)last);
            bin[b] += by_weight ? (double)r->weight[i] : 1;
            lowest = b < lowest ? b : lowest;
        }
        int b = last;
        while (b > lowest && got + bin[b] < quota)
            got += bin[b--];
        prefix |= (uint32_t)b << shift;
        mask |= (uint32_t)last << shift;
    }
    struct cut cut = {prefix, -1};
    for (int i = 0; i < r->vocab; i++) {
        if (r->weight[i] <= 0 || key_of(r->value[i]) != prefix)
            continue;
        cut.id = i;
        got += by_weight ? (double)r->weight[i] : 1;
        if (got >= quota)
            break;
    }
    return cut;
}

static double total_weight(const struct row *r)
{
    double total = 0;
    for (int i = 0; i < r->vocab; i++)
        total += (double)r->weight[i];
    return total;
}

static void apply(const struct row *r, struct cut cut)
{
    for (int i = 0; i < r->vocab; i++)
        if (!kept(cut, key_of(r->value[i]), i))
            r->weight[i] = 0;
}

/* In [0, 1), for one position of one choice of a seeded request: Philox4x32-10. */
static double uniform(const struct sample_row *p)
{
    uint32_t c[4] = {p->position, 0, p->choice, 0}, key[2] = {p->seed_low, p->seed_high};
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ key[0];
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ key[1];
        c[3] = (uint32_t)a;
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return (double)(((uint64_t)c[0] << 21) ^ (c[1] >> 11)) * 0x1p-53;
}

/* The likeliest token, -1 where an allowed logit is not finite or there is none; fills value. */
static int32_t load(float *value, const float *logits, const int32_t *allowed, int vocab)
{
    int32_t best = -1;
    for (int i = 0; i < vocab; i++) {
        bool there = (uint32_t)allowed[i / 32] >> i % 32 & 1;
        value[i] = there ? logits[i] : -INFINITY;
        if (there && !isfinite(logits[i]))
            return -1;
        if (there && (best < 0 || logits[i] > logits[best]))
            best = i;
    }
    return best;
}

static int32_t choose(const struct row *r, int32_t best, const struct sample_row *p)
{
    float inverse = 1 / p->temperature;
    for (int i = 0; i < r->vocab; i++)
        r->weight[i] = expf((r->value[i] - r->value[best]) * inverse);
    if (p->top_k > 0)
        apply(r, cut_at(r, false, p->top_k));
    if (p->top_p < 1)
        apply(r, cut_at(r, true, fmax((double)p->top_p * total_weight(r), (double)FLT_MIN)));
    for (int i = 0; i < r->vocab; i++)
        if (r->weight[i] < p->min_p)
            r->weight[i] = 0;
    double point = uniform(p) * total_weight(r), passed = 0;
    for (int i = 0; i < r->vocab; i++) {
        passed += (double)r->weight[i];
        if (point < passed)
            return i;
    }
    return best; /* by rounding the point may lie on the end of the scale */
}

void sample_rows(const struct sample_args *a, const float *logits, const int32_t *allowed,
                 const int32_t *parameters, int32_t *ids, float *scratch)
{
    for (int i = 0; i < a->rows; i++, logits += a->vocab, parameters += SAMPLE_ROW_INTS) {
        struct row r = {scratch, scratch + a->vocab, a->vocab};
        struct sample_row p;
        memcpy(&p, parameters, sizeof p);
        ids[i] = load(scratch, logits, allowed, a->vocab);
        if (ids[i] >= 0 && p.temperature >= GREEDY_BELOW && p.top_k != 1)
            ids[i] = choose(&r, ids[i], &p);
    }
}
