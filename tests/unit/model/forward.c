/* The forward pass: a row's logits depend on its own sequence and on nothing else. */
#include "../../../engine/model/forward.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "../../support/tiny_model.h"

enum { BLOCK = 16, BLOCKS = 24, ROWS = 64, CONTEXT = 128, TOKENS = 40, VOCAB = 320, SEQUENCES = 4 };

static struct device *device;
static struct gguf *g;
static struct weights *weights;
static struct forward *forward;
static unsigned char *bytes;
static struct err err;

static void close_all(void)
{
    forward_destroy(forward);
    weights_free(weights);
    gguf_close(g);
    device_close(device);
    free(bytes);
    forward = NULL, weights = NULL, g = NULL, device = NULL, bytes = NULL;
}

TestSuite(forward, .fini = close_all);

static void open_bytes(size_t size)
{
    struct device_options d = {.name = "reference"};
    struct forward_options f = {.max_rows = ROWS, .max_outputs = ROWS, .max_sequences = SEQUENCES,
                                .block_tokens = BLOCK, .n_blocks = BLOCKS, .max_context = CONTEXT};
    cr_assert_eq(device_open(&device, &d, &err), 0, "%s", err.text);
    cr_assert_eq(gguf_open_memory(&g, bytes, size, &err), 0, "%s", err.text);
    cr_assert_eq(weights_load(&weights, device, g, &err), 0, "%s", err.text);
    cr_assert_eq(forward_create(&forward, device, weights, &f, &err), 0, "%s", err.text);
}

static void open_model(const struct tiny_model_options *o)
{
    size_t size;
    close_all();
    cr_assert_eq(tiny_model_bytes(o, 0, &bytes, &size, &err), 0, "%s", err.text);
    open_bytes(size);
}

/* A batch under construction; sequence s has the blocks s, s + SEQUENCES, s + 2*SEQUENCES, … */
struct rows {
    struct batch batch;
    int32_t token[ROWS], position[ROWS], sequence[ROWS], slot[ROWS], output[ROWS];
    int32_t table[SEQUENCES * (CONTEXT / BLOCK)];
};

static struct rows new_rows(void)
{
    struct rows r = {.batch = {.n_sequences = SEQUENCES}};
    for (int s = 0; s < SEQUENCES; s++)
        for (int i = 0; i < CONTEXT / BLOCK; i++)
            r.table[s * (CONTEXT / BLOCK) + i] = (s + i * SEQUENCES) % BLOCKS;
    return r;
}

static int32_t token_of(int sequence, int position)
{
    return (position * position * 7 + sequence * 31 + 5) % VOCAB;
}

/* The next `n` tokens of a sequence from `first` on; the logits of all of them are wanted, or none. */
static void add_rows(struct rows *r, int sequence, int first, int n, bool wanted)
{
    for (int p = first; p < first + n; p++) {
        int i = r->batch.n_rows++;
        r->token[i] = token_of(sequence, p);
        r->position[i] = p;
        r->sequence[i] = sequence;
        r->slot[i] = r->table[sequence * (CONTEXT / BLOCK) + p / BLOCK] * BLOCK + p % BLOCK;
        if (wanted)
            r->output[r->batch.n_outputs++] = i;
    }
}

static int step(struct rows *r, float *logits)
{
    struct batch b = r->batch;
    b.token = r->token, b.position = r->position, b.sequence = r->sequence, b.slot = r->slot;
    b.table = r->table, b.output = r->output;
    return forward_step(forward, &b, logits, &err);
}

static void run(struct rows r, float *logits)
{
    cr_assert_eq(step(&r, logits), 0, "%s", err.text);
}

/* TOKENS tokens of one sequence in one step: what everything else is compared with. */
static void run_whole(int sequence, float *logits)
{
    struct rows r = new_rows();
    add_rows(&r, sequence, 0, TOKENS, true);
    run(r, logits);
}

static const struct tiny_model_options models[] = {
    {.architecture = "qwen2"},
    {.architecture = "llama", .untied = true, .rope_factors = true},
    {.architecture = "qwen3", .head_dim = 32, .kv_heads = 1},
    {.architecture = "qwen2", .mixed = true, .width = 256, .ff = 256},
};
enum { N_MODELS = sizeof models / sizeof *models };

