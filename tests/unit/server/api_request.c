/* From bodies to typed requests: what is taken, and which error names what. */
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

static void accept(enum api_endpoint endpoint, const char *body)
{
    cr_assert_eq(parse(endpoint, body), 0, "%s: %s", body, error.err.text);
}

static const char *required(enum api_endpoint endpoint)
{
    switch (endpoint) {
    case API_TEXT: return "\"prompt\":\"x\"";
    case API_TOKENIZE: return "\"content\":\"x\"";
    case API_DETOKENIZE: return "\"tokens\":[1]";
    case API_RESPONSES:
    case API_EMBEDDINGS: return "\"input\":\"x\"";
    case API_INFILL: return "\"input_prefix\":\"x\", \"input_suffix\":\"y\"";
    case API_MESSAGES: return "\"max_tokens\":9, \"messages\":[{\"role\":\"user\",\"content\":\"x\"}]";
    case API_OLLAMA_CHAT:
    case API_OLLAMA_GENERATE:
    case API_OLLAMA_SHOW: return "\"needs\":\"nothing\"";
    default: return "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]";
    }
}

/* One that has the parameter. */
static enum api_endpoint endpoint_of(const struct api_param *p)
{
    return p->endpoints & -p->endpoints;
}

/* A parameter with a value; "a.b" is a member of a. */
static void write_member(char *out, size_t size, const struct api_param *p, const char *value)
{
    const char *dot = strchr(p->name, '.');
    if (dot)
        snprintf(out, size, "\"%.*s\":{\"%s\":%s}", (int)(dot - p->name), p->name, dot + 1, value);
    else
        snprintf(out, size, "\"%s\":%s", p->name, value);
}

/* Members are put into an otherwise good request. */
static void accept_with(enum api_endpoint endpoint, const char *members)
{
    char body[4096];
    snprintf(body, sizeof body, "{%s, %s}", members, required(endpoint));
    accept(endpoint, body);
}

static void refuse(enum api_endpoint endpoint, const char *body, const char *param, const char *words)
{
    cr_assert_neq(parse(endpoint, body), 0, "taken: %s", body);
    cr_expect_eq(error.status, 400, "%s", body);
    cr_expect_str_eq(error.param, param, "%s: param %s", body, error.param);
    cr_expect(strstr(error.err.text, words), "%s: %s", body, error.err.text);
    api_request_dispose(&request);
}

static void refuse_with(enum api_endpoint endpoint, const char *members, const char *param)
{
    char body[4096];
    snprintf(body, sizeof body, "{%s, %s}", members, required(endpoint));
    refuse(endpoint, body, param, "");
}

Test(api_request, defaults)
{
    accept_with(API_CHAT, "\"model\":\"any\"");
    cr_expect_eq(request.max_tokens, -1);
    cr_expect_eq(request.n, 1);
    cr_expect(!request.stream && !request.logprobs && request.add_generation_prompt);
    cr_expect_lt(request.sampling.temperature, 0);
    api_request_dispose(&request);

    accept_with(API_TEXT, "\"best_of\":1");
    cr_expect_eq(request.max_tokens, 16);
    cr_expect_eq(request.n_prompts, 1);
    api_request_dispose(&request);

    accept_with(API_EMBEDDINGS, "\"user\":\"u\"");
    cr_expect(request.max_tokens == 0 && request.n_prompts == 1 && !request.base64 && request.dimensions == 0);
    api_request_dispose(&request);

    accept_with(API_INFILL, "\"prompt\":\"z\"");
    cr_expect(request.max_tokens == -1 && request.n_prompts == 1 && !request.pooling);
    cr_expect_str_eq(request.prompts[0].text, "xz");
    cr_expect_str_eq(request.suffix, "y");
    api_request_dispose(&request);
}

Test(api_request, null_is_absent_for_every_parameter)
{
    for (int row = 0; row < PARAM_COUNT; row++) {
        const struct api_param *p = &api_params[row];
        if (strcmp(p->fallback, "required") == 0)
            continue;
        char members[64];
        write_member(members, sizeof members, p, "null");
        accept_with(endpoint_of(p), members);
        cr_expect(!request.given[row]);
        api_request_dispose(&request);
    }
}

