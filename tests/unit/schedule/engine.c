/* The engine as a whole, on a tiny model and the reference device. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../../engine/log.h"
#include "../../support/answers.h"
#include "../../support/tiny_model.h"

#define PATIENCE 60.0
#ifndef STEPS_IN_FLIGHT
#define STEPS_IN_FLIGHT 1
#endif

static char path[64];
static struct engine *engine;
static struct model *model;
static struct err err;
static int32_t prompt[300];

static void open_with(struct engine_options options, int context)
{
    options.device = "reference";
    options.threads = 1;
    if (options.in_flight == 0) options.in_flight = STEPS_IN_FLIGHT;
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
    struct model_options load = {.name = "tiny", .context = context};
    cr_assert_eq(engine_load(engine, path, &load, &model, &err), 0, "%s", err.text);
}

static void setup(void)
{
    log_set_level(LOG_WARNING);
    snprintf(path, sizeof path, "/tmp/hearth-engine-%d.gguf", (int)getpid());
    struct tiny_model_options tiny = {.seed = 3};
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
    for (int i = 0; i < 300; i++) prompt[i] = (i * 37 + 11) % 250;
}

static void teardown(void)
{
    engine_close(engine);
    unlink(path);
}

TestSuite(engine, .init = setup, .fini = teardown, .timeout = 120);

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Ignores ends, so that lengths are certain; samples, so that texts differ. */
static struct engine_request lively(int first, int n, int max_tokens, uint64_t seed)
{
    struct engine_request q = answer_request(model, prompt + first, (size_t)n, max_tokens);
    q.ignore_eos = true;
    q.sampling.temperature = 1;
    q.sampling.seed = seed;
    return q;
}

static struct answer *ask(struct engine_request q)
{
    struct answer *a = answer_create();
    answer_submit(a, engine, q);
    return a;
}

static struct answer *ask_and_wait(struct engine_request q)
{
    struct answer *a = ask(q);
    cr_assert(answer_wait(a, engine, PATIENCE));
    cr_expect_eq(a->events_after_end, 0);
    return a;
}

static void expect_same(const struct answer_choice *a, const struct answer_choice *b)
{
    cr_expect_eq(a->n_ids, b->n_ids);
    cr_expect_arr_eq(a->ids, b->ids, (size_t)a->n_ids * sizeof *a->ids);
    cr_expect_eq(a->length, b->length);
    cr_expect_arr_eq(a->text, b->text, a->length);
    cr_expect_eq(a->finish, b->finish);
}

Test(engine, answers)
{
    open_with((struct engine_options){0}, 0);
    struct answer *a = ask_and_wait(lively(0, 20, 30, 1));
    cr_expect_eq(a->choice[0].finish, FINISH_LENGTH);
    cr_expect_eq(a->choice[0].n_ids, 30);
    cr_expect_eq(a->end.completion_tokens, 30);
    cr_expect_eq(a->end.prompt_tokens, 20);
    cr_expect(a->end.last);
    cr_expect_geq(a->end.queue_seconds, 0);
    cr_expect_gt(a->end.prefill_seconds, 0);
    cr_expect_gt(a->end.decode_seconds, 0);
    struct engine_status status;
    engine_status(engine, &status);
    cr_expect_eq(status.requests, 1);
    cr_expect_eq(status.prompt_tokens, 20);
    cr_expect_eq(status.completion_tokens, 30);
    free(a);
}

Test(engine, same_bytes_alone_and_among_others)
{
    open_with((struct engine_options){.parallel = 4, .step_tokens = 16}, 0);
    struct answer *alone[6], *among[6];
    for (int i = 0; i < 6; i++) alone[i] = ask_and_wait(lively(i * 7, 10 + i * 9, 25, (uint64_t)i));
    for (int i = 0; i < 6; i++) among[i] = ask(lively(i * 7, 10 + i * 9, 25, (uint64_t)i));
    for (int i = 0; i < 6; i++) {
        cr_assert(answer_wait(among[i], engine, PATIENCE));
        expect_same(&alone[i]->choice[0], &among[i]->choice[0]);
        free(alone[i]);
        free(among[i]);
    }
}

