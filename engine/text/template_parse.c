/* The statements of chat templates, and what all of the parser needs: nodes, symbols, errors. */
#include "template.h"

#include <stdarg.h>
#include <string.h>

#include "template_ast.h"

static int parse_body(struct parser *, const char *const *ends, struct node_list *) WARN_UNUSED;

/* ---- tools ---- */

int parse_error(struct parser *p, int code, int line, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(p->err, code, "chat template, line %d: %s", line, text);
}

int parse_expected(struct parser *p, const char *what)
{
    static const char *const kinds[] = {"text", "'{{'", "'}}'", "'{%'", "'%}'", "", "a string", "an integer",
                                        "a number", "", "the end of the template"};
    const struct template_token *t = p->token;
    if (t->kind == TOKEN_NAME)
        return parse_error(p, ERR_FORMAT, t->line, "expected %s, not '%.*s'", what, (int)t->length, t->text);
    if (t->kind == TOKEN_OPERATOR && t->op > 255)
        return parse_error(p, ERR_FORMAT, t->line, "expected %s, not '%c%c'", what, t->op >> 8, t->op & 255);
    if (t->kind == TOKEN_OPERATOR)
        return parse_error(p, ERR_FORMAT, t->line, "expected %s, not '%c'", what, t->op);
    return parse_error(p, ERR_FORMAT, t->line, "expected %s, not %s", what, kinds[t->kind]);
}

int parse_enter(struct parser *p)
{
    if (p->depth == PARSE_DEPTH)
        return parse_error(p, ERR_LIMIT, p->token->line, "nested more than %d levels deep", PARSE_DEPTH);
    p->depth++;
    return 0;
}

bool token_named(const struct template_token *t, const char *name)
{
    return t->kind == TOKEN_NAME && strlen(name) == t->length && memcmp(t->text, name, t->length) == 0;
}

bool parse_accept(struct parser *p, int op)
{
    if (!token_is(p->token, op))
        return false;
    p->token++;
    return true;
}

int parse_expect(struct parser *p, int op, const char *what)
{
    return parse_accept(p, op) ? 0 : parse_expected(p, what);
}

int parse_node(struct parser *p, enum node_kind kind, int line, struct node **out)
{
    *out = arena_alloc(p->arena, 1, sizeof **out, p->err);
    if (!*out)
        return arena_failed(p->err);
    **out = (struct node){.kind = kind, .line = line, .depth = 1, .symbol = -1};
    return 0;
}

int parse_finish(struct parser *p, struct node *node)
{
    struct node *const single[] = {node->a, node->b, node->c, node->star, node->star_star};
    int depth = 0;
    for (size_t i = 0; i < sizeof single / sizeof *single; i++)
        if (single[i] && single[i]->depth > depth)
            depth = single[i]->depth;
    for (size_t i = 0; i < node->n; i++)
        if (node->list[i] && node->list[i]->depth > depth)
            depth = node->list[i]->depth;
    for (size_t i = 0; i < node->n_else; i++)
        if (node->else_list[i]->depth > depth)
            depth = node->else_list[i]->depth;
    node->depth = depth + 1;
    if (node->depth > TREE_DEPTH)
        return parse_error(p, ERR_LIMIT, node->line, "an expression of more than %d levels", TREE_DEPTH);
    return 0;
}

int parse_binary(struct parser *p, enum node_kind kind, int op, struct node *a, struct node *b,
                 struct node **out)
{
    struct node *node;
    int rc = parse_node(p, kind, a->line, &node);
    if (rc)
        return rc;
    node->op = op;
    node->a = a;
    node->b = b;
    *out = node;
    return parse_finish(p, node);
}

int parse_str(struct parser *p, const char *bytes, size_t length, struct value *out)
{
    struct str *str = arena_alloc(p->arena, 1, sizeof *str, p->err);
    unsigned char *origin = str ? arena_alloc(p->arena, length + 1, 1, p->err) : NULL;
    if (!origin)
        return arena_failed(p->err);
    memset(origin, ORIGIN_TEMPLATE, length);
    *str = (struct str){.bytes = bytes, .origin = origin, .length = length, .chars = SIZE_MAX};
    str_chars(str); /* counted now: later many threads share it */
    *out = (struct value){.kind = VALUE_STRING, .str = str};
    return 0;
}

