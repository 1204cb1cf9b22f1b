/* Keeping what engine_poll gives. */
#include "answers.h"

#include <string.h>
#include <time.h>

struct answer *answer_create(void)
{
    struct answer *a = calloc(1, sizeof *a);
    REQUIRE(a);
    return a;
}

struct engine_request answer_request(struct model *model, const int32_t *prompt, size_t n_prompt,
                                     int max_tokens)
{
    return (struct engine_request){
        .model = model,
        .prompt = prompt,
        .n_prompt = n_prompt,
        .max_tokens = max_tokens,
        .sampling = {.top_p = 1, .repetition_penalty = 1},
    };
}

void answer_submit(struct answer *a, struct engine *engine, struct engine_request request)
{
    struct err err = {0};
    request.user = a;
    if (engine_submit(engine, &request, &a->id, &err)) {
        fprintf(stderr, "refused: %s\n", err.text);
        abort();
    }
}

static void take_prompt(struct answer *a, const struct engine_event *event)
{
    a->n_prompt_events++;
    for (size_t i = 0; i < event->n_tokens; i++) {
        const struct engine_token *t = &event->tokens[i];
        REQUIRE(a->n_prompt < ANSWER_PROMPT);
        a->prompt_ids[a->n_prompt] = t->id;
        a->prompt_logprobs[a->n_prompt] = t->logprob;
        for (int j = 0; j < t->n_top && j < 4; j++) a->prompt_top[a->n_prompt][j] = t->top[j];
        for (int j = 0; t->want && j < 2; j++) a->prompt_want[a->n_prompt][j] = t->want[j];
        a->n_prompt++;
    }
}

static void take_text(struct answer *a, const struct engine_event *event)
{
    struct answer_choice *c = &a->choice[event->choice];
    a->n_text_events++;
    REQUIRE(!c->done && c->length + event->length < sizeof c->text);
    REQUIRE(event->text[event->length] == 0);
    memcpy(c->text + c->length, event->text, event->length);
    c->length += event->length;
    for (size_t i = 0; i < event->n_tokens; i++) {
        REQUIRE(c->n_ids < 2048);
        c->ids[c->n_ids] = event->tokens[i].id;
        c->logprobs[c->n_ids++] = event->tokens[i].logprob;
    }
}

void answers_poll(struct engine *engine)
{
    for (struct engine_event *event; (event = engine_poll(engine));) {
        struct answer *a = event->user;
        a->events_after_end += a->over;
        if (event->kind == ENGINE_PROMPT) take_prompt(a, event);
        if (event->kind == ENGINE_TEXT) take_text(a, event);
        if (event->kind == ENGINE_EMBEDDING) {
            memcpy(a->embedding, event->embedding, sizeof a->embedding);
            a->n_embeddings++;
        }
        if (event->kind == ENGINE_DONE) {
            struct answer_choice *c = &a->choice[event->choice];
            c->done = true;
            c->finish = event->finish;
            c->completion_tokens = event->completion_tokens;
        }
        if (event->kind == ENGINE_FAILED || event->last) {
            a->over = true;
            a->failed = event->kind == ENGINE_FAILED;
            a->end = *event;
            a->explained = event->explain != NULL;
            if (event->explain) a->explain = *event->explain;
        }
        engine_event_free(event);
    }
}

bool answer_wait(struct answer *a, struct engine *engine, double seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double until = (double)now.tv_sec + (double)now.tv_nsec * 1e-9 + seconds;
    for (;;) {
        answers_poll(engine);
        if (a->over) return true;
        clock_gettime(CLOCK_MONOTONIC, &now);
        double left = until - ((double)now.tv_sec + (double)now.tv_nsec * 1e-9);
        if (left <= 0) return false;
        engine_wait(engine, left);
    }
}
