/* From a pattern to a tree. The syntax is PCRE's as far as it is regular; \d, \w and \s are of ASCII. */
#include <string.h>

#include "regex.h"
#include "utf8.h"

#define DEPTH_MAX 100
#define NODES_MAX 50000
#define REPEAT_MAX 10000

static bool failed(const struct regex *r)
{
    return grammar_failure(r->build, NULL) != 0;
}

static int malformed(struct regex *r, const char *what)
{
    return grammar_fail(r->build, ERR_INVALID, "the pattern, at byte %zu: %s", r->at, what);
}

static int unsupported(struct regex *r, const char *what)
{
    return grammar_fail(r->build, ERR_UNSUPPORTED, "the pattern, at byte %zu: %s not supported", r->at, what);
}

static int add(struct regex *r, struct regex_node node)
{
    if (failed(r)) return 0;
    if (r->n_nodes == r->node_capacity) {
        size_t capacity = r->node_capacity * 2 + 64;
        struct regex_node *grown = capacity < 2 * NODES_MAX ? realloc(r->node, capacity * sizeof *grown) : NULL;
        if (!grown) return grammar_fail(r->build, ERR_LIMIT, "the pattern is too large");
        r->node = grown;
        r->node_capacity = capacity;
    }
    r->node[r->n_nodes] = node;
    return (int)r->n_nodes++;
}

static int add_list(struct regex *r, const struct range_list *l, bool negated)
{
    if (l->failed) return grammar_fail(r->build, ERR_NOMEM, "out of memory for a pattern");
    return failed(r) ? 0 : add(r, (struct regex_node){.kind = REGEX_SET, .a = regex_add_set(r, l->range, l->n, negated)});
}

static int peek(const struct regex *r)
{
    return r->at < r->length ? (unsigned char)r->pattern[r->at] : -1;
}

static bool take(struct regex *r, const char *text)
{
    size_t n = strlen(text);
    if (r->length - r->at < n || memcmp(r->pattern + r->at, text, n)) return false;
    r->at += n;
    return true;
}

/* ---- escapes ---- */

/* \p{Lu}, \pL, \P{…} behind the letter. */
static void read_category(struct regex *r, bool negated, struct range_list *out)
{
    char name[3] = "";
    if (take(r, "{")) {
        if (take(r, "^")) negated = !negated;
        size_t n = 0;
        while (peek(r) >= 0 && peek(r) != '}' && n < 2) name[n++] = r->pattern[r->at++];
        if (!take(r, "}")) {
            unsupported(r, "properties other than general categories of one or two letters are");
            return;
        }
    } else if (peek(r) >= 0) {
        name[0] = r->pattern[r->at++];
    }
    if (!range_list_add_category(out, name, negated)) malformed(r, "there is no such category of characters");
}

/* \uXXXX, of which two may make a character; \u{…}. */
static uint32_t read_unicode(struct regex *r)
{
    if (take(r, "{")) {
        uint32_t c = utf8_hexadecimal(r->pattern, r->length, &r->at, 1, 8);
        return take(r, "}") ? c : UTF8_NONE;
    }
    uint32_t c = utf8_hexadecimal(r->pattern, r->length, &r->at, 4, 4);
    if (c < 0xd800 || c > 0xdbff) return c;
    if (!take(r, "\\u")) return UTF8_NONE;
    uint32_t low = utf8_hexadecimal(r->pattern, r->length, &r->at, 4, 4);
    return low >= 0xdc00 && low <= 0xdfff ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : UTF8_NONE;
}

static uint32_t read_hexadecimal(struct regex *r)
{
    if (!take(r, "{")) {
        uint32_t c = utf8_hexadecimal(r->pattern, r->length, &r->at, 0, 2);
        return c;
    }
    uint32_t c = utf8_hexadecimal(r->pattern, r->length, &r->at, 1, 8);
    return take(r, "}") ? c : UTF8_NONE;
}

