/* Questions about schemas that are read: whether a value satisfies one, whether any does, and whether no
 * value satisfies two of them. */
#include "schema.h"

#include <string.h>

enum { MAX_DEPTH = 100, PROOF_DEPTH = 8 };

/* ---- values ---- */

static unsigned type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return TYPE_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return TYPE_BOOLEAN;
    case JSON_OBJECT:
        return TYPE_OBJECT;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    case JSON_STRING:
        return TYPE_STRING;
    default:
        return TYPE_NUMBER;
    }
}

static bool within(size_t n, int64_t min, int64_t max)
{
    return (int64_t)n >= min && (max < 0 || (int64_t)n <= max);
}

static bool array_holds(struct schema *s, const struct schema_shape *shape, const json_t *value, int depth)
{
    size_t n = json_array_size(value);
    if (!within(n, shape->min_items, shape->max_items))
        return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        if (!schema_holds(s, i < shape->n_prefix ? shape->prefix[i] : shape->rest, item, depth + 1))
            return false;
        for (size_t j = 0; shape->unique && j < i && schema_step(s, 1); j++) {
            if (schema_equal(json_array_get(value, j), item, 0))
                return false;
        }
    }
    return true;
}

static const struct schema_member *find_member(const struct schema_shape *shape, const char *name)
{
    for (size_t i = 0; i < shape->n_members; i++) {
        if (strcmp(shape->members[i].name, name) == 0)
            return &shape->members[i];
    }
    return NULL;
}

/* Of a member's name: the rule of its value. */
static int rule_of_member(struct schema *s, const struct schema_shape *shape, const char *name)
{
    const struct schema_member *member = find_member(shape, name);
    if (member)
        return member->rule;
    for (size_t i = 0; i < shape->n_patterns; i++) {
        if (schema_matches(s, shape->patterns[i].pattern, true, name) > 0)
            return shape->patterns[i].rule;
    }
    return shape->others;
}

static bool object_holds(struct schema *s, const struct schema_shape *shape, const json_t *value, int depth)
{
    if (!within(json_object_size(value), shape->min_members, shape->max_members))
        return false;
    for (size_t i = 0; i < shape->n_members; i++) {
        if (shape->members[i].required && !json_object_get(value, shape->members[i].name))
            return false;
    }
    const char *name;
    json_t *member;
    json_object_foreach((json_t *)value, name, member) {
        if (!schema_step(s, 1 + shape->n_members) ||
            !schema_holds(s, rule_of_member(s, shape, name), member, depth + 1))
            return false;
    }
    return true;
}

bool schema_limits_hold(struct schema *s, const struct schema_shape *shape, const json_t *value, int depth)
{
    unsigned type = type_of(value);
    if (!(shape->types & type) || !schema_step(s, 1))
        return false;
    switch (type) {
    case TYPE_NUMBER:
        return schema_number_holds(&shape->number, value);
    case TYPE_STRING:
        return schema_string_holds(s, shape, json_string_value(value));
    case TYPE_ARRAY:
        return array_holds(s, shape, value, depth);
    case TYPE_OBJECT:
        return object_holds(s, shape, value, depth);
    default:
        return true;
    }
}

static bool shape_holds(struct schema *s, const struct schema_shape *shape, const json_t *value, int depth)
{
    bool found = !shape->listed;
    for (size_t i = 0; i < shape->n_values && !found && schema_step(s, 1); i++)
        found = schema_equal(shape->values[i], value, 0);
    return found && schema_limits_hold(s, shape, value, depth);
}

bool schema_holds(struct schema *s, int index, const json_t *value, int depth)
{
    const struct schema_rule *rule = s->rules[index];
    if (depth > MAX_DEPTH || !schema_step(s, 1))
        return false;
    for (size_t i = 0; i < rule->n_cases; i++) {
        const struct schema_case *choice = &rule->cases[i];
        if (choice->unit >= 0 ? schema_holds(s, choice->unit, value, depth + 1)
                              : shape_holds(s, choice->shape, value, depth))
            return true;
    }
    return false;
}

/* ---- what is possible ---- */

