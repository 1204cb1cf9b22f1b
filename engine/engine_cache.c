/* What lies in a directory of cached prefixes, for people. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "schedule/store_files.h"

/* No directory is an empty one: *out is -1. */
static int open_directory(const char *path, int *out, struct err *err)
{
    *out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out >= 0 || errno == ENOENT) return 0;
    return err_set(err, ERR_IO, "cannot open %s: %s", path, strerror(errno));
}

static int latest_first(const void *a, const void *b)
{
    const struct store_found *x = *(struct store_found *const *)a, *y = *(struct store_found *const *)b;
    return (x->used < y->used) - (x->used > y->used);
}

/* Bytes of a block's file and of those before it in its chain, as far as no other chain has counted them. */
static uint64_t count_chain(const struct store_scan *s, bool *counted, const struct store_found *f)
{
    uint64_t bytes = 0;
    for (; f && !counted[f - s->file]; f = store_scan_find(s, f->parent)) {
        counted[f - s->file] = true;
        bytes += f->bytes;
    }
    return bytes;
}

static bool describe(int directory, const struct store_found *f, struct engine_cache_entry *out)
{
    char name[STORE_NAME];
    struct store_header header;
    bool ours;
    store_name(name, f->parent, f->key);
    int file = store_file_open(directory, name, &header, &ours, NULL);
    if (file < 0) return false;
    close(file);
    memcpy(out->model, header.model, sizeof out->model);
    out->tokens = ((uint64_t)header.position + 1) * header.n_tokens;
    out->age = (double)time(NULL) - (double)f->used * 1e-9;
    return true;
}

int engine_cache_list(const char *path, struct engine_cache_entry **out, size_t *n, struct err *err)
{
    struct store_scan s = {0};
    int directory, rc = open_directory(path, &directory, err);
    *out = NULL;
    *n = 0;
    if (rc || directory < 0) return rc;
    rc = store_scan(directory, &s, err);
    if (rc) goto done;
    struct store_found **latest = malloc((s.n + 1) * sizeof *latest);
    bool *counted = calloc(s.n + 1, sizeof *counted), *inner = calloc(s.n + 1, sizeof *inner);
    *out = calloc(s.n + 1, sizeof **out);
    if (latest && counted && inner && *out) {
        for (size_t i = 0; i < s.n; i++) {
            const struct store_found *parent = store_scan_find(&s, s.file[i].parent);
            if (parent) inner[parent - s.file] = true;
            latest[i] = &s.file[i];
        }
        qsort(latest, s.n, sizeof *latest, latest_first);
        for (size_t i = 0; i < s.n; i++) {
            if (inner[latest[i] - s.file] || !describe(directory, latest[i], *out + *n)) continue;
            (*out)[(*n)++].bytes = count_chain(&s, counted, latest[i]);
        }
    } else {
        rc = err_set(err, ERR_NOMEM, "out of memory for the list of %zu cached blocks", s.n);
        free(*out);
        *out = NULL;
    }
    free(latest);
    free(counted);
    free(inner);
done:
    free(s.file);
    close(directory);
    return rc;
}

int engine_cache_clear(const char *path, size_t *files, uint64_t *bytes, struct err *err)
{
    struct store_scan s;
    int directory, rc = open_directory(path, &directory, err);
    *files = 0;
    *bytes = 0;
    if (rc || directory < 0) return rc;
    rc = store_scan(directory, &s, err);
    if (!rc) {
        *files = s.n;
        *bytes = s.bytes;
        store_evict(directory, &s, 0);
        *files -= s.n;
        *bytes -= s.bytes;
    }
    free(s.file);
    close(directory);
    return rc;
}
