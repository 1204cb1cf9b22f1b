/* The prefill budget follows what steps take, on machines that are made up. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>

#include "../../../engine/schedule/pace.h"

struct machine {
    double step, row, output, token; /* seconds */
    double slower;                   /* all of that times so much; 0: 1 */
    double noise;                    /* up to this share more or less; 0: none */
    int outlier;                     /* every so many steps one takes three times as long; 0: none */
    int n_steps;
    uint32_t random;
};

static const struct machine usual = {.step = 0.014, .row = 0.0018, .output = 0.0015, .token = 0.6e-6};

static double took(struct machine *m, const struct pace_work *w)
{
    double seconds = m->step + m->row * w->rows + m->output * w->outputs + m->token * w->tokens;
    m->random = m->random * 1664525 + 1013904223;
    seconds *= 1 + m->noise * ((m->random >> 8) / (double)(1 << 23) - 1);
    if (m->outlier && ++m->n_steps % m->outlier == 0) seconds *= 3;
    return m->slower > 0 ? seconds * m->slower : seconds;
}

static struct pace_work streams_of(int n)
{
    return (struct pace_work){.rows = n, .outputs = n, .tokens = 100.0 * n};
}

static double one_stream(struct pace *p, struct machine *m)
{
    struct pace_work one = {.rows = 1, .outputs = 1, .tokens = 20};
    double seconds = took(m, &one);
    pace_learn(p, &one, 0, seconds);
    return seconds;
}

static struct pace_work with_rows(struct pace_work w, int first, int rows)
{
    w.rows += rows;
    w.tokens += rows * (first + rows / 2.0);
    return w;
}

/* What a server sees before somebody's long prompt comes: one short prompt and its answer, another prompt. */
static void wake(struct pace *p, struct machine *m)
{
    struct pace_work none = {0}, prompt = with_rows(none, 0, 20);
    pace_learn(p, &prompt, 0, took(m, &prompt));
    for (int i = 0; i < 30; i++) one_stream(p, m);
    for (int i = 0; i < 3; i++) {
        prompt = with_rows(none, 200 * i, 200);
        pace_learn(p, &prompt, 0, took(m, &prompt));
    }
}

/* A prompt beside streams. */
struct run {
    int streams, from, to; /* tokens of the prompt that are read */
    int settle;            /* steps that do not count: learning what is new takes some */
    int steps, over;       /* of those that count, those above the limit */
    double seconds;
};

static int rows_for(const struct pace *p, const struct pace_work *streams, int first, double aim)
{
    int rows = 1;
    for (; rows < 512; rows++) {
        struct pace_work more = with_rows(*streams, first, rows + 1);
        if (pace_step(p, &more) > aim) break;
    }
    return rows;
}

static void read_prompt(struct pace *p, struct machine *m, struct run *r)
{
    struct pace_work streams = streams_of(r->streams);
    for (int first = r->from; first < r->to;) {
        double limit = pace_limit(p), aim = pace_aim(p, &streams, limit);
        int rows = rows_for(p, &streams, first, aim);
        struct pace_work w = with_rows(streams, first, rows);
        double seconds = took(m, &w);
        pace_learn(p, &w, aim, seconds);
        first += rows;
        if (r->settle-- > 0) continue;
        r->steps++;
        r->over += seconds > limit;
        r->seconds += seconds;
    }
}

Test(pace, knows_nothing_to_begin_with)
{
    struct pace p = {0};
    struct pace_work one = streams_of(1);
    cr_expect_eq(pace_step(&p, &one), 0);
    cr_expect_eq(pace_limit(&p), 0);
    pace_learn(&p, &one, 0, 0.020);
    cr_expect_float_eq(pace_step(&p, &one), 0.020, 1e-9);
}

Test(pace, the_bound_is_four_times_one_stream)
{
    struct pace p = {0};
    struct machine m = usual;
    wake(&p, &m);
    cr_expect_float_eq(pace_limit(&p), 4 * (m.step + m.row + m.output), 0.001);
    p.limit = 0.123;
    cr_expect_eq(pace_limit(&p), 0.123);
}

Test(pace, the_bound_is_not_that_of_cold_or_disturbed_steps)
{
    struct pace p = {0};
    struct machine cold = usual, m = usual;
    cold.slower = 10;
    one_stream(&p, &cold);
    double one = one_stream(&p, &m);
    for (int i = 0; i < 60; i++) one_stream(&p, &m);
    cr_expect_float_eq(pace_limit(&p), 4 * one, 0.4 * one, "%f", pace_limit(&p));
    double before = pace_limit(&p);
    m.outlier = 10;
    for (int i = 0; i < 100; i++) one_stream(&p, &m);
    cr_expect_float_eq(pace_limit(&p), before, 0.05 * before, "%f", pace_limit(&p));
}

Test(pace, the_bound_follows_a_machine_that_stays_slower)
{
    struct pace p = {0};
    struct machine m = usual;
    wake(&p, &m);
    double before = pace_limit(&p);
    m.slower = 2;
    for (int i = 0; i < 100; i++) one_stream(&p, &m);
    cr_expect_leq(pace_limit(&p), 1.1 * before, "not for a moment's sake");
    for (int i = 0; i < 10000; i++) one_stream(&p, &m);
    cr_expect_float_eq(pace_limit(&p), 2 * before, 0.1 * before);
}

