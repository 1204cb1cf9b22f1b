/* What a model file says beside its tensors: vocabulary, chat template, names, end tokens. */
#include <string.h>
#include <strings.h>

#include "engine_private.h"
#include "log.h"
#include "text/chat.h"

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory for a model");
}

/* A string value as a C string, `fallback` where the key is absent. Bytes after a NUL are lost. */
static int get_text(const struct gguf *g, const char *key, const char *fallback, char **out, struct err *err)
{
    struct gguf_string s;
    int rc = gguf_get_string(g, key, &s, err);
    if (rc && rc != ERR_NOT_FOUND) return rc;
    *out = rc ? strdup(fallback) : strndup(s.bytes, s.length);
    return *out ? 0 : nomem(err);
}

static int get_id(const struct gguf *g, const char *key, int32_t *out, struct err *err)
{
    uint64_t value;
    int rc = gguf_get_uint(g, key, INT32_MAX, &value, err);
    if (rc && rc != ERR_NOT_FOUND) return rc;
    *out = rc ? -1 : (int32_t)value;
    return 0;
}

/* ---- vocabulary ---- */

/* An array of strings; the texts lie in the file. */
static int get_texts(const struct gguf *g, const char *key, struct text **out, size_t *n, struct err *err)
{
    struct gguf_value value;
    int rc = gguf_get_array(g, key, GGUF_STRING, &value, err);
    if (rc) return rc;
    if (value.length > INT32_MAX) return err_set(err, ERR_FORMAT, "%s has too many entries", key);
    struct gguf_string *strings = malloc((value.length + 1) * sizeof *strings);
    *out = malloc((value.length + 1) * sizeof **out);
    if (!strings || !*out) {
        free(strings);
        return nomem(err);
    }
    gguf_array_strings(&value, strings);
    for (uint64_t i = 0; i < value.length; i++) {
        (*out)[i] = (struct text){strings[i].bytes, strings[i].length};
    }
    *n = value.length;
    free(strings);
    return 0;
}

/* Token types; *out is NULL where the file has none. */
static int get_types(const struct gguf *g, size_t n, int32_t **out, struct err *err)
{
    struct gguf_value value;
    *out = NULL;
    int rc = gguf_get_array(g, "tokenizer.ggml.token_type", GGUF_I32, &value, err);
    if (rc) return rc == ERR_NOT_FOUND ? 0 : rc;
    if (value.length != n) {
        return err_set(err, ERR_FORMAT, "tokenizer.ggml.token_type has %llu entries for %zu tokens",
                       (unsigned long long)value.length, n);
    }
    *out = malloc((n + 1) * sizeof **out);
    if (!*out) return nomem(err);
    memcpy(*out, value.data, n * sizeof **out);
    return 0;
}

static int token_text(const struct model *m, int32_t id, char **out, struct err *err)
{
    size_t length = 0;
    const char *bytes = id >= 0 ? tokenizer_bytes(m->tokenizer, id, &length) : NULL;
    *out = bytes ? strndup(bytes, length) : strdup("");
    return *out ? 0 : nomem(err);
}

