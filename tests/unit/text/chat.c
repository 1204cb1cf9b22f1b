/* Conversations as clients send them, brought into the shape templates want. */
#include "../../../engine/text/chat.h"

#include <criterion/criterion.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void expect(const char *input, const char *expected)
{
    struct err err = {0};
    json_error_t where;
    json_t *in = json_loads(input, 0, &where), *want = json_loads(expected, 0, &where),
           *before = json_deep_copy(in), *out;
    cr_assert(in && want, "%s", where.text);
    cr_assert_eq(chat_context(in, NULL, "</s>", &out, &err), 0, "%s", err.text);
    char *text = json_dumps(out, 0);
    cr_expect(json_equal(out, want), "%s gives\n%s\nnot\n%s", input, text, expected);
    cr_expect(json_equal(in, before), "the input has changed");
    free(text);
    json_decref(in);
    json_decref(before);
    json_decref(want);
    json_decref(out);
}

#define REST "\"tools\": null, \"documents\": null, \"add_generation_prompt\": true, \"eos_token\": \"</s>\""

Test(chat, shapes)
{
    expect("{\"messages\": [{\"role\": \"developer\", \"content\": \"x\", \"name\": \"n\"}]}",
           "{\"messages\": [{\"role\": \"system\", \"content\": \"x\", \"name\": \"n\"}], " REST "}");
    expect("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"},"
           " {\"type\": \"text\", \"text\": \"\\u00e9\"}]}], \"tools\": [], \"temperature\": 1}",
           "{\"messages\": [{\"role\": \"user\", \"content\": \"a\\u00e9\"}], " REST "}");
    expect("{\"messages\": [{\"role\": \"assistant\", \"content\": null, \"tool_calls\": null},"
           " {\"role\": \"assistant\"}, {\"role\": \"assistant\", \"content\": null, \"refusal\": \"no\"}]}",
           "{\"messages\": [{\"role\": \"assistant\", \"content\": \"\"}, {\"role\": \"assistant\", "
           "\"content\": \"\"},"
           " {\"role\": \"assistant\", \"content\": \"no\", \"refusal\": \"no\"}], " REST "}");
    expect("{\"messages\": [{\"role\": \"user\", \"content\": []}], \"add_generation_prompt\": null, "
           "\"tools\": null}",
           "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], " REST "}");
}

Test(chat, tool_calls)
{
    expect("{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{\"id\": \"1\", \"function\":"
           " {\"name\": \"f\", \"arguments\": \"{\\\"b\\\": 1, \\\"a\\\": [\\\"x\\\"]}\"}}]}]}",
           "{\"messages\": [{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{\"id\": \"1\", "
           "\"function\":"
           " {\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": [\"x\"]}}}]}], " REST "}");
    expect(
        "{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\", "
        "\"arguments\": \"\"}},"
        " {\"function\": {\"name\": \"g\", \"arguments\": {\"a\": 1}}}, {\"function\": {\"name\": "
        "\"h\"}}]}]}",
        "{\"messages\": [{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{\"function\": "
        "{\"name\": \"f\","
        " \"arguments\": {}}}, {\"function\": {\"name\": \"g\", \"arguments\": {\"a\": 1}}}, {\"function\":"
        " {\"name\": \"h\", \"arguments\": {}}}]}], " REST "}");
}

Test(chat, template_variables_cannot_replace_ours)
{
    expect("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"add_generation_prompt\": false,"
           " \"tools\": [{\"type\": \"function\"}], \"chat_template_kwargs\": {\"messages\": [], \"x\": 1}}",
           "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"add_generation_prompt\": false, "
           "\"documents\": null,"
           " \"tools\": [{\"type\": \"function\"}], \"eos_token\": \"</s>\","
           " \"chat_template_kwargs\": {\"messages\": [], \"x\": 1}}");
}

Test(chat, errors_name_the_place)
{
    static const struct {
        const char *input, *part;
    } cases[] = {
        {"[]", "must be an object"},
        {"{}", "messages must be an array"},
        {"{\"messages\": null}", "messages must be an array"},
        {"{\"messages\": []}", "messages must not be empty"},
        {"{\"messages\": [1]}", "messages[0] must be an object"},
        {"{\"messages\": [{\"content\": \"x\"}]}", "messages[0].role must be a string"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"robot\", \"content\": "
         "\"x\"}]}",
         "messages[1].role"},
        {"{\"messages\": [{\"role\": \"user\"}]}", "messages[0].content must be a string"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": null}]}", "messages[0].content"},
        {"{\"messages\": [{\"role\": \"assistant\", \"content\": 1}]}", "messages[0].content"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [1]}]}",
         "messages[0].content[0] must be an object"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{}]}]}", "messages[0].content[0].type"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}", "text only"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": 5}]}]}",
         "content[0].text"},
        {"{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": {}}]}",
         "messages[0].tool_calls must be an array"},
        {"{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [1]}]}",
         "tool_calls[0] must be an object"},
        {"{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{}]}]}", "tool_calls[0].function must"},
        {"{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {}}]}]}",
         "function.name"},
        {"{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\", "
         "\"arguments\": 1}}]}]}",
         "function.arguments"},
        {"{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\", "
         "\"arguments\": \"[1]\"}}]}]}",
         "tool_calls[0].function.arguments must be a JSON object"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"tools\": {}}",
         "tools must be an array"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"tools\": [1]}",
         "tools[0] must be an object"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"add_generation_prompt\": 1}",
         "add_generation_prompt"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"\"}], \"chat_template_kwargs\": []}",
         "chat_template_kwargs"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};
        json_t *in = json_loads(cases[i].input, 0, NULL), *out;
        cr_assert_not_null(in, "%s", cases[i].input);
        cr_expect_eq(chat_context(in, "", "", &out, &err), ERR_INVALID, "%s", cases[i].input);
        cr_expect_null(out);
        cr_expect(strstr(err.text, cases[i].part), "%s: '%s' lacks '%s'", cases[i].input, err.text,
                  cases[i].part);
        json_decref(in);
    }
}
