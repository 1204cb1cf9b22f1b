/* Units and agents as text. */
#include "service_unit.h"

#include <arpa/inet.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

static char *absolute(const char *path)
{
    char folder[PATH_MAX];
    if (*path == '/')
        return strdup(path);
    return getcwd(folder, sizeof folder) ? text_from("%s/%s", folder, path) : NULL;
}

/* Every path of a list with commas. */
static char *absolute_list(const char *list)
{
    char *out = strdup(""), *copy = strdup(list), *rest = NULL;
    for (char *at = copy ? strtok_r(copy, ",", &rest) : NULL; at && out; at = strtok_r(NULL, ",", &rest)) {
        char *path = absolute(at), *longer = path ? text_from("%s%s%s", out, *out ? "," : "", path) : NULL;
        free(path);
        free(out);
        out = longer;
    }
    free(copy);
    return out;
}

/* Whether option `id` belongs into the service's command line. */
static bool is_passed_on(const struct options *o, enum option_id id)
{
    return option_info(id)->commands & (1u << COMMAND_SERVE) && o->value[id].origin >= FROM_ENVIRONMENT &&
           id != OPTION_MODEL && id != OPTION_HELP && id != OPTION_PULL;
}

int service_arguments(const struct options *o, const char *program, const char *model, char ***out,
                      struct err *e)
{
    if (o->value[OPTION_API_KEY].origin >= FROM_ENVIRONMENT)
        return err_set(e, ERR_INVALID,
                       "an API key on a command line can be read by every user of this machine: use "
                       "--api-key-file, or api-key in the configuration file");
    char **list = calloc(OPTION_COUNT + 4, sizeof *list);
    int n = 0, lost = !list;
    if (list) {
        list[n++] = strdup(program);
        list[n++] = strdup("serve");
        char *path = absolute(model);
        list[n++] = path ? text_from("--model=%s", path) : NULL;
        free(path);
    }
    for (int i = 0; list && i < OPTION_COUNT; i++) {
        if (!is_passed_on(o, i))
            continue;
        bool is_path = i == OPTION_CONFIG || i == OPTION_CACHE || i == OPTION_CACHE_DIR || i == OPTION_STORE ||
                       i == OPTION_API_KEY_FILE;
        char *value = is_path            ? absolute(option_text(o, i))
                      : i == OPTION_WARM ? absolute_list(option_text(o, i))
                                         : strdup(option_text(o, i));
        list[n++] = value ? text_from("--%s=%s", option_info(i)->name, value) : NULL;
        free(value);
    }
    for (int i = 0; i < n; i++)
        lost |= !list[i];
    *out = list;
    if (!lost)
        return 0;
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
    return err_set(e, ERR_NOMEM, "no memory for the service's command line");
}

void service_arguments_free(char **list)
{
    for (char **at = list; at && *at; at++)
        free(*at);
    free(list);
}

/* Text with some characters replaced by others, into a stream. */
static void write_escaped(FILE *out, const char *text, const char *special, const char *const *replacement)
{
    for (; *text; text++) {
        const char *at = strchr(special, *text);
        if (at)
            fputs(replacement[at - special], out);
        else
            fputc(*text, out);
    }
}

static int finish(FILE *out, char **text, struct err *e)
{
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(*text);
        *text = NULL;
        return err_set(e, ERR_NOMEM, "no memory for the service's definition");
    }
    return 0;
}

static int check_lines(char *const *arguments, struct err *e)
{
    for (; *arguments; arguments++)
        if (strpbrk(*arguments, "\r\n"))
            return err_set(e, ERR_INVALID, "a service's option cannot have a line break in it: %.60s",
                           *arguments);
    return 0;
}

static bool is_address(int family, const char *text)
{
    unsigned char bytes[16];
    return inet_pton(family, text, bytes) == 1;
}

struct service_sockets service_sockets(const char *host, int port)
{
    struct service_sockets s = {.port = port};
    if (port == 0)
        return s;
    if (!host || !*host)
        return (struct service_sockets){.address = {"127.0.0.1", "::1"}, .n = 2, .port = port};
    if (!is_address(AF_INET, host) && !is_address(AF_INET6, host))
        return s;
    s.n = 1;
    snprintf(s.address[0], sizeof s.address[0], "%s", host);
    return s;
}

int service_systemd_socket(const struct service_sockets *s, char **out, struct err *e)
{
    size_t size;
    FILE *unit = open_memstream(out, &size);
    if (!unit)
        return err_set(e, ERR_NOMEM, "no memory for the service's definition");
    fputs("# Written by `hearth service install`; `hearth service uninstall` removes it. systemd holds the sockets: a\n"
          "# restart refuses no connection, and who ended by idle-exit is started by the next request.\n"
          "[Unit]\nDescription=Sockets of hearth\n\n[Socket]\n",
          unit);
    for (int i = 0; i < s->n; i++)
        fprintf(unit, is_address(AF_INET6, s->address[i]) ? "ListenStream=[%s]:%d\n" : "ListenStream=%s:%d\n",
                s->address[i], s->port);
    fputs("BindIPv6Only=ipv6-only\nBacklog=4096\n\n[Install]\nWantedBy=sockets.target\n", unit);
    return finish(unit, out, e);
}

