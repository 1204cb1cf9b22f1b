/* The sampler: what it may choose, how often, and that it depends on nothing but its arguments. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../../engine/schedule/dry.h"
#include "../../../engine/schedule/philox.h"
#include "../../../engine/schedule/sampler.h"

#define VOCAB 1000

static struct sampler *sampler;
static bool allowed[VOCAB], real[VOCAB];
static float logits[VOCAB];
static struct err err;

static struct sampling plain(double temperature)
{
    return (struct sampling){.temperature = temperature, .top_p = 1, .repetition_penalty = 1, .seed = 7};
}

static void setup(void)
{
    for (int i = 0; i < VOCAB; i++) {
        allowed[i] = real[i] = i < VOCAB - 20;
        logits[i] = -20;
    }
    allowed[3] = false; /* a control token: real, but never generated */
    cr_assert_eq(sampler_create(&sampler, VOCAB, allowed, real, &err), 0);
}

static void teardown(void)
{
    sampler_destroy(sampler);
}

TestSuite(sampler, .init = setup, .fini = teardown);

/* How often each token comes in n draws at different positions. */
static int *draw(const struct sampling *p, int n)
{
    static int count[VOCAB];
    for (int i = 0; i < VOCAB; i++) count[i] = 0;
    for (int i = 0; i < n; i++) {
        int32_t id = sampler_choose(sampler, logits, NULL, p, NULL, 0, i, &err);
        cr_assert(id >= 0 && id < VOCAB, "%s", err.text);
        count[id]++;
    }
    return count;
}

Test(sampler, philox_known_answers)
{
    uint32_t zero[4] = {0};
    philox4x32(zero, 0, 0);
    cr_expect_eq(zero[0], 0x6627e8d5u);
    cr_expect_eq(zero[3], 0x9b00dbd8u);
    uint32_t pi[4] = {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u};
    philox4x32(pi, 0xa4093822u, 0x299f31d0u);
    cr_expect_eq(pi[0], 0xd16cfe09u);
    cr_expect_eq(pi[3], 0x24126ea1u);
}

Test(sampler, greedy_takes_the_lowest_of_equals)
{
    struct sampling p = plain(0);
    logits[5] = logits[900] = logits[17] = 4;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, NULL, 0, 0, &err), 5);
}

Test(sampler, never_padding_or_control)
{
    struct sampling p = plain(0), warm = plain(100);
    logits[3] = logits[VOCAB - 1] = 50;
    logits[8] = 1;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, NULL, 0, 0, &err), 8);
    int *count = draw(&warm, 20000);
    cr_expect_eq(count[3], 0);
    for (int i = VOCAB - 20; i < VOCAB; i++) cr_expect_eq(count[i], 0);
}

Test(sampler, follows_the_distribution)
{
    struct sampling p = plain(1);
    logits[10] = logf(0.5f);
    logits[20] = logf(0.3f);
    logits[30] = logf(0.2f);
    int n = 40000, *count = draw(&p, n);
    cr_expect_float_eq((double)count[10] / n, 0.5, 0.01);
    cr_expect_float_eq((double)count[20] / n, 0.3, 0.01);
    cr_expect_float_eq((double)count[30] / n, 0.2, 0.01);
    p.temperature = 0.5; /* squares the odds: 25 : 9 : 4 */
    count = draw(&p, n);
    cr_expect_float_eq((double)count[10] / n, 25.0 / 38, 0.01);
    cr_expect_float_eq((double)count[30] / n, 4.0 / 38, 0.01);
}

Test(sampler, top_k)
{
    for (int i = 0; i < 900; i++) logits[i] = -(float)i / 1000;
    struct sampling p = plain(1);
    p.top_k = 5; /* 0 1 2 4 5: 3 is not allowed */
    int *count = draw(&p, 5000);
    for (int i = 0; i < 900; i++) cr_expect_eq(count[i] > 0, i < 6 && i != 3, "%d", i);
    p.top_k = 700; /* beyond the heap's size */
    count = draw(&p, 50000);
    for (int i = 701; i < VOCAB; i++) cr_expect_eq(count[i], 0, "%d", i);
    cr_expect_gt(count[700], 0);
    p.top_k = 1000000;
    cr_expect_geq(sampler_choose(sampler, logits, NULL, &p, NULL, 0, 0, &err), 0);
}

