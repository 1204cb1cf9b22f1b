/* JSON Schemas as grammars: which texts each keyword lets through, and which schemas are refused. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../../engine/grammar/grammar.h"

static struct err err;

/* NULL: refused, `err` tells. */
static struct grammar *compile(const char *schema, bool strict)
{
    struct grammar_build *b;
    struct grammar *grammar = NULL;
    json_error_t at;
    json_t *parsed = json_loads(schema, JSON_DECODE_ANY, &at);
    cr_assert(parsed, "%s: %s", schema, at.text);
    err = (struct err){0};
    cr_assert_eq(grammar_build_create(&b, &err), 0);
    int root = grammar_schema(b, parsed, strict);
    if (grammar_failure(b, &err) == 0 && grammar_create(&grammar, b, root, NULL, &err))
        grammar = NULL;
    grammar_build_destroy(b);
    json_decref(parsed);
    return grammar;
}

static bool lets_through(struct grammar *grammar, const char *text)
{
    struct grammar_state *state;
    struct err ignored;
    cr_assert_eq(grammar_state_create(&state, grammar, &err), 0);
    bool whole =
        grammar_state_accept(state, text, strlen(text), &ignored) == 0 && grammar_state_may_end(state);
    grammar_state_destroy(state);
    return whole;
}

/* `texts` end with NULL; those before "|" are let through, those behind it are not. */
static void check(const char *schema, bool strict, const char *const *texts)
{
    struct grammar *grammar = compile(schema, strict);
    cr_expect(grammar, "%s: %s", schema, err.text);
    bool wanted = true;
    for (; grammar && *texts; texts++) {
        if (strcmp(*texts, "|") == 0)
            wanted = false;
        else
            cr_expect_eq(lets_through(grammar, *texts), wanted, "%s %s %s", schema,
                         wanted ? "refuses" : "takes", *texts);
    }
    engine_grammar_release(grammar);
}

#define TEXTS(...)                                                                                           \
    (const char *const[])                                                                                    \
    {                                                                                                        \
        __VA_ARGS__, NULL                                                                                    \
    }
#define EXPECT(schema, ...) check(schema, false, TEXTS(__VA_ARGS__))
#define STRICT(schema, ...) check(schema, true, TEXTS(__VA_ARGS__))

static void refused(const char *schema, int code, const char *word)
{
    struct grammar *grammar = compile(schema, false);
    cr_expect_null(grammar, "%s is taken", schema);
    engine_grammar_release(grammar);
    cr_expect_eq(err.code, code, "%s: %d %s", schema, err.code, err.text);
    cr_expect(strstr(err.text, word), "%s: %s", schema, err.text);
}

Test(schema, types)
{
    EXPECT("{\"type\":\"null\"}", "null", "|", "true", "\"null\"", "");
    EXPECT("{\"type\":\"boolean\"}", "true", "false", "|", "True", "0");
    EXPECT("{\"type\":\"integer\"}", "0", "-1", "123", "|", "01", "1.0", "1e3", "+1", "-", "\"1\"");
    EXPECT("{\"type\":\"number\"}", "0", "-1.5", "1e3", "2.5E-7", "|", "1.", ".5", "01.5", "1e", "NaN");
    EXPECT("{\"type\":\"string\"}", "\"\"", "\"a\\n\\u00e9\"", "\"é\"", "|", "a", "\"a", "\"\n\"", "\"\\x\"",
           "\"\\ud800\"");
    EXPECT("{\"type\":[\"string\",\"null\"]}", "null", "\"x\"", "|", "1", "[]");
    EXPECT("{\"type\":[\"integer\",\"number\"]}", "1", "1.5", "|", "null");
    EXPECT("true", "null", "[1, {\"a\": [true]}]", "\"x\"", "|", "[1,]", "{a:1}");
    EXPECT("{\"description\":\"anything\"}", "1", "{}", "|", "}");
    EXPECT("{\"type\":\"array\"}", "[]", "[1,\"a\",{}]", "|", "{}", "[");
    EXPECT("{\"type\":\"object\"}", "{}", "{\"a\":1}", "{\"a\": {\"b\": []}}", "|", "[]", "{\"a\"}");
    EXPECT("{\"type\":\"string\",\"nullable\":true}", "null", "\"\"", "|", "1");
}