int model_read_tokenizer(struct model *m, struct err *err)
{
    struct vocabulary v = {0};
    struct text *pieces = NULL, *merges = NULL;
    int32_t *types = NULL, eos = -1;
    char *kind = NULL, *pre = NULL;
    bool add_eos = false;
    int rc = get_text(m->gguf, "tokenizer.ggml.model", "", &kind, err);
    if (rc) goto done;
    if (strcmp(kind, "gpt2")) {
        rc = err_set(err, ERR_UNSUPPORTED, "tokenizer.ggml.model is \"%.40s\", where only \"gpt2\" is known",
                     kind);
        goto done;
    }
    rc = get_text(m->gguf, "tokenizer.ggml.pre", "gpt2", &pre, err);
    if (!rc) rc = get_texts(m->gguf, "tokenizer.ggml.tokens", &pieces, &v.n, err);
    if (!rc) rc = get_texts(m->gguf, "tokenizer.ggml.merges", &merges, &v.n_merges, err);
    if (!rc) rc = get_types(m->gguf, v.n, &types, err);
    if (!rc) rc = get_id(m->gguf, "tokenizer.ggml.bos_token_id", &v.bos, err);
    if (!rc) rc = get_id(m->gguf, "tokenizer.ggml.eos_token_id", &eos, err);
    if (rc) goto done;
    rc = gguf_get_bool(m->gguf, "tokenizer.ggml.add_bos_token", &v.add_bos, err);
    if (rc == ERR_NOT_FOUND) {
        v.add_bos = !strcmp(pre, "llama-bpe");
        rc = 0;
    }
    if (rc) goto done;
    rc = gguf_get_bool(m->gguf, "tokenizer.ggml.add_eos_token", &add_eos, err);
    if (rc && rc != ERR_NOT_FOUND) goto done;
    if (v.bos >= 0 && (size_t)v.bos >= v.n) {
        rc = err_set(err, ERR_FORMAT, "tokenizer.ggml.bos_token_id is %d, but there are %zu tokens", v.bos,
                     v.n);
        goto done;
    }
    v.pre = pre;
    v.pieces = pieces;
    v.merges = merges;
    v.types = types;
    rc = tokenizer_create(&m->tokenizer, &v, err);
    if (!rc) rc = token_text(m, v.bos, &m->bos, err);
    if (!rc) rc = token_text(m, eos, &m->eos, err);
    m->ending = add_eos && eos >= 0 && (size_t)eos < v.n ? eos : -1;
    m->info.bos = m->bos;
    m->info.eos = m->eos;

done:
    free(pieces);
    free(merges);
    free(types);
    free(kind);
    free(pre);
    return rc;
}

/* ---- chat template ---- */

int model_read_template(struct model *m, struct err *err)
{
    struct gguf_string source;
    int rc = gguf_get_string(m->gguf, "tokenizer.chat_template", &source, err);
    if (rc == ERR_NOT_FOUND) {
        err_set(&m->template_err, ERR_UNSUPPORTED, "the model has no chat template");
        return 0;
    }
    if (rc) return rc;
    m->info.chat_template = strndup(source.bytes, source.length);
    if (!m->info.chat_template) return nomem(err);
    rc = template_compile(&m->template, source.bytes, source.length, &m->template_err);
    if (rc == ERR_NOMEM) return nomem(err);
    if (rc) { /* completions work all the same */
        m->template_err.code = ERR_UNSUPPORTED;
        log_warning("the model's chat template cannot be used: %s", m->template_err.text);
    }
    m->info.has_template = !rc;
    m->info.calls = chat_calls(m->info.chat_template);
    m->info.thinks = chat_thinks(m->info.chat_template);
    return 0;
}

/* ---- names and defaults ---- */

static const struct {
    int id;
    const char *name;
} file_types[] = {
    {0, "F32"}, {1, "F16"}, {2, "Q4_0"}, {3, "Q4_1"}, {7, "Q8_0"}, {8, "Q5_0"}, {9, "Q5_1"}, {10, "Q2_K"},
    {11, "Q3_K_S"}, {12, "Q3_K_M"}, {13, "Q3_K_L"}, {14, "Q4_K_S"}, {15, "Q4_K_M"}, {16, "Q5_K_S"},
    {17, "Q5_K_M"}, {18, "Q6_K"}, {21, "Q2_K_S"}, {25, "IQ4_NL"}, {30, "IQ4_XS"}, {32, "BF16"},
};

/* The label of general.file_type; where it is absent or unknown, the type of most bytes. */
static int get_quantization(const struct gguf *g, const char **out, struct err *err)
{
    uint64_t type;
    int rc = gguf_get_uint(g, "general.file_type", INT32_MAX, &type, err);
    if (rc && rc != ERR_NOT_FOUND) return rc;
    for (size_t i = 0; !rc && i < sizeof file_types / sizeof *file_types; i++) {
        if (file_types[i].id == (int)type) {
            *out = file_types[i].name;
            return 0;
        }
    }
    size_t bytes[DTYPE_COUNT] = {0};
    int most = 0;
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor(g, i);
        bytes[t->dtype] += t->bytes;
    }
    for (int i = 0; i < DTYPE_COUNT; i++) most = bytes[i] > bytes[most] ? i : most;
    *out = dtype_name((enum dtype)most);
    return 0;
}

