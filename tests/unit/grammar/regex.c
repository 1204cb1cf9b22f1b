/* Regular expressions against PCRE2, on texts made of the characters that they speak of. */
#include "texts.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static const char *const patterns[] = {
    "", "a", "abc|ab|b", "a*b+c?", "[a-c]{2,4}", "(ab|c)*", "(?:a|b(?<n>c))+", "[^ab]", ".", "..", "a.c", "\\d+-\\w*",
    "\\s\\S", "[\\d-]+", "[]a]", "[a\\]b-]*", "a{2}", "a{2,}", "a{b", "(a{1,2}){2}", "(a*)*", "(a?b?)*c", "^a",
    "a$", "^a|b$", "(^a|b)c", "a(b$|c)", "^$", "(^|a)b", "a($|b)", "(a|^b)(c|d$)", "é+", "[à-ü]a", "[^à-ü]", "😀?a",
    "\\x61\\x{e9}", "\\p{Lu}a", "\\P{L}+", "\\pN", "[\\p{Ll}1]+", "a|", "|a", "()", "(|a)b", "a+?b", "a*?", "\\.\\*",
    "[.*]", "\\n\\t", "[\\n-]", "(((a)b)c)*", "\\Aa\\z", "a\\-b", "[a-]", "[-a]", "x{0}a", "(a|ab)(c|bcd)",
};

static size_t make_text(unsigned *seed, char *out)
{
    static const char *const characters[] = {"a", "b", "c", "d", "1", "-", " ", "\n", "é", "ü", "A", "x", "]", ".", "*",
                                             "😀", "{", "\t", ",", "2"};
    size_t n = 0;
    *seed = *seed * 1103515245 + 12345;
    for (unsigned left = *seed >> 16 & 7; left > 0; left--) {
        *seed = *seed * 1103515245 + 12345;
        unsigned most = *seed >> 28 < 10 ? 5 : sizeof characters / sizeof *characters;
        const char *c = characters[(*seed >> 16 & 0xff) % most];
        memcpy(out + n, c, strlen(c));
        n += strlen(c);
    }
    return n;
}

static int count(const char *text, size_t n)
{
    int characters = 0;
    for (size_t i = 0; i < n; i++) characters += ((unsigned char)text[i] & 0xc0) != 0x80;
    return characters;
}

static bool matches(const pcre2_code *code, pcre2_match_data *data, const char *text, size_t n)
{
    return pcre2_match(code, (PCRE2_SPTR)text, n, 0, 0, data, NULL) >= 0;
}

static struct grammar *compile_regex(const char *pattern, struct regex_bounds bounds)
{
    struct err err;
    struct grammar_build *b;
    struct grammar *g;
    cr_assert_eq(grammar_build_create(&b, &err), 0);
    int rc = grammar_create(&g, b, grammar_regex(b, pattern, strlen(pattern), bounds), NULL, &err);
    grammar_build_destroy(b);
    cr_assert(rc == 0 || strstr(err.text, "no text fits"), "%s: %s", pattern, err.text);
    return g;
}

static bool fits(struct grammar *g, const char *text, size_t n)
{
    return g && fit(g, text, n) >= MAY_END;
}

static void compare(const char *pattern, struct regex_bounds bounds)
{
    int error;
    PCRE2_SIZE at;
    uint32_t options = PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | (bounds.search ? 0 : PCRE2_ANCHORED | PCRE2_ENDANCHORED);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &error, &at, NULL);
    cr_assert_not_null(code, "%s", pattern);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    struct grammar *g = compile_regex(pattern, bounds);
    unsigned seed = 7;
    for (int i = 0; i < 600; i++) {
        char text[64], json[160];
        size_t n = make_text(&seed, text);
        int characters = count(text, n);
        bool wanted = matches(code, data, text, n) && characters >= bounds.min_chars &&
                      (bounds.max_chars < 0 || characters <= bounds.max_chars);
        const char *written = text;
        size_t n_written = n;
        if (bounds.json) {
            json_t *value = json_stringn(text, n);
            n_written = json_dumpb(value, json, sizeof json, JSON_ENCODE_ANY) - 2;
            written = json + 1;
            json_decref(value);
        }
        cr_expect_eq(fits(g, written, n_written), wanted, "%s (%d to %d%s%s): \"%.*s\" should %sfit", pattern,
                     bounds.min_chars, bounds.max_chars, bounds.json ? ", json" : "", bounds.search ? ", search" : "",
                     (int)n, text, wanted ? "" : "not ");
    }
    engine_grammar_release(g);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
}

static void compare_all(struct regex_bounds bounds)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) compare(patterns[i], bounds);
}

Test(regex, whole)
{
    compare_all((struct regex_bounds){.max_chars = -1});
}

Test(regex, search)
{
    compare_all((struct regex_bounds){.max_chars = -1, .search = true});
}

Test(regex, bounded)
{
    compare_all((struct regex_bounds){.min_chars = 2, .max_chars = 3, .search = true});
    compare_all((struct regex_bounds){.min_chars = 3, .max_chars = -1});
}

Test(regex, json)
{
    compare_all((struct regex_bounds){.max_chars = 4, .json = true, .search = true});
}

Test(regex, not_supported)
{
    static const char *const wrong[][2] = {
        {"a\\b", "\\b"}, {"(?=a)b", "lookaround"}, {"(?<!a)b", "lookaround"}, {"(a)\\1", "backreferences"},
        {"(?i)a", "(?"}, {"a++", "possessive"}, {"[[:alpha:]]", "POSIX"}, {"\\R", "\\R"}, {"\\p{Greek}", "categories"},
        {"(?>a)", "(?"}, {"(*FAIL)", "verbs"},
    };
    static const char *const malformed[] = {"(", ")", "a)", "[a", "*a", "a**", "[b-a]", "\\", "\\x{110000}", "\\p{Xx}",
                                            "a{3,2}", "(?:a", "\xff", "\\ud800", "|*"};
    struct err err;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int rc = refusal(json_pack("{s:s,s:s}", "type", "regex", "pattern", wrong[i][0]), &err);
        cr_expect_eq(rc, ERR_UNSUPPORTED, "%s: %d", wrong[i][0], rc);
        cr_expect(strstr(err.text, wrong[i][1]), "%s: %s", wrong[i][0], err.text);
    }
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        struct grammar_build *b;
        cr_assert_eq(grammar_build_create(&b, &err), 0);
        grammar_regex(b, malformed[i], strlen(malformed[i]), (struct regex_bounds){.max_chars = -1});
        cr_expect_eq(grammar_failure(b, &err), ERR_INVALID, "%s: %s", malformed[i], err.text);
        grammar_build_destroy(b);
    }
}
