/* The chat-template interpreter: what templates mean, its limits, and where each byte comes from.
 * Agreement with the reference in breadth is tested by tests/golden/templates.py. */
#include "../../../engine/text/template.h"
#include "../../../engine/text/tokenizer.h"

#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"S\\u00e9\"}, {\"role\": \"user\", \"content\": \" "
    "Hi \"},"
    " {\"role\": \"assistant\", \"content\": \"Yo\"}, {\"role\": \"tool\", \"content\": \"T\"}],"
    " \"tools\": [{\"name\": \"f\", \"n\": 1.0, \"u\": \"\\u00fc\\n\"}], \"add_generation_prompt\": true,"
    " \"bos_token\": \"<s>\", \"chat_template_kwargs\": {\"mood\": \"<|x|>\", \"bos_token\": \"no\"}}";

/* Renders `source`: 0 with *out, or the code with *err. */
static int render_bytes(const char *source, size_t length, const char *json, struct template_output *out,
                        struct err *err)
{
    struct template *template;
    json_t *context = json_loads(json, 0, NULL);
    cr_assert_not_null(context);
    *err = (struct err){0};
    int rc = template_compile(&template, source, length, err);
    if (rc == 0)
        rc = template_render(template, context, out, err);
    template_destroy(template);
    json_decref(context);
    cr_assert_eq(rc, err->code);
    return rc;
}

static int render(const char *source, struct template_output *out, struct err *err)
{
    return render_bytes(source, strlen(source), conversation, out, err);
}

static void expect(const char *source, const char *expected)
{
    struct template_output out;
    struct err err;
    cr_assert_eq(render(source, &out, &err), 0, "%s: %s", source, err.text);
    cr_expect_str_eq(out.text, expected, "%s gives\n%s\nnot\n%s", source, out.text, expected);
    cr_expect_eq(out.length, strlen(out.text));
    free(out.text);
    free(out.origin);
}

static void expect_error(const char *source, int code, const char *part)
{
    struct template_output out;
    struct err err;
    int rc = render(source, &out, &err);
    cr_assert_eq(rc, code, "%.80s: %d %s", source, rc, err.text);
    cr_expect(strstr(err.text, part), "%.80s: '%s' lacks '%s'", source, err.text, part);
}

/* The text and below it the origin of each byte as a digit. */
static void expect_origins(const char *source, const char *expected, const char *origins)
{
    struct template_output out;
    struct err err;
    cr_assert_eq(render(source, &out, &err), 0, "%s: %s", source, err.text);
    cr_expect_str_eq(out.text, expected, "%s gives %s", source, out.text);
    for (size_t i = 0; i < out.length; i++)
        out.origin[i] = (unsigned char)('0' + out.origin[i]);
    cr_expect(out.length == strlen(origins) && memcmp(out.origin, origins, out.length) == 0,
              "%s\n%s\n%.*s\nnot\n%s", source, out.text, (int)out.length, (char *)out.origin, origins);
    free(out.text);
    free(out.origin);
}

Test(template, white_space)
{
    expect("a\n{% if true %}\nb\n{% endif %}\nc\n", "a\nb\nc");
    expect("  {% set a = 1 %}  \n  {{ a }}  \n", "  \n  1  ");
    expect("a  {%- if true -%}  \n b {%- endif %}\n c", "ab c");
    expect("  {%+ if true %}x{% endif +%}\ny", "  x\ny");
    expect("a {#- gone -#} b{# kept\n #}\nc", "abc");
    expect("x\r\n{{ 1 }}\r\n\r\n", "x\n1\n");
    expect("{% raw %}{{ a }} {% b %}{% endraw %}", "{{ a }} {% b %}");
    expect("", "");
    expect("\n", "");
}

