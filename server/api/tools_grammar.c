/* What a text with calls and reasoning must be like, as the engine's specification of a grammar. */
#include <stdio.h>
#include <string.h>

#include "tools.h"

static json_t *literal(const char *text, size_t length)
{
    return json_pack("{s:s, s:s%}", "type", "literal", "text", text, length);
}

/* The reference to parts is taken. */
static json_t *sequence(json_t *parts)
{
    return json_pack("{s:s, s:o}", "type", "sequence", "parts", parts);
}

static json_t *any_of(json_t *specs)
{
    return json_pack("{s:s, s:o}", "type", "any_of", "specs", specs);
}

/* Arguments are an object even where the schema does not say so, and none at all without one. `loose`: any object. */
static json_t *arguments_spec(const json_t *function, bool loose)
{
    json_t *schema = json_object_get(function, "parameters");
    if (loose)
        return json_pack("{s:s}", "type", "json_object");
    schema = json_is_object(schema) ? json_copy(schema)
                                    : json_pack("{s:{}, s:b}", "properties", "additionalProperties", false);
    if (schema && !json_object_get(schema, "type"))
        json_object_set_new(schema, "type", json_string("object"));
    return json_pack("{s:s, s:o, s:b}", "type", "json_schema", "schema", schema, "strict",
                     json_is_true(json_object_get(function, "strict")));
}

/* BEFORE"NAME", "KEY": ARGUMENTS}AFTER */
static json_t *call_spec(const json_t *tool, const char *before, const char *key, const char *after, bool loose)
{
    const json_t *function = json_object_get(tool, "function");
    char *name = json_dumps(json_object_get(function, "name"), JSON_ENCODE_ANY);
    char head[2048], tail[32];
    if (!name)
        return NULL;
    int n = snprintf(head, sizeof head, "%s%s, \"%s\": ", before, name, key);
    int m = snprintf(tail, sizeof tail, "}%s", after);
    free(name);
    if (n < 0 || (size_t)n >= sizeof head)
        return NULL;
    return sequence(json_pack("[o, o, o]", literal(head, (size_t)n), arguments_spec(function, loose),
                              literal(tail, (size_t)m)));
}

static json_t *calls_spec(const json_t *tools, const char *before, const char *key, const char *after, bool loose)
{
    json_t *specs = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        bool strict = json_is_true(json_object_get(json_object_get(tool, "function"), "strict"));
        if (json_array_append_new(specs, call_spec(tool, before, key, after, loose && !strict))) {
            json_decref(specs);
            return NULL;
        }
    }
    return any_of(specs);
}

/* Calls and nothing else. */
static json_t *needed_spec(const struct api_request *request, bool bare, bool loose)
{
    json_t *call = bare ? calls_spec(request->callable, "{\"name\": ", "parameters", "", loose)
                        : calls_spec(request->callable, "<tool_call>\n{\"name\": ", "arguments", "\n</tool_call>", loose);
    if (request->one_call)
        return call;
    const char *between = bare ? "; " : "\n";
    return json_pack("{s:s, s:o, s:i, s:i, s:o}", "type", "repeat", "of", call, "min", 1, "max", -1, "between",
                     literal(between, strlen(between)));
}

/* Anything; what has begun like a call goes on as one. */
static json_t *offered_spec(const struct api_request *request, bool bare, bool loose)
{
    const char *trigger = bare ? "{\"name\": " : "<tool_call>";
    json_t *then = bare ? calls_spec(request->callable, "", "parameters", "", loose)
                        : calls_spec(request->callable, "\n{\"name\": ", "arguments", "\n</tool_call>", loose);
    return json_pack("{s:s, s:[{s:s, s:o}]}", "type", "triggered", "cases", "trigger", trigger, "then", then);
}

static bool any_strict(const json_t *tools)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        if (json_is_true(json_object_get(json_object_get(json_array_get(tools, i), "function"), "strict")))
            return true;
    }
    return false;
}

/* What the calls and the spec given make together; NULL with *none: anything. */
static json_t *text_spec(const struct api_request *request, bool bare, bool loose, bool *none)
{
    json_t *given = request->grammar_spec;
    *none = false;
    if (request->needs_call)
        return needed_spec(request, bare, loose);
    if (request->callable && given)
        return any_of(json_pack("[O, o]", given, needed_spec(request, bare, loose)));
    /* A bare call begins like any JSON: only what must be right is held to it. */
    if (request->callable && (!bare || any_strict(request->callable)))
        return offered_spec(request, bare, loose);
    *none = !given;
    return json_incref(given);
}