Test(api_request, wrong_types_name_the_parameter)
{
    for (int row = 0; row < PARAM_COUNT; row++) {
        const struct api_param *p = &api_params[row];
        if (strcmp(p->fallback, "required") == 0)
            continue;
        char members[64];
        bool takes_array = strstr(p->kind, "TOOLS") || strcmp(p->kind, "FUNCTIONS") == 0 ||
                           strcmp(p->kind, "STOP") == 0 || strcmp(p->kind, "INCLUDE") == 0 ||
                           strcmp(p->kind, "SYSTEM") == 0 || strcmp(p->kind, "OLLAMA_MESSAGES") == 0;
        write_member(members, sizeof members, p, takes_array ? "7" : "[7]");
        refuse_with(endpoint_of(p), members, p->name);
    }
}

Test(api_request, ranges_come_from_the_table)
{
    for (int row = 0; row < PARAM_COUNT; row++) {
        const struct api_param *p = &api_params[row];
        if (p->minimum == p->maximum || strcmp(p->kind, "WIDE") == 0)
            continue;
        enum api_endpoint endpoint = endpoint_of(p);
        char members[96], value[32];
        for (int above = 0; above < 2; above++) {
            snprintf(value, sizeof value, "%.15g", above ? p->maximum + 1 : p->minimum - 1);
            write_member(members, sizeof members, p, value);
            refuse_with(endpoint, members, p->name);
        }
    }
}

Test(api_request, integers)
{
    accept_with(API_TEXT, "\"max_tokens\":5.0, \"seed\":-9223372036854775808, \"top_k\":-1");
    cr_expect_eq(request.max_tokens, 5);
    cr_expect_eq(request.seed, INT64_MIN);
    cr_expect_eq(request.sampling.top_k, 0);
    api_request_dispose(&request);
    accept_with(API_TEXT, "\"seed\":9007199254740993");
    cr_expect_eq(request.seed, 9007199254740993);
    api_request_dispose(&request);
    /* Beyond 64 bits: named where it means something, ignored elsewhere. */
    accept_with(API_TEXT, "\"unknown\":123456789012345678901234567890");
    api_request_dispose(&request);
    refuse_with(API_TEXT, "\"seed\":9223372036854775808", "seed");
    refuse_with(API_TEXT, "\"max_tokens\":9223372036854775808", "max_tokens");
    refuse_with(API_TEXT, "\"max_tokens\":1.5", "max_tokens");
    refuse_with(API_TEXT, "\"max_tokens\":true", "max_tokens");
    refuse_with(API_TEXT, "\"n\":1000000000", "n");
}

Test(api_request, numbers)
{
    accept_with(API_CHAT, "\"temperature\":2, \"top_p\":0.5, \"presence_penalty\":-2");
    cr_expect_eq(request.sampling.temperature, 2);
    cr_expect_eq(request.sampling.top_p, 0.5);
    cr_expect_eq(request.presence_penalty, -2);
    api_request_dispose(&request);
    refuse_with(API_CHAT, "\"temperature\":-0.1", "temperature");
    refuse_with(API_CHAT, "\"temperature\":\"1\"", "temperature");
}