int parse_symbol(struct parser *p, const char *name, size_t length, bool bind, int *symbol)
{
    struct template *t = p->template;
    struct value text;
    for (size_t i = 0; i < t->n_symbols; i++) {
        if (t->symbols[i].name->length == length && memcmp(t->symbols[i].name->bytes, name, length) == 0) {
            *symbol = (int)i;
            t->symbols[i].bound = t->symbols[i].bound || bind;
            return 0;
        }
    }
    if (t->n_symbols == SYMBOLS_MAX)
        return parse_error(p, ERR_LIMIT, p->token->line, "more than %d names", SYMBOLS_MAX);
    if (t->n_symbols == p->symbols_capacity) {
        size_t capacity = p->symbols_capacity * 2 + 32;
        struct symbol *symbols = arena_alloc(p->arena, capacity, sizeof *symbols, p->err);
        if (!symbols)
            return arena_failed(p->err);
        if (t->n_symbols)
            memcpy(symbols, t->symbols, t->n_symbols * sizeof *symbols);
        t->symbols = symbols;
        p->symbols_capacity = capacity;
    }
    char *copy = arena_alloc(p->arena, length + 1, 1, p->err); /* with a NUL, to look up in JSON */
    if (!copy)
        return arena_failed(p->err);
    memcpy(copy, name, length);
    copy[length] = 0;
    int rc = parse_str(p, copy, length, &text);
    if (rc)
        return rc;
    *symbol = (int)t->n_symbols;
    t->symbols[t->n_symbols++] = (struct symbol){.name = text.str, .bound = bind};
    return 0;
}

int node_list_add(struct parser *p, struct node_list *list, struct node *node)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity * 2 + 4;
        struct node **v = arena_alloc(p->arena, capacity, sizeof *v, p->err);
        if (!v)
            return arena_failed(p->err);
        if (list->n)
            memcpy(v, list->v, list->n * sizeof *v);
        list->v = v;
        list->capacity = capacity;
    }
    list->v[list->n++] = node;
    return 0;
}

/* ---- blocks ---- */

static int block_end(struct parser *p)
{
    if (p->token->kind != TOKEN_BLOCK_END)
        return parse_expected(p, "'%}'");
    p->token++;
    return 0;
}

/* The statements up to one of `ends`, whose name is then the current token. */
static int parse_until(struct parser *p, const char *const *ends, struct node ***list, size_t *n)
{
    struct node_list body = {0};
    int rc = block_end(p);
    if (rc == 0)
        rc = parse_body(p, ends, &body);
    *list = body.v;
    *n = body.n;
    return rc;
}

/* The same, and then the end of the block of that name. */
static int parse_block(struct parser *p, const char *end, struct node *node)
{
    const char *const ends[] = {end, NULL};
    int rc = parse_until(p, ends, &node->list, &node->n);
    if (rc == 0) {
        p->token++;
        rc = parse_finish(p, node);
    }
    return rc;
}

static int parse_if(struct parser *p, struct node *node)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    struct node_list branches = {0};
    struct node *branch;
    bool otherwise = false;
    int rc = 0;
    do {
        otherwise = token_named(p->token - 1, "else");
        rc = parse_node(p, NODE_BRANCH, p->token->line, &branch);
        if (rc == 0 && !otherwise)
            rc = parse_tuple(p, false, &branch->a);
        if (rc == 0)
            rc = parse_until(p, otherwise ? last : ends, &branch->list, &branch->n);
        if (rc == 0)
            rc = parse_finish(p, branch);
        if (rc == 0)
            rc = node_list_add(p, &branches, branch);
        if (rc)
            return rc;
        p->token++;
    } while (!token_named(p->token - 1, "endif"));
    node->list = branches.v;
    node->n = branches.n;
    return parse_finish(p, node);
}

