/* What fits the grammars that specs and GBNF make, and which are refused. */
#include <time.h>

#include "texts.h"

struct expected {
    const char *text;
    enum fit fit;
};

static void expect(const char *spec, const struct expected *expected)
{
    struct grammar *g = compile(spec);
    for (; expected->text; expected++) {
        enum fit f = fit(g, expected->text, strlen(expected->text));
        cr_expect_eq(f, expected->fit, "%s: \"%s\" is %d, not %d", spec, expected->text, f, expected->fit);
    }
    engine_grammar_release(g);
}

#define EXPECT(spec, ...) expect(spec, (const struct expected[]){__VA_ARGS__, {NULL, NO}})

Test(languages, compositions)
{
    EXPECT("{\"type\":\"choice\",\"choices\":[\"a\",\"ab\",\"xyz\",\"é\"]}", {"", PREFIX}, {"a", MAY_END}, {"ab", OVER},
           {"xy", PREFIX}, {"xyz", OVER}, {"b", NO}, {"abc", NO}, {"\xc3", PREFIX}, {"é", OVER});
    EXPECT("{\"type\":\"literal\",\"text\":\"\"}", {"", OVER}, {"a", NO});
    EXPECT("{\"type\":\"sequence\",\"parts\":[{\"type\":\"literal\",\"text\":\"a\"},{\"type\":\"choice\","
           "\"choices\":[\"\",\"b\"]},{\"type\":\"literal\",\"text\":\"c\"}]}",
           {"a", PREFIX}, {"ac", OVER}, {"abc", OVER}, {"abb", NO});
    EXPECT("{\"type\":\"any_of\",\"specs\":[{\"type\":\"literal\",\"text\":\"ab\"},{\"type\":\"json_object\"}]}",
           {"ab", OVER}, {"{}", OVER}, {"a{", NO});
    EXPECT("{\"type\":\"repeat\",\"of\":{\"type\":\"literal\",\"text\":\"a\"},\"min\":2,\"max\":3,\"between\":"
           "{\"type\":\"literal\",\"text\":\",\"}}",
           {"a", PREFIX}, {"a,a", MAY_END}, {"a,a,a", OVER}, {"a,a,a,", NO}, {"aa", NO}, {",", NO});
    EXPECT("{\"type\":\"repeat\",\"of\":{\"type\":\"literal\",\"text\":\"a\"},\"min\":0,\"max\":-1}", {"", MAY_END},
           {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", MAY_END}, {"b", NO});
}

Test(languages, triggered)
{
    const char *spec = "{\"type\":\"triggered\",\"cases\":[{\"trigger\":\"<t>\",\"then\":{\"type\":\"choice\","
                       "\"choices\":[\"yes\",\"no\"]}},{\"trigger\":\"a<tt>\",\"then\":{\"type\":\"literal\","
                       "\"text\":\"!\"}}]}";
    EXPECT(spec, {"", MAY_END}, {"free \n text < t> <", MAY_END}, {"x<t>", PREFIX}, {"x<t>n", PREFIX},
           {"x<t>no", MAY_END}, {"x<t>nor", MAY_END}, {"x<t>q", NO}, {"<<t>yes<t>no<t>", PREFIX}, {"a<t>x", NO},
           {"a<tt>!", MAY_END}, {"a<tt>x", NO}, {"b<tt>x", MAY_END});
    struct err err;
    json_t *inner = json_pack("{s:s,s:[{s:s,s:{s:s}},{s:s,s:{s:s}}]}", "type", "triggered", "cases", "trigger", "ab",
                              "then", "type", "json_object", "trigger", "abc", "then", "type", "json_object");
    cr_expect_eq(refusal(inner, &err), ERR_INVALID);
}

Test(languages, json)
{
    EXPECT("{\"type\":\"json_object\"}", {"", PREFIX}, {"{}", OVER}, {"[", NO}, {" {", NO},
           {"{\"a\": 1, \"b\":[1,2, {\"c\":null}]}", OVER}, {"{\"a\":  1", NO}, {"{ ", NO}, {"{\"a\" ", NO},
           {"{\"a\":01", NO}, {"{\"a\":-0.5e-10}", OVER}, {"{\"a\":1e999", NO}, {"{\"a\":12345678901234567", NO},
           {"{\"a\":\"\\u0000", NO}, {"{\"a\":\"\\u0001\\ud83d\\ude00\"}", OVER}, {"{\"a\":\"\\ud83d\"", NO},
           {"{\"a\":\"\\udc00", NO}, {"{\"a\":\"\n", NO}, {"{\"a\":\"é😀\"}", OVER}, {"{\"a\":\"\xc3\"", NO},
           {"{\"a\":\"\xed\xa0\x80", NO}, {"{\"a\":tru", PREFIX}, {"{\"a\":true,", PREFIX}, {"{\"a\":true,}", NO});
    /* As deep as one likes. */
    struct grammar *g = compile("{\"type\":\"json_object\"}");
    static char deep[60010] = "{\"a\":";
    memset(deep + 5, '[', 30000);
    memset(deep + 30005, ']', 30000);
    cr_expect_eq(fit(g, deep, 60005), PREFIX);
    deep[60005] = '}';
    cr_expect_eq(fit(g, deep, 60006), OVER);
    engine_grammar_release(g);
}

static struct grammar *compile_gbnf(const char *text)
{
    struct err err;
    struct grammar *g;
    json_t *spec = json_pack("{s:s,s:s}", "type", "gbnf", "grammar", text);
    cr_assert_eq(grammar_compile(&g, spec, NULL, &err), 0, "%s: %s", text, err.text);
    json_decref(spec);
    return g;
}

static void expect_gbnf(const char *text, const struct expected *expected)
{
    struct grammar *g = compile_gbnf(text);
    for (; expected->text; expected++) {
        enum fit f = fit(g, expected->text, strlen(expected->text));
        cr_expect_eq(f, expected->fit, "%s: \"%s\" is %d, not %d", text, expected->text, f, expected->fit);
    }
    engine_grammar_release(g);
}

#define EXPECT_GBNF(text, ...) expect_gbnf(text, (const struct expected[]){__VA_ARGS__, {NULL, NO}})

Test(languages, gbnf)
{
    EXPECT_GBNF("# sums\nroot  ::= expr \"\\n\"\nexpr ::= term ([-+*/] term)*   # more\n\n"
                "term ::= num |\n  \"(\" expr \")\"\nnum ::= [0-9]{1,3}",
                {"(1+22)*3\n", OVER}, {"(1+", PREFIX}, {"1234", NO}, {"()", NO});
    EXPECT_GBNF("root ::= \"\\x41\\u00e9\\U0001F600\\\"\\\\\" [^\\]a-c\\n]* [\\-x] .", {"Aé😀\"\\", PREFIX},
                {"Aé😀\"\\xé", MAY_END}, {"Aé😀\"\\dd-\n", OVER}, {"Aé😀\"\\a", NO}, {"Aé😀\"\\]", NO});
    EXPECT_GBNF("root ::= (\"a\" | \"b\"?){2,} \"c\"{2} item+\nitem ::= \"x\"{0,3} \"y\" | root", {"cc", PREFIX},
                {"aabbccxxxy", MAY_END}, {"ccxxxx", NO}, {"ccccy", MAY_END});
    EXPECT_GBNF("root ::= \"x\" root \"y\" | \"x\" root \"z\" | \"q\"", {"xxxqyzy", OVER}, {"xxxqyzyz", NO});
    EXPECT_GBNF("root ::= \"a\" root?", {"", PREFIX}, {"aaaaaaaaaaaaaaaaaaaa", MAY_END});
    EXPECT_GBNF("root ::= empty \"a\" empty\nempty ::= \"\" | (\"b\" root)?", {"a", MAY_END}, {"ab", PREFIX},
                {"aba", MAY_END}, {"baaba", MAY_END}, {"c", NO});
}

Test(languages, gbnf_errors)
{
    static const struct {
        const char *text;
        int code;
        const char *says;
    } wrong[] = {
        {"root ::= root \"a\" | \"b\"", ERR_INVALID, "\"root\" begins with itself"},
        {"root ::= a \"x\"\na ::= \"\" | b\nb ::= a", ERR_INVALID, "begins with itself"},
        {"root ::= empty \"a\"\nempty ::= \"\" | root?", ERR_INVALID, "begins with itself"},
        {"root ::= x", ERR_INVALID, "\"x\" is not defined"},
        {"start ::= \"a\"", ERR_INVALID, "no rule \"root\""},
        {"root ::= \"a\nroot", ERR_INVALID, "quotes"},
        {"root ::= \"a\"\nroot ::= \"b\"", ERR_INVALID, "line 2: a rule is defined twice"},
        {"root ::= (\"a\"", ERR_INVALID, "')' is missing"},
        {"root ::= [a", ERR_INVALID, "brackets"},
        {"root ::= [z-a]", ERR_INVALID, "ends before"},
        {"root ::= \"a\"{3,2}", ERR_INVALID, "repetition"},
        {"root ::= \"\\q\"", ERR_INVALID, "escape"},
        {"root = \"a\"", ERR_INVALID, "::="},
        {"root ::= \"a\" )", ERR_INVALID, "not understood"},
        {"root ::= \"a\" root", ERR_INVALID, "no text fits"},
        {"root ::= \"a\"{1000000}", ERR_LIMIT, "too large"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err err = {0};
        int rc = refusal(json_pack("{s:s,s:s}", "type", "gbnf", "grammar", wrong[i].text), &err);
        cr_expect_eq(rc, wrong[i].code, "%s: %d %s", wrong[i].text, rc, err.text);
        cr_expect(strstr(err.text, wrong[i].says), "%s: %s", wrong[i].text, err.text);
    }
}

/* A chain of rules is no nesting that costs anything. */
Test(languages, long_chain)
{
    char text[40000], *at = text + sprintf(text, "root ::= r0\n");
    for (int i = 0; i < 800; i++) at += sprintf(at, "r%d ::= \"a\" r%d | r%d\n", i, i + 1, i + 1);
    sprintf(at, "r800 ::= \"b\"\n");
    struct grammar *g = compile_gbnf(text);
    cr_expect_eq(fit(g, "aaab", 4), OVER);
    engine_grammar_release(g);
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static json_t *of_parts(const char *type, const char *member, int n, json_t *part)
{
    json_t *parts = json_array();
    for (int i = 0; i < n; i++) json_array_append(parts, part);
    json_decref(part);
    return json_pack("{s:s,s:o}", "type", type, member, parts);
}

static json_t *of_pattern(const char *pattern)
{
    return json_pack("{s:s,s:s}", "type", "regex", "pattern", pattern);
}

/* What is too large is refused, and soon. The bound is generous: tests run on busy machines. */
Test(languages, hostile, .timeout = 120)
{
    static char chain[400000];
    char *at = chain + sprintf(chain, "root ::= r0\n");
    for (int i = 0; i < 12000; i++) at += sprintf(at, "r%d ::= r%d\n", i, i + 1);
    sprintf(at, "r12000 ::= \"a\"\n");
    json_t *nested = of_pattern("a");
    for (int i = 0; i < 40; i++) nested = of_parts("sequence", "parts", 1, nested);
    json_t *wide = of_pattern("[a-z]{1,30}");
    for (int i = 0; i < 20; i++) wide = of_parts("any_of", "specs", 2, wide);
    json_t *specs[] = {
        of_pattern("(a|b)*a(a|b){20}"), of_pattern("(.*a){30}.{30}"), of_pattern("((((a{100}){100}){100}){100})"),
        of_pattern("((x?){100}){100}"), of_pattern("(.{1,50}){1,50}"), of_pattern("(\\p{L}|\\P{Lu})*x.{0,500}"),
        json_pack("{s:s,s:s}", "type", "gbnf", "grammar", chain),
        json_pack("{s:s,s:s}", "type", "gbnf", "grammar", "root ::= ([a-z] [0-9]? root?){0,50000}"),
        of_parts("sequence", "parts", 200, of_pattern("\\p{L}{0,100}")), nested, wide,
    };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct err err = {0};
        double began = processor_seconds();
        int rc = refusal(specs[i], &err);
        double seconds = processor_seconds() - began;
        cr_expect_eq(rc, ERR_LIMIT, "%zu: %d %s", i, rc, err.text);
        cr_expect_lt(seconds, 2, "%zu: %.3f s", i, seconds);
    }
}

Test(languages, wrong_specs)
{
    static const char *const wrong[] = {
        "[]", "{}", "{\"type\":1}", "{\"type\":\"what\"}", "{\"type\":\"gbnf\"}", "{\"type\":\"choice\",\"choices\":[]}",
        "{\"type\":\"choice\",\"choices\":[1]}", "{\"type\":\"any_of\",\"specs\":[]}", "{\"type\":\"any_of\"}",
        "{\"type\":\"repeat\",\"of\":{\"type\":\"json_object\"},\"min\":2,\"max\":1}", "{\"type\":\"repeat\"}",
        "{\"type\":\"triggered\",\"cases\":[{\"trigger\":\"\",\"then\":{\"type\":\"json_object\"}}]}",
        "{\"type\":\"triggered\",\"cases\":[{\"trigger\":\"a\"}]}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err err = {0};
        int rc = refusal(json_loads(wrong[i], 0, NULL), &err);
        cr_expect(rc == ERR_INVALID || rc == ERR_UNSUPPORTED, "%s: %d", wrong[i], rc);
        cr_expect_neq(err.text[0], 0);
    }
}
