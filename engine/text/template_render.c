/* Runs the statements of a compiled template over a context, and is the door: template_render. */
#include "template.h"

#include <string.h>

#include "template_run.h"

/* ---- assignment ---- */

static int assign(struct run *, const struct node *target, struct value) WARN_UNUSED;

static int assign_tuple(struct run *run, const struct node *target, struct value value)
{
    const struct value *items;
    size_t n;
    int rc = value_items(run, value, &items, &n);
    if (rc)
        return rc;
    if (n != target->n)
        return run_error(run, ERR_INVALID, "%zu values for %zu names", n, target->n);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = assign(run, target->list[i], items[i]);
    return rc;
}

static int assign(struct run *run, const struct node *target, struct value value)
{
    struct value space;
    run->line = target->line;
    if (target->kind == NODE_NAME)
        return scope_set(run, target->symbol, value);
    if (target->kind == NODE_TUPLE)
        return assign_tuple(run, target, value);
    int rc = scope_get(run, target->symbol, &space);
    if (rc)
        return rc;
    if (space.kind != VALUE_NAMESPACE)
        return run_error(run, ERR_INVALID, "cannot assign attribute on non-namespace object");
    return dict_set(run, space.dict, target->constant, value);
}

/* ---- blocks whose output is a value ---- */

/* Runs a list in a scope of its own; what it writes becomes *out. */
static int capture(struct run *run, struct node *const *list, size_t n, struct value *out)
{
    struct scope *outer = run->scope;
    size_t mark = run_mark(run);
    int rc = scope_push(run, outer);
    if (rc == 0)
        rc = exec_list(run, list, n);
    run->scope = outer;
    if (rc == 0)
        return run_take(run, mark, out);
    run->length = mark;
    return rc;
}

static int exec_capture(struct run *run, const struct node *node)
{
    struct value text, saved = run->captured;
    int rc = capture(run, node->list, node->n, &text);
    if (rc)
        return rc;
    run->captured = text;
    rc = eval(run, node->b, &text);
    run->captured = saved;
    if (rc)
        return rc;
    return node->kind == NODE_SET_BLOCK ? assign(run, node->a, text) : write_str(run, text);
}

