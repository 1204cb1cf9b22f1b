/* Text to ids: plain, by chat template, and for filling in the middle. */
#include <string.h>

#include "engine_private.h"
#include "text/chat.h"

static bool needs_bos(const struct model *m, const struct ids *ids)
{
    int32_t bos = tokenizer_bos(m->tokenizer);
    return tokenizer_adds_bos(m->tokenizer) && bos >= 0 && !(ids->n > 0 && ids->ids[0] == bos);
}

/* Puts BOS before the ids and EOS behind them: what `flags` ask for, the model wants and is not there yet. */
static int with_ends(const struct model *m, unsigned flags, struct ids *out, struct err *err)
{
    size_t before = flags & TOKENIZE_BOS && needs_bos(m, out);
    size_t after = flags & TOKENIZE_EOS && m->ending >= 0 && !(out->n > 0 && out->ids[out->n - 1] == m->ending);
    if (before + after == 0) return 0;
    int32_t *ids = realloc(out->ids, (out->n + before + after) * sizeof *ids);
    if (!ids) {
        free(out->ids);
        *out = (struct ids){0};
        return err_set(err, ERR_NOMEM, "out of memory for token ids");
    }
    memmove(ids + before, ids, out->n * sizeof *ids);
    if (before) ids[0] = tokenizer_bos(m->tokenizer);
    if (after) ids[before + out->n] = m->ending;
    *out = (struct ids){ids, out->n + before + after};
    return 0;
}

int engine_grammar(const struct model *m, const json_t *spec, struct grammar **out, struct err *err)
{
    const struct request_limits *limits = &runner_facts(m->runner)->limits;
    struct grammar_vocabulary vocabulary = {m->tokenizer, limits->vocab, limits->end_ids, limits->n_end_ids};
    return grammar_cache_get(m->grammars, &vocabulary, spec, out, err);
}

int engine_tokenize(const struct model *m, const char *text, size_t length, unsigned flags, struct ids *out,
                    struct err *err)
{
    *out = (struct ids){0};
    enum origin origin = flags & TOKENIZE_SPECIAL ? ORIGIN_TEMPLATE : ORIGIN_PLAIN;
    int rc = tokenizer_encode(m->tokenizer, text, length, NULL, origin, &out->ids, &out->n, err);
    if (rc) return rc;
    return with_ends(m, flags, out, err);
}

const char *engine_token_bytes(const struct model *m, int32_t id, size_t *length)
{
    return tokenizer_bytes(m->tokenizer, id, length);
}

static int render(const struct model *m, const json_t *input, struct template_output *out, struct err *err)
{
    json_t *context = NULL;
    char *ending = NULL;
    bool describes = m->info.calls == ENGINE_CALLS_NONE && json_is_true(json_object_get(input, "describe_tools"));
    bool continues = json_is_true(json_object_get(input, "continue_final_message"));
    int rc = chat_context(input, m->bos, m->eos, &context, err);
    if (!rc && continues) rc = chat_continue(context, &ending, err);
    if (!rc && describes) rc = chat_describe_tools(context, err);
    if (!rc) rc = template_render(m->template, context, out, err);
    if (!rc && ending) rc = chat_cut(out, ending, err);
    json_decref(context);
    free(ending);
    return rc;
}

int engine_render(const struct model *m, const json_t *input, struct rendered *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    if (!m->template) return err_set(err, m->template_err.code, "%s", m->template_err.text);
    struct template_output rendered = {0};
    int rc = render(m, input, &rendered, err);
    if (!rc) {
        rc = tokenizer_encode(m->tokenizer, rendered.text, rendered.length, rendered.origin, ORIGIN_PLAIN,
                              &out->ids.ids, &out->ids.n, err);
    }
    if (!rc) rc = with_ends(m, TOKENIZE_BOS, &out->ids, err);
    free(rendered.origin);
    if (rc) {
        free(rendered.text);
        return rc;
    }
    out->text = rendered.text;
    out->length = rendered.length;
    return 0;
}