Test(schema, whitespace_is_one_space_at_most)
{
    const char *schema =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}},"
        "\"required\":[\"a\"],\"additionalProperties\":false}";
    EXPECT(schema, "{\"a\":[1,2]}", "{\"a\": [1, 2]}", "|", "{\"a\":  []}", "{ \"a\":[]}", "{\"a\":[]}\n",
           " {\"a\":[]}", "{\"a\":[1 ,2]}", "{\"a\":\n[]}");
}

Test(schema, enums_and_constants)
{
    EXPECT("{\"enum\":[\"red\",\"gr\\\"een\",3,null,true]}", "\"red\"", "\"gr\\\"een\"", "3", "null", "true",
           "|", "\"blue\"", "false", "red");
    EXPECT("{\"const\":{\"a\":[1,\"x\"],\"b\":{}}}", "{\"a\":[1,\"x\"],\"b\":{}}",
           "{\"a\": [1, \"x\"], \"b\": {}}", "|", "{\"b\":{},\"a\":[1,\"x\"]}", "{}");
    EXPECT("{\"enum\":[\"日本\",\"ü\"]}", "\"日本\"", "\"ü\"", "|", "\"日\"");
    EXPECT("{\"type\":\"string\",\"enum\":[\"a\",1,null]}", "\"a\"", "|", "1", "null");
    EXPECT("{\"enum\":[1,2,3,4,5],\"minimum\":2,\"maximum\":4,\"multipleOf\":2}", "2", "4", "|", "1", "3",
           "5");
    EXPECT("{\"enum\":[\"ab\",\"abc\",\"b\"],\"pattern\":\"^a\",\"maxLength\":2}", "\"ab\"", "|", "\"abc\"",
           "\"b\"");
    EXPECT("{\"enum\":[[1],[1,2],{\"a\":1},{\"a\":\"x\"}],\"items\":{\"const\":1},\"properties\":{\"a\":{"
           "\"type\":\"integer\"}}}",
           "[1]", "{\"a\":1}", "|", "[1,2]", "{\"a\":\"x\"}");
    EXPECT("{\"enum\":[0.1,1.50,-3]}", "0.1", "1.5", "-3", "|", "0.10000000000000001", "3");
}

Test(schema, objects_in_order)
{
    const char *schema =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"},"
        "\"c\":{\"type\":\"null\"}},\"required\":[\"b\"],\"additionalProperties\":false}";
    EXPECT(schema, "{\"a\":1,\"b\":true,\"c\":null}", "{\"b\":true}", "{\"a\":1,\"b\":false}",
           "{\"b\":true,\"c\":null}", "|", "{}", "{\"a\":1}", "{\"b\":true,\"a\":1}", "{\"b\":true,}",
           "{,\"b\":true}", "{\"b\":true,\"d\":1}", "{\"a\":1\"b\":true}", "{\"b\":true,\"b\":true}");
    EXPECT("{\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"integer\"}},"
           "\"additionalProperties\":false}",
           "{}", "{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":2}", "|", "{\"b\":1,\"a\":2}", "1");
    EXPECT("{\"type\":\"object\",\"required\":[\"x\"],\"additionalProperties\":{\"type\":\"integer\"}}",
           "{\"x\":1}", "{\"x\":1,\"y\":2}", "|", "{}", "{\"y\":2}", "{\"x\":\"s\"}");
    EXPECT("{\"properties\":{\"a\":false,\"b\":true},\"additionalProperties\":false}", "{}", "{\"b\":[1]}",
           "|", "{\"a\":1}");
    EXPECT("{\"properties\":{\"a\\\"\\n\":{\"const\":1}},\"required\":[\"a\\\"\\n\"],"
           "\"additionalProperties\":false}",
           "{\"a\\\"\\n\":1}", "|", "{}");
}

