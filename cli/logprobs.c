/* hearth logprobs: what the model thinks of given tokens. */
#include <math.h>
#include <string.h>

#include "commands.h"
#include "lines.h"
#include "session.h"
#include "text.h"

struct scoring {
    struct session session;
    int top;
};

/* One line's question, as the engine takes it. */
struct question {
    int32_t *ids;      /* [n] */
    struct want *want; /* [n], or NULL; the ids of all are in want_ids */
    int32_t *want_ids;
    size_t n;
};

static void question_dispose(struct question *q)
{
    free(q->ids);
    free(q->want);
    free(q->want_ids);
}

static int take_ids(const json_t *array, int32_t *out, struct err *e)
{
    size_t i;
    json_t *item;
    json_array_foreach (array, i, item) {
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id > INT32_MAX)
            return err_set(e, ERR_INVALID, "\"ids\" and \"want\" hold token ids only");
        out[i] = (int32_t)id;
    }
    return 0;
}

static int take_want(struct question *q, const json_t *want, struct err *e)
{
    size_t total = 0, i;
    json_t *item;
    if (!json_is_array(want) || json_array_size(want) > q->n)
        return err_set(e, ERR_INVALID, "\"want\" must be an array of arrays, no longer than \"ids\"");
    json_array_foreach (want, i, item) {
        if (!json_is_array(item))
            return err_set(e, ERR_INVALID, "\"want\" must be an array of arrays of token ids");
        total += json_array_size(item);
    }
    q->want = calloc(q->n, sizeof *q->want);
    q->want_ids = calloc(total + 1, sizeof *q->want_ids);
    if (!q->want || !q->want_ids)
        return err_set(e, ERR_NOMEM, "no memory for the question");
    int32_t *at = q->want_ids;
    json_array_foreach (want, i, item) {
        q->want[i] = (struct want){.ids = at, .n = json_array_size(item)};
        int status = take_ids(item, at, e);
        if (status < 0)
            return status;
        at += q->want[i].n;
    }
    return 0;
}

static int question_read(struct question *q, const json_t *in, struct err *e)
{
    *q = (struct question){0};
    const json_t *ids = json_object_get(in, "ids"), *want = json_object_get(in, "want");
    if (!json_is_array(ids) || json_array_size(ids) == 0)
        return err_set(e, ERR_INVALID,
                       "a line must be a JSON object with a list of \"ids\" that is not empty");
    q->n = json_array_size(ids);
    q->ids = calloc(q->n, sizeof *q->ids);
    if (!q->ids)
        return err_set(e, ERR_NOMEM, "no memory for the question");
    int status = take_ids(ids, q->ids, e);
    if (status == 0 && want && !json_is_null(want))
        status = take_want(q, want, e);
    return status;
}

/* JSON has no infinities; nothing that a model can mean is below this. */
static json_t *number(float logprob)
{
    return isnan(logprob) ? json_null() : json_real(logprob < -9999 ? -9999 : logprob);
}

/* Adds one position to the answer; returns how many of its parts failed (no memory). */
static int add_position(json_t *out, const struct question *q, size_t position,
                        const struct engine_token *token)
{
    int failed = json_array_append_new(json_object_get(out, "logprobs"), number(token->logprob)) != 0;
    json_t *top_ids = json_array(), *top_logprobs = json_array();
    for (int i = 0; i < token->n_top; i++) {
        failed += json_array_append_new(top_ids, json_integer(token->top[i].id)) != 0;
        failed += json_array_append_new(top_logprobs, number(token->top[i].logprob)) != 0;
    }
    failed += json_array_append_new(json_object_get(out, "top_ids"), top_ids) != 0;
    failed += json_array_append_new(json_object_get(out, "top_logprobs"), top_logprobs) != 0;
    if (q->want) {
        json_t *wanted = json_array();
        for (size_t i = 0; token->want && i < q->want[position].n; i++)
            failed += json_array_append_new(wanted, number(token->want[i])) != 0;
        failed += json_array_append_new(json_object_get(out, "want_logprobs"), wanted) != 0;
    }
    return failed;
}

/* Takes the request's events until its end. */
static int collect(const struct scoring *s, const struct question *q, json_t *out, struct err *e)
{
    size_t position = 0;
    int failed = 0, status = 1;
    while (status == 1) {
        struct engine_event *event = engine_poll(s->session.engine);
        if (!event) {
            engine_wait(s->session.engine, 1);
            continue;
        }
        if (event->kind == ENGINE_PROMPT)
            for (size_t i = 0; i < event->n_tokens && position < q->n; i++)
                failed += add_position(out, q, position++, &event->tokens[i]);
        if (event->kind == ENGINE_FAILED)
            status = err_set(e, event->err.code, "%s", event->err.text);
        if (event->kind == ENGINE_DONE)
            status = 0;
        engine_event_free(event);
    }
    if (status == 0 && failed)
        return err_set(e, ERR_NOMEM, "no memory for the answer");
    return status;
}

static int answer(void *user, const json_t *in, json_t **out, struct err *e)
{
    const struct scoring *s = user;
    struct question q;
    int status = question_read(&q, in, e);
    if (status == 0) {
        struct engine_request request = {
            .model = s->session.model,
            .prompt = q.ids,
            .n_prompt = q.n,
            .max_tokens = 0,
            .sampling = {.top_p = 1, .repetition_penalty = 1},
            .logprobs = true,
            .n_top = s->top,
            .prompt_logprobs = true,
            .want = q.want,
        };
        uint64_t id;
        *out = json_pack("{s:[],s:[],s:[]}", "logprobs", "top_ids", "top_logprobs");
        if (!*out || (q.want && json_object_set_new(*out, "want_logprobs", json_array()) != 0))
            status = err_set(e, ERR_NOMEM, "no memory for the answer");
        if (status == 0)
            status = engine_submit(s->session.engine, &request, &id, e);
        if (status == 0)
            status = collect(s, &q, *out, e);
        if (status < 0) {
            json_decref(*out);
            *out = NULL;
        }
    }
    question_dispose(&q);
    return status;
}

int command_logprobs(const struct options *o)
{
    struct err e;
    struct scoring s = {.top = (int)option_integer(o, OPTION_TOP)};
    int status = session_open(&s.session, o, 1, &e) < 0 ? text_fail(&e) : lines_run(answer, &s);
    session_close(&s.session);
    return status;
}
