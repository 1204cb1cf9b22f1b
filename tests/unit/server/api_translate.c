/* Responses, Messages and Ollama's requests as the messages, tools and choices of a chat. */
#include "../../../server/api/request.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct api_request request;
static struct api_error error;

static int parse(enum api_endpoint endpoint, const char *body)
{
    memset(&error, 0, sizeof error);
    return api_request_parse(&request, endpoint, body, strlen(body), 1000, &error);
}

static void expect_json(const json_t *value, const char *wanted)
{
    json_t *expected = json_loads(wanted, JSON_DECODE_ANY, NULL);
    cr_assert_not_null(expected, "%s", wanted);
    char *got = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    cr_expect(json_equal(value, expected), "%s\n  instead of %s", got ? got : "nothing", wanted);
    free(got);
    json_decref(expected);
}

static void responses(const char *members, const char *messages)
{
    char body[4096];
    snprintf(body, sizeof body, "{%s}", members);
    cr_assert_eq(parse(API_RESPONSES, body), 0, "%s: %s", members, error.err.text);
    expect_json(request.messages, messages);
}

static void messages(const char *members, const char *wanted)
{
    char body[4096];
    snprintf(body, sizeof body, "{\"max_tokens\":5,%s}", members);
    cr_assert_eq(parse(API_MESSAGES, body), 0, "%s: %s", members, error.err.text);
    expect_json(request.messages, wanted);
}

static void refuse(enum api_endpoint endpoint, const char *body, const char *param)
{
    cr_expect_neq(parse(endpoint, body), 0, "taken: %s", body);
    cr_expect_eq(error.status, 400, "%s", body);
    cr_expect_str_eq(error.param, param, "%s", body);
    api_request_dispose(&request);
}

TestSuite(api_translate);

Test(api_translate, a_string_is_the_user_s)
{
    responses("\"input\":\"Hi\",\"instructions\":\"Be brief.\"",
              "[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"Hi\"}]");
    expect_json(request.input, "[{\"type\":\"message\",\"status\":\"completed\",\"role\":\"user\",\"content\":"
                               "[{\"type\":\"input_text\",\"text\":\"Hi\"}]}]");
    cr_expect_eq(request.max_tokens, -1);
    cr_expect(request.store && !request.continues);
    api_request_dispose(&request);
}

Test(api_translate, items_of_one_turn_become_one_message)
{
    responses("\"input\":["
              "{\"role\":\"developer\",\"content\":\"D\"},"
              "{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"},"
              "{\"type\":\"input_text\",\"text\":\"b\"}]},"
              "{\"type\":\"reasoning\",\"summary\":[],\"content\":[{\"type\":\"reasoning_text\",\"text\":\"R\"}]},"
              "{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"T\"}]},"
              "{\"type\":\"function_call\",\"call_id\":\"1\",\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"},"
              "{\"type\":\"function_call\",\"call_id\":\"2\",\"name\":\"g\",\"arguments\":\"{}\"},"
              "{\"type\":\"function_call_output\",\"call_id\":\"1\",\"output\":\"one\"},"
              "{\"type\":\"function_call_output\",\"call_id\":\"2\",\"output\":[{\"type\":\"input_text\",\"text\":\"t\"},"
              "{\"type\":\"input_text\",\"text\":\"wo\"}]},"
              "{\"role\":\"user\",\"content\":\"So?\"}]",
              "[{\"role\":\"system\",\"content\":\"D\"},"
              "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},"
              "{\"role\":\"assistant\",\"content\":\"T\",\"reasoning_content\":\"R\",\"tool_calls\":["
              "{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}},"
              "{\"id\":\"2\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":{}}}]},"
              "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"one\"},"
              "{\"role\":\"tool\",\"tool_call_id\":\"2\",\"content\":\"two\"},"
              "{\"role\":\"user\",\"content\":\"So?\"}]");
    api_request_dispose(&request);
}

