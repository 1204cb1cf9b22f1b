/* Tokens of a chat template: text, tags and what is in them, with the white-space control that
 * model templates are written for: trim_blocks and lstrip_blocks on, the last newline dropped. */
#include <errno.h>
#include <string.h>

#include "template_ast.h"

struct lexer {
    struct arena *arena;
    struct err *err;
    const char *source; /* with "\n" newlines only */
    size_t length, at;
    size_t counted; /* up to here `line` has counted newlines */
    int line;
    bool line_start; /* nothing but a newline was consumed just before */
    struct template_token *tokens;
    size_t n, capacity;
};

static int fail(struct lexer *x, int code, const char *what)
{
    return err_set(x->err, code, "chat template, line %d: %s", x->line, what);
}

static void count_lines(struct lexer *x, size_t to)
{
    for (; x->counted < to; x->counted++)
        x->line += x->source[x->counted] == '\n';
}

static int push(struct lexer *x, struct template_token token)
{
    if (x->n == x->capacity) {
        size_t capacity = x->capacity ? x->capacity * 2 : 256;
        struct template_token *tokens = arena_alloc(x->arena, capacity, sizeof *tokens, x->err);
        if (!tokens)
            return arena_failed(x->err);
        if (x->n)
            memcpy(tokens, x->tokens, x->n * sizeof *tokens);
        x->tokens = tokens;
        x->capacity = capacity;
    }
    token.line = x->line;
    x->tokens[x->n++] = token;
    return 0;
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    while (at < x->length) {
        size_t next = at;
        if (!char_is_space(str_decode(x->source, &next)))
            break;
        at = next;
    }
    return at;
}

static bool looking_at(const struct lexer *x, size_t at, const char *text)
{
    size_t n = strlen(text);
    return n <= x->length - at && memcmp(x->source + at, text, n) == 0;
}

static size_t back_one(const struct lexer *x, size_t from, size_t at)
{
    do
        at--;
    while (at > from && ((unsigned char)x->source[at] & 0xc0) == 0x80);
    return at;
}

/* Text before a tag: "-" strips all white space, "+" none; otherwise blocks and comments strip
 * the spaces that stand alone before them on their line. */
static int push_data(struct lexer *x, size_t from, size_t to, char sign, bool lstrip)
{
    size_t end = to, at;
    if (sign == '-') {
        while (end > from) {
            at = back_one(x, from, end);
            size_t next = at;
            if (!char_is_space(str_decode(x->source, &next)))
                break;
            end = at;
        }
    } else if (sign != '+' && lstrip) {
        size_t line = to;
        while (line > from && x->source[line - 1] != '\n')
            line--;
        if ((line > from || x->line_start) && line < to && skip_space(x, line) >= to)
            end = line;
    }
    if (end == from)
        return 0;
    return push(x,
                (struct template_token){.kind = TOKEN_DATA, .text = x->source + from, .length = end - from});
}

/* The end of a block, comment or raw block at `at`: its length with the white space it swallows,
 * or 0 where there is none. */
static size_t tag_end(const struct lexer *x, size_t at, const char *close)
{
    if (at < x->length && (x->source[at] == '-' || x->source[at] == '+') && looking_at(x, at + 1, close))
        return (x->source[at] == '-' ? skip_space(x, at + 3) : at + 3) - at;
    if (at <= x->length && looking_at(x, at, close))
        return 2 + looking_at(x, at + 2, "\n");
    return 0;
}

/* "{%- raw %}" at the current position: returns what it is long, or 0. */
static size_t raw_begin(const struct lexer *x, const char *word, bool end)
{
    size_t at = x->at + 2;
    if (at < x->length && (x->source[at] == '-' || x->source[at] == '+'))
        at++;
    at = skip_space(x, at);
    if (!looking_at(x, at, word))
        return 0;
    at = skip_space(x, at + strlen(word));
    if (end) {
        size_t n = tag_end(x, at, "%}");
        return n ? at + n - x->at : 0;
    }
    if (looking_at(x, at, "-%}"))
        return skip_space(x, at + 3) - x->at;
    return looking_at(x, at, "%}") ? at + 2 - x->at : 0;
}

static void advance(struct lexer *x, size_t to)
{
    x->line_start = to > x->at && x->source[to - 1] == '\n';
    x->at = to;
    count_lines(x, to);
}

static char sign_at(const struct lexer *x, size_t at)
{
    return at < x->length && (x->source[at] == '-' || x->source[at] == '+') ? x->source[at] : 0;
}

static int lex_raw(struct lexer *x, size_t begin)
{
    size_t from = x->at + begin;
    advance(x, from);
    for (;; x->at++) {
        const char *next = x->at < x->length ? memmem(x->source + x->at, x->length - x->at, "{%", 2) : NULL;
        if (!next)
            return fail(x, ERR_FORMAT, "a raw block has no end");
        x->at = (size_t)(next - x->source);
        size_t n = raw_begin(x, "endraw", true);
        if (!n)
            continue;
        int rc = push_data(x, from, x->at, sign_at(x, x->at + 2), true);
        advance(x, x->at + n);
        return rc;
    }
}

