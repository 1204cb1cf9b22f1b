/* Writes GGUF bytes for tests. */
#include "gguf_writer.h"

#include <errno.h>
#include <string.h>

void gguf_put(struct gguf_writer *w, const void *bytes, size_t length)
{
    if (length > w->capacity - w->length) {
        w->capacity = 2 * (w->length + length) + 4096;
        w->bytes = realloc(w->bytes, w->capacity);
        REQUIRE(w->bytes);
    }
    memcpy(w->bytes + w->length, bytes, length);
    w->length += length;
}

void gguf_put_u32(struct gguf_writer *w, uint32_t value)
{
    gguf_put(w, &value, sizeof value);
}

void gguf_put_u64(struct gguf_writer *w, uint64_t value)
{
    gguf_put(w, &value, sizeof value);
}

void gguf_put_string(struct gguf_writer *w, const char *s)
{
    gguf_put_u64(w, strlen(s));
    gguf_put(w, s, strlen(s));
}

void gguf_put_padding(struct gguf_writer *w, size_t alignment)
{
    while (w->length % alignment)
        gguf_put(w, "", 1);
}

void gguf_put_header(struct gguf_writer *w, uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    gguf_put(w, "GGUF", 4);
    gguf_put_u32(w, version);
    gguf_put_u64(w, n_tensors);
    gguf_put_u64(w, n_keys);
}

void gguf_put_key(struct gguf_writer *w, const char *key, enum gguf_type type)
{
    gguf_put_string(w, key);
    gguf_put_u32(w, type);
}

void gguf_put_key_uint(struct gguf_writer *w, const char *key, uint32_t value)
{
    gguf_put_key(w, key, GGUF_U32);
    gguf_put_u32(w, value);
}

void gguf_put_key_float(struct gguf_writer *w, const char *key, float value)
{
    gguf_put_key(w, key, GGUF_F32);
    gguf_put(w, &value, sizeof value);
}

void gguf_put_key_bool(struct gguf_writer *w, const char *key, bool value)
{
    gguf_put_key(w, key, GGUF_BOOL);
    gguf_put(w, &value, 1);
}

void gguf_put_key_string(struct gguf_writer *w, const char *key, const char *value)
{
    gguf_put_key(w, key, GGUF_STRING);
    gguf_put_string(w, value);
}

void gguf_put_key_array(struct gguf_writer *w, const char *key, enum gguf_type element, uint64_t length)
{
    gguf_put_key(w, key, GGUF_ARRAY);
    gguf_put_u32(w, element);
    gguf_put_u64(w, length);
}

void gguf_put_tensor(struct gguf_writer *w, const char *name, uint32_t n_dims, const uint64_t *shape,
                     uint32_t type, uint64_t offset)
{
    gguf_put_string(w, name);
    gguf_put_u32(w, n_dims);
    for (uint32_t d = 0; d < n_dims; d++)
        gguf_put_u64(w, shape[d]);
    gguf_put_u32(w, type);
    gguf_put_u64(w, offset);
}

int gguf_writer_save(const struct gguf_writer *w, const char *path, struct err *err)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    bool written = fwrite(w->bytes, 1, w->length, f) == w->length;
    if (fclose(f) != 0 || !written)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    return 0;
}