Test(api_translate, reasoning_that_led_to_nothing_is_dropped)
{
    responses("\"input\":[{\"role\":\"user\",\"content\":\"a\"},"
              "{\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"R\"}]},"
              "{\"role\":\"user\",\"content\":\"b\"}]",
              "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"b\"}]");
    api_request_dispose(&request);
}

Test(api_translate, turns_of_the_assistant_stay_apart)
{
    responses("\"input\":[{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
              "{\"role\":\"user\",\"content\":\"c\"}]",
              "[{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
              "{\"role\":\"user\",\"content\":\"c\"}]");
    api_request_dispose(&request);
}

Test(api_translate, flat_tools_are_nested)
{
    responses("\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"d\",\"strict\":null,"
              "\"parameters\":{\"type\":\"object\"}},{\"type\":\"function\",\"name\":\"g\",\"strict\":true}]",
              "[{\"role\":\"user\",\"content\":\"x\"}]");
    expect_json(request.tools, "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
                               "\"parameters\":{\"type\":\"object\"}}},"
                               "{\"type\":\"function\",\"function\":{\"name\":\"g\",\"strict\":true}}]");
    api_request_dispose(&request);
    responses("\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\"},{\"type\":\"function\",\"name\":\"g\"}],"
              "\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"auto\",\"tools\":[{\"type\":\"function\","
              "\"name\":\"g\"}]}",
              "[{\"role\":\"user\",\"content\":\"x\"}]");
    expect_json(request.callable, "[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]");
    cr_expect_eq(json_array_size(request.tools), 2);
    api_request_dispose(&request);
}

Test(api_translate, what_refers_to_kept_responses_waits_for_them)
{
    cr_assert_eq(parse(API_RESPONSES, "{\"input\":\"x\",\"previous_response_id\":\"resp_1\"}"), 0);
    cr_expect(request.continues && !request.messages);
    api_request_dispose(&request);
    cr_assert_eq(parse(API_RESPONSES, "{\"input\":[{\"id\":\"msg_1\"}]}"), 0);
    cr_expect(request.continues && !request.messages);
    api_request_dispose(&request);
}

Test(api_translate, system_goes_first_in_messages)
{
    messages("\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"system\":[{\"type\":\"text\",\"text\":\"a\"},"
             "{\"type\":\"text\",\"text\":\"b\",\"cache_control\":{\"type\":\"ephemeral\"}}]",
             "[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},"
             "{\"role\":\"user\",\"content\":\"x\"}]");
    api_request_dispose(&request);
}

Test(api_translate, blocks_become_messages)
{
    messages("\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":["
             "{\"type\":\"thinking\",\"thinking\":\"R\",\"signature\":\"s\"},{\"type\":\"text\",\"text\":\"T\"},"
             "{\"type\":\"tool_use\",\"id\":\"1\",\"name\":\"f\",\"input\":{\"x\":1}}]},"
             "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"1\",\"is_error\":true,"
             "\"content\":[{\"type\":\"text\",\"text\":\"no\"}]},{\"type\":\"text\",\"text\":\"So?\"}]}]",
             "[{\"role\":\"user\",\"content\":\"x\"},"
             "{\"role\":\"assistant\",\"content\":\"T\",\"reasoning_content\":\"R\",\"tool_calls\":["
             "{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}}]},"
             "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"Error: no\"},"
             "{\"role\":\"user\",\"content\":\"So?\"}]");
    api_request_dispose(&request);
}

Test(api_translate, anthropic_s_choices)
{
    messages("\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"name\":\"f\",\"input_schema\":"
             "{\"type\":\"object\"}}],\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":true},"
             "\"stop_sequences\":[\"a\",\"b\"],\"metadata\":{\"user_id\":\"u\"},"
             "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":2000}",
             "[{\"role\":\"user\",\"content\":\"x\"}]");
    expect_json(request.tools, "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}]");
    cr_expect(!request.parallel_tool_calls);
    cr_expect_eq(request.n_stop, 2);
    cr_expect_str_eq(request.end_user, "u");
    cr_expect_eq(request.thinking_budget, 2000);
    expect_json(request.template_kwargs, "{\"enable_thinking\":true}");
    api_request_dispose(&request);
}