Test(sampler, top_p)
{
    struct sampling p = plain(1);
    logits[10] = logf(0.5f);
    logits[20] = logf(0.3f);
    logits[30] = logf(0.2f);
    p.top_p = 0.6; /* 0.5 is not enough, so the second is in */
    int *count = draw(&p, 20000);
    cr_expect_eq(count[30], 0);
    cr_expect_float_eq(count[10] / 20000.0, 0.625, 0.02);
    p.top_p = 0.4;
    cr_expect_eq(draw(&p, 2000)[10], 2000);
    p.top_p = 0;
    cr_expect_eq(draw(&p, 2000)[10], 2000);
}

Test(sampler, top_p_with_equal_values)
{
    struct sampling p = plain(1);
    for (int i = 0; i < VOCAB; i++) logits[i] = 1;
    p.top_p = 0.1; /* of 979 equal tokens the first 98 */
    int *count = draw(&p, 20000);
    cr_expect_gt(count[98], 0);
    cr_expect_eq(count[99], 0);
    cr_expect_eq(count[500], 0);
}

Test(sampler, min_p)
{
    struct sampling p = plain(1);
    logits[10] = logf(0.5f);
    logits[20] = logf(0.3f);
    logits[30] = logf(0.2f);
    p.min_p = 0.5;
    int *count = draw(&p, 20000);
    cr_expect_eq(count[30], 0);
    cr_expect_float_eq(count[20] / 20000.0, 0.375, 0.02);
    p.min_p = 1;
    cr_expect_eq(draw(&p, 2000)[10], 2000);
}

Test(sampler, bias_bans_and_forces)
{
    struct logit_bias bias[] = {{10, -100}, {20, 100}};
    struct sampling p = plain(1);
    logits[10] = 10;
    p.bias = bias;
    p.n_bias = 1;
    cr_expect_eq(draw(&p, 2000)[10], 0);
    p.n_bias = 2;
    cr_expect_eq(draw(&p, 2000)[20], 2000);
}

Test(sampler, penalties)
{
    struct token_counts *counts, *twin;
    struct sampling p = plain(0);
    cr_assert_eq(token_counts_create(&counts, &err), 0);
    for (int i = 0; i < 600; i++) { /* makes it grow */
        cr_assert_eq(token_counts_add(counts, i, true, &err), 0);
    }
    struct sampler_past past = {.counts = counts}, other = {0};
    logits[10] = 2;
    logits[700] = 1.5f;
    p.presence_penalty = 1; /* does not see the prompt */
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &past, 0, 0, &err), 10);
    p.repetition_penalty = 1.5; /* does */
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &past, 0, 0, &err), 700);
    p.repetition_penalty = 1;
    cr_assert_eq(token_counts_copy(&twin, counts, &err), 0);
    cr_assert_eq(token_counts_add(twin, 10, false, &err), 0);
    other.counts = twin;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &other, 0, 0, &err), 700);
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &past, 0, 0, &err), 10, "a copy is on its own");
    p.presence_penalty = 0;
    p.frequency_penalty = 0.3;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &other, 0, 0, &err), 10);
    cr_assert_eq(token_counts_add(twin, 10, false, &err), 0);
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &other, 0, 0, &err), 700);
    token_counts_remove(twin, 10, false); /* out of the window */
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &other, 0, 0, &err), 10);
    p.repetition_penalty = 1.5;
    token_counts_remove(twin, 10, false);
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &other, 0, 0, &err), 700, "it is in the prompt");
    token_counts_remove(twin, 10, true);
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &other, 0, 0, &err), 10);
    token_counts_destroy(counts);
    token_counts_destroy(twin);
}