int service_systemd_unit(char *const *arguments, int stop_seconds, const struct service_sockets *sockets,
                         char **out, struct err *e)
{
    static const char *const replacement[] = {"\\\\", "\\\"", "%%", "$$"};
    size_t size;
    int status = check_lines(arguments, e);
    if (status < 0)
        return status;
    FILE *unit = open_memstream(out, &size);
    if (!unit)
        return err_set(e, ERR_NOMEM, "no memory for the service's definition");
    fputs("# Written by `hearth service install`; `hearth service uninstall` removes it.\n"
          "[Unit]\nDescription=hearth, language models over an OpenAI-compatible API\n"
          "StartLimitIntervalSec=300\nStartLimitBurst=5\n",
          unit);
    fprintf(unit, "%s\n[Service]\nType=exec\nExecStart=",
            sockets->n ? "Requires=hearth.socket\nAfter=hearth.socket\n" : "");
    for (int i = 0; arguments[i]; i++) {
        fputs(i ? " \"" : "\"", unit);
        write_escaped(unit, arguments[i], "\\\"%$", replacement);
        fputc('"', unit);
    }
    fprintf(unit,
            "\nRestart=on-failure\nRestartSec=2\nTimeoutStopSec=%d\nLimitNOFILE=65536\n"
            "# Patterns and kernels are compiled at run time: memory may become executable.\n"
            "MemoryDenyWriteExecute=no\nNoNewPrivileges=yes\nLockPersonality=yes\nRestrictRealtime=yes\n"
            "RestrictSUIDSGID=yes\nSystemCallArchitectures=native\n\n[Install]\nWantedBy=default.target\n",
            stop_seconds);
    return finish(unit, out, e);
}

static void write_launchd_sockets(const struct service_sockets *s, FILE *agent)
{
    fputs("    <key>Sockets</key>\n    <dict>\n        <key>Listeners</key>\n        <array>\n", agent);
    for (int i = 0; i < s->n; i++)
        fprintf(agent,
                "            <dict>\n                <key>SockNodeName</key>\n                <string>%s</string>\n"
                "                <key>SockServiceName</key>\n                <string>%d</string>\n"
                "                <key>SockFamily</key>\n                <string>IPv%d</string>\n            </dict>\n",
                s->address[i], s->port, is_address(AF_INET6, s->address[i]) ? 6 : 4);
    fputs("        </array>\n    </dict>\n", agent);
}

int service_launchd_agent(char *const *arguments, int stop_seconds, const struct service_sockets *sockets,
                          const char *log, char **out, struct err *e)
{
    static const char *const replacement[] = {"&amp;", "&lt;", "&gt;"};
    size_t size;
    int status = check_lines(arguments, e);
    if (status < 0)
        return status;
    FILE *agent = open_memstream(out, &size);
    if (!agent)
        return err_set(e, ERR_NOMEM, "no memory for the service's definition");
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
          "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
          "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
          "<!-- Written by `hearth service install`; `hearth service uninstall` removes it. -->\n"
          "<plist version=\"1.0\">\n<dict>\n    <key>Label</key>\n    <string>" SERVICE_LABEL "</string>\n"
          "    <key>ProgramArguments</key>\n    <array>\n",
          agent);
    for (; *arguments; arguments++) {
        fputs("        <string>", agent);
        write_escaped(agent, *arguments, "&<>", replacement);
        fputs("</string>\n", agent);
    }
    fputs("    </array>\n", agent);
    if (sockets->n)
        write_launchd_sockets(sockets, agent);
    fputs("    <key>RunAtLoad</key>\n    <true/>\n"
          "    <key>KeepAlive</key>\n    <dict>\n        <key>SuccessfulExit</key>\n        <false/>\n    "
          "</dict>\n"
          "    <!-- Anything else is throttled, Background down to the efficiency cores. -->\n"
          "    <key>ProcessType</key>\n    <string>Interactive</string>\n",
          agent);
    fprintf(agent, "    <key>ExitTimeOut</key>\n    <integer>%d</integer>\n", stop_seconds);
    for (int hard = 0; hard < 2; hard++)
        fprintf(agent,
                "    <key>%sResourceLimits</key>\n    <dict>\n        <key>NumberOfFiles</key>\n"
                "        <integer>16384</integer>\n    </dict>\n",
                hard ? "Hard" : "Soft");
    fputs("    <key>StandardErrorPath</key>\n    <string>", agent);
    write_escaped(agent, log, "&<>", replacement);
    fputs("</string>\n</dict>\n</plist>\n", agent);
    return finish(agent, out, e);
}

const char *service_path_problem(const char *path, const char *home, bool macos)
{
    static const char *const guarded[] = {"/Documents/", "/Desktop/", "/Downloads/",
                                          "/Library/Mobile Documents/"};
    size_t length = home ? strlen(home) : 0;
    if (macos && length && strncmp(path, home, length) == 0)
        for (size_t i = 0; i < sizeof guarded / sizeof *guarded; i++)
            if (strncmp(path + length, guarded[i], strlen(guarded[i])) == 0)
                return "macOS lets no background service read the folders Documents, Desktop, Downloads and "
                       "iCloud "
                       "Drive, and asks nobody; move the file elsewhere, or use hearth models pull";
    if (macos && strncmp(path, "/Volumes/", 9) == 0)
        return "macOS lets no background service read removable and network volumes; copy the file to the "
               "internal disk";
    if (strncmp(path, "/tmp/", 5) == 0 || strncmp(path, "/private/tmp/", 13) == 0)
        return "/tmp is emptied when the machine starts, and the service would not find it again; move the "
               "file elsewhere";
    return NULL;
}