static int parse_for(struct parser *p, struct node *node)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    int loop;
    int rc = parse_target(p, false, &node->a);
    if (rc == 0 && !token_named(p->token, "in"))
        return parse_expected(p, "'in'");
    p->token++;
    if (rc == 0)
        rc = parse_tuple(p, false, &node->b);
    if (rc == 0 && token_named(p->token, "if")) {
        p->token++;
        rc = parse_expression(p, true, &node->c);
    }
    if (rc == 0 && token_named(p->token, "recursive"))
        return parse_error(p, ERR_UNSUPPORTED, node->line, "recursive loops are not supported");
    if (rc == 0)
        rc = parse_symbol(p, "loop", 4, true, &loop);
    if (rc)
        return rc;
    node->symbol = loop;
    p->loops++;
    rc = parse_until(p, ends, &node->list, &node->n);
    p->loops--;
    if (rc == 0 && token_named(p->token, "else")) {
        p->token++;
        rc = parse_until(p, last, &node->else_list, &node->n_else);
    }
    if (rc)
        return rc;
    p->token++;
    return parse_finish(p, node);
}

static int parse_set(struct parser *p, struct node *node)
{
    int rc = parse_target(p, true, &node->a);
    if (rc)
        return rc;
    if (parse_accept(p, '=')) {
        rc = parse_tuple(p, true, &node->b);
        return rc ? rc : parse_finish(p, node);
    }
    node->kind = NODE_SET_BLOCK;
    rc = parse_node(p, NODE_CAPTURED, node->line, &node->b);
    if (rc == 0 && parse_accept(p, '|'))
        rc = parse_filters(p, node->b, true, &node->b);
    return rc ? rc : parse_block(p, "endset", node);
}

static int parse_filter_block(struct parser *p, struct node *node)
{
    int rc = parse_node(p, NODE_CAPTURED, node->line, &node->b);
    if (rc == 0)
        rc = parse_filters(p, node->b, true, &node->b);
    return rc ? rc : parse_block(p, "endfilter", node);
}

static int parse_parameter(struct parser *p, bool *defaults, struct node **out)
{
    if (p->token->kind != TOKEN_NAME)
        return parse_expected(p, "the name of a parameter");
    int rc = parse_node(p, NODE_PARAMETER, p->token->line, out);
    if (rc == 0)
        rc = parse_symbol(p, p->token->text, p->token->length, true, &(*out)->symbol);
    if (rc == 0)
        rc = parse_str(p, p->token->text, p->token->length, &(*out)->constant);
    if (rc)
        return rc;
    p->token++;
    if (parse_accept(p, '=')) {
        *defaults = true;
        rc = parse_expression(p, true, &(*out)->a);
        return rc ? rc : parse_finish(p, *out);
    }
    return *defaults
               ? parse_error(p, ERR_FORMAT, (*out)->line, "a parameter without default after one that has it")
               : 0;
}

/* "(…)" at the current token: what a macro takes. */
static int parse_parameters(struct parser *p, struct node *macro)
{
    struct node_list parameters = {0};
    bool defaults = false;
    int rc = parse_expect(p, '(', "'('");
    for (bool first = true; rc == 0 && !parse_accept(p, ')'); first = false) {
        struct node *parameter = NULL;
        if (!first)
            rc = parse_expect(p, ',', "',' or ')'");
        if (rc == 0)
            rc = parse_parameter(p, &defaults, &parameter);
        if (rc == 0)
            rc = node_list_add(p, &parameters, parameter);
    }
    macro->else_list = parameters.v;
    macro->n_else = parameters.n;
    return rc;
}

/* The statements of a macro or a call block. What they take without saying so, those around them take too. */
static int parse_macro_body(struct parser *p, const char *end, struct node *macro)
{
    struct node **outer = p->implied, **implied = arena_alloc(p->arena, IMPLIED, sizeof *implied, p->err);
    int loops = p->loops;
    if (!implied)
        return arena_failed(p->err);
    memset(implied, 0, IMPLIED * sizeof *implied);
    p->loops = 0;
    p->implied = implied;
    int rc = parse_block(p, end, macro);
    p->implied = outer;
    p->loops = loops;
    for (int i = 0; outer && i < IMPLIED; i++)
        outer[i] = implied[i] ? implied[i] : outer[i];
    for (int i = 0; i < IMPLIED; i++)
        for (size_t j = 0; implied[i] && j < macro->n_else; j++)
            if (macro->else_list[j]->symbol == implied[i]->symbol)
                implied[i] = NULL;
    macro->implied = implied;
    return rc;
}

