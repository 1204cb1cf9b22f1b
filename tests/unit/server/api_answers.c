/* Answers byte by byte: streams, whole bodies, errors in both, logprobs, usage, credit, leaving. */
#include "api_fakes.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static struct http_request http;

static void chat(const char *body)
{
    fake_ask(&http, "POST", "/v1/chat/completions", body);
}

static void text(const char *body)
{
    fake_ask(&http, "POST", "/v1/completions", body);
}

/* The JSON of event i of a stream; the caller's. NULL for what is no JSON. */
static json_t *event_json(int i)
{
    const char *at = http.sent;
    while (i-- > 0 && at)
        at = (at = strstr(at, "\n\n")) ? at + 2 : NULL;
    cr_assert(at && strncmp(at, "data: ", 6) == 0, "%s", http.sent);
    const char *end = strstr(at, "\n\n");
    cr_assert_not_null(end);
    return json_loadb(at + 6, (size_t)(end - at - 6), 0, NULL);
}

static void expect_choice(int event, const char *wanted)
{
    json_t *chunk = event_json(event);
    char *got = json_dumps(json_object_get(chunk, "choices"), JSON_COMPACT);
    cr_expect_str_eq(got, wanted, "event %d: %s", event, got);
    free(got);
    json_decref(chunk);
}

static json_t *whole(void)
{
    cr_assert_eq(http.status, 200, "%s", http.sent);
    json_t *body = json_loads(http.sent, 0, NULL);
    cr_assert_not_null(body);
    return body;
}

static void expect_part(const json_t *body, const char *path, const char *wanted)
{
    const json_t *at = body;
    char copy[128];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *name = strtok(copy, "."); name; name = strtok(NULL, "."))
        at = name[0] >= '0' && name[0] <= '9' ? json_array_get(at, (size_t)atoi(name))
                                              : json_object_get(at, name);
    char *got = json_dumps(at, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    cr_expect_str_eq(got ? got : "absent", wanted, "%s: %s", path, got ? got : "absent");
    free(got);
}

static void expect_error(int status, const char *param, const char *code)
{
    cr_expect_eq(http.status, status, "%d %s", http.status, http.sent);
    json_t *body = json_loads(http.sent, 0, NULL);
    const json_t *error = json_object_get(body, "error");
    const char *got_param = json_string_value(json_object_get(error, "param"));
    const char *got_code = json_string_value(json_object_get(error, "code"));
    cr_expect_str_eq(got_param ? got_param : "null", param ? param : "null");
    cr_expect_str_eq(got_code ? got_code : "null", code ? code : "null");
    cr_expect(json_is_string(json_object_get(error, "message")) &&
              json_is_string(json_object_get(error, "type")));
    json_decref(body);
}

static void begin(void)
{
    fake_api(NULL, true);
}

static void end(void)
{
    fake_free(&http);
    fake_end();
}

TestSuite(api_answers, .init = begin, .fini = end);

Test(api_answers, chat_stream)
{
    chat("{" HI ",\"stream\":true}");
    cr_expect_eq(http.status, 0, "headers before the first token");
    fake_text(0, 0, "Hel\"lo");
    fake_text(0, 0, "\xc3\xa9");
    fake_done(0, 0, FINISH_STOP, 2, true);

    cr_expect_eq(http.status, 200);
    cr_expect(strstr(http.fields, "Content-Type: text/event-stream\n"));
    cr_expect(strstr(http.fields, "Cache-Control: no-cache\n"));
    cr_expect(strstr(http.fields, "X-Accel-Buffering: no\n"));
    cr_expect(http.ended);
    cr_expect_eq(http.writes, 5);
    expect_choice(0, "[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                     "\"finish_reason\":null}]");
    expect_choice(
        1, "[{\"index\":0,\"delta\":{\"content\":\"Hel\\\"lo\"},\"logprobs\":null,\"finish_reason\":null}]");
    expect_choice(
        2, "[{\"index\":0,\"delta\":{\"content\":\"\xc3\xa9\"},\"logprobs\":null,\"finish_reason\":null}]");
    expect_choice(3, "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]");
    cr_expect_str_eq(http.sent + http.n_sent - 14, "data: [DONE]\n\n");
    cr_expect_null(strstr(http.sent, "usage"));

    json_t *first = event_json(0), *last = event_json(3);
    expect_part(first, "object", "\"chat.completion.chunk\"");
    expect_part(first, "model", "\"tiny\"");
    cr_expect(json_equal(json_object_get(first, "id"), json_object_get(last, "id")));
    cr_expect(json_equal(json_object_get(first, "created"), json_object_get(last, "created")));
    json_decref(first);
    json_decref(last);
}

