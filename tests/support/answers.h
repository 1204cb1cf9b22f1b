/* Runs requests on an engine without a loop and keeps what comes back. Needs no test library: the
 * race programs use it too. Out of memory aborts. */
#ifndef HEARTH_ANSWERS_H
#define HEARTH_ANSWERS_H

#include "../../engine/engine.h"

#define ANSWER_CHOICES 8
#define ANSWER_PROMPT 512
#define ANSWER_WIDTH 64 /* of the models whose embeddings are asked for */

struct answer_choice {
    char text[16384];
    size_t length;
    int32_t ids[2048];
    float logprobs[2048];
    int n_ids;
    bool done;
    enum finish finish;
    int completion_tokens;
};

struct answer { /* pass as `user` of the request */
    uint64_t id;
    struct answer_choice choice[ANSWER_CHOICES];
    int32_t prompt_ids[ANSWER_PROMPT];
    float prompt_logprobs[ANSWER_PROMPT];
    struct engine_top prompt_top[ANSWER_PROMPT][4];
    float prompt_want[ANSWER_PROMPT][2]; /* where two ids are asked for */
    int n_prompt, n_prompt_events;
    int n_text_events;
    bool over, failed;
    int events_after_end; /* must stay 0 */
    float embedding[ANSWER_WIDTH];
    int n_embeddings;
    struct engine_event end; /* what ended it; its pointers are void */
    bool explained;
    struct engine_explain explain;
};

struct answer *answer_create(void);
/* Sends a request with sensible values where it has none; aborts when it is refused. */
void answer_submit(struct answer *, struct engine *, struct engine_request);
/* Takes in all events that are there. */
void answers_poll(struct engine *);
/* Waits until the answer is over; false after `seconds`. */
bool answer_wait(struct answer *, struct engine *, double seconds);

/* A request over a model with sampling off. */
struct engine_request answer_request(struct model *, const int32_t *prompt, size_t n_prompt, int max_tokens);

#endif