static int parse_macro(struct parser *p, struct node *node)
{
    if (p->token->kind != TOKEN_NAME)
        return parse_expected(p, "the name of a macro");
    int rc = parse_symbol(p, p->token->text, p->token->length, true, &node->symbol);
    if (rc == 0)
        rc = parse_str(p, p->token->text, p->token->length, &node->constant);
    p->token++;
    if (rc == 0)
        rc = parse_parameters(p, node);
    return rc ? rc : parse_macro_body(p, "endmacro", node);
}

/* The call is written out; it is given the block as one more argument, by the name "caller". */
static int parse_call_block(struct parser *p, struct node *node)
{
    struct node *caller = NULL;
    struct node_list named = {0};
    int rc = parse_node(p, NODE_CALLER, node->line, &caller);
    if (rc == 0)
        rc = parse_str(p, "caller", 6, &caller->constant);
    if (rc == 0 && token_is(p->token, '('))
        rc = parse_parameters(p, caller);
    if (rc == 0)
        rc = parse_expression(p, true, &node->a);
    if (rc == 0 && node->a->kind != NODE_CALL)
        rc = parse_expected(p, "a call");
    if (rc == 0)
        rc = parse_macro_body(p, "endcall", caller);
    if (rc)
        return rc;
    struct node *call = node->a;
    const struct str **names = arena_alloc(p->arena, call->n_else + 1, sizeof *names, p->err);
    if (!names)
        return arena_failed(p->err);
    for (size_t i = 0; rc == 0 && i < call->n_else; i++) {
        names[i] = call->names[i];
        rc = node_list_add(p, &named, call->else_list[i]);
    }
    names[call->n_else] = caller->constant.str;
    if (rc == 0)
        rc = node_list_add(p, &named, caller);
    call->names = names;
    call->else_list = named.v;
    call->n_else = named.n;
    return rc ? rc : parse_finish(p, call);
}

static int parse_with(struct parser *p, struct node *node)
{
    struct node_list sets = {0};
    int rc = 0;
    while (rc == 0 && p->token->kind != TOKEN_BLOCK_END) {
        struct node *set;
        if (sets.n)
            rc = parse_expect(p, ',', "','");
        if (rc == 0)
            rc = parse_node(p, NODE_SET, p->token->line, &set);
        if (rc)
            return rc;
        rc = parse_single_target(p, false, &set->a);
        if (rc == 0)
            rc = parse_expect(p, '=', "'='");
        if (rc == 0)
            rc = parse_expression(p, true, &set->b);
        if (rc == 0)
            rc = parse_finish(p, set);
        if (rc == 0)
            rc = node_list_add(p, &sets, set);
    }
    node->else_list = sets.v;
    node->n_else = sets.n;
    return rc ? rc : parse_block(p, "endwith", node);
}

/* The body is a function of its own in the reference: its variables stay inside, and a loop around
 * cannot be left from there. */
static int parse_generation(struct parser *p, struct node *node)
{
    int loops = p->loops;
    p->loops = 0;
    int rc = parse_block(p, "endgeneration", node);
    p->loops = loops;
    return rc;
}

static int parse_jump(struct parser *p, struct node *node)
{
    if (!p->loops)
        return parse_error(p, ERR_FORMAT, node->line, "'break' or 'continue' outside of a loop");
    return 0;
}

static int parse_statement(struct parser *p, struct node **out)
{
    static const struct {
        const char *name;
        enum node_kind kind;
        int (*parse)(struct parser *, struct node *);
    } statements[] = {
        {"if", NODE_IF, parse_if},
        {"for", NODE_FOR, parse_for},
        {"set", NODE_SET, parse_set},
        {"macro", NODE_MACRO, parse_macro},
        {"call", NODE_OUTPUT, parse_call_block},
        {"with", NODE_WITH, parse_with},
        {"filter", NODE_FILTER_BLOCK, parse_filter_block},
        {"generation", NODE_SCOPE, parse_generation},
        {"break", NODE_BREAK, parse_jump},
        {"continue", NODE_CONTINUE, parse_jump},
    };
    static const char *const known[] = {"block", "extends",    "include", "import", "from",
                                        "do",    "autoescape", "trans",   "debug",  "print"};
    const struct template_token *t = p->token;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!token_named(t, statements[i].name))
            continue;
        int rc = parse_node(p, statements[i].kind, t->line, out);
        if (rc)
            return rc;
        p->token++;
        rc = statements[i].parse(p, *out);
        return rc ? rc : block_end(p);
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (token_named(t, known[i]))
            return parse_error(p, ERR_UNSUPPORTED, t->line, "statement '%s' is not supported", known[i]);
    return parse_expected(p, "a statement");
}