Test(template, expressions)
{
    expect("{{ 1 + 2 * 3 }} {{ 7 // -2 }} {{ 7 % -3 }} {{ 1 / 2 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }}",
           "7 -4 -2 0.5 4 64");
    expect("{{ 1 < 2 < 3 }}{{ 1 == 1.0 }}{{ not 0 }}{{ 'a' in 'cat' }}{{ 3 not in [1, 2] }}",
           "TrueTrueTrueTrueTrue");
    expect("{{ 0 or '' or 'x' }}{{ 1 and 2 }}{{ 'a' if nothing else 'b' }}[{{ 'a' if nothing }}]", "x2b[]");
    expect("{{ 'h\xc3\xa9llo'[1] }}{{ 'h\xc3\xa9llo'[::-1] }}{{ [1, 2, 3][-2:] }}{{ (1, 2)[0] }}",
           "\xc3\xa9oll\xc3\xa9h[2, 3]1");
    expect("{{ 'a' ~ 1 ~ none ~ nothing ~ 2.50 }}", "a1None2.5");
    expect("{{ [1, 'it\\'s', none, true, {'a': (1,)}] }}", "[1, \"it's\", None, True, {'a': (1,)}]");
    expect("{{ 1e16 }} {{ 0.1 }} {{ 100.0 }} {{ 1e-5 }} {{ 0.005 }} {{ 5e-324 }}",
           "1e+16 0.1 100.0 1e-05 0.005 5e-324");
    expect("{{ messages[1].content.strip() }}{{ messages[-1]['role'] }}{{ messages|length }}", "Hitool4");
}

Test(template, undefined)
{
    expect(
        "[{{ nothing }}{{ messages[9] }}{{ messages[0].x }}]{{ nothing is defined }}{{ nothing == other }}",
        "[]FalseTrue");
    expect("{% for x in nothing %}x{% else %}none{% endfor %}{{ nothing|default('d') }}{{ nothing|length }}",
           "noned0");
    expect_error("a\nb\n{{ nothing.x }}", ERR_INVALID, "line 3: 'nothing' is undefined");
    expect_error("{{ nothing + 1 }}", ERR_INVALID, "'nothing' is undefined");
    expect_error("{{ messages[0].missing.more }}", ERR_INVALID, "'missing' is undefined");
}

Test(template, statements)
{
    expect("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set x = 1 %}{% "
           "endfor %}"
           "{{ ns.n }}{{ x is defined }}",
           "4False");
    expect("{% for m in messages if m.role != 'tool' %}{{ loop.index }}{{ loop.last }}{{ loop.previtem is "
           "defined }}{{ loop.nextitem.role if not loop.last }} {% endfor %}",
           "1FalseFalseuser 2FalseTrueassistant 3TrueTrue ");
    expect("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i > 3 %}{% break %}{% endif %}{{ i "
           "}}{% endfor %}",
           "023");
    expect("{% macro f(a, b='-', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1, c=2) }}{{ "
           "f(*[1, 2, 3]) }}",
           "[1-1][1-2][123]");
    /* A turn's variables go with it, unless a macro that is kept refers to them. */
    expect("{% set ns = namespace(f=[]) %}{% for i in [1, 2] %}{{ x is defined }}{% set x = i %}{% macro f() "
           "%}{{ x }}{% endmacro %}"
           "{% set ns.f = ns.f + [f] %}{% endfor %}{% set g = ns.f[0] %}{{ g() }}",
           "FalseFalse1");
    expect(
        "{% set a, (b, c) = 1, (2, 3) %}{{ c }}{{ b }}{{ a }}{% set t | upper %}x{{ a }}{% endset %}{{ t }}",
        "321X1");
    expect("{% with a = 1 %}{{ a }}{% endwith %}{{ a is defined }}{% filter upper %}q{% endfilter %}",
           "1FalseQ");
    expect("{% generation %}{% set z = 1 %}g{% endgeneration %}{{ z is defined }}", "gFalse");
    expect_error("{{ raise_exception('no ' ~ messages[0].role) }}", ERR_INVALID, "no system");
    expect_error("{% set messages.x = 1 %}", ERR_INVALID, "non-namespace");
}