Test(engine, same_bytes_whatever_the_chunks)
{
    open_with((struct engine_options){.parallel = 1, .step_tokens = 512}, 0);
    struct answer *whole = ask_and_wait(lively(0, 200, 20, 5));
    engine_close(engine);
    open_with((struct engine_options){.parallel = 1, .step_tokens = 7}, 0);
    struct answer *chunks = ask_and_wait(lively(0, 200, 20, 5));
    expect_same(&whole->choice[0], &chunks->choice[0]);
    free(whole);
    free(chunks);
}

Test(engine, preemption_loses_and_repeats_nothing)
{
    struct answer *alone[5], *pressed[5];
    open_with((struct engine_options){.parallel = 5}, 0);
    for (int i = 0; i < 5; i++) alone[i] = ask_and_wait(lively(i, 40, 120, (uint64_t)i));
    engine_close(engine);
    open_with((struct engine_options){.parallel = 5, .context = 224}, 160); /* 7 blocks; each needs 5 */
    for (int i = 0; i < 5; i++) pressed[i] = ask(lively(i, 40, 120, (uint64_t)i));
    for (int i = 0; i < 5; i++) {
        cr_assert(answer_wait(pressed[i], engine, PATIENCE));
        expect_same(&alone[i]->choice[0], &pressed[i]->choice[0]);
        free(alone[i]);
        free(pressed[i]);
    }
    struct engine_status status;
    engine_status(engine, &status);
    cr_expect_eq(status.kv_blocks, 7);
}

Test(engine, a_prefix_is_not_computed_twice)
{
    open_with((struct engine_options){.parallel = 2, .context = 1024}, 512);
    struct answer *first = ask_and_wait(lively(0, 200, 40, 7));
    cr_expect_eq(first->end.cached_tokens, 0);
    struct answer *again = ask_and_wait(lively(0, 200, 40, 7));
    cr_expect_eq(again->end.cached_tokens, 192);
    cr_expect_str_eq(again->choice[0].text, first->choice[0].text);

    struct engine_request apart = lively(0, 200, 40, 7);
    apart.cache_salt = "somebody else";
    struct answer *salted = ask_and_wait(apart);
    cr_expect_eq(salted->end.cached_tokens, 0);
    cr_expect_str_eq(salted->choice[0].text, first->choice[0].text);
    apart.cache_salt = NULL;
    apart.no_cache = true;
    struct answer *private = ask_and_wait(apart);
    cr_expect_eq(private->end.cached_tokens, 0);
    cr_expect_str_eq(private->choice[0].text, first->choice[0].text);

    struct engine_request scored = lively(0, 200, 4, 7);
    scored.prompt_logprobs = true;
    struct answer *all = ask_and_wait(scored);
    cr_expect_eq(all->end.cached_tokens, 0);
    free(first);
    free(again);
    free(salted);
    free(private);
    free(all);
}

/* An answer goes on where the conversation did: what was generated is found, too. */
Test(engine, a_conversation_goes_on)
{
    open_with((struct engine_options){.parallel = 2, .context = 1024}, 512);
    struct engine_request q = lively(0, 100, 60, 3);
    q.logprobs = true;
    struct answer *first = ask_and_wait(q);
    int32_t longer[300];
    memcpy(longer, prompt, 100 * sizeof *longer);
    for (int i = 0; i < 60; i++) longer[100 + i] = first->choice[0].ids[i];
    for (int i = 160; i < 170; i++) longer[i] = 9;
    struct engine_request next = lively(0, 170, 20, 4);
    next.prompt = longer;
    struct answer *second = ask_and_wait(next);
    cr_expect_eq(second->end.cached_tokens, 128); /* the 159 computed so far, in whole blocks */
    next.no_cache = true;
    struct answer *fresh = ask_and_wait(next);
    cr_expect_str_eq(second->choice[0].text, fresh->choice[0].text);
    free(first);
    free(second);
    free(fresh);
}

