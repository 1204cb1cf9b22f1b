/* Keywords of several schemas that must hold together, as one shape. */
#include "schema.h"

#include <limits.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned type;
} types[] = {
    {"null", TYPE_NULL},     {"boolean", TYPE_BOOLEAN}, {"object", TYPE_OBJECT},  {"array", TYPE_ARRAY},
    {"string", TYPE_STRING}, {"number", TYPE_NUMBER},   {"integer", TYPE_NUMBER},
};

/* Everything stays valid after an error; nothing is made of it then. */
struct merge {
    struct schema *s;
    const json_t *const *own;
    size_t n;
    struct schema_shape *shape;
    bool typed;        /* type, enum or const tell the types */
    unsigned keywords; /* types that keywords are about */
};

/* ---- scalars ---- */

static unsigned read_type(struct schema *s, const json_t *at, const json_t *type, bool *integer)
{
    const char *name = json_string_value(type);
    for (size_t i = 0; name && i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) == 0) {
            *integer = name[0] == 'i';
            return types[i].type;
        }
    }
    schema_fail(s, ERR_INVALID, at, "type",
                "must be null, boolean, object, array, string, number, integer, or an array of "
                "those");
    return 0;
}

static void merge_type(struct merge *m, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type");
    unsigned found = 0;
    bool integer = false, number = false;
    if (!type)
        return;
    if (json_is_array(type)) {
        for (size_t i = 0; i < json_array_size(type); i++) {
            bool is_integer = false;
            unsigned one = read_type(m->s, schema, json_array_get(type, i), &is_integer);
            integer |= is_integer;
            number |= one == TYPE_NUMBER && !is_integer;
            found |= one;
        }
    } else {
        found = read_type(m->s, schema, type, &integer);
    }
    if (json_is_true(json_object_get(schema, "nullable")))
        found |= TYPE_NULL;
    m->typed = true;
    m->shape->types &= found;
    m->shape->number.integer |= integer && !number;
}

static void list_values(struct merge *m, const json_t *const *values, size_t n)
{
    struct schema_shape *shape = m->shape;
    size_t kept = 0;
    m->typed = true;
    if (!shape->listed) {
        shape->listed = true;
        shape->values = schema_alloc(m->s, n + 1, sizeof *shape->values);
        if (!shape->values)
            return;
        if (n)
            memcpy(shape->values, values, n * sizeof *values);
        shape->n_values = n;
        return;
    }
    for (size_t i = 0; i < shape->n_values; i++) {
        bool found = false;
        for (size_t j = 0; j < n && !found && schema_step(m->s, 1); j++)
            found = schema_equal(shape->values[i], values[j], 0);
        if (found)
            shape->values[kept++] = shape->values[i];
    }
    shape->n_values = kept;
}

static void merge_values(struct merge *m, const json_t *schema)
{
    const json_t *list = json_object_get(schema, "enum"), *constant = json_object_get(schema, "const");
    if (constant)
        list_values(m, &constant, 1);
    if (!list)
        return;
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n == 0) {
        schema_fail(m->s, ERR_INVALID, schema, "enum", "must be an array, not empty");
        return;
    }
    const json_t **values = schema_alloc(m->s, n, sizeof *values);
    for (size_t i = 0; values && i < n; i++)
        values[i] = json_array_get(list, i);
    if (values)
        list_values(m, values, n);
}

static bool read_decimal(struct merge *m, const json_t *schema, const char *name, struct decimal *out)
{
    const json_t *value = json_object_get(schema, name);
    if (!value || json_is_boolean(value))
        return false;
    if (!json_is_number(value)) {
        schema_fail(m->s, ERR_INVALID, schema, name, "must be a number");
        return false;
    }
    if (!decimal_read(value, out)) {
        schema_fail(m->s, ERR_LIMIT, schema, name, "a number of too many digits");
        return false;
    }
    return true;
}

static void lower_bound(struct number_bounds *number, const struct decimal *bound, bool open)
{
    int order = number->has_lower ? decimal_compare(bound, &number->lower) : 1;
    if (order > 0)
        number->lower_open = open;
    else if (order == 0)
        number->lower_open |= open;
    if (order > 0)
        number->lower = *bound;
    number->has_lower = true;
}

static void upper_bound(struct number_bounds *number, const struct decimal *bound, bool open)
{
    int order = number->has_upper ? decimal_compare(bound, &number->upper) : -1;
    if (order < 0)
        number->upper_open = open;
    else if (order == 0)
        number->upper_open |= open;
    if (order < 0)
        number->upper = *bound;
    number->has_upper = true;
}

