/* The parameter table at work: JSON in, struct api_request out. */
#include "request.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "adapters.h"
#include "anthropic.h"
#include "embeddings.h"
#include "infill.h"
#include "ollama.h"
#include "responses.h"
#include "structured.h"
#include "tools.h"

enum kind {
    BOOLEAN, INTEGER, WIDE, NUMBER, STRING, OBJECT, MESSAGES, PROMPT, STREAM_OPTIONS, STOP, BREAKERS, SCALES,
    LOGIT_BIAS, TOOLS,
    CONTENT, TOKENS, ENCODING, POOLING, FILES, TOOL_CHOICE, EFFORT, RESPONSE_FORMAT, STRUCTURED, FUNCTIONS,
    FUNCTION_CALL, UNSUPPORTED,
    INPUT, RESPONSES_TOOLS, RESPONSES_TOOL_CHOICE, RESPONSES_TEXT, RESPONSES_REASONING, INCLUDE, METADATA, TRUNCATION,
    ANTHROPIC_MESSAGES, SYSTEM, ANTHROPIC_TOOLS, ANTHROPIC_TOOL_CHOICE, THINKING, ANTHROPIC_METADATA, OUTPUT_CONFIG,
    OLLAMA_MESSAGES, THINK, KEEP_ALIVE, OLLAMA_FORMAT, WITHOUT_EFFECT
};

#define CHAT API_CHAT
#define TEXT API_TEXT
#define RESPONSES API_RESPONSES
#define ANTHROPIC API_MESSAGES
#define TOKENIZE API_TOKENIZE
#define DETOKENIZE API_DETOKENIZE
#define EMBEDDINGS API_EMBEDDINGS
#define INFILL API_INFILL
#define OLLAMA_CHAT API_OLLAMA_CHAT
#define OLLAMA_GENERATE API_OLLAMA_GENERATE
#define OLLAMA_SHOW API_OLLAMA_SHOW
#define OLLAMA (API_OLLAMA_CHAT | API_OLLAMA_GENERATE)
#define BOTH (API_CHAT | API_TEXT)
#define CHATS (API_CHAT | API_RESPONSES | API_MESSAGES)
#define ALL (API_TEXT | API_INFILL | CHATS)