Test(engine, several_choices)
{
    open_with((struct engine_options){.parallel = 3}, 0);
    struct engine_request q = lively(0, 45, 40, 9);
    q.choices = 5; /* more than run at once */
    struct answer *five = ask_and_wait(q);
    q.choices = 0;
    struct answer *one = ask_and_wait(q);
    for (int i = 0; i < 5; i++) {
        cr_expect(five->choice[i].done);
        cr_expect_eq(five->choice[i].n_ids, 40);
    }
    expect_same(&five->choice[0], &one->choice[0]);
    cr_expect(memcmp(five->choice[0].ids, five->choice[1].ids, 40 * sizeof(int32_t)) != 0);
    cr_expect(memcmp(five->choice[3].ids, five->choice[4].ids, 40 * sizeof(int32_t)) != 0);
    free(five);
    free(one);
}

Test(engine, several_choices_under_pressure)
{
    open_with((struct engine_options){.parallel = 5}, 0);
    struct engine_request q = lively(0, 45, 90, 9);
    q.choices = 5;
    struct answer *wide = ask_and_wait(q);
    engine_close(engine);
    open_with((struct engine_options){.parallel = 5, .context = 192}, 160);
    q.model = model;
    struct answer *narrow = ask_and_wait(q);
    for (int i = 0; i < 5; i++) expect_same(&wide->choice[i], &narrow->choice[i]);
    free(wide);
    free(narrow);
}

Test(engine, stop_strings)
{
    open_with((struct engine_options){0}, 0);
    struct answer *all = ask_and_wait(lively(0, 20, 60, 2));
    const char *text = all->choice[0].text;
    size_t at = 0;
    for (size_t i = 4; i + 3 < all->choice[0].length; i++) { /* three ASCII bytes that occur first there */
        if ((text[i] | text[i + 1] | text[i + 2]) & 0x80 || !text[i] || !text[i + 1]) continue;
        at = i;
        break;
    }
    cr_assert_gt(at, 0, "the tiny model's text has no ASCII in it");
    char stop[4] = {text[at], text[at + 1], text[at + 2], 0};
    size_t first = (size_t)(strstr(text, stop) - text);
    struct engine_request q = lively(0, 20, 60, 2);
    q.stop = (const char *[]){"never to be seen", stop};
    q.n_stop = 2;
    struct answer *cut = ask_and_wait(q);
    cr_expect_eq(cut->choice[0].finish, FINISH_STOP);
    cr_expect_eq(cut->choice[0].length, first);
    cr_expect_arr_eq(cut->choice[0].text, text, first);
    free(all);
    free(cut);
}

Test(engine, end_token)
{
    open_with((struct engine_options){0}, 0);
    struct engine_request q = answer_request(model, prompt, 10, 50);
    struct logit_bias bias = {tiny_model_token("<|im_end|>"), 100};
    cr_assert_geq(bias.id, 0);
    q.sampling.bias = &bias;
    q.sampling.n_bias = 1;
    struct answer *a = ask_and_wait(q);
    cr_expect_eq(a->choice[0].finish, FINISH_STOP);
    cr_expect_eq(a->choice[0].completion_tokens, 0);
    cr_expect_eq(a->choice[0].length, 0);
    q.ignore_eos = true;
    struct answer *b = ask_and_wait(q);
    cr_expect_eq(b->choice[0].finish, FINISH_LENGTH);
    cr_expect_eq(b->choice[0].completion_tokens, 50);
    free(a);
    free(b);
}

Test(engine, end_of_the_context)
{
    open_with((struct engine_options){0}, 64);
    struct answer *a = ask_and_wait(lively(0, 60, -1, 1));
    cr_expect_eq(a->choice[0].finish, FINISH_LENGTH);
    cr_expect_eq(a->choice[0].completion_tokens, 4);
    free(a);
}

