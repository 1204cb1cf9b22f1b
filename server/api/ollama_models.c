/* What /api/tags, /api/show and /api/ps tell of models. Those that are not loaded are described by their files, which
 * are read on the thread pool. */
#include "ollama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "look.h"
#include "members.h"

/* ---- parts ---- */

static json_t *details_json(const char *architecture, const char *quantization, uint64_t parameters)
{
    char size[32];
    if (parameters >= 1000000000)
        snprintf(size, sizeof size, "%.1fB", (double)parameters / 1e9);
    else
        snprintf(size, sizeof size, "%.2fM", (double)parameters / 1e6);
    return json_pack("{s:s, s:s, s:s, s:[s], s:s, s:s}", "parent_model", "", "format", "gguf", "family", architecture,
                     "families", architecture, "parameter_size", size, "quantization_level", quantization);
}

/* 64 digits that are others for another file, or for this one once it has changed. Not of its content: that would have
 * to be read. */
static json_t *digest_json(const char *path, const struct file_stamp *stamp)
{
    char digits[72];
    uint64_t seed = XXH3_64bits(path, strlen(path));
    for (int i = 0; i < 4; i++) {
        seed = XXH3_64bits_withSeed(stamp, sizeof *stamp, seed + (uint64_t)i);
        snprintf(digits + 16 * i, 17, "%016llx", (unsigned long long)seed);
    }
    return json_string(digits);
}

/* ---- what runs ---- */

static json_t *running_json(const struct shelf *shelf, const struct served *served)
{
    enum { NEVER = 2300 }; /* a year that every client can convert */
    const struct model_info *info = engine_model_info(served->model);
    char until[OLLAMA_TIME];
    if (served_stays(served)) {
        snprintf(until, sizeof until, "%d-01-01T00:00:00.0Z", NEVER);
    } else {
        double idle = served->users > 0 ? 0 : (double)(uv_now(shelf->loop) - served->used) / 1e3;
        ollama_time(until, ollama_now() + (int64_t)((served->idle_seconds - idle) * 1e9));
    }
    json_t *name = ollama_name_json(served->name);
    return json_pack("{s:O, s:o, s:I, s:o, s:o, s:s, s:I, s:i}", "name", name, "model", name, "size",
                     (json_int_t)served->bytes, "digest", digest_json(served->path, &served->stamp), "details",
                     details_json(info->architecture, info->quantization, info->parameters), "expires_at", until,
                     "size_vram", (json_int_t)(shelf->budget.own ? served->bytes : 0), "context_length", info->context_length);
}

json_t *ollama_running_json(const struct api *api)
{
    json_t *list = json_array();
    int failed = !list;
    for (size_t i = 0; !failed && i < api->shelf->n; i++) {
        const struct served *served = &api->shelf->served[i];
        if (served->model)
            failed = json_array_append_new(list, running_json(api->shelf, served));
    }
    if (!failed)
        return json_pack("{s:o}", "models", list);
    json_decref(list);
    return NULL;
}

/* ---- what there is ---- */

/* A model as it is when it is looked at; names and paths stay. */
struct seen {
    const char *name, *path;
    struct file_stamp stamp;
};

struct models_look {
    struct look look; /* the first */
    size_t n;
    struct seen seen[];
};

static json_t *described_details(const json_t *about)
{
    const char *architecture = text_member(about, "architecture"), *quantization = text_member(about, "quantization");
    return details_json(architecture ? architecture : "", quantization ? quantization : "",
                        (uint64_t)json_integer_value(json_object_get(about, "parameters")));
}

static json_t *tag_json(const struct seen *seen)
{
    struct err err;
    json_t *about = NULL, *name = ollama_name_json(seen->name);
    char changed[OLLAMA_TIME];
    int nothing = engine_describe(seen->path, &about, &err); /* a broken file has a name all the same */
    (void)nothing;
    ollama_time(changed, seen->stamp.changed);
    json_t *tag = json_pack("{s:O, s:o, s:s, s:I, s:o, s:o}", "name", name, "model", name, "modified_at", changed, "size",
                            (json_int_t)seen->stamp.bytes, "digest", digest_json(seen->path, &seen->stamp), "details",
                            described_details(about));
    json_decref(about);
    return tag;
}