/* An escape that stands for one character, or (UTF8_NONE) for those that are put into `out`. */
static uint32_t read_escape(struct regex *r, struct range_list *out)
{
    static const char named[] = "n\nr\rt\tf\fv\va\ae\033";
    int c = peek(r);
    uint32_t value = UTF8_NONE;
    if (c < 0) {
        malformed(r, "it ends behind a backslash");
        return 0;
    }
    if (c >= 0x80) return utf8_next(r->pattern, r->length, &r->at);
    r->at++;
    if (c == 'p' || c == 'P') {
        read_category(r, c == 'P', out);
        return UTF8_NONE;
    }
    if (range_list_add_class(out, (char)c)) return UTF8_NONE;
    const char *name = strchr(named, c);
    if (name && (name - named) % 2 == 0) return (unsigned char)name[1];
    if (c == 'x' || c == 'u') {
        value = c == 'x' ? read_hexadecimal(r) : read_unicode(r);
    } else if (c == '0') {
        value = 0;
        for (int i = 0; i < 2 && peek(r) >= '0' && peek(r) <= '7'; i++) value = value * 8 + (uint32_t)(r->pattern[r->at++] - '0');
    } else if (c == 'c' && peek(r) > 0x20 && peek(r) < 0x7f) {
        int letter = r->pattern[r->at++];
        value = (uint32_t)((letter >= 'a' && letter <= 'z' ? letter - 32 : letter) ^ 0x40);
    } else if (c >= '1' && c <= '9') {
        unsupported(r, "backreferences (\\1) are");
        return 0;
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        char what[24];
        snprintf(what, sizeof what, "\\%c is", c);
        unsupported(r, what);
        return 0;
    } else {
        return (uint32_t)c;
    }
    if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) malformed(r, "an escape is no character");
    return value;
}

/* ---- classes ---- */

/* One end of a range, or (UTF8_NONE) a class within the class. */
static uint32_t read_member(struct regex *r, struct range_list *out)
{
    if (take(r, "\\")) {
        if (take(r, "b")) return '\b';
        return read_escape(r, out);
    }
    if (peek(r) == '[' && r->at + 1 < r->length && strchr(":.=", r->pattern[r->at + 1])) {
        const char *end = memchr(r->pattern + r->at + 2, r->pattern[r->at + 1], r->length - r->at - 2);
        if (end && end + 1 < r->pattern + r->length && end[1] == ']') {
            unsupported(r, "POSIX classes ([:alpha:]) are");
            return 0;
        }
    }
    uint32_t c = utf8_next(r->pattern, r->length, &r->at);
    if (c == UTF8_NONE) malformed(r, "a class is not closed, or is no UTF-8");
    return c;
}

static int read_class(struct regex *r)
{
    struct range_list list = {0};
    bool negated = take(r, "^");
    for (bool first = true; !failed(r) && (first || peek(r) != ']'); first = false) {
        uint32_t from = read_member(r, &list);
        bool ranged = peek(r) == '-' && r->at + 1 < r->length && r->pattern[r->at + 1] != ']';
        if (failed(r)) break;
        if (from == UTF8_NONE) continue;
        uint32_t to = from;
        if (ranged) {
            r->at++;
            to = read_member(r, &list);
            if (to == UTF8_NONE) { /* a class behind the hyphen, which then stands for itself */
                range_list_add(&list, '-', '-');
                to = from;
            }
            if (to < from) malformed(r, "a range ends before it begins");
        }
        range_list_add(&list, from, to);
    }
    r->at++;
    int node = add_list(r, &list, negated);
    free(list.range);
    return node;
}

/* ---- structure ---- */

static int read_either(struct regex *r, int depth);

static int read_group(struct regex *r, int depth)
{
    if (take(r, "?")) {
        if (peek(r) == '=' || peek(r) == '!' || take(r, "<=") || take(r, "<!")) return unsupported(r, "lookaround is");
        if (take(r, "<") || take(r, "P<") || take(r, "'")) {
            while (peek(r) >= 0 && peek(r) != '>' && peek(r) != '\'') r->at++;
            r->at++;
        } else if (!take(r, ":")) {
            return unsupported(r, "groups with (? other than (?: and (?<name> are");
        }
    } else if (peek(r) == '*') {
        return unsupported(r, "verbs (*) are");
    }
    int node = read_either(r, depth + 1);
    if (!failed(r) && !take(r, ")")) malformed(r, "a ')' is missing");
    return node;
}

