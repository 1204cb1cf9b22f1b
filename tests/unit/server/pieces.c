/* Content, reasoning and calls out of text: the expected ones, whole and cut at every place. */
#include "../../../server/api/pieces.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Blocks written one after another: "C<…>", "R<…>", "name<…>"; one that is not closed has no ">". */
struct written {
    char text[8192];
    size_t length;
};

static json_t *tools;

static void make_tools(void)
{
    tools = json_loads("[{\"type\":\"function\",\"function\":{\"name\":\"look\"}},"
                       "{\"type\":\"function\",\"function\":{\"name\":\"say \\\"it\\\"\"}}]", 0, NULL);
}

static void free_tools(void)
{
    json_decref(tools);
}

TestSuite(pieces, .init = make_tools, .fini = free_tools);

static int take(void *user, const struct piece *piece)
{
    struct written *w = user;
    char *at = w->text + w->length;
    size_t room = sizeof w->text - w->length;
    int n = 0;
    cr_assert(piece->length < room / 2);
    if (piece->kind == PIECE_TEXT)
        n = snprintf(at, room, "%.*s", (int)piece->length, piece->text);
    else if (piece->kind == PIECE_END)
        n = snprintf(at, room, ">");
    else if (piece->block == BLOCK_CALL)
        n = snprintf(at, room, "%.*s<", (int)piece->length, piece->text);
    else
        n = snprintf(at, room, "%c<", piece->block == BLOCK_CONTENT ? 'C' : 'R');
    w->length += (size_t)n;
    return 0;
}

/* Reads `text` in parts that end at the given places. */
static void read_cut(const struct pieces_options *options, const char *text, const size_t *cuts, size_t n_cuts,
                     struct written *w)
{
    struct pieces_options with_sink = *options;
    struct pieces *pieces;
    size_t begin = 0;
    *w = (struct written){0};
    with_sink.sink = take;
    with_sink.user = w;
    cr_assert_eq(pieces_create(&pieces, &with_sink), 0);
    for (size_t i = 0; i <= n_cuts; i++) {
        size_t end = i < n_cuts ? cuts[i] : strlen(text);
        cr_assert_eq(pieces_feed(pieces, text + begin, end - begin), 0);
        begin = end;
    }
    cr_assert_eq(pieces_end(pieces), 0);
    cr_expect_not(pieces_holds(pieces));
    pieces_destroy(pieces);
}

static void expect(const struct pieces_options *options, const char *text, const char *wanted)
{
    struct written w;
    size_t n = strlen(text), cuts[4096];
    cr_assert(n < sizeof cuts / sizeof *cuts);
    read_cut(options, text, NULL, 0, &w);
    cr_expect_str_eq(w.text, wanted, "\"%s\" is %s, not %s", text, w.text, wanted);
    for (size_t i = 0; i < n; i++)
        cuts[i] = i;
    read_cut(options, text, cuts, n, &w);
    cr_expect_str_eq(w.text, wanted, "byte by byte \"%s\" is %s, not %s", text, w.text, wanted);
    for (size_t i = 0; i <= n; i++) {
        for (size_t j = i; j <= n; j += n > 200 ? 37 : 1) {
            size_t both[] = {i, j};
            read_cut(options, text, both, 2, &w);
            cr_assert_str_eq(w.text, wanted, "\"%s\" cut at %zu and %zu is %s, not %s", text, i, j, w.text, wanted);
        }
    }
}

Test(pieces, plain_text_passes)
{
    struct pieces_options none = {0};
    expect(&none, "", "");
    expect(&none, " a <tool_call>\n{\"name\":\"look\",\"arguments\":{}}\n <think>x</think> \n",
           "C< a <tool_call>\n{\"name\":\"look\",\"arguments\":{}}\n <think>x</think> \n>");
}