Test(schema, other_members)
{
    const char *open = "{\"properties\":{\"name\":{\"type\":\"string\"},\"nam\":{\"type\":\"string\"}},"
                       "\"additionalProperties\":{\"type\":\"integer\"}}";
    EXPECT(open, "{}", "{\"name\":\"x\"}", "{\"name\":\"x\",\"na\":1,\"names\":2,\"\":3,\"é\":4}",
           "{\"n\":1}", "|", "{\"name\":1}", "{\"nam\":1}", "{\"x\":\"s\"}", "{\"\\u006eame\":1}",
           "{\"x\":1,\"name\":\"x\"}");
    const char *plain =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},\"required\":[\"a\"]}";
    EXPECT(plain, "{\"a\":null}", "{\"a\":null,\"b\":[1]}", "|", "{\"a\":null,\"a\":1}");
    STRICT(plain, "{\"a\":null}", "|", "{\"a\":null,\"b\":[1]}");
    STRICT("{\"type\":\"object\",\"additionalProperties\":{\"type\":\"null\"}}", "{}", "{\"q\":null}", "|",
           "{\"q\":1}");
    EXPECT("{\"type\":\"object\",\"patternProperties\":{\"^x_[a-z]+$\":{\"type\":\"integer\"}},"
           "\"additionalProperties\":false}",
           "{}", "{\"x_a\":1,\"x_b\":2}", "|", "{\"y\":1}", "{\"x_\":1}", "{\"x_a\":\"s\"}");
    EXPECT("{\"properties\":{\"s_1\":{\"maxLength\":1}},\"patternProperties\":{\"^s_\":{\"type\":\"string\"},"
           "\"^i_\":{\"type\":\"integer\"}},\"additionalProperties\":false}",
           "{\"s_1\":\"a\"}", "{\"i_x\":1}", "{\"s_1\":\"a\",\"i_x\":1}", "|", "{\"s_1\":\"ab\"}",
           "{\"s_1\":1}", "{\"i_x\":\"a\"}");
}

Test(schema, numbers_of_members)
{
    EXPECT("{\"additionalProperties\":{\"const\":1},\"maxProperties\":2}", "{}", "{\"a\":1,\"b\":1}", "|",
           "{\"a\":1,\"b\":1,\"c\":1}");
    EXPECT("{\"additionalProperties\":{\"const\":1},\"minProperties\":1}", "{\"a\":1}", "{\"a\":1,\"b\":1}",
           "|", "{}");
    EXPECT("{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":1},\"c\":{\"const\":1}},"
           "\"additionalProperties\":false,"
           "\"minProperties\":2,\"maxProperties\":2}",
           "{\"a\":1,\"b\":1}", "{\"a\":1,\"c\":1}", "{\"b\":1,\"c\":1}", "|", "{\"a\":1}",
           "{\"a\":1,\"b\":1,\"c\":1}");
    EXPECT(
        "{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":1}},\"required\":[\"b\"],\"maxProperties\":1}",
        "{\"b\":1}", "|", "{\"a\":1,\"b\":1}", "{\"a\":1}", "{\"b\":1,\"c\":1}");
    EXPECT("{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":1}},\"minProperties\":3}",
           "{\"a\":1,\"b\":1,\"c\":0}", "|", "{\"a\":1,\"c\":1}", "{\"a\":1,\"b\":1}");
    EXPECT("{\"type\":\"object\",\"maxProperties\":0}", "{}", "|", "{\"a\":1}");
    refused("{\"type\":\"object\",\"minProperties\":3}", ERR_UNSUPPORTED, "minProperties");
}

