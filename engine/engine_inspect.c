/* A file's metadata and tensor list as JSON, and what its model would be, loading nothing. */
#include <math.h>
#include <string.h>
#include <utf8proc.h>

#include "engine_private.h"
#include "text/chat.h"

#define FIRST 8 /* entries of a long array that are shown */

static const char *const type_names[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string",
                                         "array", "u64", "i64", "f64"};

/* JSON text must be UTF-8; what is not becomes U+FFFD. */
static json_t *text_json(struct gguf_string s)
{
    json_t *json = json_stringn(s.bytes, s.length);
    if (json || s.length > SIZE_MAX / 3) return json;
    char *clean = malloc(s.length * 3 + 1);
    if (!clean) return NULL;
    size_t n = 0;
    for (size_t i = 0; i < s.length;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t left = (utf8proc_ssize_t)(s.length - i);
        utf8proc_ssize_t taken = utf8proc_iterate((const utf8proc_uint8_t *)s.bytes + i, left, &point);
        if (taken > 0) {
            memcpy(clean + n, s.bytes + i, (size_t)taken);
            n += (size_t)taken;
            i += (size_t)taken;
        } else {
            memcpy(clean + n, "\xEF\xBF\xBD", 3);
            n += 3;
            i++;
        }
    }
    json = json_stringn(clean, n);
    free(clean);
    return json;
}

static json_t *real_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static size_t type_bytes(enum gguf_type type)
{
    static const size_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return bytes[type];
}

#define READ(type)                                 \
    ({                                             \
        type value_;                               \
        memcpy(&value_, data, sizeof value_);      \
        value_;                                    \
    })

static json_t *scalar_json(enum gguf_type type, const void *data)
{
    switch (type) {
    case GGUF_U8: return json_integer(READ(uint8_t));
    case GGUF_I8: return json_integer(READ(int8_t));
    case GGUF_U16: return json_integer(READ(uint16_t));
    case GGUF_I16: return json_integer(READ(int16_t));
    case GGUF_U32: return json_integer(READ(uint32_t));
    case GGUF_I32: return json_integer(READ(int32_t));
    case GGUF_I64: return json_integer(READ(int64_t));
    case GGUF_BOOL: return json_boolean(READ(uint8_t));
    case GGUF_F32: return real_json((double)READ(float));
    case GGUF_F64: return real_json(READ(double));
    case GGUF_U64: {
        uint64_t value = READ(uint64_t);
        return value <= INT64_MAX ? json_integer((json_int_t)value) : json_real((double)value);
    }
    default: return json_null();
    }
}

static int append_strings(json_t *list, const struct gguf_value *value, size_t shown)
{
    struct gguf_string *strings = malloc((value->length + 1) * sizeof *strings);
    if (!strings) return -1;
    int rc = 0;
    gguf_array_strings(value, strings);
    for (size_t i = 0; i < shown && !rc; i++) rc = json_array_append_new(list, text_json(strings[i]));
    free(strings);
    return rc;
}

static json_t *array_json(const struct gguf_value *value)
{
    bool whole = value->length <= FIRST;
    size_t shown = whole ? value->length : FIRST;
    json_t *list = json_array();
    int rc = 0;
    if (value->element == GGUF_STRING) {
        rc = append_strings(list, value, shown);
    } else {
        for (size_t i = 0; i < shown && !rc; i++) {
            const char *at = (const char *)value->data + i * type_bytes(value->element);
            rc = json_array_append_new(list, scalar_json(value->element, at));
        }
    }
    if (rc) {
        json_decref(list);
        return NULL;
    }
    return whole ? list : json_pack("{s:s, s:I, s:o}", "type", type_names[value->element], "length",
                                    (json_int_t)value->length, "first", list);
}

static json_t *value_json(const struct gguf *g, size_t i)
{
    struct gguf_value value = gguf_value(g, i);
    if (value.type == GGUF_ARRAY) return array_json(&value);
    if (value.type != GGUF_STRING) return scalar_json(value.type, value.data);
    struct gguf_string s;
    struct gguf_string key = gguf_key(g, i);
    char *name = strndup(key.bytes, key.length);
    int rc = name ? gguf_get_string(g, name, &s, NULL) : ERR_NOMEM;
    free(name);
    return rc == ERR_NOMEM ? NULL : rc ? json_null() : text_json(s); /* a key with a NUL is not found */
}

static json_t *tensor_json(const struct gguf_tensor *t)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->n_dims; i++) {
        if (json_array_append_new(shape, json_integer((json_int_t)t->shape[i]))) {
            json_decref(shape);
            return NULL;
        }
    }
    return json_pack("{s:o, s:s, s:o, s:I}", "name", text_json(t->name), "type", dtype_name(t->dtype),
                     "shape", shape,
                     "bytes", (json_int_t)t->bytes);
}

static int set_text(json_t *object, struct gguf_string key, json_t *value)
{
    json_t *name = text_json(key);
    int rc = name ? json_object_set_new(object, json_string_value(name), value) : -1;
    if (!name) json_decref(value);
    json_decref(name);
    return rc;
}

