/* A reader for the few shapes of JSON in which models write calls; jansson checks the parts afterwards. */
#include "call_scan.h"

#include <string.h>

enum { MAX_KEY = 32 };

struct cursor {
    const char *text;
    size_t at, length;
};

void nesting_next(struct nesting *n, char c)
{
    if (n->escaped) {
        n->escaped = false;
    } else if (n->in_string) {
        n->escaped = c == '\\';
        n->in_string = c != '"';
    } else if (c == '"') {
        n->in_string = true;
    } else {
        n->depth += c == '{' || c == '[';
        n->depth -= c == '}' || c == ']';
    }
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static enum scan skip_blanks(struct cursor *c)
{
    while (c->at < c->length && is_blank(c->text[c->at]))
        c->at++;
    return c->at < c->length ? SCAN_YES : SCAN_MORE;
}

static enum scan skip_byte(struct cursor *c, char wanted)
{
    if (skip_blanks(c) == SCAN_MORE)
        return SCAN_MORE;
    return c->text[c->at++] == wanted ? SCAN_YES : SCAN_NO;
}

static enum scan skip_value(struct cursor *c)
{
    struct nesting nesting = {0};
    char first = c->text[c->at];
    if (first == '"' || first == '{' || first == '[') {
        while (c->at < c->length) {
            nesting_next(&nesting, c->text[c->at++]);
            if (nesting.depth == 0 && !nesting.in_string)
                return SCAN_YES;
        }
        return SCAN_MORE;
    }
    size_t begin = c->at;
    while (c->at < c->length && !is_blank(c->text[c->at]) && !strchr(",{}[]:\"", c->text[c->at]))
        c->at++;
    if (c->at == c->length)
        return SCAN_MORE;
    return c->at > begin ? SCAN_YES : SCAN_NO;
}

static enum scan skip_key(struct cursor *c, const char **key, size_t *length)
{
    if (skip_blanks(c) == SCAN_MORE)
        return SCAN_MORE;
    if (c->text[c->at] != '"')
        return SCAN_NO;
    *key = c->text + c->at + 1;
    const char *end = memchr(*key, '"', c->length - c->at - 1);
    *length = end ? (size_t)(end - *key) : c->length - c->at - 1;
    if (*length > MAX_KEY)
        return SCAN_NO;
    c->at += *length + 2;
    return end ? SCAN_YES : SCAN_MORE;
}

static bool is_key(const char *key, size_t length, const char *name)
{
    return length == strlen(name) && memcmp(key, name, length) == 0;
}

static enum scan scan_member(struct cursor *c, struct call_scan *scan)
{
    const char *key;
    size_t length;
    enum scan found = skip_key(c, &key, &length);
    if (found != SCAN_YES)
        return found;
    bool name = is_key(key, length, "name");
    bool arguments = is_key(key, length, "arguments") || is_key(key, length, "parameters");
    if (!name && !arguments && !is_key(key, length, "type") && !is_key(key, length, "id"))
        return SCAN_NO;
    if ((name && scan->name_end) || (arguments && scan->arguments))
        return SCAN_NO;
    found = skip_byte(c, ':');
    if (found == SCAN_YES)
        found = skip_blanks(c);
    if (found != SCAN_YES)
        return found;
    size_t begin = c->at;
    char first = c->text[begin];
    if ((name && first != '"') || (arguments && first != '{' && first != '"'))
        return SCAN_NO;
    if (arguments)
        scan->arguments = begin;
    found = skip_value(c);
    if (found != SCAN_YES)
        return found;
    if (name) {
        scan->name = begin;
        scan->name_end = c->at;
    } else if (arguments) {
        scan->arguments_end = c->at;
    }
    return SCAN_YES;
}

enum scan call_scan(const char *text, size_t length, struct call_scan *scan)
{
    struct cursor c = {text, 1, length};
    *scan = (struct call_scan){0};
    for (;;) {
        enum scan found = scan_member(&c, scan);
        if (found == SCAN_YES)
            found = skip_blanks(&c);
        if (found != SCAN_YES)
            return found;
        char next = c.text[c.at++];
        if (next == '}') {
            scan->end = c.at;
            return scan->name_end ? SCAN_YES : SCAN_NO;
        }
        if (next != ',')
            return SCAN_NO;
    }
}
