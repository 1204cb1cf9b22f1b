/* How the parts of the evaluator know each other: expressions (template_eval.c), statements and
 * the entry (template_render.c). */
#ifndef HEARTH_TEMPLATE_RUN_H
#define HEARTH_TEMPLATE_RUN_H

#include <jansson.h>

#include "template_ast.h"

struct binding {
    struct binding *next;
    int symbol;
    struct value value;
};

struct scope {
    struct scope *parent; /* NULL: the top level, whose variables are in run->globals */
    struct binding *first;
    bool kept; /* a macro refers to it */
};

enum { RUN_BREAK = 1, RUN_CONTINUE = 2 };

/* Counts a level of evaluation; leave with run->depth--. */
int run_enter(struct run *, int line) WARN_UNUSED;
int scope_push(struct run *, struct scope *parent) WARN_UNUSED;
/* Makes the current scope new and empty, for the next turn of a loop. */
int scope_renew(struct run *) WARN_UNUSED;
int scope_set(struct run *, int symbol, struct value) WARN_UNUSED;
int scope_get(struct run *, int symbol, struct value *out) WARN_UNUSED;

int eval(struct run *, const struct node *, struct value *out) WARN_UNUSED;
/* 0, RUN_BREAK, RUN_CONTINUE or an error. */
int exec_list(struct run *, struct node *const *list, size_t n) WARN_UNUSED;
/* A macro of NODE_MACRO or NODE_CALLER, which sees the names of the current scope. */
int make_macro(struct run *, const struct node *, struct value *out) WARN_UNUSED;
int call_macro(struct run *, const struct macro *, const struct args *, struct value *out) WARN_UNUSED;
/* JSON as a value; strings have `origin`. They are not copied. */
int value_from_json(struct run *, const json_t *, enum origin, struct value *out) WARN_UNUSED;

#endif