int engine_inspect(const char *path, json_t **out, struct err *err)
{
    *out = NULL;
    struct gguf *g;
    int rc = gguf_open(&g, path, err);
    if (rc) return rc;
    json_t *metadata = json_object(), *tensors = json_array();
    for (size_t i = 0; i < gguf_n_keys(g) && !rc; i++) {
        rc = set_text(metadata, gguf_key(g, i), value_json(g, i));
    }
    for (size_t i = 0; i < gguf_n_tensors(g) && !rc; i++) {
        rc = json_array_append_new(tensors, tensor_json(gguf_tensor(g, i)));
    }
    if (!rc) {
        struct gguf_string name = {path, strlen(path)};
        *out = json_pack("{s:o, s:I, s:I, s:O, s:O}", "path", text_json(name), "version",
                         (json_int_t)gguf_version(g),
                         "files", (json_int_t)gguf_parts(g), "metadata", metadata, "tensors", tensors);
    }
    json_decref(metadata);
    json_decref(tensors);
    gguf_close(g);
    return *out ? 0 : err_set(err, ERR_NOMEM, "out of memory for the description of %s", path);
}

/* ---- what a model would be ---- */

/* Whether the vocabulary has the three tokens that engine_fim writes; *out is false where there is none. */
static int find_fim(const struct gguf *g, bool *out, struct err *err)
{
    static const char *const texts[] = {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"};
    enum { TEXTS = sizeof texts / sizeof *texts };
    struct gguf_value value;
    bool found[TEXTS] = {false};
    int rc = gguf_get_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &value, err);
    *out = false;
    if (rc) return rc == ERR_NOT_FOUND ? 0 : rc;
    struct gguf_string *tokens = malloc((value.length + 1) * sizeof *tokens);
    if (!tokens) return err_set(err, ERR_NOMEM, "out of memory for a vocabulary");
    gguf_array_strings(&value, tokens);
    for (uint64_t i = 0; i < value.length; i++) {
        for (int k = 0; k < TEXTS; k++) {
            found[k] |= tokens[i].length == strlen(texts[k]) && !memcmp(tokens[i].bytes, texts[k], tokens[i].length);
        }
    }
    free(tokens);
    *out = found[0] && found[1] && found[2];
    return 0;
}

static json_t *sampling_json(const struct sampling_defaults *s)
{
    const struct {
        const char *name;
        double value;
    } all[] = {{"temperature", s->temperature}, {"top_p", s->top_p}, {"min_p", s->min_p},
               {"repetition_penalty", s->repetition_penalty}};
    json_t *object = s->top_k >= 0 ? json_pack("{s:i}", "top_k", s->top_k) : json_object();
    int rc = !object;
    for (size_t i = 0; i < sizeof all / sizeof *all && !rc; i++) {
        if (all[i].value >= 0) rc = json_object_set_new(object, all[i].name, json_real(all[i].value));
    }
    if (!rc) return object;
    json_decref(object);
    return NULL;
}

static uint64_t count_parameters(const struct gguf *g)
{
    uint64_t n = 0;
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const uint64_t *shape = gguf_tensor(g, i)->shape;
        n += shape[0] * shape[1] * shape[2] * shape[3];
    }
    return n;
}

int engine_describe(const char *path, json_t **out, struct err *err)
{
    *out = NULL;
    struct model *m = calloc(1, sizeof *m);
    if (!m) return err_set(err, ERR_NOMEM, "out of memory for a model");
    struct gguf_string source = {0};
    bool fim = false;
    int rc = gguf_open(&m->gguf, path, err);
    if (!rc) rc = model_read_info(m, path, NULL, err);
    if (!rc) rc = find_fim(m->gguf, &fim, err);
    if (!rc) {
        rc = gguf_get_string(m->gguf, "tokenizer.chat_template", &source, err);
        if (rc == ERR_NOT_FOUND) rc = 0;
    }
    char *template = !rc && source.bytes ? strndup(source.bytes, source.length) : NULL;
    if (!rc && source.bytes && !template) rc = err_set(err, ERR_NOMEM, "out of memory for a chat template");
    if (!rc) {
        const struct model_info *info = &m->info;
        struct gguf_string architecture = {info->architecture, strlen(info->architecture)};
        struct gguf_string license = {info->license, strlen(info->license)};
        *out = json_pack("{s:o, s:s, s:o, s:I, s:o, s:b, s:b, s:b, s:o}", "architecture", text_json(architecture),
                         "quantization", info->quantization, "license", text_json(license), "parameters",
                         (json_int_t)count_parameters(m->gguf), "chat_template",
                         template ? text_json(source) : json_null(), "tools",
                         chat_calls(template) != ENGINE_CALLS_NONE, "thinks", chat_thinks(template), "fim", fim,
                         "sampling", sampling_json(&info->sampling));
        if (!*out) rc = err_set(err, ERR_NOMEM, "out of memory for the description of %s", path);
    }
    free(template);
    model_free(m);
    return rc;
}
