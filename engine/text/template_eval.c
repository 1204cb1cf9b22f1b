/* Evaluates the expressions of a compiled template. */
#include <string.h>

#include "template_run.h"

int run_enter(struct run *run, int line)
{
    run->line = line;
    if (run->depth >= RUN_DEPTH)
        return run_error(run, ERR_LIMIT, "more than %d levels of evaluation (endless recursion?)", RUN_DEPTH);
    run->depth++;
    return run_step(run, 0);
}

/* ---- variables ---- */

int scope_push(struct run *run, struct scope *parent)
{
    struct scope *scope = run_alloc(run, 1, sizeof *scope);
    if (!scope)
        return arena_failed(run->err);
    *scope = (struct scope){.parent = parent};
    run->scope = scope;
    return 0;
}

int scope_renew(struct run *run)
{
    struct scope *scope = run->scope;
    if (scope->kept)
        return scope_push(run, scope->parent);
    while (scope->first) {
        struct binding *b = scope->first;
        scope->first = b->next;
        b->next = run->spare;
        run->spare = b;
    }
    return 0;
}

int scope_set(struct run *run, int symbol, struct value value)
{
    if (!run->scope) {
        run->globals[symbol] = value;
        return 0;
    }
    for (struct binding *b = run->scope->first; b; b = b->next) {
        if (b->symbol == symbol) {
            b->value = value;
            return 0;
        }
    }
    struct binding *b = run->spare;
    if (b)
        run->spare = b->next;
    else if (!(b = run_alloc(run, 1, sizeof *b)))
        return arena_failed(run->err);
    *b = (struct binding){.next = run->scope->first, .symbol = symbol, .value = value};
    run->scope->first = b;
    return 0;
}

int scope_get(struct run *run, int symbol, struct value *out)
{
    size_t seen = 0;
    for (struct scope *scope = run->scope; scope; scope = scope->parent) {
        for (struct binding *b = scope->first; b; b = b->next, seen++) {
            if (b->symbol == symbol) {
                *out = b->value;
                return run_step(run, seen);
            }
        }
    }
    *out = run->globals[symbol];
    if (out->kind == VALUE_ABSENT)
        *out = value_undefined(run->template->symbols[symbol].name);
    return run_step(run, seen);
}

/* ---- calls ---- */

static int spread(struct run *run, const struct node *node, struct value **v, size_t *n)
{
    struct value list;
    const struct value *items;
    size_t more;
    int rc = eval(run, node, &list);
    if (rc == 0)
        rc = value_items(run, list, &items, &more);
    if (rc == 0)
        rc = run_step(run, more);
    struct value *all = rc ? NULL : run_alloc(run, *n + more, sizeof *all);
    if (!all)
        return arena_failed(run->err);
    if (*n)
        memcpy(all, *v, *n * sizeof *all);
    if (more)
        memcpy(all + *n, items, more * sizeof *all);
    *v = all;
    *n += more;
    return 0;
}

static int spread_named(struct run *run, const struct node *node, struct args *args)
{
    struct value dict;
    int rc = eval(run, node, &dict);
    if (rc)
        return rc;
    if (dict.kind != VALUE_DICT)
        return run_error(run, ERR_INVALID, "what follows ** must be a mapping, not '%s'", value_type(dict));
    size_t n = args->n_named, all = n + dict.dict->n;
    rc = run_step(run, all);
    const struct str **names = rc ? NULL : run_alloc(run, all, sizeof *names);
    struct value *named = names ? run_alloc(run, all, sizeof *named) : NULL;
    if (!named)
        return arena_failed(run->err);
    if (n) {
        memcpy(names, args->names, n * sizeof *names);
        memcpy(named, args->named, n * sizeof *named);
    }
    for (size_t i = 0; i < dict.dict->n; i++) {
        if (dict.dict->pairs[i].key.kind != VALUE_STRING)
            return run_error(run, ERR_INVALID, "keywords must be strings");
        names[n + i] = dict.dict->pairs[i].key.str;
        named[n + i] = dict.dict->pairs[i].value;
    }
    *args = (struct args){args->v, args->n, names, named, all};
    return 0;
}

static int eval_arguments(struct run *run, const struct node *node, struct args *out)
{
    struct value *v = NULL, *named = NULL;
    size_t n = node->n;
    *out = (struct args){0};
    if (n + node->n_else) {
        v = run_alloc(run, n + node->n_else, sizeof *v);
        if (!v)
            return arena_failed(run->err);
        named = v + n;
    }
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = eval(run, node->list[i], &v[i]);
    for (size_t i = 0; rc == 0 && i < node->n_else; i++)
        rc = eval(run, node->else_list[i], &named[i]);
    if (rc == 0 && node->star)
        rc = spread(run, node->star, &v, &n);
    *out = (struct args){v, n, node->names, named, node->n_else};
    if (rc == 0 && node->star_star)
        rc = spread_named(run, node->star_star, out);
    run->line = node->line;
    return rc;
}

