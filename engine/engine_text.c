/* Text to ids: plain, by chat template, and for filling in the middle. */
#include <string.h>

#include "engine_private.h"
#include "text/chat.h"

static int with_bos(const struct model *m, struct ids *out, struct err *err)
{
    int32_t bos = tokenizer_bos(m->tokenizer);
    if (!tokenizer_adds_bos(m->tokenizer) || bos < 0 || (out->n > 0 && out->ids[0] == bos)) return 0;
    int32_t *ids = realloc(out->ids, (out->n + 1) * sizeof *ids);
    if (!ids) {
        free(out->ids);
        *out = (struct ids){0};
        return err_set(err, ERR_NOMEM, "out of memory for token ids");
    }
    memmove(ids + 1, ids, out->n * sizeof *ids);
    ids[0] = bos;
    *out = (struct ids){ids, out->n + 1};
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
    return flags & TOKENIZE_BOS ? with_bos(m, out, err) : 0;
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
    if (!rc) rc = with_bos(m, &out->ids, err);
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

int engine_fim(const struct model *m, const char *prefix, const char *suffix, struct ids *out,
               struct err *err)
{
    *out = (struct ids){0};
    if (!m->info.has_fim) return err_set(err, ERR_UNSUPPORTED, "%s cannot fill in the middle", m->info.name);
    struct ids before = {0}, after = {0};
    int rc = engine_tokenize(m, prefix, strlen(prefix), TOKENIZE_PLAIN, &before, err);
    if (!rc) rc = engine_tokenize(m, suffix, strlen(suffix), TOKENIZE_PLAIN, &after, err);
    if (rc) goto done;
    size_t n = before.n + after.n + 3;
    out->ids = malloc(n * sizeof *out->ids);
    if (!out->ids) {
        rc = err_set(err, ERR_NOMEM, "out of memory for token ids");
        goto done;
    }
    out->n = n;
    int32_t *at = out->ids;
    *at++ = m->fim_prefix;
    if (before.n > 0) memcpy(at, before.ids, before.n * sizeof *at);
    at += before.n;
    *at++ = m->fim_suffix;
    if (after.n > 0) memcpy(at, after.ids, after.n * sizeof *at);
    at[after.n] = m->fim_middle;
    rc = with_bos(m, out, err);

done:
    free(before.ids);
    free(after.ids);
    return rc;
}