Test(template, json)
{
    expect("{{ tools|tojson }}", "[{\"name\": \"f\", \"n\": 1.0, \"u\": \"\xc3\xbc\\n\"}]");
    expect("{{ tools[0]|tojson(indent=2, ensure_ascii=true) }}",
           "{\n  \"name\": \"f\",\n  \"n\": 1.0,\n  \"u\": \"\\u00fc\\n\"\n}");
    expect("{{ {'b': none, 'a': [1e16, true, '<&\\'\\u007f\\u0001']}|tojson }}",
           "{\"b\": null, \"a\": [1e+16, true, \"<&'\x7f\\u0001\"]}");
    expect_error("{{ [nothing]|tojson }}", ERR_INVALID, "not JSON serializable");
}

Test(template, iterators_walk_once)
{
    expect("{% set g = messages|map(attribute='role') %}{{ g|list|length }}{{ g|list|length }}", "40");
    expect("{% if messages|selectattr('role', 'equalto', 'nobody') %}true all the same{% endif %}",
           "true all the same");
    expect_error("{{ (messages|map(attribute='role'))|length }}", ERR_INVALID, "has no len()");
}

Test(template, unknown_constructs_are_named)
{
    static const struct {
        const char *source, *part;
    } cases[] = {
        {"\n{{ 'a'|sha256 }}", "line 2: filter 'sha256'"},
        {"{{ 'a' is shouting }}", "line 1: test 'shouting'"},
        {"\n\n{{ messages.append(1) }}", "line 3: method 'append'"},
        {"{{ lipsum() }}", "function 'lipsum'"},
        {"{% include 'x' %}", "statement 'include'"},
        {"{% for a in b recursive %}{% endfor %}", "recursive loops"},
        {"{{ ''.__class__ }}", "attribute '__class__'"},
        {"{{ 0x1f }}", "not decimal"},
        {"{{ 99999999999999999999 }}", "beyond 64 bits"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        expect_error(cases[i].source, ERR_UNSUPPORTED, cases[i].part);
    /* A name that is only known at run time. */
    expect_error("{{ messages|map('sha' ~ 256)|list }}", ERR_UNSUPPORTED, "filter 'sha256'");
}

Test(template, syntax_errors_have_a_line)
{
    static const char *const cases[] = {
        "\n{{ a",
        "\n{{ a }",
        "\n{% if a %}",
        "\n{% endif %}",
        "\n{{ 'a }}",
        "\n{# a",
        "\n{% raw %}",
        "\n{{ (a] }}",
        "\n{{ a b }}",
        "\n{{ }}",
        "\n{% set 1 = 2 %}",
        "\n{% for x y in z %}{% endfor %}",
        "\n{{ a[ }}",
        "\n{{ f(a=1, 2) }}",
        "\n{% break %}",
        "\n{{ a | }}",
        "\n{{ a is }}",
        "\n{{ \"\\ud800\" }}",
        "\n{{ a ? b }}",
        "\n{% if a %}{% else %}{% elif %}{% endif %}",
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        expect_error(cases[i], ERR_FORMAT, "line 2");
    struct template *template;
    struct err err;
    cr_expect_eq(template_compile(&template, "a\xff", 2, &err), ERR_FORMAT);
    cr_expect_null(template);
    cr_expect_eq(template_compile(&template, "{{", 2, NULL), ERR_FORMAT);
}

Test(template, integers_do_not_wrap)
{
    expect_error("{{ 9223372036854775807 + 1 }}", ERR_INVALID, "64 bits");
    expect_error("{{ (-9223372036854775807 - 1) // -1 }}", ERR_INVALID, "64 bits");
    expect_error("{{ 3037000500 * 3037000500 }}", ERR_INVALID, "64 bits");
    expect_error("{{ 2 ** 63 }}", ERR_INVALID, "64 bits");
    expect_error("{{ -(-9223372036854775807 - 1) }}", ERR_INVALID, "64 bits");
    expect("{{ (-9223372036854775807 - 1) % -1 }}{{ 'abc'[-9223372036854775807:9223372036854775807] }}",
           "0abc");
    expect("{{ 'abc'[::9223372036854775807] }}{{ 'abc'[::-9223372036854775807] }}", "ac");
    expect_error("{{ 1 // 0 }}", ERR_INVALID, "division by zero");
}

/* ---- limits ---- */

/* `n` times `unit` between two ends. */
static char *repeated(const char *before, const char *unit, size_t n, const char *after)
{
    char *text = malloc(strlen(before) + n * strlen(unit) + strlen(after) + 1), *at = text;
    at = stpcpy(at, before);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, unit);
    stpcpy(at, after);
    return text;
}

Test(template, nesting_is_bounded)
{
    static const struct {
        const char *before, *unit, *after;
    } cases[] = {
        {"{{ ", "(", ""},
        {"{{ ", "[", ""},
        {"{{ ", "{1:", ""},
        {"{{ ", "-", "1 }}"},
        {"{{ ", "not ", "1 }}"},
        {"", "{% if 1 %}", ""},
        {"", "{% for a in b %}", ""},
        {"{{ a", "[a", ""},
        {"{{ a", ".b", " }}"},
        {"{{ a", "|trim", " }}"},
        {"{{ 1", "-1", " }}"},
        {"{{ 1", " and 1", " }}"},
        {"{{ 1", " if 1 else 1", " }}"},
        {"{{ 1", " < 1", " }}"},
        {"{% set ", "(", ""},
        {"{{ a", "(a", ""},
        {"", "{% set a %}", ""},
        {"", "{% macro m() %}", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *source = repeated(cases[i].before, cases[i].unit, 50000, cases[i].after);
        expect_error(source, ERR_LIMIT, "");
        free(source);
    }
    /* Long chains of + and ~ and many branches are wide, not deep. */
    char *source = repeated("{{ 1", "+1", 5000, " }}");
    expect(source, "5001");
    free(source);
    source = repeated("{% if 0 %}", "{% elif 0 %}", 5000, "{% else %}x{% endif %}");
    expect(source, "x");
    free(source);
    source = repeated("", " ", (1 << 20) + 1, "");
    expect_error(source, ERR_LIMIT, "longer");
    free(source);
}

Test(template, work_is_bounded)
{
    expect_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ERR_LIMIT, "levels");
    expect_error("{% macro m(n) %}{{ m(n) ~ m(n) }}{% endmacro %}{{ m(1) }}", ERR_LIMIT, "levels");
    expect_error("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
                 ERR_LIMIT, "steps");
    expect_error("{{ range(100001)|length }}", ERR_LIMIT, "range");
    expect_error("{{ range(-9223372036854775807, 9223372036854775807) }}", ERR_LIMIT, "range");
    expect_error("{{ 'abcdefgh' * 9223372036854775807 }}", ERR_LIMIT, "MiB");
    expect_error("{{ [1] * 9223372036854775807 }}", ERR_LIMIT, "");
    expect_error(
        "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        ERR_LIMIT, "");
    expect_error(
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        ERR_LIMIT, "");
    expect_error("{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor "
                 "%}{{ ns.l }}",
                 ERR_LIMIT, "nested");
    expect_error("{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}"
                 "{{ ns.l == [ns.l] }}{{ ns.l|tojson }}",
                 ERR_LIMIT, "nested");
    expect_error("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", ERR_LIMIT, "nested");
    expect_error("{% set s = 'x' * 100000 %}{% for i in range(1000) %}{{ s }}{% endfor %}", ERR_LIMIT, "MiB");
    expect_error("{{ 'x'|indent(999999999, true) }}", ERR_LIMIT, "MiB");
    expect_error("{{ '%999999999d' % 1 }}", ERR_UNSUPPORTED, "wider");
    expect_error("{{ 'a'.ljust(9223372036854775807) }}", ERR_LIMIT, "MiB");
}

Test(template, deep_conversations_are_bounded)
{
    char *deep = repeated("{\"tools\": ", "[", 1000, ""), *json = repeated(deep, "]", 1000, "}");
    struct template_output out;
    struct err err;
    cr_expect_eq(render_bytes("{{ tools }}", 11, json, &out, &err), ERR_LIMIT);
    /* What a template does not name is not looked at. */
    cr_assert_eq(render_bytes("x", 1, json, &out, &err), 0);
    free(out.text);
    free(out.origin);
    free(deep);
    free(json);
}

Test(template, many_messages_take_little_time)
{
    json_t *messages = json_array(), *context = json_object();
    for (int i = 0; i < 100000; i++)
        json_array_append_new(
            messages, json_pack("{s:s, s:s}", "role", i % 2 ? "assistant" : "user", "content", "some words"));
    json_object_set_new(context, "messages", messages);
    static const char source[] =
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content|trim + '\n' }}{% endfor %}";
    struct template *template;
    struct template_output out;
    struct err err;
    cr_assert_eq(template_compile(&template, source, strlen(source), &err), 0);
    clock_t begin = clock();
    cr_assert_eq(template_render(template, context, &out, &err), 0, "%s", err.text);
    cr_expect_lt((double)(clock() - begin) / CLOCKS_PER_SEC, 5.0);
    cr_expect_eq(out.length, 50000 * (strlen("<|user|>some words\n") + strlen("<|assistant|>some words\n")));
    free(out.text);
    free(out.origin);
    template_destroy(template);
    json_decref(context);
}

/* ---- origins ---- */

Test(template, origins)
{
    expect_origins("a{{ bos_token }}{{ 'b' }}", "a<s>b", "00000");
    expect_origins("{{ messages[0].content }}{{ messages[1].content }}", "S\xc3\xa9 Hi ", "2222222");
    expect_origins("{{ messages[2].content }}|{{ messages[3].content }}|{{ messages[2].role }}",
                   "Yo|T|assistant", "11010111111111");
    expect_origins("{{ tools[0].name }}{{ tools[0].n }}", "f1.0", "2222");
    expect_origins("{{ mood }}{{ 'x' }}", "<|x|>x", "222220");
}

Test(template, origins_survive_operations)
{
    expect_origins("{{ '<' + messages[1].content + '>' }}", "< Hi >", "022220");
    expect_origins("{{ '<' ~ messages[1].content|trim ~ '>' }}", "<Hi>", "0220");
    expect_origins("{{ ('a' + messages[1].content + 'b')[::-1] }}", "b iH a", "022220");
    expect_origins("{{ ('a' + messages[1].content)[:3] }}", "a H", "022");
    expect_origins("{{ messages[1].content|upper }}{{ ('x' ~ messages[2].content)|title }}", " HI Xyo",
                   "2222011");
    expect_origins("{{ messages[1].content.replace('i', '<|x|>') }}", " H<|x|> ", "22000002");
    expect_origins("{{ 'a-b'.replace('-', messages[2].content) }}", "aYob", "0110");
    expect_origins("{{ ('a,' ~ messages[1].content ~ ',c').split(',')|join('-') }}", "a- Hi -c", "00222200");
    expect_origins("{{ [messages[2].content, messages[3].content]|join(', ') }}", "Yo, T", "11001");
    expect_origins("{{ '%s:%5s' % (messages[1].content.strip(), 'x') }}", "Hi:    x", "22000000");
    expect_origins("{{ '{}!'.format(messages[2].content) }}", "Yo!", "110");
    expect_origins("{% set x %}[{{ messages[1].content }}]{% endset %}{{ x|trim }}", "[ Hi ]", "022220");
    expect_origins("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(messages[2].content)|lower }}", "<yo>",
                   "0110");
    expect_origins("{% for c in messages[2].content %}{{ c }}{% endfor %}", "Yo", "11");
    expect_origins("{% for k in dict(x=1, **messages[1]) %}{{ k }} {% endfor %}", "x role content ",
                   "002222022222220");
    expect_origins("{{ ('a\n' ~ messages[2].content)|indent(2) }}", "a\n  Yo", "011111");
}

Test(template, origins_of_json)
{
    expect_origins("{{ messages[2]|tojson }}", "{\"role\": \"assistant\", \"content\": \"Yo\"}",
                   "11111111111111111111111111111111111111");
    expect_origins("{{ {'a': messages[1].content.strip()}|tojson }}", "{\"a\": \"Hi\"}", "20002222222");
    expect_origins("{{ ('x' ~ messages[1].content.strip())|tojson }}", "\"xHi\"", "20222");
    expect_origins("{{ [messages[3].content] }}", "['T']", "11111");
    expect_origins("{{ tools[0].n + 1 }}", "2.0", "222");
}
