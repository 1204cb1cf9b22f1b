/* The store at work: reading where the caller is, writing on a thread of its own. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../log.h"
#include "store_files.h"

enum {
    QUEUE_BLOCKS = 4,  /* handed over and not written yet: bounds the memory */
    SCAN_EVERY = 64,   /* files written: others may write into the directory too */
    SPARE = 16         /* eviction leaves a sixteenth free, so that it is rare */
};

struct write {
    struct write *next;
    struct store_header header;
    int32_t *tokens;
    void *data;
};

struct store {
    char *path;
    int directory;
    uint64_t most;
    pthread_t thread;

    pthread_mutex_t mutex;
    pthread_cond_t work;
    struct write *first, *last;
    int n_queued;
    bool closing;
    /* ---- the thread's own ---- */
    uint64_t bytes;     /* of the files, as far as is known */
    int n_written;      /* since the last scan */
    unsigned serial;    /* of temporary names */

    atomic_bool failed;
    atomic_bool complained; /* of a file that is not as it should be */
};

/* ---- writing ---- */

/* The disk refuses: said once, and then without it. */
static void fail(struct store *s, const char *what)
{
    if (!atomic_exchange(&s->failed, true)) {
        log_warning("prefix cache: %s: %s; nothing more is saved", what, strerror(errno));
    }
}

