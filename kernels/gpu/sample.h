/* Choosing a token from a row of logits: one group per row, no sort.
 *
 * A filter is a cut in one total order (value, then lower id). Where it lies is found by counting and
 * weighing what lies above seven thresholds at a time. Usually few tokens are left then: they are gathered
 * in shared memory and ranked by comparing all with all. Otherwise the search goes on to a single value,
 * and the walk to the random point is one over the vocabulary. Every sum has a fixed order. */
#ifndef HEARTH_GPU_SAMPLE_H
#define HEARTH_GPU_SAMPLE_H

#include "compat.h"
#include "gpu_args.h"

#define SAMPLE_THREADS 1024
#define PEAKS_SIMDS 8 /* of a group that looks for the best */
#define SAMPLE_SIMDS SAMPLE_SLICES /* a simd group of the walk for each */
#define SAMPLE_LEVELS 7
#define SAMPLE_CANDIDATES 1024
#define SAMPLE_MANY 1e9f
#define SAMPLE_AHEAD 4 /* loads of a lane on their way together */

struct sample_job {
    GLOBAL(const float) logits; /* [vocab] of the row */
    GLOBAL(const int) allowed;
    SHARED_PTR(float) part;     /* [2 * SAMPLE_LEVELS][SAMPLE_SIMDS] */
    SHARED_PTR(float) total;    /* [2 * SAMPLE_LEVELS] */
    SHARED_PTR(float) value;    /* [SAMPLE_CANDIDATES], by ascending id, like weight and id */
    SHARED_PTR(float) weight;
    SHARED_PTR(int) id;
    int vocab, aligned;         /* aligned: rows begin at multiples of 16 bytes */
    float peak, inverse;        /* the greatest logit; 1 / temperature */
};

/* Tokens at or before (key, id) in the order are kept. */
struct sample_cut {
    uint key;
    int id;
};

/* Four neighbours; bit i of `there`: the i-th exists and is allowed. */
struct sample_quad {
    float v[4];
    uint there;
};

