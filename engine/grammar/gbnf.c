/* llama.cpp's GBNF: rules `name ::= …` of literals, classes of characters, groups, alternatives and repetitions.
 * A rule ends with its line, but not within parentheses nor behind `::=` and `|`. */
#include <string.h>

#include "nodes.h"
#include "utf8.h"

#define DEPTH_MAX 100
#define NAMES_MAX 20000

struct name {
    const char *text;
    size_t length;
    int rule;
    bool defined;
};

struct gbnf {
    struct grammar_build *build;
    const char *text;
    size_t length, at;
    struct name *name;     /* [n_names] in the order of their mention */
    int *slot;             /* [NAMES_MAX * 2] name + 1; 0: empty */
    int n_names;
    int *node;             /* stack of nodes whose sequence or alternatives are being read */
    size_t n_nodes, node_capacity;
};

static bool failed(const struct gbnf *g)
{
    return grammar_failure(g->build, NULL) != 0;
}

static int fail(struct gbnf *g, const char *what)
{
    int line = 1;
    for (size_t i = 0; i < g->at && i < g->length; i++) line += g->text[i] == '\n';
    return grammar_fail(g->build, ERR_INVALID, "the grammar, line %d: %s", line, what);
}

static int peek(const struct gbnf *g)
{
    return g->at < g->length ? (unsigned char)g->text[g->at] : -1;
}

static bool take(struct gbnf *g, const char *text)
{
    size_t n = strlen(text);
    if (g->length - g->at < n || memcmp(g->text + g->at, text, n)) return false;
    g->at += n;
    return true;
}

static void skip_space(struct gbnf *g, bool lines)
{
    for (int c; (c = peek(g)) >= 0; g->at++) {
        if (c == '#') {
            while (peek(g) >= 0 && peek(g) != '\n' && peek(g) != '\r') g->at++;
            g->at--;
        } else if (c != ' ' && c != '\t' && !(lines && (c == '\n' || c == '\r'))) {
            return;
        }
    }
}

/* ---- names ---- */

static bool is_name(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* The entry of the name at hand; NULL where there is none, or on failure. */
static struct name *read_name(struct gbnf *g)
{
    size_t begin = g->at;
    uint32_t hash = 2166136261u;
    while (is_name(peek(g))) hash = (hash ^ (uint32_t)g->text[g->at++]) * 16777619u;
    size_t length = g->at - begin, i = hash % (NAMES_MAX * 2);
    if (length == 0) {
        fail(g, "a rule's name is expected");
        return NULL;
    }
    for (; g->slot[i]; i = (i + 1) % (NAMES_MAX * 2)) {
        struct name *n = &g->name[g->slot[i] - 1];
        if (n->length == length && !memcmp(n->text, g->text + begin, length)) return n;
    }
    if (g->n_names == NAMES_MAX) {
        grammar_fail(g->build, ERR_LIMIT, "the grammar has too many rules");
        return NULL;
    }
    char text[40];
    snprintf(text, sizeof text, "%.*s", (int)(length < 39 ? length : 39), g->text + begin);
    struct name *n = &g->name[g->n_names++];
    *n = (struct name){g->text + begin, length, grammar_rule(g->build, text), false};
    g->slot[i] = g->n_names;
    return n;
}

/* ---- characters ---- */

/* One character of a literal or a class, escapes resolved. */
static uint32_t read_character(struct gbnf *g)
{
    if (peek(g) != '\\') {
        uint32_t c = utf8_next(g->text, g->length, &g->at);
        if (c == UTF8_NONE) fail(g, "the text ends within quotes or brackets, or is no UTF-8");
        return c;
    }
    g->at++;
    int c = peek(g), digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (c >= 0) g->at++;
    if (digits > 0) {
        uint32_t value = utf8_hexadecimal(g->text, g->length, &g->at, digits, digits);
        if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) fail(g, "an escape is no character");
        return value;
    }
    switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case '\\': case '"': case '[': case ']': case '-': case '^': return (uint32_t)c;
    default: fail(g, "an escape is not known"); return 0;
    }
}

static int put_character(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> n & 0xff) | c);
    return n;
}

static int read_literal(struct gbnf *g)
{
    char *bytes = malloc(g->length - g->at + 4); /* no escape is shorter than its character */
    size_t n = 0;
    if (!bytes) return grammar_fail(g->build, ERR_NOMEM, "out of memory for a grammar");
    while (!failed(g) && peek(g) != '"') n += (size_t)put_character(read_character(g), bytes + n);
    g->at++;
    int node = failed(g) ? 0 : grammar_bytes(g->build, bytes, n);
    free(bytes);
    return node;
}

static int read_class(struct gbnf *g)
{
    struct code_range *range = NULL;
    size_t n = 0, capacity = 0;
    bool negated = take(g, "^");
    while (!failed(g) && peek(g) != ']') {
        if (n == capacity) {
            capacity = capacity * 2 + 16;
            struct code_range *grown = realloc(range, capacity * sizeof *grown);
            if (!grown) {
                grammar_fail(g->build, ERR_NOMEM, "out of memory for a grammar");
                break;
            }
            range = grown;
        }
        uint32_t first = read_character(g), last = first;
        if (peek(g) == '-' && g->at + 1 < g->length && g->text[g->at + 1] != ']') {
            g->at++;
            last = read_character(g);
            if (!failed(g) && last < first) fail(g, "a range of characters ends before it begins");
        }
        range[n++] = (struct code_range){first, last};
    }
    g->at++;
    int node = failed(g) ? 0 : grammar_set(g->build, range, n, negated);
    free(range);
    return node;
}

