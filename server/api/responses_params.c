/* The parameters of /v1/responses that chat has in another shape. */
#include "responses.h"

#include <stdio.h>
#include <string.h>

#include "members.h"
#include "tools.h"

enum { WHERE = 96, MAX_METADATA = 16, MAX_METADATA_KEY = 64, MAX_METADATA_VALUE = 512 };

/* A tool is flat here, and nested in chat. */
static json_t *make_tool(const json_t *tool, size_t index, struct api_error *error)
{
    char param[WHERE + 32];
    const char *type = text_member(tool, "type");
    snprintf(param, sizeof param, "tools[%zu].type", index);
    if (!type) {
        invalid_member(error, param, "a string");
        return NULL;
    }
    if (strcmp(type, "function") != 0) {
        api_error_set(error, 400, "unsupported_value", param,
                      "'%s': the tool \"%.40s\" is not supported; only functions are.", param, type);
        return NULL;
    }
    const char *name = text_member(tool, "name");
    snprintf(param, sizeof param, "tools[%zu].name", index);
    if (!name || !*name) {
        invalid_member(error, param, "a string");
        return NULL;
    }
    json_t *made = json_pack("{s:s, s:{s:s, s:O*, s:O*, s:O*}}", "type", "function", "function", "name", name,
                             "description", member(tool, "description"), "parameters", member(tool, "parameters"),
                             "strict", member(tool, "strict"));
    if (!made)
        api_error_memory(error);
    return made;
}

json_t *responses_tools(struct api_request *request, const json_t *value, struct api_error *error)
{
    return api_translate_tools(request, value, make_tool, error);
}

/* The tools that may be called, as chat nests them; NULL with *error. */
static json_t *make_allowed(const json_t *value, struct api_error *error)
{
    const char *mode = text_member(value, "mode");
    json_t *tools = json_object_get(value, "tools"), *nested = json_array(), *entry;
    size_t i;
    if (!mode || (strcmp(mode, "auto") != 0 && strcmp(mode, "required") != 0)) {
        invalid_member(error, "tool_choice.mode", "\"auto\" or \"required\"");
        goto fail;
    }
    if (json_array_size(tools) == 0) {
        invalid_member(error, "tool_choice.tools", "an array of tools, not empty");
        goto fail;
    }
    json_array_foreach(tools, i, entry) {
        const char *type = text_member(entry, "type"), *name = text_member(entry, "name");
        char param[WHERE];
        snprintf(param, sizeof param, "tool_choice.tools[%zu]", i);
        if (!type || strcmp(type, "function") != 0 || !name) {
            invalid_member(error, param, "{\"type\": \"function\", \"name\": …}");
            goto fail;
        }
        json_t *tool = json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", name);
        if (json_array_append_new(nested, tool)) {
            api_error_memory(error);
            goto fail;
        }
    }
    return json_pack("{s:s, s:{s:s, s:o}}", "type", "allowed_tools", "allowed_tools", "mode", mode, "tools", nested);
fail:
    json_decref(nested);
    return NULL;
}

json_t *responses_tool_choice(struct api_request *request, const json_t *value, struct api_error *error)
{
    json_t *made;
    if (json_is_string(value)) {
        made = json_incref((json_t *)value);
    } else {
        const char *type = text_member(value, "type"), *name = text_member(value, "name");
        error->status = 0;
        if (!type) {
            invalid_member(error, "tool_choice", "a string, or an object with a type");
            return NULL;
        }
        if (strcmp(type, "function") == 0) {
            if (!name) {
                invalid_member(error, "tool_choice.name", "a string");
                return NULL;
            }
            made = json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", name);
        } else if (strcmp(type, "allowed_tools") == 0) {
            made = make_allowed(value, error);
            if (!made && error->status)
                return NULL;
        } else {
            api_error_set(error, 400, "unsupported_value", "tool_choice.type",
                          "'tool_choice': the tool \"%.40s\" is not supported; only functions are.", type);
            return NULL;
        }
    }
    made = api_request_keep(request, made);
    if (!made)
        api_error_memory(error);
    return made;
}