Test(api_translate, counting_needs_no_length)
{
    cr_assert_eq(parse(API_MESSAGES | API_PROMPT_ONLY, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"), 0);
    cr_expect(request.prompt_only && request.endpoint == API_MESSAGES);
    api_request_dispose(&request);
    refuse(API_MESSAGES, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "max_tokens");
}

Test(api_translate, nested_members_are_named)
{
    refuse(API_RESPONSES, "{\"input\":[{\"type\":\"reasoning\",\"summary\":5}]}", "input[0].summary");
    refuse(API_RESPONSES, "{\"input\":[{\"type\":\"function_call_output\",\"call_id\":\"1\"}]}", "input[0].output");
    refuse(API_RESPONSES, "{\"input\":[{\"type\":\"item_reference\"}]}", "input[0].id");
    refuse(API_RESPONSES, "{\"input\":[{\"type\":5}]}", "input[0].type");
    refuse(API_RESPONSES, "{\"input\":\"x\",\"tools\":[{\"type\":\"mcp\"}]}", "tools[0].type");
    refuse(API_MESSAGES, "{\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"}]}]}",
           "messages[0].content[0].tool_use_id");
    refuse(API_MESSAGES, "{\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "messages");
}

/* ---- Ollama's ---- */

static void ollama_chat(const char *members, const char *wanted)
{
    char body[4096];
    snprintf(body, sizeof body, "{\"model\":\"m:latest\",%s}", members);
    cr_assert_eq(parse(API_OLLAMA_CHAT, body), 0, "%s: %s", members, error.err.text);
    expect_json(request.messages, wanted);
    cr_expect(request.stream && !request.prompt_only);
    cr_expect_str_eq(request.model, "m");
}

Test(api_translate, calls_are_known_by_their_order)
{
    ollama_chat("\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"x\",\"images\":[]},"
                "{\"role\":\"assistant\",\"thinking\":\"R\",\"content\":\"\",\"tool_calls\":["
                "{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}},{\"function\":{\"name\":\"g\",\"arguments\":{}}},"
                "{\"function\":{\"name\":\"f\"}}]},"
                "{\"role\":\"tool\",\"tool_name\":\"g\",\"content\":\"G\"},{\"role\":\"tool\",\"content\":\"F\"},"
                "{\"role\":\"tool\",\"tool_name\":\"f\",\"content\":\"F2\"},{\"role\":\"user\",\"content\":\"So?\"}]",
                "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"x\"},"
                "{\"role\":\"assistant\",\"reasoning_content\":\"R\",\"content\":null,\"tool_calls\":["
                "{\"id\":\"call_0\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}},"
                "{\"id\":\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":{}}},"
                "{\"id\":\"call_2\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{}}}]},"
                "{\"role\":\"tool\",\"tool_call_id\":\"call_1\",\"content\":\"G\"},"
                "{\"role\":\"tool\",\"tool_call_id\":\"call_0\",\"content\":\"F\"},"
                "{\"role\":\"tool\",\"tool_call_id\":\"call_2\",\"content\":\"F2\"},"
                "{\"role\":\"user\",\"content\":\"So?\"}]");
    api_request_dispose(&request);
    ollama_chat("\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":["
                "{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":{}}},"
                "{\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":{}}}]},"
                "{\"role\":\"tool\",\"tool_call_id\":\"b\",\"content\":\"B\"},"
                "{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"A\"}]",
                "[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
                "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{}}},"
                "{\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{}}}]},"
                "{\"role\":\"tool\",\"tool_call_id\":\"b\",\"content\":\"B\"},"
                "{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"A\"}]");
    api_request_dispose(&request);
}