/* Text without "</think>", then that, as a regular expression: an unfinished end marker may repeat, and what
 * breaks it off is any other character. */
#define BEGUN "<(?:/(?:t(?:h(?:i(?:n(?:k)?)?)?)?)?)?"
#define BROKEN "<(?:[^</]|/(?:[^<t]|t(?:[^<h]|h(?:[^<i]|i(?:[^<n]|n(?:[^<k]|k[^<>]))))))"
#define THOUGHT "(?:[^<]|(?:" BEGUN ")*" BROKEN ")*(?:" BEGUN ")*</think>\\n{0,2}"

/* Reasoning goes before; the reference to spec is taken. */
static json_t *behind_reasoning(const struct pieces_options *pieces, json_t *spec)
{
    if (!pieces->thinks && !pieces->thinking)
        return spec;
    return sequence(json_pack("[{s:s, s:s}, o]", "type", "regex", "pattern",
                              pieces->thinking ? THOUGHT : "(?:<think>" THOUGHT ")?", spec));
}

static json_t *whole_spec(const struct api_request *request, bool loose, bool *none)
{
    json_t *spec = text_spec(request, request->pieces.calls == CALLS_BARE, loose, none);
    return *none ? NULL : behind_reasoning(&request->pieces, spec);
}

static bool compiles(const struct model *model, const json_t *spec)
{
    struct grammar *grammar = NULL;
    struct err err = {0};
    bool ok = engine_grammar(model, spec, &grammar, &err) == 0;
    engine_grammar_release(grammar);
    return ok;
}

/* A schema that the engine does not know is an error of a strict function, and no bound on the others'. */
static int check_strict(const struct api_request *request, const struct model *model, struct api_error *error)
{
    for (size_t i = 0; i < json_array_size(request->tools); i++) {
        const json_t *function = json_object_get(json_array_get(request->tools, i), "function");
        struct grammar *grammar = NULL;
        struct err err = {0};
        char param[96];
        if (!json_is_true(json_object_get(function, "strict")))
            continue;
        json_t *spec = arguments_spec(function, false);
        if (!spec)
            return api_error_memory(error);
        int code = engine_grammar(model, spec, &grammar, &err);
        engine_grammar_release(grammar);
        json_decref(spec);
        if (code) {
            const char *where = request->old_calls ? "functions[%zu].parameters" : "tools[%zu].function.parameters";
            snprintf(param, sizeof param, where, i);
            return api_error_engine(error, &err, param);
        }
    }
    return 0;
}

static bool ends_with(const char *text, size_t length, const char *ending)
{
    size_t n = strlen(ending);
    while (length > 0 && strchr(" \n\t\r", text[length - 1]))
        length--;
    return length >= n && memcmp(text + length - n, ending, n) == 0;
}

/* Whether reasoning may come first, and whether it has begun: by the template, or in the message to be continued. */
static void find_reasoning(const struct api_request *request, const char *prompt, size_t length,
                           struct pieces_options *pieces)
{
    const json_t *last = json_array_get(request->messages, json_array_size(request->messages) - 1);
    const char *content = json_string_value(json_object_get(last, "content"));
    bool goes_on = request->continue_final_message && content && content[strspn(content, " \n\t\r")];
    pieces->thinks = !goes_on;
    pieces->thinking = ends_with(prompt, length, "<think>");
    if (!goes_on)
        return;
    const char *open = strstr(content, "<think>");
    pieces->thinking |= open && !strstr(open, "</think>");
}

int api_prepare_tools(struct api_request *request, const struct model *model, const char *prompt, size_t length,
                      struct api_error *error)
{
    const struct model_info *info = engine_model_info(model);
    bool none;
    request->pieces = (struct pieces_options){
        .calls = !request->callable ? CALLS_NONE : info->calls == ENGINE_CALLS_BARE ? CALLS_BARE : CALLS_TAGGED,
        .tools = request->callable,
        .one_call = request->one_call,
    };
    if (info->thinks)
        find_reasoning(request, prompt, length, &request->pieces);
    if (api_prepare_thinking(request, model, error))
        return -1;
    if (request->prompt_only)
        return 0;
    json_t *spec = whole_spec(request, false, &none);
    if (none)
        return 0;
    if (spec && request->callable && !compiles(model, spec)) {
        if (check_strict(request, model, error)) {
            json_decref(spec);
            return -1;
        }
        json_decref(spec);
        spec = whole_spec(request, true, &none);
    }
    request->grammar_spec = api_request_keep(request, spec);
    if (!request->grammar_param)
        request->grammar_param = request->old_calls ? "functions" : "tools";
    return request->grammar_spec ? 0 : api_error_memory(error);
}
