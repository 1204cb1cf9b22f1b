/* Routes, keys, CORS and the answers that need no engine. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "../../engine/log.h"
#include "anthropic.h"
#include "models.h"
#include "ollama.h"
#include "openapi.h"
#include "responses.h"
#include "slots.h"

enum route_id {
    ROUTE_HEALTH,
    ROUTE_ROOT,
    ROUTE_METRICS,
    ROUTE_SLOTS,
    ROUTE_JOB,
    ROUTE_RESPONSE,
    ROUTE_MODELS,
    ROUTE_MODEL,
    ROUTE_PROPS,
    ROUTE_TOKENIZER,
    ROUTE_ADAPTERS,
    ROUTE_OLLAMA_TAGS,
    ROUTE_OLLAMA_SHOW,
    ROUTE_OLLAMA_RUNNING,
    ROUTE_OLLAMA_VERSION,
    ROUTE_OPENAPI
};

static const struct route {
    const char *path; /* after an optional /v1; one that ends in '/' takes what follows */
    enum route_id id;
    bool post, open;  /* else GET; open: without a key */
    bool early;       /* also while there is no model */
    bool any;         /* tells by itself which methods it takes */
    unsigned endpoint; /* ROUTE_JOB: enum api_endpoint */
} routes[] = {
    {"/health", ROUTE_HEALTH, false, true, true},
    {"/metrics", ROUTE_METRICS, false, false, true},
    {"/slots", ROUTE_SLOTS, false, false, true},
    {"/chat/completions", ROUTE_JOB, true, false, false, .endpoint = API_CHAT},
    {"/completions", ROUTE_JOB, true, false, false, .endpoint = API_TEXT},
    {"/infill", ROUTE_JOB, true, false, false, .endpoint = API_INFILL},
    {"/embeddings", ROUTE_JOB, true, false, false, .endpoint = API_EMBEDDINGS},
    {"/responses", ROUTE_JOB, true, false, false, .endpoint = API_RESPONSES},
    {"/responses/input_tokens", ROUTE_JOB, true, false, false, .endpoint = API_RESPONSES | API_PROMPT_ONLY},
    {"/responses/", ROUTE_RESPONSE, false, false, true, .any = true},
    {"/messages", ROUTE_JOB, true, false, false, .endpoint = API_MESSAGES},
    {"/messages/count_tokens", ROUTE_JOB, true, false, false, .endpoint = API_MESSAGES | API_PROMPT_ONLY},
    {"/models", ROUTE_MODELS, false, false, false},
    {"/models/", ROUTE_MODEL, false, false, false},
    {"/props", ROUTE_PROPS, false, false, false},
    {"/openapi.json", ROUTE_OPENAPI, false, true, true},
    {"/tokenizer_info", ROUTE_TOKENIZER, false, false, false},
    {"/lora-adapters", ROUTE_ADAPTERS, false, false, false, .any = true},
    {"/tokenize", ROUTE_JOB, true, false, false, .endpoint = API_TOKENIZE | API_PROMPT_ONLY},
    {"/detokenize", ROUTE_JOB, true, false, false, .endpoint = API_DETOKENIZE | API_PROMPT_ONLY},
    {"/apply-template", ROUTE_JOB, true, false, false, .endpoint = API_CHAT | API_PROMPT_ONLY},
    {"/api/chat", ROUTE_JOB, true, false, false, .endpoint = API_OLLAMA_CHAT},
    {"/api/generate", ROUTE_JOB, true, false, false, .endpoint = API_OLLAMA_GENERATE},
    {"/api/tags", ROUTE_OLLAMA_TAGS, false, false, false},
    {"/api/show", ROUTE_OLLAMA_SHOW, true, false, false, .endpoint = API_OLLAMA_SHOW},
    {"/api/ps", ROUTE_OLLAMA_RUNNING, false, false, false},
    {"/api/version", ROUTE_OLLAMA_VERSION, false, false, true},
};
static const struct route root_route = {"/", ROUTE_ROOT, false, true, true};

