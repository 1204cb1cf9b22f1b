/* The whole comparison: a prompt, one row after it, then greedy tokens. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "step.h"

enum { STAGES_MAX = 32 };

struct check {
    const struct check_options *o;
    struct check_side tested, reference;
    struct check_rows rows;
    struct engine_check_result *result;
    int vocab;
    float *logits;                     /* [vocab] of the tested device */
    float *expected, *expected_prompt; /* [vocab] of the reference */
    /* The pass in progress. */
    const char *pass;
    struct engine_check_row row[STAGES_MAX];
    int n_rows;
    /* What runs on the tested device: where it fails by itself. */
    int layer;
    const char *stage; /* "": a whole layer */
};

/* ---- the report ---- */

static void place(char *out, size_t size, int layer, const char *stage)
{
    if (layer >= 0)
        snprintf(out, size, "layer %d%s%s", layer, *stage ? ", " : "", stage);
    else
        snprintf(out, size, "%s", stage);
}

/* Keeps the first failure. */
static void fail(struct check *c, int layer, const char *stage, const struct check_error *e,
                 const struct check_bound *b)
{
    struct engine_check_result *r = c->result;
    if (*r->failure)
        return;
    char where[96];
    place(where, sizeof where, layer, stage);
    check_describe(r->failure, sizeof r->failure, where, e, b);
}

static void begin_pass(struct check *c, const char *name)
{
    c->pass = name;
    c->n_rows = 0;
}

/* How much of a bound is used: layers of one stage may have different bounds. */
static double share(double error, double bound)
{
    return bound > 0 ? error / bound : error > 0 ? INFINITY : 0;
}

/* Adds one measured result to its stage's line. */
static void add(struct check *c, const char *stage, int layer, const struct check_error *e,
                const struct check_bound *b)
{
    int i = 0;
    while (i < c->n_rows && strcmp(c->row[i].stage, stage))
        i++;
    REQUIRE(i < STAGES_MAX);
    struct engine_check_row *r = &c->row[i];
    if (i == c->n_rows) {
        c->n_rows++;
        *r = (struct engine_check_row){.pass = c->pass, .stage = stage, .worst_layer = layer, .ok = true};
    }
    if (r->compared == 0 || share(e->max, b->max) > share(r->max, r->max_bound)) {
        r->max = e->max;
        r->max_bound = b->max;
        r->worst_layer = layer;
    }
    if (r->compared == 0 || share(e->rms, b->rms) > share(r->rms, r->rms_bound)) {
        r->rms = e->rms;
        r->rms_bound = b->rms;
    }
    r->compared++;
    r->ok = r->ok && check_within(e, b);
}

static void end_pass(struct check *c)
{
    for (int i = 0; i < c->n_rows && c->o->row; i++)
        c->o->row(c->o->user, c->result, &c->row[i]);
    c->n_rows = 0;
}

static void running(struct check *c, int layer, const char *stage)
{
    c->layer = layer;
    c->stage = stage;
}

/* ---- one operator at a time ---- */

/* Each from the reference's values, so that it is judged alone. *first_wrong: the first command that
 * diverges, or -1. */
static int run_alone(struct check *c, struct check_step *s, int first, int end, bool count, int *first_wrong,
                     struct err *err)
{
    *first_wrong = -1;
    for (int i = first; i < end; i++) {
        const struct command_info *info = &s->info[i];
        const char *stage = check_step_stage(s, i);
        struct check_error e;
        running(c, info->layer, stage);
        int rc = check_step_alone(s, i, &e, err);
        if (rc)
            return rc;
        if (!s->values[i])
            continue;
        struct check_bound b =
            check_bound(device_info(c->tested.device), CHECK_OPERATOR, info->op, (int)info->rows);
        if (count)
            add(c, stage, info->layer, &e, &b);
        if (*first_wrong < 0 && !check_within(&e, &b)) {
            *first_wrong = i;
            fail(c, info->layer, stage, &e, &b);
        }
        if ((rc = check_step_feed(s, i, err)) != 0)
            return rc;
    }
    return 0;
}

/* A group of commands diverges: names the operator, or says that only their fusion is wrong. */
static int name_stage(struct check *c, struct check_step *s, int first, int end, const struct check_error *e,
                      const struct check_bound *b, struct err *err)
{
    int wrong, before = check_step_last(s, first);
    int rc = before >= 0 ? check_step_feed(s, before, err) : 0;
    if (rc == 0)
        rc = run_alone(c, s, first, end, false, &wrong, err);
    if (rc == 0 && wrong < 0)
        fail(c, s->info[first].layer,
             s->info[first].layer < 0 ? "output norm and logits, together"
                                      : "where its operators run together", e, b);
    return rc;
}

/* ---- layer by layer ---- */

