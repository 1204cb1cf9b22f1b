/* Service definitions: what they run, how it is quoted, and that the systems' own verifiers take them. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "../../../cli/process.h"
#include "../../../cli/service_unit.h"

static char *const awkward[] = {(char *)"/bin/sh", (char *)"serve", (char *)"--name=a b\"c\\d%e$f&<g>", NULL};
static const struct service_sockets none, both = {.address = {"127.0.0.1", "::1"}, .n = 2, .port = 8080};
static struct err e;

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

/* Whether `argv` takes the definition; skipped where the program is missing. */
static void expect_accepted(const char *const *argv)
{
    int status;
    if (process_run(argv, PROCESS_SILENT, &status, &e) == ERR_NOT_FOUND)
        cr_skip_test("%s is not there", argv[0]);
    cr_assert_eq(status, 0, "%s refuses it", argv[0]);
}

Test(service, systemd_unit)
{
    char *text;
    cr_assert_eq(service_systemd_unit(awkward, 45, &none, &text, &e), 0);
    cr_assert_not_null(strstr(text, "ExecStart=\"/bin/sh\" \"serve\" \"--name=a b\\\"c\\\\d%%e$$f&<g>\"\n"), "%s",
                       text);
    cr_assert_not_null(strstr(text, "TimeoutStopSec=45\n"));
    cr_assert_not_null(strstr(text, "Restart=on-failure\n"));
    cr_assert_not_null(strstr(text, "MemoryDenyWriteExecute=no\n"));
    free(text);
}

Test(service, sockets)
{
    struct service_sockets s = service_sockets("", 80);
    cr_expect_eq(s.n, 2);
    cr_expect_str_eq(s.address[1], "::1");
    s = service_sockets("0.0.0.0", 80);
    cr_expect_eq(s.n, 1);
    cr_expect_str_eq(s.address[0], "0.0.0.0");
    cr_expect_eq(service_sockets("fe80::1", 80).n, 1);
    cr_expect_eq(service_sockets("my.host", 80).n, 0, "may stand for several addresses");
    cr_expect_eq(service_sockets("", 0).n, 0, "the service chooses");
}

Test(service, systemd_verifies_sockets)
{
    char folder[] = "/tmp/hearth-unit-XXXXXX", service[64], sockets[64], *text;
    cr_assert_not_null(mkdtemp(folder));
    snprintf(service, sizeof service, "%s/hearth.service", folder);
    snprintf(sockets, sizeof sockets, "%s/hearth.socket", folder);
    cr_assert_eq(service_systemd_unit(awkward, 45, &both, &text, &e), 0);
    cr_expect_not_null(strstr(text, "Requires=hearth.socket\n"));
    write_file(service, text);
    free(text);
    cr_assert_eq(service_systemd_socket(&both, &text, &e), 0);
    cr_expect_not_null(strstr(text, "ListenStream=127.0.0.1:8080\nListenStream=[::1]:8080\n"), "%s", text);
    write_file(sockets, text);
    free(text);
    setenv("XDG_RUNTIME_DIR", folder, 1);
    const char *argv[] = {"systemd-analyze", "--user", "verify", service, NULL};
    expect_accepted(argv);
    const char *clean[] = {"rm", "-r", folder, NULL};
    expect_accepted(clean);
}

Test(service, systemd_verifies)
{
    char folder[] = "/tmp/hearth-unit-XXXXXX", path[64], *text;
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/hearth.service", folder);
    cr_assert_eq(service_systemd_unit(awkward, 45, &none, &text, &e), 0);
    write_file(path, text);
    free(text);
    setenv("XDG_RUNTIME_DIR", folder, 1); /* wanted even where no session runs */
    const char *argv[] = {"systemd-analyze", "--user", "verify", path, NULL};
    expect_accepted(argv);
    const char *clean[] = {"rm", "-r", folder, NULL};
    expect_accepted(clean);
}

Test(service, launchd_agent)
{
    char *text;
    cr_assert_eq(service_launchd_agent(awkward, 45, &both, "/x/a&b.log", &text, &e), 0);
    cr_assert_not_null(strstr(text, "<string>--name=a b\"c\\d%e$f&amp;&lt;g&gt;</string>"), "%s", text);
    cr_assert_not_null(strstr(text, "<string>/x/a&amp;b.log</string>"));
    cr_assert_not_null(strstr(text, "<key>ProcessType</key>\n    <string>Interactive</string>"));
    cr_assert_not_null(strstr(text, "<key>ExitTimeOut</key>\n    <integer>45</integer>"));
    free(text);
}

static const char read_plist[] = "import plistlib, sys\n"
                                 "p = plistlib.load(open(sys.argv[1], 'rb'))\n"
                                 "assert p['Label'] == 'com.hearth.server' and p['RunAtLoad'] is True\n"
                                 "assert p['KeepAlive'] == {'SuccessfulExit': False}\n"
                                 "assert p['ProcessType'] == 'Interactive' and p['ExitTimeOut'] == 45\n"
                                 "assert p['SoftResourceLimits']['NumberOfFiles'] > 4096\n"
                                 "assert [s['SockNodeName'] for s in p['Sockets']['Listeners']] == ['127.0.0.1', '::1']\n"
                                 "assert p['ProgramArguments'][1] == 'serve'\n";

