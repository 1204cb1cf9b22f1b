/* Operands of the expressions of chat templates: names, literals, and what follows them, which is
 * attributes, subscripts, calls, filters and tests. */
#include <string.h>

#include "template_ast.h"

/* ---- arguments ---- */

static int parse_argument(struct parser *p, struct node *call, struct node_list *args,
                          struct node_list *named, const struct str ***names, size_t *capacity)
{
    struct node *value;
    struct value name;
    bool star = parse_accept(p, '*'), star_star = !star && parse_accept(p, OP2('*', '*'));
    bool keyword = !star && !star_star && p->token->kind == TOKEN_NAME && token_is(p->token + 1, '=');
    int rc = 0;
    if (keyword) {
        rc = parse_str(p, p->token->text, p->token->length, &name);
        p->token += 2;
    }
    if (rc == 0)
        rc = parse_expression(p, true, &value);
    if (rc)
        return rc;
    if (star || star_star) {
        struct node **slot = star ? &call->star : &call->star_star;
        if (*slot || (star && named->n))
            return parse_error(p, ERR_FORMAT, call->line, "invalid syntax for function call expression");
        *slot = value;
        return 0;
    }
    if (call->star_star || (!keyword && (named->n || call->star)))
        return parse_error(p, ERR_FORMAT, call->line, "invalid syntax for function call expression");
    if (!keyword)
        return node_list_add(p, args, value);
    if (named->n == *capacity) {
        const struct str **grown = arena_alloc(p->arena, *capacity * 2 + 4, sizeof *grown, p->err);
        if (!grown)
            return arena_failed(p->err);
        if (named->n)
            memcpy(grown, *names, named->n * sizeof *grown);
        *names = grown;
        *capacity = *capacity * 2 + 4;
    }
    (*names)[named->n] = name.str;
    return node_list_add(p, named, value);
}

/* "(…)" at the current token. */
static int parse_arguments(struct parser *p, struct node *call)
{
    struct node_list args = {0}, named = {0};
    const struct str **names = NULL;
    size_t capacity = 0;
    int rc = parse_expect(p, '(', "'('");
    for (bool first = true; rc == 0 && !parse_accept(p, ')'); first = false) {
        if (!first) {
            rc = parse_expect(p, ',', "',' or ')'");
            if (rc == 0 && parse_accept(p, ')'))
                break;
        }
        if (rc == 0)
            rc = parse_argument(p, call, &args, &named, &names, &capacity);
    }
    call->list = args.v;
    call->n = args.n;
    call->else_list = named.v;
    call->n_else = named.n;
    call->names = names;
    return rc;
}

static int parse_call(struct parser *p, struct node *callee, struct node **out)
{
    int rc = parse_node(p, NODE_CALL, p->token->line, out);
    if (rc)
        return rc;
    (*out)->a = callee;
    rc = parse_arguments(p, *out);
    if (rc == 0 && callee->kind == NODE_NAME)
        rc = node_list_add(p, &p->calls, callee);
    if (rc)
        return rc;
    if (callee->kind == NODE_ATTRIBUTE) {
        const struct str *name = callee->constant.str;
        if (!builtin_method(name->bytes, name->length, ~0u))
            return parse_error(p, ERR_UNSUPPORTED, callee->line, "method '%.*s' is not supported",
                               (int)name->length, name->bytes);
    }
    return parse_finish(p, *out);
}

/* ---- primaries ---- */

static int parse_constant(struct parser *p, struct value value, struct node **out)
{
    int rc = parse_node(p, NODE_CONSTANT, p->token->line, out);
    if (rc)
        return rc;
    (*out)->constant = value;
    p->token++;
    return 0;
}

static int parse_name(struct parser *p, struct node **out)
{
    static const struct {
        const char *name;
        struct value value;
    } constants[] = {
        {"true", {.kind = VALUE_BOOL, .boolean = true}},
        {"True", {.kind = VALUE_BOOL, .boolean = true}},
        {"false", {.kind = VALUE_BOOL, .boolean = false}},
        {"False", {.kind = VALUE_BOOL, .boolean = false}},
        {"none", {.kind = VALUE_NONE}},
        {"None", {.kind = VALUE_NONE}},
    };
    const struct template_token *t = p->token;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (token_named(t, constants[i].name))
            return parse_constant(p, constants[i].value, out);
    static const char *const implied[] = {"caller", "varargs", "kwargs"};
    bool bound = false;
    int rc = parse_node(p, NODE_NAME, t->line, out);
    for (int i = 0; p->implied && rc == 0 && i < IMPLIED; i++) {
        if (!token_named(t, implied[i]))
            continue;
        p->implied[i] = *out;
        bound = true;
    }
    if (rc == 0)
        rc = parse_symbol(p, t->text, t->length, bound, &(*out)->symbol);
    p->token++;
    return rc;
}