Test(schema, arrays)
{
    EXPECT("{\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}", "[1]", "[1,2,3]", "|", "[]",
           "[1,2,3,4]", "[\"a\"]");
    EXPECT(
        "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"items\":false}",
        "[]", "[1]", "[1,\"a\"]", "|", "[\"a\"]", "[1,\"a\",2]");
    EXPECT("{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"}],\"items\":{\"type\":\"null\"},"
           "\"minItems\":2,"
           "\"maxItems\":3}",
           "[1,null]", "[1,null,null]", "|", "[1]", "[1,1]", "[1,null,null,null]");
    EXPECT("{\"items\":[{\"const\":1},{\"const\":2}],\"additionalItems\":{\"const\":3}}", "[1,2,3,3]", "[1]",
           "|", "[1,3]");
    EXPECT("{\"items\":{\"enum\":[\"a\",\"b\",\"c\"]},\"uniqueItems\":true,\"minItems\":1}", "[\"c\",\"a\"]",
           "[\"b\"]", "[\"a\",\"b\",\"c\"]", "|", "[]", "[\"a\",\"a\"]", "[\"a\",\"b\",\"a\"]");
    EXPECT("{\"items\":{\"enum\":[1,2,3,4,5,6,7,8,9]},\"uniqueItems\":true,\"minItems\":2,\"maxItems\":3}",
           "[1,2]", "[3,7,9]", "|", "[1,1]", "[1]", "[1,2,3,4]");
    EXPECT("{\"type\":\"array\",\"uniqueItems\":true,\"maxItems\":1}", "[]", "[{}]", "|", "[1,2]");
    EXPECT("{\"type\":\"array\",\"maxItems\":0}", "[]", "|", "[1]");
    refused("{\"items\":{\"type\":\"string\"},\"uniqueItems\":true}", ERR_UNSUPPORTED, "uniqueItems");
}

Test(schema, strings)
{
    EXPECT("{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"ab\"", "\"日本語\"", "\"\\n\\u0041\"",
           "|", "\"a\"", "\"abcd\"");
    EXPECT("{\"type\":\"string\",\"pattern\":\"^[a-z]+$\"}", "\"abc\"", "|", "\"\"", "\"a1\"");
    EXPECT("{\"type\":\"string\",\"pattern\":\"b\"}", "\"b\"", "\"abc\"", "|", "\"a\"");
    EXPECT("{\"type\":\"string\",\"pattern\":\"^a\"}", "\"abc\"", "|", "\"ba\"");
    EXPECT("{\"type\":\"string\",\"pattern\":\"^[\\\"\\\\\\\\]$\"}", "\"\\\"\"", "\"\\\\\"", "|", "\"\"\"",
           "\"a\"");
    EXPECT("{\"type\":\"string\",\"pattern\":\"^\\\\d{3}-\\\\d{4}$\"}", "\"555-1234\"", "|", "\"5555-123\"");
    EXPECT("{\"type\":\"string\",\"pattern\":\"^a*$\",\"minLength\":2,\"maxLength\":3}", "\"aa\"", "\"aaa\"",
           "|", "\"a\"", "\"aaaa\"", "\"bb\"");
    refused("{\"type\":\"string\",\"pattern\":\"(\"}", ERR_INVALID, "pattern");
    refused("{\"type\":\"string\",\"pattern\":\"^(a)\\\\1$\"}", ERR_UNSUPPORTED, "");
}