Test(service, launchd_agent_is_a_property_list)
{
    char path[] = "/tmp/hearth-agent-XXXXXX", *text;
    cr_assert_geq(mkstemp(path), 0);
    cr_assert_eq(service_launchd_agent(awkward, 45, &both, "/x/a&b.log", &text, &e), 0);
    write_file(path, text);
    free(text);
#ifdef __APPLE__
    const char *argv[] = {"plutil", "-lint", path, NULL};
#else
    const char *argv[] = {"python3", "-c", read_plist, path, NULL};
#endif
    expect_accepted(argv);
    unlink(path);
}

Test(service, example_agent_is_a_property_list)
{
    const char *argv[] = {"python3", "-c", read_plist, CONFIG_FOLDER "/com.hearth.server.plist", NULL};
    expect_accepted(argv);
}

static size_t read_file(const char *path, char *text, size_t size)
{
    FILE *in = fopen(path, "r");
    cr_assert_not_null(in);
    size_t n = fread(text, 1, size - 1, in);
    fclose(in);
    text[n] = 0;
    return n;
}

/* The verifier also wants the program to exist, so the examples are tried with one that does. */
Test(service, example_units_verify)
{
    char folder[] = "/tmp/hearth-unit-XXXXXX", service[64], sockets[64], text[8192], changed[8300];
    read_file(CONFIG_FOLDER "/hearth.service", text, sizeof text);
    const char *program = strstr(text, "/usr/local/bin/hearth serve");
    cr_assert_not_null(program);
    snprintf(changed, sizeof changed, "%.*s/bin/sh%s", (int)(program - text), text, program + 21);
    cr_assert_not_null(mkdtemp(folder));
    snprintf(service, sizeof service, "%s/hearth.service", folder);
    snprintf(sockets, sizeof sockets, "%s/hearth.socket", folder);
    write_file(service, changed);
    read_file(CONFIG_FOLDER "/hearth.socket", text, sizeof text);
    write_file(sockets, text);
    const char *argv[] = {"systemd-analyze", "verify", service, sockets, NULL};
    expect_accepted(argv);
    unlink(service);
    unlink(sockets);
    rmdir(folder);
}

Test(service, line_breaks_are_refused)
{
    char *const arguments[] = {(char *)"/bin/sh", (char *)"serve", (char *)"--name=a\nExecStartPre=evil", NULL}, *text;
    cr_assert_eq(service_systemd_unit(arguments, 45, &none, &text, &e), ERR_INVALID);
    cr_assert_eq(service_launchd_agent(arguments, 45, &none, "/l", &text, &e), ERR_INVALID);
}

static int arguments_of(const char *flag, char ***list)
{
    struct options options;
    const char *argv[] = {"install", "-m", "m.gguf", flag, NULL};
    setenv("HOME", "/nonexistent", 1);
    cr_assert_eq(options_parse(&options, COMMAND_SERVICE, flag ? 4 : 3, (char **)argv, &e), 0, "%s", e.text);
    int status = service_arguments(&options, "/usr/bin/hearth", "m.gguf", list, &e);
    options_dispose(&options);
    return status;
}

Test(service, command_line)
{
    char **list, folder[256], expected[300];
    cr_assert_eq(arguments_of("--port=81", &list), 0);
    cr_assert_not_null(getcwd(folder, sizeof folder));
    snprintf(expected, sizeof expected, "--model=%s/m.gguf", folder);
    cr_assert_str_eq(list[0], "/usr/bin/hearth");
    cr_assert_str_eq(list[1], "serve");
    cr_assert_str_eq(list[2], expected);
    cr_assert_str_eq(list[3], "--port=81");
    cr_assert_null(list[4]);
    service_arguments_free(list);
    cr_assert_eq(arguments_of("--api-key=secret", &list), ERR_INVALID);
    cr_assert_not_null(strstr(e.text, "--api-key-file"));
}

Test(service, places_a_service_cannot_read)
{
    const char *home = "/Users/a";
    cr_assert_not_null(service_path_problem("/Users/a/Documents/x.gguf", home, true));
    cr_assert_not_null(service_path_problem("/Users/a/Downloads/b/x.gguf", home, true));
    cr_assert_not_null(service_path_problem("/Volumes/disk/x.gguf", home, true));
    cr_assert_not_null(service_path_problem("/tmp/x.gguf", home, false));
    cr_assert_null(service_path_problem("/Users/a/Library/Caches/hearth/models/x.gguf", home, true));
    cr_assert_null(service_path_problem("/Users/a/Documentary/x.gguf", home, true));
    cr_assert_null(service_path_problem("/home/a/Documents/x.gguf", "/home/a", false));
}
