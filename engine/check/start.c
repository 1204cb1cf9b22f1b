/* The short check of a device that is about to be served from: in about a second, from weights that are
 * already there. */
#include "check.h"

#include <stdlib.h>

#include "step.h"

enum {
    PROMPT = 6,      /* enough rows for the matrix units */
    HEAD_ROWS = 256, /* of the vocabulary */
};

struct start {
    struct check_side tested, reference;
    struct check_rows rows;
    const struct gguf_tensor *head;
    struct err *err;
};

static int refuse(struct start *c, int layer, const char *stage, const struct check_error *e,
                  const struct check_bound *b)
{
    char where[96], what[192];
    if (layer >= 0)
        snprintf(where, sizeof where, "layer %d, %s", layer, stage);
    else
        snprintf(where, sizeof where, "%s", stage);
    check_describe(what, sizeof what, where, e, b);
    return err_set(
        c->err, ERR_DEVICE,
        "%s computes wrongly: %s (`hearth check` tells more; --check off serves from it all the same)",
        device_info(c->tested.device)->name, what);
}

/* The operators of a group one by one, each from the reference's values. */
static int check_alone(struct start *c, struct check_step *s, int first, int end, int before)
{
    int rc = before >= 0 ? check_step_feed(s, before, c->err) : 0;
    for (int i = first; i < end && rc == 0; i++) {
        struct check_error e;
        rc = check_step_alone(s, i, &e, c->err);
        if (rc || !s->values[i])
            continue;
        struct check_bound b =
            check_bound(device_info(c->tested.device), CHECK_OPERATOR, s->info[i].op, (int)s->info[i].rows);
        rc = check_within(&e, &b) ? check_step_feed(s, i, c->err)
                                  : refuse(c, s->info[i].layer, check_step_stage(s, i), &e, &b);
    }
    return rc;
}

/* Runs a group on both sides, from what the reference computed before. *before: the last result so far. */
static int check_group(struct start *c, struct check_step *s, int first, int end, int *before)
{
    struct check_error e;
    int rc = check_step_trace(s, first, end, c->err);
    if (rc == 0 && *before >= 0)
        rc = check_step_feed(s, *before, c->err);
    int last = check_step_last(s, end);
    if (rc || last < first)
        return rc ? rc : commands_run(s->tested_commands, first, end - first, false, c->err);
    if ((rc = check_step_fused(s, first, end, &e, c->err)) != 0)
        return rc;
    enum check_kind kind = s->info[first].layer < 0 ? CHECK_OPERATOR : CHECK_LAYER;
    struct check_bound b = check_bound(device_info(c->tested.device), kind, s->info[last].op, s->rows);
    bool within = check_within(&e, &b);
    /* Of a prompt always: its K and V become the reference's, but for roundings. */
    if (!within || s->rows > 1)
        rc = check_alone(c, s, first, end, *before);
    if (rc == 0 && !within)
        rc = refuse(c, s->info[first].layer, "where its operators run together", &e, &b);
    if (rc)
        return rc;
    *before = last;
    return 0;
}

/* Some logits against dot products with the file's own rows. `norm`, `last`: the commands. */
static int check_head(struct start *c, struct check_step *s, int norm, int last)
{
    const struct command_info *info = &s->info[last];
    size_t width = s->info[norm].width, vocab = info->width;
    size_t stride = vocab / HEAD_ROWS ? vocab / HEAD_ROWS : 1;
    size_t row_bytes = width / dtype_block(c->head->dtype) * dtype_block_bytes(c->head->dtype);
    float *logits = malloc((vocab + width + 2 * HEAD_ROWS) * sizeof *logits);
    if (!logits)
        return err_set(c->err, ERR_NOMEM, "out of memory for %zu logits", vocab);
    float *row = logits + vocab, *expected = row + width, *tested = expected + HEAD_ROWS;
    int rc = buffer_read(info->output, info->offset, vocab, logits, c->err);
    size_t n = 0;
    for (size_t id = stride / 2; id < vocab && n < HEAD_ROWS && rc == 0; id += stride, n++) {
        double sum = 0;
        dtype_to_f32(c->head->dtype, (const char *)c->head->data + id * row_bytes, width, row);
        for (size_t i = 0; i < width; i++)
            sum += (double)row[i] * (double)s->values[norm][i];
        expected[n] = (float)sum;
        tested[n] = logits[id];
    }
    struct check_error e;
    if (rc == 0)
        rc = check_measure(expected, tested, 1, n, &e, c->err);
    struct check_bound b = check_bound(device_info(c->tested.device), CHECK_LAYER, OPERATOR_matmul, 1);
    b.max += 1e-5; /* these sums have an order of their own */
    b.rms += 1e-6;
    if (rc == 0 && !check_within(&e, &b))
        rc = refuse(c, -1, "output norm and logits", &e, &b);
    free(logits);
    return rc;
}

