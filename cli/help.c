/* The help texts, printed from the tables. */
#include <string.h>

#include "options.h"

void help_program(FILE *out)
{
    fprintf(out, "hearth serves GGUF language models over an OpenAI-compatible HTTP API.\n\n"
                 "Usage: hearth COMMAND [options]\n\nCommands:\n");
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-10s %s\n", command_info(i)->name, command_info(i)->summary);
    fprintf(out, "\nhearth COMMAND --help tells a command's options; hearth --version the version.\n");
}

/* Characters, not bytes: the table has an ellipsis in it. */
static int width(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

static void print_option(FILE *out, enum option_id id)
{
    const struct option_info *info = option_info(id);
    char left[80];
    char letter[4] = "   ";
    if (info->letter)
        snprintf(letter, sizeof letter, "-%c,", info->letter);
    snprintf(left, sizeof left, "  %s --%s %s", letter, info->name, info->metavariable);
    fprintf(out, "%s%*s %s", left, width(left) < 32 ? 32 - width(left) : 0, "", info->help);
    if (*info->range)
        fprintf(out, " (%s", info->range);
    if (info->fallback)
        fprintf(out, "%sdefault %s", *info->range ? "; " : " (", info->fallback);
    fprintf(out, "%s\n", *info->range || info->fallback ? ")" : "");
}

void help_command(FILE *out, enum command command)
{
    const struct command_info *info = command_info(command);
    fprintf(out, "hearth %s: %s\n\nUsage: hearth %s [options] %s\n\nOptions:\n", info->name, info->summary,
            info->name, info->arguments);
    for (int i = 0; i < OPTION_COUNT; i++)
        if (option_info(i)->commands & (1u << command))
            print_option(out, i);
    fprintf(out, "\nWhat has a place in the configuration file also has a variable, HEARTH_NAME:\n");
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_info *option = option_info(i);
        if (option->commands & (1u << command) && option->section && *option->section)
            fprintf(out, "  [%s] %s", option->section, option->name);
    }
    fprintf(out, "\nA flag goes before a variable, a variable before the file. The file is --config,\n"
                 "else $XDG_CONFIG_HOME/hearth/hearth.conf or ~/.config/hearth/hearth.conf, else\n"
                 "/etc/hearth/hearth.conf.\n");
}