static int run_layers(struct check *c, struct check_step *s, struct err *err)
{
    for (int first = 0, end; first < s->n; first = end) {
        end = check_step_group(s, first);
        int last = check_step_last(s, end), layer = s->info[first].layer;
        if (last < first) { /* copies alone */
            int rc = commands_run(s->tested_commands, first, end - first, false, err);
            if (rc)
                return rc;
            continue;
        }
        bool tail = layer < 0 && check_step_last(s, s->n) == last;
        struct check_error e;
        running(c, layer, layer >= 0 ? "" : check_step_stage(s, last));
        int rc = check_step_fused(s, first, end, &e, err);
        if (rc)
            return rc;
        enum check_kind kind = layer >= 0 ? CHECK_LAYERS : tail ? CHECK_LOGITS : CHECK_OPERATOR;
        struct check_bound b = check_bound(device_info(c->tested.device), kind, s->info[last].op, s->rows);
        add(c, layer >= 0 ? "residual stream" : check_step_stage(s, last), layer, &e, &b);
        if (!check_within(&e, &b))
            return name_stage(c, s, first, end, &e, &b, err);
    }
    return 0;
}

/* ---- steps ---- */

static int best_of(const float *logits, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

/* How far the best is ahead of the second. */
static double margin_of(const float *logits, int n)
{
    int best = best_of(logits, n), second = best ? 0 : 1;
    for (int i = 0; i < n; i++)
        if (i != best && logits[i] > logits[second])
            second = i;
    return n > 1 ? (double)logits[best] - (double)logits[second] : INFINITY;
}

/* The step as serving runs it, against the reference's logits. */
static int run_whole(struct check *c, const struct batch *b, const float *expected, const char *stage,
                     struct err *err)
{
    struct check_error e;
    running(c, -1, stage);
    int rc = forward_step(c->tested.forward, b, c->logits, err);
    if (rc == 0)
        rc = check_measure(expected, c->logits, 1, (size_t)c->vocab, &e, err);
    if (rc)
        return rc;
    struct check_bound bound =
        check_bound(device_info(c->tested.device), CHECK_LOGITS, OPERATOR_matmul, b->n_rows);
    add(c, stage, -1, &e, &bound);
    if (!check_within(&e, &bound))
        fail(c, -1, stage, &e, &bound);
    return 0;
}

/* Both passes over one recorded step. *logits: the reference's. The second pass leaves the reference's K and
 * V in the cache, but for roundings. */
static int compare_parts(struct check *c, const struct batch *b, const char *layers, const char *operators,
                         float *logits, struct err *err)
{
    struct check_step s;
    int wrong, rc = check_step_record(&s, &c->tested, &c->reference, b, err);
    if (rc == 0)
        rc = check_step_trace(&s, 0, s.n, err);
    if (rc)
        goto done;
    begin_pass(c, layers);
    if ((rc = run_layers(c, &s, err)) != 0)
        goto done;
    end_pass(c);
    begin_pass(c, operators);
    if ((rc = run_alone(c, &s, 0, s.n, true, &wrong, err)) != 0)
        goto done;
    end_pass(c);
    int last = check_step_last(&s, s.n);
    REQUIRE(last >= 0 && s.info[last].width == (size_t)c->vocab);
    memcpy(logits, s.values[last], (size_t)c->vocab * sizeof *logits);
done:
    check_step_dispose(&s);
    return rc;
}

/* The token that the device itself chooses must be its own best. */
static int compare_choice(struct check *c, const struct batch *step, struct err *err)
{
    struct batch b = *step;
    struct sample_row greedy = {.top_p = 1};
    struct forward_result chosen;
    b.n_sampled = 1;
    b.sampling = &greedy;
    running(c, -1, "choice of a token");
    int rc = forward_begin(c->tested.forward, &b, err);
    if (rc == 0)
        rc = forward_end(c->tested.forward, &chosen, err);
    int best = best_of(c->logits, c->vocab);
    if (rc == 0 && chosen.ids[0] != best && !*c->result->failure)
        snprintf(c->result->failure, sizeof c->result->failure,
                 "choice of a token: the device chose %d where its own logits say %d", (int)chosen.ids[0],
                 best);
    return rc;
}

/* Prompt and row once more, as serving runs them: with its own K and V, everything fused, recorded for
 * replay. */
static int compare_served(struct check *c, int32_t token, struct err *err)
{
    begin_pass(c, "one step each, as served");
    const struct batch *b = check_rows_set(&c->rows, c->o->prompt, 0, c->o->n_prompt);
    int rc = run_whole(c, b, c->expected_prompt, "logits of the prompt", err);
    if (rc)
        return rc;
    b = check_rows_set(&c->rows, &token, c->o->n_prompt, 1);
    rc = run_whole(c, b, c->expected, "logits of one token", err);
    if (rc == 0)
        rc = compare_choice(c, b, err);
    if (rc == 0)
        end_pass(c);
    return rc;
}

/* ---- greedy tokens ---- */

static void count_token(struct check *c, int i)
{
    struct engine_check_result *r = c->result;
    int wanted = best_of(c->expected, c->vocab), got = best_of(c->logits, c->vocab);
    double margin = margin_of(c->expected, c->vocab);
    r->tokens++;
    if (got == wanted) {
        r->agreed++;
    } else if (margin < r->margin) {
        r->close++;
    } else if (!*r->failure) {
        snprintf(r->failure, sizeof r->failure,
                 "token %d: the device says %d where the reference says %d, which is %.3g ahead (bound %.3g)",
                 i + 1, got, wanted, margin, r->margin);
    }
}

static int compare_tokens(struct check *c, int32_t token, struct err *err)
{
    int rc = 0;
    begin_pass(c, "greedy tokens, as served");
    for (int i = 0; i < c->o->tokens && rc == 0; i++) {
        const struct batch *b = check_rows_set(&c->rows, &token, c->o->n_prompt + i, 1);
        rc = forward_step(c->reference.forward, b, c->expected, err);
        if (rc == 0)
            rc = run_whole(c, b, c->expected, "logits", err);
        if (rc)
            return rc;
        count_token(c, i);
        token = best_of(c->expected, c->vocab);
    }
    end_pass(c);
    return rc;
}

static int compare(struct check *c, struct err *err)
{
    const struct batch *b = check_rows_set(&c->rows, c->o->prompt, 0, c->o->n_prompt);
    int rc = compare_parts(c, b, "prompt, layer by layer", "prompt, every operator alone", c->expected_prompt,
                           err);
    int32_t token = best_of(c->expected_prompt, c->vocab);
    if (rc || *c->result->failure)
        return rc;
    b = check_rows_set(&c->rows, &token, c->o->n_prompt, 1);
    rc = compare_parts(c, b, "one token, layer by layer", "one token, every operator alone", c->expected,
                       err);
    if (rc == 0 && !*c->result->failure)
        rc = compare_served(c, token, err);
    if (rc == 0 && !*c->result->failure)
        rc = compare_tokens(c, token, err);
    return rc;
}

/* ---- opening ---- */

static int open_sides(struct check *c, struct err *err)
{
    int context = c->o->n_prompt + c->o->tokens + 1;
    int rc = check_side_open(&c->tested, &c->o->device, c->o->gguf, err);
    if (rc)
        return rc;
    const struct device_info *info = device_info(c->tested.device);
    struct device_options reference = {.name = "reference",
                                       .threads = c->o->device.threads,
                                       .kv_type = info->kv_type,
                                       .int8_rows = info->int8_rows};
    rc = check_side_open(&c->reference, &reference, c->o->reference_gguf ? c->o->reference_gguf : c->o->gguf,
                         err);
    if (rc)
        return rc;
    const struct hyperparameters *hp = weights_hyperparameters(c->tested.weights);
    if (context > hp->context)
        return err_set(err, ERR_INVALID,
                       "a prompt of %d tokens and %d more do not fit the model's context of %d",
                       c->o->n_prompt, c->o->tokens, hp->context);
    if ((rc = check_side_prepare(&c->tested, context, err)) != 0 ||
        (rc = check_side_prepare(&c->reference, context, err)) != 0 ||
        (rc = check_rows_create(&c->rows, context, err)) != 0)
        return rc;
    c->vocab = hp->vocab;
    c->logits = malloc((size_t)c->vocab * sizeof *c->logits);
    c->expected = calloc((size_t)c->vocab, sizeof *c->expected);
    c->expected_prompt = calloc((size_t)c->vocab, sizeof *c->expected_prompt);
    if (!c->logits || !c->expected || !c->expected_prompt)
        return err_set(err, ERR_NOMEM, "out of memory for %d logits", c->vocab);
    snprintf(c->result->device, sizeof c->result->device, "%s", info->name);
    snprintf(c->result->description, sizeof c->result->description, "%s", info->description);
    c->result->margin = check_margin(info);
    return 0;
}

int check_run(const struct check_options *o, struct engine_check_result *out, struct err *err)
{
    struct check c = {.o = o, .result = out, .layer = -1, .stage = "start"};
    struct err why = {0};
    *out = (struct engine_check_result){.prompt_tokens = o->n_prompt};
    int rc = open_sides(&c, &why);
    if (rc == 0) {
        rc = compare(&c, &why);
        if (rc)
            end_pass(&c);
        if (rc == ERR_DEVICE) { /* the device itself found something wrong */
            char where[96];
            place(where, sizeof where, c.layer, c.stage);
            if (!*out->failure)
                snprintf(out->failure, sizeof out->failure, "%.90s: %.220s", where, why.text);
            rc = 0;
        }
    }
    check_side_close(&c.tested);
    check_side_close(&c.reference);
    check_rows_dispose(&c.rows);
    free(c.logits);
    free(c.expected);
    free(c.expected_prompt);
    out->ok = rc == 0 && !*out->failure;
    if (rc && err)
        *err = why;
    return rc;
}