static bool same_name(const struct str *a, const struct str *b)
{
    return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

/* What stands behind the last parameter is the macro's varargs, if it asks for them. */
static int bind_varargs(struct run *run, const struct node *node, const struct args *args)
{
    const struct node *name = node->implied[IMPLIED_VARARGS];
    struct value rest;
    size_t n = args->n > node->n_else ? args->n - node->n_else : 0;
    if (!name && n)
        return run_error(run, ERR_INVALID, "macro '%.*s' takes not more than %zu arguments",
                         (int)node->constant.str->length, node->constant.str->bytes, node->n_else);
    if (!name)
        return 0;
    int rc = value_seq(run, SEQ_TUPLE, n, &rest);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rest.seq->items[i] = args->v[node->n_else + i];
    return rc ? rc : scope_set(run, name->symbol, rest);
}

/* Named arguments that are no parameters: the caller, and kwargs, if the macro asks for them. */
static int bind_named(struct run *run, const struct node *node, const struct args *args, const bool *used)
{
    const struct node *caller = node->implied[IMPLIED_CALLER], *kwargs = node->implied[IMPLIED_KWARGS];
    struct value given = caller ? value_undefined(run->template->symbols[caller->symbol].name) : value_none();
    struct args rest = {0};
    const struct str **names = run_alloc(run, args->n_named + 1, sizeof *names);
    struct value *named = run_alloc(run, args->n_named + 1, sizeof *named);
    if (!names || !named)
        return arena_failed(run->err);
    for (size_t i = 0; i < args->n_named; i++) {
        if (used[i])
            continue;
        if (caller && same_name(args->names[i], run->template->symbols[caller->symbol].name)) {
            given = args->named[i];
            continue;
        }
        if (!kwargs)
            return run_error(run, ERR_INVALID, "macro '%.*s' takes no keyword argument '%.*s'",
                             (int)node->constant.str->length, node->constant.str->bytes,
                             (int)args->names[i]->length, args->names[i]->bytes);
        names[rest.n_named] = args->names[i];
        named[rest.n_named++] = args->named[i];
    }
    int rc = caller ? scope_set(run, caller->symbol, given) : 0;
    if (rc || !kwargs)
        return rc;
    rest.names = names;
    rest.named = named;
    rc = value_dict(run, rest.n_named, &given);
    if (rc == 0)
        rc = dict_fill(run, given.dict, &rest);
    return rc ? rc : scope_set(run, kwargs->symbol, given);
}

/* Puts every argument where it belongs; parameters without one get their default. */
static int bind_parameters(struct run *run, const struct node *node, const struct args *args)
{
    bool *used = run_alloc(run, args->n_named + 1, sizeof *used);
    if (!used)
        return arena_failed(run->err);
    memset(used, 0, args->n_named);
    int rc = bind_varargs(run, node, args);
    for (size_t i = 0; rc == 0 && i < node->n_else; i++) {
        const struct node *parameter = node->else_list[i];
        const struct str *name = parameter->constant.str;
        struct value v = value_undefined(name);
        bool given = i < args->n;
        if (given)
            v = args->v[i];
        for (size_t j = 0; j < args->n_named && !given; j++) {
            if (!used[j] && same_name(args->names[j], name)) {
                given = used[j] = true;
                v = args->named[j];
            }
        }
        if (!given && parameter->a)
            rc = eval(run, parameter->a, &v);
        if (rc == 0)
            rc = scope_set(run, parameter->symbol, v);
    }
    return rc ? rc : bind_named(run, node, args, used);
}

int call_macro(struct run *run, const struct macro *macro, const struct args *args, struct value *out)
{
    struct scope *outer = run->scope;
    size_t mark = run_mark(run);
    int rc = scope_push(run, macro->scope);
    if (rc == 0)
        rc = bind_parameters(run, macro->node, args);
    if (rc == 0)
        rc = exec_list(run, macro->node->list, macro->node->n);
    run->scope = outer;
    return rc ? rc : run_take(run, mark, out);
}

/* ---- statements ---- */

/* Keeps the items for which the loop's condition holds. */
static int filter_items(struct run *run, const struct node *node, const struct value **items, size_t *n)
{
    struct scope *outer = run->scope;
    struct value kept;
    size_t n_kept = 0;
    int rc = value_seq(run, SEQ_LIST, *n, &kept);
    if (rc == 0)
        rc = scope_push(run, outer);
    for (size_t i = 0; rc == 0 && i < *n; i++) {
        struct value test;
        rc = scope_renew(run);
        if (rc == 0)
            rc = assign(run, node->a, (*items)[i]);
        if (rc == 0)
            rc = eval(run, node->c, &test);
        if (rc == 0 && value_truth(test))
            kept.seq->items[n_kept++] = (*items)[i];
    }
    run->scope = outer;
    if (rc)
        return rc;
    *items = kept.seq->items;
    *n = n_kept;
    return 0;
}

static int exec_for(struct run *run, const struct node *node)
{
    struct scope *outer = run->scope;
    struct value v;
    const struct value *items;
    size_t n;
    int rc = eval(run, node->b, &v);
    run->line = node->line;
    if (rc == 0)
        rc = value_items(run, v, &items, &n);
    if (rc == 0 && node->c)
        rc = filter_items(run, node, &items, &n);
    struct loop *loop = rc ? NULL : run_alloc(run, 1, sizeof *loop);
    if (!loop)
        return arena_failed(run->err);
    *loop = (struct loop){.items = items, .n = n};
    rc = scope_push(run, outer);
    for (; rc == 0 && loop->index < n; loop->index++) {
        rc = run_step(run, 0);
        if (rc == 0)
            rc = scope_renew(run);
        if (rc == 0)
            rc = scope_set(run, node->symbol, (struct value){.kind = VALUE_LOOP, .loop = loop});
        if (rc == 0)
            rc = assign(run, node->a, items[loop->index]);
        if (rc == 0)
            rc = exec_list(run, node->list, node->n);
        if (rc == RUN_CONTINUE)
            rc = 0;
    }
    if (rc == RUN_BREAK)
        rc = 0;
    if (rc == 0 && n == 0)
        rc = exec_list(run, node->else_list, node->n_else);
    run->scope = outer;
    return rc;
}

static int exec_if(struct run *run, const struct node *node)
{
    for (size_t i = 0; i < node->n; i++) {
        const struct node *branch = node->list[i];
        struct value test = value_bool(true);
        int rc = branch->a ? eval(run, branch->a, &test) : 0;
        if (rc)
            return rc;
        if (value_truth(test))
            return exec_list(run, branch->list, branch->n);
    }
    return 0;
}

int make_macro(struct run *run, const struct node *node, struct value *out)
{
    struct macro *macro = run_alloc(run, 1, sizeof *macro);
    if (!macro)
        return arena_failed(run->err);
    *macro = (struct macro){.node = node, .scope = run->scope};
    for (struct scope *scope = run->scope; scope; scope = scope->parent)
        scope->kept = true;
    *out = (struct value){.kind = VALUE_MACRO, .macro = macro};
    return 0;
}

static int exec_macro(struct run *run, const struct node *node)
{
    struct value macro;
    int rc = make_macro(run, node, &macro);
    return rc ? rc : scope_set(run, node->symbol, macro);
}

/* The values of `with` are evaluated outside of the new scope. */
static int exec_with(struct run *run, const struct node *node)
{
    struct scope *outer = run->scope;
    struct value values;
    int rc = value_seq(run, SEQ_LIST, node->n_else, &values);
    for (size_t i = 0; rc == 0 && i < node->n_else; i++)
        rc = eval(run, node->else_list[i]->b, &values.seq->items[i]);
    if (rc == 0)
        rc = scope_push(run, outer);
    for (size_t i = 0; rc == 0 && i < node->n_else; i++)
        rc = assign(run, node->else_list[i]->a, values.seq->items[i]);
    if (rc == 0)
        rc = exec_list(run, node->list, node->n);
    run->scope = outer;
    return rc;
}

static int exec_scope(struct run *run, const struct node *node)
{
    struct scope *outer = run->scope;
    int rc = scope_push(run, outer);
    if (rc == 0)
        rc = exec_list(run, node->list, node->n);
    run->scope = outer;
    return rc;
}

static int exec(struct run *run, const struct node *node)
{
    struct value v;
    int rc;
    switch (node->kind) {
    case NODE_DATA:
        return run_add_str(run, node->constant.str);
    case NODE_OUTPUT:
        rc = eval(run, node->a, &v);
        return rc ? rc : write_str(run, v);
    case NODE_SET:
        rc = eval(run, node->b, &v);
        return rc ? rc : assign(run, node->a, v);
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK:
        return exec_capture(run, node);
    case NODE_FOR:
        return exec_for(run, node);
    case NODE_IF:
        return exec_if(run, node);
    case NODE_MACRO:
        return exec_macro(run, node);
    case NODE_WITH:
        return exec_with(run, node);
    case NODE_SCOPE:
        return exec_scope(run, node);
    case NODE_BREAK:
        return RUN_BREAK;
    case NODE_CONTINUE:
        return RUN_CONTINUE;
    default:
        REQUIRE(!"a statement");
        return ERR_INVALID;
    }
}

int exec_list(struct run *run, struct node *const *list, size_t n)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = run_enter(run, list[i]->line);
        if (rc == 0)
            rc = exec(run, list[i]);
        run->depth--;
    }
    return rc;
}

