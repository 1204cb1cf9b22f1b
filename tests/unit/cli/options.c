/* Flags, variables and the configuration file: who wins, and what the errors say. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "../../../cli/options.h"

static struct options options;
static struct err e;
static char path[64];

static void set_up(void)
{
    setenv("HOME", "/nonexistent", 1);
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("HEARTH_CONFIG");
}

static void tear_down(void)
{
    options_dispose(&options);
    if (path[0])
        unlink(path);
}

TestSuite(options, .init = set_up, .fini = tear_down);

static void write_file(const char *text)
{
    strcpy(path, "/tmp/hearth-options-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* Parses up to five arguments; NULL ends them. */
static int parse(enum command command, const char *a, const char *b, const char *c, const char *d,
                 const char *f)
{
    const char *argv[] = {a, b, c, d, f, NULL};
    int argc = 0;
    while (argc < 5 && argv[argc])
        argc++;
    options_dispose(&options);
    return options_parse(&options, command, argc, (char **)argv, &e);
}

Test(options, defaults)
{
    cr_assert_eq(parse(COMMAND_SERVE, NULL, NULL, NULL, NULL, NULL), 0);
    cr_assert_eq(option_integer(&options, OPTION_PORT), 8080);
    cr_assert_eq(option_integer(&options, OPTION_MAX_BODY), 16 << 20);
    cr_assert_eq(option_number(&options, OPTION_TEMPERATURE, -1), -1);
    cr_assert_null(option_text(&options, OPTION_HOST));
    cr_assert_not(option_is_set(&options, OPTION_PORT));
}

Test(options, flag_before_variable_before_file)
{
    write_file("[server]\nport = 1\nhost = file\ncors = file\n");
    setenv("HEARTH_PORT", "2", 1);
    setenv("HEARTH_HOST", "variable", 1);
    cr_assert_eq(parse(COMMAND_SERVE, "--config", path, "--port=3", NULL, NULL), 0, "%s", e.text);
    cr_assert_eq(option_integer(&options, OPTION_PORT), 3);
    cr_assert_str_eq(option_text(&options, OPTION_HOST), "variable");
    cr_assert_str_eq(option_text(&options, OPTION_CORS), "file");
    cr_assert_str_eq(options.file, path);
}

Test(options, usual_places)
{
    char folder[] = "/tmp/hearth-home-XXXXXX", name[128];
    cr_assert_not_null(mkdtemp(folder));
    setenv("XDG_CONFIG_HOME", folder, 1);
    snprintf(name, sizeof name, "mkdir %s/hearth && echo '[server]\nport = 99' > %s/hearth/hearth.conf", folder,
             folder);
    cr_assert_eq(system(name), 0);
    cr_assert_eq(parse(COMMAND_SERVE, NULL, NULL, NULL, NULL, NULL), 0, "%s", e.text);
    cr_assert_eq(option_integer(&options, OPTION_PORT), 99);
    snprintf(name, sizeof name, "rm -r %s", folder);
    cr_assert_eq(system(name), 0);
}

Test(options, ways_to_write_a_flag)
{
    cr_assert_eq(parse(COMMAND_BENCH, "-p64", "-n", "7", "--reps=2", "--json"), 0, "%s", e.text);
    cr_assert_eq(option_integer(&options, OPTION_PROMPT), 64);
    cr_assert_eq(option_integer(&options, OPTION_GENERATE), 7);
    cr_assert_eq(option_integer(&options, OPTION_REPS), 2);
    cr_assert(option_flag(&options, OPTION_JSON));
    cr_assert_eq(parse(COMMAND_RUN, "--max-tokens", "-1", "--", "-m", NULL), 0, "%s", e.text);
    cr_assert_eq(options.n_arguments, 1);
    cr_assert_str_eq(options.arguments[0], "-m");
}

static void expect_refused(enum command command, const char *flag, const char *value, const char *message)
{
    cr_assert_eq(parse(command, flag, value, NULL, NULL, NULL), ERR_INVALID, "%s %s passed", flag, value);
    cr_assert_not_null(strstr(e.text, message), "%s", e.text);
}

