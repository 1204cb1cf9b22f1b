/* JSON Schema to grammar: memory, the table of rules, and the grammar of a rule from its cases. Nothing
 * recurses into the schema's depth: rules wait in a list until they are read, and again until they are
 * written. */
#include "schema.h"

#include <stdlib.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

enum {
    CHUNK = 16 << 10,
    MAX_BYTES = 24 << 20,
    MAX_RULES = 20000,
    MAX_STEPS = 600000,
};

struct schema_chunk {
    struct schema_chunk *next;
    size_t used, size;
    max_align_t data[];
};

void *schema_alloc(struct schema *s, size_t count, size_t size)
{
    size_t want;
    if (grammar_failure(s->build, NULL))
        return NULL;
    if (__builtin_mul_overflow(count, size, &want) || want > MAX_BYTES - s->bytes) {
        grammar_fail(s->build, ERR_LIMIT, "the JSON Schema is too large");
        return NULL;
    }
    want = (want + 15) & ~(size_t)15;
    struct schema_chunk *head = s->chunks;
    if (!head || head->size - head->used < want) {
        size_t room = want > CHUNK ? want : CHUNK;
        struct schema_chunk *chunk = calloc(1, sizeof *chunk + room);
        if (!chunk) {
            grammar_fail(s->build, ERR_NOMEM, "out of memory in a JSON Schema");
            return NULL;
        }
        chunk->size = room;
        chunk->next = head;
        s->chunks = head = chunk;
        s->bytes += room;
    }
    void *memory = (char *)head->data + head->used;
    head->used += want;
    return memory;
}

bool schema_step(struct schema *s, size_t steps)
{
    if (grammar_failure(s->build, NULL))
        return false;
    if ((size_t)s->steps >= steps) {
        s->steps -= (long)steps;
        return true;
    }
    grammar_fail(s->build, ERR_LIMIT, "the JSON Schema is too complex: its parts combine in too many ways");
    return false;
}

/* ---- rules ---- */

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (const json_t *const *)a, y = (uintptr_t) * (const json_t *const *)b;
    return (x > y) - (x < y);
}

static size_t place_of(const struct schema *s, const json_t *const *set, size_t n, bool never)
{
    size_t at = (size_t)XXH3_64bits_withSeed(set, n * sizeof *set, never) & (s->table_size - 1);
    for (; s->table[at] >= 0; at = (at + 1) & (s->table_size - 1)) {
        const struct schema_rule *rule = s->rules[s->table[at]];
        if (rule->n_set == n && rule->never == never &&
            (n == 0 || memcmp(rule->set, set, n * sizeof *set) == 0))
            break;
    }
    return at;
}

static bool grow_table(struct schema *s)
{
    if (s->n_rules * 2 < s->table_size)
        return true;
    size_t size = s->table_size ? s->table_size * 2 : 256;
    int *table = schema_alloc(s, size, sizeof *table);
    struct schema_rule **rules = schema_alloc(s, size, sizeof *rules);
    if (!table || !rules)
        return false;
    if (s->n_rules)
        memcpy(rules, s->rules, s->n_rules * sizeof *rules);
    for (size_t i = 0; i < size; i++)
        table[i] = -1;
    s->table = table;
    s->table_size = size;
    s->rules = rules;
    for (size_t i = 0; i < s->n_rules; i++)
        table[place_of(s, rules[i]->set, rules[i]->n_set, rules[i]->never)] = (int)i;
    return true;
}

int schema_rule(struct schema *s, const json_t *const *set, size_t n)
{
    if (!schema_step(s, n + 1) || !grow_table(s))
        return -1;
    const json_t **sorted = schema_alloc(s, n ? n : 1, sizeof *sorted);
    if (!sorted)
        return -1;
    size_t n_sorted = 0;
    bool never = false;
    for (size_t i = 0; i < n; i++) {
        const json_t *schema = schema_target(s, set[i]);
        never |= json_is_false(schema);
        if (schema && !json_is_false(schema) && (!json_is_object(schema) || !schema_says_nothing(schema)) &&
            !json_is_true(schema))
            sorted[n_sorted++] = schema;
    }
    if (never)
        n_sorted = 0;
    if (n_sorted > 1)
        qsort(sorted, n_sorted, sizeof *sorted, by_address);
    size_t unique = 0;
    for (size_t i = 0; i < n_sorted; i++) {
        if (unique == 0 || sorted[unique - 1] != sorted[i])
            sorted[unique++] = sorted[i];
    }

    size_t at = place_of(s, sorted, unique, never);
    if (s->table[at] >= 0) {
        s->rules[s->table[at]]->uses++;
        return s->table[at];
    }
    if (s->n_rules >= MAX_RULES) {
        grammar_fail(s->build, ERR_LIMIT, "the JSON Schema is too complex: more than %d different parts",
                     MAX_RULES);
        return -1;
    }
    struct schema_rule *rule = schema_alloc(s, 1, sizeof *rule);
    if (!rule)
        return -1;
    *rule = (struct schema_rule){.set = sorted, .n_set = unique, .never = never, .uses = 1};
    s->rules[s->n_rules] = rule;
    s->table[at] = (int)s->n_rules++;
    return s->table[at];
}