Test(pace, the_bound_does_not_grow_with_the_context)
{
    struct pace p = {0};
    struct machine m = usual;
    wake(&p, &m);
    double before = pace_limit(&p);
    for (int i = 0; i < 40; i++) {
        struct pace_work one = {.rows = 1, .outputs = 1, .tokens = 10000};
        pace_learn(&p, &one, 0, took(&m, &one));
    }
    cr_expect_float_eq(pace_limit(&p), before, 0.1 * before);
}

/* Every row of it takes up to seven times as long as the first. */
Test(pace, keeps_to_the_bound_through_a_long_prompt)
{
    struct pace p = {0};
    struct machine m = usual;
    struct run r = {.streams = 4, .to = 16000, .settle = 10};
    wake(&p, &m);
    read_prompt(&p, &m, &r);
    cr_expect_eq(r.over, 0, "%d of %d", r.over, r.steps);
    cr_expect_geq(r.seconds / r.steps, 0.85 * pace_limit(&p), "and uses what it allows: %f", r.seconds / r.steps);
}

Test(pace, keeps_to_the_bound_where_steps_vary)
{
    struct pace p = {0};
    struct machine m = usual;
    struct run r = {.streams = 4, .to = 16000, .settle = 20};
    wake(&p, &m);
    m.noise = 0.15;
    m.outlier = 300;
    read_prompt(&p, &m, &r);
    cr_expect_leq(r.over, r.steps / 100, "%d of %d", r.over, r.steps);
    cr_expect_geq(r.over, r.steps / 300, "outliers are no reason to go slowly");
    cr_expect_geq(r.seconds / r.steps, 0.80 * pace_limit(&p), "%f", r.seconds / r.steps);
}

Test(pace, leaves_less_room_where_steps_vary)
{
    double rate[2];
    for (int i = 0; i < 2; i++) {
        struct pace p = {.limit = 0.080};
        struct machine m = usual;
        struct run r = {.streams = 4, .to = 16000, .settle = 10};
        m.noise = 0.2 * i;
        wake(&p, &m);
        read_prompt(&p, &m, &r);
        rate[i] = r.seconds / r.steps;
    }
    cr_expect_lt(rate[1], 0.95 * rate[0]);
}

Test(pace, follows_a_machine_that_becomes_slower_and_faster_again)
{
    struct pace p = {.limit = 0.150};
    struct machine m = usual;
    struct run r = {.streams = 4, .to = 4000, .settle = 10};
    m.noise = 0.02;
    wake(&p, &m);
    read_prompt(&p, &m, &r);
    double fast = 4000 / r.seconds;
    m.slower = 2;
    r = (struct run){.streams = 4, .from = 4000, .to = 8000, .settle = 8};
    read_prompt(&p, &m, &r);
    cr_expect_leq(r.over, r.steps / 100, "%d of %d", r.over, r.steps);
    cr_expect_geq(r.seconds / r.steps, 0.7 * 0.150);
    m.slower = 1;
    r = (struct run){.streams = 4, .to = 4000, .settle = 12};
    read_prompt(&p, &m, &r);
    cr_expect_leq(r.over, r.steps / 100, "%d of %d", r.over, r.steps);
    cr_expect_geq(4000 / r.seconds, 0.8 * fast);
}

/* Streams come in one after the other while prompts are read, so that no step without prefill tells what they take. */
Test(pace, keeps_to_the_bound_with_ever_more_streams)
{
    struct pace p = {0};
    struct machine m = usual;
    wake(&p, &m);
    for (int streams = 2; streams <= 8; streams++) {
        struct run r = {.streams = streams, .to = 300, .settle = streams == 2 ? 5 : 0};
        read_prompt(&p, &m, &r);
        cr_expect_eq(r.over, 0, "%d streams: %d of %d", streams, r.over, r.steps);
        cr_expect_geq(r.seconds / r.steps, 0.7 * pace_limit(&p));
    }
}

Test(pace, tells_rows_of_prompts_from_those_whose_logits_are_wanted)
{
    struct pace p = {0};
    struct machine m = usual;
    m.output = 0.004;
    wake(&p, &m);
    for (int i = 0; i < 60; i++) {
        struct pace_work drafts = {.rows = 4 + i % 20, .outputs = 4 + i % 20, .tokens = 400};
        pace_learn(&p, &drafts, 0, took(&m, &drafts));
    }
    struct run r = {.streams = 4, .to = 2000};
    read_prompt(&p, &m, &r);
    cr_expect_leq(r.over, 1);
    cr_expect_geq(r.seconds / r.steps, 0.8 * pace_limit(&p));
}

Test(pace, prefill_goes_on_where_no_bound_can_be_kept)
{
    struct pace p = {.limit = 0.001};
    struct machine m = usual;
    struct pace_work streams = streams_of(4);
    wake(&p, &m);
    double room = pace_aim(&p, &streams, pace_limit(&p)) - pace_step(&p, &streams);
    cr_expect_gt(room, 0.1 * pace_step(&p, &streams));
    cr_expect_lt(room, 0.75 * pace_step(&p, &streams));
}

/* Nothing but what steps of one kind take is known for long: the others' prices stay what they were. */
Test(pace, forgets_nothing_while_one_stream_runs_for_hours)
{
    struct pace p = {0};
    struct machine m = usual;
    struct pace_work prompt = with_rows(streams_of(4), 3000, 20);
    m.noise = 0.1;
    wake(&p, &m);
    for (int i = 0; i < 100000; i++) one_stream(&p, &m);
    double seconds = took(&(struct machine){usual.step, usual.row, usual.output, usual.token, .random = 0}, &prompt);
    cr_expect_float_eq(pace_step(&p, &prompt), seconds, 0.35 * seconds, "%f, not %f", pace_step(&p, &prompt), seconds);
}
