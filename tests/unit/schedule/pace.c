/* The prefill budget follows what steps take. */
#include <criterion/criterion.h>

#include "../../../engine/schedule/pace.h"

#define MOST 512

/* A machine on which a stream's step takes 20 ms and a row of prefill 2 ms more. */
static double took(int rows)
{
    return 0.020 + 0.002 * rows;
}

static void live(struct pace *p, int steps)
{
    for (int i = 0; i < steps; i++) {
        int rows = i % 4 ? pace_rows(p, 1, MOST) : 0;
        pace_learn(p, 1, rows, took(rows));
    }
}

Test(pace, keeps_to_four_times_one_stream)
{
    struct pace p = {0};
    cr_expect_gt(pace_rows(&p, 1, MOST), 0);
    cr_expect_leq(pace_rows(&p, 1, MOST), 64);
    live(&p, 40);
    cr_expect_leq(took(pace_rows(&p, 1, MOST)), 0.080);
    cr_expect_geq(took(pace_rows(&p, 1, MOST)), 0.060);
}

Test(pace, keeps_to_a_given_bound)
{
    struct pace p = {.limit = 0.200};
    live(&p, 40);
    cr_expect_leq(took(pace_rows(&p, 1, MOST)), 0.200);
    cr_expect_geq(took(pace_rows(&p, 1, MOST)), 0.150);
    cr_expect_eq(pace_rows(&p, 1, 10), 10);
}

Test(pace, prefill_goes_on_where_no_bound_can_be_kept)
{
    struct pace p = {.limit = 0.001};
    live(&p, 40);
    cr_expect_geq(pace_rows(&p, 1, MOST), 1);
    cr_expect_eq(pace_rows(&p, 1, 3), 3);
}

Test(pace, slower_rows_of_a_long_context_make_it_smaller)
{
    struct pace p = {0};
    live(&p, 40);
    int before = pace_rows(&p, 1, MOST);
    for (int i = 0; i < 20; i++) pace_learn(&p, 1, before, 0.020 + 0.006 * before);
    cr_expect_lt(pace_rows(&p, 1, MOST), before / 2);
}

/* Streams come in one after the other while prompts are read, so that no step without prefill tells what they take. */
Test(pace, keeps_to_the_bound_with_ever_more_streams)
{
    struct pace p = {0};
    live(&p, 40);
    for (int streams = 2; streams <= 8; streams++) {
        for (int i = 0; i < 3; i++) {
            int rows = pace_rows(&p, streams, MOST);
            double seconds = took(rows) + (streams - 1) * 0.002;
            cr_expect_leq(seconds, 0.080);
            cr_expect_geq(seconds, 0.060);
            pace_learn(&p, streams, rows, seconds);
        }
    }
}

/* Where steps vary, more room is left under the bound. */
Test(pace, keeps_off_the_bound_where_steps_vary)
{
    struct pace p = {0};
    live(&p, 40);
    int before = pace_rows(&p, 1, MOST);
    for (int i = 0; i < 40; i++) {
        int rows = pace_rows(&p, 1, MOST);
        pace_learn(&p, 1, rows, took(rows) * (i % 2 ? 1.2 : 0.8));
    }
    cr_expect_lt(pace_rows(&p, 1, MOST), before);
}