static bool shape_possible(struct schema *s, const struct schema_shape *shape)
{
    if (shape->listed) {
        for (size_t i = 0; i < shape->n_values; i++) {
            if (schema_limits_hold(s, shape, shape->values[i], 0))
                return true;
        }
        return false;
    }
    if (shape->implied & (TYPE_NULL | TYPE_BOOLEAN))
        return true;
    if (shape->implied & TYPE_STRING && (shape->max_length < 0 || shape->min_length <= shape->max_length))
        return true;
    return (shape->implied & TYPE_NUMBER && schema_number_possible(s, &shape->number)) ||
           (shape->implied & TYPE_ARRAY && schema_array_possible(s, shape)) ||
           (shape->implied & TYPE_OBJECT && schema_object_possible(s, shape));
}

/* From the last rule to the first, as children come behind their parents, until nothing changes. */
static void find_possible(struct schema *s)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = s->n_rules; i-- > 0;) {
            struct schema_rule *rule = s->rules[i];
            for (size_t j = 0; j < rule->n_cases; j++) {
                struct schema_case *choice = &rule->cases[j];
                if (choice->possible)
                    continue;
                if (!schema_step(s, 1))
                    return;
                choice->possible =
                    choice->unit >= 0 ? s->rules[choice->unit]->possible : shape_possible(s, choice->shape);
                changed |= choice->possible;
                rule->possible |= choice->possible;
            }
        }
    }
}

/* Whether rules stand for each other in a circle: every rule is visited once, its units after it. */
static void refuse_circles(struct schema *s)
{
    size_t n = s->n_rules;
    int *open = schema_alloc(s, n + 1, sizeof *open); /* a path of rules */
    size_t *next =
        schema_alloc(s, n + 1, sizeof *next); /* of each: the case to be looked at; 0: not visited */
    bool *done = schema_alloc(s, n + 1, sizeof *done);
    for (size_t i = 0; open && next && done && i < n; i++) {
        size_t depth = 0;
        if (!done[i])
            open[depth++] = (int)i;
        while (depth > 0) {
            int at = open[depth - 1];
            const struct schema_rule *rule = s->rules[at];
            if (next[at] == rule->n_cases) {
                done[at] = true;
                depth--;
                continue;
            }
            int unit = rule->cases[next[at]++].unit;
            if (unit < 0 || done[unit])
                continue;
            if (next[unit] > 0) {
                schema_fail(s, ERR_INVALID, rule->set[0], NULL, "refers to itself without an end");
                return;
            }
            open[depth++] = unit;
        }
    }
}

/* ---- what excludes each other ---- */

static bool rules_disjoint(struct schema *, int a, int b, int depth);

/* Whether ranges 0 … 2^63 have nothing in common; max -1: no bound. */
static bool apart(int64_t min_a, int64_t max_a, int64_t min_b, int64_t max_b)
{
    return (max_a >= 0 && min_b > max_a) || (max_b >= 0 && min_a > max_b);
}

static bool numbers_apart(const struct number_bounds *a, const struct number_bounds *b)
{
    if (a->has_upper && b->has_lower) {
        int order = decimal_compare(&a->upper, &b->lower);
        if (order < 0 || (order == 0 && (a->upper_open || b->lower_open)))
            return true;
    }
    return false;
}

static bool arrays_disjoint(struct schema *s, const struct schema_shape *a, const struct schema_shape *b,
                            int depth)
{
    if (apart(a->min_items, a->max_items, b->min_items, b->max_items))
        return true;
    int64_t both = a->min_items > b->min_items ? a->min_items : b->min_items;
    size_t longest = a->n_prefix > b->n_prefix ? a->n_prefix : b->n_prefix;
    for (size_t i = 0; i <= longest && (int64_t)i < both; i++) {
        if (rules_disjoint(s, i < a->n_prefix ? a->prefix[i] : a->rest,
                           i < b->n_prefix ? b->prefix[i] : b->rest, depth))
            return true;
    }
    return false;
}

/* Whether a member that `a` requires is never what `b` takes. */
static bool member_disjoint(struct schema *s, const struct schema_shape *a, const struct schema_shape *b,
                            int depth)
{
    for (size_t i = 0; i < a->n_members && schema_step(s, 1 + b->n_members); i++) {
        if (a->members[i].required &&
            rules_disjoint(s, a->members[i].rule, rule_of_member(s, b, a->members[i].name), depth))
            return true;
    }
    return false;
}

