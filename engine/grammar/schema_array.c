/* Arrays: a prefix of items with schemas of their own, the others, and items that are all different. */
#include "schema.h"

#include <limits.h>

enum { MAX_SHUFFLED = 7, MAX_UNIQUE = 256, MAX_ITEMS = 100000 };

/* How many items there may be at most: the first that is impossible ends them. -1: no bound. */
static int64_t longest(const struct schema *s, const struct schema_shape *shape)
{
    int64_t max = shape->max_items;
    for (size_t i = 0; i <= shape->n_prefix; i++) {
        int rule = i < shape->n_prefix ? shape->prefix[i] : shape->rest;
        if (!s->rules[rule]->possible && (max < 0 || (int64_t)i < max))
            return (int64_t)i;
    }
    return max;
}

bool schema_array_possible(struct schema *s, const struct schema_shape *shape)
{
    int64_t max = longest(s, shape);
    return schema_step(s, shape->n_prefix) && (max < 0 || shape->min_items <= max);
}

/* ---- unique items ---- */

/* The values of a rule that lists them, all different; false where it does not, or has too many. */
static bool list_values(struct schema *s, int index, const json_t **values, size_t *n, int depth)
{
    const struct schema_rule *rule = s->rules[index];
    if (depth > 16)
        return false;
    for (size_t i = 0; i < rule->n_cases; i++) {
        const struct schema_case *choice = &rule->cases[i];
        if (choice->unit >= 0) {
            if (!list_values(s, choice->unit, values, n, depth + 1))
                return false;
            continue;
        }
        const struct schema_shape *shape = choice->shape;
        if (!shape->listed)
            return false;
        for (size_t j = 0; j < shape->n_values; j++) {
            bool taken = !schema_limits_hold(s, shape, shape->values[j], 0);
            for (size_t k = 0; k < *n && !taken && schema_step(s, 1); k++)
                taken = schema_equal(values[k], shape->values[j], 0);
            if (!taken && *n == MAX_UNIQUE)
                return false;
            if (!taken)
                values[(*n)++] = shape->values[j];
        }
    }
    return true;
}

static int after_comma(struct grammar_build *b, int node)
{
    return grammar_sequence(b, (int[]){grammar_bytes(b, ",", 1), grammar_json_space(b), node}, 3);
}

/* Few values in any order: a state for each set of those that are written. */
static int shuffled(struct schema *s, const struct schema_thing *things, int n, int64_t min, int64_t max)
{
    struct grammar_build *b = s->build;
    struct graph_edge edges[(1 << MAX_SHUFFLED) * MAX_SHUFFLED];
    bool final[1 << MAX_SHUFFLED];
    int next[MAX_SHUFFLED];
    size_t n_edges = 0;
    for (int i = 0; i < n; i++)
        next[i] = after_comma(b, things[i].node);
    for (int set = 0; set < 1 << n; set++) {
        int count = __builtin_popcount((unsigned)set);
        final[set] = count >= min;
        for (int i = 0; i < n && (max < 0 || count < max); i++) {
            if (!(set & 1 << i))
                edges[n_edges++] = (struct graph_edge){set, set | 1 << i, set ? next[i] : things[i].node};
        }
    }
    return grammar_graph(b, 1 << n, edges, n_edges, final);
}

static int unique_items(struct schema *s, const struct schema_shape *shape, int64_t max)
{
    struct grammar_build *b = s->build;
    const json_t **values = schema_alloc(s, MAX_UNIQUE, sizeof *values);
    struct schema_thing *things = schema_alloc(s, MAX_UNIQUE, sizeof *things);
    size_t n = 0;
    if (!values || !things)
        return 0;
    if (shape->n_prefix > 0 || !list_values(s, shape->rest, values, &n, 0))
        return grammar_fail(b, ERR_UNSUPPORTED,
                            "JSON Schema: uniqueItems is supported only for items of an enum, of at "
                            "most %d values",
                            MAX_UNIQUE);
    if (shape->min_items > (int64_t)n)
        return grammar_fail(b, ERR_INVALID,
                            "JSON Schema: minItems asks for more unique items than there are");
    for (size_t i = 0; i < n; i++)
        things[i].node = schema_exactly(s, values[i]);
    if (n <= MAX_SHUFFLED)
        return shuffled(s, things, (int)n, shape->min_items, max);
    return schema_in_order(s, things, n, -1, shape->min_items, max);
}

/* ---- arrays ---- */

/* State i: so many items are written; the last one has all of the rest. */
static int items(struct schema *s, const struct schema_shape *shape, int64_t max)
{
    struct grammar_build *b = s->build;
    int64_t min = shape->min_items;
    size_t n = shape->n_prefix;
    if (max >= 0 && (int64_t)n > max)
        n = (size_t)max;
    struct graph_edge *edges = schema_alloc(s, n + 2, sizeof *edges);
    bool *final = schema_alloc(s, n + 2, sizeof *final);
    if (!edges || !final)
        return 0;
    size_t n_edges = 0;
    for (size_t i = 0; i < n; i++) {
        int node = schema_node(s, shape->prefix[i]);
        edges[n_edges++] = (struct graph_edge){(int)i, (int)i + 1, i ? after_comma(b, node) : node};
    }
    for (size_t i = 0; i <= n; i++)
        final[i] = (int64_t)i >= min;
    if (max < 0 || max > (int64_t)n) {
        int64_t least = min > (int64_t)n ? min - (int64_t)n : 1, most = max < 0 ? -1 : max - (int64_t)n;
        if (least > MAX_ITEMS || most > MAX_ITEMS)
            return grammar_fail(b, ERR_LIMIT, "JSON Schema: minItems and maxItems may be %d at most",
                                MAX_ITEMS);
        int node = schema_node(s, shape->rest), next = after_comma(b, node);
        int first = n ? next : node;
        int others = grammar_repeat(b, next, (int)least - 1, most < 0 ? -1 : (int)most - 1);
        edges[n_edges++] =
            (struct graph_edge){(int)n, (int)n + 1, grammar_sequence(b, (int[]){first, others}, 2)};
        final[n + 1] = true;
    }
    return grammar_graph(b, (int)n + 2, edges, n_edges, final);
}

int schema_array(struct schema *s, const struct schema_shape *shape)
{
    struct grammar_build *b = s->build;
    int64_t max = longest(s, shape);
    bool unique = shape->unique && (max < 0 || max > 1);
    int inside = unique ? unique_items(s, shape, max) : items(s, shape, max);
    return grammar_sequence(b, (int[]){grammar_bytes(b, "[", 1), inside, grammar_bytes(b, "]", 1)}, 3);
}