Test(api_answers, stream_usage)
{
    chat("{" HI ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    fake_text(0, 0, "x");
    fake_done(0, 0, FINISH_LENGTH, 1, true);
    json_t *chunk = event_json(1);
    expect_part(chunk, "usage", "null");
    json_decref(chunk);
    chunk = event_json(3);
    expect_part(chunk, "choices", "[]");
    expect_part(chunk, "usage", "{\"prompt_tokens\":5,\"completion_tokens\":1,\"total_tokens\":6,"
                                "\"prompt_tokens_details\":{\"cached_tokens\":2},"
                                "\"completion_tokens_details\":{\"reasoning_tokens\":0}}");
    json_decref(chunk);
    cr_expect_eq(http.writes, 5);
}

Test(api_answers, chat_whole)
{
    chat("{" HI "}");
    fake_text(0, 0, "Hel");
    fake_text(0, 0, "lo");
    fake_done(0, 0, FINISH_STOP, 2, true);
    json_t *body = whole();
    expect_part(body, "object", "\"chat.completion\"");
    expect_part(body, "choices",
                "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello\",\"refusal\":null},"
                "\"logprobs\":null,\"finish_reason\":\"stop\"}]");
    expect_part(body, "usage.total_tokens", "7");
    json_decref(body);
    cr_expect(strstr(http.fields, "Content-Type: application/json\n"));
    cr_expect_eq(fake.submitted[0].request.max_tokens, -1);
    cr_expect_eq(fake.submitted[0].request.credit, 0);
}

Test(api_answers, several_choices)
{
    chat("{" HI ",\"n\":2,\"stream\":true}");
    cr_expect_eq(fake.submitted[0].request.choices, 2);
    fake_text(0, 1, "b");
    fake_text(0, 0, "a");
    fake_done(0, 1, FINISH_STOP, 1, false);
    cr_expect(!http.ended);
    fake_done(0, 0, FINISH_LENGTH, 1, true);
    cr_expect(http.ended);
    expect_choice(0, "[{\"index\":1,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                     "\"finish_reason\":null}]");
    expect_choice(2, "[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                     "\"finish_reason\":null}]");
    expect_choice(4, "[{\"index\":1,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]");
    expect_choice(5, "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}]");
}

Test(api_answers, several_prompts_and_choices)
{
    text("{\"prompt\":[\"ab\",\"c\"],\"n\":2,\"echo\":true}");
    cr_assert_eq(fake.n_submitted, 2);
    fake_text(1, 1, "4");
    fake_text(0, 0, "1");
    fake_text(0, 1, "2");
    fake_text(1, 0, "3");
    for (size_t i = 0; i < 4; i++)
        fake_done(i / 2, (int)i % 2, FINISH_LENGTH, 1, i % 2);
    json_t *body = whole();
    expect_part(body, "object", "\"text_completion\"");
    expect_part(body, "choices.0",
                "{\"index\":0,\"text\":\"ab1\",\"logprobs\":null,\"finish_reason\":\"length\"}");
    expect_part(body, "choices.1.text", "\"ab2\"");
    expect_part(body, "choices.2.text", "\"c3\"");
    expect_part(body, "choices.3.text", "\"c4\"");
    expect_part(body, "usage.prompt_tokens", "3");
    expect_part(body, "usage.completion_tokens", "4");
    json_decref(body);
}

Test(api_answers, many_prompts_go_in_a_few_at_a_time)
{
    char body[512] = "{\"prompt\":[\"x\"";
    for (int i = 1; i < 40; i++)
        strcat(body, ",\"x\"");
    strcat(body, "]}");
    text(body);
    cr_expect_eq(fake.n_submitted, 32);
    /* A full queue is no error while some of its own are running. */
    fake.refuse = ERR_BUSY;
    fake.accept = 33;
    fake_done(0, 0, FINISH_LENGTH, 0, true);
    fake_done(1, 0, FINISH_LENGTH, 0, true);
    cr_expect_eq(fake.n_submitted, 33);
    fake.refuse = 0;
    for (size_t i = 2; i < 40; i++)
        fake_done(i, 0, FINISH_LENGTH, 0, true);
    json_t *answer = whole();
    cr_expect_eq(json_array_size(json_object_get(answer, "choices")), 40);
    json_decref(answer);
}

static const struct engine_top top_a[] = {{'a', -0.5f}, {'b', -1.5f}},
                               top_b[] = {{'c', -0.25f}, {'d', -2.0f}};

Test(api_answers, chat_logprobs)
{
    static const struct engine_top tops[] = {{0xc3, -0.5f}};
    struct engine_token tokens[] = {{.id = FAKE_WORD, .logprob = -0.5f, .top = tops, .n_top = 1},
                                    {.id = 'z', .logprob = -INFINITY, .top = tops, .n_top = 1}};
    chat("{" HI ",\"logprobs\":true,\"top_logprobs\":1}");
    cr_expect(fake.submitted[0].request.logprobs && fake.submitted[0].request.n_top == 1);
    fake_text_tokens(0, 0, "wordz", tokens, 2);
    fake_done(0, 0, FINISH_STOP, 2, true);
    json_t *body = whole();
    expect_part(body, "choices.0.logprobs.content.0",
                "{\"token\":\"word\",\"logprob\":-0.5,\"bytes\":[119,111,114,100],\"top_logprobs\":"
                "[{\"token\":\"\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[195]}]}");
    expect_part(body, "choices.0.logprobs.content.1.logprob", "-9999.0");
    expect_part(body, "choices.0.logprobs.refusal", "null");
    json_decref(body);
}

Test(api_answers, text_logprobs_score_a_prompt)
{
    struct engine_token prompt[] = {{.id = 'x', .logprob = NAN, .top = top_a, .n_top = 2},
                                    {.id = 'a', .logprob = -0.5f, .top = top_b, .n_top = 2}};
    text("{\"prompt\":\"xa\",\"echo\":true,\"max_tokens\":0,\"logprobs\":2}");
    cr_expect(fake.submitted[0].request.prompt_logprobs);
    cr_expect_eq(fake.submitted[0].request.max_tokens, 0);
    fake_prompt(0, prompt, 1);
    fake_prompt(0, prompt + 1, 1);
    fake_done(0, 0, FINISH_LENGTH, 0, true);
    json_t *body = whole();
    expect_part(body, "choices.0.text", "\"xa\"");
    expect_part(body, "choices.0.logprobs",
                "{\"tokens\":[\"x\",\"a\"],\"token_logprobs\":[null,-0.5],\"top_logprobs\":[null,{\"a\":-0.5,"
                "\"b\":-1.5}],"
                "\"text_offset\":[0,1]}");
    json_decref(body);
}

Test(api_answers, text_logprobs_count_characters_from_the_prompt)
{
    struct engine_token token = {.id = 'z', .logprob = -1, .top = top_a, .n_top = 1};
    text("{\"prompt\":\"\xc3\xa9p\",\"logprobs\":1,\"stream\":true}");
    fake_text_tokens(0, 0, "z", &token, 1);
    token.id = 0xe2;
    fake_text_tokens(0, 0, "", &token, 1);
    fake_done(0, 0, FINISH_STOP, 2, true);
    expect_choice(0,
                  "[{\"index\":0,\"text\":\"z\",\"logprobs\":{\"tokens\":[\"z\"],\"token_logprobs\":[-1.0],"
                  "\"top_logprobs\":[{\"a\":-0.5,\"z\":-1.0}],\"text_offset\":[2]},\"finish_reason\":null}]");
    expect_choice(
        1,
        "[{\"index\":0,\"text\":\"\",\"logprobs\":{\"tokens\":[\"bytes:\\\\xe2\"],\"token_logprobs\":[-1.0],"
        "\"top_logprobs\":[{\"a\":-0.5,\"bytes:\\\\xe2\":-1.0}],\"text_offset\":[3]},\"finish_reason\":null}"
        "]");
}

Test(api_answers, logprobs_zero_is_an_object_without_alternatives)
{
    struct engine_token token = {.id = 'z', .logprob = -1};
    text("{\"prompt\":[120],\"logprobs\":0}");
    fake_text_tokens(0, 0, "z", &token, 1);
    fake_done(0, 0, FINISH_STOP, 1, true);
    json_t *body = whole();
    expect_part(body, "choices.0.logprobs",
                "{\"tokens\":[\"z\"],\"token_logprobs\":[-1.0],\"top_logprobs\":null,\"text_offset\":[1]}");
    json_decref(body);
}

Test(api_answers, echo_streams_the_prompt_first)
{
    text("{\"prompt\":[257,120],\"echo\":true,\"stream\":true}");
    fake_text(0, 0, "!");
    fake_done(0, 0, FINISH_STOP, 1, true);
    expect_choice(0, "[{\"index\":0,\"text\":\"wordx\",\"logprobs\":null,\"finish_reason\":null}]");
    expect_choice(1, "[{\"index\":0,\"text\":\"!\",\"logprobs\":null,\"finish_reason\":null}]");
    expect_choice(2, "[{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"stop\"}]");
}

Test(api_answers, suffix)
{
    text("{\"prompt\":\"a\",\"suffix\":\"b\"}");
    cr_expect_eq(fake.submitted[0].request.n_prompt, 5);
    fake_done(0, 0, FINISH_STOP, 0, true);
    fake_free(&http);
    fake_model_info()->has_fim = false;
    text("{\"prompt\":\"a\",\"suffix\":\"b\"}");
    expect_error(400, "suffix", NULL);
}

Test(api_answers, template_errors_are_400)
{
    chat("{\"messages\":[{\"role\":\"user\",\"content\":\"raise\"}]}");
    expect_error(400, "messages", NULL);
}

Test(api_answers, tools_reach_the_template)
{
    chat("{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"chat_template_kwargs\":"
                "{\"k\":1}}");
    fake_settle();
    cr_expect_str_eq(
        fake.rendered,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"tools\":[{\"type\":\"function\","
        "\"function\":{\"name\":\"f\"}}],\"describe_tools\":true,\"continue_final_message\":false,"
        "\"add_generation_prompt\":true,"
        "\"chat_template_kwargs\":{\"k\":1}}");
    fake_done(0, 0, FINISH_STOP, 0, true);
}

Test(api_answers, refused_by_the_engine)
{
    static const struct { int code, status; const char *param, *name; } cases[] = {
        {ERR_TOO_LONG, 400, "messages", "context_length_exceeded"},
        {ERR_BUSY, 429, NULL, "queue_full"},
        {ERR_DRAINING, 503, NULL, "draining"},
        {ERR_DEVICE, 500, NULL, "internal_error"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake.refuse = cases[i].code;
        chat("{" HI ",\"stream\":true}");
        expect_error(cases[i].status, cases[i].param, cases[i].name);
        if (cases[i].code == ERR_BUSY)
            cr_expect(strstr(http.fields, "Retry-After: "), "%s", http.fields);
        fake_free(&http);
    }
}

Test(api_answers, failures_before_and_after_the_first_token)
{
    chat("{" HI ",\"stream\":true}");
    fake_failed(0, ERR_DEVICE, "burnt");
    expect_error(500, NULL, "internal_error");
    fake_free(&http);

    chat("{" HI ",\"stream\":true}");
    fake_text(1, 0, "x");
    fake_failed(1, ERR_DEVICE, "burnt");
    cr_expect_eq(http.status, 200);
    cr_expect(http.ended);
    json_t *event = event_json(2);
    expect_part(event, "error.message", "\"burnt\"");
    json_decref(event);
    cr_expect_null(strstr(http.sent, "[DONE]"));
}

Test(api_answers, one_failed_prompt_fails_all)
{
    text("{\"prompt\":[\"a\",\"b\"]}");
    fake_failed(0, ERR_NOMEM, "full");
    expect_error(503, NULL, "out_of_memory");
    cr_expect(fake.submitted[1].cancelled);
    fake_done(1, 0, FINISH_CANCELLED, 0, true);
}

Test(api_answers, client_leaves)
{
    chat("{" HI ",\"stream\":true}");
    fake_text(0, 0, "x");
    fake_gone(&http, false);
    cr_expect(fake.submitted[0].cancelled);
    int writes = http.writes;
    fake_text(0, 0, "y");
    fake_done(0, 0, FINISH_CANCELLED, 0, true);
    cr_expect_eq(http.writes, writes);
}

Test(api_answers, credit_comes_back_when_the_client_reads)
{
    chat("{" HI ",\"stream\":true}");
    cr_expect_gt(fake.submitted[0].request.credit, 0);
    fake_text(0, 0, "a");
    cr_expect_eq(fake.submitted[0].credit, 1);
    http.stuck = true;
    fake_text(0, 0, "b");
    fake_text(0, 0, "c");
    cr_expect_eq(fake.submitted[0].credit, 1);
    http.pending = 0;
    http.drained(http.user);
    cr_expect_eq(fake.submitted[0].credit, 3);
    http.stuck = false;
    fake_done(0, 0, FINISH_STOP, 3, true);
}

Test(api_answers, big_bodies_go_to_the_thread_pool)
{
    size_t size = 200000;
    char *body = malloc(size + 100);
    int at = sprintf(body, "{\"prompt\":\"");
    memset(body + at, 'a', size);
    strcpy(body + at + size, "\"}");
    text(body);
    cr_expect_eq(fake.n_submitted, 0, "the loop was held up");
    fake_settle();
    cr_assert_eq(fake.n_submitted, 1);
    cr_expect_eq(fake.submitted[0].request.n_prompt, size);
    fake_done(0, 0, FINISH_LENGTH, 0, true);
    json_t *answer = whole();
    json_decref(answer);
    fake_free(&http);

    /* The client leaves, and its body with it, while the pool is at work. */
    fake.n_submitted = 0;
    free(fake.submitted[0].prompt);
    text(body);
    fake_gone(&http, false);
    free(body);
    fake_settle();
    cr_expect_eq(fake.n_submitted, 0);
}

Test(api_answers, a_hundred_thousand_messages)
{
    static const char message[] = "{\"role\":\"user\",\"content\":\"x\"},";
    size_t n = 100000, at = 0;
    char *body = malloc(n * sizeof message + 64);
    at = (size_t)sprintf(body, "{\"messages\":[");
    for (size_t i = 0; i < n; i++, at += sizeof message - 1)
        memcpy(body + at, message, sizeof message);
    strcpy(body + at - 1, "]}");
    chat(body);
    fake_settle();
    cr_assert_eq(fake.n_submitted, 1);
    fake_done(0, 0, FINISH_STOP, 0, true);
    free(body);
}

Test(api_answers, sampling_defaults_by_precedence)
{
    fake_model_info()->sampling = (struct sampling_defaults){
        .temperature = 0.7, .top_p = 0.8, .min_p = -1, .repetition_penalty = -1, .top_k = 20};
    chat("{" HI ",\"top_p\":0.5,\"seed\":-1,\"presence_penalty\":1}");
    const struct sampling *sampling = &fake.submitted[0].request.sampling;
    cr_expect_eq(sampling->temperature, 0.7);
    cr_expect_eq(sampling->top_p, 0.5);
    cr_expect_eq(sampling->top_k, 20);
    cr_expect_eq(sampling->min_p, 0);
    cr_expect_eq(sampling->repetition_penalty, 1);
    cr_expect_eq(sampling->presence_penalty, 1);
    cr_expect_eq(sampling->seed, UINT64_MAX);
    fake_done(0, 0, FINISH_STOP, 0, true);
}
