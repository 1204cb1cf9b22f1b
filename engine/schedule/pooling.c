/* The states of a prompt's tokens, chunk by chunk, become its embedding. They are added in the prompt's order: how it
 * was cut into chunks changes nothing. */
#include <math.h>

#include "runner_private.h"

void pooling_want(struct step_part *p)
{
    switch (p->sequence->request->embed) {
    case ENGINE_POOL_CLS:
        p->states = p->first == 0;
        p->state = 0;
        break;
    case ENGINE_POOL_LAST:
        p->states = p->completes;
        p->state = p->rows - 1;
        break;
    default:
        p->states = p->rows;
        p->state = 0;
        break;
    }
}

static int finish(struct sequence *s, int width, int count, struct event_list *out, struct err *err)
{
    struct request *q = s->request;
    struct engine_top *top;
    float *vector;
    struct event *e = event_create(0, 0, 0, (size_t)width, &top, &vector);
    if (!e) return err_set(err, ERR_NOMEM, "out of memory for an embedding");
    for (int i = 0; i < width; i++) {
        vector[i] = (float)(q->pooled[i] / count);
        if (isfinite(vector[i])) continue;
        engine_event_free(&e->event);
        return err_set(err, ERR_DEVICE, "the model's states are not finite");
    }
    e->event.kind = ENGINE_EMBEDDING;
    e->event.id = q->id;
    e->event.user = q->user;
    e->event.embedding = vector;
    event_list_add(out, e);
    q->first_token = clock_seconds();
    runner_finish(s, FINISH_STOP, out);
    return 0;
}

int pooling_take(struct runner *r, const struct step_part *p, const float *states, struct event_list *out,
                 struct err *err)
{
    struct request *q = p->sequence->request;
    int width = r->facts.hyper->width, first = p->first + p->state;
    for (int i = 0; i < p->states; i++, states += width) {
        if (first + i < q->n_pooled) continue; /* computed again after a preemption */
        REQUIRE(q->embed != ENGINE_POOL_MEAN || first + i == q->n_pooled);
        for (int k = 0; k < width; k++) q->pooled[k] += states[k];
        q->n_pooled = first + i + 1;
    }
    bool whole = q->n_pooled == q->n_prompt || (q->embed == ENGINE_POOL_CLS && q->n_pooled > 0);
    if (!whole) return 0;
    return finish(p->sequence, width, q->embed == ENGINE_POOL_MEAN ? q->n_prompt : 1, out, err);
}
