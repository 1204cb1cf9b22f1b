/* The events of Responses, Messages and Ollama's chat, block by block, with reasoning and calls in them, and what fails on the way. */
#include "api_fakes.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOOL "\"name\":\"f\",\"description\":\"d\""
#define CALL "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>"

static struct http_request http;

/* Asks, and waits until the engine has the request or the answer is there. */
static void ask(const char *path, const char *body)
{
    size_t before = fake.n_submitted;
    fake_ask(&http, "POST", path, body);
    for (int i = 0; i < 5000 && fake.n_submitted == before && !http.ended; i++)
        fake_turn();
}

static void responses(const char *members)
{
    char body[1024];
    snprintf(body, sizeof body,
             "{\"input\":\"hi\",\"tools\":[{\"type\":\"function\"," TOOL "}]%s%s}", *members ? "," : "", members);
    ask("/v1/responses", body);
}

static void messages(const char *members)
{
    char body[1024];
    snprintf(body, sizeof body,
             "{\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"tools\":[{" TOOL
             ",\"input_schema\":{\"type\":\"object\"}}]%s%s}", *members ? "," : "", members);
    ask("/v1/messages", body);
}

/* The names of all events, in a row; those that repeat stand once. */
static void expect_events(const char *wanted)
{
    char names[2048] = "", last[64] = "";
    for (const char *at = strstr(http.sent, "event: "); at; at = strstr(at + 1, "\nevent: ")) {
        at += *at == '\n';
        char name[64];
        size_t n = strcspn(at + 7, "\n");
        snprintf(name, sizeof name, "%.*s", (int)n, at + 7);
        if (strcmp(name, last) != 0)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", *names ? " " : "", name);
        snprintf(last, sizeof last, "%s", name);
    }
    cr_expect_str_eq(names, wanted, "%s", names);
}

/* The data of the last event of that name, or the whole body; the caller's. */
static json_t *event(const char *name)
{
    char mark[80];
    const char *found = NULL, *at = http.sent;
    snprintf(mark, sizeof mark, "event: %s\ndata: ", name ? name : "");
    while (name && (at = strstr(at, mark)))
        found = at += strlen(mark);
    json_t *object = json_loads(name ? found : http.sent, JSON_DISABLE_EOF_CHECK, NULL);
    cr_assert_not_null(object, "%s in %s", name, http.sent);
    return object;
}

static void expect(json_t *object, const char *path, const char *wanted)
{
    char copy[128];
    const json_t *at = object;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *name = strtok(copy, "/"); name; name = strtok(NULL, "/"))
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(name)) : json_object_get(at, name);
    char *got = json_dumps(at, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    cr_expect_str_eq(got ? got : "absent", wanted, "%s: %s", path, got ? got : "absent");
    free(got);
}

/* Reasoning, text and a call, cut anywhere. */
static void tell(int completion, enum finish finish)
{
    fake_text(0, 0, "<thi");
    fake_text(0, 0, "nk>Why");
    fake_text(0, 0, " not</think>");
    fake_text(0, 0, "Hel");
    fake_text(0, 0, "lo\n" CALL);
    fake_done(0, 0, finish, completion, true);
}

static void begin(void)
{
    static const struct api_options none = {.defaults = {-1, -1, -1, -1, -1}};
    fake_api(&none, true);
    fake_model_info()->thinks = true;
}

static void end(void)
{
    fake_free(&http);
    fake_end();
}

TestSuite(api_formats, .init = begin, .fini = end);

static void expect_output(json_t *response, const char *root)
{
    char path[96];
    static const char *const wanted[][2] = {
        {"0/type", "\"reasoning\""},
        {"0/content/0", "{\"text\":\"Why not\",\"type\":\"reasoning_text\"}"},
        {"0/summary", "[]"},
        {"1/type", "\"message\""},
        {"1/role", "\"assistant\""},
        {"1/content/0/type", "\"output_text\""},
        {"1/content/0/annotations", "[]"},
        {"2/type", "\"function_call\""},
        {"2/name", "\"f\""},
        {"2/arguments", "\"{\\\"x\\\": 1}\""},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        snprintf(path, sizeof path, "%soutput/%s", root, wanted[i][0]);
        expect(response, path, wanted[i][1]);
    }
}

