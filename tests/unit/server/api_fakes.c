/* The stand-ins: just enough of engine.h and http.h. */
#include "api_fakes.h"

#include <stdlib.h>
#include <string.h>

#include "../../../engine/log.h"

struct fake_engine fake;

static struct {
    uv_loop_t loop;
    struct api *api;
} world;

/* ---- engine.h ---- */

static struct model_info info = {
    .name = "tiny", .architecture = "qwen2", .path = "tiny.gguf", .quantization = "F32", .license = "mit",
    .context_length = 128, .context_trained = 256, .vocab = FAKE_VOCAB, .has_fim = true, .width = 4,
    .sampling = {-1, -1, -1, -1, -1},
};

struct model_info *fake_model_info(void)
{
    return &info;
}

const struct model_info *engine_model_info(const struct model *model)
{
    (void)model;
    return &info;
}

const char *engine_token_bytes(const struct model *model, int32_t id, size_t *length)
{
    static char bytes[FAKE_VOCAB][8];
    (void)model;
    if (id < 0 || id >= FAKE_VOCAB)
        return NULL;
    if (id >= 256)
        strcpy(bytes[id], id == FAKE_BOS ? "<bos>" : "word");
    else
        bytes[id][0] = (char)id;
    *length = id >= 256 ? strlen(bytes[id]) : 1;
    return bytes[id];
}

int engine_tokenize(const struct model *model, const char *text, size_t length, unsigned flags,
                    struct ids *out, struct err *err)
{
    (void)model, (void)flags, (void)err;
    out->ids = malloc((length + 1) * sizeof *out->ids);
    out->n = length;
    for (size_t i = 0; i < length; i++)
        out->ids[i] = (unsigned char)text[i];
    return 0;
}

int engine_fim(const struct model *model, const struct engine_gap *gap, struct ids *out, struct err *err)
{
    char joined[256];
    snprintf(joined, sizeof joined, "<%s|%s>", gap->prefix, gap->suffix);
    if (!info.has_fim)
        return err_set(err, ERR_UNSUPPORTED, "no middle");
    return engine_tokenize(model, joined, strlen(joined), 0, out, err);
}

int engine_render(const struct model *model, const json_t *input, struct rendered *out, struct err *err)
{
    char *text = json_dumps(input, JSON_COMPACT);
    snprintf(fake.rendered, sizeof fake.rendered, "%s", text);
    if (strstr(text, "raise"))
        return free(text), err_set(err, ERR_INVALID, "raised");
    int code = engine_tokenize(model, text, 5, 0, &out->ids, err);
    out->text = text;
    return code;
}

void engine_rendered_free(struct rendered *rendered)
{
    free(rendered->text);
    free(rendered->ids.ids);
}

int engine_grammar(const struct model *model, const json_t *spec, struct grammar **out, struct err *err)
{
    (void)model, (void)spec, (void)err;
    *out = (struct grammar *)&fake;
    return 0;
}

void engine_grammar_release(struct grammar *grammar)
{
    (void)grammar;
}

int engine_submit(struct engine *engine, const struct engine_request *request, uint64_t *id, struct err *err)
{
    (void)engine;
    if (fake.refuse && fake.n_submitted >= fake.accept)
        return err_set(err, fake.refuse, "refused");
    struct fake_submitted *s = &fake.submitted[fake.n_submitted++];
    *s = (struct fake_submitted){.request = *request, .id = fake.n_submitted};
    s->prompt = malloc(request->n_prompt * sizeof *s->prompt);
    memcpy(s->prompt, request->prompt, request->n_prompt * sizeof *s->prompt);
    *id = s->id;
    return 0;
}

void engine_cancel(struct engine *engine, uint64_t id)
{
    (void)engine;
    fake.submitted[id - 1].cancelled = true;
}

void engine_credit(struct engine *engine, uint64_t id, int events)
{
    (void)engine;
    fake.submitted[id - 1].credit += events;
}

void engine_status(const struct engine *engine, struct engine_status *status)
{
    (void)engine;
    *status = (struct engine_status){.running = 4, .waiting = 8};
}

