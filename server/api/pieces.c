/* Reads text with whatever look-ahead a decision needs: what is not decided yet stays in `held`, and is looked at
 * again when more has come. */
#include "pieces.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "call_find.h"

#define CALL_CLOSE "</tool_call>"
#define THINK_OPEN "<think>"
#define THINK_CLOSE "</think>"

struct pieces {
    struct pieces_options o;
    enum {
        AT_START,     /* nothing but blanks so far: reasoning may begin */
        IN_REASONING,
        IN_CONTENT,
        IN_ARGUMENTS,
        IN_TAIL,      /* behind the arguments, in the call's object */
        AT_CLOSE,     /* behind the object: its end tag may follow */
        BETWEEN,      /* behind a call */
        IN_NOTHING    /* behind the only call */
    } state;
    struct bytes held;
    size_t at;        /* of `held`, what has been read */
    bool final;
    bool open;        /* a block is */
    enum block_kind kind;
    bool called;
    bool trim;        /* blanks that come next are dropped */
    bool line_start;
    bool in_fence;    /* in a code block */
    bool call_fence;  /* in a code block of calls */
    bool tagged;      /* the call is */
    struct nesting nesting;
    int64_t before;   /* bytes of text before `held` */
    int64_t think_begin, think_end;
};

int pieces_create(struct pieces **out, const struct pieces_options *options)
{
    struct pieces *p = *out = calloc(1, sizeof *p);
    if (!p)
        return -1;
    p->o = *options;
    p->state = options->thinking ? IN_REASONING : options->thinks ? AT_START : IN_CONTENT;
    p->think_begin = options->thinking ? 0 : -1;
    p->think_end = -1;
    p->trim = options->thinking;
    p->line_start = true;
    return 0;
}

void pieces_destroy(struct pieces *p)
{
    if (!p)
        return;
    bytes_dispose(&p->held);
    free(p);
}

bool pieces_holds(const struct pieces *p)
{
    return p->held.length > 0;
}

void pieces_reasoning(const struct pieces *p, int64_t *begin, int64_t *end)
{
    *begin = p->think_begin;
    *end = p->think_end;
}

/* ---- what comes out ---- */

static int give(struct pieces *p, enum piece_kind kind, const char *text, size_t length)
{
    return p->o.sink(p->o.user, &(struct piece){kind, p->kind, text, length});
}

static int close_block(struct pieces *p)
{
    if (!p->open)
        return 0;
    p->open = false;
    return give(p, PIECE_END, "", 0);
}

static int open_block(struct pieces *p, enum block_kind kind, const char *name, size_t length)
{
    if (close_block(p))
        return -1;
    p->open = true;
    p->kind = kind;
    return give(p, PIECE_BEGIN, name, length);
}

static int give_text(struct pieces *p, enum block_kind kind, const char *text, size_t length)
{
    if (length == 0)
        return 0;
    if ((!p->open || p->kind != kind) && open_block(p, kind, "", 0))
        return -1;
    return give(p, PIECE_TEXT, text, length);
}

/* ---- markers ---- */

/* Length without the blanks at its end. */
static size_t trimmed(const char *text, size_t length)
{
    while (length > 0 && call_blanks(text + length - 1, 1))
        length--;
    return length;
}

/* Where the marker is, or where its beginning at the end of the text is, or the length. */
static size_t find_marker(const char *text, size_t length, const char *marker, bool *whole)
{
    const char *at = text, *end = text + length;
    *whole = false;
    while ((at = memchr(at, marker[0], (size_t)(end - at)))) {
        enum scan found = call_marker(at, (size_t)(end - at), marker);
        *whole = found == SCAN_YES;
        if (found != SCAN_NO)
            return (size_t)(at - text);
        at++;
    }
    return length;
}