static int parse_text(struct parser *p, struct node **out)
{
    const struct template_token *first = p->token;
    size_t length = first->length;
    struct value value;
    for (; p->token[1].kind == TOKEN_TEXT; p->token++)
        length += p->token[1].length;
    const char *bytes = first->text;
    if (p->token != first) {
        char *joined = arena_alloc(p->arena, length + 1, 1, p->err);
        if (!joined)
            return arena_failed(p->err);
        bytes = joined;
        for (const struct template_token *t = first; t <= p->token; t++) {
            memcpy(joined, t->text, t->length);
            joined += t->length;
        }
    }
    int rc = parse_str(p, bytes, length, &value);
    return rc ? rc : parse_constant(p, value, out);
}

/* [a, b] and {a: b}: the closing bracket is next or behind a comma. */
static int parse_display(struct parser *p, enum node_kind kind, int close, struct node **out)
{
    struct node_list list = {0};
    int rc = parse_node(p, kind, p->token->line, out);
    p->token++;
    for (bool first = true; rc == 0 && !parse_accept(p, close); first = false) {
        struct node *item;
        if (!first) {
            rc = parse_expect(p, ',', "','");
            if (rc == 0 && parse_accept(p, close))
                break;
        }
        if (rc == 0)
            rc = parse_expression(p, true, &item);
        if (rc == 0)
            rc = node_list_add(p, &list, item);
        if (rc || kind == NODE_LIST)
            continue;
        rc = parse_expect(p, ':', "':'");
        if (rc == 0)
            rc = parse_expression(p, true, &item);
        if (rc == 0)
            rc = node_list_add(p, &list, item);
    }
    if (rc)
        return rc;
    (*out)->list = list.v;
    (*out)->n = list.n;
    return parse_finish(p, *out);
}

int parse_primary(struct parser *p, struct node **out)
{
    const struct template_token *t = p->token;
    if (t->kind == TOKEN_NAME)
        return parse_name(p, out);
    if (t->kind == TOKEN_TEXT)
        return parse_text(p, out);
    if (t->kind == TOKEN_INT)
        return parse_constant(p, value_int(t->integer), out);
    if (t->kind == TOKEN_FLOAT)
        return parse_constant(p, value_real(t->real), out);
    if (token_is(t, '['))
        return parse_display(p, NODE_LIST, ']', out);
    if (token_is(t, '{'))
        return parse_display(p, NODE_DICT, '}', out);
    if (!token_is(t, '('))
        return parse_expected(p, "an expression");
    p->token++;
    if (token_is(p->token, ')')) {
        p->token++;
        return parse_node(p, NODE_TUPLE, t->line, out);
    }
    int rc = parse_tuple(p, true, out);
    return rc ? rc : parse_expect(p, ')', "')'");
}

/* ---- what follows a primary ---- */

/* What is between the brackets of a[…]. */
static int parse_subscript(struct parser *p, struct node *a, struct node **out)
{
    struct node *bounds[3] = {NULL, NULL, NULL};
    int part = 0, rc = 0;
    int line = p->token->line;
    while (rc == 0 && part < 3) {
        if (!token_is(p->token, ':') && !token_is(p->token, ']') && !token_is(p->token, ','))
            rc = parse_expression(p, true, &bounds[part]);
        if (rc || !parse_accept(p, ':'))
            break;
        part++;
    }
    if (rc)
        return rc;
    if (token_is(p->token, ','))
        return parse_error(p, ERR_UNSUPPORTED, line, "subscripts with ',' are not supported");
    if (part == 3 || (part == 0 && !bounds[0]))
        return parse_expected(p, "a subscript");
    rc = parse_expect(p, ']', "']'");
    if (rc)
        return rc;
    if (part == 0)
        return parse_binary(p, NODE_ITEM, 0, a, bounds[0], out);
    rc = parse_node(p, NODE_SLICE, line, out);
    struct node **list = rc ? NULL : arena_alloc(p->arena, 3, sizeof *list, p->err);
    if (!list)
        return arena_failed(p->err);
    memcpy(list, bounds, sizeof bounds);
    (*out)->a = a;
    (*out)->list = list;
    (*out)->n = 3;
    return parse_finish(p, *out);
}

