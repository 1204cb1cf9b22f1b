/* Specs: what a request says of the text that it wants, put together from the languages and from each other. */
#include <string.h>

#include "nodes.h"

#define DEPTH_MAX 32
#define TRIGGER_MAX 256      /* bytes */
#define TRIGGERS_MAX 4096    /* bytes of all of them */

static const char *get_text(struct grammar_build *b, const json_t *spec, const char *name, size_t *length)
{
    const json_t *value = json_object_get(spec, name);
    *length = value ? json_string_length(value) : 0;
    if (json_is_string(value)) return json_string_value(value);
    grammar_fail(b, ERR_INVALID, "a grammar's \"%s\" must be a string", name);
    return "";
}

static const json_t *get_array(struct grammar_build *b, const json_t *spec, const char *name)
{
    const json_t *value = json_object_get(spec, name);
    if (json_is_array(value)) return value;
    grammar_fail(b, ERR_INVALID, "a grammar's \"%s\" must be an array", name);
    return NULL;
}

static int get_count(struct grammar_build *b, const json_t *spec, const char *name, int fallback)
{
    const json_t *value = json_object_get(spec, name);
    if (!value) return fallback;
    json_int_t n = json_integer_value(value);
    if (json_is_integer(value) && n >= -1 && n <= INT32_MAX) return (int)n;
    return grammar_fail(b, ERR_INVALID, "a grammar's \"%s\" must be an integer from -1 on", name);
}

/* ---- free text with triggers ---- */

/* Of triggers' beginnings, each a state of the free text: the longest that the text ends with. */
struct trigger_states {
    struct trigger_state {
        int next[256]; /* -1: not there */
        int then;      /* the node of what follows; -1: the trigger is not complete */
        int fallback;  /* the longest shorter one that this one ends with */
    } *state;
    int n, capacity;
};

static int add_state(struct grammar_build *b, struct trigger_states *t)
{
    if (t->n > TRIGGERS_MAX) return grammar_fail(b, ERR_LIMIT, "the triggers are too long together");
    if (t->n == t->capacity) {
        int capacity = t->capacity ? t->capacity * 2 : 16;
        struct trigger_state *grown = realloc(t->state, (size_t)capacity * sizeof *grown);
        if (!grown) return grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
        t->state = grown;
        t->capacity = capacity;
    }
    memset(t->state[t->n].next, -1, sizeof t->state->next);
    t->state[t->n].then = -1;
    t->state[t->n].fallback = 0;
    return t->n++;
}

static void add_trigger(struct grammar_build *b, struct trigger_states *t, const json_t *one, int depth)
{
    size_t length;
    const char *trigger = get_text(b, one, "trigger", &length);
    if (length == 0 || length > TRIGGER_MAX) {
        grammar_fail(b, ERR_INVALID, "a trigger must have 1 to %d bytes", TRIGGER_MAX);
    }
    int then = grammar_share(b, grammar_spec(b, json_object_get(one, "then"), depth + 1)), at = 0;
    for (size_t i = 0; i < length && !grammar_failure(b, NULL); i++) {
        unsigned char byte = (unsigned char)trigger[i];
        if (t->state[at].then >= 0) break;
        int next = t->state[at].next[byte];
        if (next < 0) {
            next = add_state(b, t);
            t->state[at].next[byte] = next;
        }
        at = next;
    }
    if (grammar_failure(b, NULL)) return;
    bool longer = t->state[at].then >= 0;
    for (int i = 0; i < 256; i++) longer |= t->state[at].next[i] >= 0;
    if (longer) grammar_fail(b, ERR_INVALID, "one trigger begins with another");
    t->state[at].then = then;
}

/* Every state gets an edge for every byte, from that of its fallback: shorter states first. A state that ends
 * with a whole trigger is that trigger. */
static void complete(struct grammar_build *b, struct trigger_states *t)
{
    int *queue = malloc((size_t)t->n * sizeof *queue), n = 0;
    if (!queue) {
        grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
        return;
    }
    queue[n++] = 0;
    for (int i = 0; i < n; i++) {
        struct trigger_state *s = &t->state[queue[i]];
        if (s->then < 0 && queue[i] != 0) s->then = t->state[s->fallback].then;
        for (int byte = 0; byte < 256; byte++) {
            int below = queue[i] == 0 ? 0 : t->state[s->fallback].next[byte];
            if (s->next[byte] < 0) {
                s->next[byte] = below;
            } else {
                t->state[s->next[byte]].fallback = below;
                queue[n++] = s->next[byte];
            }
        }
    }
    free(queue);
}

static int trigger_graph(struct grammar_build *b, const struct trigger_states *t)
{
    size_t room = (size_t)t->n * 256, n = 0;
    struct graph_edge *edge = malloc(room * sizeof *edge);
    bool *final = malloc((size_t)t->n);
    int node = 0;
    if (!edge || !final) {
        grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
        goto done;
    }
    for (int i = 0; i < t->n; i++) {
        const struct trigger_state *s = &t->state[i];
        final[i] = s->then < 0;
        if (!final[i]) edge[n++] = (struct graph_edge){i, 0, s->then};
        for (int first = 0, last; final[i] && first < 256; first = last + 1) {
            for (last = first; last < 255 && s->next[last + 1] == s->next[first];) last++;
            edge[n++] = (struct graph_edge){i, s->next[first], grammar_byte(b, (unsigned char)first, (unsigned char)last)};
        }
    }
    if (!grammar_failure(b, NULL)) node = grammar_graph(b, t->n, edge, n, final);
done:
    free(edge);
    free(final);
    return node;
}

