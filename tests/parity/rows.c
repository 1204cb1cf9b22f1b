/* Parity of the operators on rows. */
#include <math.h>
#include <string.h>

#include "parity.h"

void parity_rms_norm(struct parity *p, enum dtype type)
{
    static const int widths[] = {896, 64, 100, 33, 576, 2048, 5};
    (void)type;
    for (int i = 0; i < 2 * N_ROWS; i++) {
        int rows = row_counts[i % N_ROWS], width = widths[(i + i / N_ROWS) % 7];
        bool heads = i >= N_ROWS; /* per head, inside wider rows, in place */
        int groups = heads ? 3 : 1, stride = heads ? 5 * width + 4 : width, offset = heads ? width + 2 : 0;
        struct rms_norm_args args = {rows,   groups, width,  stride,
                                     offset, stride, offset, i % 2 ? 1e-6f : 1e-5f};
        struct pair x = pair_random(p, (size_t)(rows * stride)), w = pair_random(p, (size_t)width);
        struct pair y = heads ? x : pair_buffer(p, DTYPE_F32, (size_t)(rows * stride), NULL);
        case_begin(p);
        BOTH(d)
            device_rms_norm(p->commands[d], &args, x.on[d], w.on[d], y.on[d]);
        if (case_run(p))
            case_compare(p, y, FLOAT32, "%d rows of %d groups of %d", rows, groups, width);
        case_end(p);
    }
}

void parity_swiglu(struct parity *p, enum dtype type)
{
    static const int widths[] = {4864, 96, 37, 1000, 160, 33, 544};
    (void)type;
    for (int i = 0; i < N_ROWS; i++) {
        int rows = row_counts[i], width = widths[i];
        float *in = random_floats((size_t)(2 * rows * width));
        in[0] = 400; /* gates far outside of where exp works */
        in[1] = -400;
        in[2] = -90;
        struct swiglu_args args = {rows, width};
        struct pair x = pair_buffer(p, DTYPE_F32, (size_t)(2 * rows * width), in);
        struct pair y = pair_buffer(p, DTYPE_F32, (size_t)(rows * width), NULL);
        free(in);
        case_begin(p);
        BOTH(d)
            device_swiglu(p->commands[d], &args, x.on[d], y.on[d]);
        if (case_run(p))
            case_compare(p, y, FLOAT32, "%d rows of %d", rows, width);
        case_end(p);
    }
}

void parity_gather(struct parity *p, enum dtype type)
{
    static const int widths[] = {896, 257, 64, 31, 100, 1, 576};
    (void)type;
    for (int i = 0; i < N_ROWS; i++) {
        int rows = row_counts[i], width = widths[i], from = 7 + 2 * i;
        int32_t index[130];
        for (int r = 0; r < rows; r++)
            index[r] = random_below(from);
        struct gather_args args = {rows, width};
        struct pair x = pair_random(p, (size_t)(from * width)),
                    at = pair_buffer(p, DTYPE_I32, (size_t)rows, index);
        struct pair y = pair_buffer(p, DTYPE_F32, (size_t)(rows * width), NULL);
        case_begin(p);
        BOTH(d)
            device_gather(p->commands[d], &args, x.on[d], at.on[d], y.on[d]);
        if (case_run(p))
            case_compare(p, y, EXACT, "%d rows of %d", rows, width);
        case_end(p);
    }
}

/* Rows of some columns of a wider result, as those of Q, K and V; others, and rows of scale 0, keep their bits. */
void parity_add_scaled(struct parity *p, enum dtype type)
{
    static const int widths[] = {896, 257, 64, 31, 100, 1, 576};
    (void)type;
    for (int i = 0; i < N_ROWS; i++) {
        int rows = row_counts[i], width = widths[i], first = i;
        int offset = i % 3 * 17, stride = width + offset + i % 2 * 5;
        float scale[130 + N_ROWS];
        for (int r = 0; r < rows + first; r++)
            scale[r] = r % 4 == 3 ? 0 : random_normal();
        struct add_scaled_args args = {.rows = rows, .width = width, .y_stride = stride, .y_offset = offset,
                                       .scale_first = first, .factor = 0.25f};
        struct pair x = pair_random(p, (size_t)(rows * width)), y = pair_random(p, (size_t)(rows * stride));
        struct pair s = pair_buffer(p, DTYPE_I32, (size_t)(rows + first), scale);
        case_begin(p);
        BOTH(d)
            device_add_scaled(p->commands[d], &args, x.on[d], s.on[d], y.on[d]);
        if (case_run(p))
            case_compare(p, y, FLOAT32, "%d rows of %d at %d of %d", rows, width, offset, stride);
        case_end(p);
    }
}

static struct sample_row random_parameters(int r)
{
    static const float temperatures[] = {0, 1, 0.7f, 1.5f, 5e-6f, 0.3f, 2},
                       top_p[] = {1, 0.9f, 0.5f, 1, 0, 0.95f};
    static const float min_p[] = {0, 0, 0.05f, 0, 0.3f};
    static const int top_k[] = {0, 40, 1, 0, 5, 0, 1000000, 100};
    return (struct sample_row){.temperature = temperatures[r % 7],
                               .top_p = top_p[r % 6],
                               .min_p = min_p[r % 5],
                               .top_k = top_k[r % 8],
                               .seed_low = random_bits(),
                               .seed_high = random_bits(),
                               .choice = random_bits() % 4,
                               .position = random_bits() % 5000};
}