Test(engine, refusals)
{
    open_with((struct engine_options){.parallel = 1, .queue = 2}, 64);
    uint64_t id;
    struct engine_request q = lively(0, 60, 5, 1);
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_TOO_LONG);
    cr_expect_str_eq(err.text,
                     "This model's maximum context length is 64 tokens. However, you requested 65 tokens "
                     "(60 in the messages, 5 in the completion). Please reduce the length of the messages "
                     "or completion.");
    q = lively(0, 64, -1, 1);
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_TOO_LONG);
    q = lively(0, 300, 0, 1);
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_TOO_LONG);
    q = lively(0, 10, INT32_MAX, 1);
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_TOO_LONG);
    q = lively(0, 0, 5, 1);
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_INVALID);
    q = lively(0, 10, 5, 1);
    q.sampling.temperature = NAN;
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_INVALID);
    q.sampling.temperature = 1;
    q.choices = 1000000000;
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_INVALID);
    q.choices = 1;
    q.prompt = (int32_t[]){1, 1000000, 2};
    q.n_prompt = 3;
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_INVALID);
    struct logit_bias bias = {-1, 0};
    q = lively(0, 10, 5, 1);
    q.sampling.bias = &bias;
    q.sampling.n_bias = 1;
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_INVALID);
}

Test(engine, queue_full)
{
    open_with((struct engine_options){.parallel = 1, .queue = 2}, 0);
    struct answer *a[3];
    uint64_t id;
    for (int i = 0; i < 3; i++) a[i] = ask(lively(0, 200, 200, 1));
    struct engine_request q = lively(0, 10, 5, 1);
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_BUSY);
    engine_cancel(engine, a[1]->id);
    cr_assert(answer_wait(a[1], engine, PATIENCE));
    struct answer *b = ask(q);
    engine_drain(engine);
    cr_expect_eq(engine_submit(engine, &q, &id, &err), ERR_DRAINING);
    cr_assert(answer_wait(b, engine, PATIENCE), "what runs goes on");
    for (int i = 0; i < 3; i++) free(a[i]);
    free(b);
}

Test(engine, log_probabilities_of_prompt_and_output)
{
    open_with((struct engine_options){.parallel = 2, .step_tokens = 64}, 0);
    struct want want[100];
    int32_t ids[2] = {5, 77};
    for (int i = 0; i < 100; i++) want[i] = (struct want){ids, i % 3 == 0 ? 2 : 0};
    struct engine_request q = answer_request(model, prompt, 100, 20);
    q.ignore_eos = q.logprobs = q.prompt_logprobs = true;
    q.n_top = 4;
    q.want = want;
    struct answer *a = ask_and_wait(q);
    cr_assert_eq(a->n_prompt, 100);
    cr_expect_gt(a->n_prompt_events, 1, "prompt rows come in bounded pieces");
    cr_expect(isnan(a->prompt_logprobs[0]));
    for (int i = 0; i < 100; i++) {
        cr_expect_eq(a->prompt_ids[i], prompt[i]);
        cr_expect_geq(a->prompt_top[i][0].logprob, a->prompt_top[i][1].logprob);
        if (i > 0) cr_expect_lt(a->prompt_logprobs[i], 0);
        if (i > 0) cr_expect_leq(a->prompt_logprobs[i], a->prompt_top[i - 1][0].logprob);
        if (i % 3 == 0) cr_expect_lt(a->prompt_want[i][1], 0);
    }
    cr_expect_eq(a->choice[0].n_ids, 20);

    /* Scoring prompt and output together gives the same figures. */
    int32_t both[120];
    memcpy(both, prompt, 100 * sizeof *both);
    memcpy(both + 100, a->choice[0].ids, 20 * sizeof *both);
    q.prompt = both;
    q.n_prompt = 120;
    q.max_tokens = 0;
    q.want = NULL;
    struct answer *b = ask_and_wait(q);
    cr_expect_eq(b->choice[0].finish, FINISH_LENGTH);
    cr_expect_eq(b->choice[0].n_ids, 0);
    cr_assert_eq(b->n_prompt, 120);
    for (int i = 1; i < 100; i++) cr_expect_eq(b->prompt_logprobs[i], a->prompt_logprobs[i]);
    for (int i = 0; i < 20; i++) cr_expect_eq(b->prompt_logprobs[100 + i], a->choice[0].logprobs[i]);
    free(a);
    free(b);
}