/* "*" never covers Authorization, and wildcards inside names do not exist: they are listed. */
static const char cors_headers[] =
    "Authorization, Content-Type, Accept, X-Request-Id, X-Deadline-Ms, X-Cache-Explain, "
    "OpenAI-Organization, OpenAI-Project, OpenAI-Beta, Idempotency-Key, X-Api-Key, "
    "Anthropic-Version, Anthropic-Beta, Anthropic-Dangerous-Direct-Browser-Access, "
    "x-stainless-arch, x-stainless-async, x-stainless-custom-poll-interval, "
    "x-stainless-helper-method, x-stainless-lang, x-stainless-os, x-stainless-package-version, "
    "x-stainless-poll-helper, x-stainless-read-timeout, x-stainless-retry-count, x-stainless-runtime, "
    "x-stainless-runtime-version, x-stainless-timeout";

static const char root_text[] =
    "hearth " HEARTH_VERSION ": an OpenAI-compatible API.\n"
    "POST /v1/chat/completions, POST /v1/completions, POST /v1/responses, POST /v1/messages, POST /v1/embeddings, "
    "GET /v1/models, POST /infill, POST /tokenize, POST /detokenize, GET /tokenizer_info, POST /apply-template, GET /health, GET /metrics, "
    "GET /slots, GET /props, GET and POST /lora-adapters, GET /openapi.json; "
    "Ollama's POST /api/chat, POST /api/generate, GET /api/tags, POST /api/show, GET /api/ps, GET /api/version\n";

/* ---- answers ---- */

size_t api_fields(const struct api *api, struct http_field *fields)
{
    size_t n = 0;
    if (!api->origin)
        return 0;
    fields[n++] = (struct http_field){"Access-Control-Allow-Origin", api->origin};
    fields[n++] = (struct http_field){"Access-Control-Expose-Headers", "X-Request-Id, Request-Id, Retry-After"};
    if (strcmp(api->origin, "*") != 0)
        fields[n++] = (struct http_field){"Vary", "Origin"};
    return n;
}

void api_reply(struct api *api, struct http_request *http, int status, const char *type, const char *id,
               const void *body, size_t length)
{
    struct http_field fields[API_FIELDS + 2] = {{"Content-Type", type}};
    size_t n = 1;
    if (id)
        fields[n++] = (struct http_field){api_id_name(http), id};
    n += api_fields(api, fields + n);
    metrics_answer(&api->metrics, status);
    http_respond(http, status, fields, n, body, length);
}

static bool is_under(const struct http_request *http, const char *prefix)
{
    const char *path = http_path(http);
    if (path && strncmp(path, "/v1/", 4) == 0)
        path += 3;
    return path && strncmp(path, prefix, strlen(prefix)) == 0;
}

/* Anthropic's clients expect ids and errors of their own. */
static bool is_anthropic(const struct http_request *http)
{
    return is_under(http, "/messages") || http_header(http, "anthropic-version");
}

const char *api_id_name(const struct http_request *http)
{
    return is_anthropic(http) ? "Request-Id" : "X-Request-Id";
}

static void reply_json(struct api *api, struct http_request *http, json_t *object)
{
    struct bytes body = {0};
    bytes_add_json(&body, object);
    json_decref(object);
    if (body.failed)
        api_fail(http, 503, "Out of memory.", api);
    else
        api_reply(api, http, 200, "application/json", NULL, body.data, body.length);
    bytes_dispose(&body);
}

/* 32 hex digits. */
static void make_id(char *out)
{
    unsigned char random[16] = {0};
    uint64_t now = uv_hrtime();
    if (uv_random(NULL, NULL, random, sizeof random, 0, NULL))
        memcpy(random, &now, sizeof now);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(out + 2 * i, 3, "%02x", random[i]);
}

static int reply_error(struct api *api, struct http_request *http, const struct api_error *error,
                       const char *allow)
{
    struct http_field fields[API_FIELDS + 6] = {{"Content-Type", "application/json"}};
    char retry[16];
    size_t n = 1;
    if (error->retry_seconds > 0) {
        snprintf(retry, sizeof retry, "%d", error->retry_seconds);
        fields[n++] = (struct http_field){"Retry-After", retry};
    }
    if (error->final)
        fields[n++] = (struct http_field){"X-Should-Retry", "false"};
    if (error->status == 401)
        fields[n++] = (struct http_field){"WWW-Authenticate", "Bearer"};
    if (allow)
        fields[n++] = (struct http_field){"Allow", allow};
    n += api_fields(api, fields + n);

    struct bytes body = {0};
    json_t *object;
    char id[40] = "req_";
    if (is_anthropic(http)) {
        make_id(id + 4);
        fields[n++] = (struct http_field){"Request-Id", id};
        object = anthropic_error_json(error, id);
    } else if (is_under(http, "/api/")) {
        object = ollama_error_json(error);
    } else {
        object = api_error_json(error);
    }
    bytes_add_json(&body, object);
    json_decref(object);
    metrics_answer(&api->metrics, error->status);
    if (body.failed)
        http_respond(http, error->status, fields, n, "{\"error\":{}}", 12);
    else
        http_respond(http, error->status, fields, n, body.data, body.length);
    bytes_dispose(&body);
    return error->status;
}

