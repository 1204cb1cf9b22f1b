/* Speculation changes no byte: every kind of request gives the same with drafts and without, alone and among
 * others, with room and without. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../../engine/log.h"
#include "../../support/answers.h"
#include "../../support/tiny_model.h"

#define PATIENCE 60.0
#define SEEDS 4

static char path[64];
static struct engine *engine;
static struct model *model;
static struct err err;
static int32_t prompt[300];
/* Few tokens, so that they often stood in the same order before; which one is next stays open. */
static struct logit_bias few[4] = {{65, 100}, {66, 100}, {67, 100}, {68, 100}};

static void setup(void)
{
    log_set_level(LOG_WARNING);
    snprintf(path, sizeof path, "/tmp/hearth-drafts-%d.gguf", (int)getpid());
    struct tiny_model_options tiny = {.seed = 3};
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
    for (int i = 0; i < 300; i++) prompt[i] = 65 + (i * i / 7 + i % 3) % 4;
}

static void close_engine(void)
{
    engine_close(engine);
    engine = NULL;
}

static void teardown(void)
{
    close_engine();
    unlink(path);
}

TestSuite(drafts, .init = setup, .fini = teardown, .timeout = 120);

static void open_with(enum engine_speculate speculate, struct engine_options options, int context)
{
    options.device = "reference";
    options.threads = 1;
    options.speculate = speculate;
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
    struct model_options load = {.name = "tiny", .context = context};
    cr_assert_eq(engine_load(engine, path, &load, &model, &err), 0, "%s", err.text);
}

static struct engine_request repetitive(int n, int max_tokens, uint64_t seed)
{
    struct engine_request q = answer_request(NULL, prompt, (size_t)n, max_tokens);
    q.sampling.temperature = 1;
    q.sampling.seed = seed;
    q.sampling.bias = few;
    q.sampling.n_bias = 4;
    q.ignore_eos = true;
    return q;
}

static struct answer *ask(struct engine_request q)
{
    struct answer *a = answer_create();
    q.model = model;
    answer_submit(a, engine, q);
    return a;
}

static struct answer *await(struct answer *a)
{
    cr_assert(answer_wait(a, engine, PATIENCE));
    cr_expect_not(a->failed);
    cr_expect_eq(a->events_after_end, 0);
    return a;
}

static struct engine_status status(void)
{
    struct engine_status s;
    engine_status(engine, &s);
    return s;
}

static void expect_same(const struct answer *a, const struct answer *b)
{
    for (int i = 0; i < ANSWER_CHOICES; i++) {
        const struct answer_choice *x = &a->choice[i], *y = &b->choice[i];
        cr_expect_eq(x->done, y->done);
        cr_expect_eq(x->finish, y->finish, "choice %d: finish %d and %d", i, (int)x->finish, (int)y->finish);
        cr_expect_eq(x->completion_tokens, y->completion_tokens);
        cr_assert_eq(x->n_ids, y->n_ids, "choice %d: %d and %d tokens", i, x->n_ids, y->n_ids);
        for (int j = 0; j < x->n_ids; j++) {
            cr_assert_eq(x->ids[j], y->ids[j], "choice %d, token %d: %d and %d", i, j, x->ids[j], y->ids[j]);
        }
        cr_expect_arr_eq(x->logprobs, y->logprobs, (size_t)x->n_ids * sizeof *x->logprobs);
        cr_expect_eq(x->length, y->length);
        cr_expect_arr_eq(x->text, y->text, x->length);
    }
}

/* Runs the requests one by one without speculation, then with it: one by one, and all at once. */
static void expect_no_difference(const struct engine_request *q, int n, struct engine_options options,
                                 int context)
{
    struct answer *without[8], *with[8];
    open_with(SPECULATE_OFF, (struct engine_options){.parallel = 8}, context);
    for (int i = 0; i < n; i++) without[i] = await(ask(q[i]));
    cr_expect_eq(status().drafted_tokens, 0);
    close_engine();
    for (int pass = 0; pass < 2; pass++) {
        open_with(pass ? SPECULATE_AUTO : SPECULATE_ALWAYS, options, context);
        for (int i = 0; i < n; i++) {
            struct answer *alone = await(ask(q[i]));
            expect_same(without[i], alone);
            free(alone);
        }
        for (int i = 0; i < n; i++) with[i] = ask(q[i]);
        for (int i = 0; i < n; i++) {
            expect_same(without[i], await(with[i]));
            free(with[i]);
        }
        struct engine_status s = status();
        cr_expect(pass || s.drafted_tokens > 0);
        cr_expect(options.context == 0 || s.preempted > 0);
        cr_expect_geq(s.drafted_tokens, s.accepted_tokens);
        cr_expect_eq(s.kv_blocks_used, 0);
        close_engine();
    }
    for (int i = 0; i < n; i++) free(without[i]);
}