Test(options, bad_flags)
{
    expect_refused(COMMAND_SERVE, "--prot", "1", "--prot");
    expect_refused(COMMAND_SERVE, "--port", NULL, "a value must follow");
    expect_refused(COMMAND_SERVE, "--port", "65536", "outside 0..65535");
    expect_refused(COMMAND_SERVE, "--port", "80x", "'80x' is not a whole number");
    expect_refused(COMMAND_SERVE, "--port", "", "is not a whole number");
    expect_refused(COMMAND_SERVE, "--port", "99999999999999999999", "is not a whole number");
    expect_refused(COMMAND_SERVE, "--port", "8K", "is not a whole number");
    expect_refused(COMMAND_SERVE, "--max-body", "9999999999G", "is not a whole number");
    expect_refused(COMMAND_SERVE, "--temperature", "nan", "is not a number");
    expect_refused(COMMAND_SERVE, "--temperature", "2.1", "outside 0..2");
    expect_refused(COMMAND_SERVE, "--activations", "int4", "'int4' is none of auto|f32|int8");
    expect_refused(COMMAND_BENCH, "--kv-type", "q4_0", "'q4_0' is none of f16|q8_0");
    expect_refused(COMMAND_SERVE, "--json", NULL, "no such option");
    expect_refused(COMMAND_SERVE, "--pull=maybe", NULL, "neither yes nor no");
    expect_refused(COMMAND_SERVE, "extra", NULL, "extra: unexpected");
    expect_refused(COMMAND_INSPECT, NULL, NULL, "usage: hearth inspect MODEL");
}

Test(options, bad_variable)
{
    setenv("HEARTH_MAX_BODY", "many", 1);
    expect_refused(COMMAND_SERVE, NULL, NULL, "HEARTH_MAX_BODY: 'many'");
    cr_assert_eq(parse(COMMAND_MODELS, NULL, NULL, NULL, NULL, NULL), 0, "a variable of another command counts");
}

static void expect_bad_file(const char *text, const char *message)
{
    write_file(text);
    expect_refused(COMMAND_SERVE, "--config", path, message);
    unlink(path);
}

Test(options, bad_files)
{
    char line[600];
    memset(line, 'x', sizeof line);
    line[0] = '\n';
    line[sizeof line - 1] = 0;
    expect_bad_file("[server]\nport = x\n", ":2: port: 'x' is not a whole number");
    expect_bad_file("[server]\n\nprt = 1\n", ":3: prt: no such key");
    expect_bad_file("[server]\njson = yes\n", ":2: json: no such key");
    expect_bad_file("[engine]\nport = 1\n", ":2: port: belongs under [server]");
    expect_bad_file("[server]\nport = 1\nport = 2\n", ":3: port: already given on line 2");
    expect_bad_file("[server]\nport = 1\n  2\n", ":3: port: already given on line 2");
    expect_bad_file("[server]\nport\n", ":2: neither");
    expect_bad_file(line, ":2: line too long");
    cr_assert_eq(parse(COMMAND_SERVE, "--config", "/nonexistent", NULL, NULL, NULL), ERR_IO);
}

/* Every key has its place in the example, and the commented ones are valid too. */
Test(options, example_file)
{
    cr_assert_eq(options_read_file(&options, CONFIG_FOLDER "/hearth.conf", &e), 0, "%s", e.text);
    FILE *in = fopen(CONFIG_FOLDER "/hearth.conf", "r");
    char line[256], all[8192] = "";
    while (fgets(line, sizeof line, in)) {
        bool hidden = line[0] == '#' && line[1] != ' ' && line[1] != '\n';
        strcat(all, hidden ? line + 1 : line);
    }
    fclose(in);
    write_file(all);
    options_dispose(&options);
    cr_assert_eq(options_read_file(&options, path, &e), 0, "%s", e.text);
    for (int i = 0; i < OPTION_COUNT; i++)
        if (option_info(i)->section && *option_info(i)->section)
            cr_assert_gt(options.value[i].line, 0, "%s is missing in the example", option_info(i)->name);
}

Test(options, names_and_letters_are_unique)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        for (int j = 0; j < i; j++) {
            const struct option_info *a = option_info(i), *b = option_info(j);
            cr_assert(strcmp(a->name, b->name) != 0, "%s", a->name);
            cr_assert(!a->letter || a->letter != b->letter || !(a->commands & b->commands), "-%c", a->letter);
        }
}