/* The commands behind the layers: the reference does the norm, the device all. */
static int check_tail(struct start *c, struct check_step *s, int first, int end, int before)
{
    int norm = first, last = end - 1;
    while (norm < end && s->info[norm].op != OPERATOR_rms_norm)
        norm++;
    while (last > norm && s->info[last].op != OPERATOR_matmul)
        last--;
    REQUIRE(norm < last && before >= 0);
    int rc = check_step_trace(s, first, norm + 1, c->err);
    if (rc == 0)
        rc = check_step_feed(s, before, c->err);
    if (rc == 0)
        rc = commands_run(s->tested_commands, first, end - first, false, c->err);
    return rc ? rc : check_head(c, s, norm, last);
}

/* One step: the first layer and the last, in which only the wanted rows go on; `token`, a single row: one
 * between, and the head. */
static int check_step(struct start *c, const struct batch *b, bool token)
{
    int n_layers = weights_hyperparameters(c->tested.weights)->n_layers, before = -1;
    struct check_step s;
    int rc = check_step_record(&s, &c->tested, &c->reference, b, c->err);
    for (int first = 0, end; rc == 0 && first < s.n; first = end) {
        int layer = s.info[first].layer;
        end = check_step_group(&s, first);
        if (first == 0 || layer == 0 || layer == n_layers - 1 || (token && layer == n_layers / 2))
            rc = check_group(c, &s, first, end, &before);
        else if (layer < 0 && token)
            rc = check_tail(c, &s, first, end, before);
    }
    check_step_dispose(&s);
    return rc;
}

int check_start(struct device *device, const struct weights *weights, struct gguf *g, struct err *err)
{
    const struct device_info *info = device_info(device);
    const struct hyperparameters *hp = weights_hyperparameters(weights);
    struct device_options reference = {
        .name = "reference", .kv_type = info->kv_type, .int8_rows = info->int8_rows};
    struct start c = {.tested = {.device = device, .weights = weights}, .err = err};
    int32_t tokens[PROMPT + 1];
    int prompt = hp->context > PROMPT ? PROMPT : hp->context - 1;
    for (int i = 0; i <= PROMPT; i++) /* any will do, as long as they differ */
        tokens[i] = (int32_t)((i * 2654435761u >> 8) % (uint32_t)hp->vocab);
    c.head = gguf_find_tensor(g, hp->tied ? "token_embd.weight" : "output.weight");
    REQUIRE(c.head);

    int rc = check_side_open(&c.reference, &reference, g, err);
    if (rc == 0)
        rc = check_side_prepare(&c.reference, prompt + 1, err);
    if (rc == 0)
        rc = check_side_prepare(&c.tested, prompt + 1, err);
    if (rc == 0)
        rc = check_rows_create(&c.rows, prompt + 1, err);
    if (rc == 0 && prompt > 0)
        rc = check_step(&c, check_rows_set(&c.rows, tokens, 0, prompt), false);
    if (rc == 0)
        rc = check_step(&c, check_rows_set(&c.rows, tokens + prompt, prompt, 1), true);
    check_rows_dispose(&c.rows);
    check_side_close(&c.reference);
    check_side_close(&c.tested);
    return rc;
}