int api_reply_error(struct api *api, struct http_request *http, const struct api_error *error)
{
    return reply_error(api, http, error, NULL);
}

void api_fail(struct http_request *http, int status, const char *message, void *user)
{
    struct api_error error;
    const char *code = status == 413 ? "request_too_large" : NULL;
    api_error_set(&error, status, code, NULL, "%s", message);
    log_info("refused a request: %d %s", status, error.err.text);
    api_reply_error(user, http, &error);
}

static void refuse(struct api *api, struct http_request *http, const struct api_error *error,
                   const char *allow)
{
    log_info("%s %s %d", http_method(http), http_path(http), error->status);
    reply_error(api, http, error, allow);
}

void api_refuse(struct api *api, struct http_request *http, const struct api_error *error)
{
    refuse(api, http, error, NULL);
}

/* ---- routes ---- */

static const struct route *find_route(const char *path, const char **rest)
{
    if (strncmp(path, "/v1/", 4) == 0)
        path += 3;
    if (strcmp(path, "/") == 0 || strcmp(path, "/v1") == 0)
        return &root_route;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const struct route *route = &routes[i];
        size_t length = strlen(route->path);
        if (strncmp(path, route->path, length) != 0)
            continue;
        *rest = path + length;
        /* A slash too many at the end is forgiven. */
        if (**rest == '\0' || strcmp(*rest, "/") == 0)
            return route;
        if (route->path[length - 1] == '/')
            return route;
    }
    return NULL;
}

/* Takes the same time whatever `given` has in common with the key. */
static bool same_secret(const char *given, const char *key)
{
    size_t n = strlen(given), n_key = strlen(key);
    unsigned different = n != n_key;
    for (size_t i = 0; i < n; i++)
        different |= (unsigned char)given[i] ^ (unsigned char)key[n_key > 0 ? i % n_key : 0];
    return different == 0;
}

static bool has_key(const struct api *api, const struct http_request *http)
{
    if (!api->key)
        return true;
    const char *given = http_header(http, "X-Api-Key");
    if (given && same_secret(given, api->key))
        return true;
    given = http_header(http, "Authorization");
    return given && strncasecmp(given, "Bearer ", 7) == 0 && same_secret(given + 7, api->key);
}

static void options(struct api *api, struct http_request *http, const char *allow)
{
    struct http_field fields[API_FIELDS + 4] = {{"Allow", allow}};
    size_t n = 1;
    if (api->origin) {
        fields[n++] = (struct http_field){"Access-Control-Allow-Methods", allow};
        fields[n++] = (struct http_field){"Access-Control-Allow-Headers", cors_headers};
        fields[n++] = (struct http_field){"Access-Control-Max-Age", "86400"};
        n += api_fields(api, fields + n);
    }
    http_respond(http, 204, fields, n, NULL, 0);
}

enum api_state api_state(const struct api *api)
{
    if (api->draining)
        return API_DRAINING;
    if (!api->engine)
        return API_LOADING;
    return api->options.stalled && api->options.stalled(api->options.user) ? API_STALLED : API_READY;
}

const char *api_state_name(enum api_state state)
{
    static const char *const names[] = {[API_READY] = "ready", [API_LOADING] = "loading",
                                        [API_DRAINING] = "draining", [API_STALLED] = "stalled"};
    return names[state];
}

/* 200 where requests should be sent here; balancers read no more than that. */
static void health(struct api *api, struct http_request *http)
{
    enum api_state state = api_state(api);
    bool ready = state == API_READY;
    char text[64];
    int n = snprintf(text, sizeof text, "{\"status\":\"%s\"}", ready ? "ok" : api_state_name(state));
    api_reply(api, http, ready ? 200 : 503, "application/json", NULL, text, (size_t)n);
}

