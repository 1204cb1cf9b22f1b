/* Which texts fit a grammar, for the tests of grammars. */
#ifndef HEARTH_TESTS_GRAMMAR_TEXTS_H
#define HEARTH_TESTS_GRAMMAR_TEXTS_H

#include <criterion/criterion.h>
#include <string.h>

#include "../../../engine/grammar/grammar.h"

enum fit { NO, PREFIX, MAY_END, OVER }; /* PREFIX: more must follow; OVER: nothing may */

static inline enum fit fit(struct grammar *g, const char *text, size_t length)
{
    struct err err;
    struct grammar_state *s;
    cr_assert_eq(grammar_state_create(&s, g, &err), 0, "%s", err.text);
    int rc = grammar_state_accept(s, text, length, &err);
    enum fit f = rc ? NO : grammar_state_is_over(s) ? OVER : grammar_state_may_end(s) ? MAY_END : PREFIX;
    if (rc) cr_assert_eq(rc, ERR_INVALID, "%s", err.text);
    grammar_state_destroy(s);
    return f;
}

static inline struct grammar *compile(const char *spec)
{
    struct err err;
    json_error_t where;
    struct grammar *g;
    json_t *parsed = json_loads(spec, 0, &where);
    cr_assert_not_null(parsed, "%s: %s", spec, where.text);
    cr_assert_eq(grammar_compile(&g, parsed, NULL, &err), 0, "%s: %s", spec, err.text);
    json_decref(parsed);
    return g;
}

/* The error of a spec that must not compile. */
static inline int refusal(json_t *spec, struct err *err)
{
    struct grammar *g = NULL;
    int rc = grammar_compile(&g, spec, NULL, err);
    cr_expect_null(g);
    if (!rc) engine_grammar_release(g);
    json_decref(spec);
    return rc;
}

#endif