static int eval_call(struct run *run, const struct node *node, struct value *out)
{
    struct value callee;
    struct args args;
    int rc = eval(run, node->a, &callee);
    if (rc == 0)
        rc = eval_arguments(run, node, &args);
    if (rc)
        return rc;
    if (callee.kind == VALUE_MACRO)
        return call_macro(run, callee.macro, &args, out);
    if (callee.kind == VALUE_BUILTIN)
        return builtin_call(run, callee.builtin, value_none(), &args, out);
    if (callee.kind == VALUE_METHOD)
        return builtin_call(run, callee.method->builtin, callee.method->self, &args, out);
    if (callee.kind == VALUE_UNDEFINED)
        return run_undefined(run, callee);
    return run_error(run, ERR_INVALID, "'%s' object is not callable", value_type(callee));
}

/* Filters and tests. */
static int eval_builtin(struct run *run, const struct node *node, struct value *out)
{
    struct value self;
    struct args args;
    int rc = eval(run, node->a, &self);
    if (rc == 0)
        rc = eval_arguments(run, node, &args);
    return rc ? rc : builtin_call(run, node->builtin, self, &args, out);
}

/* ---- operators ---- */

/* a + b + c: strings are put together at the end of the output, each byte once. */
static int eval_add(struct run *run, const struct node *node, struct value *out)
{
    size_t mark = 0;
    bool building = false;
    int rc = eval(run, node->list[0], out);
    for (size_t i = 1; rc == 0 && i < node->n; i++) {
        struct value right;
        rc = eval(run, node->list[i], &right);
        if (rc)
            return rc;
        run->line = node->line;
        if (!building && (out->kind != VALUE_STRING || right.kind != VALUE_STRING)) {
            rc = value_arithmetic(run, '+', *out, right, out);
            continue;
        }
        if (right.kind == VALUE_UNDEFINED)
            return run_undefined(run, right);
        if (right.kind != VALUE_STRING)
            return run_error(run, ERR_INVALID, "can only concatenate str (not \"%s\") to str",
                             value_type(right));
        if (!building) {
            building = true;
            mark = run_mark(run);
            rc = run_add_str(run, out->str);
        }
        if (rc == 0)
            rc = run_add_str(run, right.str);
    }
    return rc || !building ? rc : run_take(run, mark, out);
}

static int eval_concat(struct run *run, const struct node *node, struct value *out)
{
    size_t mark = run_mark(run);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < node->n; i++) {
        struct value v;
        rc = eval(run, node->list[i], &v);
        if (rc == 0)
            rc = write_str(run, v);
    }
    return rc ? rc : run_take(run, mark, out);
}

static int compare(struct run *run, int op, struct value a, struct value b, bool *result)
{
    int order = 0;
    int rc;
    if (op == 'i' || op == 'n') {
        rc = value_contains(run, b, a, result);
        *result = *result != (op == 'n');
        return rc;
    }
    if (op == OP2('=', '=') || op == OP2('!', '=')) {
        rc = value_equal(run, a, b, result);
        *result = *result != (op == OP2('!', '='));
        return rc;
    }
    rc = value_compare(run, a, b, &order);
    *result = op == '<' ? order < 0 : op == '>' ? order > 0 : op == OP2('<', '=') ? order <= 0 : order >= 0;
    return rc;
}

static int eval_compare(struct run *run, const struct node *node, struct value *out)
{
    struct value left, right;
    bool result = true;
    int rc = eval(run, node->list[0], &left);
    for (size_t i = 1; rc == 0 && result && i < node->n; i++) {
        rc = eval(run, node->list[i], &right);
        run->line = node->line;
        if (rc == 0)
            rc = compare(run, node->ops[i - 1], left, right, &result);
        left = right;
    }
    *out = value_bool(result);
    return rc;
}

static int eval_sign(struct run *run, const struct node *node, struct value *out)
{
    struct value v;
    int rc = eval(run, node->a, &v);
    if (rc)
        return rc;
    if (v.kind == VALUE_UNDEFINED)
        return run_undefined(run, v);
    if (!value_is_number(v))
        return run_error(run, ERR_INVALID, "bad operand type for a sign: '%s'", value_type(v));
    if (v.kind == VALUE_FLOAT) { /* 0 - 0.0 has the wrong sign */
        *out = v;
        out->real = node->kind == NODE_NEGATE ? -v.real : v.real;
        return 0;
    }
    return value_arithmetic(run, node->kind == NODE_NEGATE ? '-' : '+', value_int(0), v, out);
}