static void models(struct api *api, struct http_request *http, const char *name)
{
    struct api_error error;
    bool anthropic = is_anthropic(http);
    if (!name || !*name) {
        json_t *list = api_model_list_json(api->shelf, api->created);
        reply_json(api, http, anthropic ? anthropic_model_list_json(list) : list);
        return;
    }
    const struct served *served = shelf_named(api->shelf, name, &error);
    json_t *model = served ? api_model_json(served, api->created) : NULL;
    if (served)
        reply_json(api, http, anthropic ? anthropic_model_json(model) : model);
    else
        api_refuse(api, http, &error);
}

/* GET /props and /tokenizer_info, of the model that the query names. */
static void about_model(struct api *api, struct http_request *http,
                        json_t *(*about)(const struct api *, const struct served *))
{
    struct api_error error;
    const char *name = http_query(http, "model");
    const struct served *served = name ? shelf_named(api->shelf, name, &error) : shelf_find(api->shelf, NULL, &error);
    if (served)
        reply_json(api, http, about(api, served));
    else
        api_refuse(api, http, &error);
}

/* /lora-adapters */
static void adapters(struct api *api, struct http_request *http)
{
    static const char allow[] = "GET, HEAD, POST, OPTIONS";
    const char *method = http_method(http);
    struct api_error error;
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        reply_json(api, http, api_adapters_json(&api->adapters));
    } else if (strcmp(method, "POST") == 0) {
        size_t length;
        const char *body = http_body(http, &length);
        if (api_adapters_set(&api->adapters, body, length, &error))
            refuse(api, http, &error, NULL);
        else
            reply_json(api, http, json_pack("{s:b}", "success", true));
    } else {
        api_error_set(&error, 405, "method_not_allowed", NULL, "This route takes %s.", allow);
        refuse(api, http, &error, allow);
    }
}

/* ---- requests that wait for the model ---- */

static void let_go(struct held *held)
{
    *(held->previous ? &held->previous->next : &held->api->held) = held->next;
    if (held->next)
        held->next->previous = held->previous;
    http_set_user(held->http, NULL, NULL);
    free(held);
}

static void held_gone(void *data, bool finished)
{
    (void)finished;
    let_go(data);
}

static bool hold(struct api *api, struct http_request *http)
{
    struct held *held = malloc(sizeof *held);
    if (!held)
        return false;
    *held = (struct held){.api = api, .http = http, .next = api->held};
    if (api->held)
        api->held->previous = held;
    api->held = held;
    http_set_user(http, held, held_gone);
    return true;
}

/* Answers them, the oldest first. */
static void release_held(struct api *api)
{
    struct held *last = api->held;
    while (last && last->next)
        last = last->next;
    while (last) {
        struct held *previous = last->previous;
        struct http_request *http = last->http;
        let_go(last);
        api_handle(http, api);
        last = previous;
    }
}

/* True while there is nobody to serve the route: the request waits, or gets a 503. */
static bool refuse_unready(struct api *api, struct http_request *http, const struct route *route)
{
    struct api_error error;
    if (!api->engine && !api->draining && api->options.hold && hold(api, http))
        return true;
    if (api->refusing && route->post) {
        api_error_engine(&error, &(struct err){.code = ERR_DRAINING}, NULL);
    } else if (!api->engine) {
        api_error_set(&error, 503, "model_loading", NULL, "The model is being loaded; try again soon.");
        error.retry_seconds = 2;
    } else {
        return false;
    }
    api_refuse(api, http, &error);
    return true;
}