Test(drafts, are_accepted)
{
    open_with(SPECULATE_ALWAYS, (struct engine_options){0}, 0);
    struct engine_request q = repetitive(60, 200, 1);
    q.sampling.temperature = 0;
    struct answer *a = await(ask(q));
    struct engine_status s = status();
    cr_expect_gt(s.accepted_tokens, 50, "%d of %d", (int)s.accepted_tokens, (int)s.drafted_tokens);
    cr_expect_lt(s.steps, 150, "%d steps for 200 tokens", (int)s.steps);
    free(a);
}

Test(drafts, greedy)
{
    struct engine_request q[3] = {repetitive(40, 200, 1), repetitive(200, 150, 1), repetitive(3, 60, 1)};
    for (int i = 0; i < 3; i++) q[i].sampling.temperature = 0;
    q[1].sampling.n_bias = 0;
    expect_no_difference(q, 3, (struct engine_options){.parallel = 2}, 0);
}

Test(drafts, sampled)
{
    struct engine_request q[SEEDS];
    for (int i = 0; i < SEEDS; i++) q[i] = repetitive(40 + 20 * i, 150, (uint64_t)i);
    expect_no_difference(q, SEEDS, (struct engine_options){.parallel = 3, .step_tokens = 16}, 0);
}

Test(drafts, log_probabilities_and_penalties)
{
    struct engine_request q[SEEDS];
    for (int i = 0; i < SEEDS; i++) {
        q[i] = repetitive(50, 100, (uint64_t)i);
        q[i].logprobs = i != 1;
        q[i].n_top = i;
        q[i].sampling.repetition_penalty = i == 2 ? 1.3 : 1;
        q[i].sampling.frequency_penalty = i > 0 ? 0.4 : 0;
        q[i].sampling.presence_penalty = i == 3 ? -0.7 : 0;
    }
    q[3].prompt_logprobs = true;
    expect_no_difference(q, SEEDS, (struct engine_options){0}, 0);
}

Test(drafts, repetitions_and_windows)
{
    static const char *const breakers[] = {"C"};
    struct engine_request q[SEEDS];
    for (int i = 0; i < SEEDS; i++) {
        q[i] = repetitive(50, 100, (uint64_t)i);
        q[i].sampling.dry_multiplier = i == 3 ? 0 : 0.3;
        q[i].sampling.dry_base = 1.2;
        q[i].sampling.dry_allowed_length = 2;
        q[i].sampling.dry_breakers = breakers;
        q[i].sampling.n_dry_breakers = i == 1;
        q[i].sampling.dry_window = i * 20;
        q[i].sampling.xtc_probability = i >= 2 ? 0.5 : 0;
        q[i].sampling.xtc_threshold = 0.2;
        q[i].sampling.frequency_penalty = 0.2;
        q[i].sampling.repetition_penalty = 1.1;
        q[i].sampling.penalty_window = i * 30;
    }
    q[2].choices = 2;
    expect_no_difference(q, SEEDS, (struct engine_options){0}, 0);
}

Test(drafts, every_length)
{
    struct engine_request q[8];
    for (int first = 1; first < 17; first += 8) {
        for (int i = 0; i < 8; i++) q[i] = repetitive(64, first + i, 5);
        expect_no_difference(q, 8, (struct engine_options){.parallel = 8}, 0);
    }
    for (int i = 0; i < 8; i++) q[i] = repetitive(56 + i, -1, 5);
    expect_no_difference(q, 8, (struct engine_options){.parallel = 8}, 96);
}

Test(drafts, stop_strings)
{
    char stop[6][4];
    const char *pointer[6];
    struct engine_request q[6];
    open_with(SPECULATE_OFF, (struct engine_options){0}, 0);
    struct answer *all = await(ask(repetitive(60, 200, 2)));
    cr_assert_gt(all->choice[0].length, 100);
    for (int i = 0; i < 6; i++) {
        memcpy(stop[i], all->choice[0].text + 10 + 13 * i, 3);
        stop[i][3] = 0;
        pointer[i] = stop[i];
        q[i] = repetitive(60, 200, 2);
        q[i].stop = &pointer[i];
        q[i].n_stop = 1;
    }
    free(all);
    close_engine();
    expect_no_difference(q, 6, (struct engine_options){.parallel = 3}, 0);
}

