/* One function per subcommand: an exit status comes back. */
#ifndef HEARTH_CLI_COMMANDS_H
#define HEARTH_CLI_COMMANDS_H

#include "options.h"

#define COMMAND(id, function, ...) int function(const struct options *);
#include "commands.def"
#undef COMMAND

#endif