Test(api_formats, responses_stream)
{
    responses("\"stream\":true");
    tell(12, FINISH_STOP);
    expect_events("response.created response.in_progress "
                  "response.output_item.added response.content_part.added response.reasoning_text.delta "
                  "response.reasoning_text.done response.content_part.done response.output_item.done "
                  "response.output_item.added response.content_part.added response.output_text.delta "
                  "response.output_text.done response.content_part.done response.output_item.done "
                  "response.output_item.added response.function_call_arguments.delta "
                  "response.function_call_arguments.done response.output_item.done response.completed");
    json_t *last = event("response.completed"), *done = event("response.output_item.done");
    expect_output(last, "response/");
    expect(last, "response/usage/output_tokens", "12");
    expect(last, "response/usage/input_tokens_details/cached_tokens", "2");
    expect(last, "response/status", "\"completed\"");
    cr_expect(json_equal(json_object_get(done, "item"),
                         json_array_get(json_object_get(json_object_get(last, "response"), "output"), 2)));
    cr_expect(http.ended && !strstr(http.sent, "[DONE]"));
    json_decref(last);
    json_decref(done);
}

Test(api_formats, responses_whole)
{
    responses("");
    tell(12, FINISH_LENGTH);
    json_t *body = event(NULL);
    expect_output(body, "");
    expect(body, "status", "\"incomplete\"");
    expect(body, "incomplete_details", "{\"reason\":\"max_output_tokens\"}");
    expect(body, "output/1/status", "\"completed\"");
    expect(body, "output/2/status", "\"incomplete\"");
    json_decref(body);
}

Test(api_formats, a_response_of_nothing_is_an_empty_message)
{
    responses("\"stream\":true");
    fake_done(0, 0, FINISH_STOP, 0, true);
    expect_events("response.created response.in_progress response.output_item.added response.content_part.added "
                  "response.output_text.done response.content_part.done response.output_item.done response.completed");
    json_t *last = event("response.completed");
    expect(last, "response/output/0/content/0/text", "\"\"");
    json_decref(last);
}

Test(api_formats, responses_that_fail)
{
    responses("\"stream\":true");
    fake_text(0, 0, "a");
    fake_failed(0, ERR_DEVICE, "no device");
    json_t *last = event("response.failed");
    expect(last, "response/status", "\"failed\"");
    expect(last, "response/error", "{\"code\":\"server_error\",\"message\":\"no device\"}");
    json_decref(last);
    cr_expect(http.ended);
}

Test(api_formats, responses_that_fail_at_once_have_a_status)
{
    responses("\"stream\":true");
    fake_failed(0, ERR_DEVICE, "no device");
    cr_expect_eq(http.status, 500);
    json_t *body = event(NULL);
    expect(body, "error/message", "\"no device\"");
    json_decref(body);
}

Test(api_formats, messages_stream)
{
    messages("\"stream\":true");
    tell(12, FINISH_STOP);
    expect_events("message_start content_block_start content_block_delta content_block_stop "
                  "content_block_start content_block_delta content_block_stop "
                  "content_block_start content_block_delta content_block_stop message_delta message_stop");
    cr_expect(strstr(http.sent, "\"type\":\"thinking_delta\",\"thinking\":\"Why"));
    cr_expect(strstr(http.sent, "\"type\":\"signature_delta\""));
    cr_expect(strstr(http.sent, "\"type\":\"text_delta\",\"text\":\"Hel\""));
    cr_expect(strstr(http.sent, "\"type\":\"input_json_delta\",\"partial_json\":"));
    json_t *delta = event("message_delta");
    expect(delta, "delta", "{\"stop_reason\":\"tool_use\",\"stop_sequence\":null}");
    expect(delta, "usage/output_tokens", "12");
    expect(delta, "usage/cache_read_input_tokens", "2");
    json_decref(delta);
    cr_expect(strstr(http.fields, "Request-Id: msg_"));
}

Test(api_formats, messages_whole)
{
    messages("\"stop_sequences\":[\"a\",\"b\"]");
    tell(12, FINISH_STOP);
    json_t *body = event(NULL);
    expect(body, "content/0/thinking", "\"Why not\"");
    expect(body, "content/1/type", "\"text\"");
    expect(body, "content/2/name", "\"f\"");
    expect(body, "content/2/input", "{\"x\":1}");
    expect(body, "stop_reason", "\"tool_use\"");
    json_decref(body);
}

Test(api_formats, calls_that_were_cut_have_no_input)
{
    messages("");
    fake_text(0, 0, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": ");
    fake_done(0, 0, FINISH_LENGTH, 3, true);
    json_t *body = event(NULL);
    expect(body, "stop_reason", "\"max_tokens\"");
    expect(body, "content/0/input", "{}");
    json_decref(body);
}