static int read_atom(struct regex *r, int depth)
{
    struct range_list list = {0};
    if (take(r, "(")) return read_group(r, depth);
    if (take(r, "[")) return read_class(r);
    if (take(r, ".")) return add(r, (struct regex_node){.kind = REGEX_SET, .a = regex_add_set(r, &(struct code_range){'\n', '\n'}, 1, true)});
    if (take(r, "^") || take(r, "\\A")) return add(r, (struct regex_node){.kind = REGEX_BEGIN});
    if (take(r, "$") || take(r, "\\z") || take(r, "\\Z")) return add(r, (struct regex_node){.kind = REGEX_END});
    int c = peek(r);
    if (c == '*' || c == '+' || c == '?') return malformed(r, "there is nothing to repeat");
    uint32_t one = take(r, "\\") ? read_escape(r, &list) : utf8_next(r->pattern, r->length, &r->at);
    if (one == UTF8_NONE && list.n == 0) malformed(r, "it is no UTF-8");
    if (one != UTF8_NONE) range_list_add(&list, one, one);
    int node = add_list(r, &list, false);
    free(list.range);
    return node;
}

/* {n}, {n,}, {n,m}; anything else that begins with a brace stands for itself. */
static bool read_braces(struct regex *r, int *min, int *max)
{
    size_t at = r->at + 1, digits[2] = {0};
    long value[2] = {0, 0};
    bool comma = false;
    for (; at < r->length && r->pattern[at] != '}'; at++) {
        char c = r->pattern[at];
        if (c == ',' && !comma && digits[0] > 0) {
            comma = true;
        } else if (c >= '0' && c <= '9') {
            digits[comma]++;
            if (value[comma] < 1000000) value[comma] = value[comma] * 10 + (c - '0');
        } else {
            return false;
        }
    }
    if (at >= r->length || digits[0] == 0) return false;
    r->at = at + 1;
    *min = (int)value[0];
    *max = !comma ? *min : digits[1] > 0 ? (int)value[1] : -1;
    if (*min > REPEAT_MAX || *max > REPEAT_MAX) {
        grammar_fail(r->build, ERR_LIMIT, "the pattern repeats something more than %d times", REPEAT_MAX);
    } else if (*max >= 0 && *max < *min) {
        malformed(r, "a repetition's bounds are in the wrong order");
    }
    return true;
}

static int read_repeated(struct regex *r, int depth)
{
    int node = read_atom(r, depth), min, max;
    while (!failed(r)) {
        if (take(r, "*")) {
            min = 0, max = -1;
        } else if (take(r, "+")) {
            min = 1, max = -1;
        } else if (take(r, "?")) {
            min = 0, max = 1;
        } else if (peek(r) != '{' || !read_braces(r, &min, &max)) {
            break;
        }
        if (take(r, "+")) return unsupported(r, "possessive repetition is");
        take(r, "?"); /* lazy: the same texts */
        node = add(r, (struct regex_node){.kind = REGEX_REPEAT, .a = node, .min = min, .max = max});
        if (peek(r) == '*' || peek(r) == '+' || peek(r) == '?') return malformed(r, "there is nothing to repeat");
    }
    return node;
}

static int read_either(struct regex *r, int depth)
{
    if (depth > DEPTH_MAX) return grammar_fail(r->build, ERR_LIMIT, "the pattern is nested too deep");
    int either = -1;
    do {
        int sequence = -1;
        while (!failed(r) && peek(r) >= 0 && peek(r) != '|' && peek(r) != ')') {
            int one = read_repeated(r, depth);
            sequence = sequence < 0 ? one : add(r, (struct regex_node){.kind = REGEX_SEQUENCE, .a = sequence, .b = one});
        }
        if (sequence < 0) sequence = add(r, (struct regex_node){.kind = REGEX_EMPTY});
        either = either < 0 ? sequence : add(r, (struct regex_node){.kind = REGEX_EITHER, .a = either, .b = sequence});
    } while (!failed(r) && take(r, "|"));
    return either;
}

int regex_parse(struct regex *r)
{
    int root = read_either(r, 0);
    if (!failed(r) && r->at < r->length) malformed(r, "a ')' closes nothing");
    for (size_t i = 0; i < r->n_nodes; i++) {
        r->anchored |= r->node[i].kind == REGEX_BEGIN || r->node[i].kind == REGEX_END;
    }
    return root;
}

void regex_dispose(struct regex *r)
{
    free(r->node);
    free(r->set);
    free(r->range);
}
