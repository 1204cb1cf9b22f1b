/* One choice being generated: tokens in, text events out. */
#include "sequence.h"

#include <string.h>

#include "../text/tokenizer.h"
#include "explain.h"

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory for a sequence");
}

static bool penalised(const struct sampling *p)
{
    return p->repetition_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

/* One more token is the newest of n. */
static int count(struct sequence *s, int32_t id, int n, struct err *err)
{
    const struct request *r = s->request;
    int window = r->sampling.penalty_window, gone = n - 1 - window;
    if (!s->counts) return 0;
    if (window > 0 && gone >= 0) token_counts_remove(s->counts, s->tokens[gone], gone < r->n_prompt);
    return token_counts_add(s->counts, id, n <= r->n_prompt, err);
}

int sequence_start(struct sequence *s, const struct tokenizer *tokenizer, struct err *err)
{
    const struct request *r = s->request;
    int room = r->limit - r->n_prompt;
    s->capacity = r->n_prompt + (room < 256 ? room : 256);
    s->tokens = malloc((size_t)s->capacity * sizeof *s->tokens);
    if (!s->tokens) return nomem(err);
    memcpy(s->tokens, r->prompt, (size_t)r->n_prompt * sizeof *s->tokens);
    s->task.tokens = s->tokens;
    s->task.finds = !r->private && !r->prompt_logprobs;
    s->task.n_tokens = s->n_known = r->n_prompt;
    int rc = r->grammar ? grammar_state_create(&s->grammar, r->grammar, err) : 0;
    if (!rc && penalised(&r->sampling)) rc = token_counts_create(&s->counts, err);
    for (int i = 0; !rc && i < r->n_prompt; i++) rc = count(s, r->prompt[i], i + 1, err);
    for (int i = 0; r->breakers && i < r->n_prompt; i++) {
        size_t length = 0;
        const char *bytes = tokenizer_bytes(tokenizer, r->prompt[i], &length);
        dry_advance(&s->dry, r->breakers, bytes, bytes ? length : 0);
    }
    return rc;
}

struct sampler_past sequence_past(const struct sequence *s)
{
    return (struct sampler_past){
        .counts = s->counts, .tokens = s->tokens, .n = s->n_known, .unbroken = s->dry.unbroken};
}

static int add_token(struct sequence *s, int32_t id, struct err *err)
{
    if (s->n_known + 2 + SPECULATE_MOST > s->capacity && s->capacity < s->request->limit) {
        int limit = s->request->limit, capacity = s->capacity < limit / 2 ? s->capacity * 2 : limit;
        int32_t *tokens = realloc(s->tokens, (size_t)capacity * sizeof *tokens);
        if (!tokens) return nomem(err);
        s->task.tokens = s->tokens = tokens;
        s->capacity = capacity;
    }
    s->tokens[s->n_known++] = id;
    if (s->task.n_tokens < s->n_known) s->task.n_tokens = s->n_known;
    s->n_output++;
    return count(s, id, s->n_known, err);
}

static int hold(struct sequence *s, int32_t id, float logprob, const struct engine_top *top, struct err *err)
{
    size_t n_top = s->request->logprobs ? (size_t)s->request->n_top : 0;
    if (s->n_held == s->held_capacity) {
        size_t capacity = s->held_capacity ? (size_t)s->held_capacity * 2 : 8;
        struct held_token *held = realloc(s->held, capacity * sizeof *held);
        if (!held) return nomem(err);
        s->held = held;
        if (n_top > 0) {
            struct engine_top *tops = realloc(s->held_top, capacity * n_top * sizeof *tops);
            if (!tops) return nomem(err);
            s->held_top = tops;
        }
        s->held_capacity = (int)capacity;
    }
    s->held[s->n_held] = (struct held_token){id, logprob};
    if (n_top > 0) memcpy(s->held_top + (size_t)s->n_held * n_top, top, n_top * sizeof *top);
    s->n_held++;
    return 0;
}

static int keep_text(struct sequence *s, const char *text, size_t length, struct err *err)
{
    if (length > s->text_capacity - s->text_length) {
        size_t capacity = (s->text_length + length) * 2 + 64;
        char *grown = realloc(s->text, capacity);
        if (!grown) return nomem(err);
        s->text = grown;
        s->text_capacity = capacity;
    }
    if (length > 0) memcpy(s->text + s->text_length, text, length);
    s->text_length += length;
    return 0;
}

/* Makes an event of the text kept and the first `released` of the held tokens. */
static int emit(struct sequence *s, size_t released, struct event_list *out, struct err *err)
{
    if (s->text_length == 0 && released == 0) return 0;
    struct request *r = s->request;
    size_t n_top = r->logprobs ? (size_t)r->n_top : 0;
    struct engine_top *top;
    float *want;
    struct event *e = event_create(s->text_length, released, released * n_top, 0, &top, &want);
    if (!e) return nomem(err);
    struct engine_token *token = (struct engine_token *)e->event.tokens;
    for (size_t i = 0; i < released; i++) {
        token[i].id = s->held[i].id;
        token[i].logprob = s->held[i].logprob;
        if (n_top == 0) continue;
        memcpy(top + i * n_top, s->held_top + i * n_top, n_top * sizeof *top);
        token[i].top = top + i * n_top;
        token[i].n_top = event_tops(token[i].top, (int)n_top);
    }
    if (s->text_length > 0) memcpy((char *)e->event.text, s->text, s->text_length);
    e->event.kind = ENGINE_TEXT;
    e->event.id = r->id;
    e->event.user = r->user;
    e->event.choice = s->choice;
    event_list_add(out, e);

    size_t left = (size_t)s->n_held - released;
    if (released > 0 && left > 0) {
        memmove(s->held, s->held + released, left * sizeof *s->held);
        if (n_top > 0) memmove(s->held_top, s->held_top + released * n_top, left * n_top * sizeof *top);
    }
    s->n_held = (int)left;
    s->text_length = 0;
    if (r->bounded) r->credit--;
    return 0;
}

int sequence_accept(struct sequence *s, int32_t id, const char *bytes, size_t n_bytes, float logprob,
                    const struct engine_top *top, struct event_list *out, enum finish *finish,
                    struct err *err)
{
    const char *text;
    size_t length, released, more = 0;
    *finish = FINISH_NONE;
    int rc = add_token(s, id, err);
    if (rc) return rc;
    if (s->request->breakers) dry_advance(&s->dry, s->request->breakers, bytes, n_bytes);
    rc = hold(s, id, logprob, top, err);
    if (rc) return rc;
    int stopped = text_stream_push(s->stream, bytes, n_bytes, &text, &length, &released, err);
    if (stopped < 0) return stopped;
    rc = keep_text(s, text, length, err);
    if (rc) return rc;
    if (stopped) {
        *finish = FINISH_STOP;
    } else if (s->n_known >= s->request->limit) {
        *finish = FINISH_LENGTH;
        rc = text_stream_flush(s->stream, &text, &length, &more, err);
        if (rc) return rc;
        rc = keep_text(s, text, length, err);
        if (rc) return rc;
    }
    return emit(s, released + more, out, err);
}

int32_t sequence_think(struct sequence *s, int32_t id)
{
    const struct engine_thinking *t = &s->request->thinking;
    if (t->n_end == 0 || s->thought) return id;
    bool none = s->n_output == 0 && t->open >= 0 && id != t->open;
    if (s->n_end == 0 && (none || id == t->close)) {
        s->thought = true;
    } else if (s->n_end > 0 || s->n_output >= t->budget) {
        id = t->end[s->n_end++];
        s->thought = s->n_end == t->n_end;
    }
    return id;
}

int sequence_flush(struct sequence *s, struct event_list *out, struct err *err)
{
    const char *text;
    size_t length, released;
    int rc = text_stream_flush(s->stream, &text, &length, &released, err);
    if (rc) return rc;
    rc = keep_text(s, text, length, err);
    return rc ? rc : emit(s, released, out, err);
}

static struct event *farewell(struct request *r, int choice, double now)
{
    struct event *e = event_list_take(&r->farewell);
    REQUIRE(e);
    struct engine_event *event = &e->event;
    double admitted = r->admitted > 0 ? r->admitted : now, first = r->first_token > 0 ? r->first_token : now;
    event->kind = ENGINE_DONE;
    event->id = r->id;
    event->user = r->user;
    event->choice = choice;
    event->stop = text_stream_stop(r->sequence[choice].stream);
    event->prompt_tokens = r->n_prompt;
    event->cached_tokens = r->sequence[0].task.n_found < r->n_prompt ? r->sequence[0].task.n_found : r->n_prompt;
    event->completion_tokens = r->sequence[choice].n_output;
    event->queue_seconds = admitted - r->submitted;
    event->prefill_seconds = first - admitted;
    event->decode_seconds = now - first;
    if (r->explains) {
        e->explain = r->explain;
        explain_finish(&e->explain, r->prompt, r->n_prompt, event->cached_tokens);
        event->explain = &e->explain;
    }
    return e;
}

static void deliver(const struct request *r, struct event *e, struct event_list *out)
{
    if (r->warm) {
        engine_event_free(&e->event);
    } else {
        event_list_add(out, e);
    }
}

void sequence_finish(struct sequence *s, enum finish finish, double now, struct event_list *out)
{
    struct request *r = s->request;
    REQUIRE(!s->finished && !r->over);
    s->finished = true;
    speculation_dispose(&s->speculation);
    struct event *e = farewell(r, s->choice, now);
    e->event.finish = finish;
    e->event.last = r->over = ++r->n_finished == r->choices;
    deliver(r, e, out);
}

void request_end(struct request *r, const struct err *failure, double now, struct event_list *out)
{
    REQUIRE(!r->over);
    r->over = true;
    struct event *e = farewell(r, 0, now);
    e->event.last = true;
    if (failure) {
        e->event.kind = ENGINE_FAILED;
        e->event.err = *failure;
    } else {
        e->event.finish = FINISH_CANCELLED;
    }
    deliver(r, e, out);
}