Test(engine, nothing_asked_for)
{
    open_with((struct engine_options){0}, 0);
    struct engine_request q = answer_request(model, prompt, 10, 0);
    q.choices = 2;
    struct answer *a = ask_and_wait(q);
    cr_expect(a->choice[0].done && a->choice[1].done);
    cr_expect_eq(a->choice[1].finish, FINISH_LENGTH);
    cr_expect_eq(a->n_text_events, 0);
    free(a);
}

Test(engine, credit)
{
    open_with((struct engine_options){.parallel = 1}, 0);
    struct engine_request q = lively(0, 30, 60, 4);
    struct answer *free_run = ask_and_wait(q);
    q.credit = 5;
    struct answer *slow = ask(q), *other = ask(lively(0, 30, 60, 8));
    cr_assert(answer_wait(other, engine, PATIENCE), "a slow reader holds nobody up, though parallel is 1");
    cr_expect_not(slow->over);
    cr_expect_eq(slow->n_text_events, 5);
    for (int given = 5; !slow->over;) {
        cr_assert_leq(slow->n_text_events, given);
        engine_credit(engine, slow->id, 7);
        given += 7;
        answer_wait(slow, engine, 0.02);
    }
    expect_same(&slow->choice[0], &free_run->choice[0]);
    free(free_run);
    free(slow);
    free(other);
}

Test(engine, cancel_in_each_phase)
{
    open_with((struct engine_options){.parallel = 2, .step_tokens = 8}, 0);
    struct engine_request waiting = lively(0, 100, 50, 1);
    waiting.credit = 1;
    struct answer *a[4] = {ask(lively(0, 20, 480, 1)), ask(waiting), NULL, NULL};
    while (a[0]->n_text_events == 0 || a[1]->n_text_events == 0) answer_wait(a[0], engine, 0.01);
    a[2] = ask(lively(0, 300, 50, 1)); /* takes many steps to prefill */
    a[3] = ask(lively(0, 100, 50, 1)); /* queued behind it */
    engine_cancel(engine, a[3]->id);
    engine_cancel(engine, a[2]->id);
    engine_cancel(engine, a[1]->id);
    engine_cancel(engine, a[0]->id);
    engine_cancel(engine, a[0]->id);
    engine_cancel(engine, 123456);
    int texts[4];
    for (int i = 0; i < 4; i++) texts[i] = a[i]->n_text_events;
    for (int i = 0; i < 4; i++) {
        cr_assert(answer_wait(a[i], engine, PATIENCE));
        cr_expect_eq(a[i]->n_text_events, texts[i], "nothing but the end comes after a cancellation");
        cr_expect_eq(a[i]->end.finish, FINISH_CANCELLED);
        cr_expect_eq(a[i]->end.choice, 0);
        cr_expect_eq(a[i]->events_after_end, 0);
    }
    struct engine_status status;
    struct answer *after = ask_and_wait(lively(0, 10, 5, 1));
    engine_status(engine, &status);
    cr_expect_eq(status.cancelled, 4);
    cr_expect_eq(status.running, 0);
    cr_expect_eq(status.waiting, 0);
    cr_expect_eq(status.kv_blocks_used, 0);
    for (int i = 0; i < 4; i++) free(a[i]);
    free(after);
}

