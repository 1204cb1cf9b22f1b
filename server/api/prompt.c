/* Reads prompt, stop and logit_bias, the parameters with several shapes. */
#include "request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *api_prompt_name(const struct api_request *request)
{
    switch (request->endpoint) {
    case API_TEXT: return "prompt";
    case API_RESPONSES:
    case API_EMBEDDINGS: return "input";
    case API_TOKENIZE: return "content";
    case API_DETOKENIZE: return "tokens";
    case API_INFILL: return "input_prefix";
    default: return "messages";
    }
}

static int wrong_tokens(const char *name, struct api_error *error)
{
    return api_error_set(error, 400, "invalid_type", name, "'%s' must be an array of token ids.", name);
}

static int wrong_prompt(const char *name, struct api_error *error)
{
    return api_error_set(
        error, 400, "invalid_type", name,
        "'%s' must be a string, an array of strings, an array of token ids or an array of "
        "arrays of token ids.", name);
}

static int empty_prompt(const char *name, struct api_error *error)
{
    return api_error_set(error, 400, "invalid_value", name, "'%s' must not be empty.", name);
}

static int wrong_id(const char *name, long long id, int vocab, struct api_error *error)
{
    return api_error_set(error, 400, "invalid_value", name, "'%s' has token id %lld; ids go from 0 to %d.", name, id,
                         vocab - 1);
}

static int wrong_key(const char *key, int vocab, struct api_error *error)
{
    return api_error_set(error, 400, "invalid_value", "logit_bias",
                         "'logit_bias' has the key \"%.40s\"; token ids go from 0 to %d.", key, vocab - 1);
}

int api_check_ids(const struct api_request *request, int vocab, struct api_error *error)
{
    for (size_t i = 0; i < request->n_prompts; i++) {
        const struct ids *ids = &request->prompts[i].ids;
        for (size_t k = 0; k < ids->n; k++) {
            if (ids->ids[k] >= vocab)
                return wrong_id(api_prompt_name(request), ids->ids[k], vocab, error);
        }
    }
    for (size_t i = 0; i < request->n_bias; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", request->bias[i].id);
        if (request->bias[i].id >= vocab)
            return wrong_key(key, vocab, error);
    }
    return 0;
}

/* `wrong` is for what is no token id. */
static int read_ids(struct api_prompt *prompt, const char *name, int (*wrong)(const char *name, struct api_error *),
                    const json_t *value, int vocab, struct api_error *error)
{
    size_t n = json_array_size(value);
    prompt->ids.ids = malloc(n * sizeof *prompt->ids.ids);
    if (!prompt->ids.ids)
        return api_error_memory(error);
    prompt->ids.n = n;
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!api_json_integer(json_array_get(value, i), &id))
            return wrong(name, error);
        if (id < 0 || id >= vocab)
            return wrong_id(name, (long long)id, vocab, error);
        prompt->ids.ids[i] = (int32_t)id;
    }
    return 0;
}

static void take_text(struct api_prompt *prompt, const json_t *value)
{
    prompt->text = json_string_value(value);
    prompt->length = json_string_length(value);
}

int api_read_prompt(struct api_request *request, json_t *value, const char *name, int vocab,
                    struct api_error *error)
{
    const json_t *first = json_array_get(value, 0);
    bool many = json_is_string(first) || json_is_array(first);
    if (!json_is_string(value) && !json_is_array(value))
        return wrong_prompt(name, error);
    if (json_is_array(value) && !first)
        return empty_prompt(name, error);
    if (!many && json_is_array(value) && !json_is_number(first))
        return wrong_prompt(name, error);

    size_t n = many ? json_array_size(value) : 1;
    if (n > API_MAX_PROMPTS)
        return api_error_set(error, 400, "invalid_value", name, "'%s' has %zu entries; %d are the most.", name, n,
                             API_MAX_PROMPTS);
    request->prompts = calloc(n, sizeof *request->prompts);
    if (!request->prompts)
        return api_error_memory(error);
    request->n_prompts = n;

    if (json_is_string(value)) {
        take_text(&request->prompts[0], value);
        return 0;
    }
    if (!many)
        return read_ids(&request->prompts[0], name, wrong_prompt, value, vocab, error);
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(value, i);
        if (json_typeof(entry) != json_typeof(first))
            return wrong_prompt(name, error);
        if (json_is_string(entry))
            take_text(&request->prompts[i], entry);
        else if (json_array_size(entry) == 0)
            return empty_prompt(name, error);
        else if (read_ids(&request->prompts[i], name, wrong_prompt, entry, vocab, error))
            return -1;
    }
    return 0;
}

static int one_prompt(struct api_request *request, struct api_error *error)
{
    request->prompts = calloc(1, sizeof *request->prompts);
    if (!request->prompts)
        return api_error_memory(error);
    request->n_prompts = 1;
    return 0;
}