Test(api_formats, messages_that_fail)
{
    messages("\"stream\":true");
    fake_text(0, 0, "a");
    fake_failed(0, ERR_DEVICE, "no device");
    json_t *error = event("error");
    expect(error, "type", "\"error\"");
    expect(error, "error", "{\"message\":\"no device\",\"type\":\"api_error\"}");
    json_decref(error);
    fake_free(&http);

    fake.refuse = ERR_BUSY;
    fake.accept = fake.n_submitted;
    messages("");
    cr_expect_eq(http.status, 429);
    error = event(NULL);
    expect(error, "error/type", "\"rate_limit_error\"");
    cr_expect(strstr(http.fields, "Request-Id: req_"));
    json_decref(error);
}

Test(api_formats, counts)
{
    fake_ask(&http, "POST", "/v1/messages/count_tokens", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    cr_expect_str_eq(http.sent, "{\"input_tokens\":5}");
    fake_free(&http);
    fake_ask(&http, "POST", "/v1/responses/input_tokens", "{\"input\":\"hi\"}");
    cr_expect_str_eq(http.sent, "{\"object\":\"response.input_tokens\",\"input_tokens\":5}");
    cr_expect_eq(fake.n_submitted, 0);
}

/* ---- Ollama's ---- */

static void ollama(const char *path, const char *members)
{
    char body[1024];
    snprintf(body, sizeof body,
             "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"prompt\":\"hi\",\"tools\":"
             "[{\"type\":\"function\",\"function\":{" TOOL "}}]%s%s}", *members ? "," : "", members);
    ask(path, body);
}

/* The n-th line, from 0; the caller's. */
static json_t *line(int n)
{
    const char *at = http.sent;
    for (; at && n > 0; n--)
        at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL;
    json_t *object = at ? json_loads(at, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    cr_assert_not_null(object, "no line %d in %s", n, http.sent);
    cr_expect_str_eq(json_string_value(json_object_get(object, "model")), "tiny:latest");
    return object;
}

static int lines(void)
{
    int n = 0;
    for (const char *at = http.sent; (at = strchr(at, '\n')); at++)
        n++;
    return n;
}

Test(api_formats, ollama_stream)
{
    ollama("/api/chat", "");
    tell(12, FINISH_STOP);
    cr_expect(strstr(http.fields, "Content-Type: application/x-ndjson\n"), "%s", http.fields);
    static const char *const messages[] = {
        "{\"content\":\"\",\"role\":\"assistant\",\"thinking\":\"Why\"}",
        "{\"content\":\"\",\"role\":\"assistant\",\"thinking\":\" not\"}",
        "{\"content\":\"Hel\",\"role\":\"assistant\"}",
        "{\"content\":\"lo\",\"role\":\"assistant\"}",
        ("{\"content\":\"\",\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":{\"x\":1},\"index\":0,"
         "\"name\":\"f\"}}]}"),
        "{\"content\":\"\",\"role\":\"assistant\"}",
    };
    int n = sizeof messages / sizeof *messages;
    cr_expect(lines() == n && http.ended, "%s", http.sent);
    for (int i = 0; i < n; i++) {
        json_t *object = line(i);
        expect(object, "message", messages[i]);
        expect(object, "done", i == n - 1 ? "true" : "false");
        if (i == n - 1) {
            expect(object, "done_reason", "\"stop\"");
            expect(object, "prompt_eval_count", "5");
            expect(object, "eval_count", "12");
            cr_expect_gt(json_integer_value(json_object_get(object, "total_duration")), 0);
        }
        json_decref(object);
    }
}

Test(api_formats, ollama_whole)
{
    ollama("/api/chat", "\"stream\":false");
    tell(12, FINISH_LENGTH);
    json_t *body = event(NULL);
    expect(body, "message", "{\"content\":\"Hello\",\"role\":\"assistant\",\"thinking\":\"Why not\",\"tool_calls\":[{"
                            "\"function\":{\"arguments\":{\"x\":1},\"index\":0,\"name\":\"f\"}}]}");
    expect(body, "done_reason", "\"length\"");
    expect(body, "eval_count", "12");
    json_decref(body);
}

Test(api_formats, ollama_generate)
{
    ollama("/api/generate", "");
    fake_text(0, 0, "<think>Why</think>He");
    fake_text(0, 0, "llo");
    fake_done(0, 0, FINISH_STOP, 3, true);
    cr_expect_eq(lines(), 4, "%s", http.sent);
    json_t *object = line(0);
    expect(object, "response", "\"\"");
    expect(object, "thinking", "\"Why\"");
    json_decref(object);
    object = line(2);
    expect(object, "response", "\"llo\"");
    expect(object, "message", "absent");
    json_decref(object);
    fake_free(&http);

    ollama("/api/generate", "\"stream\":false,\"raw\":true");
    fake_text(1, 0, "Hello");
    fake_done(1, 0, FINISH_STOP, 3, true);
    object = event(NULL);
    expect(object, "response", "\"Hello\"");
    expect(object, "done", "true");
    json_decref(object);
}

Test(api_formats, ollama_s_calls_that_were_cut_have_no_arguments)
{
    ollama("/api/chat", "");
    fake_text(0, 0, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": ");
    fake_done(0, 0, FINISH_LENGTH, 3, true);
    json_t *object = line(0);
    expect(object, "message/tool_calls/0/function/arguments", "{}");
    json_decref(object);
}

Test(api_formats, ollama_that_fails)
{
    ollama("/api/chat", "");
    fake_text(0, 0, "a");
    fake_failed(0, ERR_DEVICE, "no device");
    cr_expect(strstr(http.sent, "\n{\"error\":\"no device\"}\n"), "%s", http.sent);
    cr_expect(http.ended);
    fake_free(&http);

    fake.refuse = ERR_BUSY;
    fake.accept = fake.n_submitted;
    ollama("/api/chat", "");
    cr_expect_eq(http.status, 429);
    cr_expect_str_eq(http.sent, "{\"error\":\"refused\"}");
    fake_free(&http);
    fake_ask(&http, "GET", "/api/colour", NULL);
    cr_expect_eq(http.status, 404);
    cr_expect_str_eq(http.sent, "{\"error\":\"Unknown route: GET /api/colour\"}");
}

Test(api_formats, lines_know_no_comments)
{
    ollama("/api/chat", "");
    fake_queued(0, 3);
    cr_expect_eq(http.status, 0);
    fake_free(&http);
    messages("\"stream\":true");
    fake_queued(1, 3);
    cr_expect(strstr(http.sent, ": queued, 3 ahead"));
}

Test(api_formats, ollama_asks_only_for_the_model)
{
    fake_ask(&http, "POST", "/api/chat", "{\"model\":\"tiny\"}");
    json_t *body = event(NULL);
    expect(body, "done_reason", "\"load\"");
    expect(body, "message", "{\"content\":\"\",\"role\":\"assistant\"}");
    json_decref(body);
    fake_free(&http);
    fake_ask(&http, "POST", "/api/generate", "{\"model\":\"tiny\",\"keep_alive\":0}");
    body = event(NULL);
    expect(body, "done_reason", "\"unload\"");
    expect(body, "response", "\"\"");
    json_decref(body);
    cr_expect_eq(fake.n_submitted, 0);
}

/* ---- with a store ---- */

static char store[64];

static void begin_kept(void)
{
    strcpy(store, "/tmp/hearth-kept-XXXXXX");
    close(mkstemp(store));
    struct api_options options = {.defaults = {-1, -1, -1, -1, -1}, .store = store, .store_bytes = 200000};
    fake_api(&options, true);
}

static void end_kept(void)
{
    end();
    unlink(store);
}

TestSuite(api_kept, .init = begin_kept, .fini = end_kept);

/* Until the thread pool has done its part. */
static void wait_for_answer(void)
{
    for (int i = 0; i < 5000 && !http.ended; i++)
        fake_turn();
    cr_assert(http.ended);
}

Test(api_kept, is_told_after_it_is_kept)
{
    responses("\"stream\":true");
    fake_text(0, 0, "a");
    fake_done(0, 0, FINISH_STOP, 1, true);
    cr_expect(!strstr(http.sent, "response.completed") && !http.ended);
    wait_for_answer();
    json_t *last = event("response.completed");
    expect(last, "response/store", "true");
    char id[64], url[96];
    snprintf(id, sizeof id, "%s", json_string_value(json_object_get(json_object_get(last, "response"), "id")));
    json_decref(last);
    fake_free(&http);

    snprintf(url, sizeof url, "/v1/responses/%s", id);
    fake_ask(&http, "GET", url, NULL);
    wait_for_answer();
    json_t *body = event(NULL);
    cr_expect_str_eq(json_string_value(json_object_get(body, "id")), id);
    json_decref(body);
}

Test(api_kept, a_client_that_leaves_meanwhile_harms_nobody)
{
    responses("");
    fake_text(0, 0, "a");
    fake_done(0, 0, FINISH_STOP, 1, true);
    fake_gone(&http, false);
}

Test(api_kept, what_cannot_be_kept_fails)
{
    responses("\"stream\":true,\"store\":true");
    fake_text(0, 0, "a");
    json_t *first = event("response.created");
    json_decref(first);
    char *much = calloc(1, 300001);
    memset(much, 'x', 300000);
    fake_text(0, 0, much);
    free(much);
    fake_done(0, 0, FINISH_STOP, 1, true);
    wait_for_answer();
    cr_expect(!strstr(http.sent, "response.completed"));
    json_t *last = event("response.failed");
    expect(last, "response/error/code", "\"invalid_prompt\"");
    json_decref(last);
}
