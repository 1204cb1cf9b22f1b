/* The operators of chat templates and their precedence, the reference's quirks included: "**" binds
 * to the left and "-2 ** 2" is 4. */
#include <string.h>

#include "template_ast.h"

static int parse_unary(struct parser *p, bool filters, struct node **out)
{
    struct node *node;
    int line = p->token->line;
    int rc = parse_enter(p);
    if (rc)
        return rc;
    bool minus = parse_accept(p, '-');
    if (minus || parse_accept(p, '+')) {
        struct node *inner;
        rc = parse_unary(p, false, &inner);
        if (rc == 0)
            rc = parse_node(p, minus ? NODE_NEGATE : NODE_PLUS, line, &node);
        if (rc == 0) {
            node->a = inner;
            rc = parse_finish(p, node);
        }
    } else {
        rc = parse_primary(p, &node);
    }
    if (rc == 0)
        rc = parse_postfix(p, node, &node);
    if (rc == 0 && filters)
        rc = parse_filters(p, node, false, &node);
    p->depth--;
    *out = node;
    return rc;
}

static int parse_power(struct parser *p, struct node **out)
{
    struct node *right;
    int rc = parse_unary(p, true, out);
    while (rc == 0 && parse_accept(p, OP2('*', '*'))) {
        rc = parse_unary(p, true, &right);
        if (rc == 0)
            rc = parse_binary(p, NODE_ARITHMETIC, OP_POWER, *out, right, out);
    }
    return rc;
}

static int parse_product(struct parser *p, struct node **out)
{
    struct node *right;
    int rc = parse_power(p, out);
    while (rc == 0) {
        int op = p->token->kind == TOKEN_OPERATOR ? p->token->op : 0;
        if (op != '*' && op != '/' && op != '%' && op != OP2('/', '/'))
            break;
        p->token++;
        rc = parse_power(p, &right);
        if (rc == 0)
            rc = parse_binary(p, NODE_ARITHMETIC, op == OP2('/', '/') ? OP_FLOOR_DIVIDE : op, *out, right,
                              out);
    }
    return rc;
}

/* Chains of one operator become one node, so that long ones are neither deep nor slow. */
static int parse_chain(struct parser *p, enum node_kind kind, int op,
                       int (*operand)(struct parser *, struct node **), struct node *first, struct node **out)
{
    struct node_list list = {0};
    struct node *node;
    int rc = parse_node(p, kind, first->line, out);
    if (rc == 0)
        rc = node_list_add(p, &list, first);
    while (rc == 0 && parse_accept(p, op)) {
        rc = operand(p, &node);
        if (rc == 0)
            rc = node_list_add(p, &list, node);
    }
    if (rc)
        return rc;
    (*out)->list = list.v;
    (*out)->n = list.n;
    return parse_finish(p, *out);
}

static int parse_concat(struct parser *p, struct node **out)
{
    int rc = parse_product(p, out);
    return rc || !token_is(p->token, '~') ? rc : parse_chain(p, NODE_CONCAT, '~', parse_product, *out, out);
}

static int parse_sum(struct parser *p, struct node **out)
{
    struct node *right;
    int rc = parse_concat(p, out);
    while (rc == 0) {
        if (token_is(p->token, '+')) {
            rc = parse_chain(p, NODE_ADD, '+', parse_concat, *out, out);
        } else if (parse_accept(p, '-')) {
            rc = parse_concat(p, &right);
            if (rc == 0)
                rc = parse_binary(p, NODE_ARITHMETIC, '-', *out, right, out);
        } else {
            break;
        }
    }
    return rc;
}

/* The comparison operator at the current token, consumed; 0 where there is none. */
static int compare_operator(struct parser *p)
{
    const struct template_token *t = p->token;
    int op = t->kind == TOKEN_OPERATOR ? t->op : 0;
    if (op == '<' || op == '>' || op == OP2('<', '=') || op == OP2('>', '=') || op == OP2('=', '=') ||
        op == OP2('!', '=')) {
        p->token++;
        return op;
    }
    if (token_named(t, "in")) {
        p->token++;
        return 'i';
    }
    if (token_named(t, "not") && token_named(t + 1, "in")) {
        p->token += 2;
        return 'n';
    }
    return 0;
}

static int parse_comparison(struct parser *p, struct node **out)
{
    struct node_list list = {0};
    int ops[TREE_DEPTH];
    int rc = parse_sum(p, out), op = rc ? 0 : compare_operator(p);
    if (!op)
        return rc;
    struct node *node = *out;
    rc = node_list_add(p, &list, node);
    for (; rc == 0 && op; op = compare_operator(p)) {
        if (list.n == TREE_DEPTH)
            return parse_error(p, ERR_LIMIT, node->line, "a comparison has too many operands");
        ops[list.n - 1] = op;
        rc = parse_sum(p, &node);
        if (rc == 0)
            rc = node_list_add(p, &list, node);
        if (rc)
            return rc;
    }
    if (rc == 0)
        rc = parse_node(p, NODE_COMPARE, node->line, out);
    int *kept = rc ? NULL : arena_alloc(p->arena, list.n, sizeof *kept, p->err);
    if (!kept)
        return arena_failed(p->err);
    memcpy(kept, ops, (list.n - 1) * sizeof *kept);
    (*out)->ops = kept;
    (*out)->list = list.v;
    (*out)->n = list.n;
    return parse_finish(p, *out);
}

