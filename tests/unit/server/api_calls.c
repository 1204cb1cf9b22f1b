/* Tool calls and reasoning in answers, byte by byte. */
#include "api_fakes.h"

#include <criterion/criterion.h>
#include <string.h>

#define ASK "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]," \
            "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"

static struct http_request http;

static void begin(void)
{
    fake_api(NULL, true);
    fake_model_info()->thinks = true;
}

static void end(void)
{
    fake_model_info()->thinks = false;
    fake_free(&http);
    fake_end();
}

TestSuite(api_calls, .init = begin, .fini = end);

static void ask(const char *body)
{
    fake_ask(&http, "POST", "/v1/chat/completions", body);
    fake_settle();
    cr_assert_eq(fake.n_submitted, 1, "%s", http.sent);
}

/* Each of the texts, in this order, and nothing twice that stands between them. */
static void expect_sent(const char *const *wanted)
{
    const char *at = http.sent;
    for (; *wanted; wanted++) {
        const char *found = strstr(at, *wanted);
        cr_assert(found, "%s is not in %s", *wanted, at);
        at = found + strlen(*wanted);
    }
}

Test(api_calls, streamed)
{
    ask(ASK ",\"stream\":true}");
    fake_text(0, 0, "<think>\nI ca");
    fake_text(0, 0, "ll.\n</think>\n\nSo:\n<tool_");
    fake_text(0, 0, "call>\n{\"name\": \"f\", \"arguments\": {\"a");
    fake_text(0, 0, "\": 1}}\n</tool_call>");
    fake_done(0, 0, FINISH_STOP, 9, true);
    expect_sent((const char *const[]){
        "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}", "\"delta\":{\"reasoning_content\":\"I ca\"}",
        "\"delta\":{\"reasoning_content\":\"ll.\"}", "\"delta\":{\"content\":\"So:\"}",
        "\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_", "\",\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"arguments\":\"\"}}]}", "\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\"}}]}",
        "\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\": 1}\"}}]}",
        "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"tool_calls\"", "data: [DONE]", NULL});
}

Test(api_calls, whole)
{
    ask(ASK "}");
    fake_text(0, 0, "<think>Hm</think><tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>"
                    "{\"name\":\"f\",\"arguments\":{\"b\":2}}</tool_call>");
    fake_done(0, 0, FINISH_STOP, 9, true);
    cr_assert_eq(http.status, 200);
    expect_sent((const char *const[]){
        "\"message\":{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"reasoning_content\":\"Hm\","
        "\"tool_calls\":[{\"id\":\"call_", "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}",
        "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"b\\\":2}\"}}]}", "\"finish_reason\":\"tool_calls\"", NULL});
}

Test(api_calls, cut_off_by_length)
{
    ask(ASK "}");
    fake_text(0, 0, "<tool_call>{\"name\":\"f\",\"arguments\":{\"b");
    fake_done(0, 0, FINISH_LENGTH, 9, true);
    expect_sent((const char *const[]){"\"arguments\":\"{\\\"b\"", "\"finish_reason\":\"length\"", NULL});
}

Test(api_calls, no_call_is_content)
{
    ask(ASK ",\"stream\":true}");
    fake_text(0, 0, "<tool_call>{\"name\":\"g\"");
    fake_done(0, 0, FINISH_STOP, 9, true);
    expect_sent((const char *const[]){"{\"content\":\"<tool_call>{\\\"name\\\":\\\"g\\\"\"}",
                                      "\"finish_reason\":\"stop\"", NULL});
}

Test(api_calls, reasoning_is_counted)
{
    const char *text = "<think>ab</think>c";
    struct engine_token tokens[18];
    for (size_t i = 0; i < 18; i++)
        tokens[i] = (struct engine_token){.id = (unsigned char)text[i]};
    ask(ASK "}");
    fake_text_tokens(0, 0, "<think>ab</th", tokens, 13);
    fake_text_tokens(0, 0, "ink>c", tokens + 13, 5);
    fake_done(0, 0, FINISH_STOP, 18, true);
    expect_sent((const char *const[]){"\"completion_tokens\":18", "\"reasoning_tokens\":17", NULL});
}

Test(api_calls, log_probabilities_wait_for_their_text)
{
    struct engine_token token = {.id = '<', .logprob = -1};
    ask(ASK ",\"stream\":true,\"logprobs\":true}");
    fake_text_tokens(0, 0, "<", &token, 1);
    token.id = 'b';
    fake_text_tokens(0, 0, "b", &token, 1);
    fake_done(0, 0, FINISH_STOP, 2, true);
    expect_sent((const char *const[]){"\"delta\":{\"content\":\"<b\"},\"logprobs\":{\"content\":[{\"token\":\"<\"",
                                      "{\"token\":\"b\"", NULL});
}