static void merge_number(struct merge *m, const json_t *schema)
{
    struct number_bounds *number = &m->shape->number;
    struct decimal bound;
    /* Draft 4 has booleans for the exclusive ones. */
    if (read_decimal(m, schema, "minimum", &bound))
        lower_bound(number, &bound, json_is_true(json_object_get(schema, "exclusiveMinimum")));
    if (read_decimal(m, schema, "maximum", &bound))
        upper_bound(number, &bound, json_is_true(json_object_get(schema, "exclusiveMaximum")));
    if (read_decimal(m, schema, "exclusiveMinimum", &bound))
        lower_bound(number, &bound, true);
    if (read_decimal(m, schema, "exclusiveMaximum", &bound))
        upper_bound(number, &bound, true);
    if (!read_decimal(m, schema, "multipleOf", &bound))
        return;
    if (bound.negative || bound.n == 0)
        schema_fail(m->s, ERR_INVALID, schema, "multipleOf", "must be above 0");
    else if (number->n_steps == (int)(sizeof number->step / sizeof *number->step))
        schema_fail(m->s, ERR_LIMIT, schema, "multipleOf", "too many of them together");
    else
        number->step[number->n_steps++] = bound;
}

static int64_t read_size(struct merge *m, const json_t *schema, const char *name, int64_t otherwise)
{
    const json_t *value = json_object_get(schema, name);
    if (!value)
        return otherwise;
    double real = json_number_value(value);
    if (!json_is_number(value) || !(real >= 0) || real >= 0x1p62 || real != (double)(int64_t)real) {
        schema_fail(m->s, ERR_INVALID, schema, name, "must be a whole number, not negative");
        return otherwise;
    }
    return (int64_t)real;
}

static void merge_sizes(struct merge *m, const json_t *schema, const char *least, const char *most,
                        int64_t *min, int64_t *max)
{
    int64_t lower = read_size(m, schema, least, 0), upper = read_size(m, schema, most, -1);
    if (lower > *min)
        *min = lower;
    if (upper >= 0 && (*max < 0 || upper < *max))
        *max = upper;
}

static void merge_text(struct merge *m, const json_t *schema, const char *name, const char **kept)
{
    const json_t *value = json_object_get(schema, name);
    if (!value)
        return;
    const char *text = json_string_value(value);
    if (!text)
        schema_fail(m->s, ERR_INVALID, schema, name, "must be a string");
    else if (*kept && strcmp(*kept, text) != 0)
        schema_fail(m->s, ERR_UNSUPPORTED, schema, name,
                    "two different ones that must hold together are not supported");
    else
        *kept = text;
}

static void merge_format(struct merge *m, const json_t *schema)
{
    static const struct {
        const char *name;
        json_int_t lower, upper;
        bool bounded, integer;
    } numeric[] = {
        {"int32", INT32_MIN, INT32_MAX, true, true},
        {"int64", 0, 0, false, true},
        {"uint32", 0, UINT32_MAX, true, true},
        {"float", 0, 0, false, false},
        {"double", 0, 0, false, false},
    };
    const char *name = json_string_value(json_object_get(schema, "format"));
    for (size_t i = 0; name && i < sizeof numeric / sizeof *numeric; i++) {
        if (strcmp(name, numeric[i].name) != 0)
            continue;
        m->keywords |= TYPE_NUMBER;
        m->shape->number.integer |= numeric[i].integer;
        json_t *lower = json_integer(numeric[i].lower), *upper = json_integer(numeric[i].upper);
        struct decimal bound;
        if (numeric[i].bounded && decimal_read(lower, &bound))
            lower_bound(&m->shape->number, &bound, false);
        if (numeric[i].bounded && decimal_read(upper, &bound))
            upper_bound(&m->shape->number, &bound, false);
        json_decref(lower);
        json_decref(upper);
        return;
    }
    if (!json_object_get(schema, "format"))
        return;
    m->keywords |= TYPE_STRING;
    merge_text(m, schema, "format", &m->shape->format);
    if (name && !schema_format(name))
        schema_fail(m->s, ERR_UNSUPPORTED, schema, "format", "this format is not supported");
}

/* ---- arrays ---- */

/* Schemas of the first items, and of those behind them (NULL: any). Before 2020 both were called otherwise.
 */
static const json_t *first_items(const json_t *schema)
{
    const json_t *items = json_object_get(schema, "items");
    return json_is_array(items) ? items : json_object_get(schema, "prefixItems");
}

static const json_t *other_items(const json_t *schema)
{
    const json_t *items = json_object_get(schema, "items");
    return json_is_array(items) ? json_object_get(schema, "additionalItems") : items;
}