int engine_slots(struct engine *engine, struct engine_slot *out, int room)
{
    (void)engine;
    for (int i = 0; i < (int)fake.n_submitted && i < room; i++) {
        const struct fake_submitted *s = &fake.submitted[i];
        out[i] = (struct engine_slot){.id = s->id, .user = s->request.user,
                                      .prompt_tokens = (int)s->request.n_prompt};
    }
    return (int)fake.n_submitted;
}

/* ---- http.h ---- */

const char *http_method(const struct http_request *r) { return r->method; }
const char *http_path(const struct http_request *r) { return r->path; }
void *http_user(const struct http_request *r) { return r->user; }
size_t http_stream_pending(const struct http_request *r) { return r->pending; }

const char *http_header(const struct http_request *r, const char *name)
{
    return strcmp(name, "Authorization") == 0 ? r->authorization : NULL;
}

const char *http_query(const struct http_request *r, const char *name)
{
    (void)r, (void)name;
    return NULL;
}

const char *http_body(const struct http_request *r, size_t *length)
{
    *length = r->body_length;
    return r->body;
}

void http_set_user(struct http_request *r, void *data, void (*gone)(void *, bool))
{
    r->user = data;
    r->gone = gone;
}

static void take(struct http_request *r, const void *bytes, size_t length)
{
    r->sent = realloc(r->sent, r->n_sent + length + 1);
    if (length > 0)
        memcpy(r->sent + r->n_sent, bytes, length);
    r->n_sent += length;
    r->sent[r->n_sent] = '\0';
}

static void take_fields(struct http_request *r, const struct http_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++)
        snprintf(r->fields + strlen(r->fields), sizeof r->fields - strlen(r->fields), "%s: %s\n",
                 fields[i].name, fields[i].value);
}

void http_respond(struct http_request *r, int status, const struct http_field *fields, size_t n,
                  const void *body, size_t length)
{
    REQUIRE(r->status == 0);
    r->status = status;
    r->ended = true;
    take_fields(r, fields, n);
    take(r, body, length);
    if (r->gone)
        fake_gone(r, true);
}

void http_stream_begin(struct http_request *r, int status, const struct http_field *fields, size_t n,
                       void (*drained)(void *))
{
    REQUIRE(r->status == 0);
    r->status = status;
    r->stream = true;
    r->drained = drained;
    take_fields(r, fields, n);
    take(r, "", 0);
}

void http_stream_write(struct http_request *r, const void *bytes, size_t length)
{
    REQUIRE(r->stream && !r->ended);
    take(r, bytes, length);
    r->writes++;
    if (r->stuck)
        r->pending += length;
}

void http_stream_end(struct http_request *r)
{
    REQUIRE(r->stream && !r->ended);
    r->ended = true;
}

/* ---- the world ---- */

int engine_load(struct engine *engine, const char *path, const struct model_options *options, struct model **out,
                struct err *err)
{
    (void)engine, (void)path, (void)options, (void)out;
    return err_set(err, ERR_UNSUPPORTED, "nothing is loaded here");
}

int engine_unload(struct engine *engine, struct model *model, struct err *err)
{
    (void)engine, (void)model;
    return err_set(err, ERR_BUSY, "nothing is unloaded here");
}

int engine_measure(struct engine *engine, const char *path, const struct model_options *options,
                   struct model_needs *out, struct err *err)
{
    (void)engine, (void)path, (void)options, (void)out;
    return err_set(err, ERR_UNSUPPORTED, "nothing is measured here");
}

int engine_describe(const char *path, json_t **out, struct err *err)
{
    (void)path, (void)err;
    *out = json_pack("{s:s, s:s, s:s, s:i, s:s, s:b, s:b, s:b, s:{s:f}}", "architecture", "qwen2", "quantization", "F32",
                     "license", "mit", "parameters", 1500000, "chat_template", "{{ messages }}", "tools", true, "thinks",
                     false, "fim", true, "sampling", "temperature", 0.5);
    return 0;
}

int engine_inspect(const char *path, json_t **out, struct err *err)
{
    (void)path, (void)err;
    *out = json_pack("{s:{s:s, s:{s:i}, s:s}}", "metadata", "general.architecture", "qwen2", "tokenizer.ggml.tokens",
                     "length", 320, "tokenizer.chat_template", "{{ messages }}");
    return 0;
}

