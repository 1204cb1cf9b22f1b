/* Requests with a grammar: whatever else is asked for, every text that ends is one of the grammar's. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../../engine/grammar/grammar.h"
#include "../../../engine/log.h"
#include "../../support/answers.h"
#include "../../support/tiny_model.h"

#define PATIENCE 60.0

static char path[64];
static struct engine *engine;
static struct model *model;
static struct err err;
static int32_t prompt[40];

static void setup(void)
{
    log_set_level(LOG_WARNING);
    snprintf(path, sizeof path, "/tmp/hearth-constrained-%d.gguf", (int)getpid());
    struct tiny_model_options tiny = {.seed = 4};
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
    for (int i = 0; i < 40; i++) prompt[i] = 65 + i * 7 % 11;
}

static void teardown(void)
{
    engine_close(engine);
    engine = NULL;
    unlink(path);
}

TestSuite(constrained, .init = setup, .fini = teardown, .timeout = 120);

static void open_with(struct engine_options options)
{
    engine_close(engine);
    options.device = "reference";
    options.threads = 1;
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
    struct model_options load = {.name = "tiny", .context = 256};
    cr_assert_eq(engine_load(engine, path, &load, &model, &err), 0, "%s", err.text);
}

static struct grammar *grammar_of(const char *spec)
{
    struct grammar *g;
    json_t *parsed = json_loads(spec, 0, NULL);
    cr_assert_not_null(parsed, "%s", spec);
    cr_assert_eq(engine_grammar(model, parsed, &g, &err), 0, "%s", err.text);
    json_decref(parsed);
    return g;
}

static const char *const specs[] = {
    "{\"type\":\"regex\",\"pattern\":\"[a-c]{3,12}-\\\\d{2}\"}",
    "{\"type\":\"choice\",\"choices\":[\"yes\",\"no\",\"nothing\",\"\"]}",
    "{\"type\":\"gbnf\",\"grammar\":\"root ::= \\\"(\\\" root? \\\")\\\" [xy]?\"}",
    ("{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"boolean\"}},"
     "\"required\":[\"a\"],\"additionalProperties\":false},\"strict\":true}"),
};

static struct answer *ask(struct grammar *g, struct engine_request q)
{
    struct answer *a = answer_create();
    q.model = model;
    q.grammar = g;
    answer_submit(a, engine, q);
    return a;
}

/* Ended texts are whole ones, others the beginnings of such. */
static int check(struct answer *a, struct grammar *g, int choices)
{
    int stopped = 0;
    cr_assert(answer_wait(a, engine, PATIENCE));
    cr_assert_not(a->failed, "%s", a->end.err.text);
    for (int c = 0; c < choices; c++) {
        const struct answer_choice *choice = &a->choice[c];
        struct grammar_state *s;
        cr_assert_eq(grammar_state_create(&s, g, &err), 0);
        cr_expect_eq(grammar_state_accept(s, choice->text, choice->length, &err), 0, "\"%s\"", choice->text);
        cr_expect(choice->finish == FINISH_STOP || choice->finish == FINISH_LENGTH);
        if (choice->finish == FINISH_STOP) cr_expect(grammar_state_may_end(s), "\"%s\" is not whole", choice->text);
        if (choice->finish == FINISH_LENGTH) cr_expect_not(grammar_state_is_over(s), "\"%s\" is whole", choice->text);
        stopped += choice->finish == FINISH_STOP;
        grammar_state_destroy(s);
    }
    free(a);
    return stopped;
}