Test(pieces, reasoning)
{
    struct pieces_options thinks = {.thinks = true}, opened = {.thinks = true, .thinking = true};
    expect(&thinks, "<think>\nWhy </thin not?\n\n</think>\n\nYes.\n", "R<Why </thin not?>C<Yes.\n>");
    expect(&thinks, "\n <think>a</think>b", "R<a>C<b>");
    expect(&thinks, "<think>\n\n</think>\n\nYes", "C<Yes>");
    expect(&thinks, " <thinker>", "C< <thinker>>");
    expect(&thinks, "No. <think>a</think>", "C<No. <think>a</think>>");
    expect(&thinks, "<think>cut off", "R<cut off>");
    expect(&thinks, "<think>cut off</thi", "R<cut off</thi>");
    expect(&thinks, "<thi", "C<<thi>");
    expect(&thinks, " \n", "C< \n>");
    expect(&opened, "\nWhy\n\nnot?\n</think>\nYes </think>", "R<Why\n\nnot?>C<Yes </think>>");
    expect(&opened, "", "");
    expect(&opened, "</think>", "");
}

Test(pieces, tagged_calls)
{
    struct pieces_options o = {.calls = CALLS_TAGGED, .tools = tools};
    expect(&o, "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"a\": \"}<\\\"\", \"b\": [1, {}]}}\n</tool_call>",
           "look<{\"a\": \"}<\\\"\", \"b\": [1, {}]}>");
    expect(&o, "I look.\n<tool_call>{\"name\":\"look\",\"arguments\":{}}</tool_call>\n"
               "<tool_call>{\"arguments\":{\"x\":1},\"name\":\"say \\\"it\\\"\"}</tool_call>\n",
           "C<I look.>look<{}>say \"it\"<{\"x\":1}>");
    expect(&o, "<tool_call>{\"name\":\"look\",\"arguments\":\"{\\\"a\\\":1}\"}</tool_call>", "look<{\"a\":1}>");
    expect(&o, "<tool_call>{\"name\":\"look\"}</tool_call> and more\n", "look<{}>C<and more>");
    expect(&o, "<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":1}\n</tool_call>x", "look<{\"a\":1}>C<x>");
    expect(&o, "<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":{\"b\":1</tool_call>", "look<{\"a\":{\"b\":1>");
    expect(&o, "<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":\"b", "look<{\"a\":\"b>");
    expect(&o, "a < b, <tool_cal", "C<a < b, <tool_cal>");
    expect(&o, "a \n", "C<a \n>");
}

Test(pieces, what_is_no_call_stays)
{
    struct pieces_options o = {.calls = CALLS_TAGGED, .tools = tools};
    static const char *const texts[] = {
        "<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>\n",
        "<tool_call>\n{\"name\": \"look\", ",
        "<tool_call>\n{\"name\": 5}</tool_call>",
        "<tool_call>look()</tool_call>",
        "{\"name\": \"unknown\", \"arguments\": {}}",
        "{\"name\": \"look\"}",
        "{\"name\": \"look\", \"arguments\": {\"a\": ",
        "{\"name\": \"look\", \"arguments\": {\"a\": ]}}",
        "{\"name\": \"look\", \"arguments\": {\"a\" 1}}",
        "{\"other\": 1}",
        "{ }\n",
        "The object {\"name\": \"look\", \"arguments\": {}} in a line",
        "```json\n{\"a\": 1}\n```\n",
        "```python\n{\"name\": \"look\", \"arguments\": {}}\n```\n",
        "``",
        "a\n  ``` json",
        "{",
        "{\"",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char wanted[256];
        snprintf(wanted, sizeof wanted, "C<%s>", texts[i]);
        expect(&o, texts[i], wanted);
    }
}

Test(pieces, calls_without_tags)
{
    struct pieces_options o = {.calls = CALLS_TAGGED, .tools = tools};
    expect(&o, "```json\n{\n  \"name\": \"look\",\n  \"arguments\": {\"a\": 1}\n}\n```", "look<{\"a\": 1}>");
    expect(&o, "Well:\n```\n{\"name\": \"look\", \"parameters\": {}},\n{\"name\": \"look\", \"arguments\": {}}\n```\nEnd.",
           "C<Well:>look<{}>look<{}>C<End.>");
    expect(&o, "\n{\"type\": \"function\", \"name\": \"look\", \"arguments\": {}} ", "look<{}>");
    expect(&o, "{\"name\": \"look\", \"arguments\": {}}\n{\"name\": \"look\", \"arguments\": {\"a\": 2}}",
           "look<{}>look<{\"a\": 2}>");
    expect(&o, "```python\nx = 1\n```\n{\"name\": \"look\", \"arguments\": {}}",
           "C<```python\nx = 1\n```>look<{}>");
}

Test(pieces, bare_calls)
{
    struct pieces_options o = {.calls = CALLS_BARE, .tools = tools};
    expect(&o, "{\"name\": \"look\", \"parameters\": {\"a\": \"b\"}}", "look<{\"a\": \"b\"}>");
    expect(&o, "{\"name\": \"look\", \"parameters\": {\"a\": \"b", "look<{\"a\": \"b>");
    expect(&o, "{\"name\": \"look\", \"parameters\": {}}; {\"name\": \"look\", \"parameters\": {}}", "look<{}>look<{}>");
    expect(&o, "<tool_call>", "C<<tool_call>>");
}

Test(pieces, one_call)
{
    struct pieces_options o = {.calls = CALLS_TAGGED, .tools = tools, .one_call = true};
    expect(&o, "A<tool_call>{\"name\":\"look\",\"arguments\":{}}</tool_call><tool_call>{\"name\":\"look\","
               "\"arguments\":{}}</tool_call> b", "C<A>look<{}>");
}

Test(pieces, calls_only_behind_reasoning)
{
    struct pieces_options o = {.calls = CALLS_TAGGED, .tools = tools, .thinks = true};
    expect(&o, "<think>\n<tool_call>{\"name\":\"look\",\"arguments\":{}}</tool_call></think>\n\n"
               "<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":1}}</tool_call>",
           "R<<tool_call>{\"name\":\"look\",\"arguments\":{}}</tool_call>>look<{\"a\":1}>");
}

