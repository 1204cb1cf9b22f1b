/* The configuration file: INI, sections and keys from the table of options. */
#include <errno.h>
#include <ini.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "text.h"

struct reading {
    struct options *options;
    const char *path;
    FILE *file;
    int line;
    bool too_long, failed;
    struct err *e;
};

/* inih's handler is not told the line; its reader sees every line, so the count is kept there. */
static char *read_line(char *buffer, int size, void *user)
{
    struct reading *r = user;
    if (r->failed || r->too_long || !fgets(buffer, size, r->file))
        return NULL;
    r->line++;
    r->too_long = !strchr(buffer, '\n') && !feof(r->file);
    return r->too_long ? NULL : buffer;
}

static int refuse(struct reading *r, int code, const char *key, const char *why)
{
    r->failed = true;
    err_set(r->e, code, "%s:%d: %s: %s", r->path, r->line, key, why);
    return 0;
}

static int take_key(void *user, const char *section, const char *key, const char *value)
{
    struct reading *r = user;
    if (r->failed)
        return 0;
    int id = option_find(key, strlen(key));
    const struct option_info *info = id < 0 ? NULL : option_info(id);
    if (!info || !info->section || !*info->section)
        return refuse(r, ERR_INVALID, key, "no such key");
    char why[64], where[256];
    if (strcmp(section, info->section) != 0) {
        snprintf(why, sizeof why, "belongs under [%s]", info->section);
        return refuse(r, ERR_INVALID, key, why);
    }
    struct option_value *v = &r->options->value[id];
    if (v->line) {
        snprintf(why, sizeof why, "already given on line %d", v->line);
        return refuse(r, ERR_INVALID, key, why);
    }
    v->line = r->line;
    snprintf(where, sizeof where, "%s:%d: %s", r->path, r->line, key);
    r->failed = option_set(r->options, id, value, FROM_FILE, where, r->e) < 0;
    return !r->failed;
}

int options_read_file(struct options *o, const char *path, struct err *e)
{
    struct err local = {0};
    struct reading r = {.options = o, .path = path, .e = e ? e : &local, .file = fopen(path, "r")};
    if (!r.file)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    o->file = strdup(path);
    int bad_line = ini_parse_stream(read_line, &r, take_key, &r);
    bool unreadable = ferror(r.file);
    fclose(r.file);
    if (r.failed)
        return r.e->code;
    if (unreadable)
        return err_set(e, ERR_IO, "%s: cannot be read", path);
    if (r.too_long)
        return err_set(e, ERR_INVALID, "%s:%d: line too long", path, r.line);
    if (bad_line != 0)
        return err_set(e, ERR_INVALID, "%s:%d: neither [section] nor key = value", path, bad_line);
    return 0;
}

/* The first that exists of the usual places; the caller's, or NULL. */
static char *usual_file(void)
{
    const char *xdg = text_environment("XDG_CONFIG_HOME"), *home = text_environment("HOME");
    char *candidates[] = {xdg    ? text_from("%s/hearth/hearth.conf", xdg)
                          : home ? text_from("%s/.config/hearth/hearth.conf", home)
                                 : NULL,
                          strdup("/etc/hearth/hearth.conf")};
    char *found = NULL;
    for (int i = 0; i < 2; i++) {
        if (!found && candidates[i] && access(candidates[i], F_OK) == 0)
            found = candidates[i];
        else
            free(candidates[i]);
    }
    return found;
}

int options_read_usual_file(struct options *o, struct err *e)
{
    const char *given = option_text(o, OPTION_CONFIG);
    char *path = given ? strdup(given) : usual_file();
    int status = path ? options_read_file(o, path, e) : 0;
    free(path);
    return status;
}