int engine_render_template(const char *source, const json_t *input, char **text, struct err *err)
{
    struct template *template = NULL;
    json_t *context = NULL;
    struct template_output rendered = {0};
    *text = NULL;
    int rc = template_compile(&template, source, strlen(source), err);
    if (!rc) rc = chat_context(input, "", "", &context, err);
    if (!rc) rc = template_render(template, context, &rendered, err);
    json_decref(context);
    template_destroy(template);
    free(rendered.origin);
    if (rc) {
        free(rendered.text);
        return rc;
    }
    *text = rendered.text;
    return 0;
}

void engine_rendered_free(struct rendered *r)
{
    free(r->text);
    free(r->ids.ids);
    memset(r, 0, sizeof *r);
}

/* ---- filling in ---- */

/* Ids under construction: once something fails, nothing more is added. */
struct joint {
    const struct model *model;
    struct ids ids;
    struct err *err;
    int rc;
};

static void join_ids(struct joint *j, const int32_t *ids, size_t n)
{
    if (j->rc) return;
    int32_t *grown = realloc(j->ids.ids, (j->ids.n + n + 1) * sizeof *grown);
    if (!grown) {
        j->rc = err_set(j->err, ERR_NOMEM, "out of memory for token ids");
        return;
    }
    if (n > 0) memcpy(grown + j->ids.n, ids, n * sizeof *grown);
    j->ids = (struct ids){grown, j->ids.n + n};
}

static void join_mark(struct joint *j, enum fim_mark mark)
{
    if (j->model->fim[mark] >= 0) join_ids(j, &j->model->fim[mark], 1);
}

/* Special tokens are not recognised in what people wrote. */
static void join_text(struct joint *j, const char *text)
{
    struct ids ids = {0};
    if (!j->rc) j->rc = engine_tokenize(j->model, text, strlen(text), TOKENIZE_PLAIN, &ids, j->err);
    if (!j->rc) join_ids(j, ids.ids, ids.n);
    free(ids.ids);
}

static void join_file(struct joint *j, const char *name, const char *text)
{
    size_t length = strlen(name) + strlen(text) + 3;
    char *whole = j->rc ? NULL : malloc(length);
    if (!j->rc && !whole) j->rc = err_set(j->err, ERR_NOMEM, "out of memory for a text");
    if (!whole) return;
    snprintf(whole, length, "%s\n%s\n", name, text);
    join_mark(j, FIM_FILE);
    join_text(j, whole);
    free(whole);
}

int engine_fim(const struct model *m, const struct engine_gap *gap, struct ids *out, struct err *err)
{
    *out = (struct ids){0};
    if (!m->info.has_fim) return err_set(err, ERR_UNSUPPORTED, "%s cannot fill in the middle", m->info.name);
    if (gap->n_files > 0 && m->fim[FIM_FILE] < 0) {
        return err_set(err, ERR_UNSUPPORTED, "%s knows no other files beside the one it fills in", m->info.name);
    }
    struct joint j = {.model = m, .err = err};
    if (gap->n_files > 0 && m->fim[FIM_PROJECT] >= 0) {
        join_mark(&j, FIM_PROJECT);
        join_text(&j, "project\n");
    }
    for (size_t i = 0; i < gap->n_files; i++) join_file(&j, gap->files[i].name, gap->files[i].text);
    if (gap->n_files > 0) {
        join_mark(&j, FIM_FILE);
        join_text(&j, "untitled\n");
    }
    join_mark(&j, FIM_PREFIX);
    join_text(&j, gap->prefix);
    join_mark(&j, FIM_SUFFIX);
    join_text(&j, gap->suffix);
    join_mark(&j, FIM_MIDDLE);
    if (!j.rc) j.rc = with_ends(m, TOKENIZE_BOS, &j.ids, err);
    if (j.rc) {
        free(j.ids.ids);
        return j.rc;
    }
    *out = j.ids;
    return 0;
}
