/* The tables, one value from text, flags and variables. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "../engine/log.h"
#include "text.h"

#define ON(command) (1u << COMMAND_##command)

static const struct option_info infos[OPTION_COUNT] = {
#define OPTION(id, name, letter, type, fallback, range, commands, section, metavariable, help) \
    [OPTION_##id] = {name, letter, OPTION_TYPE_##type, fallback, range, commands, section, metavariable, \
                     help},
#include "options.def"
#undef OPTION
};

static const struct command_info commands[COMMAND_COUNT] = {
#define COMMAND(id, function, name, arguments, least, most, summary) \
    [COMMAND_##id] = {name, arguments, summary, least, most},
#include "commands.def"
#undef COMMAND
};

const struct option_info *option_info(enum option_id id)
{
    return &infos[id];
}

const struct command_info *command_info(enum command command)
{
    return &commands[command];
}

int command_find(const char *name)
{
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return i;
    return -1;
}

/* ---- one value ---- */

static int64_t size_unit(char letter)
{
    switch (toupper((unsigned char)letter)) {
    case 'K': return 1 << 10;
    case 'M': return 1 << 20;
    case 'G': return 1 << 30;
    default: return 0;
    }
}

/* A number with an optional K, M or G; returns the first character after it, NULL for no number. */
static const char *parse_size(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || errno == ERANGE || isspace((unsigned char)*text))
        return NULL;
    int64_t unit = size_unit(*end);
    if (unit && __builtin_mul_overflow(value, unit, &value))
        return NULL;
    *out = value;
    return unit ? end + 1 : end;
}

/* Whether `value` is inside "least..most"; a missing side is open. */
static bool in_range(const char *range, double value)
{
    const char *dots = strstr(range, "..");
    if (!dots)
        return true;
    double bound[2] = {-INFINITY, INFINITY};
    const char *at[2] = {range, dots + 2};
    for (int i = 0; i < 2; i++) {
        char *end;
        double b = strtod(at[i], &end);
        if (end != at[i])
            bound[i] = b * (size_unit(*end) ? (double)size_unit(*end) : 1);
    }
    return value >= bound[0] && value <= bound[1];
}

static bool is_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (length && strncmp(at, text, length) == 0 && (at[length] == '|' || at[length] == 0))
            return true;
    return false;
}

static int parse_flag(const char *text)
{
    static const char *const words[2][4] = {{"0", "no", "off", "false"}, {"1", "yes", "on", "true"}};
    for (int value = 0; value < 2; value++)
        for (int i = 0; i < 4; i++)
            if (strcasecmp(text, words[value][i]) == 0)
                return value;
    return -1;
}

static int parse_value(const struct option_info *info, const char *text, struct option_value *v,
                       const char *where, struct err *e)
{
    const char *end = NULL;
    char *number_end = NULL;
    switch (info->type) {
    case OPTION_TYPE_TEXT:
    case OPTION_TYPE_LIST: return 0;
    case OPTION_TYPE_CHOICE:
        return is_choice(info->range, text)
                   ? 0
                   : err_set(e, ERR_INVALID, "%s: '%s' is none of %s", where, text, info->range);
    case OPTION_TYPE_FLAG:
        v->integer = parse_flag(text);
        return v->integer >= 0 ? 0 : err_set(e, ERR_INVALID, "%s: '%s' is neither yes nor no", where, text);
    case OPTION_TYPE_INTEGER:
    case OPTION_TYPE_SIZE:
        end = parse_size(text, &v->integer);
        if (!end || *end || (info->type == OPTION_TYPE_INTEGER && isalpha((unsigned char)end[-1])))
            return err_set(e, ERR_INVALID, "%s: '%s' is not a whole number%s", where, text,
                           info->type == OPTION_TYPE_SIZE ? " (K, M and G may follow)" : "");
        v->number = (double)v->integer;
        break;
    case OPTION_TYPE_NUMBER:
        v->number = strtod(text, &number_end);
        if (number_end == text || *number_end || !isfinite(v->number))
            return err_set(e, ERR_INVALID, "%s: '%s' is not a number", where, text);
        break;
    }
    if (!in_range(info->range, v->number))
        return err_set(e, ERR_INVALID, "%s: %s is outside %s", where, text, info->range);
    return 0;
}

int option_set(struct options *o, enum option_id id, const char *text, enum option_origin origin,
               const char *where, struct err *e)
{
    struct option_value value = {.origin = origin};
    int status = parse_value(&infos[id], text, &value, where, e);
    if (status < 0)
        return status;
    if (origin < o->value[id].origin)
        return 0;
    bool more = infos[id].type == OPTION_TYPE_LIST && origin == FROM_FLAG && o->value[id].origin == FROM_FLAG;
    value.text = more ? text_from("%s,%s", o->value[id].text, text) : strdup(text);
    if (!value.text)
        return err_set(e, ERR_NOMEM, "%s: no memory", where);
    value.line = o->value[id].line;
    free(o->value[id].text);
    o->value[id] = value;
    return 0;
}

bool option_is_set(const struct options *o, enum option_id id)
{
    return o->value[id].origin > FROM_DEFAULT;
}

const char *option_text(const struct options *o, enum option_id id)
{
    return o->value[id].text;
}