Test(schema, formats)
{
    EXPECT("{\"format\":\"date\"}", "\"2024-02-29\"", "\"1999-12-31\"", "|", "\"2023-02-29\"",
           "\"2023-13-01\"", "\"1900-02-29\"", "\"2023-04-31\"");
    EXPECT("{\"format\":\"time\"}", "\"23:59:59Z\"", "\"00:00:00.5+01:30\"", "|", "\"24:00:00Z\"",
           "\"12:00\"");
    EXPECT("{\"format\":\"date-time\"}", "\"2024-01-31T10:00:00Z\"", "|", "\"2024-01-31 10:00:00Z\"",
           "\"2024-01-31\"");
    EXPECT("{\"format\":\"duration\"}", "\"P1Y2M3D\"", "\"PT1H30M\"", "\"P4W\"", "\"P1DT2S\"", "|", "\"P\"",
           "\"PT\"", "\"1D\"");
    EXPECT("{\"format\":\"email\"}", "\"a.b+c@example.org\"", "|", "\"a@b\"", "\"@example.org\"",
           "\"a..b@example.org\"");
    EXPECT("{\"format\":\"hostname\"}", "\"example.org\"", "\"localhost\"", "|", "\"-a\"", "\"a..b\"");
    EXPECT("{\"format\":\"ipv4\"}", "\"127.0.0.1\"", "\"255.255.255.255\"", "|", "\"256.1.1.1\"", "\"1.2.3\"",
           "\"01.2.3.4\"");
    EXPECT("{\"format\":\"ipv6\"}", "\"::1\"", "\"2001:db8::1\"", "\"1:2:3:4:5:6:7:8\"", "\"::\"", "\"1::\"",
           "|", "\"1:2:3:4:5:6:7\"", "\"1::2::3\"", "\":1\"", "\"12345::\"");
    EXPECT("{\"format\":\"uuid\"}", "\"123e4567-e89b-12d3-a456-426614174000\"", "|", "\"123e4567\"");
    EXPECT("{\"format\":\"uri\"}", "\"https://example.org/a?b=c#d\"", "\"mailto:a@b.c\"", "|", "\"example\"",
           "\"http://a b\"");
    EXPECT("{\"format\":\"uuid\",\"type\":[\"string\",\"null\"]}", "null", "|", "\"x\"");
    EXPECT("{\"type\":\"integer\",\"format\":\"int32\"}", "2147483647", "-2147483648", "|", "2147483648",
           "1.5");
    refused("{\"type\":\"string\",\"format\":\"shoe-size\"}", ERR_UNSUPPORTED, "format");
}

Test(schema, integers_within_bounds)
{
    EXPECT("{\"type\":\"integer\",\"minimum\":0,\"maximum\":120}", "0", "7", "99", "120", "|", "-1", "121",
           "200", "007", "1.0", "-0");
    EXPECT("{\"type\":\"integer\",\"minimum\":-15,\"maximum\":7}", "-15", "-9", "0", "7", "|", "-16", "-20",
           "8", "10");
    EXPECT("{\"type\":\"integer\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":10}", "1", "9", "|", "0", "10");
    EXPECT("{\"type\":\"integer\",\"minimum\":-200,\"maximum\":-15}", "-15", "-200", "-99", "|", "-14",
           "-201", "15", "0");
    EXPECT("{\"type\":\"integer\",\"minimum\":1000}", "1000", "99999999", "|", "999", "-1000");
    EXPECT("{\"type\":\"integer\",\"maximum\":-1}", "-1", "-12345", "|", "0", "1");
    EXPECT("{\"type\":\"integer\",\"minimum\":1.5,\"maximum\":3.5}", "2", "3", "|", "1", "4");
    EXPECT("{\"type\":\"integer\",\"minimum\":5,\"maximum\":5}", "5", "|", "4", "6", "55");
    EXPECT("{\"type\":\"integer\",\"multipleOf\":5,\"minimum\":0,\"maximum\":100}", "0", "5", "95", "100",
           "|", "1", "52", "105");
    EXPECT("{\"type\":\"integer\",\"multipleOf\":7}", "7", "-21", "700", "|", "8", "-22");
    EXPECT("{\"type\":\"integer\",\"multipleOf\":100}", "0", "100", "12300", "|", "10", "150");
    EXPECT("{\"type\":\"integer\",\"minimum\":9007199254740993}", "9007199254740993", "|",
           "9007199254740992");
}

