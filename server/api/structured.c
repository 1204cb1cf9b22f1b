/* What a text is to be like: response_format, and `grammar`, `regex`, `choice` with vLLM's names for them, as
 * the engine's specification of a grammar. */
#include "structured.h"

#include <string.h>

static int wrong_type(struct api_error *error, const char *name, const char *wanted)
{
    return api_error_set(error, 400, "invalid_type", name, "'%s' must be %s.", name, wanted);
}

/* Takes the reference. */
static int set_spec(struct api_request *request, const char *name, json_t *spec, struct api_error *error)
{
    if (!api_request_keep(request, spec))
        return api_error_memory(error);
    if (request->grammar_spec)
        return api_error_set(error, 400, "invalid_value", name, "'%s' and '%s' cannot be given together.",
                             request->grammar_param, name);
    request->grammar_spec = spec;
    request->grammar_param = name;
    return 0;
}

static int read_schema(struct api_request *request, const char *name, json_t *schema, bool strict,
                       struct api_error *error)
{
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return wrong_type(error, name, "a JSON Schema: an object");
    return set_spec(request, name,
                    json_pack("{s:s, s:O, s:b}", "type", "json_schema", "schema", schema, "strict", strict),
                    error);
}

int api_read_response_format(struct api_request *request, json_t *value, struct api_error *error)
{
    const char *given = request->endpoint == API_RESPONSES  ? "text.format"
                        : request->endpoint == API_MESSAGES ? "output_config.format"
                        : request->endpoint & API_OLLAMA    ? "format"
                                                            : "response_format";
    if (!json_is_object(value))
        return wrong_type(error, "response_format", "an object");
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!type)
        return wrong_type(error, "response_format.type", "a string");
    if (strcmp(type, "text") == 0)
        return 0;
    if (strcmp(type, "json_object") == 0) {
        json_t *schema = json_object_get(value, "schema"); /* llama.cpp's, beside the type */
        return schema && !json_is_null(schema)
                   ? read_schema(request, given, schema, false, error)
                   : set_spec(request, given, json_pack("{s:s}", "type", "json_object"), error);
    }
    if (strcmp(type, "json_schema") != 0)
        return api_error_set(error, 400, "unsupported_value", "response_format.type",
                             "'response_format.type' must be \"text\", \"json_object\" or \"json_schema\".");
    json_t *format = json_object_get(value, "json_schema");
    if (!json_is_object(format))
        return wrong_type(error, "response_format.json_schema", "an object");
    json_t *strict = json_object_get(format, "strict"), *name = json_object_get(format, "name");
    if (strict && !json_is_null(strict) && !json_is_boolean(strict))
        return wrong_type(error, "response_format.json_schema.strict", "a boolean");
    if (name && !json_is_null(name) && !json_is_string(name))
        return wrong_type(error, "response_format.json_schema.name", "a string");
    json_t *schema = json_object_get(format, "schema");
    if (!schema || json_is_null(schema)) /* OpenAI's API takes none as any */
        return set_spec(request, given, json_pack("{s:s}", "type", "json_object"), error);
    if (!json_is_object(schema))
        return wrong_type(error, "response_format.json_schema.schema", "an object");
    return read_schema(request, given, schema, json_is_true(strict), error);
}

static int read_text(struct api_request *request, const char *name, json_t *value, const char *type,
                     const char *member, struct api_error *error)
{
    if (!json_is_string(value) || json_string_length(value) == 0)
        return wrong_type(error, name, "a string, not empty");
    return set_spec(request, name, json_pack("{s:s, s:O}", "type", type, member, value), error);
}

static int read_choice(struct api_request *request, const char *name, json_t *value, struct api_error *error)
{
    bool valid = json_is_array(value) && json_array_size(value) > 0;
    for (size_t i = 0; valid && i < json_array_size(value); i++)
        valid = json_is_string(json_array_get(value, i));
    if (!valid)
        return wrong_type(error, name, "an array of strings, not empty");
    return set_spec(request, name, json_pack("{s:s, s:O}", "type", "choice", "choices", value), error);
}

static int read_json(struct api_request *request, const char *name, json_t *value, struct api_error *error)
{
    if (json_is_string(value)) /* a schema as text */
        value = api_request_keep(
            request, json_loads(json_string_value(value), JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL));
    return read_schema(request, name, value, false, error);
}

int api_read_structured(struct api_request *request, const char *name, json_t *value, struct api_error *error)
{
    static const struct {
        const char *member, *name;
    } members[] = {
        {"json", "structured_outputs.json"},
        {"regex", "structured_outputs.regex"},
        {"choice", "structured_outputs.choice"},
        {"grammar", "structured_outputs.grammar"},
    };
    if (strstr(name, "regex"))
        return read_text(request, name, value, "regex", "pattern", error);
    if (strstr(name, "choice"))
        return read_choice(request, name, value, error);
    if (strstr(name, "grammar"))
        return read_text(request, name, value, "gbnf", "grammar", error);
    if (strstr(name, "json"))
        return read_json(request, name, value, error);

    if (!json_is_object(value))
        return wrong_type(error, name, "an object");
    const char *key;
    json_t *member;
    json_object_foreach(value, key, member) {
        size_t i = 0;
        while (i < sizeof members / sizeof *members && strcmp(members[i].member, key) != 0)
            i++;
        if (json_is_null(member) || json_is_false(member))
            continue;
        if (i == sizeof members / sizeof *members)
            return api_error_set(error, 400, "unsupported_parameter", name, "'%s.%.40s' is not supported.",
                                 name, key);
        if (api_read_structured(request, members[i].name, member, error))
            return -1;
    }
    return 0;
}
