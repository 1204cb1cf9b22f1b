/* Finding model files on this machine. */
#include "cache.h"

#include <glob.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"

int cache_directory(const char *given, char **out, struct err *e)
{
    const char *xdg = text_environment("XDG_CACHE_HOME"), *home = text_environment("HOME");
    if (given)
        *out = strdup(given);
    else if (xdg)
        *out = text_from("%s/hearth/models", xdg);
    else if (!home)
        return err_set(e, ERR_NOT_FOUND, "no home folder: say where models go with --cache or HEARTH_CACHE");
    else
#ifdef __APPLE__
        *out = text_from("%s/Library/Caches/hearth/models", home);
#else
        *out = text_from("%s/.cache/hearth/models", home);
#endif
    return *out ? 0 : err_set(e, ERR_NOMEM, "no memory for a path");
}

/* Whether `path` is a readable file that can be this model's; pinned sizes must match. */
static bool is_file_of(const struct catalogue_model *model, const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0 &&
           access(path, R_OK) == 0 && (!*model->sha256 || (uint64_t)status.st_size == model->bytes);
}

/* Looks for all parts of a model in one folder; returns the first part's path. */
static char *find_in(const struct catalogue_model *model, const char *folder)
{
    char *first = NULL;
    for (int part = 1; part <= model->parts; part++) {
        char *file = catalogue_file(model, part);
        char *path = file ? text_from("%s/%s", folder, file) : NULL;
        free(file);
        if (!path || !is_file_of(model, path)) {
            free(path);
            free(first);
            return NULL;
        }
        if (part == 1)
            first = path;
        else
            free(path);
    }
    return first;
}

/* Takes ownership of `folder`, which may be NULL. */
static char *find_and_free(const struct catalogue_model *model, char *folder)
{
    char *found = folder ? find_in(model, folder) : NULL;
    free(folder);
    return found;
}

/* Hugging Face: hub/models--ORG--REPOSITORY/snapshots/COMMIT/FILE. */
static char *find_hugging_face(const struct catalogue_model *model, const char *home)
{
    const char *hub = text_environment("HF_HUB_CACHE"), *base = text_environment("HF_HOME");
    const char *xdg = text_environment("XDG_CACHE_HOME");
    const char *slash = strchr(model->repository, '/');
    int owner = (int)(slash - model->repository);
    char *root = hub    ? strdup(hub)
                 : base ? text_from("%s/hub", base)
                 : xdg  ? text_from("%s/huggingface/hub", xdg)
                 : home ? text_from("%s/.cache/huggingface/hub", home)
                        : NULL;
    char *pattern =
        root ? text_from("%s/models--%.*s--%s/snapshots/*", root, owner, model->repository, slash + 1)
             : NULL;
    char *found = NULL;
    glob_t matches = {0};
    if (pattern && glob(pattern, 0, NULL, &matches) == 0)
        for (size_t i = 0; i < matches.gl_pathc && !found; i++)
            found = find_in(model, matches.gl_pathv[i]);
    globfree(&matches);
    free(pattern);
    free(root);
    return found;
}

/* Ollama keeps files by digest, so only pinned models can be told. */
static char *find_ollama(const struct catalogue_model *model, const char *home)
{
    const char *given = text_environment("OLLAMA_MODELS");
    if (!*model->sha256 || (!given && !home))
        return NULL;
    char *path = text_from("%s%s/blobs/sha256-%s", given ? given : home, given ? "" : "/.ollama/models",
                             model->sha256);
    if (path && is_file_of(model, path))
        return path;
    free(path);
    return NULL;
}

static char *find_lm_studio(const struct catalogue_model *model, const char *home)
{
    if (!home)
        return NULL;
    char *found = find_and_free(model, text_from("%s/.lmstudio/models/%s", home, model->repository));
    return found
               ? found
               : find_and_free(model, text_from("%s/.cache/lm-studio/models/%s", home, model->repository));
}

char *cache_find(const struct catalogue_model *model, const char *directory)
{
    const char *home = text_environment("HOME");
    char *found = find_in(model, directory);
    if (!found)
        found = find_hugging_face(model, home);
    if (!found)
        found = find_ollama(model, home);
    return found ? found : find_lm_studio(model, home);
}

int cache_resolve(const char *argument, const char *directory, char **path,
                  const struct catalogue_model **model, struct err *e)
{
    const struct catalogue_model *known = catalogue_find(argument);
    if (model)
        *model = known ? known : catalogue_find_file(argument);
    if (access(argument, F_OK) == 0) {
        *path = strdup(argument);
        return *path ? 0 : err_set(e, ERR_NOMEM, "no memory for a path");
    }
    if (!known)
        return err_set(e, ERR_NOT_FOUND,
                       "%s: no such file, and no name of the catalogue (hearth models list)", argument);
    *path = cache_find(known, directory);
    return *path ? 0
                 : err_set(e, ERR_NOT_FOUND, "%s is not here yet: fetch it with hearth models pull %s",
                           argument, argument);
}
