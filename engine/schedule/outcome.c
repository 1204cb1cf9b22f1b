/* What a step gave, logits or chosen tokens, becomes events. */
#include <math.h>
#include <string.h>

#include "runner_private.h"

static int not_finite(struct err *err)
{
    return err_set(err, ERR_DEVICE, "the model's logits are not finite");
}

/* Log-probabilities of prompt tokens; `logits` are those of positions first … first+rows-1. */
static int score(struct runner *r, struct sequence *s, const float *logits, int first, int rows,
                 struct event_list *out, struct err *err)
{
    struct request *q = s->request;
    int from = q->n_scored > first ? q->n_scored : first, count = first + rows - from;
    if (count <= 0) return 0; /* computed again after a preemption */
    size_t wants = 0, n_top = (size_t)q->n_top;
    for (int i = from; q->want && i < from + count; i++) wants += q->want[i].n;
    struct engine_top *top;
    float *want;
    struct event *e = event_create(0, (size_t)count, (size_t)count * n_top, wants, &top, &want);
    if (!e) return err_set(err, ERR_NOMEM, "out of memory for log-probabilities");
    e->event.kind = ENGINE_PROMPT;
    e->event.id = q->id;
    e->event.user = q->user;
    struct engine_token *token = (struct engine_token *)e->event.tokens;
    for (int i = from; i < from + count; i++, token++, top += n_top) {
        const float *row = logits + (size_t)(i - first) * (size_t)r->facts.hyper->vocab;
        token->id = q->prompt[i];
        token->logprob = q->next_logprob;
        int32_t next = i + 1 < q->n_prompt ? q->prompt[i + 1] : -1;
        q->next_logprob = sampler_logprobs(r->sampler, row, next, top, q->n_top);
        if (isnan(q->next_logprob)) {
            engine_event_free(&e->event);
            return not_finite(err);
        }
        token->n_top = event_tops(top, q->n_top);
        token->top = token->n_top > 0 ? top : NULL;
        if (!q->want || q->want[i].n == 0) continue;
        sampler_want(r->sampler, row, q->want[i].ids, q->want[i].n, want);
        token->want = want;
        want += q->want[i].n;
    }
    q->n_scored = from + count;
    s->task.scored = q->n_scored < q->n_prompt;
    event_list_add(out, e);
    return 0;
}

/* The end of a choice by itself. */
static int stop(struct sequence *s, struct event_list *out, struct err *err)
{
    int rc = sequence_flush(s, out, err);
    if (!rc) runner_finish(s, FINISH_STOP, out);
    return rc;
}

/* The next token of a choice. `logits` is NULL where the device chose it. */
static int take(struct runner *r, struct sequence *s, const float *logits, int32_t id, struct event_list *out,
                struct runner_counts *counts, struct err *err)
{
    struct request *q = s->request;
    const uint64_t *may = NULL;
    int rc;
    if (s->grammar) {
        if (grammar_state_is_over(s->grammar)) return stop(s, out, err);
        rc = grammar_state_mask(s->grammar, &may, err);
        if (rc) return rc;
    }
    if (logits) {
        struct sampler_past past = sequence_past(s);
        id = sampler_choose(r->sampler, logits, may, &q->sampling, &past, s->choice, s->n_known, err);
        if (id < 0) return id;
    }
    if (id < 0 || id >= r->facts.hyper->vocab) return not_finite(err);
    int32_t thought = sequence_think(s, id);
    if (!may || (may[thought / 64] >> thought % 64 & 1)) id = thought;
    if (r->end[id]) return stop(s, out, err);
    float logprob = q->logprobs ? sampler_logprobs(r->sampler, logits, id, r->top, q->n_top) : 0;
    size_t n_bytes = 0;
    const char *bytes = tokenizer_bytes(r->tokenizer, id, &n_bytes);
    enum finish why;
    rc = s->grammar ? grammar_state_accept(s->grammar, bytes ? bytes : "", n_bytes, err) : 0;
    if (rc) return rc;
    rc = sequence_accept(s, id, bytes ? bytes : "", n_bytes, logprob, r->top, out, &why, err);
    if (rc) return rc;
    counts->completion_tokens++;
    bool whole = s->grammar && grammar_state_is_over(s->grammar);
    if (whole && why == FINISH_NONE) return stop(s, out, err);
    if (why != FINISH_NONE) runner_finish(s, whole ? FINISH_STOP : why, out);
    return 0;
}

/* The next token of a choice, and as long as its drafts turn out right those behind them: each row of
 * `logits` is what would have been computed without drafts. */
static int take_drafts(struct runner *r, const struct step_part *part, const float *logits,
                       struct event_list *out, struct runner_counts *counts, struct err *err)
{
    struct sequence *s = part->sequence;
    int right = 0, rc;
    for (;; right++, logits += r->facts.hyper->vocab) {
        int known = s->n_known;
        int32_t draft = right < part->drafts ? s->tokens[known] : -1;
        rc = take(r, s, logits, -1, out, counts, err);
        if (rc || s->n_known == known || s->tokens[known] != draft) break;
        if (s->finished) {
            right++;
            break;
        }
        s->task.n_computed = s->n_known;
        if (!s->request->private) kv_table_publish(&s->task.kv, r->kv, s->tokens, s->n_known);
    }
    speculation_learn(&s->speculation, part->drafts, right);
    counts->drafted_tokens += (uint64_t)part->drafts;
    counts->accepted_tokens += (uint64_t)right;
    return rc;
}

/* The prompt is computed: the other choices share its blocks from here on. */
static int fork_choices(struct runner *r, struct request *q, struct err *err)
{
    struct sequence *leader = &q->sequence[0];
    q->forked = true;
    for (int i = 1; i < q->choices; i++) {
        struct sequence *s = &q->sequence[i];
        int rc = sequence_start(s, r->tokenizer, err);
        if (rc) return rc;
        kv_table_fork(&s->task.kv, &leader->task.kv, r->kv, leader->task.n_computed);
        s->task.n_computed = leader->task.n_computed;
        scheduler_add_behind(r->scheduler, &s->task, &q->sequence[i - 1].task);
        s->scheduled = true;
    }
    return 0;
}

int step_outcome(struct runner *r, const struct step_part *part, const float *logits, int32_t id,
                 struct event_list *out, struct runner_counts *counts, struct err *err)
{
    struct sequence *s = part->sequence;
    struct request *q = s->request;
    int rc = 0;
    if (part->scored) {
        rc = score(r, s, logits, part->first, part->rows, out, err);
        if (rc) return rc;
    }
    /* No token is taken twice, should two steps give it. */
    if (!part->completes || part->first + part->rows - part->drafts != s->n_known) return 0;
    if (q->first_token == 0) q->first_token = clock_seconds();
    if (q->max_tokens == 0) {
        for (int i = 0; i < q->choices; i++) runner_finish(&q->sequence[i], FINISH_LENGTH, out);
        return 0;
    }
    size_t vocab = (size_t)r->facts.hyper->vocab;
    if (part->drafts > 0) return take_drafts(r, part, logits, out, counts, err);
    const float *last = part->chosen ? NULL : logits + (size_t)(part->outputs - 1) * vocab;
    if (q->forked) return take(r, s, last, id, out, counts, err);
    rc = fork_choices(r, q, err);
    for (int i = 0; i < q->choices && !rc; i++) rc = take(r, &q->sequence[i], last, id, out, counts, err);
    return rc;
}
