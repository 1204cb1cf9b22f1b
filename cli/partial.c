/* Files that are not there yet. */
#include "partial.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

/* A line that is rewritten on a terminal; every tenth elsewhere. */
static void show(struct partial *p)
{
    if (!p->total || p->size > p->total)
        return;
    int percent = (int)(p->size * 100 / p->total), step = p->terminal ? 1 : 10;
    if (p->shown >= 0 && percent / step == p->shown / step)
        return;
    p->shown = percent;
    char have[16], whole[16];
    text_bytes(p->size, have);
    text_bytes(p->total, whole);
    if (p->terminal)
        fprintf(stderr, "\r  [%-40.*s] %3d %%  %s of %s ", percent * 2 / 5,
                "########################################", percent, have, whole);
    else
        fprintf(stderr, "  %d %% (%s of %s)\n", percent, have, whole);
}

static void end_line(struct partial *p)
{
    if (p->terminal && p->shown >= 0)
        fputc('\n', stderr);
    p->shown = -1;
}

int partial_open(struct partial *p, const char *path, uint64_t total, struct err *e)
{
    *p = (struct partial){.path = strdup(path),
                          .part = text_from("%s.part", path),
                          .total = total,
                          .shown = -1,
                          .terminal = isatty(2)};
    sha256_begin(&p->hash);
    char *buffer = malloc(1 << 20);
    int status = 0;
    if (!p->path || !p->part || !buffer) {
        status = err_set(e, ERR_NOMEM, "no memory to fetch %s", path);
        goto done;
    }
    p->file = fopen(p->part, "a+b");
    if (!p->file) {
        status = err_set(e, ERR_IO, "cannot write %s: %s", p->part, strerror(errno));
        goto done;
    }
    rewind(p->file);
    for (size_t n; (n = fread(buffer, 1, 1 << 20, p->file)) > 0; p->size += n)
        sha256_add(&p->hash, buffer, n);
    if (ferror(p->file))
        status = err_set(e, ERR_IO, "cannot read %s: %s", p->part, strerror(errno));
    else if (total && p->size > total)
        status = partial_restart(p, e);
    else
        fseeko(p->file, 0, SEEK_END);
done:
    free(buffer);
    if (status < 0)
        partial_close(p);
    return status;
}

int partial_append(struct partial *p, const void *data, size_t length, struct err *e)
{
    if (fwrite(data, 1, length, p->file) != length) {
        end_line(p);
        return err_set(e, ERR_IO, "cannot write %s: %s", p->part, strerror(errno));
    }
    sha256_add(&p->hash, data, length);
    p->size += length;
    show(p);
    return 0;
}

int partial_restart(struct partial *p, struct err *e)
{
    sha256_begin(&p->hash);
    p->size = 0;
    if (fflush(p->file) != 0 || ftruncate(fileno(p->file), 0) != 0)
        return err_set(e, ERR_IO, "cannot empty %s: %s", p->part, strerror(errno));
    return 0;
}

int partial_finish(struct partial *p, const char *sha256, struct err *e)
{
    end_line(p);
    char digest[65];
    sha256_end(&p->hash, digest);
    if ((p->total && p->size != p->total) || strcmp(digest, sha256) != 0) {
        unlink(p->part);
        return err_set(e, ERR_FORMAT,
                       "%s: this is another file than expected (%llu bytes, SHA-256 %.16s…, not %.16s…)",
                       text_base_name(p->path), (unsigned long long)p->size, digest, sha256);
    }
    if (fflush(p->file) != 0 || fsync(fileno(p->file)) != 0 || rename(p->part, p->path) != 0)
        return err_set(e, ERR_IO, "cannot complete %s: %s", p->path, strerror(errno));
    return 0;
}

void partial_close(struct partial *p)
{
    end_line(p);
    if (p->file)
        fclose(p->file);
    free(p->path);
    free(p->part);
    *p = (struct partial){.shown = -1};
}
