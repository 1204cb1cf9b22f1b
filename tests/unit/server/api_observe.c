/* What is counted of requests, how it is told, and requests that wait for the model. */
#include "api_fakes.h"

#include <criterion/criterion.h>
#include <string.h>

static struct http_request http, waiting[3];
static bool stalled;

static const char *ask(const char *path, int status)
{
    fake_free(&http);
    fake_ask(&http, "GET", path, NULL);
    cr_assert_eq(http.status, status, "%s: %d", path, http.status);
    return http.sent;
}

static void finish(void)
{
    fake_free(&http);
    for (int i = 0; i < 3; i++) fake_free(&waiting[i]);
    fake_end();
}

static bool is_stalled(void *user)
{
    cr_expect_eq(user, &stalled);
    return stalled;
}

static void tokens(size_t submitted, int choice, const char *text)
{
    struct engine_token token = {.id = 'a'};
    fake_text_tokens(submitted, choice, text, &token, 1);
}

#define expect_line(line) cr_expect(strstr(ask("/metrics", 200), "\n" line "\n"), "no %s in\n%s", line, http.sent)

Test(api_observe, latencies, .fini = finish)
{
    fake_api(NULL, true);
    expect_line("hearth_time_to_first_token_seconds_count{model=\"tiny\"} 0");
    fake_ask(&waiting[0], "POST", "/v1/completions", "{\"prompt\":\"abc\",\"n\":2,\"stream\":true}");
    tokens(0, 0, "x");
    tokens(0, 0, "y");
    uv_sleep(60);
    tokens(0, 0, "z");
    tokens(0, 1, "x"); /* another choice's first: neither the request's first nor after another */
    tokens(0, 1, "y");
    fake_text(0, 1, "held"); /* no token ends in it */
    expect_line("hearth_time_to_first_token_seconds_count{model=\"tiny\"} 1");
    expect_line("hearth_inter_token_latency_seconds_count{model=\"tiny\"} 3");
    expect_line("hearth_inter_token_latency_seconds_bucket{model=\"tiny\",le=\"0.05\"} 2");
    expect_line("hearth_inter_token_latency_seconds_bucket{model=\"tiny\",le=\"+Inf\"} 3");
    fake_done(0, 0, FINISH_STOP, 3, false);
    expect_line("hearth_prefix_cache_prompt_tokens_total{model=\"tiny\"} 0");
    fake_done(0, 1, FINISH_LENGTH, 2, true);
    expect_line("hearth_prefix_cache_prompt_tokens_total{model=\"tiny\"} 3");
    expect_line("hearth_prefix_cache_hit_tokens_total{model=\"tiny\"} 2");
    expect_line("hearth_choices_ended_total{model=\"tiny\",reason=\"stop\"} 1");
    expect_line("hearth_choices_ended_total{model=\"tiny\",reason=\"length\"} 1");
}

Test(api_observe, waiting_for_the_reader_does_not_count, .fini = finish)
{
    fake_api(NULL, true);
    waiting[0].stuck = true;
    fake_ask(&waiting[0], "POST", "/v1/completions", "{\"prompt\":\"abc\",\"stream\":true}");
    int credit = fake.submitted[0].request.credit;
    for (int i = 0; i < credit; i++) tokens(0, 0, "x");
    waiting[0].pending = 0;
    waiting[0].drained(waiting[0].user);
    cr_assert_eq(fake.submitted[0].credit, credit);
    uv_sleep(60);
    tokens(0, 0, "y");
    char line[100];
    snprintf(line, sizeof line, "\nhearth_inter_token_latency_seconds_bucket{model=\"tiny\",le=\"0.05\"} %d\n",
             credit - 1);
    cr_expect(strstr(ask("/metrics", 200), line), "%s", http.sent);
    snprintf(line, sizeof line, "\nhearth_inter_token_latency_seconds_count{model=\"tiny\"} %d\n", credit - 1);
    cr_expect(strstr(http.sent, line), "%s", http.sent);
}

Test(api_observe, labels_are_escaped, .fini = finish)
{
    fake_model_info()->name = "a\"b\\c\nd\xff";
    fake_api(NULL, true);
    expect_line("hearth_requests_total{model=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"} 0");
}