Test(schema, every_integer_within_bounds)
{
    static const int bounds[][2] = {{-37, 113}, {0, 9}, {95, 1005}, {-1000, -98}, {-5, 5}, {10, 10}};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        char schema[128], text[16];
        snprintf(schema, sizeof schema, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}", bounds[i][0],
                 bounds[i][1]);
        struct grammar *grammar = compile(schema, true);
        cr_assert(grammar, "%s", err.text);
        for (int n = -1200; n <= 1200; n++) {
            snprintf(text, sizeof text, "%d", n);
            cr_expect_eq(lets_through(grammar, text), n >= bounds[i][0] && n <= bounds[i][1], "%s: %s",
                         schema, text);
        }
        engine_grammar_release(grammar);
    }
}

Test(schema, numbers_within_bounds)
{
    EXPECT("{\"type\":\"number\",\"minimum\":0,\"maximum\":1}", "0", "0.5", "1", "1.0", "0.0001", "|", "1.1",
           "-0.5", "1.01", "2");
    EXPECT("{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":1}", "0.5", "0.01", "|", "0",
           "0.0", "1", "1.0");
    EXPECT("{\"type\":\"number\",\"minimum\":-1.25,\"maximum\":2.75}", "-1.25", "-1.2", "-1", "0", "2.7",
           "2.75", "2.750", "|", "-1.26", "-1.3", "2.76", "2.8", "-2");
    EXPECT("{\"type\":\"number\",\"minimum\":0.1}", "0.1", "0.11", "1", "250.75", "|", "0", "0.09", "-1");
    EXPECT("{\"type\":\"number\",\"multipleOf\":0.01,\"minimum\":0}", "0", "1.5", "19.99", "|", "0.001",
           "19.999");
    EXPECT("{\"type\":\"number\",\"multipleOf\":0.25,\"minimum\":0,\"maximum\":1}", "0", "0.25", "0.5",
           "0.75", "1", "|", "0.3", "0.2", "1.25");
    EXPECT("{\"type\":\"number\",\"minimum\":1e3,\"maximum\":1e6}", "1000", "999999.5", "1000000", "|", "999",
           "1000001");
    EXPECT("{\"minimum\":18,\"exclusiveMinimum\":true}", "18.5", "19", "|", "18", "17");
    refused("{\"type\":\"number\",\"multipleOf\":0.0000000001234}", ERR_LIMIT, "multipleOf");
    refused("{\"type\":\"number\",\"multipleOf\":0}", ERR_INVALID, "multipleOf");
}

Test(schema, choices)
{
    EXPECT("{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "\"x\"", "null", "|", "1");
    EXPECT("{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2}},"
           "\"additionalProperties\":false,"
           "\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}",
           "{\"a\":1}", "{\"b\":2}", "{\"a\":1,\"b\":2}", "|", "{}");
    EXPECT("{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}", "\"x\"", "1", "|", "null");
    EXPECT("{\"oneOf\":[{\"properties\":{\"kind\":{\"const\":\"a\"},\"x\":{\"type\":\"integer\"}},"
           "\"required\":[\"kind\"]},"
           "{\"properties\":{\"kind\":{\"const\":\"b\"}},\"required\":[\"kind\"]}]}",
           "{\"kind\":\"a\"}", "{\"kind\":\"b\"}", "{\"kind\":\"a\",\"x\":1}", "|", "{\"kind\":\"c\"}",
           "{\"kind\":\"a\",\"x\":\"s\"}");
    EXPECT("{\"oneOf\":[{\"type\":\"integer\",\"maximum\":3},{\"type\":\"integer\",\"minimum\":4},{\"enum\":["
           "\"a\"]}]}",
           "3", "4", "\"a\"", "|", "\"b\"");
    EXPECT("{\"oneOf\":[{\"properties\":{\"a\":{}},\"required\":[\"a\"],\"additionalProperties\":false},"
           "{\"properties\":{\"b\":{}},\"required\":[\"b\"],\"additionalProperties\":false}]}",
           "{\"a\":1}", "{\"b\":1}", "|", "{}", "{\"a\":1,\"b\":1}");
    EXPECT("{\"type\":\"array\",\"oneOf\":[{\"maxItems\":1},{\"minItems\":2,\"items\":{\"type\":\"null\"}}]}",
           "[]", "[1]", "[null,null]", "|", "[1,2]");
    refused("{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", ERR_UNSUPPORTED, "oneOf");
    refused("{\"oneOf\":[{\"minimum\":5},{\"minLength\":3}]}", ERR_UNSUPPORTED, "oneOf");
    refused("{\"oneOf\":[{\"properties\":{\"a\":{\"const\":1}}},{\"properties\":{\"a\":{\"const\":2}}}]}",
            ERR_UNSUPPORTED, "oneOf");
}

