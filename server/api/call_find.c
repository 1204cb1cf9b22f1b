/* Where a call begins in a text: between tags, in a code block, or bare. */
#include "call_find.h"

#include <string.h>

#define CALL_OPEN "<tool_call>"

enum {
    MAX_LOOSE = 32 * 1024, /* bytes of a call without tags, which is held back until it is complete */
    MAX_INFO = 16          /* of what stands behind the three backquotes */
};

size_t call_blanks(const char *text, size_t length)
{
    size_t n = 0;
    while (n < length && memchr(" \n\t\r", text[n], 4))
        n++;
    return n;
}

enum scan call_marker(const char *text, size_t length, const char *marker)
{
    size_t n = strlen(marker);
    if (memcmp(text, marker, length < n ? length : n) != 0)
        return SCAN_NO;
    return length < n ? SCAN_MORE : SCAN_YES;
}

json_t *call_name(const char *object, const struct call_scan *scan)
{
    return json_loadb(object + scan->name, scan->name_end - scan->name, JSON_DECODE_ANY, NULL);
}

static bool is_known(const struct call_rules *rules, const char *object, const struct call_scan *scan)
{
    json_t *name = call_name(object, scan);
    bool known = false;
    for (size_t i = 0; name && i < json_array_size(rules->tools) && !known; i++) {
        const json_t *function = json_object_get(json_array_get(rules->tools, i), "function");
        known = json_equal(json_object_get(function, "name"), name);
    }
    json_decref(name);
    return known;
}

json_t *call_arguments(const char *object, const struct call_scan *scan)
{
    if (!scan->arguments)
        return json_string("{}");
    const char *value = object + scan->arguments;
    size_t length = scan->arguments_end - scan->arguments;
    json_t *text = value[0] == '"' ? json_loadb(value, length, JSON_DECODE_ANY, NULL) : json_stringn(value, length);
    json_t *parsed = text ? json_loadb(json_string_value(text), json_string_length(text), 0, NULL) : NULL;
    if (!json_is_object(parsed)) {
        json_decref(text);
        text = NULL;
    }
    json_decref(parsed);
    return text;
}

bool call_streams(const char *object, const struct call_scan *scan)
{
    return scan->name_end && scan->name_end < scan->arguments && object[scan->arguments] == '{';
}

/* A call without tags counts only as a whole, with arguments: before that it may be any JSON. The bare form is
 * told by its beginning where it is the model's own. */
static enum scan check_object(const struct call_rules *rules, const char *text, size_t length,
                              struct call_opening *opening)
{
    enum scan found = call_scan(text, length, &opening->scan);
    const struct call_scan *scan = &opening->scan;
    bool own = opening->tagged || (rules->calls == CALLS_BARE && !opening->fenced);
    if (scan->name_end && !is_known(rules, text, scan))
        return SCAN_NO;
    if (own && call_streams(text, scan))
        return SCAN_YES; /* whatever follows */
    if (found == SCAN_NO)
        return SCAN_NO;
    if (!own && (found == SCAN_YES ? scan->end : length) > MAX_LOOSE)
        return SCAN_NO;
    if (found == SCAN_MORE)
        return rules->final ? SCAN_NO : SCAN_MORE;
    if (!own && !scan->arguments)
        return SCAN_NO;
    json_t *arguments = call_arguments(text, scan);
    json_decref(arguments);
    return arguments ? SCAN_YES : SCAN_NO;
}

/* Three backquotes, "json" or nothing, and a line's end. */
static enum scan skip_fence(const char *text, size_t length, size_t *skipped)
{
    static const char *const infos[] = {"", "json", "JSON", "tool_call"};
    enum scan found = call_marker(text, length, "```");
    if (found != SCAN_YES)
        return found;
    const char *info = text + 3, *end = memchr(info, '\n', length - 3);
    if (!end)
        return length - 3 > MAX_INFO ? SCAN_NO : SCAN_MORE;
    *skipped = (size_t)(end - text) + 1;
    for (size_t i = 0; i < sizeof infos / sizeof *infos; i++) {
        if ((size_t)(end - info) == strlen(infos[i]) && memcmp(info, infos[i], strlen(infos[i])) == 0)
            return SCAN_YES;
    }
    return SCAN_NO;
}

enum scan call_find(const struct call_rules *rules, const char *text, size_t length, struct call_opening *opening)
{
    *opening = (struct call_opening){0};
    enum scan found = SCAN_YES;
    size_t skipped = 0;
    if (text[0] == '<' && rules->calls == CALLS_TAGGED) {
        found = call_marker(text, length, CALL_OPEN);
        skipped = strlen(CALL_OPEN);
        opening->tagged = true;
    } else if (text[0] == '`' && rules->line_start) {
        found = rules->in_fence ? call_marker(text, length, "```") : skip_fence(text, length, &skipped);
        if (rules->in_fence && found == SCAN_YES)
            return SCAN_NO; /* it ends */
        opening->fenced = true;
    } else if (text[0] != '{' || !rules->line_start || rules->in_fence) {
        return SCAN_NO;
    }
    if (found == SCAN_YES) {
        skipped += call_blanks(text + skipped, length - skipped);
        opening->object = skipped;
        if (skipped == length)
            found = SCAN_MORE;
        else if (text[skipped] != '{')
            found = SCAN_NO;
        else
            found = check_object(rules, text + skipped, length - skipped, opening);
    }
    return found == SCAN_MORE && rules->final ? SCAN_NO : found;
}