int api_read_content(struct api_request *request, json_t *value, const char *name, struct api_error *error)
{
    if (!json_is_string(value))
        return api_error_set(error, 400, "invalid_type", name, "'%s' must be a string.", name);
    if (request->prompts)
        return api_error_set(error, 400, "invalid_value", name, "'content' and 'prompt' are the same: give one of them.");
    if (one_prompt(request, error))
        return -1;
    take_text(&request->prompts[0], value);
    return 0;
}

int api_read_tokens(struct api_request *request, json_t *value, int vocab, struct api_error *error)
{
    if (!json_is_array(value))
        return wrong_tokens("tokens", error);
    if (one_prompt(request, error))
        return -1;
    if (json_array_size(value) == 0)
        return 0;
    return read_ids(&request->prompts[0], "tokens", wrong_tokens, value, vocab, error);
}

/* The strings of an array, at most API_MAX_STOP of at most `bytes`; *list belongs to the caller whatever comes back. */
static int read_strings(json_t *array, const char *name, size_t bytes, const char *wanted, const char ***list,
                        size_t *n, struct api_error *error)
{
    size_t size = json_array_size(array);
    if (size > API_MAX_STOP)
        return api_error_set(error, 400, "invalid_value", name, "'%s' has %zu entries; %d are the most.", name, size,
                             API_MAX_STOP);
    *list = calloc(size + 1, sizeof **list);
    if (!*list)
        return api_error_memory(error);
    for (size_t i = 0; i < size; i++) {
        const json_t *entry = json_array_get(array, i);
        if (!json_is_string(entry))
            return api_error_set(error, 400, "invalid_type", name, "'%s' must be %s.", name, wanted);
        size_t length = json_string_length(entry);
        if (length == 0 || length > bytes)
            return api_error_set(error, 400, "invalid_value", name,
                                 "Each string of '%s' must have from 1 to %zu bytes.", name, bytes);
        (*list)[(*n)++] = json_string_value(entry);
    }
    return 0;
}

int api_read_stop(struct api_request *request, json_t *value, const char *name, struct api_error *error)
{
    static const char wanted[] = "a string or an array of strings";
    if (!json_is_string(value) && !json_is_array(value))
        return api_error_set(error, 400, "invalid_type", name, "'%s' must be %s.", name, wanted);
    json_t *array = json_is_array(value) ? json_incref(value) : json_pack("[O]", value);
    if (!array)
        return api_error_memory(error);
    int failed =
        read_strings(array, name, API_MAX_STOP_BYTES, wanted, &request->stop, &request->n_stop, error);
    json_decref(array);
    return failed;
}

int api_read_breakers(struct api_request *request, json_t *value, const char *name, struct api_error *error)
{
    static const char wanted[] = "an array of strings";
    size_t total = 0;
    if (!json_is_array(value))
        return api_error_set(error, 400, "invalid_type", name, "'%s' must be %s.", name, wanted);
    if (read_strings(value, name, API_MAX_BREAKER_BYTES, wanted, &request->dry_breakers, &request->n_dry_breakers,
                     error))
        return -1;
    for (size_t i = 0; i < request->n_dry_breakers; i++)
        total += strlen(request->dry_breakers[i]);
    if (total > API_MAX_BREAKER_BYTES)
        return api_error_set(error, 400, "invalid_value", name, "The strings of '%s' have %zu bytes; %d are the most.",
                             name, total, API_MAX_BREAKER_BYTES);
    return 0;
}

int api_read_logit_bias(struct api_request *request, json_t *value, int vocab, struct api_error *error)
{
    if (!json_is_object(value))
        return api_error_set(error, 400, "invalid_type", "logit_bias",
                             "'logit_bias' must be an object of token ids and numbers.");
    size_t n = json_object_size(value);
    if (n == 0)
        return 0;
    request->bias = calloc(n, sizeof *request->bias);
    if (!request->bias)
        return api_error_memory(error);

    const char *key;
    json_t *entry;
    json_object_foreach(value, key, entry) {
        char *end;
        errno = 0;
        long id = strtol(key, &end, 10);
        if (key[0] < '0' || key[0] > '9' || *end || errno || id >= vocab)
            return wrong_key(key, vocab, error);
        if (!json_is_number(entry))
            return api_error_set(error, 400, "invalid_type", "logit_bias",
                                 "The values of 'logit_bias' must be numbers.");
        double bias = json_number_value(entry);
        if (!(bias >= -100 && bias <= 100))
            return api_error_set(error, 400, "invalid_value", "logit_bias",
                                 "The values of 'logit_bias' must be between -100 and 100.");
        request->bias[request->n_bias++] = (struct logit_bias){(int32_t)id, (float)bias};
    }
    return 0;
}
