/* hearth service: hands `hearth serve` to launchd or systemd, for the user who asks. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#include "commands.h"
#include "process.h"
#include "service_unit.h"
#include "session.h"
#include "text.h"

#ifdef __APPLE__
enum { MACOS = 1 };
#else
enum { MACOS = 0 };
#endif

static int own_path(char *out, struct err *e)
{
    char link[PATH_MAX];
#ifdef __APPLE__
    uint32_t size = sizeof link;
    bool known = _NSGetExecutablePath(link, &size) == 0;
#else
    strcpy(link, "/proc/self/exe");
    bool known = true;
#endif
    return known && realpath(link, out) ? 0 : err_set(e, ERR_IO, "cannot tell where this program lies");
}

/* Runs a command of the service manager; any exit status but 0 is an error that names it. */
static int manage(const char *const *argv, enum process_output output, struct err *e)
{
    int exit_status, status = process_run(argv, output, &exit_status, e);
    if (status < 0)
        return status;
    return exit_status == 0 ? 0
                            : err_set(e, ERR_IO, "%s %s ended with status %d", argv[0], argv[1], exit_status);
}

/* hearth.socket beside hearth.service. */
static char *socket_path(const char *path)
{
    return text_from("%.*ssocket", (int)(strlen(path) - strlen("service")), path);
}

static char *definition_path(void)
{
    const char *home = text_environment("HOME"), *xdg = text_environment("XDG_CONFIG_HOME");
    if (MACOS)
        return home ? text_from("%s/Library/LaunchAgents/" SERVICE_LABEL ".plist", home) : NULL;
    if (xdg)
        return text_from("%s/systemd/user/hearth.service", xdg);
    return home ? text_from("%s/.config/systemd/user/hearth.service", home) : NULL;
}

/* Whether the manager of this user's services can be asked at all. */
static int check_manager(struct err *e)
{
    if (MACOS)
        return 0;
    struct stat about;
    if (lstat("/run/systemd/system", &about) != 0 || !S_ISDIR(about.st_mode))
        return err_set(e, ERR_UNSUPPORTED,
                       "systemd is not running here (a container?): start `hearth serve` with what "
                       "starts programs on this system");
    const char *ask[] = {"systemctl", "--user", "show-environment", NULL};
    if (manage(ask, PROCESS_SILENT, NULL) < 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "systemd has no session for this user here: log in as this user (not by su "
                       "or sudo), or install config/hearth.service for the whole system");
    return 0;
}

static int write_file(const char *path, const char *text, struct err *e)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    bool failed = fputs(text, file) == EOF;
    if (fclose(file) != 0 || failed)
        return err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    return 0;
}

static int verify(const char *path, struct err *e)
{
    const char *plutil[] = {"plutil", "-lint", "-s", path, NULL};
    const char *analyze[] = {"systemd-analyze", "--user", "verify", path, NULL};
    int status = manage(MACOS ? plutil : analyze, PROCESS_SHOW, e);
    if (status != ERR_NOT_FOUND)
        return status;
    fprintf(stderr, "%s is missing: the definition is not verified\n", MACOS ? plutil[0] : analyze[0]);
    return 0;
}

/* What is written for a service: text for a file, or none. */
struct definition {
    const char *path;
    char *text;
};

/* Verifies definitions in a folder of their own, then puts them in place. The first is verified, and what it
 * refers to with it. */
static int place(const struct definition *d, int n, struct err *e)
{
    char folder[] = "/tmp/hearth-service-XXXXXX", *trial[2] = {NULL};
    if (!mkdtemp(folder))
        return err_set(e, ERR_IO, "cannot make a folder in /tmp: %s", strerror(errno));
    char *parent = text_from("%.*s", (int)(text_base_name(d->path) - d->path) - 1, d->path);
    int status = parent ? 0 : err_set(e, ERR_NOMEM, "no memory for a path");
    for (int i = 0; i < n && status == 0; i++) {
        trial[i] = text_from("%s/%s", folder, text_base_name(d[i].path));
        status = trial[i] ? write_file(trial[i], d[i].text, e) : err_set(e, ERR_NOMEM, "no memory for a path");
    }
    if (status == 0)
        status = verify(trial[0], e);
    if (status == 0)
        status = text_make_directories(parent, e);
    for (int i = 0; i < n && status == 0; i++)
        status = write_file(d[i].path, d[i].text, e);
    for (int i = 0; i < n && trial[i]; i++) {
        unlink(trial[i]);
        free(trial[i]);
    }
    rmdir(folder);
    free(parent);
    return status;
}

