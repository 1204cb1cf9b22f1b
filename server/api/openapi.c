/* Puts the parameters, errors and keys into what openapi.json says of the API. */
#include "openapi.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "request.h"

extern const char openapi_json[]; /* made of openapi.json */

struct making {
    json_t *document, *kinds; /* of openapi.json */
};

static json_t *reference(const char *schema)
{
    return json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s", schema));
}

/* ---- parameters ---- */

/* What `param` may be; a new reference. openapi.json tells by its name where its kind says too little. */
static json_t *value_schema(const json_t *kinds, const struct api_param *param)
{
    const json_t *kind = json_object_get(kinds, param->name);
    if (!kind)
        kind = json_object_get(kinds, param->kind);
    json_t *schema = json_copy((json_t *)kind);
    const char *type = json_string_value(json_object_get(schema, "type"));
    bool whole = type && strcmp(type, "integer") == 0;
    if (param->minimum >= param->maximum || fabs(param->maximum) > INT32_MAX)
        return schema;
    if (json_object_set_new(schema, "minimum", whole ? json_integer((json_int_t)param->minimum)
                                                     : json_real(param->minimum)) ||
        json_object_set_new(schema, "maximum", whole ? json_integer((json_int_t)param->maximum)
                                                     : json_real(param->maximum))) {
        json_decref(schema);
        return NULL;
    }
    return schema;
}

/* The default as a value, where it is one, and else as a sentence. */
static int set_default(json_t *property, const struct api_param *param)
{
    bool server = strcmp(param->fallback, "SERVER") == 0;
    json_t *value = json_loads(param->fallback, JSON_DECODE_ANY, NULL);
    if (value)
        return json_object_set_new(property, "default", value);
    if (strcmp(param->fallback, "none") == 0)
        return 0;
    const char *words = server ? "the server's" : param->fallback;
    return json_object_set_new(property, "description", json_sprintf("%s Default: %s.", param->meaning, words));
}

/* null is as good as absent. What openapi.json does not know may be anything. */
static json_t *property(const json_t *kinds, const struct api_param *param, bool required)
{
    json_t *made = json_pack("{s:s}", "description", param->meaning), *schema = value_schema(kinds, param);
    int failed = !made;
    if (schema)
        failed |= json_object_set_new(made, "anyOf", required ? json_pack("[O]", schema)
                                                              : json_pack("[O, {s:s}]", schema, "type", "null"));
    json_decref(schema);
    if (!required)
        failed |= set_default(made, param);
    if (!failed)
        return made;
    json_decref(made);
    return NULL;
}

/* Where a parameter stands, which "options.seed" does inside of another one; *name becomes its own. */
static json_t *place(json_t *properties, const char **name)
{
    const char *dot = strchr(*name, '.');
    if (!dot)
        return properties;
    json_t *outer = json_object_getn(properties, *name, (size_t)(dot - *name));
    json_t *schema = json_array_get(json_object_get(outer, "anyOf"), 0), *inner = json_object_get(schema, "properties");
    *name = dot + 1;
    if (!inner && json_object_set_new(schema, "properties", json_object()))
        return NULL;
    return json_object_get(schema, "properties");
}

/* The body of an endpoint; `more` are names of members that its routes require. */
static json_t *body_schema(const json_t *kinds, unsigned endpoint, const json_t *more)
{
    json_t *properties = json_object(), *names = json_array(), *name;
    int failed = !properties || !names;
    size_t at;
    json_array_foreach(more, at, name)
        failed |= json_array_append(names, name);
    for (int row = 0; row < PARAM_COUNT && !failed; row++) {
        const struct api_param *param = &api_params[row];
        const char *own = param->name;
        bool required = strcmp(param->fallback, "required") == 0;
        if (!(param->endpoints & endpoint))
            continue;
        json_t *where = place(properties, &own);
        failed |= json_object_set_new(where, own, property(kinds, param, required));
        if (required)
            failed |= json_array_append_new(names, json_string(own));
    }
    json_t *schema = failed ? NULL : json_pack("{s:s, s:O, s:O}", "type", "object", "required", names, "properties",
                                               properties);
    json_decref(properties);
    json_decref(names);
    return schema;
}

/* ---- operations ---- */

/* Bodies have names, so that two routes may share one. */
static int add_body(const struct making *making, json_t *operation, const json_t *x, unsigned endpoint)
{
    char own[32];
    const char *name = json_string_value(json_object_get(x, "body"));
    json_t *schemas = json_object_get(json_object_get(making->document, "components"), "schemas");
    if (!name) {
        snprintf(own, sizeof own, "Request%x", endpoint);
        name = own;
    }
    if (!json_object_get(schemas, name) &&
        json_object_set_new(schemas, name, body_schema(making->kinds, endpoint, json_object_get(x, "required"))))
        return -1;
    return json_object_set_new(operation, "requestBody",
                               json_pack("{s:b, s:{s:{s:o}}}", "required", 1, "content", "application/json", "schema",
                                         reference(name)));
}

