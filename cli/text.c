/* Strings and paths for the subcommands. */
#include "text.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

char *text_from(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *out = NULL;
    int n = vasprintf(&out, format, arguments);
    va_end(arguments);
    return n < 0 ? NULL : out;
}

void text_bytes(uint64_t bytes, char *out)
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    int u = 0;
    while (value >= 999.5 && u < 4) {
        value /= 1000;
        u++;
    }
    snprintf(out, 16, u >= 3 && value < 99.95 ? "%.1f %s" : "%.0f %s", value, unit[u]);
}

const char *text_environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

int text_read_file(const char *path, size_t most, char **out, size_t *length, struct err *e)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    char *bytes = malloc(most + 2);
    if (!bytes) {
        fclose(file);
        return err_set(e, ERR_NOMEM, "%s: no memory to read it", path);
    }
    size_t n = fread(bytes, 1, most + 1, file);
    bool failed = ferror(file);
    int reason = errno;
    fclose(file);
    if (failed || n > most) {
        free(bytes);
        return failed ? err_set(e, ERR_IO, "%s: %s", path, strerror(reason))
                      : err_set(e, ERR_LIMIT, "%s: longer than %zu bytes", path, most);
    }
    bytes[n] = 0;
    *out = bytes;
    if (length)
        *length = n;
    return 0;
}

int text_make_directories(const char *path, struct err *e)
{
    char *copy = strdup(path);
    if (!copy)
        return err_set(e, ERR_NOMEM, "no memory for a path");
    int status = 0;
    for (char *at = copy + 1; status == 0; at++) {
        if (*at != '/' && *at != 0)
            continue;
        char end = *at;
        *at = 0;
        if (mkdir(copy, 0755) != 0 && errno != EEXIST)
            status = err_set(e, ERR_IO, "cannot make folder %s: %s", copy, strerror(errno));
        *at = end;
        if (end == 0)
            break;
    }
    free(copy);
    return status;
}

const char *text_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int text_fail(const struct err *e)
{
    fprintf(stderr, "hearth: %s\n", e->text);
    return 1;
}