/* ---- structure ---- */

static void push(struct gbnf *g, int node)
{
    if (g->n_nodes == g->node_capacity) {
        size_t capacity = g->node_capacity * 2 + 64;
        int *grown = realloc(g->node, capacity * sizeof *grown);
        if (!grown) {
            grammar_fail(g->build, ERR_NOMEM, "out of memory for a grammar");
            return;
        }
        g->node = grown;
        g->node_capacity = capacity;
    }
    g->node[g->n_nodes++] = node;
}

static int read_number(struct gbnf *g)
{
    int value = 0;
    if (peek(g) < '0' || peek(g) > '9') return fail(g, "a number of repetitions is expected");
    for (; peek(g) >= '0' && peek(g) <= '9'; g->at++) {
        if (value < 100000000) value = value * 10 + (peek(g) - '0');
    }
    return value;
}

static int read_repetition(struct gbnf *g, int node, bool lines)
{
    for (int least, most; !failed(g); node = grammar_repeat(g->build, node, least, most)) {
        skip_space(g, lines);
        if (take(g, "*")) {
            least = 0, most = -1;
        } else if (take(g, "+")) {
            least = 1, most = -1;
        } else if (take(g, "?")) {
            least = 0, most = 1;
        } else if (take(g, "{")) {
            skip_space(g, lines);
            least = most = read_number(g);
            skip_space(g, lines);
            if (take(g, ",")) {
                skip_space(g, lines);
                most = peek(g) == '}' ? -1 : read_number(g);
                skip_space(g, lines);
            }
            if (!take(g, "}")) fail(g, "a '}' is missing");
        } else {
            return node;
        }
    }
    return 0;
}

static int read_alternatives(struct gbnf *g, bool nested, int depth);

static int read_element(struct gbnf *g, bool nested, int depth)
{
    int node;
    if (take(g, "\"")) {
        node = read_literal(g);
    } else if (take(g, "[")) {
        node = read_class(g);
    } else if (take(g, "(")) {
        node = read_alternatives(g, true, depth + 1);
        if (!take(g, ")")) fail(g, "a ')' is missing");
    } else if (take(g, ".")) {
        node = grammar_set(g->build, NULL, 0, true);
    } else {
        const struct name *name = read_name(g);
        node = name ? name->rule : 0;
    }
    return read_repetition(g, node, nested);
}

static int read_sequence(struct gbnf *g, bool nested, int depth)
{
    size_t begin = g->n_nodes;
    skip_space(g, nested);
    while (!failed(g) && peek(g) >= 0 && (strchr("\"[(.", peek(g)) || is_name(peek(g)))) {
        push(g, read_element(g, nested, depth));
        skip_space(g, nested);
    }
    size_t n = g->n_nodes - begin;
    g->n_nodes = begin;
    return failed(g) ? 0 : grammar_sequence(g->build, g->node + begin, n);
}

static int read_alternatives(struct gbnf *g, bool nested, int depth)
{
    size_t begin = g->n_nodes;
    if (depth > DEPTH_MAX) return grammar_fail(g->build, ERR_LIMIT, "the grammar is nested too deep");
    push(g, read_sequence(g, nested, depth));
    while (!failed(g) && take(g, "|")) {
        skip_space(g, true);
        push(g, read_sequence(g, nested, depth));
    }
    size_t n = g->n_nodes - begin;
    g->n_nodes = begin;
    return failed(g) ? 0 : grammar_any(g->build, g->node + begin, n);
}

static void read_rule(struct gbnf *g)
{
    struct name *name = read_name(g);
    if (!name) return;
    size_t index = (size_t)(name - g->name);
    skip_space(g, false);
    if (!take(g, "::=")) {
        fail(g, "\"::=\" is missing behind a rule's name");
        return;
    }
    if (name->defined) {
        fail(g, "a rule is defined twice");
        return;
    }
    name->defined = true;
    skip_space(g, true);
    int node = read_alternatives(g, false, 0);
    grammar_define(g->build, g->name[index].rule, node);
    if (!failed(g) && peek(g) >= 0 && peek(g) != '\n' && peek(g) != '\r') fail(g, "something here is not understood");
    skip_space(g, true);
}

int grammar_gbnf(struct grammar_build *b, const char *text, size_t length)
{
    struct gbnf g = {.build = b, .text = text, .length = length};
    int root = 0;
    g.name = malloc(NAMES_MAX * sizeof *g.name);
    g.slot = calloc(NAMES_MAX * 2, sizeof *g.slot);
    if (!g.name || !g.slot) {
        grammar_fail(b, ERR_NOMEM, "out of memory for a grammar");
    } else {
        skip_space(&g, true);
        while (!failed(&g) && peek(&g) >= 0) read_rule(&g);
        for (int i = 0; i < g.n_names && !failed(&g); i++) {
            if (g.name[i].length == 4 && !memcmp(g.name[i].text, "root", 4)) root = g.name[i].rule;
        }
        if (!failed(&g) && root == 0) grammar_fail(b, ERR_INVALID, "the grammar has no rule \"root\"");
    }
    free(g.name);
    free(g.slot);
    free(g.node);
    return failed(&g) ? 0 : root;
}