/* Every spec with every kind of sampling, several at a time, so that texts with and without grammars share steps. */
static void run_all(struct engine_options options)
{
    open_with(options);
    int stopped = 0;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct grammar *g = grammar_of(specs[i]);
        struct engine_request q = answer_request(NULL, prompt, 40, 60), greedy = q, plain = q;
        q.sampling.temperature = 1;
        q.sampling.seed = i;
        q.choices = 3;
        struct engine_request top = q, penalised = q, scored = q, unending = q;
        top.sampling.top_k = 2;
        penalised.sampling.repetition_penalty = 1.3;
        penalised.sampling.top_p = 0.8;
        scored.logprobs = true;
        scored.n_top = 3;
        unending.ignore_eos = true;
        struct answer *free_text = ask(NULL, plain);
        struct answer *a[] = {ask(g, greedy), ask(g, q), ask(g, top), ask(g, penalised), ask(g, scored), ask(g, unending)};
        stopped += check(a[0], g, 1);
        for (int j = 1; j < 6; j++) stopped += check(a[j], g, 3);
        cr_assert(answer_wait(free_text, engine, PATIENCE));
        cr_expect_not(free_text->failed);
        free(free_text);
        engine_grammar_release(g);
    }
    cr_expect_geq(stopped, 40, "only %d texts came to an end", stopped);
}

Test(constrained, alone)
{
    run_all((struct engine_options){.parallel = 1, .context = 512, .speculate = SPECULATE_OFF});
}

Test(constrained, together)
{
    run_all((struct engine_options){.parallel = 16, .context = 4096, .speculate = SPECULATE_OFF});
}

Test(constrained, with_drafts)
{
    run_all((struct engine_options){.parallel = 8, .context = 4096, .speculate = SPECULATE_ALWAYS});
}

Test(constrained, queued_ahead)
{
    run_all((struct engine_options){.parallel = 8, .context = 4096, .in_flight = 2});
}

/* Too few blocks for all: sequences are preempted and go on where they were. */
Test(constrained, short_of_room)
{
    run_all((struct engine_options){.parallel = 8, .context = 320, .speculate = SPECULATE_AUTO});
}

/* A text ends as soon as nothing may follow, without an end token, and with its last token at the limit. */
Test(constrained, ends_at_once)
{
    open_with((struct engine_options){.parallel = 2});
    struct grammar *g = grammar_of("{\"type\":\"literal\",\"text\":\"0123456789\"}");
    for (int most = 10; most >= 9; most--) {
        struct answer *a = ask(g, answer_request(NULL, prompt, 40, most));
        cr_assert(answer_wait(a, engine, PATIENCE));
        cr_expect_eq(a->choice[0].finish, most == 10 ? FINISH_STOP : FINISH_LENGTH);
        cr_expect_str_eq(a->choice[0].text, most == 10 ? "0123456789" : "012345678");
        cr_expect_eq(a->choice[0].completion_tokens, most);
        free(a);
    }
    engine_grammar_release(g);
    g = grammar_of("{\"type\":\"literal\",\"text\":\"\"}");
    struct answer *a = ask(g, answer_request(NULL, prompt, 40, 5));
    cr_assert(answer_wait(a, engine, PATIENCE));
    cr_expect_eq(a->choice[0].finish, FINISH_STOP);
    cr_expect_eq(a->choice[0].completion_tokens, 0);
    free(a);
    engine_grammar_release(g);
}

/* Stop strings still count, and log-probabilities are of the model's own distribution. */
Test(constrained, stop_and_logprobs)
{
    open_with((struct engine_options){.parallel = 2});
    struct grammar *g = grammar_of("{\"type\":\"literal\",\"text\":\"abcdef\"}");
    static const char *const stop[] = {"de"};
    struct engine_request q = answer_request(NULL, prompt, 40, 20);
    q.stop = stop;
    q.n_stop = 1;
    q.logprobs = true;
    struct answer *a = ask(g, q);
    cr_assert(answer_wait(a, engine, PATIENCE));
    cr_expect_str_eq(a->choice[0].text, "abc");
    cr_expect_eq(a->choice[0].finish, FINISH_STOP);
    cr_expect_lt(a->choice[0].logprobs[0], -0.5f, "the only token that may come is not certain to the model");
    free(a);
    engine_grammar_release(g);
}
