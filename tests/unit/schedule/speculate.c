/* Drafts from a text's own past: what is found, how many are made, and when none are. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "../../../engine/schedule/speculate.h"

#define MANY 40000

static int32_t text[MANY + SPECULATE_MOST];

static uint32_t random_below(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % n;
}

static void write_random(int from, int to, uint32_t seed, uint32_t n)
{
    for (int i = from; i < to; i++) text[i] = (int32_t)random_below(&seed, n);
}

Test(speculate, what_followed_before)
{
    struct speculation s = {0};
    int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}, out[SPECULATE_MOST];
    cr_assert_eq(speculation_draft(&s, tokens, 12, 4, 0, out), 4);
    for (int i = 0; i < 4; i++) cr_expect_eq(out[i], 4 + i);
    cr_expect_eq(speculation_draft(&s, tokens, 12, 100, 0, out), SPECULATE_MOST);
    cr_expect_eq(out[SPECULATE_MOST - 1], 1, "runs on into what was written last");
    speculation_dispose(&s);
}

Test(speculate, nothing_without_a_match)
{
    struct speculation s = {0};
    int32_t tokens[] = {1, 2, 3, 4, 5, 6, 2, 3}, out[SPECULATE_MOST];
    for (int n = 0; n <= 8; n++) cr_expect_eq(speculation_draft(&s, tokens, n, 4, 0, out), 0);
    tokens[7] = 1;
    cr_expect_eq(speculation_draft(&s, tokens, 8, 0, 0, out), 0);
    speculation_dispose(&s);
}

Test(speculate, the_longest_match_wins_then_the_latest)
{
    struct speculation s = {0};
    int32_t tokens[] = {9, 1, 2, 3, 50, 8, 1, 2, 3, 60, 7, 1, 2, 3, 70, 9, 1, 2, 3, 0}, out[SPECULATE_MOST];
    cr_assert_eq(speculation_draft(&s, tokens, 19, 1, 0, out), 1);
    cr_expect_eq(out[0], 50);
    tokens[15] = 6;
    struct speculation other = {0};
    cr_assert_eq(speculation_draft(&other, tokens, 19, 1, 0, out), 1);
    cr_expect_eq(out[0], 70);
    speculation_dispose(&s);
    speculation_dispose(&other);
}

Test(speculate, a_loop_goes_on_beyond_its_end)
{
    struct speculation s = {0};
    int32_t tokens[8 + SPECULATE_MOST] = {1, 2, 1, 2, 1, 2, 1, 2};
    cr_assert_eq(speculation_draft(&s, tokens, 8, SPECULATE_MOST, 0, tokens + 8), SPECULATE_MOST);
    for (int i = 8; i < 8 + SPECULATE_MOST; i++) cr_expect_eq(tokens[i], 1 + i % 2);
    speculation_dispose(&s);
}

/* Token by token or at once, while it grows: the same as a search through all of the text. */
Test(speculate, the_index_keeps_up)
{
    struct speculation s = {0};
    int32_t out[SPECULATE_MOST];
    int found = 0;
    write_random(0, 3000, 1, 12);
    for (int n = 1; n <= 3000; n += 1 + n % 3) {
        bool known = false;
        for (int at = 2; at < n - 1 && !known; at++) {
            known = text[at] == text[n - 1] && text[at - 1] == text[n - 2] && text[at - 2] == text[n - 3];
        }
        int count = speculation_draft(&s, text, n, 1, 0, out);
        cr_assert_eq(count, n > 3 && known, "at %d", n);
        found += count;
    }
    cr_expect_gt(found, 500);
    speculation_dispose(&s);
}

Test(speculate, long_texts)
{
    struct speculation s = {0};
    int right = 0;
    write_random(0, MANY / 2, 7, 100000);
    for (int i = MANY / 2; i < MANY; i++) text[i] = text[i - MANY / 2];
    for (int n = MANY / 2 + 3; n < MANY; n++) {
        int32_t out[SPECULATE_MOST];
        right += speculation_draft(&s, text, n, 1, 0.2, out) == 1 && out[0] == text[n];
        speculation_learn(&s, 1, 1);
    }
    cr_expect_eq(right, MANY - MANY / 2 - 3);
    speculation_dispose(&s);
}