Test(api_observe, states, .fini = finish)
{
    struct api *api = fake_api(&(struct api_options){.stalled = is_stalled, .user = &stalled}, false);
    ask("/health", 503);
    expect_line("hearth_state{state=\"loading\"} 1");
    cr_expect_null(strstr(http.sent, "hearth_requests_total"), "there is no engine");
    cr_expect(strstr(ask("/slots", 200), "{\"state\":\"loading\",\"running\":0,\"waiting\":0,\"slots\":[]}"));
    api_ready(api, (struct engine *)&fake, fake_shelf());
    stalled = true;
    cr_expect_str_eq(ask("/health", 503), "{\"status\":\"stalled\"}");
    expect_line("hearth_state{state=\"stalled\"} 1");
    expect_line("hearth_state{state=\"ready\"} 0");
    stalled = false;
    ask("/health", 200);
    api_drain(api, false);
    cr_expect_str_eq(ask("/health", 503), "{\"status\":\"draining\"}");
}

Test(api_observe, answers_by_status, .fini = finish)
{
    fake_api(NULL, true);
    ask("/nowhere", 404);
    ask("/nowhere", 404);
    ask("/v1/models", 200);
    expect_line("hearth_http_answers_total{code=\"404\"} 2");
    cr_expect(strstr(http.sent, "\nhearth_http_answers_total{code=\"200\"} 1\n"));
}

Test(api_observe, slots, .fini = finish)
{
    fake_api(NULL, true);
    fake_ask(&waiting[0], "POST", "/v1/completions", "{\"prompt\":[\"abc\",\"de\"],\"stream\":true}");
    const char *view = ask("/slots", 200);
    cr_expect(strstr(view, "\"running\":4,\"waiting\":8,\"slots\":[{\"id\":\"cmpl-"), "%s", view);
    cr_expect(strstr(view, "\"prompt\":0,\"state\":\"waiting\",\"prompt_tokens\":3,"), "%s", view);
    cr_expect(strstr(view, "\"prompt\":1,\"state\":\"waiting\",\"prompt_tokens\":2,"), "%s", view);
}

Test(api_observe, held_until_the_model_is_there, .fini = finish)
{
    struct api *api = fake_api(&(struct api_options){.hold = true}, false);
    for (int i = 0; i < 3; i++)
        fake_ask(&waiting[i], "POST", "/v1/completions", i == 0 ? "{\"prompt\":\"first\"}" : "{\"prompt\":\"x\"}");
    cr_expect_eq(waiting[0].status | waiting[1].status | waiting[2].status, 0);
    ask("/health", 503);
    fake_gone(&waiting[1], false);
    api_ready(api, (struct engine *)&fake, fake_shelf());
    cr_assert_eq(fake.n_submitted, 2);
    cr_expect_eq(fake.submitted[0].request.n_prompt, 5, "in the order in which they came");
    fake_done(0, 0, FINISH_STOP, 0, true);
    cr_expect_eq(waiting[0].status, 200);
}

Test(api_observe, held_when_it_ends_before, .fini = finish)
{
    struct api *api = fake_api(&(struct api_options){.hold = true}, false);
    fake_ask(&waiting[0], "POST", "/v1/completions", "{\"prompt\":\"x\"}");
    fake_ask(&waiting[1], "GET", "/v1/models", NULL);
    api_drain(api, false);
    cr_expect_eq(waiting[0].status, 503);
    cr_expect(strstr(waiting[0].sent, "\"code\":\"draining\""));
    cr_expect_eq(waiting[1].status, 503);
}

Test(api_observe, a_quiet_drain_serves_those_who_come, .fini = finish)
{
    struct api *api = fake_api(NULL, true);
    api_drain(api, false);
    fake_ask(&waiting[0], "POST", "/v1/completions", "{\"prompt\":\"x\"}");
    cr_assert_eq(fake.n_submitted, 1);
    fake_done(0, 0, FINISH_STOP, 0, true);
    cr_expect_eq(waiting[0].status, 200);
}