static float whole[TOKENS * VOCAB], parts[ROWS * VOCAB];

static void expect_same(const float *a, const float *b, int n_rows, int model, const char *what)
{
    for (int r = 0; r < n_rows; r++)
        cr_assert(!memcmp(a + r * VOCAB, b + r * VOCAB, VOCAB * sizeof *a), "%s: row %d of model %d", what, r,
                  model);
}

Test(forward, logits_are_finite_and_differ)
{
    for (int m = 0; m < N_MODELS; m++) {
        open_model(&models[m]);
        run_whole(0, whole);
        for (int i = 0; i < TOKENS * VOCAB; i++)
            cr_assert(isfinite(whole[i]));
        cr_assert_neq(memcmp(whole, whole + VOCAB, VOCAB * sizeof *whole), 0);
    }
}

Test(forward, one_token_at_a_time_is_the_same)
{
    for (int m = 0; m < N_MODELS; m++) {
        open_model(&models[m]);
        run_whole(1, whole);
        for (int p = 0; p < TOKENS; p++) {
            struct rows r = new_rows();
            add_rows(&r, 1, p, 1, true);
            run(r, parts + p * VOCAB);
        }
        expect_same(whole, parts, TOKENS, m, "decode");
    }
}

Test(forward, chunks_are_the_same)
{
    for (int m = 0; m < N_MODELS; m++) {
        open_model(&models[m]);
        run_whole(0, whole);
        for (int first = 0; first < TOKENS; first += 7) {
            struct rows r = new_rows();
            int n = TOKENS - first < 7 ? TOKENS - first : 7;
            add_rows(&r, 0, first, n, first + n == TOKENS); /* chunks before the last want no logits */
            run(r, parts);
        }
        expect_same(whole + TOKENS / 7 * 7 * VOCAB, parts, TOKENS % 7, m, "chunk");
    }
}

Test(forward, some_outputs_in_any_order)
{
    for (int m = 0; m < N_MODELS; m++) {
        open_model(&models[m]);
        run_whole(0, whole);
        struct rows r = new_rows();
        add_rows(&r, 0, 0, TOKENS, false);
        r.batch.n_outputs = 2;
        r.output[0] = 30;
        r.output[1] = 3;
        run(r, parts);
        expect_same(whole + 30 * VOCAB, parts, 1, m, "output");
        expect_same(whole + 3 * VOCAB, parts + VOCAB, 1, m, "output");
    }
}

Test(forward, sequences_in_one_step_do_not_meet)
{
    for (int m = 0; m < N_MODELS; m++) {
        open_model(&models[m]);
        struct rows before = new_rows(), r = new_rows();
        add_rows(&before, 2, 0, 17, false);
        run(before, NULL);
        add_rows(&r, 2, 17, 1, true);  /* one decodes */
        add_rows(&r, 0, 0, 20, true);  /* two prefill */
        add_rows(&r, 3, 0, 5, true);
        run(r, parts);
        run_whole(2, whole);
        expect_same(whole + 17 * VOCAB, parts, 1, m, "decoding sequence");
        run_whole(0, whole);
        expect_same(whole, parts + VOCAB, 20, m, "first prefill");
        run_whole(3, whole);
        expect_same(whole, parts + 21 * VOCAB, 5, m, "second prefill");
    }
}

Test(forward, copied_blocks_continue_a_sequence)
{
    for (int m = 0; m < N_MODELS; m++) {
        open_model(&models[m]);
        run_whole(0, whole);
        struct rows before = new_rows(), r = new_rows();
        add_rows(&before, 0, 0, 20, false);
        run(before, NULL);
        /* Sequence 3 takes over the first 20 tokens of sequence 0: two blocks. */
        static const int32_t copy[] = {0, 3, SEQUENCES, 3 + SEQUENCES};
        add_rows(&r, 3, 20, 10, true);
        for (int i = 0; i < 10; i++)
            r.token[i] = token_of(0, 20 + i);
        r.batch.n_copies = 2;
        r.batch.copy = copy;
        run(r, parts);
        expect_same(whole + 20 * VOCAB, parts, 10, m, "copy");
    }
}