static int count(void *user, const struct piece *piece)
{
    *(size_t *)user += piece->length;
    return 0;
}

Test(pieces, a_huge_object_is_not_held_back)
{
    struct pieces_options o = {.calls = CALLS_TAGGED, .tools = tools};
    char part[1000];
    size_t given = 0, fed = 0;
    struct pieces *pieces;
    o.sink = count;
    o.user = &given;
    cr_assert_eq(pieces_create(&pieces, &o), 0);
    memset(part, 'x', sizeof part);
    cr_assert_eq(pieces_feed(pieces, "{\"name\":\"look\",\"arguments\":{\"a\":\"", 34), 0);
    for (; fed < 40; fed++)
        cr_assert_eq(pieces_feed(pieces, part, sizeof part), 0);
    cr_expect_eq(given, 34 + fed * sizeof part);
    pieces_destroy(pieces);
}

Test(pieces, place_of_the_reasoning)
{
    struct written w = {0};
    struct pieces *pieces;
    int64_t begin, end;
    cr_assert_eq(pieces_create(&pieces, &(struct pieces_options){.thinks = true, .sink = take, .user = &w}), 0);
    pieces_reasoning(pieces, &begin, &end);
    cr_expect(begin == -1 && end == -1);
    cr_assert_eq(pieces_feed(pieces, "\n<think>abc", 11), 0);
    pieces_reasoning(pieces, &begin, &end);
    cr_expect(begin == 1 && end == -1);
    cr_assert_eq(pieces_feed(pieces, "d</think>e", 10), 0);
    pieces_reasoning(pieces, &begin, &end);
    cr_expect(begin == 1 && end == 20);
    pieces_destroy(pieces);
}
