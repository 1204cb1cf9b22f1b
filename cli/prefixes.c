/* hearth cache: the prefixes that servers keep on the disk. */
#include <string.h>

#include "../engine/engine.h"
#include "commands.h"
#include "text.h"

static void show_age(double seconds)
{
    if (seconds < 0)
        seconds = 0;
    if (seconds < 120)
        printf("%5.0f s", seconds);
    else if (seconds < 7200)
        printf("%5.0f min", seconds / 60);
    else if (seconds < 172800)
        printf("%5.0f h", seconds / 3600);
    else
        printf("%5.0f days", seconds / 86400);
}

static int list(const char *directory, struct err *e)
{
    struct engine_cache_entry *entries;
    size_t n;
    uint64_t total = 0;
    char bytes[16];
    int status = engine_cache_list(directory, &entries, &n, e);
    if (status < 0)
        return status;
    printf("%-40s %8s  %8s  %s\n", "MODEL", "TOKENS", "SIZE", "USED LAST");
    for (size_t i = 0; i < n; i++) {
        text_bytes(entries[i].bytes, bytes);
        printf("%-40s %8llu  %8s  ", entries[i].model, (unsigned long long)entries[i].tokens, bytes);
        show_age(entries[i].age);
        printf(" ago\n");
        total += entries[i].bytes;
    }
    text_bytes(total, bytes);
    printf("\n%zu prefixes, %s, in %s. What several share counts for the one used last.\n", n, bytes,
           directory);
    free(entries);
    return 0;
}

static int clear(const char *directory, struct err *e)
{
    size_t files;
    uint64_t removed;
    char bytes[16];
    int status = engine_cache_clear(directory, &files, &removed, e);
    if (status < 0)
        return status;
    text_bytes(removed, bytes);
    printf("removed %zu files, %s, from %s\n", files, bytes, directory);
    return 0;
}

int command_cache(const struct options *o)
{
    struct err e;
    const char *verb = o->n_arguments ? o->arguments[0] : "list";
    const char *directory = option_text(o, OPTION_CACHE_DIR);
    int status;
    if (!directory)
        status = err_set(&e, ERR_INVALID,
                         "which folder? --cache-dir FOLDER, HEARTH_CACHE_DIR or the configuration file");
    else if (strcmp(verb, "list") == 0)
        status = list(directory, &e);
    else if (strcmp(verb, "clear") == 0)
        status = clear(directory, &e);
    else
        status = err_set(&e, ERR_INVALID, "usage: hearth cache %s", command_info(COMMAND_CACHE)->arguments);
    return status < 0 ? text_fail(&e) : 0;
}