Test(schema, together)
{
    EXPECT("{\"allOf\":[{\"type\":\"integer\",\"minimum\":3},{\"maximum\":5}]}", "3", "5", "|", "2", "6");
    EXPECT("{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},{\"properties\":"
           "{\"b\":{\"const\":1},"
           "\"a\":{\"minimum\":5}},\"required\":[\"b\"]}],\"type\":\"object\"}",
           "{\"a\":5,\"b\":1}", "|", "{\"a\":4,\"b\":1}", "{\"a\":5}", "{\"b\":1}");
    STRICT("{\"allOf\":[{\"properties\":{\"a\":{\"const\":1}}},{\"properties\":{\"b\":{\"const\":2}}}]}",
           "{\"a\":1,\"b\":2}", "{}", "|", "{\"c\":1}");
    EXPECT("{\"allOf\":[{\"properties\":{\"a\":{\"const\":1}},\"additionalProperties\":false},{"
           "\"properties\":{\"b\":{}}}]}",
           "{\"a\":1}", "{}", "|", "{\"b\":1}", "{\"c\":1}");
    EXPECT("{\"allOf\":[{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]},{\"anyOf\":[{\"type\":"
           "\"integer\"},"
           "{\"type\":\"null\"}]}]}",
           "1", "|", "null", "\"a\"");
    EXPECT("{\"allOf\":[{\"enum\":[1,2,3]},{\"enum\":[2,3,4]},{\"enum\":[3.0,2,9]}]}", "2", "3", "|", "1",
           "4", "9");
    EXPECT("{\"allOf\":[{\"items\":{\"type\":\"integer\"}},{\"prefixItems\":[{\"minimum\":5}]}]}", "[5,1]",
           "|", "[4]", "[5,\"a\"]");
    EXPECT("{\"$ref\":\"#/$defs/a\",\"maximum\":3,\"$defs\":{\"a\":{\"type\":\"integer\",\"minimum\":1}}}",
           "1", "3", "|", "0", "4");
}