void engine_budget(const struct engine *engine, struct engine_budget *out)
{
    (void)engine;
    *out = (struct engine_budget){0};
}

struct shelf *fake_shelf(void)
{
    static struct served served;
    static struct shelf shelf;
    served = (struct served){.name = (char *)info.name, .path = (char *)info.path, .state = SERVED_LOADED,
                             .model = (struct model *)&info, .catalogue = {-1, -1, -1, -1, -1}};
    shelf = (struct shelf){.loop = &world.loop, .served = &served, .n = 1, .closed = true};
    return &shelf;
}

struct api *fake_api(const struct api_options *options, bool ready)
{
    static const struct api_options none = {.defaults = {-1, -1, -1, -1, -1}};
    fake = (struct fake_engine){0};
    log_set_level(LOG_ERROR);
    REQUIRE(uv_loop_init(&world.loop) == 0);
    REQUIRE(api_create(&world.api, &world.loop, options ? options : &none, NULL) == 0);
    if (ready)
        api_ready(world.api, (struct engine *)&fake, fake_shelf());
    return world.api;
}

void fake_end(void)
{
    api_close(world.api);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    api_destroy(world.api);
    REQUIRE(uv_loop_close(&world.loop) == 0);
    for (size_t i = 0; i < fake.n_submitted; i++)
        free(fake.submitted[i].prompt);
}

void fake_ask(struct http_request *r, const char *method, const char *path, const char *body)
{
    r->method = method;
    r->path = path;
    r->body = body;
    r->body_length = body ? strlen(body) : 0;
    api_handle(r, world.api);
}

void fake_settle(void)
{
    for (int i = 0; i < 20000 && api_active(world.api) > 0 && fake.n_submitted == 0; i++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
}

void fake_turn(void)
{
    uv_run(&world.loop, UV_RUN_NOWAIT);
    uv_sleep(1);
}

void fake_gone(struct http_request *r, bool finished)
{
    if (!r->is_gone && r->gone) {
        r->is_gone = true;
        r->gone(r->user, finished);
    }
}

void fake_free(struct http_request *r)
{
    fake_gone(r, true);
    free(r->sent);
    *r = (struct http_request){0};
}

static struct engine_event event_of(size_t submitted, enum engine_event_kind kind, int choice)
{
    const struct fake_submitted *s = &fake.submitted[submitted];
    return (struct engine_event){.kind = kind, .id = s->id, .user = s->request.user, .choice = choice,
                                 .stop = -1};
}

void fake_text_tokens(size_t submitted, int choice, const char *text, const struct engine_token *tokens,
                      size_t n)
{
    struct engine_event event = event_of(submitted, ENGINE_TEXT, choice);
    event.text = text;
    event.length = strlen(text);
    event.tokens = tokens;
    event.n_tokens = n;
    api_event(&event);
}

void fake_text(size_t submitted, int choice, const char *text)
{
    fake_text_tokens(submitted, choice, text, NULL, 0);
}

void fake_prompt(size_t submitted, const struct engine_token *tokens, size_t n)
{
    struct engine_event event = event_of(submitted, ENGINE_PROMPT, 0);
    event.tokens = tokens;
    event.n_tokens = n;
    api_event(&event);
}

void fake_embedding(size_t submitted, const float *embedding)
{
    struct engine_event event = event_of(submitted, ENGINE_EMBEDDING, 0);
    event.embedding = embedding;
    api_event(&event);
}

void fake_done(size_t submitted, int choice, enum finish finish, int completion_tokens, bool last)
{
    struct engine_event event = event_of(submitted, ENGINE_DONE, choice);
    event.finish = finish;
    event.last = last;
    event.completion_tokens = completion_tokens;
    event.prompt_tokens = (int)fake.submitted[submitted].request.n_prompt;
    event.cached_tokens = 2;
    api_event(&event);
}

void fake_queued(size_t submitted, int ahead)
{
    struct engine_event event = event_of(submitted, ENGINE_QUEUED, 0);
    event.ahead = ahead;
    api_event(&event);
}

void fake_failed(size_t submitted, int code, const char *text)
{
    struct engine_event event = event_of(submitted, ENGINE_FAILED, 0);
    event.err.code = code;
    snprintf(event.err.text, sizeof event.err.text, "%s", text);
    api_event(&event);
}