/* A sampling default; -1 where the file says nothing, or nothing sensible. */
static int get_default(const struct gguf *g, const char *key, double max, double *out, struct err *err)
{
    int rc = gguf_get_float(g, key, out, err);
    if (rc && rc != ERR_NOT_FOUND) return rc;
    if (rc || *out < 0 || *out > max) *out = -1;
    return 0;
}

static int get_sampling(const struct gguf *g, struct sampling_defaults *out, struct err *err)
{
    uint64_t top_k;
    int rc = get_default(g, "general.sampling.temp", 100, &out->temperature, err);
    if (!rc) rc = get_default(g, "general.sampling.top_p", 1, &out->top_p, err);
    if (!rc) rc = get_default(g, "general.sampling.min_p", 1, &out->min_p, err);
    if (!rc) rc = get_default(g, "general.sampling.penalty_repeat", 100, &out->repetition_penalty, err);
    if (rc) return rc;
    if (out->repetition_penalty == 0) out->repetition_penalty = -1;
    rc = gguf_get_uint(g, "general.sampling.top_k", INT32_MAX, &top_k, err);
    if (rc && rc != ERR_NOT_FOUND) return rc;
    out->top_k = rc ? -1 : (int)top_k;
    return 0;
}

/* general.name, or the file's base name. */
static int get_name(const struct gguf *g, const char *path, char **out, struct err *err)
{
    int rc = get_text(g, "general.name", "", out, err);
    if (rc || **out) return rc;
    free(*out);
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t length = strlen(base);
    if (length > 5 && !strcasecmp(base + length - 5, ".gguf")) length -= 5;
    *out = strndup(base, length);
    return *out ? 0 : nomem(err);
}

/* How embeddings are pooled; what ranks documents has a pooling of its own, which gives no vector. */
static int get_pooling(const struct gguf *g, const char *architecture, enum engine_pooling *out, struct err *err)
{
    char key[96];
    uint64_t type;
    snprintf(key, sizeof key, "%.64s.pooling_type", architecture);
    int rc = gguf_get_uint(g, key, INT32_MAX, &type, err);
    if (rc && rc != ERR_NOT_FOUND) return rc;
    *out = rc || type > ENGINE_POOL_LAST ? ENGINE_POOL_NONE : (enum engine_pooling)type;
    return 0;
}

int model_read_info(struct model *m, const char *path, const char *name, struct err *err)
{
    char *text = NULL;
    int rc = 0;
    if (name) {
        text = strdup(name);
        if (!text) rc = nomem(err);
    } else {
        rc = get_name(m->gguf, path, &text, err);
    }
    m->info.name = text;
    if (rc) return rc;
    m->info.path = strdup(path);
    if (!m->info.path) return nomem(err);
    rc = get_text(m->gguf, "general.architecture", "", &text, err);
    if (rc) return rc;
    m->info.architecture = text;
    rc = get_pooling(m->gguf, m->info.architecture, &m->info.pooling, err);
    if (rc) return rc;
    rc = get_text(m->gguf, "general.license", "", &text, err);
    if (rc) return rc;
    m->info.license = text;
    m->info.file_bytes = gguf_file_bytes(m->gguf);
    rc = get_quantization(m->gguf, &m->info.quantization, err);
    return rc ? rc : get_sampling(m->gguf, &m->info.sampling, err);
}

/* ---- end tokens and padding ---- */

/* Besides those that the metadata name. A model that writes one of the fill-in-the-middle tokens has
 * come to the end of what it was asked for. */
static const char *const end_texts[] = {
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<|fim_prefix|>",
    "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
};
static const char *const end_keys[] = {
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
};

static int32_t find_control(const struct model *m, const char *text)
{
    int32_t id = tokenizer_find(m->tokenizer, text);
    return id >= 0 && tokenizer_is_hidden(m->tokenizer, id) ? id : -1;
}