Test(engine, nothing_undelivered_comes_after_a_cancellation)
{
    open_with((struct engine_options){0}, 0);
    struct engine_request q = lively(0, 20, 50, 1);
    q.credit = 3;
    struct answer *paused = ask(q);
    q.credit = 0;
    q.max_tokens = 2;
    struct answer *finished = ask(q);
    struct engine_status status = {0};
    while (status.completion_tokens < 5) engine_status(engine, &status);
    usleep(50000); /* what was made lies in the queue by now */
    engine_cancel(engine, paused->id);
    engine_cancel(engine, finished->id);
    cr_assert(answer_wait(paused, engine, PATIENCE));
    cr_assert(answer_wait(finished, engine, PATIENCE));
    cr_expect_eq(paused->n_text_events, 0);
    cr_expect_eq(finished->n_text_events, 0);
    cr_expect_eq(paused->end.finish, FINISH_CANCELLED);
    cr_expect_eq(finished->end.finish, FINISH_CANCELLED);
    free(paused);
    free(finished);
}

Test(engine, deadlines)
{
    open_with((struct engine_options){.parallel = 1, .step_tokens = 8}, 0);
    struct engine_request q = lively(0, 100, 400, 1);
    q.choices = 8;
    q.deadline = seconds() + 0.02;
    struct answer *running = ask(q), *queued = ask(q);
    q.choices = q.credit = 1;
    q.max_tokens = 4;
    q.n_prompt = 2;
    q.deadline = seconds() + 0.4;
    struct answer *paused = ask(q);
    double began = seconds();
    cr_assert(answer_wait(running, engine, PATIENCE));
    cr_assert(answer_wait(queued, engine, PATIENCE));
    cr_assert(answer_wait(paused, engine, PATIENCE));
    cr_expect_lt(seconds() - began, 5);
    cr_expect_eq(running->end.finish, FINISH_DEADLINE);
    if (!queued->failed) cr_expect_eq(queued->end.finish, FINISH_DEADLINE); /* or foreseen: refused at once */
    cr_expect_eq(paused->end.finish, FINISH_DEADLINE, "what holds it up ends in time");
    cr_expect_eq(queued->end.completion_tokens, 0);
    free(running);
    free(queued);
    free(paused);
}

/* Who waits behind a long answer with a deadline is not refused for the length of it. */
Test(engine, deadlines_ahead_shorten_the_wait)
{
    struct tiny_model_options slow = {.seed = 3, .layers = 8, .width = 256, .ff = 512};
    cr_assert_eq(tiny_model_write(&slow, path, &err), 0, "%s", err.text);
    open_with((struct engine_options){.parallel = 1}, 0);
    free(ask_and_wait(lively(0, 20, 30, 1))); /* so that forecasts are made */
    struct engine_request long_one = lively(0, 10, 480, 1), next = lively(0, 10, 2, 1);
    long_one.choices = 8;
    long_one.deadline = seconds() + 1;
    next.deadline = seconds() + 6;
    struct answer *ahead = ask(long_one), *behind = ask(next);
    cr_assert(answer_wait(ahead, engine, PATIENCE));
    cr_assert(answer_wait(behind, engine, PATIENCE));
    cr_expect_eq(ahead->end.finish, FINISH_DEADLINE);
    cr_expect_not(behind->failed);
    free(ahead);
    free(behind);
}

Test(engine, close_while_running)
{
    open_with((struct engine_options){.parallel = 2, .step_tokens = 8}, 0);
    struct answer *a[5];
    for (int i = 0; i < 5; i++) {
        struct engine_request q = lively(0, 200, 100, 1);
        q.choices = 3;
        q.credit = i;
        a[i] = ask(q);
    }
    answer_wait(a[0], engine, 0.05);
    engine_close(engine);
    engine = NULL;
    for (int i = 0; i < 5; i++) free(a[i]);
}

Test(engine, wait_times_out)
{
    open_with((struct engine_options){0}, 0);
    double began = seconds();
    cr_expect_not(engine_wait(engine, 0.05));
    cr_expect_geq(seconds() - began, 0.05);
}

