/* Responses that were kept: going on from them, and the routes that show and delete them. What reads the disk does
 * so on the thread pool. */
#include "responses.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "look.h"
#include "members.h"

enum { HEX = 32 }; /* digits of a response's id, which those of its items repeat */

/* ---- going on ---- */

int responses_name_items(struct api_request *request, const char *id)
{
    static const char *const prefixes[][2] = {
        {"message", "msg"}, {"function_call", "fc"}, {"function_call_output", "fco"}, {"reasoning", "rs"}};
    size_t i;
    json_t *item;
    json_array_foreach(request->input, i, item) {
        const char *type = text_member(item, "type"), *prefix = "item";
        char name[64];
        if (json_object_get(item, "id"))
            continue;
        for (size_t k = 0; type && k < sizeof prefixes / sizeof *prefixes; k++) {
            if (strcmp(type, prefixes[k][0]) == 0)
                prefix = prefixes[k][1];
        }
        snprintf(name, sizeof name, "%s_%.*si%zx", prefix, HEX, strchr(id, '_') + 1, i);
        if (json_object_set_new(item, "id", json_string(name)))
            return -1;
    }
    return 0;
}

static json_t *find_item(const json_t *items, const char *id)
{
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item) {
        const char *other = text_member(item, "id");
        if (other && strcmp(other, id) == 0)
            return item;
    }
    return NULL;
}

static int store_off(struct api_error *error, const char *param)
{
    return api_error_set(error, 400, "unsupported_parameter", param,
                         "'%s' refers to a kept response, and this server keeps none: start it with --store FILE, or "
                         "send the whole conversation.", param);
}

/* The item that a reference names, of the response that its id was made for; a new reference. */
static json_t *fetch_item(struct archive *archive, const char *id, struct err *err)
{
    char name[HEX + 8];
    const char *digits = strchr(id, '_');
    json_t *response, *input;
    if (!digits || strlen(digits + 1) < HEX) {
        err_set(err, ERR_NOT_FOUND, "no such item");
        return NULL;
    }
    snprintf(name, sizeof name, "resp_%.*s", HEX, digits + 1);
    if (archive_get(archive, name, &response, &input, err))
        return NULL;
    json_t *item = find_item(json_object_get(response, "output"), id);
    item = json_incref(item ? item : find_item(input, id));
    json_decref(response);
    json_decref(input);
    if (!item)
        err_set(err, ERR_NOT_FOUND, "no such item");
    return item;
}

static int resolve_items(struct api_request *request, struct archive *archive, const json_t *history,
                         struct api_error *error)
{
    size_t i;
    json_t *item;
    json_array_foreach(request->input, i, item) {
        const char *id = text_member(item, "id");
        if (strcmp(text_member(item, "type"), "item_reference") != 0)
            continue;
        if (!archive)
            return store_off(error, "input");
        struct err err = {0};
        json_t *found = json_incref(find_item(history, id));
        if (!found)
            found = fetch_item(archive, id, &err);
        if (!found && err.code == ERR_NOT_FOUND)
            return api_error_set(error, 404, "item_not_found", "input", "Item with id '%.80s' not found.", id);
        if (!found)
            return api_error_engine(error, &err, "input");
        if (json_array_set_new(request->input, i, found))
            return api_error_memory(error);
    }
    return 0;
}

int responses_continue(struct api_request *request, struct archive *archive, struct api_error *error)
{
    json_t *history = NULL;
    if (request->previous) {
        struct err err = {0};
        if (!archive)
            return store_off(error, "previous_response_id");
        if (archive_history(archive, request->previous, &history, &err)) {
            if (err.code == ERR_NOT_FOUND)
                return api_error_set(error, 400, "previous_response_not_found", "previous_response_id",
                                     "Previous response with id '%.80s' not found: %s", request->previous, err.text);
            return api_error_engine(error, &err, "previous_response_id");
        }
        history = api_request_keep(request, history);
    }
    if (resolve_items(request, archive, history, error))
        return -1;
    return responses_messages(request, history, error);
}

/* ---- routes ---- */

enum action { SHOW, SHOW_INPUT, REMOVE };

/* A look into the store. */
struct kept_look {
    struct look look; /* the first */
    enum action action;
    char id[64];
    bool ascending;
    size_t limit;
    char after[96];
};