Test(drafts, end_tokens)
{
    struct logit_bias ends[5];
    struct engine_request q[SEEDS];
    memcpy(ends, few, sizeof few);
    ends[4] = (struct logit_bias){tiny_model_token("<|im_end|>"), 98};
    for (int i = 20; i < 300; i += 20) prompt[i] = ends[4].id;
    for (int i = 0; i < SEEDS; i++) {
        q[i] = repetitive(100, 200, (uint64_t)i);
        q[i].sampling.bias = ends;
        q[i].sampling.n_bias = 5;
        q[i].ignore_eos = i == 3;
    }
    expect_no_difference(q, SEEDS, (struct engine_options){.parallel = 4}, 0);
}

Test(drafts, several_choices)
{
    struct engine_request q[2] = {repetitive(45, 90, 1), repetitive(70, 60, 2)};
    q[0].choices = 5;
    q[1].choices = 2;
    expect_no_difference(q, 2, (struct engine_options){.parallel = 4}, 0);
}

/* 7 blocks; each needs 5. */
Test(drafts, under_pressure)
{
    struct engine_request q[5];
    for (int i = 0; i < 5; i++) q[i] = repetitive(40, 120, (uint64_t)i);
    q[4].choices = 2;
    expect_no_difference(q, 5, (struct engine_options){.parallel = 5, .context = 224}, 160);
}

/* Rows of drafts that were wrong are in no block that others find. */
Test(drafts, leave_the_prefix_cache_right)
{
    struct engine_request q = repetitive(100, 150, 3);
    open_with(SPECULATE_ALWAYS, (struct engine_options){0}, 0);
    struct answer *first = await(ask(q));
    cr_expect_gt(status().drafted_tokens, status().accepted_tokens);
    int32_t both[250];
    memcpy(both, prompt, 100 * sizeof *both);
    memcpy(both + 100, first->choice[0].ids, 150 * sizeof *both);
    q.prompt = both;
    q.logprobs = true;
    for (int n = 120; n <= 250; n += 26) {
        q.n_prompt = (size_t)n;
        q.max_tokens = 20;
        q.no_cache = false;
        struct answer *found = await(ask(q));
        cr_expect_geq(found->end.cached_tokens, (n - 1) / 32 * 32);
        q.no_cache = true;
        struct answer *computed = await(ask(q));
        cr_expect_eq(computed->end.cached_tokens, 0);
        expect_same(found, computed);
        free(found);
        free(computed);
    }
    free(first);
}

/* A reader gets no more than it asked for, whatever turned out right. */
Test(drafts, keep_to_the_credit)
{
    struct engine_request q = repetitive(60, 120, 4);
    q.choices = 2;
    open_with(SPECULATE_ALWAYS, (struct engine_options){0}, 0);
    struct answer *whole = await(ask(q));
    q.credit = 9;
    struct answer *slow = ask(q);
    for (int given = 9; !slow->over; given += 5) {
        for (int i = 0; i < 5; i++) answer_wait(slow, engine, 0.004);
        cr_assert_leq(slow->n_text_events, given);
        engine_credit(engine, slow->id, 5);
    }
    expect_same(whole, slow);
    cr_expect_gt(status().accepted_tokens, 0);
    free(whole);
    free(slow);
}

Test(drafts, cancelled_in_the_middle)
{
    open_with(SPECULATE_ALWAYS, (struct engine_options){.parallel = 3}, 0);
    struct answer *other = ask(repetitive(60, 300, 8)), *a[6];
    for (int i = 0; i < 6; i++) {
        a[i] = ask(repetitive(60, 400, (uint64_t)i));
        while (a[i]->n_text_events < 3 * i) answer_wait(a[i], engine, 0.001);
        engine_cancel(engine, a[i]->id);
        cr_assert(answer_wait(a[i], engine, PATIENCE));
        cr_expect_eq(a[i]->end.finish, FINISH_CANCELLED);
        free(a[i]);
    }
    await(other);
    cr_expect_eq(status().kv_blocks_used, 0);
    free(other);
}