int64_t option_integer(const struct options *o, enum option_id id)
{
    return o->value[id].integer;
}

double option_number(const struct options *o, enum option_id id, double unset)
{
    return o->value[id].origin == FROM_NOWHERE ? unset : o->value[id].number;
}

bool option_flag(const struct options *o, enum option_id id)
{
    return o->value[id].integer != 0;
}

/* ---- flags ---- */

int option_find(const char *name, size_t length)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strncmp(infos[i].name, name, length) == 0 && infos[i].name[length] == 0)
            return i;
    return -1;
}

static int find_letter(enum command command, char letter)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (infos[i].letter == letter && infos[i].commands & (1u << command))
            return i;
    return -1;
}

/* Reads the flag at argv[*at]; moves *at over a value that stands apart. */
static int parse_one_flag(struct options *o, int argc, char **argv, int *at, struct err *e)
{
    const char *argument = argv[*at], *value = NULL;
    bool is_long = argument[1] == '-';
    size_t length = is_long ? strcspn(argument + 2, "=") : 1;
    int id = is_long ? option_find(argument + 2, length) : find_letter(o->command, argument[1]);
    int shown = (int)(length + (is_long ? 2 : 1));
    if (id < 0 || !(infos[id].commands & (1u << o->command)))
        return err_set(e, ERR_INVALID, "%.*s: `hearth %s` has no such option; see hearth %s --help", shown,
                       argument, commands[o->command].name, commands[o->command].name);
    if (is_long && argument[2 + length] == '=')
        value = argument + 3 + length;
    else if (!is_long && argument[2])
        value = argument + 2;
    else if (infos[id].type == OPTION_TYPE_FLAG)
        value = "yes";
    else if (*at + 1 < argc)
        value = argv[++*at];
    else
        return err_set(e, ERR_INVALID, "%s: a value must follow (%s)", argument, infos[id].metavariable);

    char where[40];
    snprintf(where, sizeof where, "--%s", infos[id].name);
    return option_set(o, id, value, FROM_FLAG, where, e);
}

static int parse_flags(struct options *o, int argc, char **argv, struct err *e)
{
    o->arguments = calloc((size_t)argc + 1, sizeof *o->arguments);
    if (!o->arguments)
        return err_set(e, ERR_NOMEM, "no memory for the arguments");
    bool only_arguments = false;
    for (int i = 0; i < argc; i++) {
        if (!only_arguments && strcmp(argv[i], "--") == 0) {
            only_arguments = true;
        } else if (only_arguments || argv[i][0] != '-' || argv[i][1] == 0) {
            o->arguments[o->n_arguments++] = argv[i];
        } else {
            int status = parse_one_flag(o, argc, argv, &i, e);
            if (status < 0)
                return status;
        }
    }
    return 0;
}

/* ---- environment ---- */

void option_variable(enum option_id id, char *name)
{
    snprintf(name, 64, "HEARTH_%s", infos[id].name);
    for (char *at = name; *at; at++)
        *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
}

extern char **environ;

static int parse_environment(struct options *o, struct err *e)
{
    for (char **entry = environ; entry && *entry; entry++) {
        if (strncmp(*entry, "HEARTH_", 7) != 0 || !strchr(*entry, '='))
            continue;
        char name[64];
        int id = 0;
        size_t length = strcspn(*entry, "=");
        for (; id < OPTION_COUNT; id++) {
            option_variable(id, name);
            if (infos[id].section && strlen(name) == length && strncmp(*entry, name, length) == 0)
                break;
        }
        if (id == OPTION_COUNT) { /* a misspelt one should show; tests have variables of their own */
            if (strncmp(*entry, "HEARTH_TEST_", 12) != 0)
                log_warning("%.*s is no variable that hearth knows", (int)length, *entry);
        } else if (infos[id].commands & (1u << o->command) && (*entry)[length + 1]) {
            int status = option_set(o, id, *entry + length + 1, FROM_ENVIRONMENT, name, e);
            if (status < 0)
                return status;
        }
    }
    return 0;
}

/* ---- together ---- */

int options_parse(struct options *o, enum command command, int argc, char **argv, struct err *e)
{
    *o = (struct options){.command = command};
    for (int i = 0; i < OPTION_COUNT; i++)
        if (infos[i].fallback) {
            int status = option_set(o, i, infos[i].fallback, FROM_DEFAULT, infos[i].name, e);
            if (status < 0)
                return status;
        }
    int status = parse_flags(o, argc, argv, e);
    if (status < 0 || option_flag(o, OPTION_HELP))
        return status;
    status = parse_environment(o, e);
    if (status == 0)
        status = options_read_usual_file(o, e);
    if (status < 0)
        return status;
    const struct command_info *info = &commands[command];
    if (o->n_arguments < info->least)
        return err_set(e, ERR_INVALID, "usage: hearth %s %s", info->name, info->arguments);
    if (o->n_arguments > info->most)
        return err_set(e, ERR_INVALID, "%s: unexpected; see hearth %s --help", o->arguments[info->most],
                       info->name);
    return 0;
}

void options_dispose(struct options *o)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        free(o->value[i].text);
    free(o->arguments);
    free(o->file);
    *o = (struct options){0};
}