static bool type_disjoint(struct schema *s, unsigned type, const struct schema_shape *a,
                          const struct schema_shape *b, int depth)
{
    switch (type) {
    case TYPE_NUMBER:
        return numbers_apart(&a->number, &b->number) || numbers_apart(&b->number, &a->number);
    case TYPE_STRING:
        return apart(a->min_length, a->max_length, b->min_length, b->max_length);
    case TYPE_ARRAY:
        return arrays_disjoint(s, a, b, depth);
    case TYPE_OBJECT:
        return apart(a->min_members, a->max_members, b->min_members, b->max_members) ||
               member_disjoint(s, a, b, depth) || member_disjoint(s, b, a, depth);
    default:
        return false;
    }
}

static bool none_holds(struct schema *s, const struct schema_shape *listed, const struct schema_shape *other)
{
    for (size_t i = 0; i < listed->n_values && schema_step(s, 1); i++) {
        if (shape_holds(s, other, listed->values[i], 0) &&
            schema_limits_hold(s, listed, listed->values[i], 0))
            return false;
    }
    return true;
}

/* No value that one of them writes is valid under the other. */
static bool shapes_disjoint(struct schema *s, const struct schema_shape *a, const struct schema_shape *b,
                            int depth)
{
    if (a->listed || b->listed)
        return a->listed ? none_holds(s, a, b) : none_holds(s, b, a);
    unsigned common = (a->implied & b->types) | (a->types & b->implied);
    for (unsigned type = 1; type < TYPE_ANY; type <<= 1) {
        if (common & type && !type_disjoint(s, type, a, b, depth))
            return false;
    }
    return true;
}

static bool cases_disjoint(struct schema *s, const struct schema_case *a, const struct schema_case *b,
                           int depth)
{
    if (!schema_step(s, 1) || depth > PROOF_DEPTH)
        return false;
    if (a->unit < 0 && b->unit < 0)
        return shapes_disjoint(s, a->shape, b->shape, depth + 1);
    const struct schema_case *inner = a->unit >= 0 ? a : b, *outer = a->unit >= 0 ? b : a;
    const struct schema_rule *rule = s->rules[inner->unit];
    for (size_t i = 0; i < rule->n_cases; i++) {
        if (!cases_disjoint(s, outer, &rule->cases[i], depth + 1))
            return false;
    }
    return true;
}

static bool rules_disjoint(struct schema *s, int a, int b, int depth)
{
    struct schema_case first = {.unit = a}, second = {.unit = b};
    return cases_disjoint(s, &first, &second, depth);
}

/* Branches of a oneOf that both are chosen somewhere must not meet. */
static void prove_one_of(struct schema *s, const struct schema_case *a, const struct schema_case *b)
{
    for (size_t i = 0; i < a->n_picks; i++) {
        for (size_t j = 0; j < b->n_picks; j++) {
            if (a->picks[i].one_of != b->picks[j].one_of || a->picks[i].branch == b->picks[j].branch)
                continue;
            if (cases_disjoint(s, a, b, 0) || grammar_failure(s->build, NULL))
                return;
            char text[160];
            snprintf(text, sizeof text,
                     "branches %zu and %zu may hold for the same value, or it cannot be proven that "
                     "they do not: anyOf says what is meant",
                     a->picks[i].branch, b->picks[j].branch);
            schema_fail(s, ERR_UNSUPPORTED, a->picks[i].one_of, NULL, text);
            return;
        }
    }
}

void schema_decide(struct schema *s)
{
    refuse_circles(s);
    if (!grammar_failure(s->build, NULL))
        find_possible(s);
    for (size_t i = 0; i < s->n_rules && schema_step(s, 1); i++) {
        const struct schema_rule *rule = s->rules[i];
        for (size_t j = 0; j < rule->n_cases; j++) {
            for (size_t k = j + 1; rule->cases[j].n_picks && k < rule->n_cases && schema_step(s, 1); k++)
                prove_one_of(s, &rule->cases[j], &rule->cases[k]);
        }
    }
}