/* `text` is the call's object. Gives its name, and all of it where its arguments cannot be given as they come. */
static int begin_call(struct pieces *p, const char *text, const struct call_opening *opening)
{
    const struct call_scan *scan = &opening->scan;
    bool stream = call_streams(text, scan);
    json_t *name = call_name(text, scan), *arguments = stream ? NULL : call_arguments(text, scan);
    int rc = -1;
    if (name && (stream || arguments))
        rc = open_block(p, BLOCK_CALL, json_string_value(name), json_string_length(name));
    if (rc == 0 && !stream)
        rc = give_text(p, BLOCK_CALL, json_string_value(arguments), json_string_length(arguments));
    if (rc == 0 && !stream)
        rc = close_block(p);
    json_decref(name);
    json_decref(arguments);
    p->called = true;
    p->tagged = opening->tagged;
    p->call_fence |= opening->fenced;
    p->nesting = (struct nesting){0};
    p->state = stream ? IN_ARGUMENTS : AT_CLOSE;
    p->at += opening->object + (stream ? scan->arguments : scan->end);
    return rc;
}

/* ---- states: each reads on from `at` and returns whether it got anywhere; -1: no memory ---- */

static int at_start(struct pieces *p, const char *text, size_t length)
{
    size_t skipped = call_blanks(text, length);
    enum scan found = skipped < length ? call_marker(text + skipped, length - skipped, THINK_OPEN) : SCAN_MORE;
    if (found == SCAN_MORE && !p->final)
        return 0;
    if (found == SCAN_YES) {
        p->think_begin = p->before + (int64_t)(p->at + skipped);
        p->at += skipped + strlen(THINK_OPEN);
        p->trim = true;
    }
    p->state = found == SCAN_YES ? IN_REASONING : IN_CONTENT;
    return 1;
}

/* Text up to its marker, without the blanks around it. */
static int in_reasoning(struct pieces *p, const char *text, size_t length)
{
    size_t skipped = p->trim ? call_blanks(text, length) : 0;
    bool whole;
    p->at += skipped;
    if (skipped == length)
        return 0;
    p->trim = false;
    text += skipped;
    length -= skipped;
    size_t found = find_marker(text, length, THINK_CLOSE, &whole);
    size_t sure = p->final && !whole ? length : found;
    size_t solid = trimmed(text, sure);
    if (give_text(p, BLOCK_REASONING, text, solid))
        return -1;
    if (!whole) {
        p->at += p->final ? length : solid;
        return 0;
    }
    p->at += found + strlen(THINK_CLOSE);
    p->think_end = p->before + (int64_t)p->at;
    p->trim = p->line_start = true;
    p->state = IN_CONTENT;
    return close_block(p) ? -1 : 1;
}

/* Text up to what begins a call, or may. Blanks before a call are not given. */
static int in_content(struct pieces *p, const char *text, size_t length)
{
    size_t skipped = p->trim ? call_blanks(text, length) : 0, solid = 0;
    bool line_start = p->line_start;
    p->at += skipped;
    if (skipped == length)
        return 0;
    p->trim = false;
    text += skipped;
    length -= skipped;
    if (p->o.calls == CALLS_NONE) {
        p->at += length;
        return give_text(p, BLOCK_CONTENT, text, length);
    }
    for (size_t i = 0; i < length; i++) {
        struct call_opening opening;
        if (call_blanks(text + i, 1)) {
            line_start |= text[i] == '\n';
            continue;
        }
        enum scan found = call_find(&(struct call_rules){p->o.calls, p->o.tools, line_start, p->in_fence, p->final},
                                    text + i, length - i, &opening);
        if (found != SCAN_NO) {
            if (give_text(p, BLOCK_CONTENT, text, solid))
                return -1;
            p->line_start = solid > 0 ? false : p->line_start;
            p->at += found == SCAN_YES ? i : solid;
            if (found == SCAN_MORE)
                return 0;
            return begin_call(p, text + i + opening.object, &opening) ? -1 : 1;
        }
        if (line_start && call_marker(text + i, length - i, "```") == SCAN_YES)
            p->in_fence = !p->in_fence;
        line_start = false;
        solid = i + 1;
    }
    if (p->final && !p->called)
        solid = length;
    p->line_start = solid > 0 ? false : p->line_start;
    p->at += p->final ? length : solid;
    return give_text(p, BLOCK_CONTENT, text, solid);
}

