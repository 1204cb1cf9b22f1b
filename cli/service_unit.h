/* The text of service definitions. Pure: tested on every system, whatever it uses itself. */
#ifndef HEARTH_CLI_SERVICE_UNIT_H
#define HEARTH_CLI_SERVICE_UNIT_H

#include "options.h"

#define SERVICE_LABEL "com.hearth.server"

/* What the service runs: [0] the program's absolute path, "serve", and a --name=value for each server
 * option given as flag or variable, paths made absolute; NULL at the end. The caller's
 * (service_arguments_free). `model` replaces --model. ERR_INVALID for --api-key: everybody could read it. */
int service_arguments(const struct options *, const char *program, const char *model, char ***out,
                      struct err *) WARN_UNUSED;
void service_arguments_free(char **);

/* Where the system listens for the service, so that a restart refuses nobody. */
struct service_sockets {
    char address[2][46]; /* of IPv4 or IPv6 */
    int n, port;         /* n 0: the service listens itself */
};
/* `host`: as of --host, "" for the machine's own two; names, which may stand for several addresses, and a port that
 * is to be chosen are left to the service. */
struct service_sockets service_sockets(const char *host, int port);

/* A systemd unit for `systemctl --user`, and hearth.socket for it where there are sockets; a launchd agent that logs
 * to `log`. The caller's. */
int service_systemd_unit(char *const *arguments, int stop_seconds, const struct service_sockets *, char **out,
                         struct err *) WARN_UNUSED;
int service_systemd_socket(const struct service_sockets *, char **out, struct err *) WARN_UNUSED;
int service_launchd_agent(char *const *arguments, int stop_seconds, const struct service_sockets *, const char *log,
                          char **out, struct err *) WARN_UNUSED;

/* Why a service may not be able to read a model there, in one sentence; NULL: nothing known against it. */
const char *service_path_problem(const char *path, const char *home, bool macos);

#endif
