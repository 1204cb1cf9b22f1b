/* JSON as it is generated: without whitespace but for one space that may stand after ':' and ','. Unbounded
 * whitespace is what models fall into; unbounded digits are what parsers fall over. */
#include <string.h>

#include "nodes.h"

enum { SPACE, CHARACTER, STRING, INTEGER, NUMBER, VALUE, OBJECT, ARRAY };

static int text(struct grammar_build *b, const char *bytes)
{
    return grammar_bytes(b, bytes, strlen(bytes));
}

/* Makes a rule of what is used again and again. */
static int kept(struct grammar_build *b, int which, int node)
{
    return b->json[which] = grammar_share(b, node);
}

int grammar_json_space(struct grammar_build *b)
{
    return b->json[SPACE] ? b->json[SPACE] : (b->json[SPACE] = grammar_optional(b, grammar_byte(b, ' ', ' ')));
}

/* ---- strings ---- */

static int one_of(struct grammar_build *b, const char *characters)
{
    struct code_range ranges[32];
    size_t n = strlen(characters);
    for (size_t i = 0; i < n; i++) ranges[i] = (struct code_range){(unsigned char)characters[i], (unsigned char)characters[i]};
    return grammar_set(b, ranges, n, false);
}

/* The four digits behind \u, and a second escape where the first is half a character; not 0000. */
static int code_unit(struct grammar_build *b)
{
    int digit = grammar_set(b, (const struct code_range[]){{'0', '9'}, {'a', 'f'}, {'A', 'F'}}, 3, false);
    int nonzero = grammar_set(b, (const struct code_range[]){{'1', '9'}, {'a', 'f'}, {'A', 'F'}}, 3, false);
    int zero = text(b, "0"), d = one_of(b, "dD"), other = one_of(b, "123456789abcefABCEF");
    int low = one_of(b, "01234567"), half = one_of(b, "89abAB"), rest = one_of(b, "cdefCDEF");
    int zeros = grammar_any(b, (const int[]){
        grammar_sequence(b, (const int[]){zero, nonzero, digit, digit}, 4),
        grammar_sequence(b, (const int[]){zero, zero, nonzero, digit}, 4),
        grammar_sequence(b, (const int[]){zero, zero, zero, nonzero}, 4)}, 3);
    int whole = grammar_any(b, (const int[]){
        zeros, grammar_sequence(b, (const int[]){other, digit, digit, digit}, 4),
        grammar_sequence(b, (const int[]){d, low, digit, digit}, 4)}, 3);
    int pair = grammar_sequence(b, (const int[]){d, half, digit, digit, text(b, "\\u"), d, rest, digit, digit}, 9);
    return grammar_any(b, (const int[]){whole, pair}, 2);
}

static int character(struct grammar_build *b)
{
    if (b->json[CHARACTER]) return b->json[CHARACTER];
    int plain = grammar_set(b, (const struct code_range[]){{0, 0x1f}, {'"', '"'}, {'\\', '\\'}}, 3, true);
    int simple = one_of(b, "\"\\/bfnrt");
    int unit = grammar_sequence(b, (const int[]){grammar_byte(b, 'u', 'u'), code_unit(b)}, 2);
    int escape = grammar_sequence(b, (const int[]){grammar_byte(b, '\\', '\\'),
                                                   grammar_any(b, (const int[]){simple, unit}, 2)}, 2);
    return kept(b, CHARACTER, grammar_any(b, (const int[]){plain, escape}, 2));
}

int grammar_json_string(struct grammar_build *b, int min_chars, int max_chars)
{
    bool any = min_chars == 0 && max_chars < 0;
    if (any && b->json[STRING]) return b->json[STRING];
    int quote = grammar_byte(b, '"', '"'), chars = grammar_repeat(b, character(b), min_chars, max_chars);
    int node = grammar_sequence(b, (const int[]){quote, chars, quote}, 3);
    return any ? kept(b, STRING, node) : node;
}

/* ---- numbers ---- */

int grammar_json_integer(struct grammar_build *b)
{
    if (b->json[INTEGER]) return b->json[INTEGER];
    int digit = grammar_byte(b, '0', '9');
    int longer = grammar_sequence(b, (const int[]){grammar_byte(b, '1', '9'), grammar_repeat(b, digit, 0, 15)}, 2);
    int magnitude = grammar_any(b, (const int[]){text(b, "0"), longer}, 2);
    return kept(b, INTEGER, grammar_sequence(b, (const int[]){grammar_optional(b, text(b, "-")), magnitude}, 2));
}

int grammar_json_number(struct grammar_build *b)
{
    if (b->json[NUMBER]) return b->json[NUMBER];
    int digit = grammar_byte(b, '0', '9'), e = one_of(b, "eE"), sign = grammar_optional(b, one_of(b, "+-"));
    int longer = grammar_sequence(b, (const int[]){grammar_byte(b, '1', '9'), grammar_repeat(b, digit, 0, 15)}, 2);
    int magnitude = grammar_any(b, (const int[]){text(b, "0"), longer}, 2);
    int fraction = grammar_sequence(b, (const int[]){text(b, "."), grammar_repeat(b, digit, 1, 17)}, 2);
    int exponent = grammar_sequence(b, (const int[]){e, sign, grammar_repeat(b, digit, 1, 2)}, 3);
    return kept(b, NUMBER, grammar_sequence(b, (const int[]){
        grammar_optional(b, text(b, "-")), magnitude, grammar_optional(b, fraction),
        grammar_optional(b, exponent)}, 4));
}

/* ---- values ---- */

/* Nothing, or items with commas between them. */
static int list(struct grammar_build *b, const char *open, int item, const char *close)
{
    int comma = grammar_sequence(b, (const int[]){text(b, ","), grammar_json_space(b), item}, 3);
    int items = grammar_sequence(b, (const int[]){item, grammar_repeat(b, comma, 0, -1)}, 2);
    return grammar_sequence(b, (const int[]){text(b, open), grammar_optional(b, items), text(b, close)}, 3);
}

int grammar_json_value(struct grammar_build *b)
{
    if (b->json[VALUE]) return b->json[VALUE];
    int value = b->json[VALUE] = grammar_rule(b, "JSON value");
    int member = grammar_sequence(b, (const int[]){grammar_json_string(b, 0, -1), text(b, ":"),
                                                   grammar_json_space(b), value}, 4);
    kept(b, OBJECT, list(b, "{", member, "}"));
    kept(b, ARRAY, list(b, "[", value, "]"));
    grammar_define(b, value, grammar_any(b, (const int[]){
        b->json[OBJECT], b->json[ARRAY], grammar_json_string(b, 0, -1), grammar_json_number(b), text(b, "true"),
        text(b, "false"), text(b, "null")}, 7));
    return value;
}

int grammar_json_object(struct grammar_build *b)
{
    grammar_json_value(b);
    return b->json[OBJECT];
}

int grammar_json_array(struct grammar_build *b)
{
    grammar_json_value(b);
    return b->json[ARRAY];
}

int grammar_json_exactly(struct grammar_build *b, const json_t *value)
{
    char *dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!dumped) return grammar_fail(b, ERR_INVALID, "a JSON value is nested too deep");
    int node = text(b, dumped);
    free(dumped);
    return node;
}