static void merge_items(struct merge *m)
{
    struct schema *s = m->s;
    struct schema_shape *shape = m->shape;
    for (size_t i = 0; i < m->n; i++) {
        const json_t *first = first_items(m->own[i]);
        if (first && !json_is_array(first))
            schema_fail(s, ERR_INVALID, m->own[i], "prefixItems", "must be an array of schemas");
        if (json_array_size(first) > shape->n_prefix)
            shape->n_prefix = json_array_size(first);
    }
    shape->prefix = schema_alloc(s, shape->n_prefix + 1, sizeof *shape->prefix);
    const json_t **set = schema_alloc(s, m->n + 1, sizeof *set);
    if (!shape->prefix || !set)
        return;
    for (size_t at = 0; at <= shape->n_prefix && schema_step(s, m->n); at++) {
        size_t n = 0;
        for (size_t i = 0; i < m->n; i++) {
            const json_t *first = first_items(m->own[i]);
            const json_t *item =
                at < json_array_size(first) ? json_array_get(first, at) : other_items(m->own[i]);
            if (item)
                set[n++] = item;
        }
        *(at < shape->n_prefix ? &shape->prefix[at] : &shape->rest) = schema_rule(s, set, n);
    }
}

/* ---- objects ---- */

/* Names of properties and required ones, in order; a name's value in `names` tells whether it is required. */
static bool collect_names(struct merge *m, json_t *names)
{
    for (size_t i = 0; i < m->n; i++) {
        const json_t *properties = json_object_get(m->own[i], "properties");
        const char *name;
        json_t *value;
        if (properties && !json_is_object(properties)) {
            schema_fail(m->s, ERR_INVALID, m->own[i], "properties", "must be an object of schemas");
            return false;
        }
        json_object_foreach((json_t *)properties, name, value) {
            if (!schema_step(m->s, 1) ||
                (!json_object_get(names, name) && json_object_set_new(names, name, json_false())))
                return false;
        }
    }
    for (size_t i = 0; i < m->n; i++) {
        const json_t *required = json_object_get(m->own[i], "required");
        if (json_is_boolean(required)) /* draft 3 marked the property itself */
            required = NULL;
        if (required && !json_is_array(required)) {
            schema_fail(m->s, ERR_INVALID, m->own[i], "required", "must be an array of strings");
            return false;
        }
        for (size_t j = 0; j < json_array_size(required); j++) {
            const char *name = json_string_value(json_array_get(required, j));
            if (!name) {
                schema_fail(m->s, ERR_INVALID, m->own[i], "required", "must be an array of strings");
                return false;
            }
            if (!schema_step(m->s, 1) || json_object_set_new(names, name, json_true()))
                return false;
        }
    }
    return true;
}

/* Adds what schema `from` wants of the member `name`; returns whether it says something. */
static size_t member_schemas(struct merge *m, const json_t *from, const char *name, const json_t **set,
                             size_t n)
{
    const json_t *own = json_object_get(json_object_get(from, "properties"), name);
    bool known = own;
    if (own)
        set[n++] = own;
    const char *pattern;
    json_t *value;
    json_object_foreach(json_object_get(from, "patternProperties"), pattern, value) {
        if (schema_matches(m->s, pattern, true, name) > 0) {
            known = true;
            set[n++] = value;
        }
    }
    const json_t *others = json_object_get(from, "additionalProperties");
    if (!known && others)
        set[n++] = others;
    return n;
}

/* The letters that a pattern's match must begin with. */
static size_t fixed_beginning(const char *pattern)
{
    if (pattern[0] != '^' || strchr(pattern, '|'))
        return 0;
    size_t n = 1;
    while (pattern[n] && !strchr("\\^$.[](){}*+?", pattern[n]))
        n++;
    return pattern[n] && strchr("*?{", pattern[n]) && n > 1 ? n - 2 : n - 1;
}

static bool never_both(const char *a, const char *b)
{
    size_t n = fixed_beginning(a), other = fixed_beginning(b);
    return memcmp(a, b, (n < other ? n : other) + 1) != 0;
}

static void merge_patterns(struct merge *m, size_t n_patterns, const json_t **set)
{
    struct schema *s = m->s;
    struct schema_shape *shape = m->shape;
    shape->patterns = schema_alloc(s, n_patterns + 1, sizeof *shape->patterns);
    for (size_t i = 0; shape->patterns && i < m->n; i++) {
        const char *pattern;
        json_t *value;
        json_object_foreach(json_object_get(m->own[i], "patternProperties"), pattern, value) {
            for (size_t j = 0; j < shape->n_patterns; j++) {
                if (!never_both(pattern, shape->patterns[j].pattern)) {
                    schema_fail(
                        s, ERR_UNSUPPORTED, m->own[i], "patternProperties",
                        "several patterns are supported only where their names begin differently (^a…, ^b…)");
                    return;
                }
            }
            size_t n = 0;
            set[n++] = value;
            for (size_t j = 0; j < m->n; j++) {
                const json_t *others = json_object_get(m->own[j], "additionalProperties");
                if (j != i && others)
                    set[n++] = others;
            }
            int rule = schema_rule(s, set, n);
            /* Names that have schemas of their own could not be told apart from others that match. */
            bool taken = rule < 0;
            for (size_t k = 0; k < shape->n_members && !taken; k++)
                taken = schema_matches(s, pattern, true, shape->members[k].name) != 0;
            shape->patterns[shape->n_patterns++] = (struct schema_pattern){pattern, rule, !taken};
        }
    }
}