const struct api_param api_params[PARAM_COUNT] = {
#define PARAM(name, row, kind, minimum, maximum, fallback, field, endpoints, meaning) \
    [PARAM_##row] = {name, #kind, fallback, meaning, minimum, maximum, endpoints},
#include "params.def"
#undef PARAM
};

static const struct place {
    enum kind kind;
    size_t offset;
} places[PARAM_COUNT] = {
#define PARAM(name, row, kind, minimum, maximum, fallback, field, endpoints, meaning) \
    [PARAM_##row] = {kind, offsetof(struct api_request, field)},
#include "params.def"
#undef PARAM
};

/* A field of the wrong type would be written over its neighbours. */
#define PARAM(name, row, kind, minimum, maximum, fallback, field, endpoints, meaning)                        \
    _Static_assert(kind > OBJECT || _Generic(((struct api_request *)0)->field,                               \
                                    bool: BOOLEAN,                                                           \
                                    int: INTEGER,                                                            \
                                    int64_t: WIDE,                                                           \
                                    double: NUMBER,                                                          \
                                    const char *: STRING,                                                    \
                                    json_t *: OBJECT,                                                        \
                                    default: -1) == kind,                                                    \
                   "the type of " #field " is not " #kind);
#include "params.def"
#undef PARAM

static int wrong_type(struct api_error *error, const char *name, const char *wanted)
{
    return api_error_set(error, 400, "invalid_type", name, "'%s' must be %s.", name, wanted);
}

bool api_json_integer(const json_t *value, int64_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    double real = json_is_real(value) ? json_real_value(value) : NAN;
    /* 2^63 itself is a double, and outside. */
    if (!(real >= -0x1p63 && real < 0x1p63) || real != floor(real))
        return false;
    *out = (int64_t)real;
    return true;
}

static int out_of_range(struct api_error *error, const struct api_param *param)
{
    return api_error_set(error, 400, "invalid_value", param->name, "'%s' must be between %.15g and %.15g.",
                         param->name, param->minimum, param->maximum);
}

static int read_integer(const struct api_param *param, const json_t *value, int64_t *out,
                        struct api_error *error)
{
    if (!api_json_integer(value, out)) {
        double real = json_is_real(value) ? json_real_value(value) : NAN;
        if (fabs(real) >= 0x1p63)
            return out_of_range(error, param);
        return wrong_type(error, param->name, "an integer");
    }
    if ((double)*out < param->minimum || (double)*out > param->maximum)
        return out_of_range(error, param);
    return 0;
}

static int read_number(const struct api_param *param, const json_t *value, double *out,
                       struct api_error *error)
{
    if (!json_is_number(value))
        return wrong_type(error, param->name, "a number");
    *out = json_number_value(value);
    if (!(*out >= param->minimum && *out <= param->maximum))
        return out_of_range(error, param);
    return 0;
}

static int read_stream_options(struct api_request *request, const json_t *value, struct api_error *error)
{
    if (!json_is_object(value))
        return wrong_type(error, "stream_options", "an object");
    const json_t *usage = json_object_get(value, "include_usage");
    if (usage && !json_is_null(usage) && !json_is_boolean(usage))
        return wrong_type(error, "stream_options.include_usage", "a boolean");
    request->include_usage = json_is_true(usage);
    return 0;
}

/* What is not there may still be asked for in words that ask for nothing. */
static int read_unsupported(const struct api_param *param, const json_t *value, struct api_error *error)
{
    if (json_is_false(value) || (json_is_array(value) && json_array_size(value) == 0) ||
        (json_is_string(value) && json_string_length(value) == 0))
        return 0;
    return api_error_set(error, 400, "unsupported_parameter", param->name, "'%s' is not supported.", param->name);
}

static int read_truncation(const json_t *value, struct api_error *error)
{
    const char *mode = json_string_value(value);
    if (mode && strcmp(mode, "disabled") == 0)
        return 0;
    if (mode && strcmp(mode, "auto") == 0)
        return api_error_set(error, 400, "unsupported_value", "truncation",
                             "'truncation' other than \"disabled\" is not supported.");
    return wrong_type(error, "truncation", "\"disabled\"");
}

/* A response_format, which came as `name`; NULL: none did. */
static int read_format(struct api_request *request, json_t *format, const char *name, struct api_error *error)
{
    if (!format)
        return 0;
    int failed = api_read_response_format(request, format, error);
    request->grammar_param = name;
    return failed;
}

/* Parameters of other APIs that have a shape of their own; where chat has the same in another shape, they are given
 * that one first. */
static int read_translated(struct api_request *request, enum kind kind, json_t *value, struct api_error *error)
{
    json_t *format = NULL;
    switch (kind) {
    case INPUT:
        return responses_read_input(request, value, error);
    case RESPONSES_TOOLS:
        value = responses_tools(request, value, error);
        return value ? api_read_tools(request, value, error) : -1;
    case RESPONSES_TOOL_CHOICE:
        value = responses_tool_choice(request, value, error);
        return value ? api_read_tool_choice(request, value, error) : -1;
    case RESPONSES_TEXT:
        if (responses_read_text(request, value, &format, error))
            return -1;
        return read_format(request, format, "text.format", error);
    case RESPONSES_REASONING:
        return responses_read_reasoning(request, value, error);
    case INCLUDE:
        return responses_read_include(request, value, error);
    case METADATA:
        return responses_read_metadata(request, value, error);
    case ANTHROPIC_MESSAGES:
        return anthropic_read_messages(request, value, error);
    case SYSTEM:
        return anthropic_read_system(request, value, error);
    case ANTHROPIC_TOOLS:
        value = anthropic_tools(request, value, error);
        return value ? api_read_tools(request, value, error) : -1;
    case ANTHROPIC_TOOL_CHOICE:
        value = anthropic_tool_choice(request, value, error);
        return value ? api_read_tool_choice(request, value, error) : -1;
    case THINKING:
        return anthropic_read_thinking(request, value, error);
    case ANTHROPIC_METADATA:
        return anthropic_read_metadata(request, value, error);
    case OUTPUT_CONFIG:
        if (anthropic_read_output(request, value, &format, error))
            return -1;
        return read_format(request, format, "output_config.format", error);
    case OLLAMA_MESSAGES:
        return ollama_read_messages(request, value, error);
    case THINK:
        return ollama_read_think(request, value, error);
    case KEEP_ALIVE:
        return ollama_read_keep_alive(request, value, error);
    case OLLAMA_FORMAT:
        if (ollama_read_format(request, value, &format, error))
            return -1;
        return read_format(request, format, "format", error);
    default:
        return -1;
    }
}

static int read_param(struct api_request *request, int row, json_t *value, int vocab, struct api_error *error)
{
    const struct api_param *param = &api_params[row];
    void *field = (char *)request + places[row].offset;
    int64_t wide;

    switch (places[row].kind) {
    case BOOLEAN:
        if (!json_is_boolean(value))
            return wrong_type(error, param->name, "a boolean");
        *(bool *)field = json_is_true(value);
        return 0;
    case INTEGER:
        if (read_integer(param, value, &wide, error))
            return -1;
        *(int *)field = (int)wide;
        return 0;
    case WIDE:
        return read_integer(param, value, field, error);
    case NUMBER:
        return read_number(param, value, field, error);
    case STRING:
        if (!json_is_string(value))
            return wrong_type(error, param->name, "a string");
        *(const char **)field = json_string_value(value);
        return 0;
    case OBJECT:
        if (!json_is_object(value))
            return wrong_type(error, param->name, "an object");
        *(json_t **)field = value;
        return 0;
    case MESSAGES:
        return api_read_messages(request, value, error);
    case PROMPT:
        return api_read_prompt(request, value, param->name, vocab, error);
    case ENCODING:
        return api_read_encoding(request, value, error);
    case POOLING:
        return api_read_pooling(request, value, error);
    case FILES:
        return api_read_files(request, value, error);
    case CONTENT:
        return api_read_content(request, value, param->name, error);
    case TOKENS:
        return api_read_tokens(request, value, vocab, error);
    case STREAM_OPTIONS:
        return read_stream_options(request, value, error);
    case STOP:
        return api_read_stop(request, value, param->name, error);
    case BREAKERS:
        return api_read_breakers(request, value, param->name, error);
    case SCALES:
        return api_read_scales(request, value, error);
    case LOGIT_BIAS:
        return api_read_logit_bias(request, value, vocab, error);
    case TOOLS:
        return api_read_tools(request, value, error);
    case TOOL_CHOICE:
        return api_read_tool_choice(request, value, error);
    case EFFORT:
        if (!json_is_string(value))
            return wrong_type(error, param->name, "a string");
        return api_request_effort(request, json_string_value(value), param->name, error);
    case RESPONSE_FORMAT:
        return api_read_response_format(request, value, error);
    case STRUCTURED:
        return api_read_structured(request, param->name, value, error);
    case FUNCTIONS:
        return api_read_functions(request, value, error);
    case FUNCTION_CALL:
        return api_read_function_call(request, value, error);
    case UNSUPPORTED:
        return read_unsupported(param, value, error);
    case TRUNCATION:
        return read_truncation(value, error);
    case WITHOUT_EFFECT:
        return read_integer(param, value, &wide, error);
    default:
        return read_translated(request, places[row].kind, value, error);
    }
}

static int parse_json(json_t **out, const char *body, size_t length, struct api_error *error)
{
    if (length == 0 || strspn(body, " \t\r\n") == length)
        return api_error_set(error, 400, "invalid_json", NULL,
                             "The request body is empty: a JSON object is expected.");

    json_error_t at;
    *out = json_loadb(body, length, JSON_REJECT_DUPLICATES, &at);
    /* An integer beyond 64 bits is legal JSON: read as a real it is refused under its own name, or
     * ignored with the member it stands in. */
    if (!*out && json_error_code(&at) == json_error_numeric_overflow)
        *out = json_loadb(body, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &at);
    if (!*out)
        return api_error_set(error, 400, "invalid_json", NULL,
                             "The request body is not valid JSON: %s (line %d, column %d).", at.text, at.line,
                             at.column);
    if (!json_is_object(*out))
        return api_error_set(error, 400, "invalid_json", NULL, "The request body must be a JSON object.");
    return 0;
}

static int check_required(const struct api_request *request, struct api_error *error)
{
    const char *missing = NULL;
    switch (request->endpoint) {
    case API_CHAT: missing = request->messages ? NULL : "messages"; break;
    case API_TEXT: missing = request->prompts ? NULL : "prompt"; break;
    case API_EMBEDDINGS: missing = request->prompts ? NULL : "input"; break;
    case API_INFILL:
        missing = !request->gap_prefix ? "input_prefix" : !request->suffix ? "input_suffix" : NULL;
        break;
    case API_TOKENIZE: missing = request->prompts ? NULL : "content"; break;
    case API_DETOKENIZE: missing = request->prompts ? NULL : "tokens"; break;
    case API_RESPONSES: missing = request->input ? NULL : "input"; break;
    case API_MESSAGES:
        missing = !request->input                                                  ? "messages"
                  : !request->given[PARAM_max_tokens] && !request->prompt_only ? "max_tokens"
                                                                                   : NULL;
        break;
    default: break;
    }
    if (!missing)
        return 0;
    return api_error_set(error, 400, "missing_required_parameter", missing, "Missing required parameter: '%s'.",
                         missing);
}

/* The messages of those that bring them otherwise; what continues gets them when the store was read. */
static int make_messages(struct api_request *request, struct api_error *error)
{
    request->continues |= request->previous != NULL;
    if (request->endpoint == API_MESSAGES)
        return anthropic_messages(request, error);
    if (request->endpoint == API_RESPONSES && !request->continues)
        return responses_messages(request, NULL, error);
    if (request->endpoint & API_OLLAMA)
        return ollama_finish(request, error);
    if (request->endpoint == API_INFILL)
        return api_infill_prompt(request, error);
    return 0;
}

static int check_length(struct api_request *request, struct api_error *error)
{
    const bool *given = request->given;
    if (request->endpoint == API_EMBEDDINGS)
        return 0;
    if (given[PARAM_max_completion_tokens])
        request->max_tokens = request->max_completion_tokens;
    else if (!given[PARAM_max_tokens] && !given[PARAM_max_output_tokens] && !given[PARAM_n_predict] &&
             !(given[PARAM_num_predict] && request->max_tokens > 0))
        request->max_tokens = request->endpoint == API_TEXT ? 16 : -1;
    if (request->max_tokens != 0 || request->endpoint == API_TEXT || request->endpoint == API_INFILL)
        return 0;
    const char *name = given[PARAM_max_completion_tokens] ? "max_completion_tokens" : "max_tokens";
    return api_error_set(error, 400, "invalid_value", name, "'%s' must be at least 1.", name);
}

/* What no single parameter can tell. */
static int check_together(struct api_request *request, struct api_error *error)
{
    if (check_required(request, error) || check_length(request, error))
        return -1;
    if (request->given[PARAM_text_logprobs])
        request->logprobs = true;
    if (request->n_top > 0 && !request->logprobs)
        return api_error_set(error, 400, "invalid_value", "top_logprobs",
                             "'top_logprobs' needs 'logprobs' to be true.");
    if (request->best_of > request->n)
        return api_error_set(error, 400, "unsupported_value", "best_of",
                             "'best_of' above 'n' is not supported.");
    if (request->sampling.top_k < 0 && (request->given[PARAM_top_k] || request->given[PARAM_ollama_top_k]))
        request->sampling.top_k = 0;

    /* An empty suffix leaves nothing to join: an ordinary completion. */
    if (request->endpoint == API_TEXT && request->suffix && !request->suffix[0])
        request->suffix = NULL;
    if (request->suffix && request->echo)
        return api_error_set(error, 400, "unsupported_value", "echo",
                             "'echo' with 'suffix' is not supported.");
    for (size_t i = 0; request->suffix && i < request->n_prompts; i++) {
        if (!request->prompts[i].text)
            return api_error_set(error, 400, "unsupported_value", "suffix",
                                 "'suffix' needs a 'prompt' of text, not token ids.");
    }
    return api_check_tools(request, error);
}

/* "options.top_k" is a member of Ollama's options. */
static json_t *find_value(const struct api_request *request, const char *name)
{
    static const char prefix[] = "options.";
    if (strncmp(name, prefix, sizeof prefix - 1) == 0)
        return json_object_get(request->options, name + sizeof prefix - 1);
    return json_object_get(request->body, name);
}

int api_request_parse(struct api_request *request, enum api_endpoint endpoint, const char *body,
                      size_t length, int vocab, struct api_error *error)
{
    *request = (struct api_request){
        .endpoint = endpoint & ~API_PROMPT_ONLY,
        .add_generation_prompt = true,
        .parallel_tool_calls = true,
        .thinking_budget = -1,
        .store = true,
        .stream = endpoint & API_OLLAMA,
        .parse_special = true,
        .prompt_only = endpoint & API_PROMPT_ONLY,
        .n = 1,
        .cache_prompt = true,
        .sampling = {.temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1, .top_k = -1},
        .repeat_last_n = -1,
        .dry_base = 1.75,
        .dry_allowed_length = 2,
        .dry_penalty_last_n = -1,
        .xtc_threshold = 0.1,
    };
    if (parse_json(&request->body, body, length, error))
        return -1;

    for (int row = 0; row < PARAM_COUNT; row++) {
        if (!(api_params[row].endpoints & request->endpoint))
            continue;
        json_t *value = find_value(request, api_params[row].name);
        if (!value || json_is_null(value))
            continue;
        if (read_param(request, row, value, vocab, error))
            return -1;
        request->given[row] = true;
    }
    return check_together(request, error) || make_messages(request, error) ? -1 : 0;
}

json_t *api_request_keep(struct api_request *request, json_t *value)
{
    if (!request->made)
        request->made = json_array();
    return json_array_append_new(request->made, value) ? NULL : value;
}

void api_request_dispose(struct api_request *request)
{
    for (size_t i = 0; i < request->n_prompts; i++)
        free(request->prompts[i].ids.ids);
    free(request->prompts);
    free(request->stop);
    free(request->dry_breakers);
    free(request->bias);
    free(request->scales);
    json_decref(request->body);
    json_decref(request->made);
    free(request->rendered);
    engine_grammar_release(request->grammar);
    *request = (struct api_request){0};
}
