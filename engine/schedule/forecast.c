/* How long what waits will take, by what the model takes for a row of prefill and for a step of streams, and by
 * how long answers are lately. Good enough to tell people when to come again. */
#include <math.h>

#include "runner_private.h"

#define FIRST_OUTPUT 128 /* tokens of an answer, before any has ended */
#define FRESHNESS 0.1    /* weight of the newest answer's length, and of the newest step */
#define REPORT_SECONDS 1 /* between two reports of places in the queue */
#define ENOUGH 8         /* steps before anybody is refused: what the first ones take says little */
#define HASTE 1.5        /* a deadline is out of reach when even a machine so much faster would miss it */

/* What is to be done from now on, and how many choices it is for. */
struct work {
    double now;
    double prompts, tokens; /* seconds; of answers */
    int choices, requests;
};

void forecast_learn(struct runner *r, int output)
{
    r->output = r->output > 0 ? r->output + FRESHNESS * (output - r->output) : output;
}

void forecast_learn_step(struct runner *r, int streams, double seconds, int tokens)
{
    if (tokens < 1) return;
    double each = seconds * streams / tokens;
    r->token = r->token > 0 ? r->token + FRESHNESS * (each - r->token) : each;
}

/* Tokens that a choice with n_tokens will still give. */
static double output_of(const struct runner *r, const struct request *q, int n_tokens)
{
    double usual = r->output > 0 ? r->output : FIRST_OUTPUT, most = q->limit - n_tokens;
    return most < usual || q->ignore_eos ? most : usual;
}

double forecast_cost(const struct runner *r, const struct request *q)
{
    return q->n_prompt + q->choices * output_of(r, q, q->n_prompt);
}

/* Seconds for tokens first … end of a text. */
static double prefill_seconds(const struct runner *r, double first, double end)
{
    const double *price = r->pace.price;
    return (end - first) * (price[PACE_ROW] + (first + end) / 2 * price[PACE_TOKEN]);
}

static void add(const struct runner *r, const struct request *q, struct work *w)
{
    double prompts = 0, tokens = 0;
    int choices = 0;
    for (int i = 0; i < q->choices; i++) {
        const struct sequence *s = &q->sequence[i];
        if (s->finished) continue;
        choices++;
        if (s->scheduled) prompts += prefill_seconds(r, s->task.n_computed, s->task.n_tokens);
        tokens += output_of(r, q, s->scheduled ? s->n_known : q->n_prompt);
    }
    if (q->deadline > 0) { /* nothing of it is left then */
        double left = fmax(q->deadline - w->now, 0), width = fmin(choices, r->parallel);
        prompts = fmin(prompts, left);
        if (r->token > 0) tokens = fmin(tokens, left / r->token * width);
    }
    w->requests++;
    w->choices += choices;
    w->prompts += prompts;
    w->tokens += tokens;
}

static double seconds(const struct runner *r, const struct work *w)
{
    int width = w->choices < r->parallel ? w->choices : r->parallel;
    return width > 0 ? w->prompts + w->tokens / width * r->token : 0;
}

/* Until one more can begin behind this work: so many choices must have come to their end before. */
static double wait_seconds(const struct runner *r, const struct work *w)
{
    int ends = w->choices + 1 - r->parallel;
    return ends > 0 ? seconds(r, w) * ends / w->choices : 0;
}

static struct work begun(const struct runner *r, double now)
{
    struct work w = {.now = now};
    for (const struct request *q = r->first; q; q = q->next) {
        if (!q->over && q->sequence[0].scheduled && q->sequence[0].task.queued) continue;
        if (!q->over) add(r, q, &w);
    }
    return w;
}

static struct request *next_queued(const struct runner *r, const struct request *q)
{
    const struct task *t = scheduler_queued(r->scheduler, q ? &q->sequence[0].task : NULL);
    return t ? ((const struct sequence *)t)->request : NULL;
}

void forecast_all(const struct runner *r, double now, double *begins, double *ends)
{
    struct work w = begun(r, now);
    for (const struct request *q = NULL; (q = next_queued(r, q));) add(r, q, &w);
    double before = wait_seconds(r, &w), each = w.requests > 0 ? seconds(r, &w) / w.requests : 0;
    if (before > *begins) *begins = before;
    if (each > *ends) *ends = each;
}

bool forecast_misses(const struct runner *r, const struct request *q, double now)
{
    struct work w = begun(r, now);
    const struct task *t = &q->sequence[0].task;
    int idle, found = 0;
    if (r->pace.n_steps < ENOUGH) return false;
    for (const struct request *o = NULL; (o = next_queued(r, o)) && o != q;) add(r, o, &w);
    if (t->finds) found = kv_table_find(&t->kv, r->kv, t->tokens, q->n_prompt - 1, &idle);
    double prompt = prefill_seconds(r, found * BLOCK_TOKENS, q->n_prompt);
    return now + (wait_seconds(r, &w) + prompt) / HASTE > q->deadline;
}

static void report(const struct runner *r, struct request *q, const struct work *ahead, struct event_list *out)
{
    struct engine_top *top;
    float *want;
    struct event *e = event_create(0, 0, 0, 0, &top, &want);
    if (!e) return; /* it is only a courtesy */
    e->event.kind = ENGINE_QUEUED;
    e->event.id = q->id;
    e->event.user = q->user;
    e->event.ahead = q->told_ahead = ahead->requests;
    e->event.queue_seconds = wait_seconds(r, ahead);
    event_list_add(out, e);
}

void runner_report(struct runner *r, double now, struct event_list *out)
{
    if (!next_queued(r, NULL) || now - r->reported < REPORT_SECONDS) return;
    r->reported = now;
    struct work running = begun(r, now), w = running;
    for (struct request *q = NULL; (q = next_queued(r, q)); add(r, q, &w)) {
        struct work ahead = w;
        ahead.requests -= running.requests;
        if (q->tells_place && q->told_ahead != ahead.requests) report(r, q, &ahead, out);
    }
}
