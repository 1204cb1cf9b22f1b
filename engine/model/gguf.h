/* GGUF v2/v3 files (github.com/ggml-org/ggml/blob/master/docs/gguf.md), read by mmap. Every count,
 * size, offset and string is checked against the file before use. Split files open by any part. */
#ifndef HEARTH_GGUF_H
#define HEARTH_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kernels/device.h"

struct gguf;

/* *out is the caller's (gguf_close). All pointers below live as long as it does. */
int gguf_open(struct gguf **out, const char *path, struct err *) WARN_UNUSED;
/* The same from memory (tests, fuzzing); `data` stays the caller's and must outlive it. */
int gguf_open_memory(struct gguf **out, const void *data, size_t size, struct err *) WARN_UNUSED;
void gguf_close(struct gguf *); /* NULL is fine */

enum gguf_type { GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
                 GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64 };

struct gguf_string { /* not NUL-terminated */
    const char *bytes;
    size_t length;
};

struct gguf_value {
    enum gguf_type type;
    enum gguf_type element; /* of an array */
    uint64_t length;        /* of an array */
    const void *data;       /* little-endian, unaligned, inside the file */
};

struct gguf_tensor {
    struct gguf_string name;
    enum dtype dtype;
    int n_dims;
    uint64_t shape[4];  /* innermost first, as in the file; 1 beyond n_dims */
    const void *data;
    size_t bytes;
};

uint32_t gguf_version(const struct gguf *);
int gguf_parts(const struct gguf *);
size_t gguf_file_bytes(const struct gguf *); /* of all parts */
size_t gguf_n_keys(const struct gguf *);
struct gguf_string gguf_key(const struct gguf *, size_t i);
struct gguf_value gguf_value(const struct gguf *, size_t i);
size_t gguf_n_tensors(const struct gguf *);
const struct gguf_tensor *gguf_tensor(const struct gguf *, size_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *, const char *name); /* NULL: none */

/* Metadata by key. Each returns 0; ERR_NOT_FOUND where the key is absent; ERR_FORMAT where its type
 * or range does not fit. Both name the key in err. Integers are converted between widths. */
int gguf_get_uint(const struct gguf *, const char *key, uint64_t max, uint64_t *out,
                  struct err *) WARN_UNUSED;
int gguf_get_float(const struct gguf *, const char *key, double *out, struct err *) WARN_UNUSED; /* finite */
int gguf_get_bool(const struct gguf *, const char *key, bool *out, struct err *) WARN_UNUSED;
int gguf_get_string(const struct gguf *, const char *key, struct gguf_string *out, struct err *) WARN_UNUSED;
int gguf_get_array(const struct gguf *, const char *key, enum gguf_type element, struct gguf_value *out,
                   struct err *) WARN_UNUSED;
/* For keys that a file must have: ERR_NOT_FOUND, in rc and in err, becomes ERR_FORMAT. */
int gguf_required(int rc, struct err *) WARN_UNUSED;
/* Decodes a whole array of strings: out[length]. */
void gguf_array_strings(const struct gguf_value *, struct gguf_string *out);

/* ERR_IO where a file has another size or modification time than when it was opened: reading pages
 * beyond a shortened file's end would be a SIGBUS, so a loader asks before each tensor and at the end. */
int gguf_unchanged(const struct gguf *, struct err *) WARN_UNUSED;

/* Tells the system that these bytes of the file are not needed soon: a weight's that was copied. What shares
 * their pages is read from the page cache again. */
void gguf_release(const struct gguf *, const void *data, size_t bytes);
/* The same for what lies before the first tensor's data: metadata that were taken over. */
void gguf_release_metadata(const struct gguf *);

#endif