/* Devices that run beside the host tell seconds alone. */
static void expect_profile(const struct engine_profile *p, double int8_rate)
{
    double sum = 0;
    bool attended = false;
    for (int i = 0; i < p->n; i++) {
        const struct engine_profile_row *row = &p->row[i];
        cr_expect(i == 0 || row->seconds <= row[-1].seconds);
        sum += row->seconds;
        attended |= row->stage && !strcmp(row->stage, "attention") && row->bytes > 0 && row->operations > 0;
        cr_expect(!row->int8 || (int8_rate > 0 && row->bytes > 0 && row->operations > 0));
    }
    cr_expect_gt(p->n, 0);
    cr_expect_leq(p->waiting, sum);
    if (p->n && p->row[0].stage) {
        cr_expect(attended);
        cr_expect(sum <= p->seconds * 1.001 && sum > p->seconds / 20, "%g of %g s", sum, p->seconds);
    }
}

Test(engine, bench)
{
    open_with((struct engine_options){.parallel = 4, .step_tokens = 32}, 0);
    struct engine_bench bench = {.prompt = 80, .generate = 8, .batch = 3, .context = 20, .repetitions = 3};
    struct engine_bench_result r;
    cr_assert_eq(engine_bench_run(engine, model, &bench, &r, &err), 0, "%s", err.text);
    cr_expect_gt(r.prefill_tps, 0);
    cr_expect(r.decode_tps_min <= r.decode_tps && r.decode_tps <= r.decode_tps_max);
    cr_expect_gt(r.weight_bytes, 0);
    cr_expect_gt(r.kv_bytes, 0);
    cr_expect_gt(r.bandwidth, 0);
    bench.profile = true;
    cr_assert_eq(engine_bench_run(engine, model, &bench, &r, &err), 0, "%s", err.text);
    expect_profile(&r.prefill, r.int8_rate);
    expect_profile(&r.decode, r.int8_rate);
    bench.batch = 5;
    cr_expect_eq(engine_bench_run(engine, model, &bench, &r, &err), ERR_INVALID);
    struct answer *a = ask_and_wait(lively(0, 20, 5, 1));
    cr_expect_eq(a->choice[0].n_ids, 5);
    free(a);
}

Test(engine, files_that_are_no_models)
{
    struct engine_options options = {.device = "reference", .threads = 1};
    cr_assert_eq(engine_open(&engine, &options, &err), 0);
    cr_expect_lt(engine_load(engine, "/nonexistent.gguf", NULL, &model, &err), 0);
    cr_expect_lt(engine_load(engine, "/dev/null", NULL, &model, &err), 0);
    struct tiny_model_options tiny = {.without = "blk.1.attn_q.weight"};
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0);
    cr_expect_eq(engine_load(engine, path, NULL, &model, &err), ERR_FORMAT);
    cr_expect(strstr(err.text, "blk.1.attn_q.weight") != NULL, "%s", err.text);
    struct model_options too_long = {.context = 100000};
    tiny.without = NULL;
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0);
    cr_expect_eq(engine_load(engine, path, &too_long, &model, &err), ERR_INVALID);
    cr_expect_eq(engine_load(engine, path, NULL, &model, &err), 0, "%s", err.text);
}

Test(engine, no_such_device)
{
    struct engine_options options = {.device = "abacus"};
    cr_expect_eq(engine_open(&engine, &options, &err), ERR_UNSUPPORTED);
    cr_expect_null(engine);
}

Test(engine, inspect)
{
    json_t *json;
    cr_assert_eq(engine_inspect(path, &json, &err), 0, "%s", err.text);
    cr_expect_eq(json_integer_value(json_object_get(json, "version")), 3);
    json_t *metadata = json_object_get(json, "metadata"), *tensors = json_object_get(json, "tensors");
    cr_expect_str_eq(json_string_value(json_object_get(metadata, "general.architecture")), "qwen2");
    json_t *tokens = json_object_get(metadata, "tokenizer.ggml.tokens");
    cr_expect_eq(json_integer_value(json_object_get(tokens, "length")), 320);
    cr_expect_eq(json_array_size(json_object_get(tokens, "first")), 8);
    cr_expect_gt(json_array_size(tensors), 10);
    json_decref(json);
}

