/* Objects: members in the order of their schemas, then those that have no schema of their own. */
#include "schema.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STATES = 40000, MAX_SKIPS = 1000000 };

/* ---- things in order ---- */

struct order {
    struct schema *s;
    struct graph_edge *edges;
    size_t n_edges, room;
};

static void add_edge(struct order *o, int from, int to, int node)
{
    if (o->n_edges < o->room)
        o->edges[o->n_edges++] = (struct graph_edge){from, to, node};
}

static int after_comma(struct grammar_build *b, int node)
{
    return grammar_sequence(b, (int[]){grammar_bytes(b, ",", 1), grammar_json_space(b), node}, 3);
}

/* State i, c: thing i comes next, c were written; without bounds c only tells whether there was one. */
int schema_in_order(struct schema *s, const struct schema_thing *things, size_t n, int other, int64_t min,
                    int64_t max)
{
    struct grammar_build *b = s->build;
    int64_t most = (int64_t)n +
                   (other >= 0 ? 256 : 0); /* more others than that are not written where they are counted */
    bool counts = min > 1 || (max >= 0 && (other >= 0 || max < (int64_t)n));
    int64_t last = !counts ? 1 : max < 0 ? min : max < most ? max : most; /* the highest count */
    if (max == 0)
        return min > 0 ? grammar_never(b) : grammar_nothing(b);
    if (last > MAX_STATES || (int64_t)(n + 1) * (last + 1) > MAX_STATES)
        return grammar_fail(b, ERR_LIMIT, "JSON Schema: too many members or items to count");
    size_t skips = 0, in_a_row = 0; /* what may follow each thing, as those behind it may be skipped */
    for (size_t i = n; i-- > 0;) {
        in_a_row = things[i].required ? 1 : in_a_row + 1;
        skips += in_a_row;
    }
    if (skips * (size_t)(last + 1) > MAX_SKIPS)
        return grammar_fail(b, ERR_LIMIT, "JSON Schema: too many members that are not required");
    int wide = (int)last + 1;
    struct order o = {.s = s, .room = ((size_t)n * 2 + 1) * (size_t)wide};
    o.edges = schema_alloc(s, o.room, sizeof *o.edges);
    bool *final = schema_alloc(s, (n + 1) * (size_t)wide, sizeof *final);
    if (!o.edges || !final || !schema_step(s, o.room))
        return 0;
    bool exact = max >= 0 && counts;
    int skip = grammar_nothing(b);
    for (size_t i = 0; i <= n; i++) {
        bool is_other = i == n;
        int node = is_other ? other : things[i].node;
        int next = node >= 0 ? after_comma(b, node) : -1;
        for (int c = 0; c < wide; c++) {
            int from = (int)i * wide + c, row = is_other ? from - c : from - c + wide;
            bool full = c == wide - 1;
            /* Others may repeat a name: they count once towards the minimum. */
            if (node >= 0 && !(full && exact) && !(is_other && c + 1 < min))
                add_edge(&o, from, row + (full ? c : c + 1), c == 0 ? node : next);
            if (!is_other && !things[i].required)
                add_edge(&o, from, row + c, skip);
        }
    }
    for (int c = 0; c < wide; c++)
        final[n * (size_t)wide + (size_t)c] = c >= min;
    return grammar_graph(b, (int)(n + 1) * wide, o.edges, o.n_edges, final);
}

/* ---- names ---- */

/* Characters as they are: a name that is written with escapes could be one that has its own schema. */
static int plain_character(struct grammar_build *b, const uint32_t *but, size_t n)
{
    struct code_range none[64] = {{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};
    size_t count = 3;
    for (size_t i = 0; i < n && count < sizeof none / sizeof *none; i++)
        none[count++] = (struct code_range){but[i], but[i]};
    return grammar_set(b, none, count, true);
}

static uint32_t next_character(const char **text)
{
    const unsigned char *at = (const unsigned char *)*text;
    int n = *at < 0x80 ? 1 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : 4;
    uint32_t code = n == 1 ? *at : *at & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++)
        code = code << 6 | (at[i] & 0x3f);
    *text += n;
    return code;
}

struct name_trie {
    struct name_node {
        uint32_t code;
        int child, sibling; /* -1: none */
        bool ends;
    } *nodes;
    size_t n;
};

static int trie_child(struct name_trie *trie, int at, uint32_t code)
{
    for (int child = trie->nodes[at].child; child >= 0; child = trie->nodes[child].sibling) {
        if (trie->nodes[child].code == code)
            return child;
    }
    int child = (int)trie->n++;
    trie->nodes[child] = (struct name_node){code, -1, trie->nodes[at].child, false};
    trie->nodes[at].child = child;
    return child;
}

static bool fill_trie(struct schema *s, const struct schema_shape *shape, struct name_trie *trie)
{
    size_t total = 1;
    for (size_t i = 0; i < shape->n_members; i++)
        total += strlen(shape->members[i].name);
    trie->nodes = schema_alloc(s, total, sizeof *trie->nodes);
    if (!trie->nodes || !schema_step(s, total))
        return false;
    trie->nodes[0] = (struct name_node){0, -1, -1, false};
    trie->n = 1;
    for (size_t i = 0; i < shape->n_members; i++) {
        const char *name = shape->members[i].name;
        int at = 0;
        while (*name)
            at = trie_child(trie, at, next_character(&name));
        trie->nodes[at].ends = true;
    }
    return true;
}

