/* hearth: finds the subcommand, reads its options, hands over. */
#include <signal.h>
#include <string.h>

#include "../engine/log.h"
#include "commands.h"
#include "text.h"

enum { EXIT_USAGE = 2 };

static int (*const functions[COMMAND_COUNT])(const struct options *) = {
#define COMMAND(id, function, ...) [COMMAND_##id] = function,
#include "commands.def"
#undef COMMAND
};

static int run_command(enum command command, int argc, char **argv)
{
    struct options options;
    struct err e;
    int status;
    if (options_parse(&options, command, argc, argv, &e) < 0) {
        text_fail(&e);
        status = EXIT_USAGE;
    } else if (option_flag(&options, OPTION_HELP)) {
        help_command(stdout, command);
        status = 0;
    } else {
        const char *level = option_text(&options, OPTION_LOG_LEVEL);
        log_set_level(log_level_parse(level ? level : command == COMMAND_SERVE ? "info" : "warning"));
        status = functions[command](&options);
    }
    options_dispose(&options);
    /* What was printed may be all that was asked for: a full disk must not look like success. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "hearth: standard output cannot be written\n");
        status = status ? status : 1;
    }
    return status;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    const char *word = argc > 1 ? argv[1] : "--help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0)
        return printf("hearth %s\n", HEARTH_VERSION) < 0;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        int command = argc > 2 ? command_find(argv[2]) : -1;
        if (command >= 0)
            help_command(stdout, command);
        else
            help_program(stdout);
        return argc > 1 ? 0 : EXIT_USAGE;
    }
    int command = command_find(word);
    if (command < 0) {
        fprintf(stderr, "hearth: %s: no such command; hearth --help lists them\n", word);
        return EXIT_USAGE;
    }
    return run_command(command, argc - 2, argv + 2);
}