/* ---- the context ---- */

static int array_from_json(struct run *run, const json_t *json, enum origin origin, struct value *out)
{
    size_t n = json_array_size(json);
    int rc = value_seq(run, SEQ_LIST, n, out);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = value_from_json(run, json_array_get(json, i), origin, &out->seq->items[i]);
    return rc;
}

static int object_from_json(struct run *run, const json_t *json, enum origin origin, struct value *out)
{
    json_t *object = (json_t *)json, *member; /* jansson's iterators want it writable */
    const char *key;
    int rc = value_dict(run, json_object_size(json), out);
    if (rc)
        return rc;
    json_object_foreach(object, key, member)
    {
        struct pair *pair = &out->dict->pairs[out->dict->n++]; /* keys are unique already */
        rc = value_text(run, key, strlen(key), origin, &pair->key);
        if (rc == 0)
            rc = value_from_json(run, member, origin, &pair->value);
        if (rc)
            return rc;
    }
    return 0;
}

int value_from_json(struct run *run, const json_t *json, enum origin origin, struct value *out)
{
    int rc = 0;
    switch (json_typeof(json)) {
    case JSON_NULL:
        *out = value_none();
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = value_bool(json_is_true(json));
        break;
    case JSON_INTEGER:
        *out = value_int(json_integer_value(json));
        break;
    case JSON_REAL:
        *out = value_real(json_real_value(json));
        break;
    case JSON_STRING:
        rc = value_text(run, json_string_value(json), json_string_length(json), origin, out);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        if (run->depth >= VALUE_DEPTH)
            return err_set(run->err, ERR_LIMIT, "the conversation is nested more than %d levels deep",
                           VALUE_DEPTH);
        run->depth++;
        rc = json_is_array(json) ? array_from_json(run, json, origin, out)
                                 : object_from_json(run, json, origin, out);
        run->depth--;
        break;
    }
    out->origin = (uint8_t)origin;
    return rc;
}