Test(schema, references)
{
    EXPECT("{\"$ref\":\"#/$defs/"
           "node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},"
           "\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
           "node\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"],"
           "\"additionalProperties\":false}}}",
           "{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}", "|", "{\"v\":1}",
           "{\"v\":1,\"next\":{}}");
    EXPECT("{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}", "[]", "[[],[[]]]", "|", "[1]");
    EXPECT("{\"definitions\":{\"a/b\":{\"c~d\":{\"const\":1}},\"e f\":[{\"const\":2}]},\"anyOf\":[{\"$ref\":"
           "\"#/definitions/a~1b/c~0d\"},{\"$ref\":\"#/definitions/e%20f/0\"}]}",
           "1", "2", "|", "3");
    EXPECT("{\"$id\":\"https://x.org/"
           "s\",\"$defs\":{\"n\":{\"$anchor\":\"num\",\"type\":\"integer\"}},\"anyOf\":[{\"$ref\":\"#num\"},"
           "{\"$ref\":\"https://x.org/s#/$defs/n\"}]}",
           "1", "|", "null");
    refused("{\"$ref\":\"#/$defs/x\"}", ERR_INVALID, "$ref");
    refused("{\"$ref\":\"https://example.org/schema\"}", ERR_UNSUPPORTED, "$ref");
    refused("{\"$ref\":\"#\"}", ERR_INVALID, "itself");
    refused("{\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/$defs/a\"},{\"type\":\"null\"}]}},\"$ref\":\"#/"
            "$defs/a\"}",
            ERR_INVALID, "itself");
    refused("{\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/b\"}]},\"b\":{\"allOf\":[{\"$ref\":\"#/$defs/"
            "a\"}]}},"
            "\"$ref\":\"#/$defs/a\"}",
            ERR_INVALID, "itself");
    refused("{\"$defs\":{\"a\":{\"minimum\":1,\"anyOf\":[{\"$ref\":\"#/$defs/"
            "a\"},{\"type\":\"integer\"}]}},\"$ref\":\"#/$defs/a\"}",
            ERR_INVALID, "itself");
}

Test(schema, what_nothing_satisfies_is_refused)
{
    refused("false", ERR_INVALID, "nothing");
    refused("{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", ERR_INVALID, "nothing");
    refused("{\"type\":\"integer\",\"exclusiveMinimum\":5,\"exclusiveMaximum\":6}", ERR_INVALID, "nothing");
    refused("{\"type\":\"integer\",\"minimum\":1,\"maximum\":4,\"multipleOf\":5}", ERR_INVALID, "nothing");
    refused("{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", ERR_INVALID, "nothing");
    refused("{\"type\":\"string\",\"enum\":[1,2]}", ERR_INVALID, "nothing");
    refused("{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", ERR_INVALID, "nothing");
    refused("{\"type\":\"array\",\"minItems\":3,\"maxItems\":2}", ERR_INVALID, "nothing");
    refused("{\"type\":\"object\",\"properties\":{\"a\":false},\"required\":[\"a\"]}", ERR_INVALID,
            "nothing");
    refused("{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", ERR_INVALID,
            "nothing");
    refused("{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1}", ERR_INVALID, "nothing");
    EXPECT("{\"anyOf\":[{\"type\":\"integer\",\"minimum\":5,\"maximum\":4},{\"type\":\"null\"}]}", "null",
           "|", "4", "5");
}

Test(schema, what_is_not_supported_is_named_with_its_path)
{
    refused("{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{\"type\":\"null\"}}}}", ERR_UNSUPPORTED,
            "#/properties/a/not");
    refused("{\"if\":{},\"then\":{}}", ERR_UNSUPPORTED, "#/if");
    refused("{\"type\":\"array\",\"contains\":{}}", ERR_UNSUPPORTED, "#/contains");
    refused("{\"type\":\"object\",\"dependentRequired\":{}}", ERR_UNSUPPORTED, "dependentRequired");
    refused("{\"type\":\"string\",\"minLenght\":1}", ERR_UNSUPPORTED, "minLenght");
    refused("{\"type\":\"text\"}", ERR_INVALID, "#/type");
    refused("{\"type\":\"object\",\"properties\":[1]}", ERR_INVALID, "#/properties");
    refused("{\"enum\":\"a\"}", ERR_INVALID, "#/enum");
    refused("{\"anyOf\":[]}", ERR_INVALID, "#/anyOf");
    refused("{\"anyOf\":[1]}", ERR_INVALID, "#/anyOf");
    refused("{\"items\":1}", ERR_INVALID, "#/items");
    refused("{\"type\":\"string\",\"minLength\":-1}", ERR_INVALID, "minLength");
    refused("[1]", ERR_INVALID, "object");
    EXPECT("{\"type\":\"null\",\"x-order\":1,\"title\":\"t\",\"examples\":[1]}", "null", "|", "1");
}
