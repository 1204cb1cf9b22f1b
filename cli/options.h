/* The command line, the environment and the configuration file behind one table (options.def).
 * A flag beats a variable, a variable the file, the file the default. */
#ifndef HEARTH_CLI_OPTIONS_H
#define HEARTH_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "../kernels/err.h"

enum command {
#define COMMAND(id, ...) COMMAND_##id,
#include "commands.def"
#undef COMMAND
    COMMAND_COUNT
};

struct command_info {
    const char *name, *arguments, *summary;
    int least, most; /* positional arguments */
};
const struct command_info *command_info(enum command);
int command_find(const char *name); /* enum command, or -1 */

enum option_id {
#define OPTION(id, ...) OPTION_##id,
#include "options.def"
#undef OPTION
    OPTION_COUNT
};

enum option_type { OPTION_TYPE_FLAG, OPTION_TYPE_TEXT, OPTION_TYPE_INTEGER, OPTION_TYPE_SIZE,
                   OPTION_TYPE_NUMBER, OPTION_TYPE_CHOICE, OPTION_TYPE_LIST }; /* LIST: TEXT with commas; flags add up */
enum option_origin { FROM_NOWHERE, FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_FLAG };

struct option_info {
    const char *name;
    char letter; /* 0: none */
    enum option_type type;
    const char *fallback, *range;
    unsigned commands; /* bit per enum command */
    const char *section, *metavariable, *help;
};
const struct option_info *option_info(enum option_id);
int option_find(const char *name, size_t length); /* enum option_id, or -1 */

struct option_value {
    char *text;      /* as given; owned */
    int64_t integer; /* INTEGER, SIZE; FLAG: 0 or 1 */
    double number;   /* NUMBER */
    enum option_origin origin;
    int line;        /* in the configuration file */
};

struct options {
    enum command command;
    struct option_value value[OPTION_COUNT];
    char *file;             /* the configuration file that was read, or NULL; owned */
    const char **arguments; /* positional; points into argv */
    int n_arguments;
};

/* Reads flags (argv without program and command), variables and file. *out needs options_dispose
 * in any case. ERR_INVALID names the flag, variable, or file and line at fault. With --help in argv
 * nothing else is checked. */
int options_parse(struct options *out, enum command, int argc, char **argv, struct err *) WARN_UNUSED;
/* Reads one configuration file into *out; keys of other commands are checked as well. */
int options_read_file(struct options *out, const char *path, struct err *) WARN_UNUSED;
/* The file that --config names, else the first of the usual places; none is fine. */
int options_read_usual_file(struct options *out, struct err *) WARN_UNUSED;
void options_dispose(struct options *);

bool option_is_set(const struct options *, enum option_id); /* by anything but its default */
const char *option_text(const struct options *, enum option_id); /* NULL: unset */
int64_t option_integer(const struct options *, enum option_id);  /* 0: unset */
double option_number(const struct options *, enum option_id, double unset);
bool option_flag(const struct options *, enum option_id);

/* Sets one value; `where` begins the error message. Used by the parsers above. */
int option_set(struct options *, enum option_id, const char *text, enum option_origin, const char *where,
               struct err *) WARN_UNUSED;
/* "HEARTH_MAX_BODY" for "max-body", into name[64]. */
void option_variable(enum option_id, char *name);

void help_program(FILE *);
void help_command(FILE *, enum command);

#endif
