/* Names, headers and the age of a store's files. */
#include "store_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#ifdef __APPLE__
#define st_mtim st_mtimespec
#endif

static const char magic[8] = {'h', 'e', 'a', 'r', 't', 'h', 'K', 'V'};
enum { VERSION = 1, CHAIN_MAX = 1 << 16 };

/* ---- names ---- */

void store_name(char name[STORE_NAME], struct prefix_key parent, struct prefix_key key)
{
    snprintf(name, STORE_NAME, "%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "%016" PRIx64 ".kv", parent.high,
             parent.low, key.high, key.low);
}

static bool read_hex(const char *text, uint64_t *out)
{
    *out = 0;
    for (int i = 0; i < 16; i++) {
        char c = text[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
        *out = *out << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

static bool read_name(const char *name, struct store_found *out)
{
    return strlen(name) == 68 && name[32] == '-' && strcmp(name + 65, ".kv") == 0 &&
           read_hex(name, &out->parent.high) && read_hex(name + 16, &out->parent.low) &&
           read_hex(name + 33, &out->key.high) && read_hex(name + 49, &out->key.low);
}

/* ---- headers ---- */

static uint64_t checksum(const struct store_header *h, const int32_t *tokens, const void *data)
{
    size_t first = offsetof(struct store_header, parent);
    uint64_t sum = XXH3_64bits((const char *)h + first, sizeof *h - first);
    sum = XXH3_64bits_withSeed(tokens, h->n_tokens * sizeof *tokens, sum);
    return XXH3_64bits_withSeed(data, h->bytes, sum);
}

void store_header_fill(struct store_header *h, const struct store_block *b, const void *data)
{
    memset(h, 0, sizeof *h);
    memcpy(h->magic, magic, sizeof magic);
    h->version = VERSION;
    h->header_bytes = sizeof *h;
    h->parent = b->parent;
    h->key = b->key;
    h->bytes = b->bytes;
    h->n_tokens = (uint32_t)b->n_tokens;
    h->position = (uint32_t)b->position;
    snprintf(h->model, sizeof h->model, "%s", b->model);
    h->checksum = checksum(h, b->tokens, data);
}

bool store_header_sums(const struct store_header *h, const int32_t *tokens, const void *data)
{
    return h->checksum == checksum(h, tokens, data);
}

bool store_file_read(int file, void *out, size_t bytes, size_t offset)
{
    char *at = out;
    while (bytes > 0) {
        ssize_t n = pread(file, at, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        offset += (size_t)n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool fits(const struct store_header *h, off_t size)
{
    uint64_t rest = (uint64_t)size - sizeof *h, tokens = (uint64_t)h->n_tokens * sizeof(int32_t);
    return h->version == VERSION && h->header_bytes == sizeof *h && memchr(h->model, 0, sizeof h->model) &&
           tokens <= rest && h->bytes == rest - tokens;
}

int store_file_open(int directory, const char *name, struct store_header *h, bool *ours, struct err *err)
{
    struct stat about;
    *ours = false;
    /* not blocking: the name might be a pipe's */
    int file = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) {
        int code = errno == ENOENT ? ERR_NOT_FOUND : errno == ELOOP ? ERR_FORMAT : ERR_IO;
        return err_set(err, code, "%s: %s", name, strerror(errno));
    }
    if (fstat(file, &about) == 0 && S_ISREG(about.st_mode)) {
        bool whole = about.st_size >= (off_t)sizeof *h && store_file_read(file, h, sizeof *h, 0);
        *ours = about.st_size == 0 || (whole && memcmp(h->magic, magic, sizeof magic) == 0);
        if (*ours && whole && fits(h, about.st_size)) return file;
    }
    close(file);
    return err_set(err, ERR_FORMAT, "%s: %s", name, *ours ? "damaged" : "no file of a prefix cache");
}

/* ---- the directory ---- */

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Writers hold a lock on what they write, for as long as they live. */
static void remove_abandoned(int directory, const char *name)
{
    int file = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) return;
    if (flock(file, LOCK_EX | LOCK_NB) == 0) unlinkat(directory, name, 0);
    close(file);
}

static int add_file(struct store_scan *s, size_t *capacity, const struct store_found *found, struct err *err)
{
    if (s->n == *capacity) {
        size_t more = *capacity ? *capacity * 2 : 256;
        struct store_found *file = realloc(s->file, more * sizeof *file);
        if (!file) return err_set(err, ERR_NOMEM, "out of memory for the list of %zu cached blocks", more);
        s->file = file;
        *capacity = more;
    }
    s->file[s->n++] = *found;
    s->bytes += found->bytes;
    return 0;
}

static int compare_keys(struct prefix_key a, struct prefix_key b)
{
    return a.high != b.high ? (a.high > b.high) - (a.high < b.high) : (a.low > b.low) - (a.low < b.low);
}

static int by_key(const void *a, const void *b)
{
    return compare_keys(((const struct store_found *)a)->key, ((const struct store_found *)b)->key);
}

/* One name: a block's file, an abandoned one, or somebody else's. */
static int look_at(int directory, const char *name, struct store_scan *s, size_t *capacity, struct err *err)
{
    struct store_found found = {0};
    struct stat about;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return 0;
    if (strncmp(name, STORE_PARTIAL, strlen(STORE_PARTIAL)) == 0) {
        remove_abandoned(directory, name);
        return 0;
    }
    bool named = read_name(name, &found);
    if (fstatat(directory, name, &about, AT_SYMLINK_NOFOLLOW) != 0) return 0; /* gone meanwhile */
    if (!named || !S_ISREG(about.st_mode)) {
        s->foreign++;
        return 0;
    }
    found.bytes = (uint64_t)about.st_size;
    found.used = found.needed = nanoseconds(about.st_mtim);
    return add_file(s, capacity, &found, err);
}

int store_scan(int directory, struct store_scan *out, struct err *err)
{
    *out = (struct store_scan){0};
    /* a descriptor of its own: reading moves its place */
    int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    if (!list) {
        if (copy >= 0) close(copy);
        return err_set(err, ERR_IO, "cannot list the prefix cache: %s", strerror(errno));
    }
    size_t capacity = 0;
    int rc = 0;
    for (struct dirent *entry; !rc && (entry = readdir(list));) {
        rc = look_at(directory, entry->d_name, out, &capacity, err);
    }
    closedir(list);
    if (rc) {
        free(out->file);
        *out = (struct store_scan){0};
    } else if (out->n > 0) {
        qsort(out->file, out->n, sizeof *out->file, by_key);
    }
    return rc;
}

struct store_found *store_scan_find(const struct store_scan *s, struct prefix_key key)
{
    struct store_found wanted = {.key = key};
    return s->n > 0 ? bsearch(&wanted, s->file, s->n, sizeof *s->file, by_key) : NULL;
}

/* A block is needed as long as one behind it is, and a moment longer, so that a chain goes from its end. */
static void spread_need(struct store_scan *s)
{
    for (size_t i = 0; i < s->n; i++) {
        struct store_found *f = &s->file[i];
        for (int steps = 0; steps < CHAIN_MAX; steps++) { /* names may lead in a circle */
            struct store_found *parent = store_scan_find(s, f->parent);
            if (!parent || parent->needed > f->needed) break;
            parent->needed = f->needed + 1;
            f = parent;
        }
    }
}

static int by_need(const void *a, const void *b)
{
    const struct store_found *x = a, *y = b;
    return (x->needed > y->needed) - (x->needed < y->needed);
}

void store_evict(int directory, struct store_scan *s, uint64_t most)
{
    if (s->bytes <= most) return;
    spread_need(s);
    qsort(s->file, s->n, sizeof *s->file, by_need);
    size_t gone = 0;
    for (; gone < s->n && s->bytes > most; gone++) {
        char name[STORE_NAME];
        store_name(name, s->file[gone].parent, s->file[gone].key);
        unlinkat(directory, name, 0);
        s->bytes -= s->file[gone].bytes;
    }
    s->n -= gone;
    memmove(s->file, s->file + gone, s->n * sizeof *s->file);
    if (s->n > 0) qsort(s->file, s->n, sizeof *s->file, by_key);
}