static void read_tags(struct look *look)
{
    const struct models_look *models = (struct models_look *)look;
    json_t *list = json_array();
    for (size_t i = 0; i < models->n; i++) {
        if (json_array_append_new(list, tag_json(&models->seen[i]))) {
            json_decref(list);
            return;
        }
    }
    look->answer = json_pack("{s:o}", "models", list);
}

static json_t *capabilities_json(const json_t *about)
{
    static const char *const all[][2] = {{"tools", "tools"}, {"fim", "insert"}, {"thinks", "thinking"}};
    json_t *list = json_pack("[s]", "completion");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (json_is_true(json_object_get(about, all[i][0])) && json_array_append_new(list, json_string(all[i][1])))
            break;
    }
    return list;
}

/* What the file says of sampling, as lines. */
static json_t *parameters_json(const json_t *about)
{
    struct bytes lines = {0};
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(about, "sampling"), name, value) {
        char line[96];
        bool penalty = strcmp(name, "repetition_penalty") == 0;
        snprintf(line, sizeof line, "%-30s %.6g\n", penalty ? "repeat_penalty" : name, json_number_value(value));
        bytes_add(&lines, line, strlen(line));
    }
    json_t *text = lines.failed ? NULL : json_stringn(lines.data ? lines.data : "", lines.length);
    bytes_dispose(&lines);
    return text;
}

/* The metadata, but for long lists and the chat template, which has a member of its own. */
static json_t *metadata_json(const char *path, const json_t *about, struct err *err)
{
    json_t *report, *value;
    const char *key;
    void *next;
    if (engine_inspect(path, &report, err))
        return NULL;
    json_t *metadata = json_incref(json_object_get(report, "metadata"));
    json_decref(report);
    json_object_del(metadata, "tokenizer.chat_template");
    json_object_foreach_safe(metadata, next, key, value) {
        if (json_is_object(value))
            json_object_set_new(metadata, key, json_null());
    }
    if (json_object_set(metadata, "general.parameter_count", json_object_get(about, "parameters")) == 0)
        return metadata;
    json_decref(metadata);
    err_set(err, ERR_NOMEM, "out of memory for the description of %s", path);
    return NULL;
}

static void read_show(struct look *look)
{
    const struct seen *seen = ((struct models_look *)look)->seen;
    struct err err = {0};
    json_t *about = NULL, *metadata = NULL;
    char changed[OLLAMA_TIME];
    if (engine_describe(seen->path, &about, &err) || !(metadata = metadata_json(seen->path, about, &err))) {
        json_decref(about);
        api_error_engine(&look->error, &err, NULL);
        return;
    }
    ollama_time(changed, seen->stamp.changed);
    const char *template = text_member(about, "chat_template");
    look->answer = json_pack("{s:O, s:o, s:o, s:s, s:o, s:o, s:o, s:s}", "license", json_object_get(about, "license"),
                             "modelfile", json_sprintf("FROM %s\n", seen->name), "parameters", parameters_json(about),
                             "template", template ? template : "", "details", described_details(about), "model_info",
                             metadata, "capabilities", capabilities_json(about), "modified_at", changed);
    json_decref(about);
}

static struct models_look *make_look(const struct served *served, size_t n, void (*read)(struct look *))
{
    struct models_look *models = calloc(1, sizeof *models + n * sizeof *models->seen);
    if (!models)
        return NULL;
    models->look.read = read;
    models->n = n;
    for (size_t i = 0; i < n; i++)
        models->seen[i] = (struct seen){served[i].name, served[i].path, served[i].stamp};
    return models;
}

void ollama_tags(struct api *api, struct http_request *http)
{
    look_begin((struct look *)make_look(api->shelf->served, api->shelf->n, read_tags), api, http);
}

void ollama_show(struct api *api, struct http_request *http)
{
    struct api_request request;
    struct api_error error;
    size_t length;
    const char *body = http_body(http, &length);
    int failed = api_request_parse(&request, API_OLLAMA_SHOW, body, length, API_ANY_VOCAB, &error);
    const struct served *served = failed ? NULL : shelf_find(api->shelf, request.model, &error);
    api_request_dispose(&request);
    if (served)
        look_begin((struct look *)make_look(served, 1, read_show), api, http);
    else
        api_refuse(api, http, &error);
}