static void merge_members(struct merge *m, json_t *names)
{
    struct schema *s = m->s;
    struct schema_shape *shape = m->shape;
    size_t n_patterns = 0, n = 0;
    bool given = false;
    for (size_t i = 0; i < m->n; i++) {
        const json_t *patterns = json_object_get(m->own[i], "patternProperties");
        if (patterns && !json_is_object(patterns))
            schema_fail(s, ERR_INVALID, m->own[i], "patternProperties", "must be an object of schemas");
        n_patterns += json_object_size(patterns);
    }
    const json_t **set = schema_alloc(s, m->n + n_patterns + 1, 2 * sizeof *set);
    if (!set || !collect_names(m, names))
        return;
    shape->members = schema_alloc(s, json_object_size(names) + 1, sizeof *shape->members);
    if (!shape->members)
        return;
    const char *name;
    json_t *required;
    json_object_foreach(names, name, required) {
        if (!schema_step(s, m->n + n_patterns))
            return;
        n = 0;
        for (size_t i = 0; i < m->n; i++)
            n = member_schemas(m, m->own[i], name, set, n);
        size_t length = strlen(name) + 1;
        char *copy = schema_alloc(s, length, 1);
        int rule = copy ? schema_rule(s, set, n) : -1;
        if (rule < 0)
            return;
        memcpy(copy, name, length);
        shape->members[shape->n_members++] = (struct schema_member){copy, rule, json_is_true(required)};
    }
    n = 0;
    for (size_t i = 0; i < m->n; i++) {
        const json_t *others = json_object_get(m->own[i], "additionalProperties");
        if (others)
            set[n++] = others;
    }
    given = n > 0;
    shape->others = schema_rule(s, set, n);
    shape->open = n_patterns == 0 && (given || !s->strict);
    if (n_patterns)
        merge_patterns(m, n_patterns, set);
    /* Members without schemas of their own may have the same name twice. */
    if ((shape->open || n_patterns) && shape->min_members > (int64_t)shape->n_members + 1)
        schema_fail(s, ERR_UNSUPPORTED, m->own[0], "minProperties",
                    "so many members without names are not supported");
}

/* ---- all ---- */

static void merge_own(struct merge *m, const json_t *schema)
{
    struct schema_shape *shape = m->shape;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value)
        m->keywords |= schema_keyword_types(key);
    merge_type(m, schema);
    merge_values(m, schema);
    merge_number(m, schema);
    merge_sizes(m, schema, "minLength", "maxLength", &shape->min_length, &shape->max_length);
    merge_sizes(m, schema, "minItems", "maxItems", &shape->min_items, &shape->max_items);
    merge_sizes(m, schema, "minProperties", "maxProperties", &shape->min_members, &shape->max_members);
    merge_text(m, schema, "pattern", &shape->pattern);
    merge_format(m, schema);
    shape->unique |= json_is_true(json_object_get(schema, "uniqueItems"));
}

struct schema_shape *schema_merge(struct schema *s, const json_t *const *own, size_t n)
{
    struct schema_shape *shape = schema_alloc(s, 1, sizeof *shape);
    if (!shape)
        return NULL;
    *shape = (struct schema_shape){.types = TYPE_ANY, .max_length = -1, .max_items = -1, .max_members = -1};
    struct merge m = {.s = s, .own = own, .n = n, .shape = shape};
    for (size_t i = 0; i < n && schema_step(s, 1 + json_object_size(own[i])); i++)
        merge_own(&m, own[i]);
    if (shape->format && shape->pattern && shape->types & TYPE_STRING && !shape->listed)
        schema_fail(s, ERR_UNSUPPORTED, own[0], "format", "together with a pattern it is not supported");
    shape->implied = !m.typed && m.keywords ? shape->types & m.keywords : shape->types;

    if (shape->types & TYPE_ARRAY && !grammar_failure(s->build, NULL))
        merge_items(&m);
    if (shape->types & TYPE_OBJECT && !grammar_failure(s->build, NULL)) {
        json_t *names = json_object();
        if (names)
            merge_members(&m, names);
        else
            grammar_fail(s->build, ERR_NOMEM, "out of memory in a JSON Schema");
        json_decref(names);
    }
    return shape->types && !grammar_failure(s->build, NULL) ? shape : NULL;
}
