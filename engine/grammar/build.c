/* The builder: nodes in arrays, checked and bounded as they come. */
#include "build.h"

#include <stdarg.h>
#include <string.h>

#include "nodes.h"

#define NODES_MAX 100000
#define BYTES_MAX ((size_t)12 << 20)  /* of all arrays, each */
#define DEPTH_MAX 600
#define WORK_MAX 4000000 /* some 50 ms */
#define REPEAT_MAX 100000
#define SHARED_SIZE 24 /* a repeated node of more edges becomes a rule */

int grammar_build_create(struct grammar_build **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return err_set(err, ERR_NOMEM, "out of memory for a grammar");
    grammar_never(*out); /* node 0, which stands for errors too */
    if (!grammar_failure(*out, err)) return 0;
    grammar_build_destroy(*out);
    *out = NULL;
    return ERR_NOMEM;
}

void grammar_build_destroy(struct grammar_build *b)
{
    if (!b) return;
    free(b->node);
    free(b->bytes);
    free(b->range);
    free(b->list);
    free(b->edge);
    free(b->final);
    free(b->rule);
    free(b->name);
    free(b);
}

int grammar_fail(struct grammar_build *b, int code, const char *format, ...)
{
    if (b->err.code) return 0;
    char text[sizeof b->err.text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    err_set(&b->err, code, "%s", text);
    return 0;
}

int grammar_failure(const struct grammar_build *b, struct err *err)
{
    if (b->err.code && err) *err = b->err;
    return b->err.code;
}

void nodes_work(struct grammar_build *b, uint64_t steps)
{
    b->work += steps;
    if (b->work > WORK_MAX) grammar_fail(b, ERR_LIMIT, "the grammar is too large");
}

/* Room for `more` elements; false when there is none, the error being set. */
static bool room(struct grammar_build *b, void *array, size_t n, size_t *capacity, size_t more, size_t size)
{
    void **at = array;
    if (b->err.code) return false;
    if (more > BYTES_MAX / size || n + more > BYTES_MAX / size) {
        grammar_fail(b, ERR_LIMIT, "the grammar is too large");
        return false;
    }
    if (n + more <= *capacity) return true;
    size_t grown = (n + more) * 2 + 64;
    void *moved = realloc(*at, grown * size);
    if (!moved) {
        grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
        return false;
    }
    *at = moved;
    *capacity = grown;
    return true;
}

static int add(struct grammar_build *b, struct node node)
{
    if (b->err.code) return 0;
    if (b->n_nodes >= NODES_MAX) return grammar_fail(b, ERR_LIMIT, "the grammar is too large");
    if (node.depth > DEPTH_MAX) return grammar_fail(b, ERR_LIMIT, "the grammar is nested too deep");
    if (!room(b, &b->node, b->n_nodes, &b->node_capacity, 1, sizeof node)) return 0;
    b->node[b->n_nodes] = node;
    return (int)b->n_nodes++;
}

/* ---- leaves ---- */

int grammar_never(struct grammar_build *b)
{
    return add(b, (struct node){.kind = NODE_NEVER});
}

int grammar_nothing(struct grammar_build *b)
{
    return grammar_bytes(b, "", 0);
}

int grammar_bytes(struct grammar_build *b, const char *bytes, size_t n)
{
    if (!room(b, &b->bytes, b->n_bytes, &b->bytes_capacity, n, 1)) return 0;
    if (n > 0) memcpy(b->bytes + b->n_bytes, bytes, n);
    b->n_bytes += n;
    return add(b, (struct node){.kind = NODE_BYTES, .size = (uint32_t)n, .at = b->n_bytes - n, .n = n});
}

int grammar_byte(struct grammar_build *b, unsigned char first, unsigned char last)
{
    REQUIRE(first <= last);
    return add(b, (struct node){.kind = NODE_BYTE, .size = 1, .min = first, .max = last});
}

static int compare_ranges(const void *a, const void *b)
{
    const struct code_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Puts in a range without surrogates. */
static void put_range(struct grammar_build *b, uint32_t first, uint32_t last)
{
    if (first < 0xd800 && last > 0xdfff) {
        put_range(b, first, 0xd7ff);
        first = 0xe000;
    }
    if (first >= 0xd800 && first <= 0xdfff) first = 0xe000;
    if (last >= 0xd800 && last <= 0xdfff) last = 0xd7ff;
    if (first <= last) b->range[b->n_ranges++] = (struct code_range){first, last};
}

int grammar_set(struct grammar_build *b, const struct code_range *ranges, size_t n, bool negated)
{
    /* A range may be cut in two by the surrogates; so may the gaps, of which there is one more. */
    if (!room(b, &b->range, b->n_ranges, &b->range_capacity, 2 * n + 4, sizeof *ranges)) return 0;
    struct code_range *sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted) return grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
    if (n > 0) memcpy(sorted, ranges, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_ranges);
    size_t at = b->n_ranges, merged = 0;
    for (size_t i = 0; i < n; i++) {
        if (sorted[i].first > sorted[i].last || sorted[i].first > 0x10ffff) continue;
        if (sorted[i].last > 0x10ffff) sorted[i].last = 0x10ffff;
        if (merged > 0 && sorted[i].first <= sorted[merged - 1].last + 1) {
            if (sorted[i].last > sorted[merged - 1].last) sorted[merged - 1].last = sorted[i].last;
        } else {
            sorted[merged++] = sorted[i];
        }
    }
    uint32_t next = 0;
    for (size_t i = 0; i < merged; i++) {
        if (!negated) put_range(b, sorted[i].first, sorted[i].last);
        if (negated && sorted[i].first > next) put_range(b, next, sorted[i].first - 1);
        next = sorted[i].last + 1;
    }
    if (negated && next <= 0x10ffff) put_range(b, next, 0x10ffff);
    free(sorted);
    size_t kept = b->n_ranges - at;
    return add(b, (struct node){.kind = NODE_SET, .size = (uint32_t)(kept * 8), .at = at, .n = kept});
}

/* ---- composition ---- */

static const struct node *node_at(struct grammar_build *b, int node)
{
    REQUIRE(b->err.code || (node >= 0 && (size_t)node < b->n_nodes));
    return &b->node[b->err.code ? 0 : node];
}

static uint32_t add_sizes(uint32_t a, uint32_t b)
{
    return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

static int list(struct grammar_build *b, enum node_kind kind, const int *nodes, size_t n)
{
    if (!room(b, &b->list, b->n_lists, &b->list_capacity, n, sizeof *nodes)) return 0;
    struct node made = {.kind = kind, .at = b->n_lists, .n = n};
    for (size_t i = 0; i < n; i++) {
        const struct node *child = node_at(b, nodes[i]);
        if (made.depth < child->depth + 1) made.depth = child->depth + 1;
        made.size = add_sizes(made.size, child->size);
    }
    if (n > 0) memcpy(b->list + b->n_lists, nodes, n * sizeof *nodes);
    b->n_lists += n;
    return add(b, made);
}

int grammar_sequence(struct grammar_build *b, const int *nodes, size_t n)
{
    return n == 1 ? nodes[0] : list(b, NODE_SEQUENCE, nodes, n);
}

int grammar_any(struct grammar_build *b, const int *nodes, size_t n)
{
    return n == 1 ? nodes[0] : list(b, NODE_ANY, nodes, n);
}

int grammar_optional(struct grammar_build *b, int node)
{
    return grammar_repeat(b, node, 0, 1);
}

int grammar_repeat(struct grammar_build *b, int node, int min, int max)
{
    if (min > REPEAT_MAX || max > REPEAT_MAX) {
        return grammar_fail(b, ERR_LIMIT, "a repetition of more than %d is too large", REPEAT_MAX);
    }
    if (min < 0 || max < -1 || (max >= 0 && max < min)) {
        return grammar_fail(b, ERR_INVALID, "a repetition of %d to %d cannot be", min, max);
    }
    uint32_t copies = (uint32_t)(max < 0 ? min + 1 : max);
    if (copies > 1 && node_at(b, node)->size > SHARED_SIZE) node = grammar_share(b, node);
    const struct node *child = node_at(b, node);
    uint64_t size = ((uint64_t)child->size + 1) * copies;
    return add(b, (struct node){.kind = NODE_REPEAT, .depth = child->depth + 1, .child = node, .min = min,
                                .max = max, .size = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size});
}

int grammar_rule(struct grammar_build *b, const char *name)
{
    if (!room(b, &b->rule, b->n_rules, &b->rule_capacity, 1, sizeof *b->rule)) return 0;
    if (!room(b, &b->name, b->n_rules, &b->name_capacity, 1, sizeof *b->name)) return 0;
    int node = add(b, (struct node){.kind = NODE_RULE, .size = 1, .child = -1, .min = (int)b->n_rules});
    if (b->err.code) return 0;
    snprintf(b->name[b->n_rules].text, sizeof b->name->text, "%s", name ? name : "");
    b->rule[b->n_rules++] = node;
    return node;
}

void grammar_define(struct grammar_build *b, int rule, int node)
{
    if (b->err.code) return;
    REQUIRE(node_at(b, rule)->kind == NODE_RULE && b->node[rule].child < 0);
    REQUIRE(node >= 0 && (size_t)node < b->n_nodes);
    b->node[rule].child = node;
}

int grammar_share(struct grammar_build *b, int node)
{
    if (node_at(b, node)->kind == NODE_RULE) return node;
    int rule = grammar_rule(b, NULL);
    grammar_define(b, rule, node);
    return rule;
}

int grammar_graph(struct grammar_build *b, int n_states, const struct graph_edge *edges, size_t n_edges,
                  const bool *final)
{
    REQUIRE(n_states > 0);
    if (!room(b, &b->edge, b->n_edges, &b->edge_capacity, n_edges, sizeof *edges)) return 0;
    if (!room(b, &b->final, b->n_finals, &b->final_capacity, (size_t)n_states, sizeof *final)) return 0;
    struct node made = {.kind = NODE_GRAPH, .at = b->n_edges, .n = n_edges, .n_states = n_states,
                        .min = (int)b->n_finals};
    for (size_t i = 0; i < n_edges; i++) {
        const struct graph_edge *e = &edges[i];
        REQUIRE(e->from >= 0 && e->from < n_states && e->to >= 0 && e->to < n_states);
        const struct node *child = node_at(b, e->node);
        if (made.depth < child->depth + 1) made.depth = child->depth + 1;
        made.size = add_sizes(made.size, child->size);
    }
    if (n_edges > 0) memcpy(b->edge + b->n_edges, edges, n_edges * sizeof *edges);
    memcpy(b->final + b->n_finals, final, (size_t)n_states * sizeof *final);
    b->n_edges += n_edges;
    b->n_finals += (size_t)n_states;
    return add(b, made);
}