/* Logits as a model gives them: a few likely ones over a broad rest; some rows with ties, some broken. */
static void fill_logits(float *logits, int vocab, int r)
{
    for (int i = 0; i < vocab; i++)
        logits[i] = 2 * random_normal() + (random_below(50) ? 0 : 4);
    if (r % 11 == 3)
        for (int i = 0; i < vocab; i += 3)
            logits[i] = 7.5f; /* the lowest id of equals wins */
    if (r % 13 == 5)
        logits[random_below(vocab)] = r % 2 ? NAN : INFINITY;
    if (r % 13 == 9)
        logits[vocab - 1] = -INFINITY;
}

struct choice {
    double value, weight;
    int id;
};

static int by_value(const void *a, const void *b)
{
    const struct choice *x = a, *y = b;
    return x->value != y->value ? x->value > y->value ? -1 : 1 : x->id - y->id;
}

static int by_id(const void *a, const void *b)
{
    return ((const struct choice *)a)->id - ((const struct choice *)b)->id;
}

/* A number in [0, 1) from Philox4x32-10, as the schedule's sampler draws it. */
static double philox(const struct sample_row *s)
{
    uint32_t c[4] = {s->position, 0, s->choice, 0}, k[2] = {s->seed_low, s->seed_high};
    for (int round = 0; round < 10; round++, k[0] += 0x9E3779B9u, k[1] += 0xBB67AE85u) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1],
                            (uint32_t)a};
        memcpy(c, next, sizeof c);
    }
    return (double)(((uint64_t)c[0] << 21) ^ (c[1] >> 11)) * 0x1p-53;
}

/* Sampling as its definition says it, by sorting: what the histograms of the devices must come to. */
static int plain_sample(const float *logits, int vocab, const int32_t *allowed, const struct sample_row *s)
{
    struct choice *list = malloc((size_t)vocab * sizeof *list);
    int n = 0, chosen = -1;
    REQUIRE(list);
    for (int i = 0; i < vocab; i++)
        if ((uint32_t)allowed[i / 32] >> i % 32 & 1) {
            list[n++] = (struct choice){.value = (double)logits[i], .id = i};
            if (!isfinite(logits[i])) {
                free(list);
                return -1;
            }
        }
    qsort(list, (size_t)n, sizeof *list, by_value);
    if (n > 0)
        chosen = list[0].id;
    if (n > 0 && s->temperature >= 1e-5f) {
        double total = 0, sum = 0, point = philox(s), kept = 0;
        n = s->top_k > 0 && s->top_k < n ? s->top_k : n;
        for (int i = 0; i < n; i++)
            total += list[i].weight = exp((list[i].value - list[0].value) / (double)s->temperature);
        for (int i = 0; i < n && s->top_p < 1; i++) {
            sum += list[i].weight;
            if (sum >= (double)s->top_p * total)
                n = i + 1;
        }
        while (list[n - 1].weight < (double)s->min_p)
            n--;
        qsort(list, (size_t)n, sizeof *list, by_id);
        for (int i = 0; i < n; i++)
            kept += list[i].weight;
        sum = 0;
        for (int i = 0; i < n; i++) {
            sum += list[i].weight;
            chosen = list[i].id;
            if (point * kept < sum)
                break;
        }
    }
    free(list);
    return chosen;
}

static void check_samples(struct parity *p, struct pair ids, const float *logits, int rows, int vocab,
                          const int32_t *allowed, const struct sample_row *parameters)
{
    int32_t got[130];
    struct err err;
    if (buffer_read(ids.on[REFERENCE], 0, (size_t)rows, got, &err) < 0) {
        case_fail(p, "ids: %s", err.text);
        return;
    }
    for (int r = 0; r < rows; r++) {
        int want = plain_sample(logits + r * vocab, vocab, allowed, &parameters[r]);
        if (got[r] != want)
            case_fail(p, "row %d of %d: the reference chose %d, the definition %d", r, vocab, got[r], want);
    }
}

void parity_sample(struct parity *p, enum dtype type)
{
    static const int vocabs[] = {5003, 151, 32, 1000, 2049, 33, 1};
    (void)type;
    for (int i = 0; i < N_ROWS; i++) {
        int rows = row_counts[i], vocab = vocabs[i], words = (vocab + 31) / 32;
        float *logits = malloc((size_t)(rows * vocab) * sizeof *logits);
        struct sample_row parameters[130];
        int32_t allowed[157];
        REQUIRE(logits);
        for (int r = 0; r < rows; r++) {
            fill_logits(logits + r * vocab, vocab, r + i);
            parameters[r] = random_parameters(r + i);
        }
        for (int k = 0; k < words; k++) /* the first ids stay allowed; bits beyond the last mean nothing */
            allowed[k] = i % 2 ? (int32_t)(random_bits() | (k == 0)) : -1;
        struct sample_args args = {rows, vocab};
        struct pair l = pair_buffer(p, DTYPE_F32, (size_t)(rows * vocab), logits);
        struct pair a = pair_buffer(p, DTYPE_I32, (size_t)words, allowed);
        struct pair s = pair_buffer(p, DTYPE_I32, (size_t)(rows * SAMPLE_ROW_INTS), parameters);
        struct pair ids = pair_buffer(p, DTYPE_I32, (size_t)rows, NULL);
        case_begin(p);
        BOTH(d)
            device_sample(p->commands[d], &args, l.on[d], a.on[d], s.on[d], ids.on[d]);
        if (case_run(p)) {
            case_compare(p, ids, EXACT, "%d rows of %d", rows, vocab);
            check_samples(p, ids, logits, rows, vocab, allowed, parameters);
        }
        free(logits);
        case_end(p);
    }
}