/* Runs through a text as a device would that always generates just this; returns its steps. */
static int generate(struct speculation *s, int from, int to, double price, int *rows)
{
    int steps = 0;
    for (int n = from; n < to; steps++) {
        int32_t out[SPECULATE_MOST];
        int count = speculation_draft(s, text, n, SPECULATE_MOST, price, out), right = 0;
        while (right < count && n + right < to && out[right] == text[n + right]) right++;
        speculation_learn(s, count, right);
        n += right + 1;
        *rows += 1 + count;
    }
    return steps;
}

Test(speculate, copies_take_few_steps)
{
    struct speculation s = {0};
    int rows = 0;
    write_random(0, 600, 3, 5000);
    for (int i = 600; i < 1200; i++) text[i] = text[i - 600];
    for (int i = 650; i < 1200; i += 50) text[i] = 6000 + i;
    int steps = generate(&s, 603, 1200, 0.2, &rows);
    cr_expect_lt(steps, 220, "%d steps", steps);
    cr_expect_lt(rows, 900, "%d rows", rows);
    speculation_dispose(&s);
}

/* Three tokens of an alphabet this small were there before, and tell nothing of the next one. */
Test(speculate, what_does_not_repeat_costs_little)
{
    struct speculation s = {0};
    int rows = 0;
    write_random(0, 4000, 5, 10);
    int steps = generate(&s, 100, 4000, 0.25, &rows);
    double cost = steps + 0.25 * (rows - steps);
    cr_expect_lt(cost, 3900 * 1.02, "%d steps, %d rows", steps, rows);
    speculation_dispose(&s);
}

Test(speculate, nothing_is_forever)
{
    struct speculation s = {0};
    int rows = 0;
    write_random(0, 3000, 5, 10);
    for (int i = 3000; i < 4000; i++) text[i] = text[i - 500];
    generate(&s, 100, 3000, 0.25, &rows);
    int steps = generate(&s, 3000, 4000, 0.25, &rows);
    cr_expect_lt(steps, 500, "%d steps for 1000 tokens that repeat", steps);
    speculation_dispose(&s);
}

Test(speculate, dear_rows_are_not_taken)
{
    struct speculation s = {0};
    int rows = 0;
    write_random(0, 600, 3, 5000);
    for (int i = 600; i < 1200; i++) text[i] = text[i - 600];
    int steps = generate(&s, 603, 1200, 1, &rows);
    cr_expect_lt(rows - steps, 300, "%d drafts", rows - steps);
    speculation_dispose(&s);
}

Test(speculate, a_disposed_one_drafts_nothing)
{
    struct speculation s = {0};
    int32_t tokens[] = {1, 2, 3, 4, 1, 2, 3}, out[SPECULATE_MOST];
    cr_expect_gt(speculation_draft(&s, tokens, 7, 3, 0, out), 0);
    speculation_dispose(&s);
    cr_expect_eq(speculation_draft(&s, tokens, 7, 3, 0, out), 0);
    speculation_dispose(&s);
}

Test(speculate, the_price_follows_the_steps)
{
    struct speculation_cost c = {0};
    double unknown = speculation_price(&c, 1);
    cr_expect(unknown > 0.05 && unknown < 0.5);
    cr_expect_gt(speculation_price(&c, 8), unknown, "beside others a row is dearer");
    for (int i = 0; i < 20; i++) speculation_cost_learn(&c, 2, i % 2 ? 5 : 0, i % 2 ? 0.030 : 0.020);
    cr_expect_float_eq(speculation_price(&c, 2), 0.2, 1e-6);
    cr_expect_gt(speculation_price(&c, 3), 0, "unknown again, until steps of three were measured");
    for (int i = 0; i < 20; i++) speculation_cost_learn(&c, 2, i % 2 ? 5 : 0, i % 2 ? 0.010 : 0.020);
    cr_expect_gt(speculation_price(&c, 2), 0, "measurements vary");
    speculation_cost_learn(&c, 1, 4, 0.050);
    cr_expect_gt(speculation_price(&c, 1), 0);
}