static int lex_comment(struct lexer *x)
{
    size_t at = x->at + 2 + (sign_at(x, x->at + 2) != 0);
    for (; at < x->length; at++) {
        size_t n = tag_end(x, at, "#}");
        if (n) {
            advance(x, at + n);
            return 0;
        }
    }
    return fail(x, ERR_FORMAT, "a comment has no end");
}

/* ---- inside tags ---- */

/* How many were read, all of them or -1; beyond Unicode is -1 too. */
static int hex_digits(const char *s, const char *end, int n, int32_t *out)
{
    *out = 0;
    for (int i = 0; i < n; i++) {
        if (s + i >= end)
            return -1;
        const char *digits = "0123456789abcdef", *d = memchr(digits, s[i] | 0x20, 16);
        if (!d || s[i] < '0' || *out > 0x10ffff)
            return -1;
        *out = *out << 4 | (int32_t)(d - digits);
    }
    return n;
}

/* One escape sequence behind the backslash; *s is moved behind it. */
static int unescape(struct lexer *x, const char **s, const char *end, char *out, size_t *n)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    char c = *(*s)++;
    const char *simple = strchr(from, c);
    int32_t code = 0;
    if (simple && c) {
        out[(*n)++] = to[simple - from];
        return 0;
    }
    if (c == '\n')
        return 0;
    if (c >= '0' && c <= '7') {
        code = c - '0';
        for (int i = 0; i < 2 && *s < end && **s >= '0' && **s <= '7'; i++)
            code = code * 8 + (*(*s)++ - '0');
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int digits = hex_digits(*s, end, c == 'x' ? 2 : c == 'u' ? 4 : 8, &code);
        if (digits < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return fail(x, ERR_FORMAT, "a malformed escape sequence in a string");
        *s += digits;
    } else if (c == 'N') {
        return fail(x, ERR_UNSUPPORTED, "\\N in a string");
    } else {
        out[(*n)++] = '\\';
        out[(*n)++] = c;
        return 0;
    }
    *n += str_encode(code, out + *n);
    return 0;
}

static int lex_string(struct lexer *x)
{
    const char *s = x->source + x->at + 1, *end = x->source + x->length;
    const char *close = s;
    for (; close < end && *close != s[-1]; close++)
        if (*close == '\\')
            close++;
    if (close >= end)
        return fail(x, ERR_FORMAT, "a string has no end");
    /* An escape sequence is never shorter than what it stands for. */
    char *out = arena_alloc(x->arena, (size_t)(close - s) + 1, 1, x->err);
    size_t n = 0;
    if (!out)
        return arena_failed(x->err);
    while (s < close) {
        if (*s != '\\') {
            out[n++] = *s++;
            continue;
        }
        s++;
        int rc = unescape(x, &s, close, out, &n);
        if (rc)
            return rc;
    }
    int rc = push(x, (struct template_token){.kind = TOKEN_TEXT, .text = out, .length = n});
    advance(x, (size_t)(close + 1 - x->source));
    return rc;
}

static bool is_digit(const struct lexer *x, size_t at)
{
    return at < x->length && x->source[at] >= '0' && x->source[at] <= '9';
}

static size_t digits(const struct lexer *x, size_t at)
{
    while (is_digit(x, at) || (at < x->length && x->source[at] == '_' && is_digit(x, at + 1)))
        at++;
    return at;
}

static int lex_number(struct lexer *x)
{
    char text[64];
    size_t n = 0, from = x->at, end = digits(x, from);
    bool real = false;
    if (!(from > 0 && x->source[from - 1] == '.')) { /* in "a.0.1" there is no 0.1 */
        if (end < x->length && x->source[end] == '.' && is_digit(x, end + 1)) {
            real = true;
            end = digits(x, end + 1);
        }
        size_t e = end;
        if (e < x->length && (x->source[e] | 0x20) == 'e') {
            e++;
            if (e < x->length && (x->source[e] == '+' || x->source[e] == '-'))
                e++;
            if (is_digit(x, e)) {
                real = true;
                end = digits(x, e);
            }
        }
    }
    if (!real && x->source[from] == '0') {
        if (from + 1 < x->length && strchr("bBoOxX", x->source[from + 1]))
            return fail(x, ERR_UNSUPPORTED, "a number that is not decimal");
        for (end = from + 1; end < x->length && x->source[end] == '0'; end++)
            ;
    }
    for (size_t i = from; i < end; i++) {
        if (x->source[i] == '_')
            continue;
        if (n + 1 == sizeof text)
            return fail(x, ERR_UNSUPPORTED, "a number with so many digits");
        text[n++] = x->source[i];
    }
    text[n] = 0;
    struct template_token token = {.kind = real ? TOKEN_FLOAT : TOKEN_INT};
    errno = 0;
    if (real)
        token.real = strtod(text, NULL);
    else
        token.integer = strtoll(text, NULL, 10);
    if (!real && errno == ERANGE)
        return fail(x, ERR_UNSUPPORTED, "an integer beyond 64 bits");
    int rc = push(x, token);
    advance(x, end);
    return rc;
}