Test(api_translate, ids_count_only_where_calls_have_some)
{
    ollama_chat("\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]},"
                "{\"role\":\"tool\",\"tool_call_id\":\"mine\",\"content\":\"F\"}]",
                "[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
                "{\"id\":\"call_0\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{}}}]},"
                "{\"role\":\"tool\",\"tool_call_id\":\"call_0\",\"content\":\"F\"}]");
    api_request_dispose(&request);
    refuse(API_OLLAMA_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"a\",\"function\":"
                            "{\"name\":\"f\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"b\",\"content\":\"F\"}]}",
           "messages[1]");
}

Test(api_translate, an_answer_that_was_begun_goes_on)
{
    ollama_chat("\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"Once\"}]",
                "[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"Once\"}]");
    cr_expect(request.continue_final_message);
    api_request_dispose(&request);
}

Test(api_translate, options_are_parameters)
{
    ollama_chat("\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stream\":null,\"think\":false,\"options\":"
                "{\"num_predict\":7,\"temperature\":0.5,\"top_k\":-1,\"top_p\":0.9,\"min_p\":0.1,\"seed\":3,"
                "\"stop\":[\"a\",\"b\"],\"repeat_penalty\":1.1,\"presence_penalty\":0.5,\"frequency_penalty\":0.25,"
                "\"num_ctx\":1000000,\"num_gpu\":99,\"colour\":[]}",
                "[{\"role\":\"user\",\"content\":\"x\"}]");
    cr_expect_eq(request.max_tokens, 7);
    cr_expect_eq(request.sampling.top_k, 0);
    cr_expect_float_eq(request.sampling.temperature, 0.5, 1e-9);
    cr_expect_float_eq(request.sampling.top_p, 0.9, 1e-9);
    cr_expect_float_eq(request.sampling.min_p, 0.1, 1e-9);
    cr_expect_float_eq(request.sampling.repetition_penalty, 1.1, 1e-9);
    cr_expect_float_eq(request.presence_penalty, 0.5, 1e-9);
    cr_expect_float_eq(request.frequency_penalty, 0.25, 1e-9);
    cr_expect(request.given[PARAM_seed] && request.seed == 3 && request.n_stop == 2);
    expect_json(request.template_kwargs, "{\"enable_thinking\":false}");
    api_request_dispose(&request);
    ollama_chat("\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"options\":{\"num_predict\":-2,\"seed\":-1,"
                "\"repeat_last_n\":0,\"repeat_penalty\":2,\"presence_penalty\":1}", "[{\"role\":\"user\",\"content\":\"x\"}]");
    cr_expect_eq(request.max_tokens, -1);
    cr_expect(!request.given[PARAM_seed]);
    cr_expect_eq(request.repeat_last_n, 0);
    api_request_dispose(&request);
}

Test(api_translate, formats_of_ollama)
{
    ollama_chat("\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"format\":\"\"", "[{\"role\":\"user\",\"content\":\"x\"}]");
    cr_expect_null(request.grammar_spec);
    api_request_dispose(&request);
    ollama_chat("\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"format\":\"json\"", "[{\"role\":\"user\",\"content\":\"x\"}]");
    expect_json(request.grammar_spec, "{\"type\":\"json_object\"}");
    api_request_dispose(&request);
    ollama_chat("\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"format\":{\"type\":\"integer\"}",
                "[{\"role\":\"user\",\"content\":\"x\"}]");
    expect_json(request.grammar_spec, "{\"type\":\"json_schema\",\"schema\":{\"type\":\"integer\"},\"strict\":true}");
    cr_expect_str_eq(request.grammar_param, "format");
    api_request_dispose(&request);
}