static int parse_not(struct parser *p, struct node **out)
{
    if (!token_named(p->token, "not"))
        return parse_comparison(p, out);
    struct node *inner;
    int rc = parse_enter(p);
    if (rc)
        return rc;
    p->token++;
    rc = parse_not(p, &inner);
    p->depth--;
    return rc ? rc : parse_binary(p, NODE_NOT, 0, inner, NULL, out);
}

static int parse_logic(struct parser *p, bool disjunction, struct node **out)
{
    struct node *right;
    int rc = disjunction ? parse_logic(p, false, out) : parse_not(p, out);
    while (rc == 0 && token_named(p->token, disjunction ? "or" : "and")) {
        p->token++;
        rc = disjunction ? parse_logic(p, false, &right) : parse_not(p, &right);
        if (rc == 0)
            rc = parse_binary(p, disjunction ? NODE_OR : NODE_AND, 0, *out, right, out);
    }
    return rc;
}

int parse_expression(struct parser *p, bool condition, struct node **out)
{
    int rc = parse_enter(p);
    if (rc)
        return rc;
    rc = parse_logic(p, true, out);
    while (rc == 0 && condition && token_named(p->token, "if")) {
        struct node *node, *test, *otherwise = NULL;
        p->token++;
        rc = parse_logic(p, true, &test);
        if (rc == 0 && token_named(p->token, "else")) {
            p->token++;
            rc = parse_expression(p, true, &otherwise);
        }
        if (rc == 0)
            rc = parse_node(p, NODE_CONDITION, test->line, &node);
        if (rc)
            break;
        node->a = *out;
        node->b = test;
        node->c = otherwise;
        *out = node;
        rc = parse_finish(p, node);
    }
    p->depth--;
    return rc;
}

static bool tuple_ends(const struct template_token *t)
{
    return t->kind == TOKEN_OUTPUT_END || t->kind == TOKEN_BLOCK_END || token_is(t, ')') ||
           token_named(t, "in");
}

/* Expressions with commas between; `target`: names and their like only. */
static int parse_commas(struct parser *p, int (*item)(struct parser *, bool, struct node **), bool flag,
                        struct node **out)
{
    struct node_list list = {0};
    int rc = item(p, flag, out);
    if (rc || !token_is(p->token, ','))
        return rc;
    int line = (*out)->line;
    rc = node_list_add(p, &list, *out);
    while (rc == 0 && parse_accept(p, ',')) {
        struct node *node;
        if (tuple_ends(p->token))
            break;
        rc = item(p, flag, &node);
        if (rc == 0)
            rc = node_list_add(p, &list, node);
    }
    if (rc == 0)
        rc = parse_node(p, NODE_TUPLE, line, out);
    if (rc)
        return rc;
    (*out)->list = list.v;
    (*out)->n = list.n;
    return parse_finish(p, *out);
}

int parse_tuple(struct parser *p, bool condition, struct node **out)
{
    return parse_commas(p, parse_expression, condition, out);
}

int parse_single_target(struct parser *p, bool spaces, struct node **out)
{
    const struct template_token *t = p->token;
    if (token_is(t, '(')) {
        int rc = parse_enter(p);
        if (rc)
            return rc;
        p->token++;
        rc = parse_target(p, spaces, out);
        p->depth--;
        return rc ? rc : parse_expect(p, ')', "')'");
    }
    static const char *const constants[] = {"true", "True", "false", "False", "none", "None"};
    bool constant = t->kind != TOKEN_NAME;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        constant = constant || token_named(t, constants[i]);
    if (constant)
        return parse_expected(p, "a name to assign to");
    bool space = spaces && token_is(t + 1, '.');
    int rc = parse_node(p, space ? NODE_NS_TARGET : NODE_NAME, t->line, out);
    if (rc == 0)
        rc = parse_symbol(p, t->text, t->length, !space, &(*out)->symbol);
    p->token++;
    if (rc || !space)
        return rc;
    p->token++;
    if (p->token->kind != TOKEN_NAME)
        return parse_expected(p, "a name after '.'");
    rc = parse_str(p, p->token->text, p->token->length, &(*out)->constant);
    p->token++;
    return rc;
}

int parse_target(struct parser *p, bool spaces, struct node **out)
{
    return parse_commas(p, parse_single_target, spaces, out);
}