Test(api_request, broken_json)
{
    const char *const bodies[] = {"",
                                  "  \n",
                                  "{",
                                  "[]",
                                  "7",
                                  "\"x\"",
                                  "{\"a\":1,\"a\":2}",
                                  "{\"temperature\":NaN}",
                                  "{\"temperature\":1e999}",
                                  "{\"prompt\":\"\\ud800\"}",
                                  "{\"prompt\":\"a\\u0000b\"}",
                                  "{\"prompt\":\"\xff\"}",
                                  "{\"prompt\":\"x\"} trailing"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        refuse(API_TEXT, bodies[i], "", "");
    refuse(API_TEXT, "", "", "empty");
    refuse(API_TEXT, "{\"a\":1,\"a\":2}", "", "duplicate");
    refuse(API_TEXT, "{\"a\":\"\xff\"}", "", "line 1");

    char *deep = malloc(200002);
    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    deep[200000] = '\0';
    refuse(API_CHAT, deep, "", "depth");
    free(deep);
}

Test(api_request, nul_bytes_in_the_body)
{
    memset(&error, 0, sizeof error);
    cr_expect_neq(api_request_parse(&request, API_TEXT, "{\"prompt\":\"a\0b\"}", 16, 1000, &error), 0);
    cr_expect_eq(error.status, 400);
    api_request_dispose(&request);
}

Test(api_request, prompts)
{
    accept(API_TEXT, "{\"prompt\":[\"a\",\"bc\"]}");
    cr_expect_eq(request.n_prompts, 2);
    cr_expect_str_eq(request.prompts[1].text, "bc");
    api_request_dispose(&request);
    accept(API_TEXT, "{\"prompt\":[1,2.0,999]}");
    cr_expect_eq(request.n_prompts, 1);
    cr_expect_eq(request.prompts[0].ids.n, 3);
    cr_expect_eq(request.prompts[0].ids.ids[1], 2);
    api_request_dispose(&request);
    accept(API_TEXT, "{\"prompt\":[[1,2],[3]]}");
    cr_expect_eq(request.n_prompts, 2);
    cr_expect_eq(request.prompts[1].ids.ids[0], 3);
    api_request_dispose(&request);

    refuse(API_TEXT, "{}", "prompt", "required");
    refuse(API_TEXT, "{\"prompt\":[]}", "prompt", "empty");
    refuse(API_TEXT, "{\"prompt\":[[]]}", "prompt", "empty");
    refuse(API_TEXT, "{\"prompt\":[1000]}", "prompt", "1000");
    refuse(API_TEXT, "{\"prompt\":[-1]}", "prompt", "-1");
    refuse(API_TEXT, "{\"prompt\":[1,\"a\"]}", "prompt", "must be");
    refuse(API_TEXT, "{\"prompt\":[\"a\",1]}", "prompt", "must be");
    refuse(API_TEXT, "{\"prompt\":[[1],\"a\"]}", "prompt", "must be");
    refuse(API_TEXT, "{\"prompt\":{}}", "prompt", "must be");
    refuse(API_TEXT, "{\"prompt\":[null]}", "prompt", "must be");
    refuse(API_TEXT, "{\"prompt\":[1],\"suffix\":\"x\"}", "suffix", "text");
}

Test(api_request, stop)
{
    accept_with(API_CHAT, "\"stop\":\"a\"");
    cr_expect_eq(request.n_stop, 1);
    api_request_dispose(&request);
    accept_with(API_CHAT, "\"stop\":[]");
    cr_expect_eq(request.n_stop, 0);
    api_request_dispose(&request);
    accept_with(API_CHAT, "\"stop\":[\"a\",\"bc\"]");
    cr_expect_str_eq(request.stop[1], "bc");
    api_request_dispose(&request);
    refuse_with(API_CHAT, "\"stop\":[\"\"]", "stop");
    refuse_with(API_CHAT, "\"stop\":[1]", "stop");

    char many[1024] = "\"stop\":[\"a\"";
    for (int i = 0; i < API_MAX_STOP; i++)
        strcat(many, ",\"a\"");
    strcat(many, "]");
    refuse_with(API_CHAT, many, "stop");
}

Test(api_request, logit_bias)
{
    accept_with(API_CHAT, "\"logit_bias\":{\"5\":-100,\"999\":1.5}");
    cr_expect_eq(request.n_bias, 2);
    cr_expect_eq(request.bias[1].id, 999);
    cr_expect_eq(request.bias[1].bias, 1.5f);
    api_request_dispose(&request);
    const char *const bad[] = {"{\"1000\":1}",
                               "{\"-1\":1}",
                               "{\"x\":1}",
                               "{\"\":1}",
                               "{\"5x\":1}",
                               "{\" 5\":1}",
                               "{\"99999999999999999999\":1}",
                               "{\"5\":101}",
                               "{\"5\":\"a\"}",
                               "{\"5\":null}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char members[96];
        snprintf(members, sizeof members, "\"logit_bias\":%s", bad[i]);
        refuse_with(API_CHAT, members, "logit_bias");
    }
}

Test(api_request, logprobs_have_two_shapes)
{
    accept_with(API_CHAT, "\"logprobs\":true, \"top_logprobs\":3");
    cr_expect(request.logprobs);
    cr_expect_eq(request.n_top, 3);
    api_request_dispose(&request);
    accept_with(API_TEXT, "\"logprobs\":0");
    cr_expect(request.logprobs);
    cr_expect_eq(request.n_top, 0);
    api_request_dispose(&request);
    refuse_with(API_CHAT, "\"top_logprobs\":3", "top_logprobs");
    refuse_with(API_CHAT, "\"logprobs\":1", "logprobs");
    refuse_with(API_TEXT, "\"logprobs\":true", "logprobs");
}

Test(api_request, token_limits)
{
    accept_with(API_CHAT, "\"max_tokens\":5, \"max_completion_tokens\":7");
    cr_expect_eq(request.max_tokens, 7);
    api_request_dispose(&request);
    refuse_with(API_CHAT, "\"max_tokens\":0", "max_tokens");
    refuse_with(API_CHAT, "\"max_completion_tokens\":0", "max_completion_tokens");
    accept_with(API_TEXT, "\"max_tokens\":0");
    api_request_dispose(&request);
}

Test(api_request, not_there_yet_is_said)
{
    refuse_with(API_CHAT, "\"tool_choice\":\"required\"", "tool_choice");
    refuse_with(API_CHAT, "\"tool_choice\":{\"type\":\"function\"}", "tool_choice");
    refuse_with(API_TEXT, "\"n\":2, \"best_of\":3", "best_of");
    accept_with(API_CHAT,
                "\"response_format\":{\"type\":\"text\"}, \"tool_choice\":\"auto\", \"functions\":[]");
    api_request_dispose(&request);
}

Test(api_request, functions_of_old)
{
    refuse_with(API_CHAT, "\"functions\":{}", "functions");
    refuse_with(API_CHAT, "\"functions\":[{}]", "functions[0].name");
    refuse_with(API_CHAT, "\"functions\":[{\"name\":\"f\",\"parameters\":3}]", "functions[0].parameters");
    refuse_with(API_CHAT, "\"functions\":[{\"name\":\"f\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
                          "\"f\"}}]", "functions");
    refuse_with(API_CHAT, "\"functions\":[{\"name\":\"f\"}],\"tool_choice\":\"auto\"", "functions");
    refuse_with(API_CHAT, "\"function_call\":{\"name\":\"f\"}", "function_call");
    refuse_with(API_CHAT, "\"functions\":[{\"name\":\"f\"}],\"function_call\":{\"name\":\"g\"}", "function_call");
    refuse_with(API_CHAT, "\"functions\":[{\"name\":\"f\"}],\"function_call\":\"must\"", "function_call");
    accept_with(API_CHAT, "\"functions\":[{\"name\":\"f\"},{\"name\":\"g\"}],\"function_call\":{\"name\":\"g\"}");
    cr_expect(request.needs_call && request.one_call && request.old_calls);
    cr_expect_eq(json_array_size(request.callable), 1);
    api_request_dispose(&request);
    accept_with(API_CHAT, "\"functions\":[{\"name\":\"f\"}],\"function_call\":\"none\"");
    cr_expect_null(request.callable);
    api_request_dispose(&request);
}

/* The specification of a grammar that the members make, "" where they make none. */
static void expect_grammar(enum api_endpoint endpoint, const char *members, const char *spec)
{
    accept_with(endpoint, members);
    char *found = request.grammar_spec ? json_dumps(request.grammar_spec, JSON_COMPACT) : NULL;
    cr_expect_str_eq(found ? found : "", spec, "%s: %s", members, found);
    free(found);
    api_request_dispose(&request);
}

Test(api_request, structured_output)
{
    expect_grammar(API_CHAT, "\"response_format\":{\"type\":\"text\"}, \"grammar\":null", "");
    expect_grammar(API_CHAT, "\"response_format\":{\"type\":\"json_object\"}", "{\"type\":\"json_object\"}");
    expect_grammar(API_TEXT,
                   "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":true,\"schema\":"
                   "{\"b\":1,\"a\":2}}}",
                   "{\"type\":\"json_schema\",\"schema\":{\"b\":1,\"a\":2},\"strict\":true}");
    expect_grammar(API_TEXT, "\"regex\":\"a+\"", "{\"type\":\"regex\",\"pattern\":\"a+\"}");
    expect_grammar(API_CHAT, "\"grammar\":\"root ::= \\\"a\\\"\"",
                   "{\"type\":\"gbnf\",\"grammar\":\"root ::= \\\"a\\\"\"}");
    expect_grammar(API_CHAT, "\"choice\":[\"a\",\"b\"]", "{\"type\":\"choice\",\"choices\":[\"a\",\"b\"]}");
    expect_grammar(API_CHAT, "\"guided_json\":\"{\\\"type\\\":\\\"null\\\"}\"",
                   "{\"type\":\"json_schema\",\"schema\":{\"type\":\"null\"},\"strict\":false}");
    expect_grammar(API_CHAT, "\"structured_outputs\":{\"regex\":\"b\",\"json\":null}",
                   "{\"type\":\"regex\",\"pattern\":\"b\"}");
    refuse_with(API_CHAT, "\"response_format\":{\"type\":\"xml\"}", "response_format.type");
    refuse_with(API_CHAT, "\"response_format\":{\"type\":\"json_schema\"}", "response_format.json_schema");
    refuse_with(API_CHAT, "\"guided_json\":\"{\"", "guided_json");
    refuse_with(API_CHAT, "\"choice\":[]", "choice");
    refuse_with(API_TEXT, "\"choice\":[\"a\",1]", "choice");
    refuse_with(API_TEXT, "\"regex\":\"a\", \"choice\":[\"a\"]", "choice");
    refuse_with(API_TEXT, "\"regex\":\"a\", \"structured_outputs\":{\"json\":{}}", "structured_outputs.json");
}

Test(api_request, messages)
{
    accept(API_CHAT,
           "{\"messages\":[{\"role\":\"developer\",\"content\":\"x\"},"
           "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"y\"}]},"
           "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\","
           "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}]},"
           "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"1\"},{\"role\":\"assistant\"}]}");
    char *text = json_dumps(request.messages, JSON_COMPACT);
    cr_expect_str_eq(text, "[{\"role\":\"system\",\"content\":\"x\"},"
                           "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"y\"}]},"
                           "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":"
                           "\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},"
                           "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"1\"},"
                           "{\"role\":\"assistant\",\"content\":\"\"}]");
    free(text);
    api_request_dispose(&request);

    refuse(API_CHAT, "{}", "messages", "required");
    refuse(API_CHAT, "{\"messages\":[]}", "messages", "empty");
    refuse(API_CHAT, "{\"messages\":{}}", "messages", "array");
    refuse(API_CHAT, "{\"messages\":[1]}", "messages[0]", "object");
    refuse(API_CHAT, "{\"messages\":[{\"role\":\"narrator\",\"content\":\"\"}]}", "messages[0].role",
           "one of");
    refuse(API_CHAT, "{\"messages\":[{\"content\":\"\"}]}", "messages[0].role", "one of");
    refuse(API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "messages[0].content",
           "string");
    refuse(API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":5}]}", "messages[0].content", "string");
    refuse(API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
           "messages[0].content[0].type", "image_url");
    refuse(API_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}",
           "messages[0].tool_calls[0].id", "string");
}

Test(api_request, tools)
{
    accept_with(API_CHAT, "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]");
    cr_expect(request.tools);
    api_request_dispose(&request);
    accept_with(API_CHAT,
                "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"tool_choice\":\"none\"");
    cr_expect_null(request.tools);
    api_request_dispose(&request);
    refuse_with(API_CHAT, "\"tools\":[{}]", "tools[0].type");
    refuse_with(API_CHAT, "\"tools\":[{\"type\":\"function\"}]", "tools[0].function.name");
}