int responses_read_text(struct api_request *request, const json_t *value, json_t **format, struct api_error *error)
{
    *format = NULL;
    if (!json_is_object(value))
        return api_error_set(error, 400, "invalid_type", "text", "'text' must be an object.");
    json_t *verbosity = member(value, "verbosity"), *wanted = member(value, "format");
    if (verbosity && !json_is_string(verbosity))
        return api_error_set(error, 400, "invalid_type", "text.verbosity", "'text.verbosity' must be a string.");
    if (!wanted)
        return 0;
    const char *type = text_member(wanted, "type");
    if (!type || (strcmp(type, "text") != 0 && strcmp(type, "json_object") != 0 && strcmp(type, "json_schema") != 0))
        return invalid_member(error, "text.format.type", "\"text\", \"json_object\" or \"json_schema\"");
    if (strcmp(type, "json_schema") != 0) {
        *format = wanted;
        return 0;
    }
    json_t *strict = member(wanted, "strict");
    if (!text_member(wanted, "name"))
        return invalid_member(error, "text.format.name", "a string");
    if (!json_is_object(json_object_get(wanted, "schema")))
        return invalid_member(error, "text.format.schema", "an object");
    if (strict && !json_is_boolean(strict))
        return invalid_member(error, "text.format.strict", "a boolean");
    /* Flat here, and nested in chat. */
    json_t *nested = json_object(), *entry;
    const char *name;
    int bad = !nested;
    json_object_foreach(wanted, name, entry) {
        if (strcmp(name, "type") != 0)
            bad |= json_object_set(nested, name, entry);
    }
    *format = api_request_keep(request, json_pack("{s:s, s:o}", "type", "json_schema", "json_schema", nested));
    return bad || !*format ? api_error_memory(error) : 0;
}

int responses_read_reasoning(struct api_request *request, const json_t *value, struct api_error *error)
{
    static const char *const strings[] = {"effort", "summary", "generate_summary"};
    if (!json_is_object(value))
        return api_error_set(error, 400, "invalid_type", "reasoning", "'reasoning' must be an object.");
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        json_t *text = member(value, strings[i]);
        char param[WHERE + 32];
        snprintf(param, sizeof param, "reasoning.%s", strings[i]);
        if (text && !json_is_string(text))
            return api_error_set(error, 400, "invalid_type", param, "'%s' must be a string.", param);
    }
    const char *effort = text_member(value, "effort");
    return effort ? api_request_effort(request, effort, "reasoning.effort", error) : 0;
}

int responses_read_include(struct api_request *request, const json_t *value, struct api_error *error)
{
    /* Of tools that there are not; nothing of the kind is in an answer. */
    static const char *const nothing[] = {
        "reasoning.encrypted_content", "file_search_call.results", "web_search_call.results",
        "web_search_call.action.sources", "message.input_image.image_url", "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
    };
    size_t i;
    json_t *entry;
    if (!json_is_array(value))
        return api_error_set(error, 400, "invalid_type", "include", "'include' must be an array of strings.");
    json_array_foreach(value, i, entry) {
        const char *name = json_string_value(entry);
        char param[WHERE + 32];
        bool known = name && strcmp(name, "message.output_text.logprobs") == 0;
        request->logprobs |= known;
        for (size_t k = 0; name && k < sizeof nothing / sizeof *nothing; k++)
            known |= strcmp(name, nothing[k]) == 0;
        snprintf(param, sizeof param, "include[%zu]", i);
        if (!known)
            return api_error_set(error, 400, "invalid_value", param,
                                 "'%s' is nothing that can be included: \"%.60s\".", param, name ? name : "no string");
    }
    return 0;
}

int responses_read_metadata(struct api_request *request, json_t *value, struct api_error *error)
{
    const char *key;
    json_t *entry;
    if (!json_is_object(value))
        return api_error_set(error, 400, "invalid_type", "metadata", "'metadata' must be an object of strings.");
    if (json_object_size(value) > MAX_METADATA)
        return api_error_set(error, 400, "invalid_value", "metadata", "'metadata' has %zu members; %d are the most.",
                             json_object_size(value), MAX_METADATA);
    json_object_foreach(value, key, entry) {
        char param[WHERE + 32];
        snprintf(param, sizeof param, "metadata.%.80s", key);
        if (strlen(key) > MAX_METADATA_KEY)
            return api_error_set(error, 400, "invalid_value", "metadata",
                                 "The keys of 'metadata' have at most %d bytes.", MAX_METADATA_KEY);
        if (!json_is_string(entry))
            return api_error_set(error, 400, "invalid_type", param, "'%s' must be a string.", param);
        if (json_string_length(entry) > MAX_METADATA_VALUE * 4)
            return api_error_set(error, 400, "invalid_value", param, "'%s' must have at most %d characters.", param,
                                 MAX_METADATA_VALUE);
    }
    request->metadata = value;
    return 0;
}