static bool write_all(int file, struct iovec *part, int n)
{
    while (n > 0) {
        ssize_t done = writev(file, part, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return false;
        for (; n > 0 && (size_t)done >= part->iov_len; n--, part++) done -= (ssize_t)part->iov_len;
        if (n > 0) {
            part->iov_base = (char *)part->iov_base + done;
            part->iov_len -= (size_t)done;
        }
    }
    return true;
}

static bool write_contents(int file, const struct write *w)
{
    struct iovec part[] = {{(void *)&w->header, sizeof w->header},
                           {w->tokens, w->header.n_tokens * sizeof *w->tokens},
                           {w->data, w->header.bytes}};
    return write_all(file, part, 3) && fsync(file) == 0;
}

/* The file has its name only once it is whole and on the disk. */
static void write_file(struct store *s, const struct write *w)
{
    char partial[64], name[STORE_NAME];
    snprintf(partial, sizeof partial, STORE_PARTIAL "%ld-%u", (long)getpid(), s->serial++);
    store_name(name, w->header.parent, w->header.key);
    int file = openat(s->directory, partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) {
        if (errno != EEXIST) fail(s, s->path);
        return;
    }
    if (flock(file, LOCK_EX | LOCK_NB) != 0) { /* another process takes it for abandoned and removes it */
        close(file);
        return;
    }
    bool written = write_contents(file, w);
    if (!written) fail(s, s->path);
    if (!written || renameat(s->directory, partial, s->directory, name) != 0) {
        unlinkat(s->directory, partial, 0);
    }
    close(file);
}

static void make_room(struct store *s, uint64_t bytes)
{
    uint64_t most = s->most > bytes ? s->most - bytes : 0;
    struct store_scan scan;
    struct err err;
    s->n_written++;
    s->bytes += bytes;
    if (s->bytes <= s->most && s->n_written < SCAN_EVERY) return;
    s->n_written = 0;
    if (store_scan(s->directory, &scan, &err)) {
        errno = EIO;
        fail(s, err.text);
        return;
    }
    if (scan.bytes > most) store_evict(s->directory, &scan, most - most / SPARE);
    s->bytes = scan.bytes + bytes;
    free(scan.file);
}

static void write_free(struct write *w)
{
    if (!w) return;
    free(w->tokens);
    free(w->data);
    free(w);
}

static void *run(void *argument)
{
    struct store *s = argument;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (!s->first && !s->closing) pthread_cond_wait(&s->work, &s->mutex);
        struct write *w = s->first;
        if (!w) break;
        s->first = w->next;
        if (!s->first) s->last = NULL;
        pthread_mutex_unlock(&s->mutex);
        uint64_t bytes = sizeof w->header + w->header.n_tokens * sizeof *w->tokens + w->header.bytes;
        if (bytes <= s->most && !store_failed(s)) make_room(s, bytes);
        if (bytes <= s->most && !store_failed(s)) write_file(s, w);
        write_free(w);
        pthread_mutex_lock(&s->mutex);
        s->n_queued--;
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

void *store_room(struct store *s, size_t bytes)
{
    pthread_mutex_lock(&s->mutex);
    bool full = s->n_queued >= QUEUE_BLOCKS;
    pthread_mutex_unlock(&s->mutex);
    return full || store_failed(s) ? NULL : malloc(bytes);
}

void store_write(struct store *s, const struct store_block *b, void *room)
{
    struct write *w = calloc(1, sizeof *w);
    size_t bytes = (size_t)b->n_tokens * sizeof *b->tokens;
    if (w) w->tokens = malloc(bytes);
    if (!w || !w->tokens) { /* one block less */
        free(w);
        free(room);
        return;
    }
    memcpy(w->tokens, b->tokens, bytes);
    w->data = room;
    store_header_fill(&w->header, b, room);
    pthread_mutex_lock(&s->mutex);
    *(s->last ? &s->last->next : &s->first) = w;
    s->last = w;
    s->n_queued++;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->mutex);
}

bool store_failed(struct store *s)
{
    return atomic_load(&s->failed);
}

/* ---- reading ---- */

bool store_has(const struct store *s, struct prefix_key parent, struct prefix_key key)
{
    char name[STORE_NAME];
    store_name(name, parent, key);
    return faccessat(s->directory, name, R_OK, 0) == 0;
}

bool store_touch(struct store *s, struct prefix_key parent, struct prefix_key key)
{
    char name[STORE_NAME];
    store_name(name, parent, key);
    return utimensat(s->directory, name, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

static int read_checked(int file, const struct store_header *h, const struct store_block *b, void *out,
                        struct err *err)
{
    if (!prefix_same(h->parent, b->parent) || !prefix_same(h->key, b->key) || h->bytes != b->bytes ||
        h->n_tokens != (uint32_t)b->n_tokens) {
        return err_set(err, ERR_FORMAT, "holds something else than its name says");
    }
    size_t bytes = (size_t)b->n_tokens * sizeof *b->tokens;
    int32_t *tokens = malloc(bytes);
    if (!tokens) return err_set(err, ERR_NOMEM, "out of memory for a cached block");
    int rc = 0;
    if (!store_file_read(file, tokens, bytes, sizeof *h) ||
        !store_file_read(file, out, b->bytes, sizeof *h + bytes)) {
        rc = err_set(err, ERR_IO, "cannot be read: %s", strerror(errno));
    } else if (memcmp(tokens, b->tokens, bytes) != 0 || !store_header_sums(h, tokens, out)) {
        rc = err_set(err, ERR_FORMAT, "damaged");
    }
    free(tokens);
    return rc;
}

int store_read(struct store *s, const struct store_block *b, void *out, struct err *err)
{
    char name[STORE_NAME];
    struct store_header header;
    bool ours;
    store_name(name, b->parent, b->key);
    int file = store_file_open(s->directory, name, &header, &ours, err);
    int rc = file < 0 ? file : read_checked(file, &header, b, out, err);
    if (file >= 0) close(file);
    if (rc == 0 || rc == ERR_NOT_FOUND || rc == ERR_NOMEM) return rc;
    if (rc == ERR_FORMAT && ours) unlinkat(s->directory, name, 0);
    if (!atomic_exchange(&s->complained, true)) {
        log_warning("prefix cache: %s/%s is not usable (%s)%s; there may be more of its kind", s->path, name,
                    err ? err->text : "damaged", rc == ERR_FORMAT && ours ? ", removed" : "");
    }
    return rc;
}

/* ---- beginning and end ---- */

static int make_directory(const char *path, struct err *err)
{
    char *part = strdup(path);
    if (!part) return err_set(err, ERR_NOMEM, "out of memory for a path");
    int rc = 0;
    for (char *at = part + 1; !rc; at++) {
        if (*at != '/' && *at != 0) continue;
        char end = *at;
        *at = 0;
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            rc = err_set(err, ERR_IO, "cannot make %s for the prefix cache: %s", part, strerror(errno));
        }
        *at = end;
        if (end == 0) break;
    }
    free(part);
    return rc;
}

static int open_directory(const char *path, int *out, struct err *err)
{
    struct stat about;
    *out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out < 0) {
        return err_set(err, ERR_IO, "cannot open the prefix cache %s: %s", path, strerror(errno));
    }
    if (fstat(*out, &about) == 0 && about.st_mode & (S_IRWXG | S_IRWXO)) {
        log_warning("%s holds what people write, and others may look into it: chmod 700", path);
    }
    return 0;
}

/* Takes stock: what is there, and whether it is too much already. */
static int take_stock(struct store *s, struct err *err)
{
    struct store_scan scan;
    int rc = store_scan(s->directory, &scan, err);
    if (rc) return rc;
    store_evict(s->directory, &scan, s->most);
    s->bytes = scan.bytes;
    log_info("prefix cache in %s: %zu blocks, %.0f MiB of at most %.0f MiB", s->path, scan.n,
             (double)scan.bytes / 1048576, (double)s->most / 1048576);
    if (scan.foreign > 0) {
        log_warning("prefix cache: %zu files in %s are none of its own: left alone", scan.foreign, s->path);
    }
    free(scan.file);
    return 0;
}

static int start(struct store *s, struct err *err)
{
    sigset_t all, before;
    int rc = pthread_mutex_init(&s->mutex, NULL);
    if (!rc) rc = pthread_cond_init(&s->work, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!rc) rc = pthread_create(&s->thread, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? err_set(err, ERR_IO, "cannot start the prefix cache's thread: %s", strerror(rc)) : 0;
}

int store_open(struct store **out, const char *directory, uint64_t bytes, struct err *err)
{
    *out = NULL;
    struct store *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, ERR_NOMEM, "out of memory for the prefix cache");
    s->directory = -1;
    s->most = bytes;
    s->path = strdup(directory);
    int rc = s->path ? make_directory(directory, err) : err_set(err, ERR_NOMEM, "out of memory for a path");
    if (!rc) rc = open_directory(directory, &s->directory, err);
    if (!rc) rc = take_stock(s, err);
    if (!rc) rc = start(s, err);
    if (rc) {
        if (s->directory >= 0) close(s->directory);
        free(s->path);
        free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->mutex);
    s->closing = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->mutex);
    close(s->directory);
    free(s->path);
    free(s);
}
