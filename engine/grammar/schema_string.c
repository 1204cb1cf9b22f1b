/* Strings: lengths, patterns, and formats as the regular expressions that their RFCs give. */
#include "schema.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <limits.h>
#include <pcre2.h>
#include <string.h>

/* ---- formats ---- */

/* RFC 3339. Years as those calendars have that begin with 1; February's last day by the year. */
#define YEAR "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
#define LEAP_YEAR "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define MONTH_DAY                                                                                            \
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"                \
    "02-(?:0[1-9]|1[0-9]|2[0-8]))"
#define DATE "(?:" YEAR "-" MONTH_DAY "|" LEAP_YEAR "-02-29)"
#define TIME                                                                                                 \
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"

/* RFC 3339's appendix A, with at most four digits a number. */
#define COUNT "[0-9]{1,4}"
#define DURATION_TIME "T(?:" COUNT "H(?:" COUNT "M(?:" COUNT "S)?)?|" COUNT "M(?:" COUNT "S)?|" COUNT "S)"
#define DURATION_DATE "(?:" COUNT "D|" COUNT "M(?:" COUNT "D)?|" COUNT "Y(?:" COUNT "M(?:" COUNT "D)?)?)"
#define DURATION "P(?:" COUNT "W|" DURATION_DATE "(?:" DURATION_TIME ")?|" DURATION_TIME ")"

/* RFC 1123; RFC 5321's mailboxes without quoted parts and address literals. */
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}"
#define EMAIL ATOM "(?:\\." ATOM "){0,2}@(?:" LABEL "\\.){1,3}[A-Za-z]{2,24}"

/* RFC 4291, RFC 3986. */
#define BYTE "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4 BYTE "\\." BYTE "\\." BYTE "\\." BYTE
#define H16 "[0-9a-fA-F]{1,4}"
#define IPV6                                                                                                 \
    "(?:(?:" H16 ":){7}" H16 "|::(?:" H16 ":){0,6}" H16 "|(?:" H16 ":){1}(?::" H16 "){1,6}|"                 \
    "(?:" H16 ":){2}(?::" H16 "){1,5}|(?:" H16 ":){3}(?::" H16 "){1,4}|(?:" H16 ":){4}(?::" H16 "){1,3}|"    \
    "(?:" H16 ":){5}(?::" H16 "){1,2}|(?:" H16 ":){6}:" H16 "|(?:" H16 ":){1,7}:|::)"
#define PCHAR "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
#define PATH "(?:/" PCHAR "*)*"
#define TAIL "(?:\\?(?:" PCHAR "|[/?])*)?(?:#(?:" PCHAR "|[/?])*)?"
#define AUTHORITY "(?:" LABEL "\\.){0,4}" LABEL "(?::[0-9]{1,5})?"
#define URI "[A-Za-z][A-Za-z0-9+.-]{0,15}:(?://" AUTHORITY PATH "|" PCHAR "+(?:/" PCHAR "*)*)" TAIL

#define UUID "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
#define BASE64 "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
/* RFC 6901. */
#define POINTER "(?:/(?:[^~/]|~[01])*)*"

const char *schema_format(const char *name)
{
    static const struct {
        const char *name, *pattern;
    } formats[] = {
        {"date", DATE},
        {"time", TIME},
        {"date-time", DATE "T" TIME},
        {"duration", DURATION},
        {"email", EMAIL},
        {"idn-email", EMAIL},
        {"hostname", "(?:" LABEL "\\.){0,3}" LABEL},
        {"idn-hostname", "(?:" LABEL "\\.){0,3}" LABEL},
        {"ipv4", IPV4},
        {"ipv6", IPV6},
        {"uuid", UUID},
        {"uri", URI},
        {"url", URI},
        {"iri", URI},
        {"uri-reference", "(?:" URI "|" PATH TAIL ")"},
        {"iri-reference", "(?:" URI "|" PATH TAIL ")"},
        {"json-pointer", POINTER},
        {"relative-json-pointer", "(?:0|[1-9][0-9]{0,8})(?:#|" POINTER ")"},
        {"byte", BASE64},
        {"password", "[\\s\\S]*"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, name) == 0)
            return formats[i].pattern;
    }
    return NULL;
}

/* ---- strings at hand ---- */

int schema_matches(struct schema *s, const char *pattern, bool search, const char *text)
{
    int code, rc;
    size_t at;
    if (!schema_step(s, 20))
        return -1;
    uint32_t flags = PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | (search ? 0 : PCRE2_ANCHORED | PCRE2_ENDANCHORED);
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, flags, &code, &at, NULL);
    if (!compiled) {
        PCRE2_UCHAR message[128] = "malformed";
        pcre2_get_error_message(code, message, sizeof message);
        grammar_fail(s->build, ERR_INVALID, "JSON Schema, pattern %.60s: %s at %zu", pattern,
                     (const char *)message, at);
        return -1;
    }
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    rc = PCRE2_ERROR_NOMEMORY;
    if (limits && data) {
        pcre2_set_match_limit(limits, 20000);
        pcre2_set_heap_limit(limits, 1024);
        rc = pcre2_match(compiled, (PCRE2_SPTR)text, strlen(text), 0, 0, data, limits);
    }
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
    pcre2_code_free(compiled);
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH)
        return rc != PCRE2_ERROR_NOMATCH;
    grammar_fail(s->build, ERR_LIMIT, "JSON Schema, pattern %.60s: too much work to match a given text",
                 pattern);
    return -1;
}

static int64_t characters(const char *text)
{
    int64_t n = 0;
    for (; *text; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

bool schema_string_holds(struct schema *s, const struct schema_shape *shape, const char *text)
{
    int64_t n = characters(text);
    if (n < shape->min_length || (shape->max_length >= 0 && n > shape->max_length))
        return false;
    if (shape->pattern && schema_matches(s, shape->pattern, true, text) <= 0)
        return false;
    return !shape->format || schema_matches(s, schema_format(shape->format), false, text) > 0;
}

/* ---- strings to be written ---- */

int schema_string(struct schema *s, const struct schema_shape *shape)
{
    struct grammar_build *b = s->build;
    int min = shape->min_length < INT_MAX ? (int)shape->min_length : INT_MAX;
    int max = shape->max_length < INT_MAX ? (int)shape->max_length : -1;
    const char *pattern = shape->pattern  ? shape->pattern
                          : shape->format ? schema_format(shape->format)
                                          : NULL;
    if (shape->max_length >= 0 && shape->min_length > shape->max_length)
        return grammar_never(b);
    if (!pattern)
        return grammar_json_string(b, min, max);
    struct regex_bounds bounds = {.min_chars = min, .max_chars = max, .json = true, .search = shape->pattern};
    int quote = grammar_bytes(b, "\"", 1);
    int text = grammar_regex(b, pattern, strlen(pattern), bounds);
    return grammar_sequence(b, (int[]){quote, text, quote}, 3);
}