/* Any name but those of members, with its quotes. States are the trie's, then one for what has left it. */
static int other_name(struct schema *s, const struct schema_shape *shape)
{
    struct grammar_build *b = s->build;
    struct name_trie trie;
    if (shape->n_members == 0)
        return grammar_json_string(b, 0, -1);
    if (!fill_trie(s, shape, &trie))
        return 0;
    struct graph_edge *edges = schema_alloc(s, trie.n * 2 + 1, sizeof *edges);
    bool *final = schema_alloc(s, trie.n + 1, sizeof *final);
    if (!edges || !final)
        return 0;
    size_t n = 0;
    int left = (int)trie.n;
    for (int at = 0; at < left && schema_step(s, 1); at++) {
        uint32_t codes[60];
        size_t n_codes = 0;
        for (int child = trie.nodes[at].child; child >= 0; child = trie.nodes[child].sibling) {
            uint32_t code = trie.nodes[child].code;
            if (n_codes == sizeof codes / sizeof *codes)
                return grammar_fail(b, ERR_LIMIT,
                                    "JSON Schema: too many different names beside additionalProperties");
            codes[n_codes++] = code;
            if (code >= 0x20 && code != '"' && code != '\\')
                edges[n++] = (struct graph_edge){at, child,
                                                 grammar_set(b, &(struct code_range){code, code}, 1, false)};
        }
        edges[n++] = (struct graph_edge){at, left, plain_character(b, codes, n_codes)};
        final[at] = !trie.nodes[at].ends;
    }
    edges[n++] = (struct graph_edge){left, left, plain_character(b, NULL, 0)};
    final[left] = true;
    int quote = grammar_bytes(b, "\"", 1), name = grammar_graph(b, left + 1, edges, n, final);
    return grammar_share(b, grammar_sequence(b, (int[]){quote, name, quote}, 3));
}

static int member(struct schema *s, int name, int value)
{
    struct grammar_build *b = s->build;
    return grammar_sequence(b, (int[]){name, grammar_bytes(b, ":", 1), grammar_json_space(b), value}, 4);
}

static int own_name(struct schema *s, const char *name)
{
    json_t *text = json_string(name);
    int node =
        text ? schema_exactly(s, text) : grammar_fail(s->build, ERR_NOMEM, "out of memory in a JSON Schema");
    json_decref(text);
    return node;
}

/* ---- objects ---- */

static bool others_possible(const struct schema *s, const struct schema_shape *shape)
{
    if (shape->open && s->rules[shape->others]->possible)
        return true;
    for (size_t i = 0; i < shape->n_patterns; i++) {
        if (shape->patterns[i].written && s->rules[shape->patterns[i].rule]->possible)
            return true;
    }
    return false;
}

bool schema_object_possible(struct schema *s, const struct schema_shape *shape)
{
    int64_t required = 0, named = 0;
    for (size_t i = 0; i < shape->n_members && schema_step(s, 1); i++) {
        bool possible = s->rules[shape->members[i].rule]->possible;
        if (shape->members[i].required && !possible)
            return false;
        required += shape->members[i].required;
        named += possible;
    }
    if (shape->max_members >= 0 && (required > shape->max_members || shape->min_members > shape->max_members))
        return false;
    return named + others_possible(s, shape) >= shape->min_members;
}

static int write_others(struct schema *s, const struct schema_shape *shape)
{
    struct grammar_build *b = s->build;
    int *nodes = schema_alloc(s, shape->n_patterns + 1, sizeof *nodes);
    size_t n = 0;
    if (!nodes || !others_possible(s, shape))
        return -1;
    if (shape->open)
        nodes[n++] = member(s, other_name(s, shape), schema_node(s, shape->others));
    for (size_t i = 0; i < shape->n_patterns; i++) {
        const char *pattern = shape->patterns[i].pattern;
        if (!shape->patterns[i].written || !s->rules[shape->patterns[i].rule]->possible)
            continue;
        int quote = grammar_bytes(b, "\"", 1);
        int name = grammar_regex(b, pattern, strlen(pattern),
                                 (struct regex_bounds){.max_chars = -1, .json = true, .search = true});
        name = grammar_sequence(b, (int[]){quote, name, quote}, 3);
        nodes[n++] = member(s, name, schema_node(s, shape->patterns[i].rule));
    }
    return n == 1 ? nodes[0] : grammar_any(b, nodes, n);
}

int schema_object(struct schema *s, const struct schema_shape *shape)
{
    struct grammar_build *b = s->build;
    struct schema_thing *things = schema_alloc(s, shape->n_members + 1, sizeof *things);
    size_t n = 0;
    for (size_t i = 0; things && i < shape->n_members && schema_step(s, 1); i++) {
        const struct schema_member *m = &shape->members[i];
        if (s->rules[m->rule]->possible)
            things[n++] =
                (struct schema_thing){member(s, own_name(s, m->name), schema_node(s, m->rule)), m->required};
    }
    if (!things)
        return 0;
    int members =
        schema_in_order(s, things, n, write_others(s, shape), shape->min_members, shape->max_members);
    return grammar_sequence(b, (int[]){grammar_bytes(b, "{", 1), members, grammar_bytes(b, "}", 1)}, 3);
}