/* What token 10, the likeliest by far, loses behind these tokens, to a hundredth. */
static double lost(const struct sampling *p, const int32_t *tokens, int n, int unbroken)
{
    struct sampler_past past = {.tokens = tokens, .n = n, .unbroken = unbroken};
    logits[10] = 8;
    for (int i = 0; i < 2000; i++) {
        logits[900] = 8.005f - (float)i / 100;
        if (sampler_choose(sampler, logits, NULL, p, &past, 0, 0, &err) == 10) return (i - 1) / 100.0;
    }
    return INFINITY;
}

static struct sampling with_dry(void)
{
    struct sampling p = plain(0);
    p.dry_multiplier = 0.8;
    p.dry_base = 1.75;
    p.dry_allowed_length = 2;
    return p;
}

Test(sampler, dry)
{
    static const int32_t tokens[] = {1, 2, 3, 10, 9, 2, 3, 10, 1, 2, 3};
    struct sampling p = with_dry();
    /* 1 2 3 stood before 10 once, 2 3 once more: 0.8 · 1.75 for three tokens. */
    cr_expect_float_eq(lost(&p, tokens, 11, 11), 1.4, 0.015);
    cr_expect_float_eq(lost(&p, tokens, 10, 10), 0, 0.015, "1 2 stood before 3, not before 10");
    cr_expect_float_eq(lost(&p, tokens, 11, 2), 0.8, 0.015, "a breaker behind the 1");
    cr_expect_float_eq(lost(&p, tokens, 11, 1), 0, 0.015);
    p.dry_window = 8; /* 10 9 2 3 10 1 2 3 */
    cr_expect_float_eq(lost(&p, tokens, 11, 11), 0.8, 0.015);
    p.dry_window = 5; /* 3 10 1 2 3 */
    cr_expect_float_eq(lost(&p, tokens, 11, 11), 0, 0.015);
    p.dry_window = 0; /* all */
    p.dry_allowed_length = 3;
    cr_expect_float_eq(lost(&p, tokens, 11, 11), 0.8, 0.015);
    p.dry_allowed_length = 4;
    cr_expect_float_eq(lost(&p, tokens, 11, 11), 0, 0.015);
    p.dry_allowed_length = 1;
    p.dry_base = 2;
    p.dry_multiplier = 0.5;
    cr_expect_float_eq(lost(&p, tokens, 11, 11), 2, 0.015);
    cr_expect_eq(lost(&p, tokens, 0, 0), 0);
}

/* Against the definition, on texts that overlap themselves. */
Test(sampler, dry_of_repetitive_texts)
{
    struct sampling p = with_dry();
    static int32_t tokens[200];
    uint32_t random = 1;
    p.dry_base = 1.1;
    for (int round = 0; round < 40; round++) {
        int n = 3 + round * 4, longest = 0;
        for (int i = 0; i < n; i++) {
            random = random * 1664525 + 1013904223;
            tokens[i] = round == 0 ? 10 : 9 + (int32_t)(random >> 31);
        }
        for (int end = 0; end < n - 1; end++) {
            int same = 0;
            while (same <= end && tokens[end - same] == tokens[n - 1 - same]) same++;
            if (tokens[end + 1] == 10 && same > longest) longest = same;
        }
        double penalty = longest < 2 ? 0 : 0.8 * pow(1.1, longest - 2);
        cr_expect_float_eq(lost(&p, tokens, n, n), penalty, 0.015, "%d tokens, %d of them again", n, longest);
    }
}

Test(sampler, dry_stays_finite_and_linear)
{
    enum { MANY = 200000 };
    struct sampling p = with_dry();
    int32_t *tokens = malloc(MANY * sizeof *tokens);
    for (int i = 0; i < MANY; i++) tokens[i] = 10; /* repeats itself everywhere */
    struct sampler_past past = {.tokens = tokens, .n = MANY, .unbroken = MANY};
    p.dry_base = 100;
    logits[10] = 50;
    logits[20] = -50;
    for (int i = 0; i < 20; i++) {
        cr_expect_neq(sampler_choose(sampler, logits, NULL, &p, &past, 0, i, &err), 10);
    }
    for (int i = 0; i < VOCAB; i++) logits[i] = i == 10 ? 0 : -INFINITY;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, &past, 0, 0, &err), 10, "nothing else is left");
    free(tokens);
}

