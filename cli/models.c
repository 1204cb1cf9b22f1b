/* hearth models: the catalogue, downloads, paths. */
#include <string.h>

#include "cache.h"
#include "commands.h"
#include "session.h"
#include "text.h"

static int list(const char *directory)
{
    uint64_t memory = catalogue_memory();
    static const char *const fits[] = {"no", "tight", "yes"};
    char bytes[16];
    text_bytes(memory, bytes);
    printf("%-24s %8s  %-5s  %-30s  %s\n", "NAME", "SIZE", "FITS", "LICENCE", "HERE");
    const struct catalogue_model *model;
    for (size_t i = 0; (model = catalogue_at(i)); i++) {
        char size[16];
        text_bytes(model->bytes, size);
        char *path = cache_find(model, directory);
        printf("%-24s %8s  %-5s  %-30s  %s\n", model->name, size,
               memory ? fits[catalogue_fits(model->bytes, memory)] : "?", model->licence, path ? path : "-");
        free(path);
    }
    printf("\nFITS: in this machine's memory (%s). Fetch one with: hearth models pull NAME\n",
           memory ? bytes : "unknown");
    return 0;
}

static int find_or_fetch(const struct options *o, bool fetch, const char *directory, struct err *e)
{
    const char *name = o->arguments[1];
    const struct catalogue_model *model = catalogue_find(name);
    if (fetch && !model)
        return err_set(e, ERR_NOT_FOUND, "%s: no name of the catalogue (hearth models list)", name);
    char *path;
    int status = fetch ? session_fetch(o, model, &path, e) : cache_resolve(name, directory, &path, NULL, e);
    if (status < 0)
        return status;
    puts(path);
    free(path);
    return 0;
}

int command_models(const struct options *o)
{
    struct err e;
    const char *verb = o->n_arguments ? o->arguments[0] : "list";
    bool pull = strcmp(verb, "pull") == 0;
    char *directory = NULL;
    int status = session_cache(o, &directory, &e);
    if (status == 0 && strcmp(verb, "list") == 0 && o->n_arguments <= 1)
        status = list(directory);
    else if (status == 0 && o->n_arguments == 2 && (pull || strcmp(verb, "path") == 0))
        status = find_or_fetch(o, pull, directory, &e);
    else if (status == 0)
        status = err_set(&e, ERR_INVALID, "usage: hearth models %s", command_info(COMMAND_MODELS)->arguments);
    free(directory);
    return status < 0 ? text_fail(&e) : 0;
}