static int start(const char *path, bool sockets, struct err *e)
{
    char domain[32];
    snprintf(domain, sizeof domain, "gui/%ld", (long)getuid());
    if (MACOS) {
        char target[64];
        snprintf(target, sizeof target, "%s/" SERVICE_LABEL, domain);
        const char *forget[] = {"launchctl", "bootout", target, NULL};
        const char *load[] = {"launchctl", "bootstrap", domain, path, NULL};
        struct err why;
        int forgotten = manage(forget, PROCESS_SILENT, &why); /* fails where none was loaded before */
        (void)forgotten;
        return manage(load, PROCESS_SHOW, e);
    }
    const char *reload[] = {"systemctl", "--user", "daemon-reload", NULL};
    const char *enable[] = {"systemctl", "--user", "enable", "hearth.service", NULL};
    const char *restart[] = {"systemctl", "--user", "restart", "hearth.service", NULL};
    const char *stop[] = {"systemctl", "--user", "stop", "hearth.service", NULL}; /* it may have the port itself */
    const char *enable_sockets[] = {"systemctl", "--user", "enable", "hearth.socket", NULL};
    const char *restart_sockets[] = {"systemctl", "--user", "restart", "hearth.socket", NULL};
    int status = manage(reload, PROCESS_SHOW, e);
    if (status == 0)
        status = manage(enable, PROCESS_SHOW, e);
    if (status == 0 && sockets)
        status = manage(enable_sockets, PROCESS_SHOW, e);
    if (status == 0 && sockets)
        status = manage(stop, PROCESS_SHOW, e);
    if (status == 0 && sockets)
        status = manage(restart_sockets, PROCESS_SHOW, e);
    return status < 0 ? status : manage(restart, PROCESS_SHOW, e);
}

/* `text`: of the service; `sockets`: of hearth.socket, NULL for none. */
static int define(const struct options *o, const char *model, char **text, char **sockets, struct err *e)
{
    char program[PATH_MAX];
    char **arguments = NULL;
    struct service_sockets listen = service_sockets(option_text(o, OPTION_HOST), (int)option_integer(o, OPTION_PORT));
    int stop_seconds = (int)option_number(o, OPTION_DRAIN_SECONDS, 30) + 15;
    const char *problem = service_path_problem(model, text_environment("HOME"), MACOS);
    if (problem)
        return err_set(e, ERR_INVALID, "%s: %s", model, problem);
    int status = own_path(program, e);
    if (status == 0)
        status = service_arguments(o, program, model, &arguments, e);
    if (status < 0)
        return status;
    if (MACOS) {
        const char *home = text_environment("HOME");
        char *log = text_from("%s/Library/Logs/hearth.log", home ? home : "");
        status = log ? service_launchd_agent(arguments, stop_seconds, &listen, log, text, e)
                     : err_set(e, ERR_NOMEM, "no memory for a path");
        free(log);
    } else {
        status = service_systemd_unit(arguments, stop_seconds, &listen, text, e);
        if (status == 0 && listen.n)
            status = service_systemd_socket(&listen, sockets, e);
    }
    service_arguments_free(arguments);
    return status;
}

