/* Opens and closes GGUF files: mapping, split files, and watching that a mapped file stays as it was. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf_private.h"

enum {
    MAX_PARTS = 512,
    SPLIT_SUFFIX = sizeof "-00001-of-00002.gguf" - 1,
};

static int map_part(struct gguf_part *part, const char *path, struct err *err)
{
    /* O_NONBLOCK: a pipe in the file's place is refused below instead of waited for. */
    part->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (part->fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", strerror(errno));
    struct stat st;
    if (fstat(part->fd, &st) != 0)
        return err_set(err, ERR_IO, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_IO, "not a regular file");
    if (st.st_size == 0)
        return err_set(err, ERR_FORMAT, "the file is empty");
    if ((uintmax_t)st.st_size > SIZE_MAX)
        return err_set(err, ERR_NOMEM, "too large for this machine's address space");
    void *mapped = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, part->fd, 0);
    if (mapped == MAP_FAILED)
        return err_set(err, ERR_IO, "cannot map the file: %s", strerror(errno));
    part->data = mapped;
    part->size = (size_t)st.st_size;
    part->modified = st.st_mtime;
    return 0;
}

static struct gguf *gguf_new(struct err *err)
{
    struct gguf *g = calloc(1, sizeof *g);
    if (g)
        g->parts = calloc(1, sizeof *g->parts);
    if (!g || !g->parts) {
        free(g);
        err_set(err, ERR_NOMEM, "no memory for a model file");
        return NULL;
    }
    g->n_parts = 1;
    g->parts[0].fd = -1;
    return g;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->n_parts; i++) {
        if (g->parts[i].fd < 0)
            continue;
        if (g->parts[i].data)
            munmap((void *)g->parts[i].data, g->parts[i].size);
        close(g->parts[i].fd);
    }
    free(g->parts);
    free(g->pairs);
    free(g->pair_names);
    free(g->tensors);
    free(g->tensor_names);
    free(g);
}

static int index_tensors(struct gguf *g, struct err *err)
{
    return gguf_index(g->tensors, g->n_tensors, sizeof *g->tensors, "tensor", &g->tensor_names, err);
}

/* One part by itself; its errors begin with the path. */
static int open_part(struct gguf **out, const char *path, struct err *err)
{
    struct gguf *g = gguf_new(err);
    if (!g)
        return ERR_NOMEM;
    struct err why;
    int rc = map_part(&g->parts[0], path, &why);
    if (rc == 0)
        rc = gguf_parse(g, &why);
    if (rc) {
        gguf_close(g);
        return err_set(err, rc, "%s: %s", path, why.text);
    }
    *out = g;
    return 0;
}

/* Where the file says nothing about being split: part 0 of 1. */
static int read_split(const struct gguf *g, uint64_t *no, uint64_t *count, struct err *err)
{
    *no = 0;
    *count = 1;
    int rc = gguf_get_uint(g, "split.count", MAX_PARTS, count, err);
    if (rc == ERR_NOT_FOUND)
        return 0;
    if (rc == 0 && *count > 1)
        rc = gguf_get_uint(g, "split.no", *count - 1, no, err);
    return gguf_required(rc, err);
}

/* The numbers in "-00002-of-00003.gguf" at the path's end; false where it ends otherwise. */
static bool parse_suffix(const char *path, unsigned *number, unsigned *count)
{
    size_t length = strlen(path);
    if (length < SPLIT_SUFFIX)
        return false;
    const char *suffix = path + length - SPLIT_SUFFIX;
    char again[64];
    if (sscanf(suffix, "-%5u-of-%5u.gguf", number, count) != 2)
        return false;
    snprintf(again, sizeof again, "-%05u-of-%05u.gguf", *number, *count);
    return strcmp(again, suffix) == 0;
}

/* Moves the file and the tensors of `from` to the end of `to`'s. */
static int append_part(struct gguf *to, struct gguf *from, struct err *err)
{
    size_t n = to->n_tensors + from->n_tensors;
    struct gguf_part *parts = realloc(to->parts, (size_t)(to->n_parts + 1) * sizeof *parts);
    if (parts)
        to->parts = parts;
    struct gguf_tensor *tensors = realloc(to->tensors, (n + 1) * sizeof *tensors);
    if (tensors)
        to->tensors = tensors;
    if (!parts || !tensors)
        return err_set(err, ERR_NOMEM, "no memory for a list of %zu tensors", n);
    if (from->n_tensors)
        memcpy(to->tensors + to->n_tensors, from->tensors, from->n_tensors * sizeof *tensors);
    to->n_tensors = n;
    to->parts[to->n_parts++] = from->parts[0];
    from->n_parts = 0;
    return 0;
}

