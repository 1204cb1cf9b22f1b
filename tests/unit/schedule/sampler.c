/* The sampler: what it may choose, how often, and that it depends on nothing but its arguments. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

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
    logits[10] = 2;
    logits[700] = 1.5f;
    p.presence_penalty = 1; /* does not see the prompt */
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, counts, 0, 0, &err), 10);
    p.repetition_penalty = 1.5; /* does */
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, counts, 0, 0, &err), 700);
    p.repetition_penalty = 1;
    cr_assert_eq(token_counts_copy(&twin, counts, &err), 0);
    cr_assert_eq(token_counts_add(twin, 10, false, &err), 0);
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, twin, 0, 0, &err), 700);
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, counts, 0, 0, &err), 10, "a copy is on its own");
    p.presence_penalty = 0;
    p.frequency_penalty = 0.3;
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, twin, 0, 0, &err), 10);
    cr_assert_eq(token_counts_add(twin, 10, false, &err), 0);
    cr_expect_eq(sampler_choose(sampler, logits, NULL, &p, twin, 0, 0, &err), 700);
    token_counts_destroy(counts);
    token_counts_destroy(twin);
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
