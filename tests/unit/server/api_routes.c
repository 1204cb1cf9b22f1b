/* Routes, methods, keys, CORS, and what is said while loading and draining. */
#include "api_fakes.h"

#include <criterion/criterion.h>
#include <string.h>

static struct http_request http;

static void ask(const char *method, const char *path, int status)
{
    fake_free(&http);
    fake_ask(&http, method, path, NULL);
    cr_expect_eq(http.status, status, "%s %s: %d", method, path, http.status);
}

static void finish(void)
{
    fake_free(&http);
    fake_end();
}

Test(api_routes, with_and_without_prefix, .fini = finish)
{
    fake_api(NULL, true);
    static const char *const gets[] = {
        "/health", "/", "/models", "/v1/models", "/v1/models/", "/v1/models/tiny", "/models/tiny", "/v1",
        "/openapi.json", "/v1/openapi.json"};
    for (size_t i = 0; i < sizeof gets / sizeof *gets; i++) {
        ask("GET", gets[i], 200);
        ask("HEAD", gets[i], 200);
        ask("POST", gets[i], 405);
        cr_expect(strstr(http.fields, "Allow: GET, HEAD, OPTIONS\n"));
        ask("OPTIONS", gets[i], 204);
    }
    static const char *const posts[] = {"/chat/completions", "/v1/chat/completions", "/completions",
                                        "/v1/completions/"};
    for (size_t i = 0; i < sizeof posts / sizeof *posts; i++) {
        ask("POST", posts[i], 400);
        ask("GET", posts[i], 405);
        cr_expect(strstr(http.fields, "Allow: POST, OPTIONS\n"));
    }
    static const char *const unknown[] = {"/v2/models", "/healthy",          "/v1/completionsx",
                                          "/v1/chat",   "/v1/completions/x", ""};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        ask("GET", unknown[i], 404);
        cr_expect(strstr(http.sent, "{\"error\":{\"message\":\"Unknown route"), "%s", http.sent);
        cr_expect(
            strstr(http.sent, "\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"not_found\"}}"));
    }
}

Test(api_routes, models, .fini = finish)
{
    fake_api(NULL, true);
    ask("GET", "/v1/models", 200);
    cr_expect(strstr(http.sent,
                     "{\"object\":\"list\",\"data\":[{\"id\":\"tiny\",\"object\":\"model\",\"created\":"));
    ask("GET", "/v1/models/other/name", 404);
    cr_expect(strstr(http.sent, "\"code\":\"model_not_found\""));
}

Test(api_routes, description, .fini = finish)
{
    fake_api(&(struct api_options){.api_key = "sesame"}, false);
    ask("GET", "/openapi.json", 200);
    cr_expect(strstr(http.sent, "{\"openapi\":\"3.1.0\""));
    cr_expect(strstr(http.sent, "\"security\":[{\"bearer\":[]}"));
    cr_expect(strstr(http.sent, "\"operationId\":\"getHealth\"") && strstr(http.sent, "\"security\":[]"));
    cr_expect(strstr(http.sent, "\"requestBody\":{\"required\":true"));
    cr_expect_not(strstr(http.sent, "\"x\":") || strstr(http.sent, "\"kinds\":"));
}

Test(api_routes, loading_and_draining, .fini = finish)
{
    struct api *api = fake_api(NULL, false);
    ask("GET", "/health", 503);
    cr_expect_str_eq(http.sent, "{\"status\":\"loading\"}");
    ask("POST", "/v1/chat/completions", 503);
    cr_expect(strstr(http.sent, "\"code\":\"model_loading\"") && strstr(http.fields, "Retry-After: "));
    ask("GET", "/v1/models", 503);
    ask("GET", "/v1/nothing", 404);

    api_ready(api, (struct engine *)&fake, fake_shelf());
    ask("GET", "/health", 200);
    cr_expect_str_eq(http.sent, "{\"status\":\"ok\"}");
    api_drain(api, true);
    ask("GET", "/health", 503);
    cr_expect_str_eq(http.sent, "{\"status\":\"draining\"}");
    ask("POST", "/v1/completions", 503);
    cr_expect(strstr(http.sent, "\"code\":\"draining\"") && strstr(http.fields, "Retry-After: "));
    ask("GET", "/v1/models", 200);
}

Test(api_routes, key, .fini = finish)
{
    fake_api(&(struct api_options){.api_key = "sesame"}, true);
    ask("GET", "/health", 200);
    static const char *const wrong[] = {
        NULL, "", "sesame", "Bearer ", "Bearer sesam", "Bearer sesamex", "Bearer sesamesesame"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        fake_free(&http);
        http.authorization = wrong[i];
        fake_ask(&http, "GET", "/v1/models", NULL);
        cr_expect_eq(http.status, 401, "taken: %s", wrong[i] ? wrong[i] : "none");
        cr_expect(strstr(http.sent, "\"code\":\"invalid_api_key\""));
    }
    fake_free(&http);
    http.authorization = "bearer sesame";
    fake_ask(&http, "GET", "/v1/models", NULL);
    cr_expect_eq(http.status, 200);
    /* A browser asks before it may send the key. */
    ask("OPTIONS", "/v1/chat/completions", 204);
}

Test(api_routes, cors, .fini = finish)
{
    fake_api(&(struct api_options){.cors_origin = "https://example.org"}, true);
    ask("OPTIONS", "/v1/chat/completions", 204);
    cr_expect(strstr(http.fields, "Access-Control-Allow-Origin: https://example.org\n"));
    cr_expect(strstr(http.fields, "Access-Control-Allow-Headers: Authorization, Content-Type,"));
    cr_expect(strstr(http.fields, "x-stainless-retry-count"));
    cr_expect(strstr(http.fields, "Vary: Origin\n"));
    ask("POST", "/v1/chat/completions", 400);
    cr_expect(strstr(http.fields, "Access-Control-Allow-Origin: https://example.org\n"));
    ask("GET", "/nowhere", 404);
    cr_expect(strstr(http.fields, "Access-Control-Allow-Origin"));
}

Test(api_routes, failures_of_the_http_layer, .fini = finish)
{
    struct api *api = fake_api(NULL, true);
    fake_free(&http);
    http.method = "POST";
    http.path = "/";
    api_fail(&http, 413, "too much \xff", api);
    cr_expect_eq(http.status, 413);
    cr_expect_str_eq(
        http.sent, "{\"error\":{\"message\":\"too much ?\",\"type\":\"invalid_request_error\",\"param\":null,"
                   "\"code\":\"request_too_large\"}}");
}