/* Unsigned numbers in the order of the floats; -0 and 0 are equal. None is 0. */
static inline uint sample_key(float v)
{
    uint bits = float_bits(v == 0 ? 0.0f : v);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static inline float sample_weight(struct sample_job job, float v)
{
    return k_exp((v - job.peak) * job.inverse);
}

static inline bool sample_kept(struct sample_cut cut, uint key, int id)
{
    return key > cut.key || (key == cut.key && id <= cut.id);
}

/* A simd group's ids are [first, end), 128 at a time; a lane does 4 of them. */
static inline int sample_span(int vocab)
{
    return ((vocab + SAMPLE_SIMDS - 1) / SAMPLE_SIMDS + 127) / 128 * 128;
}

static inline int sample_end(struct sample_job job, int simd)
{
    int end = (simd + 1) * sample_span(job.vocab);
    return end < job.vocab ? end : job.vocab;
}

static inline struct sample_quad sample_load(struct sample_job job, int id)
{
    struct sample_quad q;
    q.there = id < job.vocab ? (uint)load_fresh(job.allowed + id / 32) >> id % 32 & 15u : 0u;
    if (id + 4 > job.vocab)
        q.there &= (1u << (id < job.vocab ? job.vocab - id : 0)) - 1;
    if (job.aligned && id < job.vocab) {
        float4 v = load_fresh(GLOBAL_CAST(const float4, job.logits + id));
        q.v[0] = v.x, q.v[1] = v.y, q.v[2] = v.z, q.v[3] = v.w;
    } else {
        UNROLL for (int i = 0; i < 4; i++)
            q.v[i] = id + i < job.vocab ? load_fresh(job.logits + (id + i)) : 0.0f;
    }
    return q;
}

/* What the lanes before this one hold, summed; a butterfly, so that it takes no more than simd_xor. */
static inline float lanes_before(float v, int lane)
{
    float before = 0;
    UNROLL for (int mask = 1; mask < 32; mask *= 2) {
        float other = simd_xor(v, mask);
        before += lane & mask ? other : 0.0f;
        v += other;
    }
    return before;
}

/* The least number of all lanes; numbers up to 2^24. */
static inline int simd_least(int v)
{
    return -(int)simd_max(-(float)v);
}

/* The best of what a lane, a simd group or a group of threads has seen. */
struct sample_peak {
    float best, bad; /* bad: 1 where an allowed logit is not finite */
    int at;          /* its lowest id; -1: nothing is allowed */
};

/* Of the lane's ids first, first + 1 … 3, and every `step` after them. */
static inline struct sample_peak sample_scan(struct sample_job job, int first, int end, int step)
{
    struct sample_peak p = {0, 0, -1};
    for (; first < end; first += step * SAMPLE_AHEAD) {
        struct sample_quad quad[SAMPLE_AHEAD];
        UNROLL for (int n = 0; n < SAMPLE_AHEAD; n++)
            quad[n] = sample_load(job, first + step * n < end ? first + step * n : job.vocab);
        UNROLL for (int n = 0; n < SAMPLE_AHEAD; n++)
            UNROLL for (int i = 0; i < 4; i++) {
                float v = quad[n].v[i];
                bool there = quad[n].there >> i & 1u;
                if (there && (p.at < 0 || v > p.best)) {
                    p.best = v;
                    p.at = first + step * n + i;
                }
                if (there && !(k_abs(v) <= 3.4028234e38f))
                    p.bad = 1;
            }
    }
    return p;
}

static inline struct sample_peak sample_best_of_lanes(struct sample_peak p)
{
    UNROLL for (int mask = 1; mask < 32; mask *= 2) {
        float other = simd_xor(p.best, mask);
        int other_at = simd_xor(p.at, mask);
        if (other_at >= 0 && (p.at < 0 || other > p.best || (other == p.best && other_at < p.at))) {
            p.best = other;
            p.at = other_at;
        }
    }
    p.bad = simd_max(p.bad);
    return p;
}

/* Number and weight of the kept tokens whose key reaches threshold[i]: job.total[2 * i], [2 * i + 1]. */
static inline void sample_measure(struct sample_job job, THREAD_IDS ids, struct sample_cut cut,
                                  PRIVATE(const uint) threshold)
{
    float sum[2 * SAMPLE_LEVELS];
    UNROLL for (int i = 0; i < 2 * SAMPLE_LEVELS; i++)
        sum[i] = 0;
    int end = sample_end(job, ids.simd);
    for (int id = ids.simd * sample_span(job.vocab) + ids.lane * 4; id < end; id += 128) {
        struct sample_quad q = sample_load(job, id);
        UNROLL for (int i = 0; i < 4; i++) {
            uint key = q.there >> i & 1u ? sample_key(q.v[i]) : 0;
            if (key == 0 || !sample_kept(cut, key, id + i))
                continue;
            float weight = sample_weight(job, q.v[i]);
            UNROLL for (int t = 0; t < SAMPLE_LEVELS; t++) {
                sum[2 * t] += key >= threshold[t] ? 1.0f : 0.0f;
                sum[2 * t + 1] += key >= threshold[t] ? weight : 0.0f;
            }
        }
    }
    UNROLL for (int i = 0; i < 2 * SAMPLE_LEVELS; i++) {
        float of_simd = simd_sum(sum[i]);
        if (ids.lane == 0)
            job.part[i * SAMPLE_SIMDS + ids.simd] = of_simd;
    }
    group_barrier();
    if (ids.simd < 2 * SAMPLE_LEVELS) {
        float all = simd_sum(job.part[ids.simd * SAMPLE_SIMDS + ids.lane]);
        if (ids.lane == 0)
            job.total[ids.simd] = all;
    }
    group_barrier();
}

/* Where a search ended: tokens of key `low` and above reach the quota, those above `high` - 1 do not. */
struct sample_found {
    uint low, high;
    float above; /* number or weight of what reaches `high` */
    float count; /* number of tokens that reach `low` */
    float total; /* weight of all that was kept before */
    float quota;
};

/* The cut at a number of tokens, or at a share of the kept weight. `narrow`: on to a single key; else until
 * no more than SAMPLE_CANDIDATES are left. */
static inline struct sample_found sample_search(struct sample_job job, THREAD_IDS ids, struct sample_cut cut,
                                                float number, float share, bool narrow)
{
    struct sample_found f = {1u, sample_key(job.peak) + 1u, 0.0f, SAMPLE_MANY, 0.0f, number};
    uint threshold[SAMPLE_LEVELS];
    int by_weight = number <= 0;
    bool first = true;
    while (first || (f.high - f.low > 1 && (narrow || f.count > SAMPLE_CANDIDATES))) {
        UNROLL for (int i = 0; i < SAMPLE_LEVELS; i++) {
            uint step = f.high - f.low <= SAMPLE_LEVELS ? 1 : (f.high - f.low) / (SAMPLE_LEVELS + 1);
            threshold[i] = f.low + step * (uint)(i + 1);
            if (first) /* at 1 all, then what is worth e^-16, e^-11.1 … e^-0.44 of the best */
                threshold[i] =
                    i == 0 ? 1u : sample_key(job.peak - (float)((7 - i) * (7 - i)) * 0.444f / job.inverse);
        }
        sample_measure(job, ids, cut, threshold);
        if (first) {
            f.total = job.total[1];
            f.quota = by_weight ? k_max(share * f.total, 1e-37f) : number;
            f.count = job.total[0];
        }
        UNROLL for (int i = 0; i < SAMPLE_LEVELS; i++) {
            float measured = job.total[2 * i + by_weight];
            if (measured >= f.quota && threshold[i] >= f.low && threshold[i] < f.high) {
                f.low = threshold[i];
                f.count = job.total[2 * i];
            }
        }
        UNROLL for (int i = SAMPLE_LEVELS - 1; i >= 0; i--) {
            float measured = job.total[2 * i + by_weight];
            if (measured < f.quota && threshold[i] < f.high && threshold[i] > f.low) {
                f.high = threshold[i];
                f.above = measured;
            }
        }
        first = false;
    }
    return f;
}

/* The id of the n-th kept token (from 1) of a key, or the last one. */
static inline int sample_nth(struct sample_job job, THREAD_IDS ids, struct sample_cut cut, uint key, float n)
{
    int begin = ids.simd * sample_span(job.vocab), end = sample_end(job, ids.simd), last = -1;
    for (int pass = 0; pass < 2; pass++) {
        float before = pass == 0 ? 0.0f : simd_sum(ids.lane < ids.simd ? job.part[ids.lane] : 0.0f);
        for (int base = begin; base < end; base += 128) {
            int id = base + ids.lane * 4;
            struct sample_quad q = sample_load(job, id);
            float hit[4], hits = 0;
            UNROLL for (int i = 0; i < 4; i++) {
                bool in = (q.there >> i & 1u) && sample_key(q.v[i]) == key && sample_kept(cut, key, id + i);
                hit[i] = in ? 1.0f : 0.0f;
                hits += hit[i];
            }
            float at = before + lanes_before(hits, ids.lane);
            before += simd_sum(hits);
            UNROLL for (int i = 0; i < 4; i++) {
                at += hit[i];
                if (pass == 1 && hit[i] > 0 && at <= n)
                    last = id + i;
            }
        }
        if (pass == 0 && ids.lane == 0)
            job.part[ids.simd] = before;
        group_barrier();
    }
    float own = simd_max((float)last);
    if (ids.lane == 0)
        job.part[ids.simd] = own;
    group_barrier();
    last = (int)simd_max(job.part[ids.lane]);
    group_barrier();
    return last;
}

/* A search that went on to a single key, as a cut. */
static inline struct sample_cut sample_cut_at(struct sample_job job, THREAD_IDS ids, struct sample_cut before,
                                              struct sample_found f, bool by_weight)
{
    struct sample_cut cut = before;
    float missing = f.quota - f.above, n = missing;
    if (by_weight) {
        uint bits = f.low >> 31 ? f.low & 0x7fffffffu : ~f.low;
        float weight = sample_weight(job, bits_float(bits)), whole = missing / weight;
        n = k_rint(whole);
        n = n < whole ? n + 1 : n;
    }
    cut.key = f.low;
    cut.id = sample_nth(job, ids, before, f.low, n < 1 ? 1.0f : n);
    return cut;
}

/* A walk over the vocabulary by ascending id to the point that `uniform` gives of the kept weight; -1 beyond
 * its end. */
static inline int sample_walk(struct sample_job job, THREAD_IDS ids, struct sample_cut cut, float min_p,
                              float uniform)
{
    int begin = ids.simd * sample_span(job.vocab), end = sample_end(job, ids.simd);
    int found = job.vocab, last = -1;
    float passed = 0, point = 0;
    for (int pass = 0; pass < 2; pass++) {
        float sum = 0;
        for (int base = begin; base < end && found == job.vocab; base += 128) {
            int id = base + ids.lane * 4;
            struct sample_quad q = sample_load(job, id);
            float own = 0, weight[4];
            UNROLL for (int i = 0; i < 4; i++) {
                bool in = (q.there >> i & 1u) && sample_kept(cut, sample_key(q.v[i]), id + i);
                weight[i] = in ? sample_weight(job, q.v[i]) : 0.0f;
                weight[i] = weight[i] >= min_p ? weight[i] : 0.0f;
                own += weight[i];
            }
            sum += own;
            if (pass == 0)
                continue;
            float before = passed + lanes_before(own, ids.lane);
            passed += simd_sum(own);
            UNROLL for (int i = 0; i < 4; i++) {
                before += weight[i];
                last = weight[i] > 0 ? id + i : last;
                found = weight[i] > 0 && before > point && found == job.vocab ? id + i : found;
            }
            found = simd_least(found);
        }
        if (pass == 1)
            break;
        sum = simd_sum(sum);
        if (ids.lane == 0)
            job.part[ids.simd] = sum;
        group_barrier();
        float before = lanes_before(job.part[ids.lane], ids.lane);
        point = uniform * simd_sum(job.part[ids.lane]);
        int target = simd_least(before + job.part[ids.lane] > point ? ids.lane : SAMPLE_SIMDS);
        passed = simd_broadcast(before, ids.simd);
        group_barrier();
        end = target == ids.simd ? end : begin;
        if (ids.thread == 0)
            job.part[0] = -1.0f;
        group_barrier();
    }
    last = (int)simd_max((float)last);
    if (ids.lane == 0 && end > begin)
        job.part[0] = (float)(found < job.vocab ? found : last);
    group_barrier();
    return (int)job.part[0];
}

/* The tokens whose key reaches `low`, at most SAMPLE_CANDIDATES, by ascending id; returns how many. */
static inline int sample_gather(struct sample_job job, THREAD_IDS ids, uint low)
{
    int begin = ids.simd * sample_span(job.vocab), end = sample_end(job, ids.simd), total = 0;
    for (int pass = 0; pass < 2; pass++) {
        float before = pass == 0 ? 0.0f : simd_sum(ids.lane < ids.simd ? job.part[ids.lane] : 0.0f);
        for (int base = begin; base < end; base += 128) {
            int id = base + ids.lane * 4;
            struct sample_quad q = sample_load(job, id);
            uint hit = 0;
            UNROLL for (int i = 0; i < 4; i++)
                hit |= (q.there >> i & 1u) && sample_key(q.v[i]) >= low ? 1u << i : 0u;
            float own = (float)((hit & 1u) + (hit >> 1 & 1u) + (hit >> 2 & 1u) + (hit >> 3));
            if (simd_max(own) == 0)
                continue;
            int at = (int)(before + lanes_before(own, ids.lane));
            before += simd_sum(own);
            UNROLL for (int i = 0; i < 4; i++) {
                if (pass == 0 || !(hit >> i & 1u))
                    continue;
                job.value[at] = q.v[i];
                job.weight[at] = sample_weight(job, q.v[i]);
                job.id[at] = id + i;
                at++;
            }
        }
        if (pass == 0 && ids.lane == 0)
            job.part[ids.simd] = before;
        group_barrier();
        if (pass == 0)
            total = (int)simd_sum(job.part[ids.lane]);
    }
    return total;
}

/* The sum over the group; *before: of the threads before this one. */
static inline float sample_scan(struct sample_job job, THREAD_IDS ids, float v, PRIVATE(float) before)
{
    float of_simd = simd_sum(v), in_simd = lanes_before(v, ids.lane);
    if (ids.lane == 0)
        job.part[ids.simd] = of_simd;
    group_barrier();
    float of_lane = job.part[ids.lane];
    *before = simd_broadcast(lanes_before(of_lane, ids.lane), ids.simd) + in_simd;
    float total = simd_sum(of_lane);
    group_barrier();
    return total;
}

/* Ranks the n candidates, one a thread, and walks to the point; -1 beyond the end. `total`: the weight that
 * top_p is a share of where top_k is off. */
static inline int sample_ranked(struct sample_job job, THREAD_IDS ids, int n, struct sample_row row,
                                float total, float uniform)
{
    int own = ids.thread, rank = 0;
    bool kept = own < n;
    float value = kept ? (float)job.value[own] : 0.0f, weight = kept ? (float)job.weight[own] : 0.0f;
    float above = 0, before;
    for (int i = 0; i < n; i++) {
        float other = job.value[i];
        bool first = other > value || (other == value && i < own);
        rank += first ? 1 : 0;
        above += first ? (float)job.weight[i] : 0.0f;
    }
    if (row.top_k > 0) {
        kept = kept && rank < row.top_k;
        total = sample_scan(job, ids, kept ? weight : 0.0f, &before);
    }
    if (row.top_p < 1)
        kept = kept && (above < row.top_p * total || rank == 0);
    kept = kept && weight >= row.min_p;
    weight = kept ? weight : 0.0f;
    float point = uniform * sample_scan(job, ids, weight, &before);
    int found = simd_least(kept && before + weight > point ? own : SAMPLE_THREADS);
    if (ids.lane == 0)
        job.part[ids.simd] = (float)found;
    group_barrier();
    found = simd_least((int)job.part[ids.lane]);
    return found < SAMPLE_THREADS ? (int)job.id[found] : -1;
}

/* In [0, 1): the first 24 bits of Philox4x32-10. */
static inline float sample_uniform(struct sample_row row)
{
    uint c0 = row.position, c1 = 0, c2 = row.choice, c3 = 0, key0 = row.seed_low, key1 = row.seed_high;
    for (int round = 0; round < 10; round++) {
        uint a = mul_high(0xD2511F53u, c0), b = mul_high(0xCD9E8D57u, c2);
        uint low_a = 0xD2511F53u * c0, low_b = 0xCD9E8D57u * c2;
        c0 = b ^ c1 ^ key0;
        c1 = low_b;
        c2 = a ^ c3 ^ key1;
        c3 = low_a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return (float)(c0 >> 8) * 5.9604645e-8f;
}

/* Below the greedy temperature nothing of this runs. */
static inline int sample_filtered(struct sample_job job, THREAD_IDS ids, struct sample_row row)
{
    struct sample_cut cut = {0u, 0};
    float uniform = sample_uniform(row);
    if (row.top_k <= 0 && row.top_p >= 1)
        return sample_walk(job, ids, cut, row.min_p, uniform);
    struct sample_found f = sample_search(job, ids, cut, (float)row.top_k, row.top_p, false);
    if (f.count <= SAMPLE_CANDIDATES)
        return sample_ranked(job, ids, sample_gather(job, ids, f.low), row, f.total, uniform);
    cut = sample_cut_at(job, ids, cut, f, row.top_k <= 0);
    if (row.top_k > 0 && row.top_p < 1) {
        f = sample_search(job, ids, cut, 0.0f, row.top_p, true);
        cut = sample_cut_at(job, ids, cut, f, true);
    }
    return sample_walk(job, ids, cut, row.min_p, uniform);
}

/* The best of a slice of the vocabulary: the whole of it would take a single multiprocessor longer than many a
 * layer. */
KERNEL(sample_peaks, 256, sample_args, BUF(0, const float, logits), BUF(1, const int, allowed), BUF(2, float, peaks))
{
    KERNEL_IDS;
    SHARED(float, part, 3 * PEAKS_SIMDS);
    int slice = ids.group.x, row = ids.group.y;
    struct sample_job job;
    job.logits = logits + (long)row * args.vocab;
    job.allowed = allowed;
    job.vocab = args.vocab;
    job.aligned = args.vocab % 4 == 0;
    DEPENDENCY_LAUNCH_EARLY();
    DEPENDENCY_WAIT();
    int first = slice * sample_span(args.vocab) + (ids.simd * 32 + ids.lane) * 4;
    struct sample_peak p = sample_scan(job, first, sample_end(job, slice), PEAKS_SIMDS * 128);
    p = sample_best_of_lanes(p);
    if (ids.lane == 0) {
        part[ids.simd] = p.best;
        part[PEAKS_SIMDS + ids.simd] = (float)p.at;
        part[2 * PEAKS_SIMDS + ids.simd] = p.bad;
    }
    group_barrier();
    int simd = ids.lane % PEAKS_SIMDS;
    p.best = part[simd];
    p.at = (int)part[PEAKS_SIMDS + simd];
    p.bad = part[2 * PEAKS_SIMDS + simd];
    p = sample_best_of_lanes(p);
    if (ids.thread < 3)
        peaks[((long)row * SAMPLE_SIMDS + slice) * 3 + ids.lane] =
            ids.lane == 0 ? p.best : ids.lane == 1 ? (float)p.at : p.bad;
}

KERNEL(sample, 1024, sample_args, BUF(0, const float, logits), BUF(1, const int, allowed),
       BUF(2, const int, parameters), BUF(3, const float, peaks), BUF(4, int, out))
{
    KERNEL_IDS;
    SHARED(float, part, 2 * SAMPLE_LEVELS *SAMPLE_SIMDS);
    SHARED(float, total, 2 * SAMPLE_LEVELS);
    SHARED(float, value, SAMPLE_CANDIDATES);
    SHARED(float, weight, SAMPLE_CANDIDATES);
    SHARED(int, id, SAMPLE_CANDIDATES);
    DEPENDENCY_LAUNCH_EARLY();
    DEPENDENCY_WAIT();
    GLOBAL(const int) p = parameters + ids.group.x * SAMPLE_ROW_INTS;
    struct sample_row row = {bits_float((uint)load_fresh(p)), bits_float((uint)load_fresh(p + 1)),
                             bits_float((uint)load_fresh(p + 2)), load_fresh(p + 3), (uint)load_fresh(p + 4),
                             (uint)load_fresh(p + 5), (uint)load_fresh(p + 6), (uint)load_fresh(p + 7)};
    struct sample_job job = {logits + (long)ids.group.x * args.vocab, allowed, part, total, value, weight, id,
                             args.vocab, args.vocab % 4 == 0, 0, 0};
    GLOBAL(const float) peak = peaks + (ids.group.x * SAMPLE_SIMDS + ids.lane) * 3;
    struct sample_peak of_slice = {load_fresh(peak), load_fresh(peak + 2), (int)load_fresh(peak + 1)};
    struct sample_peak all = sample_best_of_lanes(of_slice);
    int best = all.bad > 0 ? -1 : all.at, chosen = -1;
    job.peak = all.best;
    if (best >= 0 && row.temperature >= 1e-5f && row.top_k != 1) {
        job.inverse = 1.0f / row.temperature;
        chosen = sample_filtered(job, ids, row);
    }
    if (ids.thread == 0)
        out[ids.group.x] = chosen >= 0 ? chosen : best;
}

#endif