static bool name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static int lex_operator(struct lexer *x, char *open, size_t *n_open)
{
    static const char *const doubles[] = {"//", "**", "==", "!=", ">=", "<="};
    char c = x->source[x->at];
    int op = 0;
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        if (looking_at(x, x->at, doubles[i]))
            op = OP2(doubles[i][0], doubles[i][1]);
    if (!op && c && strchr("+-/*%~[](){}><=.:|,;", c))
        op = c;
    if (!op)
        return fail(x, ERR_FORMAT, "an unexpected character");
    if (op == '(' || op == '[' || op == '{') {
        if (*n_open == PARSE_DEPTH)
            return fail(x, ERR_LIMIT, "too many brackets inside each other");
        open[(*n_open)++] = op == '(' ? ')' : op == '[' ? ']' : '}';
    }
    if ((op == ')' || op == ']' || op == '}') && (*n_open == 0 || open[--*n_open] != op))
        return fail(x, ERR_FORMAT, "a closing bracket without its opening one");
    int rc = push(x, (struct template_token){.kind = TOKEN_OPERATOR, .op = op});
    advance(x, x->at + (op > 255 ? 2 : 1));
    return rc;
}

static int lex_tag(struct lexer *x, bool block)
{
    char open[PARSE_DEPTH];
    size_t n_open = 0;
    int rc = push(x, (struct template_token){.kind = block ? TOKEN_BLOCK_BEGIN : TOKEN_OUTPUT_BEGIN});
    advance(x, x->at + 2 + (sign_at(x, x->at + 2) != 0));
    while (rc == 0) {
        advance(x, skip_space(x, x->at));
        if (x->at >= x->length)
            return 0; /* the parser says what is missing */
        char c = x->source[x->at];
        size_t end = 0;
        if (n_open == 0 && block)
            end = tag_end(x, x->at, "%}");
        else if (n_open == 0)
            end = looking_at(x, x->at, "-}}")  ? skip_space(x, x->at + 3) - x->at
                  : looking_at(x, x->at, "}}") ? 2
                                               : 0;
        if (end) {
            rc = push(x, (struct template_token){.kind = block ? TOKEN_BLOCK_END : TOKEN_OUTPUT_END});
            advance(x, x->at + end);
            return rc;
        }
        if (c >= '0' && c <= '9') {
            rc = lex_number(x);
        } else if (c == '\'' || c == '"') {
            rc = lex_string(x);
        } else if (name_char(c, true)) {
            size_t to = x->at + 1;
            while (to < x->length && name_char(x->source[to], false))
                to++;
            rc = push(x, (struct template_token){
                             .kind = TOKEN_NAME, .text = x->source + x->at, .length = to - x->at});
            advance(x, to);
        } else {
            rc = lex_operator(x, open, &n_open);
        }
    }
    return rc;
}

/* A copy with "\n" for every kind of newline, without the last one. */
static int normalise(struct lexer *x, const char *source, size_t length)
{
    char *copy = arena_alloc(x->arena, length + 1, 1, x->err);
    if (!copy)
        return arena_failed(x->err);
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        copy[n++] = source[i] == '\r' ? '\n' : source[i];
        if (source[i] == '\r' && i + 1 < length && source[i + 1] == '\n')
            i++;
    }
    if (n && copy[n - 1] == '\n')
        n--;
    copy[n] = 0;
    x->source = copy;
    x->length = n;
    return 0;
}

int template_tokens(struct arena *arena, const char *source, size_t length, struct template_token **tokens,
                    size_t *n, struct err *err)
{
    struct lexer x = {.arena = arena, .err = err, .line = 1, .line_start = true};
    if (length > SOURCE_MAX)
        return err_set(err, ERR_LIMIT, "the chat template is longer than %d bytes", SOURCE_MAX);
    if (!text_is_utf8(source, length))
        return err_set(err, ERR_FORMAT, "the chat template is not valid UTF-8");
    int rc = normalise(&x, source, length);
    while (rc == 0 && x.at < x.length) {
        size_t from = x.at, tag = from;
        while (tag + 1 < x.length &&
               !(x.source[tag] == '{' && x.source[tag + 1] && strchr("{%#", x.source[tag + 1])))
            tag++;
        if (tag + 1 >= x.length) {
            rc = push(&x, (struct template_token){
                              .kind = TOKEN_DATA, .text = x.source + from, .length = x.length - from});
            count_lines(&x, x.length);
            break;
        }
        char kind = x.source[tag + 1];
        rc = push_data(&x, from, tag, sign_at(&x, tag + 2), kind != '{');
        x.at = tag;
        count_lines(&x, tag);
        size_t raw = kind == '%' ? raw_begin(&x, "raw", false) : 0;
        if (rc == 0)
            rc = raw ? lex_raw(&x, raw) : kind == '#' ? lex_comment(&x) : lex_tag(&x, kind == '%');
    }
    if (rc == 0)
        rc = push(&x, (struct template_token){.kind = TOKEN_END});
    *tokens = x.tokens;
    *n = x.n;
    return rc;
}