Test(sampler, breakers)
{
    static const char *const text[] = {"\n", "aab", "ab"}, *const none[] = {""};
    struct dry_breakers *b;
    struct dry_place at = {0};
    cr_assert_eq(dry_breakers_create(&b, text, 3, &err), 0);
    static const struct {
        const char *bytes;
        int unbroken;
    } steps[] = {{"x", 1}, {"", 2}, {"x\ny", 0}, {"a", 1}, {"a", 2}, {"b", 0}, {"b", 1}, {"aa", 2}, {"xb", 3},
                 {"xab", 0}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        dry_advance(&at, b, steps[i].bytes, strlen(steps[i].bytes));
        cr_expect_eq(at.unbroken, steps[i].unbroken, "step %zu: %d", i, at.unbroken);
    }
    dry_breakers_destroy(b);
    cr_expect_eq(dry_breakers_create(&b, none, 1, &err), ERR_INVALID);
}

/* Longer than one word of bits. */
Test(sampler, long_breakers)
{
    char big[DRY_BREAKER_BYTES + 1], second[71];
    struct dry_breakers *b;
    for (int i = 0; i < 70; i++) second[i] = (char)('a' + i % 26);
    second[70] = 0;
    const char *const two[] = {"0123456789", second};
    cr_assert_eq(dry_breakers_create(&b, two, 2, &err), 0);
    struct dry_place at = {0};
    dry_advance(&at, b, second, 69);
    cr_expect_eq(at.unbroken, 1);
    dry_advance(&at, b, second + 69, 1);
    cr_expect_eq(at.unbroken, 0);
    dry_advance(&at, b, second + 1, 69);
    cr_expect_eq(at.unbroken, 1);
    dry_breakers_destroy(b);

    memset(big, 'x', sizeof big);
    big[DRY_BREAKER_BYTES] = 0;
    const char *const full[] = {big, "y"};
    cr_assert_eq(dry_breakers_create(&b, full, 1, &err), 0);
    dry_breakers_destroy(b);
    cr_expect_eq(dry_breakers_create(&b, full, 2, &err), ERR_INVALID);
}

Test(sampler, xtc)
{
    struct sampling p = plain(1);
    logits[10] = logf(0.5f);
    logits[20] = logf(0.3f);
    logits[30] = logf(0.15f);
    logits[40] = logf(0.05f);
    p.xtc_probability = 1;
    p.xtc_threshold = 0.1; /* 10 and 20 go, 30 is the least likely above it */
    int *count = draw(&p, 20000);
    cr_expect_eq(count[10] + count[20], 0);
    cr_expect_float_eq(count[30] / 20000.0, 0.75, 0.02);
    p.xtc_threshold = 0.4; /* a single one above it stays */
    cr_expect_float_eq(draw(&p, 20000)[10] / 20000.0, 0.5, 0.02);
    p.xtc_threshold = 0.1;
    p.xtc_probability = 0.25;
    count = draw(&p, 40000);
    cr_expect_float_eq(count[10] / 40000.0, 0.75 * 0.5, 0.01);
    cr_expect_float_eq(count[30] / 40000.0, 0.75 * 0.15 + 0.25 * 0.75, 0.01);
    p.xtc_probability = 1;
    p.top_k = 2; /* of what is left: 5/8 and 3/8 */
    p.xtc_threshold = 0.35;
    cr_expect_eq(draw(&p, 2000)[20], 2000);
    p.temperature = 0;
    cr_expect_eq(draw(&p, 10)[10], 10);
}

