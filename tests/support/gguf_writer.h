/* Writes GGUF bytes, well-formed or not: what tests make files of. Out of memory aborts. */
#ifndef HEARTH_GGUF_WRITER_H
#define HEARTH_GGUF_WRITER_H

#include "../../engine/model/gguf.h"

struct gguf_writer { /* bytes are the caller's (free) */
    unsigned char *bytes;
    size_t length, capacity;
};

void gguf_put(struct gguf_writer *, const void *bytes, size_t length);
void gguf_put_u32(struct gguf_writer *, uint32_t);
void gguf_put_u64(struct gguf_writer *, uint64_t);
void gguf_put_string(struct gguf_writer *, const char *);
void gguf_put_padding(struct gguf_writer *, size_t alignment);
void gguf_put_header(struct gguf_writer *, uint32_t version, uint64_t n_tensors, uint64_t n_keys);
/* Key, type and value. */
void gguf_put_key(struct gguf_writer *, const char *key, enum gguf_type);
void gguf_put_key_uint(struct gguf_writer *, const char *key, uint32_t);
void gguf_put_key_float(struct gguf_writer *, const char *key, float);
void gguf_put_key_bool(struct gguf_writer *, const char *key, bool);
void gguf_put_key_string(struct gguf_writer *, const char *key, const char *);
/* Key and array head; `length` elements follow. */
void gguf_put_key_array(struct gguf_writer *, const char *key, enum gguf_type element, uint64_t length);
void gguf_put_tensor(struct gguf_writer *, const char *name, uint32_t n_dims, const uint64_t *shape,
                     uint32_t type, uint64_t offset);

/* Writes a file; ERR_IO. */
int gguf_writer_save(const struct gguf_writer *, const char *path, struct err *) WARN_UNUSED;

#endif