Test(engine, describes_what_is_not_loaded)
{
    open_with((struct engine_options){0}, 0);
    const struct model_info *info = engine_model_info(model);
    json_t *json;
    cr_assert_eq(engine_describe(path, &json, &err), 0, "%s", err.text);
    cr_expect_str_eq(json_string_value(json_object_get(json, "architecture")), info->architecture);
    cr_expect_str_eq(json_string_value(json_object_get(json, "quantization")), info->quantization);
    cr_expect_str_eq(json_string_value(json_object_get(json, "chat_template")), info->chat_template);
    cr_expect_eq(json_integer_value(json_object_get(json, "parameters")), (json_int_t)info->parameters);
    cr_expect_eq(json_is_true(json_object_get(json, "tools")), info->calls != ENGINE_CALLS_NONE);
    cr_expect_eq(json_is_true(json_object_get(json, "thinks")), info->thinks);
    cr_expect_eq(json_is_true(json_object_get(json, "fim")), info->has_fim);
    json_decref(json);
    cr_expect_neq(engine_describe("/nowhere.gguf", &json, &err), 0);
    cr_expect_null(json);
}

static int count_id(const struct ids *ids, int32_t id)
{
    int n = 0;
    for (size_t i = 0; i < ids->n; i++) n += ids->ids[i] == id;
    return n;
}

Test(engine, renders_conversations)
{
    open_with((struct engine_options){0}, 0);
    cr_assert(engine_model_info(model)->has_template);
    json_t *input = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", "hi <|im_start|>");
    struct rendered r;
    cr_assert_eq(engine_render(model, input, &r, &err), 0, "%s", err.text);
    cr_expect_str_eq(r.text, "<|im_start|>user\nhi <|im_start|><|im_end|>\n<|im_start|>assistant\n");
    cr_expect_eq(count_id(&r.ids, tiny_model_token("<|im_start|>")), 2, "what a user types stays text");
    engine_rendered_free(&r);
    json_decref(input);
    input = json_object();
    cr_expect_eq(engine_render(model, input, &r, &err), ERR_INVALID);
    json_decref(input);
}

Test(engine, fills_in_the_middle)
{
    open_with((struct engine_options){0}, 0);
    struct ids ids;
    cr_assert(engine_model_info(model)->has_fim);
    cr_assert_eq(engine_fim(model, &(struct engine_gap){.prefix = "a", .suffix = "<|fim_middle|>"}, &ids, &err), 0, "%s", err.text);
    cr_expect_eq(ids.ids[0], tiny_model_token("<|fim_prefix|>"));
    cr_expect_eq(ids.ids[2], tiny_model_token("<|fim_suffix|>"));
    cr_expect_eq(ids.ids[ids.n - 1], tiny_model_token("<|fim_middle|>"));
    cr_expect_eq(count_id(&ids, tiny_model_token("<|fim_middle|>")), 1);
    free(ids.ids);
}

Test(engine, tokenizes)
{
    open_with((struct engine_options){0}, 0);
    struct ids plain, special;
    const char *text = "x<|im_end|>";
    cr_assert_eq(engine_tokenize(model, text, strlen(text), TOKENIZE_PLAIN, &plain, &err), 0);
    cr_assert_eq(engine_tokenize(model, text, strlen(text), TOKENIZE_SPECIAL | TOKENIZE_BOS, &special, &err), 0);
    cr_expect_gt(plain.n, 2);
    cr_expect_eq(special.n, 2);
    size_t length;
    cr_expect_eq(strncmp(engine_token_bytes(model, special.ids[1], &length), "<|im_end|>", 10), 0);
    cr_expect_eq(length, 10);
    cr_expect_null(engine_token_bytes(model, -1, &length));
    cr_expect_null(engine_token_bytes(model, 100000, &length));
    free(plain.ids);
    free(special.ids);
}