/* ---- writing ---- */

static int write_listed(struct schema *s, const struct schema_shape *shape)
{
    int *nodes = schema_alloc(s, shape->n_values + 1, sizeof *nodes);
    size_t n = 0;
    for (size_t i = 0; nodes && i < shape->n_values; i++) {
        if (schema_limits_hold(s, shape, shape->values[i], 0))
            nodes[n++] = schema_exactly(s, shape->values[i]);
    }
    return nodes ? grammar_any(s->build, nodes, n) : 0;
}

static int write_shape(struct schema *s, const struct schema_shape *shape)
{
    struct grammar_build *b = s->build;
    if (shape->listed)
        return write_listed(s, shape);
    int nodes[8];
    size_t n = 0;
    if (shape->implied & TYPE_OBJECT && schema_object_possible(s, shape))
        nodes[n++] = schema_object(s, shape);
    if (shape->implied & TYPE_ARRAY && schema_array_possible(s, shape))
        nodes[n++] = schema_array(s, shape);
    if (shape->implied & TYPE_STRING)
        nodes[n++] = schema_string(s, shape);
    if (shape->implied & TYPE_NUMBER && schema_number_possible(s, &shape->number))
        nodes[n++] = schema_number(s, &shape->number);
    if (shape->implied & TYPE_BOOLEAN) {
        nodes[n++] = grammar_bytes(b, "true", 4);
        nodes[n++] = grammar_bytes(b, "false", 5);
    }
    if (shape->implied & TYPE_NULL)
        nodes[n++] = grammar_bytes(b, "null", 4);
    return n == 1 ? nodes[0] : grammar_any(b, nodes, n);
}

static int write_cases(struct schema *s, const struct schema_rule *rule)
{
    int *nodes = schema_alloc(s, rule->n_cases + 1, sizeof *nodes);
    size_t n = 0;
    for (size_t i = 0; nodes && i < rule->n_cases; i++) {
        const struct schema_case *choice = &rule->cases[i];
        if (choice->possible)
            nodes[n++] = choice->unit >= 0 ? schema_node(s, choice->unit) : write_shape(s, choice->shape);
    }
    if (!nodes)
        return 0;
    return n == 1 ? nodes[0] : grammar_any(s->build, nodes, n);
}

/* Without children it may stand where it is used, once. */
static bool is_plain(const struct schema_rule *rule)
{
    for (size_t i = 0; i < rule->n_cases; i++) {
        const struct schema_case *choice = &rule->cases[i];
        if (choice->unit >= 0 ||
            (!choice->shape->listed && choice->shape->implied & (TYPE_OBJECT | TYPE_ARRAY)))
            return false;
    }
    return rule->uses <= 1;
}

int schema_node(struct schema *s, int index)
{
    if (!schema_step(s, 1))
        return 0;
    struct schema_rule *rule = s->rules[index];
    if (rule->has_node)
        return rule->node;
    rule->has_node = true;
    if (rule->n_set == 0 && !rule->never) {
        rule->node = grammar_json_value(s->build);
        rule->written = true;
    } else if (!rule->possible) {
        rule->node = grammar_never(s->build);
        rule->written = true;
    } else if (is_plain(rule)) {
        rule->node = write_cases(s, rule);
        rule->written = true;
    } else {
        rule->node = grammar_rule(s->build, NULL);
    }
    return rule->node;
}

static int write_all(struct schema *s, int root)
{
    int node = schema_node(s, root);
    for (bool more = true; more && schema_step(s, s->n_rules);) {
        more = false;
        for (size_t i = 0; i < s->n_rules && schema_step(s, 1); i++) {
            struct schema_rule *rule = s->rules[i];
            if (!rule->has_node || rule->written)
                continue;
            rule->written = more = true;
            grammar_define(s->build, rule->node, write_cases(s, rule));
        }
    }
    return node;
}

int grammar_schema(struct grammar_build *build, const json_t *schema, bool strict)
{
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return grammar_fail(build, ERR_INVALID, "a JSON Schema must be an object or a boolean");
    struct schema s = {.build = build, .root = schema, .strict = strict, .steps = MAX_STEPS};
    int node = 0;
    int root = schema_rule(&s, &schema, 1);
    for (size_t i = 0; i < s.n_rules && schema_step(&s, 1); i++)
        schema_read(&s, s.rules[i]);
    if (!grammar_failure(build, NULL))
        schema_decide(&s);
    if (!grammar_failure(build, NULL)) {
        if (s.rules[root]->possible)
            node = write_all(&s, root);
        else
            grammar_fail(build, ERR_INVALID, "nothing is valid under the JSON Schema: it contradicts itself");
    }
    while (s.chunks) {
        struct schema_chunk *next = s.chunks->next;
        free(s.chunks);
        s.chunks = next;
    }
    return grammar_failure(build, NULL) ? 0 : node;
}