static int32_t best_of(const float *logits)
{
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Two sequences, each step begun before the one ahead has ended: the host never names the next token. */
Test(forward, tokens_chosen_on_the_device_go_on_by_reference)
{
    enum { STEPS = 12 };
    static const struct sample_row greedy[2] = {{.top_p = 1}, {.top_p = 1}};
    for (int m = 0; m < N_MODELS; m++) {
        int32_t expected[2][STEPS], got[2][STEPS] = {{0}};
        open_model(&models[m]);
        for (int s = 0; s < 2; s++)
            for (int i = 0; i < STEPS; i++) {
                struct rows r = new_rows();
                add_rows(&r, s, i, 1, true);
                if (i > 0)
                    r.token[0] = expected[s][i - 1];
                run(r, parts);
                expected[s][i] = best_of(parts);
            }
        for (int i = 0, ended = 0; ended < STEPS; i++) {
            struct forward_result result;
            if (i < STEPS) {
                struct rows r = new_rows();
                for (int s = 0; s < 2; s++) /* rows and places are crossed */
                    add_rows(&r, 1 - s, i, 1, true);
                r.output[0] = 1, r.output[1] = 0;
                for (int row = 0; row < 2 && i > 0; row++)
                    r.token[row] = -1 - (1 - row);
                struct batch b = r.batch;
                b.token = r.token, b.position = r.position, b.sequence = r.sequence, b.slot = r.slot;
                b.table = r.table, b.output = r.output, b.sampling = greedy, b.n_sampled = 2;
                cr_assert_eq(forward_begin(forward, &b, &err), 0, "%s", err.text);
                memset(&r, 0x55, sizeof r); /* nobody needs it any more */
            }
            if (i == 0)
                continue;
            cr_assert_eq(forward_in_flight(forward), i < STEPS ? 2 : 1);
            cr_assert_eq(forward_end(forward, &result, &err), 0, "%s", err.text);
            got[0][ended] = result.ids[0];
            got[1][ended++] = result.ids[1];
        }
        cr_expect_arr_eq(got, expected, sizeof got, "model %d", m);
    }
}

/* Beside rows whose logits are wanted, and of other rows: what is multiplied with the tied embedding gives logits. */
Test(forward, states_are_what_logits_are_made_of)
{
    enum { WIDTH = 64, LOGITS = 3 };
    float embedding[VOCAB * WIDTH];
    for (int part = 0; part < 2; part++) {
        struct rows r = new_rows();
        struct forward_result result;
        open_model(&models[0]);
        run_whole(0, whole);
        const struct gguf_tensor *t = gguf_find_tensor(g, "token_embd.weight");
        cr_assert(t && t->bytes == sizeof embedding);
        memcpy(embedding, t->data, sizeof embedding);
        add_rows(&r, 0, 0, TOKENS, part == 0);
        for (int i = 0; part == 1 && i < TOKENS; i += 2) /* some of the rows */
            r.output[r.batch.n_outputs++] = i;
        struct batch b = r.batch;
        b.token = r.token, b.position = r.position, b.sequence = r.sequence, b.slot = r.slot;
        b.table = r.table, b.output = r.output, b.n_states = b.n_outputs - LOGITS;
        cr_assert_eq(forward_begin(forward, &b, &err), 0, "%s", err.text);
        cr_assert_eq(forward_end(forward, &result, &err), 0, "%s", err.text);
        for (int i = 0; i < LOGITS; i++)
            cr_expect_arr_eq(result.logits + i * VOCAB, whole + r.output[i] * VOCAB, VOCAB * sizeof *whole);
        for (int i = 0; i < b.n_states; i++)
            for (int v = 0; v < VOCAB; v += 13) {
                double sum = 0;
                for (int k = 0; k < WIDTH; k++)
                    sum += (double)embedding[v * WIDTH + k] * result.states[i * WIDTH + k];
                cr_assert_float_eq(sum, whole[r.output[LOGITS + i] * VOCAB + v], 1e-4, "row %d, token %d", i, v);
            }
        b.n_states = b.n_outputs + 1;
        cr_expect_eq(forward_begin(forward, &b, &err), ERR_INVALID);
    }
}

Test(forward, only_allowed_tokens_are_chosen)
{
    size_t size;
    int32_t allowed[VOCAB / 32] = {0}, only = 77;
    allowed[only / 32] = 1 << only % 32;
    cr_assert_eq(tiny_model_bytes(&models[0], 0, &bytes, &size, &err), 0, "%s", err.text);
    open_bytes(size);
    forward_destroy(forward);
    struct forward_options f = {.max_rows = ROWS, .max_outputs = ROWS, .max_sequences = SEQUENCES,
                                .block_tokens = BLOCK, .n_blocks = BLOCKS, .max_context = CONTEXT,
                                .allowed = {NULL, allowed}};
    cr_assert_eq(forward_create(&forward, device, weights, &f, &err), 0, "%s", err.text);
    static const struct sample_row greedy = {.top_p = 1};
    for (int mask = 0; mask < 2; mask++) {
        struct rows r = new_rows();
        struct forward_result result;
        run_whole(0, whole);
        add_rows(&r, 0, 0, 20, true);
        struct batch b = r.batch;
        b.token = r.token, b.position = r.position, b.sequence = r.sequence, b.slot = r.slot;
        b.table = r.table, b.output = r.output, b.sampling = &greedy, b.n_sampled = 1, b.mask = mask;
        cr_assert_eq(forward_begin(forward, &b, &err), 0, "%s", err.text);
        cr_assert_eq(forward_end(forward, &result, &err), 0, "%s", err.text);
        cr_expect_eq(result.ids[0], mask ? only : best_of(whole));
        for (int i = 1; i < 20; i++) /* the logits that come back are those of the others */
            cr_expect_arr_eq(result.logits + (i - 1) * VOCAB, whole + i * VOCAB, VOCAB * sizeof *whole);
    }
}

Test(forward, the_same_weights_in_8_bits_are_close)
{
    open_model(&models[0]);
    run_whole(0, whole);
    open_model(&(struct tiny_model_options){.matrix = DTYPE_Q8_0, .embedding = DTYPE_F16});
    struct rows r = new_rows();
    add_rows(&r, 0, 0, TOKENS, true);
    run(r, parts);
    double squares = 0;
    for (int i = 0; i < TOKENS * VOCAB; i++)
        squares += (double)(whole[i] - parts[i]) * (double)(whole[i] - parts[i]);
    double rms = sqrt(squares / (TOKENS * VOCAB));
    cr_assert(rms > 0 && rms < 0.03, "rms %g", rms);
}

Test(forward, rows_that_point_elsewhere_are_refused)
{
    open_model(&models[0]);
    struct rows good = new_rows();
    add_rows(&good, 0, 0, 2, true);
    run(good, parts);
    for (int i = 0; i < 8; i++) {
        struct rows r = good;
        switch (i) {
        case 0: r.token[1] = VOCAB; break;
        case 1: r.token[0] = -1; break;
        case 2: r.position[1] = CONTEXT; break;
        case 3: r.slot[1] = BLOCK * BLOCKS; break;
        case 4: r.sequence[1] = SEQUENCES; break;
        case 5: r.table[1] = BLOCKS; break;
        case 6: r.output[1] = 2; break;
        case 7: r.batch.n_rows = ROWS + 1; break;
        }
        cr_assert_eq(step(&r, parts), ERR_INVALID, "case %d", i);
    }
    run(good, parts);
}

Test(forward, infinite_and_nan_scales_run)
{
    struct tiny_model_options o = {.matrix = DTYPE_Q4_0, .vector = DTYPE_F16};
    static const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e00}; /* inf, -inf, NaN */
    for (int i = 0; i < 3; i++) {
        size_t size;
        close_all();
        cr_assert_eq(tiny_model_bytes(&o, 0, &bytes, &size, &err), 0, "%s", err.text);
        cr_assert_eq(gguf_open_memory(&g, bytes, size, &err), 0, "%s", err.text);
        const struct gguf_tensor *t = gguf_find_tensor(g, "blk.0.attn_q.weight");
        memcpy((unsigned char *)t->data, &bad[i], 2);
        gguf_close(g);
        g = NULL;
        open_bytes(size);
        run_whole(0, whole);
        bool finite = true;
        for (int j = 0; j < TOKENS * VOCAB; j++)
            finite = finite && isfinite(whole[j]);
        cr_assert(!finite); /* it shows, and does no harm */
    }
}