static int parse_output(struct parser *p, struct node **out)
{
    int rc = parse_node(p, NODE_OUTPUT, p->token->line, out);
    p->token++;
    if (rc == 0)
        rc = parse_tuple(p, true, &(*out)->a);
    if (rc)
        return rc;
    if (p->token->kind != TOKEN_OUTPUT_END)
        return parse_expected(p, "'}}'");
    p->token++;
    return parse_finish(p, *out);
}

static bool is_end(const struct template_token *t, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (token_named(t, *ends))
            return true;
    return false;
}

static int parse_body(struct parser *p, const char *const *ends, struct node_list *body)
{
    int rc = parse_enter(p);
    if (rc)
        return rc;
    while (rc == 0 && p->token->kind != TOKEN_END) {
        struct node *node = NULL;
        const struct template_token *t = p->token;
        if (t->kind == TOKEN_DATA) {
            rc = parse_node(p, NODE_DATA, t->line, &node);
            if (rc == 0)
                rc = parse_str(p, t->text, t->length, &node->constant);
            p->token++;
        } else if (t->kind == TOKEN_OUTPUT_BEGIN) {
            rc = parse_output(p, &node);
        } else if (is_end(t + 1, ends)) {
            p->token++;
            p->depth--;
            return 0;
        } else {
            p->token++;
            rc = parse_statement(p, &node);
        }
        if (rc == 0)
            rc = node_list_add(p, body, node);
    }
    p->depth--;
    if (rc == 0 && ends)
        return parse_error(p, ERR_FORMAT, p->token->line, "the template ends before '%s'",
                           ends[1] && ends[2] ? ends[2]
                           : ends[1]          ? ends[1]
                                              : ends[0]);
    return rc;
}

/* ---- the door ---- */

static int check_calls(struct parser *p)
{
    for (size_t i = 0; i < p->calls.n; i++) {
        const struct node *callee = p->calls.v[i];
        const struct symbol *symbol = &p->template->symbols[callee->symbol];
        const struct str *name = symbol->name;
        if (!symbol->bound && !builtin_function(name->bytes, name->length))
            return parse_error(p, ERR_UNSUPPORTED, callee->line, "function '%.*s' is not supported",
                               (int)name->length, name->bytes);
    }
    return 0;
}

int template_compile(struct template **out, const char *source, size_t length, struct err *err)
{
    struct err ignored;
    struct template_token *tokens;
    struct node_list body = {0};
    size_t n;
    *out = NULL;
    if (!err)
        err = &ignored;
    struct template *template = calloc(1, sizeof *template);
    if (!template)
        return err_set(err, ERR_NOMEM, "out of memory for a chat template");
    template->arena.limit = COMPILE_MEMORY;
    struct parser p = {.template = template, .arena = &template->arena, .err = err};
    int rc = template_tokens(&template->arena, source, length, &tokens, &n, err);
    if (rc == 0) {
        p.token = tokens;
        rc = parse_node(&p, NODE_SCOPE, 1, &template->body);
    }
    if (rc == 0)
        rc = parse_body(&p, NULL, &body);
    if (rc == 0) {
        template->body->list = body.v;
        template->body->n = body.n;
        rc = parse_finish(&p, template->body);
    }
    if (rc == 0)
        rc = check_calls(&p);
    if (rc) {
        template_destroy(template);
        return rc;
    }
    *out = template;
    return 0;
}

void template_destroy(struct template *template)
{
    if (!template)
        return;
    arena_free(&template->arena);
    free(template);
}