Test(api_translate, prompts_of_ollama)
{
    cr_assert_eq(parse(API_OLLAMA_GENERATE, "{\"prompt\":\"x\",\"system\":\"S\",\"template\":\"\",\"context\":[],"
                                            "\"images\":null}"), 0, "%s", error.err.text);
    expect_json(request.messages, "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"x\"}]");
    cr_expect(!request.prompts && request.max_tokens == -1);
    api_request_dispose(&request);
    cr_assert_eq(parse(API_OLLAMA_GENERATE, "{\"prompt\":\"x\",\"raw\":true,\"stream\":false}"), 0, "%s", error.err.text);
    cr_expect(!request.messages && request.n_prompts == 1 && !request.stream);
    cr_expect_str_eq(request.prompts[0].text, "x");
    api_request_dispose(&request);
    cr_assert_eq(parse(API_OLLAMA_GENERATE, "{\"suffix\":\"y\"}"), 0, "%s", error.err.text);
    cr_expect_str_eq(request.prompts[0].text, "");
    cr_expect_str_eq(request.suffix, "y");
    api_request_dispose(&request);
}

Test(api_translate, how_long_a_model_stays)
{
    static const struct {
        const char *text;
        double seconds;
    } durations[] = {{"0", 0}, {"\"0\"", 0}, {"5", 5}, {"\"5m\"", 300}, {"\"1h30m\"", 5400}, {"-1", -1}, {"\"-1m\"", -60},
                     {"\"1.5s\"", 1.5}, {"\"250ms\"", 0.25}, {"\"90\"", 90}};
    char body[128];
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
        snprintf(body, sizeof body, "{\"keep_alive\":%s}", durations[i].text);
        cr_assert_eq(parse(API_OLLAMA_GENERATE, body), 0, "%s: %s", body, error.err.text);
        cr_expect_float_eq(request.keep_alive, durations[i].seconds, 1e-9, "%s: %g", body, request.keep_alive);
        cr_expect(request.prompt_only && !request.stream && request.unload == (durations[i].seconds == 0), "%s", body);
        api_request_dispose(&request);
    }
    static const char *const wrong[] = {"\"\"", "\"m\"", "\"5x\"", "\"inf\"", "\"0x5\"", "\"1..2s\"", "\"5m-\"", "true"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(body, sizeof body, "{\"keep_alive\":%s}", wrong[i]);
        refuse(API_OLLAMA_CHAT, body, "keep_alive");
    }
}

Test(api_translate, what_ollama_s_requests_get_wrong)
{
#define USER "{\"role\":\"user\",\"content\":\"x\"}"
    refuse(API_OLLAMA_CHAT, "{\"messages\":[5]}", "messages[0]");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[{\"role\":\"robot\"}]}", "messages[0].role");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "messages[0].content");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[{\"role\":\"user\",\"images\":[\"aGk=\"]}]}", "messages[0].images");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"thinking\":5}]}", "messages[0].thinking");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":{}}]}", "messages[0].tool_calls");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[5]}]}",
           "messages[0].tool_calls[0].function.name");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                            "\"arguments\":\"{}\"}}]}]}", "messages[0].tool_calls[0].function.arguments");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[" USER ",{\"role\":\"tool\",\"content\":\"x\"}]}", "messages[1]");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[" USER ",{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]},"
                            "{\"role\":\"tool\",\"tool_name\":\"g\",\"content\":\"x\"}]}", "messages[2]");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[" USER ",{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]},"
                            USER "]}", "messages[2]");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[" USER "],\"options\":[]}", "options");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[" USER "],\"format\":\"xml\"}", "format");
    refuse(API_OLLAMA_CHAT, "{\"messages\":[" USER "],\"think\":\"hard\"}", "think");
    refuse(API_OLLAMA_GENERATE, "{\"prompt\":\"x\",\"raw\":true,\"system\":\"S\"}", "system");
    refuse(API_OLLAMA_GENERATE, "{\"prompt\":\"x\",\"template\":\"{{ .Prompt }}\"}", "template");
    refuse(API_OLLAMA_GENERATE, "{\"prompt\":\"x\",\"context\":[1,2]}", "context");
    refuse(API_OLLAMA_SHOW, "{\"name\":\"x\",\"verbose\":true}", "verbose");
#undef USER
}