/* ---- the rest ---- */

static int eval_list(struct run *run, const struct node *node, struct value *out)
{
    int rc = value_seq(run, node->kind == NODE_TUPLE ? SEQ_TUPLE : SEQ_LIST, node->n, out);
    for (size_t i = 0; rc == 0 && i < node->n; i++) {
        rc = eval(run, node->list[i], &out->seq->items[i]);
        out->origin = origin_worse(out->origin, rc ? 0 : out->seq->items[i].origin);
    }
    return rc;
}

static int eval_dict(struct run *run, const struct node *node, struct value *out)
{
    int rc = value_dict(run, node->n / 2, out);
    for (size_t i = 0; rc == 0 && i < node->n; i += 2) {
        struct value key, value;
        rc = eval(run, node->list[i], &key);
        if (rc == 0)
            rc = eval(run, node->list[i + 1], &value);
        if (rc == 0)
            rc = dict_set(run, out->dict, key, value);
        if (rc == 0)
            out->origin = origin_worse(out->origin, origin_worse(key.origin, value.origin));
    }
    return rc;
}

static int eval_slice(struct run *run, const struct node *node, struct value *out)
{
    struct value v, bounds[3] = {{.kind = VALUE_ABSENT}, {.kind = VALUE_ABSENT}, {.kind = VALUE_ABSENT}};
    int rc = eval(run, node->a, &v);
    for (size_t i = 0; rc == 0 && i < 3; i++)
        if (node->list[i])
            rc = eval(run, node->list[i], &bounds[i]);
    run->line = node->line;
    return rc ? rc : value_cut(run, v, bounds, out);
}

static int eval_condition(struct run *run, const struct node *node, struct value *out)
{
    struct value test;
    int rc = eval(run, node->b, &test);
    if (rc)
        return rc;
    if (value_truth(test))
        return eval(run, node->a, out);
    if (node->c)
        return eval(run, node->c, out);
    *out = value_undefined(NULL);
    return 0;
}

static int eval_logic(struct run *run, const struct node *node, struct value *out)
{
    int rc = eval(run, node->a, out);
    if (rc || value_truth(*out) == (node->kind == NODE_OR))
        return rc;
    return eval(run, node->b, out);
}

/* Operators with two operands that are both needed: arithmetic and subscripts. */
static int eval_pair(struct run *run, const struct node *node, struct value *out)
{
    struct value a, b;
    int rc = eval(run, node->a, &a);
    if (rc == 0)
        rc = eval(run, node->b, &b);
    if (rc)
        return rc;
    run->line = node->line;
    return node->kind == NODE_ITEM ? value_item(run, a, b, out) : value_arithmetic(run, node->op, a, b, out);
}

static int eval_one(struct run *run, const struct node *node, struct value *out)
{
    int rc;
    switch (node->kind) {
    case NODE_CONSTANT:
        *out = node->constant;
        return 0;
    case NODE_NAME:
        return scope_get(run, node->symbol, out);
    case NODE_CAPTURED:
        *out = run->captured;
        return 0;
    case NODE_LIST:
    case NODE_TUPLE:
        return eval_list(run, node, out);
    case NODE_DICT:
        return eval_dict(run, node, out);
    case NODE_ATTRIBUTE:
        rc = eval(run, node->a, out);
        run->line = node->line;
        return rc ? rc : value_attribute(run, *out, node->constant.str, out);
    case NODE_ITEM:
    case NODE_ARITHMETIC:
        return eval_pair(run, node, out);
    case NODE_SLICE:
        return eval_slice(run, node, out);
    case NODE_CALL:
        return eval_call(run, node, out);
    case NODE_CALLER:
        return make_macro(run, node, out);
    case NODE_FILTER:
    case NODE_TEST:
        return eval_builtin(run, node, out);
    case NODE_CONDITION:
        return eval_condition(run, node, out);
    case NODE_NOT:
        rc = eval(run, node->a, out);
        *out = value_bool(rc == 0 && !value_truth(*out));
        return rc;
    case NODE_AND:
    case NODE_OR:
        return eval_logic(run, node, out);
    case NODE_COMPARE:
        return eval_compare(run, node, out);
    case NODE_CONCAT:
        return eval_concat(run, node, out);
    case NODE_ADD:
        return eval_add(run, node, out);
    case NODE_NEGATE:
    case NODE_PLUS:
        return eval_sign(run, node, out);
    default:
        REQUIRE(!"an expression");
        return ERR_INVALID;
    }
}

int eval(struct run *run, const struct node *node, struct value *out)
{
    int rc = run_enter(run, node->line);
    if (rc)
        return rc;
    rc = eval_one(run, node, out);
    run->depth--;
    return rc;
}
