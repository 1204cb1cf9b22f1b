/* Compiled kernels on disk, so that only the first start on a machine compiles them:
 * ${XDG_CACHE_HOME:-$HOME/.cache}/hearth/cuda/<hash>-<module>.cubin, a checksum followed by the code.
 * Nothing here is an error: without the cache kernels are compiled again. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "driver.h"

#define CHECKSUM_BYTES 16
#define LARGEST_FILE ((off_t)64 << 20)

/* Puts a file's path at `path`; false where it is too long or nobody says where caches are. */
static bool find_path(const struct cuda_cache_key *key, char *path, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool given = cache && *cache == '/';
    if (!given && (!home || *home != '/'))
        return false;
    int n = snprintf(path, size, "%s%s/hearth/cuda/%016llx%016llx-%s.cubin", given ? cache : home,
                     given ? "" : "/.cache", (unsigned long long)key->hash[1], (unsigned long long)key->hash[0],
                     key->module);
    return n > 0 && (size_t)n < size;
}

/* Makes the folders above the file. */
static void make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
}

static void checksum(const void *data, size_t bytes, unsigned char *sum)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, bytes));
    memcpy(sum, canonical.digest, CHECKSUM_BYTES);
}

static bool read_all(int file, unsigned char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = read(file, data, bytes);
        if (n <= 0)
            return false;
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

void *cuda_cache_read(const struct cuda_cache_key *key, size_t *bytes)
{
    char path[1024];
    if (!find_path(key, path, sizeof path))
        return NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NULL;
    struct stat status;
    unsigned char stored[CHECKSUM_BYTES], computed[CHECKSUM_BYTES], *data = NULL;
    if (fstat(file, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size <= CHECKSUM_BYTES
        || status.st_size > LARGEST_FILE)
        goto fail;
    *bytes = (size_t)status.st_size - CHECKSUM_BYTES;
    data = malloc(*bytes);
    if (!data || !read_all(file, stored, sizeof stored) || !read_all(file, data, *bytes))
        goto fail;
    checksum(data, *bytes, computed);
    if (memcmp(stored, computed, sizeof stored) != 0)
        goto fail;
    close(file);
    return data;
fail:
    free(data);
    close(file);
    return NULL;
}

static bool write_all(int file, const unsigned char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(file, data, bytes);
        if (n <= 0)
            return false;
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

void cuda_cache_write(const struct cuda_cache_key *key, const void *cubin, size_t bytes)
{
    char path[1024], temporary[1024 + 8];
    if (!find_path(key, path, sizeof path))
        return;
    make_folders(path);
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    int file = mkstemp(temporary);
    if (file < 0)
        return;
    unsigned char sum[CHECKSUM_BYTES];
    checksum(cubin, bytes, sum);
    bool written = write_all(file, sum, sizeof sum) && write_all(file, cubin, bytes);
    if (close(file) < 0 || !written || rename(temporary, path) < 0)
        unlink(temporary);
}