/* Up to the end of the value; a "<" that is in no string ends it too, for JSON has none. */
static size_t follow(struct pieces *p, const char *text, size_t length, bool *ended)
{
    size_t i = 0;
    *ended = false;
    while (i < length && !*ended) {
        if (text[i] == '<' && !p->nesting.in_string) {
            *ended = true;
            break;
        }
        nesting_next(&p->nesting, text[i++]);
        *ended = p->nesting.depth == 0 && !p->nesting.in_string;
    }
    p->at += i;
    return i;
}

static int in_arguments(struct pieces *p, const char *text, size_t length)
{
    bool ended;
    size_t n = follow(p, text, length, &ended);
    if (give_text(p, BLOCK_CALL, text, n))
        return -1;
    if (!ended)
        return 0;
    p->nesting = (struct nesting){.depth = 1};
    p->state = IN_TAIL;
    return close_block(p) ? -1 : 1;
}

static int in_tail(struct pieces *p, const char *text, size_t length)
{
    bool ended;
    follow(p, text, length, &ended);
    if (ended)
        p->state = AT_CLOSE;
    return ended;
}

static int at_close(struct pieces *p, const char *text, size_t length)
{
    size_t skipped = call_blanks(text, length);
    enum scan found = SCAN_NO;
    if (p->tagged)
        found = skipped < length ? call_marker(text + skipped, length - skipped, CALL_CLOSE) : SCAN_MORE;
    if (found == SCAN_MORE && !p->final)
        return 0;
    if (found == SCAN_YES)
        p->at += skipped + strlen(CALL_CLOSE);
    p->state = p->o.one_call ? IN_NOTHING : BETWEEN;
    return 1;
}

/* Skips what joins calls: blanks, a comma or semicolon, the end of a code block. */
static int between(struct pieces *p, const char *text, size_t length)
{
    size_t i = call_blanks(text, length);
    p->at += i;
    if (i == length)
        return 0;
    if (text[i] == '`' && p->call_fence) {
        enum scan found = call_marker(text + i, length - i, "```");
        if (found == SCAN_MORE && !p->final)
            return 0;
        p->at += found == SCAN_YES ? 3 : 0;
        p->call_fence = false;
    } else if (!p->tagged && (text[i] == ',' || text[i] == ';')) {
        p->at++;
    }
    p->trim = p->line_start = true;
    p->state = IN_CONTENT;
    return 1;
}

static int read_on(struct pieces *p)
{
    int moved = 1;
    while (moved == 1 && p->at < p->held.length) {
        const char *text = p->held.data + p->at;
        size_t length = p->held.length - p->at;
        switch (p->state) {
        case AT_START: moved = at_start(p, text, length); break;
        case IN_REASONING: moved = in_reasoning(p, text, length); break;
        case IN_CONTENT: moved = in_content(p, text, length); break;
        case IN_ARGUMENTS: moved = in_arguments(p, text, length); break;
        case IN_TAIL: moved = in_tail(p, text, length); break;
        case AT_CLOSE: moved = at_close(p, text, length); break;
        case BETWEEN: moved = between(p, text, length); break;
        case IN_NOTHING: p->at = p->held.length; break;
        }
    }
    if (moved < 0)
        return -1;
    p->before += (int64_t)p->at;
    p->held.length -= p->at;
    if (p->held.length > 0)
        memmove(p->held.data, p->held.data + p->at, p->held.length);
    p->at = 0;
    return 0;
}

int pieces_feed(struct pieces *p, const char *text, size_t length)
{
    bytes_add(&p->held, text, length);
    return p->held.failed ? -1 : read_on(p);
}

int pieces_end(struct pieces *p)
{
    p->final = true;
    return read_on(p) ? -1 : close_block(p);
}