static int install(const struct options *o, const char *path, struct err *e)
{
    char *model = NULL, *text = NULL, *sockets = NULL, *beside = socket_path(path);
    int status = beside ? session_model_path(o, &model, NULL, e) : err_set(e, ERR_NOMEM, "no memory for a path");
    if (status == 0)
        status = define(o, model, &text, &sockets, e);
    if (status == 0)
        status = check_manager(e);
    if (status == 0)
        status = place((struct definition[]){{path, text}, {beside, sockets}}, sockets ? 2 : 1, e);
    if (status == 0)
        status = start(path, sockets != NULL, e);
    if (status == 0)
        printf(
            "%s written and started. It answers on port %lld once the model is loaded.\n%s\n", path,
            (long long)option_integer(o, OPTION_PORT),
            MACOS
                ? "Log: ~/Library/Logs/hearth.log. It starts whenever you log in."
                : "Log: journalctl --user -u hearth. It starts when you log in; to have it run without that: "
                  "loginctl enable-linger");
    free(text);
    free(sockets);
    free(beside);
    free(model);
    return status;
}

/* The sockets go before the service: they would start it again. */
static int remove_sockets(const char *path, struct err *e)
{
    const char *disable[] = {"systemctl", "--user", "disable", "--now", "hearth.socket", NULL};
    char *beside = socket_path(path);
    int status = beside ? 0 : err_set(e, ERR_NOMEM, "no memory for a path");
    if (status == 0 && !MACOS && access(beside, F_OK) == 0) {
        status = manage(disable, PROCESS_SHOW, e);
        if (status == 0 && unlink(beside) != 0)
            status = err_set(e, ERR_IO, "cannot remove %s: %s", beside, strerror(errno));
    }
    free(beside);
    return status;
}

static int uninstall(const char *path, struct err *e)
{
    if (access(path, F_OK) != 0)
        return err_set(e, ERR_NOT_FOUND, "%s does not exist: no service is installed", path);
    int status = check_manager(e);
    if (status == 0)
        status = remove_sockets(path, e);
    if (status < 0)
        return status;
    char target[64];
    snprintf(target, sizeof target, "gui/%ld/" SERVICE_LABEL, (long)getuid());
    const char *bootout[] = {"launchctl", "bootout", target, NULL};
    const char *disable[] = {"systemctl", "--user", "disable", "--now", "hearth.service", NULL};
    const char *reload[] = {"systemctl", "--user", "daemon-reload", NULL};
    struct err why;
    if (manage(MACOS ? bootout : disable, PROCESS_SHOW, &why) < 0)
        fprintf(stderr, "it was not running: %s\n", why.text);
    if (unlink(path) != 0)
        return err_set(e, ERR_IO, "cannot remove %s: %s", path, strerror(errno));
    if (!MACOS)
        status = manage(reload, PROCESS_SHOW, e);
    printf("%s removed\n", path);
    return status;
}

static int show_status(const char *path, struct err *e)
{
    char target[64];
    snprintf(target, sizeof target, "gui/%ld/" SERVICE_LABEL, (long)getuid());
    const char *print[] = {"launchctl", "print", target, NULL};
    const char *ask[] = {"systemctl", "--user", "--no-pager", "status", "hearth.service", NULL};
    if (access(path, F_OK) != 0)
        return err_set(e, ERR_NOT_FOUND, "no service is installed (hearth service install -m MODEL)");
    int status = check_manager(e);
    return status < 0 ? status : manage(MACOS ? print : ask, PROCESS_PLAIN, e);
}

int command_service(const struct options *o)
{
    struct err e;
    const char *verb = o->n_arguments ? o->arguments[0] : "status";
    char *path = definition_path();
    int status;
    if (!path)
        status = err_set(&e, ERR_NOT_FOUND, "no home folder: HOME is not set");
    else if (strcmp(verb, "install") == 0)
        status = install(o, path, &e);
    else if (strcmp(verb, "uninstall") == 0)
        status = uninstall(path, &e);
    else if (strcmp(verb, "status") == 0)
        status = show_status(path, &e);
    else
        status =
            err_set(&e, ERR_INVALID, "usage: hearth service %s", command_info(COMMAND_SERVICE)->arguments);
    free(path);
    return status < 0 ? text_fail(&e) : 0;
}