static int messages_from_json(struct run *run, const json_t *json, struct value *out)
{
    if (!json_is_array(json))
        return value_from_json(run, json, ORIGIN_PLAIN, out);
    size_t n = json_array_size(json);
    int rc = value_seq(run, SEQ_LIST, n, out);
    out->origin = ORIGIN_PLAIN;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const json_t *message = json_array_get(json, i);
        const char *role = json_string_value(json_object_get(message, "role"));
        bool history = role && (strcmp(role, "assistant") == 0 || strcmp(role, "tool") == 0);
        rc = value_from_json(run, message, history ? ORIGIN_HISTORY : ORIGIN_PLAIN, &out->seq->items[i]);
    }
    return rc;
}

/* Only what the template names is converted. */
static int load_context(struct run *run, const json_t *context)
{
    const struct template *t = run->template;
    const json_t *extra = json_object_get(context, "chat_template_kwargs");
    run->globals = run_alloc(run, t->n_symbols, sizeof *run->globals);
    if (!run->globals)
        return arena_failed(run->err);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < t->n_symbols; i++) {
        const struct str *name = t->symbols[i].name;
        const json_t *json = json_object_get(context, name->bytes);
        const struct builtin *function = builtin_function(name->bytes, name->length);
        run->globals[i] = (struct value){.kind = VALUE_ABSENT};
        if (json && strcmp(name->bytes, "messages") == 0)
            rc = messages_from_json(run, json, &run->globals[i]);
        else if (json && (strcmp(name->bytes, "tools") == 0 || strcmp(name->bytes, "documents") == 0))
            rc = value_from_json(run, json, ORIGIN_PLAIN, &run->globals[i]);
        else if (json)
            rc = value_from_json(run, json, ORIGIN_TEMPLATE, &run->globals[i]);
        else if ((json = json_object_get(extra, name->bytes)) != NULL)
            rc = value_from_json(run, json, ORIGIN_PLAIN, &run->globals[i]);
        else if (function)
            run->globals[i] = (struct value){.kind = VALUE_BUILTIN, .builtin = function};
    }
    return rc;
}

int template_render(const struct template *template, const json_t *context, struct template_output *out,
                    struct err *err)
{
    struct err ignored;
    struct run run = {
        .template = template, .arena = {.limit = RUN_MEMORY}, .err = err ? err : &ignored, .line = 1};
    *out = (struct template_output){0};
    int rc = load_context(&run, context);
    if (rc == 0)
        rc = exec_list(&run, template->body->list, template->body->n);
    if (rc == 0)
        rc = run_add(&run, "", 0, ORIGIN_TEMPLATE); /* there is a buffer even when nothing was written */
    arena_free(&run.arena);
    if (rc) {
        free(run.text);
        free(run.origin);
        return rc;
    }
    run.text[run.length] = 0;
    *out = (struct template_output){.text = run.text, .origin = run.origin, .length = run.length};
    return 0;
}