Test(sampler, xtc_of_equals_leaves_one)
{
    struct sampling p = plain(1);
    logits[10] = logits[20] = 5;
    p.xtc_probability = 1;
    p.xtc_threshold = 0.3; /* of equal ones the lower id is before */
    cr_expect_eq(draw(&p, 2000)[10], 0);
    p.xtc_threshold = 0;
    cr_expect_geq(sampler_choose(sampler, logits, NULL, &p, NULL, 0, 0, &err), 0);
}

Test(sampler, seeds)
{
    struct sampling p = plain(1), other = plain(1);
    for (int i = 0; i < VOCAB; i++) logits[i] = (float)(i % 7);
    other.seed = 8;
    int same = 0, choice = 0, next = 0;
    for (int i = 0; i < 200; i++) {
        int32_t id = sampler_choose(sampler, logits, NULL, &p, NULL, 0, i, &err);
        cr_expect_eq(id, sampler_choose(sampler, logits, NULL, &p, NULL, 0, i, &err));
        same += id == sampler_choose(sampler, logits, NULL, &other, NULL, 0, i, &err);
        choice += id == sampler_choose(sampler, logits, NULL, &p, NULL, 1, i, &err);
        next += id == sampler_choose(sampler, logits, NULL, &p, NULL, 0, i + 1, &err);
    }
    cr_expect_lt(same, 20);
    cr_expect_lt(choice, 20);
    cr_expect_lt(next, 20);
}

Test(sampler, logits_that_are_not_finite)
{
    struct sampling p = plain(1);
    logits[500] = NAN;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, NULL, 0, 0, &err), ERR_DEVICE);
    cr_expect(isnan(sampler_logprobs(sampler, logits, 1, NULL, 0)));
    logits[500] = INFINITY;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, NULL, 0, 0, &err), ERR_DEVICE);
    for (int i = 0; i < VOCAB; i++) logits[i] = -INFINITY;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, NULL, 0, 0, &err), ERR_DEVICE);
    logits[VOCAB - 1] = NAN; /* padding does not matter */
    logits[0] = 0;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, NULL, 0, 0, &err), 0);
}

Test(sampler, log_probabilities)
{
    struct engine_top top[4];
    int32_t ids[] = {20, 3, 30};
    float want[3];
    for (int i = 0; i < VOCAB; i++) logits[i] = -INFINITY;
    logits[3] = logf(0.125f) + 5; /* control tokens count */
    logits[10] = logf(0.5f) + 5;
    logits[20] = logits[30] = logf(0.1875f) + 5;
    logits[VOCAB - 1] = 90; /* padding does not */
    cr_expect_float_eq(sampler_logprobs(sampler, logits, 10, top, 4), logf(0.5f), 1e-6);
    cr_expect_eq(top[0].id, 10);
    cr_expect_eq(top[1].id, 20);
    cr_expect_eq(top[2].id, 30);
    cr_expect_eq(top[3].id, 3);
    cr_expect_float_eq(top[3].logprob, logf(0.125f), 1e-6);
    sampler_want(sampler, logits, ids, 3, want);
    cr_expect_float_eq(want[0], logf(0.1875f), 1e-6);
    cr_expect_float_eq(want[1], logf(0.125f), 1e-6);
}

Test(sampler, fewer_tokens_than_alternatives)
{
    struct engine_top top[4];
    for (int i = 0; i < VOCAB; i++) logits[i] = -INFINITY;
    logits[9] = 1;
    logits[8] = 2;
    cr_expect_float_eq(sampler_logprobs(sampler, logits, 8, top, 4), -0.313262f, 1e-5);
    cr_expect_eq(top[1].id, 9);
    cr_expect_eq(top[2].id, -1);
}

Test(sampler, extreme_temperatures)
{
    struct sampling p = plain(1e6);
    cr_expect_gt(draw(&p, 50000)[979], 0);
    p.temperature = 1e-4;
    logits[44] = 1;
    cr_expect_eq(draw(&p, 100)[44], 100);
}