/* Opens part `i` of `count`, named like `path`, and checks that it says so itself. */
static int open_numbered(struct gguf **out, const char *path, uint64_t i, uint64_t count, struct err *err)
{
    char *name = strdup(path);
    if (!name)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    snprintf(name + strlen(name) - SPLIT_SUFFIX, SPLIT_SUFFIX + 1, "-%05u-of-%05u.gguf", (unsigned)i + 1,
             (unsigned)count);
    uint64_t no, n;
    struct gguf *g = NULL;
    int rc = open_part(&g, name, err);
    if (rc == 0)
        rc = read_split(g, &no, &n, err);
    if (rc == 0 && (no != i || n != count))
        rc = err_set(err, ERR_FORMAT, "%s: says that it is part %" PRIu64 " of %" PRIu64, name, no + 1, n);
    free(name);
    if (rc) {
        gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

/* Metadata comes from the first part, tensors from all. */
static int open_split(struct gguf **out, const char *path, uint64_t count, struct err *err)
{
    struct gguf *whole = NULL, *part = NULL;
    uint64_t n_tensors;
    int rc = open_numbered(&whole, path, 0, count, err);
    for (uint64_t i = 1; i < count && rc == 0; i++) {
        rc = open_numbered(&part, path, i, count, err);
        if (rc == 0)
            rc = append_part(whole, part, err);
        gguf_close(part);
        part = NULL;
    }
    if (rc)
        goto fail;
    rc = gguf_get_uint(whole, "split.tensors.count", UINT64_MAX, &n_tensors, err);
    if (rc == 0 && n_tensors != whole->n_tensors)
        rc = err_set(err, ERR_FORMAT, "%s: the parts have %zu tensors, split.tensors.count is %" PRIu64,
                     path, whole->n_tensors, n_tensors);
    if (rc && rc != ERR_NOT_FOUND)
        goto fail;
    *out = whole;
    return 0;
fail:
    gguf_close(whole);
    return rc;
}

int gguf_open(struct gguf **out, const char *path, struct err *err)
{
    struct gguf *g;
    int rc = open_part(&g, path, err);
    if (rc)
        return rc;
    uint64_t no, count;
    if ((rc = read_split(g, &no, &count, err)) != 0)
        goto fail;
    if (count > 1) {
        unsigned named_no, named_count;
        if (!parse_suffix(path, &named_no, &named_count) || named_no != no + 1 || named_count != count) {
            rc = err_set(err, ERR_FORMAT, "%s: part %" PRIu64 " of %" PRIu64 " of a split model has to be "
                         "named NAME-%05u-of-%05u.gguf, beside the others", path, no + 1, count,
                         (unsigned)no + 1, (unsigned)count);
            goto fail;
        }
        gguf_close(g);
        if ((rc = open_split(&g, path, count, err)) != 0)
            return rc;
    }
    if ((rc = index_tensors(g, err)) != 0)
        goto fail;
    *out = g;
    return 0;
fail:
    gguf_close(g);
    return rc;
}

int gguf_open_memory(struct gguf **out, const void *data, size_t size, struct err *err)
{
    struct gguf *g = gguf_new(err);
    if (!g)
        return ERR_NOMEM;
    g->parts[0].data = data;
    g->parts[0].size = size;
    uint64_t no, count;
    int rc = gguf_parse(g, err);
    if (rc == 0)
        rc = read_split(g, &no, &count, err);
    if (rc == 0 && count > 1)
        rc = err_set(err, ERR_UNSUPPORTED, "one part of a split model cannot be read from memory");
    if (rc == 0)
        rc = index_tensors(g, err);
    if (rc) {
        gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

int gguf_unchanged(const struct gguf *g, struct err *err)
{
    for (int i = 0; i < g->n_parts; i++) {
        const struct gguf_part *part = &g->parts[i];
        struct stat st;
        if (part->fd < 0)
            continue;
        if (fstat(part->fd, &st) != 0)
            return err_set(err, ERR_IO, "the model file: %s", strerror(errno));
        if ((uintmax_t)st.st_size != part->size || st.st_mtime != part->modified)
            return err_set(err, ERR_IO, "the model file was changed while in use (%zu bytes before, %jd now)",
                           part->size, (intmax_t)st.st_size);
    }
    return 0;
}

static void release(const struct gguf_part *part, size_t first, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = first / page * page;
    madvise((char *)part->data + whole, first + bytes - whole, MADV_DONTNEED);
}

void gguf_release(const struct gguf *g, const void *data, size_t bytes)
{
    for (int i = 0; i < g->n_parts; i++) {
        const struct gguf_part *part = &g->parts[i];
        size_t first = (uintptr_t)data - (uintptr_t)part->data; /* of another part: beyond the size */
        if (part->fd >= 0 && first < part->size && bytes <= part->size - first)
            release(part, first, bytes);
    }
}

void gguf_release_metadata(const struct gguf *g)
{
    for (int i = 0; i < g->n_parts; i++) {
        const struct gguf_part *part = &g->parts[i];
        size_t end = part->size;
        for (size_t t = 0; t < g->n_tensors; t++) {
            size_t first = (uintptr_t)g->tensors[t].data - (uintptr_t)part->data;
            end = first < end ? first : end;
        }
        if (part->fd >= 0)
            release(part, 0, end);
    }
}
