/* Values that a schema gives: enum and const. */
#include "schema.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 100 };

bool schema_equal(const json_t *a, const json_t *b, int depth)
{
    struct decimal x, y;
    if (json_is_number(a) && json_is_number(b) && decimal_read(a, &x) && decimal_read(b, &y))
        return decimal_compare(&x, &y) == 0;
    if (json_typeof(a) != json_typeof(b) || depth > MAX_DEPTH)
        return false;
    if (json_is_array(a)) {
        if (json_array_size(a) != json_array_size(b))
            return false;
        for (size_t i = 0; i < json_array_size(a); i++) {
            if (!schema_equal(json_array_get(a, i), json_array_get(b, i), depth + 1))
                return false;
        }
        return true;
    }
    if (!json_is_object(a))
        return json_equal(a, b);
    const char *key;
    json_t *value;
    if (json_object_size(a) != json_object_size(b))
        return false;
    json_object_foreach((json_t *)a, key, value) {
        const json_t *other = json_object_get(b, key);
        if (!other || !schema_equal(value, other, depth + 1))
            return false;
    }
    return true;
}

/* The shortest text that is read as this number. */
static int exact_real(struct grammar_build *b, double value)
{
    char text[40];
    int n = 0;
    for (int precision = 1; precision <= 17; precision++) {
        n = snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return grammar_bytes(b, text, (size_t)n);
}

static int exact_scalar(struct grammar_build *b, const json_t *value)
{
    if (json_is_real(value))
        return exact_real(b, json_real_value(value));
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    int node = text ? grammar_bytes(b, text, strlen(text))
                    : grammar_fail(b, ERR_NOMEM, "out of memory in a JSON Schema");
    free(text);
    return node;
}

static int exact_name(struct grammar_build *b, const char *name)
{
    json_t *text = json_string(name);
    int node = text ? exact_scalar(b, text) : grammar_fail(b, ERR_NOMEM, "out of memory in a JSON Schema");
    json_decref(text);
    return grammar_sequence(b, (int[]){node, grammar_bytes(b, ":", 1), grammar_json_space(b)}, 3);
}

static int exactly(struct schema *s, const json_t *value, int depth)
{
    struct grammar_build *b = s->build;
    bool object = json_is_object(value);
    size_t n = object ? json_object_size(value) : json_array_size(value), at = 0;
    if (!object && !json_is_array(value))
        return exact_scalar(b, value);
    if (depth == MAX_DEPTH)
        return grammar_fail(b, ERR_LIMIT, "JSON Schema: a value of enum or const is nested too deep");
    int *nodes = schema_step(s, n) ? schema_alloc(s, 2 * n + 2, sizeof *nodes) : NULL;
    if (!nodes)
        return 0;
    int comma = grammar_sequence(b, (int[]){grammar_bytes(b, ",", 1), grammar_json_space(b)}, 2);
    const char *name;
    json_t *item;
    size_t i;
    nodes[at++] = grammar_bytes(b, object ? "{" : "[", 1);
    json_object_foreach((json_t *)value, name, item) {
        int pair[] = {exact_name(b, name), exactly(s, item, depth + 1)};
        if (at > 1)
            nodes[at++] = comma;
        nodes[at++] = grammar_sequence(b, pair, 2);
    }
    json_array_foreach(value, i, item) {
        if (at > 1)
            nodes[at++] = comma;
        nodes[at++] = exactly(s, item, depth + 1);
    }
    nodes[at++] = grammar_bytes(b, object ? "}" : "]", 1);
    return grammar_sequence(b, nodes, at);
}

int schema_exactly(struct schema *s, const json_t *value)
{
    return exactly(s, value, 0);
}