/* A page of the list, which has the newest item first unless `ascending`. */
static json_t *page(const struct kept_look *look, json_t *input)
{
    json_t *data = json_array();
    size_t n = json_array_size(input), taken = 0;
    bool more = false, open = !look->after[0];
    int failed = !data;
    for (size_t i = 0; i < n && !failed; i++) {
        json_t *item = json_array_get(input, look->ascending ? i : n - 1 - i);
        const char *id = text_member(item, "id");
        if (open && taken < look->limit) {
            failed = json_array_append(data, item);
            taken++;
        } else if (open) {
            more = true;
        }
        open |= id && strcmp(id, look->after) == 0;
    }
    const char *first = text_member(json_array_get(data, 0), "id");
    const char *last = taken > 0 ? text_member(json_array_get(data, taken - 1), "id") : NULL;
    return json_pack("{s:s, s:o, s:s, s:s, s:b}", "object", "list", "data", data, "first_id", first ? first : "",
                     "last_id", last ? last : "", "has_more", more);
}

static void read_store(struct look *look)
{
    struct kept_look *kept = (struct kept_look *)look;
    struct archive *archive = look->api->archive;
    struct err err = {0};
    json_t *input = NULL;
    int code = 0;
    switch (kept->action) {
    case SHOW:
        code = archive_get(archive, kept->id, &look->answer, NULL, &err);
        break;
    case SHOW_INPUT:
        code = archive_get(archive, kept->id, NULL, &input, &err);
        look->answer = code == 0 ? page(kept, input) : NULL;
        json_decref(input);
        break;
    case REMOVE:
        code = archive_delete(archive, kept->id, &err);
        look->answer = code == 0 ? json_pack("{s:s, s:s, s:b}", "id", kept->id, "object", "response", "deleted", 1)
                                 : NULL;
        break;
    }
    if (code == ERR_NOT_FOUND)
        api_error_set(&look->error, 404, NULL, "response_id", "Response with id '%.60s' not found.", kept->id);
    else if (code)
        api_error_engine(&look->error, &err, NULL);
}

static int read_page(struct kept_look *look, const struct http_request *http, struct api_error *error)
{
    const char *limit = http_query(http, "limit"), *order = http_query(http, "order");
    const char *after = http_query(http, "after");
    look->limit = limit ? (size_t)strtoul(limit, NULL, 10) : 20;
    if (look->limit < 1 || look->limit > 100)
        return api_error_set(error, 400, "invalid_value", "limit", "'limit' must be between 1 and 100.");
    if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0)
        return api_error_set(error, 400, "invalid_value", "order", "'order' must be \"asc\" or \"desc\".");
    look->ascending = order && strcmp(order, "asc") == 0;
    snprintf(look->after, sizeof look->after, "%s", after ? after : "");
    return 0;
}

/* What is asked of which response; -1 with *error. */
static int read_route(struct kept_look *look, const struct api *api, const struct http_request *http, const char *rest,
                      struct api_error *error)
{
    const char *method = http_method(http), *slash = strchr(rest, '/');
    size_t length = slash ? (size_t)(slash - rest) : strlen(rest);
    const char *what = slash && slash[1] ? slash + 1 : "", *stream = http_query(http, "stream");
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0, remove = strcmp(method, "DELETE") == 0;
    if (length < sizeof look->id)
        memcpy(look->id, rest, length);
    look->action = remove ? REMOVE : *what ? SHOW_INPUT : SHOW;
    bool cancel = strcmp(what, "cancel") == 0;
    if (*what && !cancel && strcmp(what, "input_items") != 0)
        return api_error_set(error, 404, "not_found", NULL, "Unknown route: %.20s %.160s", method,
                             http_path(http));
    if (cancel ? strcmp(method, "POST") != 0 : *what ? !get : !get && !remove)
        return api_error_set(error, 405, "method_not_allowed", NULL, "This route takes %s.",
                             cancel  ? "POST"
                             : *what ? "GET"
                                     : "GET and DELETE");
    if (cancel)
        return api_error_set(error, 400, "invalid_value", "response_id",
                             "Only responses that were created with background can be cancelled: close the connection "
                             "of one that is being made.");
    if (!api->archive)
        return api_error_set(error, 404, "response_not_found", "response_id",
                             "This server keeps no responses: it was started without --store.");
    if (stream && strcmp(stream, "true") == 0)
        return api_error_set(error, 400, "unsupported_parameter", "stream",
                             "'stream' is not supported for a response that is kept.");
    return look->action == SHOW_INPUT ? read_page(look, http, error) : 0;
}

void responses_route(struct api *api, struct http_request *http, const char *rest)
{
    struct api_error error;
    struct kept_look *kept = calloc(1, sizeof *kept);
    if (kept && read_route(kept, api, http, rest, &error)) {
        free(kept);
        api_refuse(api, http, &error);
        return;
    }
    if (kept)
        kept->look.read = read_store;
    look_begin(kept ? &kept->look : NULL, api, http);
}