void api_handle(struct http_request *http, void *user)
{
    struct api *api = user;
    const char *method = http_method(http), *rest = "";
    const struct route *route = find_route(http_path(http), &rest);
    struct api_error error;
    if (!route) {
        api_error_set(&error, 404, "not_found", NULL, "Unknown route: %.20s %.160s", method, http_path(http));
        api_refuse(api, http, &error);
        return;
    }
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0, post = strcmp(method, "POST") == 0;
    const char *allow = route->any    ? "GET, HEAD, POST, DELETE, OPTIONS"
                        : route->post ? "POST, OPTIONS"
                                      : "GET, HEAD, OPTIONS";
    if (strcmp(method, "OPTIONS") == 0) {
        options(api, http, allow);
        return;
    }
    if (!route->any && !(route->post ? post : get)) {
        api_error_set(&error, 405, "method_not_allowed", NULL, "This route takes %s.", allow);
        refuse(api, http, &error, allow);
        return;
    }
    if (!route->open && !has_key(api, http)) {
        api_error_set(&error, 401, "invalid_api_key", NULL, "Incorrect API key provided.");
        api_refuse(api, http, &error);
        return;
    }
    if (!route->early && refuse_unready(api, http, route))
        return;

    switch (route->id) {
    case ROUTE_HEALTH: health(api, http); break;
    case ROUTE_ROOT: api_reply(api, http, 200, "text/plain", NULL, root_text, sizeof root_text - 1); break;
    case ROUTE_METRICS: metrics_reply(api, http); break;
    case ROUTE_SLOTS: reply_json(api, http, slots_json(api)); break;
    case ROUTE_JOB: job_start(api, http, route->endpoint); break;
    case ROUTE_RESPONSE: responses_route(api, http, rest); break;
    case ROUTE_MODELS: models(api, http, NULL); break;
    case ROUTE_MODEL: models(api, http, rest); break;
    case ROUTE_PROPS: about_model(api, http, api_props_json); break;
    case ROUTE_TOKENIZER: about_model(api, http, api_tokenizer_json); break;
    case ROUTE_ADAPTERS: adapters(api, http); break;
    case ROUTE_OLLAMA_TAGS: ollama_tags(api, http); break;
    case ROUTE_OLLAMA_SHOW: ollama_show(api, http); break;
    case ROUTE_OLLAMA_RUNNING: reply_json(api, http, ollama_running_json(api)); break;
    case ROUTE_OLLAMA_VERSION:
        reply_json(api, http, json_pack("{s:s, s:s}", "version", OLLAMA_VERSION, "hearth", HEARTH_VERSION));
        break;
    case ROUTE_OPENAPI:
        api_reply(api, http, 200, "application/json", NULL, api->description.data, api->description.length);
        break;
    }
}

/* ---- life ---- */

/* What /openapi.json gives. */
static void describe(struct api *api)
{
    enum { N = sizeof routes / sizeof *routes };
    struct openapi_route list[N];
    for (size_t i = 0; i < N; i++)
        list[i] = (struct openapi_route){routes[i].path, routes[i].endpoint, routes[i].post, routes[i].open};
    openapi_write(&api->description, list, N, api->key != NULL);
}

static void dispose(struct api *api)
{
    archive_close(api->archive);
    bytes_dispose(&api->description);
    free(api->key);
    free(api->origin);
    free(api);
}

int api_create(struct api **out, uv_loop_t *loop, const struct api_options *given, struct err *err)
{
    struct api *api = calloc(1, sizeof *api);
    if (!api)
        return err_set(err, ERR_NOMEM, "out of memory");
    api->loop = loop;
    api->options = *given;
    api->key = given->api_key ? strdup(given->api_key) : NULL;
    api->origin = given->cors_origin ? strdup(given->cors_origin) : NULL;
    json_object_seed(0); /* before threads build objects */
    describe(api);
    if ((given->api_key && !api->key) || (given->cors_origin && !api->origin) || api->description.failed) {
        dispose(api);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    int code = given->store ? archive_open(&api->archive, given->store, given->store_bytes, given->store_days, err) : 0;
    if (code) {
        dispose(api);
        return code;
    }
    api->metrics.started = time(NULL);
    uv_timer_init(loop, &api->tick);
    api->tick.data = api;
    *out = api;
    return 0;
}

void api_ready(struct api *api, struct engine *engine, struct shelf *shelf)
{
    api->engine = engine;
    api->shelf = shelf;
    api->created = time(NULL);
    api_adapters_open(&api->adapters, &shelf->options.model);
    release_held(api);
}

void api_drain(struct api *api, bool refuse)
{
    api->draining = true;
    api->refusing = refuse || !api->engine;
    if (!api->engine)
        release_held(api);
}

size_t api_active(const struct api *api)
{
    return api->n_jobs + api->n_looks;
}

void api_event(const struct engine_event *event)
{
    job_event(event);
}

void api_close(struct api *api)
{
    uv_close((uv_handle_t *)&api->tick, NULL);
}

void api_destroy(struct api *api)
{
    if (!api)
        return;
    job_destroy_all(api);
    dispose(api);
}