static int parse_attribute(struct parser *p, struct node *a, struct node **out)
{
    const struct template_token *t = p->token;
    if (t->kind == TOKEN_INT) {
        struct node *index;
        int rc = parse_constant(p, value_int(t->integer), &index);
        return rc ? rc : parse_binary(p, NODE_ITEM, 0, a, index, out);
    }
    if (t->kind != TOKEN_NAME)
        return parse_expected(p, "a name after '.'");
    if (t->length > 1 && t->text[0] == '_' && t->text[1] == '_')
        return parse_error(p, ERR_UNSUPPORTED, t->line, "attribute '%.*s' is not supported", (int)t->length,
                           t->text);
    int rc = parse_node(p, NODE_ATTRIBUTE, t->line, out);
    if (rc == 0)
        rc = parse_str(p, t->text, t->length, &(*out)->constant);
    if (rc)
        return rc;
    (*out)->a = a;
    p->token++;
    return parse_finish(p, *out);
}

int parse_postfix(struct parser *p, struct node *node, struct node **out)
{
    int rc = 0;
    while (rc == 0) {
        if (parse_accept(p, '.'))
            rc = parse_attribute(p, node, &node);
        else if (parse_accept(p, '['))
            rc = parse_subscript(p, node, &node);
        else if (token_is(p->token, '('))
            rc = parse_call(p, node, &node);
        else
            break;
    }
    *out = node;
    return rc;
}

static int parse_filter(struct parser *p, struct node *input, struct node **out)
{
    const struct template_token *t = p->token;
    if (t->kind != TOKEN_NAME)
        return parse_expected(p, "the name of a filter");
    int rc = parse_node(p, NODE_FILTER, t->line, out);
    if (rc)
        return rc;
    (*out)->a = input;
    (*out)->builtin = builtin_filter(t->text, t->length);
    if (!(*out)->builtin)
        return parse_error(p, ERR_UNSUPPORTED, t->line, "filter '%.*s' is not supported", (int)t->length,
                           t->text);
    p->token++;
    if (token_is(p->token, '('))
        rc = parse_arguments(p, *out);
    return rc ? rc : parse_finish(p, *out);
}

static int parse_test(struct parser *p, struct node *input, struct node **out)
{
    bool negated = token_named(p->token, "not");
    if (negated)
        p->token++;
    const struct template_token *t = p->token;
    if (t->kind != TOKEN_NAME)
        return parse_expected(p, "the name of a test");
    int rc = parse_node(p, NODE_TEST, t->line, out);
    if (rc)
        return rc;
    struct node *test = *out;
    test->a = input;
    test->builtin = builtin_test(t->text, t->length);
    if (!test->builtin)
        return parse_error(p, ERR_UNSUPPORTED, t->line, "test '%.*s' is not supported", (int)t->length,
                           t->text);
    t = ++p->token;
    bool ends = token_named(t, "else") || token_named(t, "or") || token_named(t, "and");
    if (token_is(t, '(')) {
        rc = parse_arguments(p, test);
    } else if (token_named(t, "is")) {
        return parse_error(p, ERR_FORMAT, t->line, "tests cannot be chained with 'is'");
    } else if (!ends && (t->kind == TOKEN_NAME || t->kind == TOKEN_TEXT || t->kind == TOKEN_INT ||
                         t->kind == TOKEN_FLOAT || token_is(t, '[') || token_is(t, '{'))) {
        struct node *argument;
        struct node_list list = {0};
        rc = parse_primary(p, &argument);
        if (rc == 0)
            rc = parse_postfix(p, argument, &argument);
        if (rc == 0)
            rc = node_list_add(p, &list, argument);
        test->list = list.v;
        test->n = list.n;
    }
    if (rc == 0)
        rc = parse_finish(p, test);
    return rc || !negated ? rc : parse_binary(p, NODE_NOT, 0, test, NULL, out);
}

int parse_filters(struct parser *p, struct node *node, bool begun, struct node **out)
{
    int rc = begun ? parse_filter(p, node, &node) : 0;
    while (rc == 0) {
        if (parse_accept(p, '|')) {
            rc = parse_filter(p, node, &node);
        } else if (token_named(p->token, "is")) {
            p->token++;
            rc = parse_test(p, node, &node);
        } else if (token_is(p->token, '(')) {
            rc = parse_call(p, node, &node);
        } else {
            break;
        }
    }
    *out = node;
    return rc;
}