static int triggered(struct grammar_build *b, const json_t *spec, int depth)
{
    struct trigger_states t = {0};
    const json_t *cases = get_array(b, spec, "cases");
    int node = 0;
    add_state(b, &t);
    for (size_t i = 0; i < json_array_size(cases) && !grammar_failure(b, NULL); i++) {
        add_trigger(b, &t, json_array_get(cases, i), depth);
    }
    if (!grammar_failure(b, NULL)) complete(b, &t);
    if (!grammar_failure(b, NULL)) node = trigger_graph(b, &t);
    free(t.state);
    return node;
}

/* ---- the others ---- */

static int choice(struct grammar_build *b, const json_t *spec)
{
    const json_t *choices = get_array(b, spec, "choices");
    size_t n = json_array_size(choices);
    if (n == 0) return grammar_fail(b, ERR_INVALID, "a choice needs at least one text");
    int *nodes = malloc(n * sizeof *nodes);
    if (!nodes) return grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
    for (size_t i = 0; i < n; i++) {
        const json_t *text = json_array_get(choices, i);
        if (!json_is_string(text)) grammar_fail(b, ERR_INVALID, "choices must be strings");
        nodes[i] = json_is_string(text) ? grammar_bytes(b, json_string_value(text), json_string_length(text)) : 0;
    }
    int node = grammar_any(b, nodes, n);
    free(nodes);
    return node;
}

static int several(struct grammar_build *b, const json_t *specs, bool any, int depth)
{
    size_t n = json_array_size(specs);
    if (any && n == 0) return grammar_fail(b, ERR_INVALID, "any_of needs at least one spec");
    int *nodes = malloc((n + 1) * sizeof *nodes);
    if (!nodes) return grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
    for (size_t i = 0; i < n && !grammar_failure(b, NULL); i++) {
        nodes[i] = grammar_spec(b, json_array_get(specs, i), depth + 1);
    }
    int node = 0;
    if (!grammar_failure(b, NULL)) node = any ? grammar_any(b, nodes, n) : grammar_sequence(b, nodes, n);
    free(nodes);
    return node;
}

static int repeat(struct grammar_build *b, const json_t *spec, int depth)
{
    int min = get_count(b, spec, "min", 0), max = get_count(b, spec, "max", -1);
    int of = grammar_spec(b, json_object_get(spec, "of"), depth + 1);
    const json_t *between = json_object_get(spec, "between");
    if (!between || max == 0) return grammar_repeat(b, of, min, max);
    int next = grammar_sequence(b, (const int[]){grammar_spec(b, between, depth + 1), of}, 2);
    int rest = grammar_repeat(b, next, min > 0 ? min - 1 : 0, max < 0 ? -1 : max - 1);
    int all = grammar_sequence(b, (const int[]){of, rest}, 2);
    return min > 0 ? all : grammar_optional(b, all);
}

int grammar_spec(struct grammar_build *b, const json_t *spec, int depth)
{
    size_t length;
    if (grammar_failure(b, NULL)) return 0;
    if (depth > DEPTH_MAX) return grammar_fail(b, ERR_LIMIT, "the grammar is nested too deep");
    if (!json_is_object(spec)) return grammar_fail(b, ERR_INVALID, "a grammar must be an object with a \"type\"");
    const char *type = get_text(b, spec, "type", &length);
    if (grammar_failure(b, NULL)) return 0;
    if (!strcmp(type, "json_object")) return grammar_json_object(b);
    if (!strcmp(type, "json_schema")) {
        const json_t *schema = json_object_get(spec, "schema");
        if (!schema) return grammar_fail(b, ERR_INVALID, "a grammar of the type json_schema needs a \"schema\"");
        return grammar_schema(b, schema, json_is_true(json_object_get(spec, "strict")));
    }
    if (!strcmp(type, "gbnf")) {
        const char *text = get_text(b, spec, "grammar", &length);
        return grammar_gbnf(b, text, length);
    }
    if (!strcmp(type, "regex")) {
        const char *pattern = get_text(b, spec, "pattern", &length);
        return grammar_regex(b, pattern, length, (struct regex_bounds){.max_chars = -1});
    }
    if (!strcmp(type, "literal")) {
        const char *text = get_text(b, spec, "text", &length);
        return grammar_bytes(b, text, length);
    }
    if (!strcmp(type, "choice")) return choice(b, spec);
    if (!strcmp(type, "sequence")) return several(b, get_array(b, spec, "parts"), false, depth);
    if (!strcmp(type, "any_of")) return several(b, get_array(b, spec, "specs"), true, depth);
    if (!strcmp(type, "repeat")) return repeat(b, spec, depth);
    if (!strcmp(type, "triggered")) return triggered(b, spec, depth);
    return grammar_fail(b, ERR_UNSUPPORTED, "there is no type of grammar \"%.40s\"", type);
}