static json_t *error_response(const char *description, const char *schema)
{
    return json_pack("{s:s, s:{s:{s:o}}}", "description", description, "content", "application/json", "schema",
                     reference(schema));
}

static int add_responses(json_t *operation, const json_t *x)
{
    const char *answer = json_string_value(json_object_get(x, "answer"));
    const char *events = json_string_value(json_object_get(x, "events"));
    const char *lines = json_string_value(json_object_get(x, "lines"));
    const char *type = json_string_value(json_object_get(x, "type"));
    const char *error = json_string_value(json_object_get(x, "error"));
    error = error ? error : "Error";
    json_t *content = json_object();
    int failed = !content;
    if (answer)
        failed |= json_object_set_new(content, "application/json", json_pack("{s:o}", "schema", reference(answer)));
    if (type)
        failed |= json_object_set_new(content, type, json_pack("{s:{s:s}}", "schema", "type", "string"));
    if (events || lines) /* 3.1 knows no streams of objects */
        failed |= json_object_set_new(content, events ? "text/event-stream" : "application/x-ndjson",
                                      json_pack("{s:{s:s}, s:o}", "schema", "type", "string", "x-itemSchema",
                                                reference(events ? events : lines)));
    if (failed) {
        json_decref(content);
        return -1;
    }
    return json_object_set_new(operation, "responses",
                               json_pack("{s:{s:s, s:o}, s:o, s:o}", "200", "description", "The answer.", "content",
                                         content, "4XX", error_response("Something is wrong with the request.", error),
                                         "5XX", error_response("Something is wrong here, or too much is going on.",
                                                               error)));
}

/* Headers of what the model answers. */
static int add_headers(json_t *operation)
{
    return json_object_set_new(operation, "parameters",
                               json_pack("[{s:s}, {s:s}]", "$ref", "#/components/parameters/X-Deadline-Ms", "$ref",
                                         "#/components/parameters/X-Cache-Explain"));
}

static int complete(const struct making *making, json_t *operation, const struct openapi_route *route)
{
    json_t *x = json_incref(json_object_get(operation, "x"));
    int failed = 0;
    if (route->endpoint)
        failed |= add_body(making, operation, x, route->endpoint);
    if (route->endpoint && !(route->endpoint & API_PROMPT_ONLY))
        failed |= add_headers(operation);
    if (route->open && json_object_get(making->document, "security"))
        failed |= json_object_set_new(operation, "security", json_array());
    failed |= add_responses(operation, x);
    json_object_del(operation, "x");
    json_decref(x);
    return failed;
}

/* Whether a path of the document belongs to the route. */
static bool is_of(const char *path, const char *route)
{
    size_t length = strlen(route);
    if (strncmp(path, "/v1/", 4) == 0)
        path += 3;
    return strncmp(path, route, length) == 0 && path[length] == (route[length - 1] == '/' ? '{' : '\0');
}

/* A route that openapi.json does not know is there nevertheless, but bare: tests/api/test_openapi.py finds it. */
static int add_route(const struct making *making, const struct openapi_route *route)
{
    json_t *paths = json_object_get(making->document, "paths"), *item, *operation;
    const char *path, *method;
    bool found = false;
    json_object_foreach(paths, path, item) {
        if (!is_of(path, route->path))
            continue;
        found = true;
        json_object_foreach(item, method, operation) {
            if (json_is_object(operation) && complete(making, operation, route))
                return -1;
        }
    }
    if (found)
        return 0;
    method = route->post ? "post" : "get";
    item = json_pack("{s:{}}", method);
    if (json_object_set_new(paths, route->path, item))
        return -1;
    return complete(making, json_object_get(item, method), route);
}

/* Either way of giving the key will do. */
static int set_security(json_t *document)
{
    return json_object_set_new(document, "security", json_pack("[{s:[]}, {s:[]}]", "bearer", "x-api-key"));
}

void openapi_write(struct bytes *out, const struct openapi_route *routes, size_t n, bool key)
{
    json_t *whole = json_loads(openapi_json, 0, NULL);
    struct making making = {json_object_get(whole, "document"), json_object_get(whole, "kinds")};
    int failed = json_object_set_new(json_object_get(making.document, "info"), "version", json_string(HEARTH_VERSION));
    if (key)
        failed |= set_security(making.document);
    for (size_t i = 0; !failed && i < n; i++)
        failed = add_route(&making, &routes[i]);
    bytes_add_json(out, failed ? NULL : making.document);
    json_decref(whole);
}