/* By their keys in the metadata, newer and older ones, or by their text. */
static const struct {
    const char *key, *older, *text[2];
} fim_marks[FIM_COUNT] = {
    [FIM_PREFIX] = {"fim_pre_token_id", "prefix_token_id", {"<|fim_prefix|>", "<fim_prefix>"}},
    [FIM_SUFFIX] = {"fim_suf_token_id", "suffix_token_id", {"<|fim_suffix|>", "<fim_suffix>"}},
    [FIM_MIDDLE] = {"fim_mid_token_id", "middle_token_id", {"<|fim_middle|>", "<fim_middle>"}},
    [FIM_PROJECT] = {"fim_rep_token_id", NULL, {"<|repo_name|>", "<repo_name>"}},
    [FIM_FILE] = {"fim_sep_token_id", NULL, {"<|file_sep|>", "<file_sep>"}},
    [FIM_PAD] = {"fim_pad_token_id", NULL, {"<|fim_pad|>", "<fim_pad>"}},
};

static int read_fim(struct model *m, struct err *err)
{
    for (int i = 0; i < FIM_COUNT; i++) {
        const char *const keys[] = {fim_marks[i].key, fim_marks[i].older};
        int32_t *id = &m->fim[i];
        *id = -1;
        for (int k = 0; k < 2 && keys[k] && *id < 0; k++) {
            char key[64];
            snprintf(key, sizeof key, "tokenizer.ggml.%s", keys[k]);
            int rc = get_id(m->gguf, key, id, err);
            if (rc) return rc;
            if (*id >= 0 && (size_t)*id >= tokenizer_size(m->tokenizer)) *id = -1;
        }
        for (int k = 0; k < 2 && *id < 0; k++) *id = find_control(m, fim_marks[i].text[k]);
    }
    m->info.has_fim = m->fim[FIM_PREFIX] >= 0 && m->fim[FIM_SUFFIX] >= 0 && m->fim[FIM_MIDDLE] >= 0;
    return 0;
}

int model_read_marks(struct model *m, bool **real, int32_t **end_ids, int *n_end_ids, struct err *err)
{
    size_t n = tokenizer_size(m->tokenizer), n_keys = sizeof end_keys / sizeof *end_keys;
    size_t n_texts = sizeof end_texts / sizeof *end_texts;
    int32_t *types;
    int rc = get_types(m->gguf, n, &types, err);
    if (rc) return rc;
    *real = malloc(n + 1);
    *end_ids = malloc((n_keys + n_texts + FIM_COUNT) * sizeof **end_ids);
    if (!*real || !*end_ids) {
        free(types);
        return nomem(err);
    }
    for (size_t i = 0; i < n; i++) (*real)[i] = !types || types[i] != TOKEN_UNUSED;
    free(types);

    *n_end_ids = 0;
    for (size_t i = 0; i < n_keys; i++) {
        int32_t id;
        rc = get_id(m->gguf, end_keys[i], &id, err);
        if (rc) return rc;
        if (id >= 0 && (size_t)id < n) (*end_ids)[(*n_end_ids)++] = id;
    }
    for (size_t i = 0; i < n_texts; i++) {
        int32_t id = find_control(m, end_texts[i]);
        if (id >= 0) (*end_ids)[(*n_end_ids)++] = id;
    }
    rc = read_fim(m, err);
    for (int i = 0; m->info.has_fim && i < FIM_COUNT; i++) {
        if (m->fim[i] >= 0) (*end_ids)[(*n_end_ids)++] = m->fim[i];
    }
    return rc;
}

void model_free(struct model *m)
{
    if (!m) return;
    grammar_cache_destroy(m->grammars);
    tokenizer_destroy(m->tokenizer);
    template_destroy(m->template);
    adapters_close(&m->adapters);
    gguf_close(m->gguf);
    free((char *)m->info.name);
    free((char *)m->info.path);
    free((char *)m->info.architecture);
    free((char *)m->info.license);
    free((char *)m->info.chat_template);
    free(m->bos);
    free(m->eos);
    free(m);
}
