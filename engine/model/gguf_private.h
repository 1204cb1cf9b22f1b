/* What gguf.c, gguf_parse.c and gguf_values.c share. */
#ifndef HEARTH_GGUF_PRIVATE_H
#define HEARTH_GGUF_PRIVATE_H

#include <sys/types.h>

#include "gguf.h"

/* For "%.*s": names from a file may be long. */
#define SHOWN(string) (int)((string).length < 96 ? (string).length : 96), (string).bytes

struct gguf_part {
    const unsigned char *data; /* mapped, or the caller's memory */
    size_t size;
    int fd;                    /* -1: the caller's memory */
    time_t modified;
};

struct gguf_pair {
    struct gguf_string name; /* first member: see gguf_index */
    struct gguf_value value;
};

struct gguf {
    uint32_t version;
    struct gguf_part *parts; /* [n_parts] in order */
    int n_parts;
    struct gguf_pair *pairs; /* [n_pairs] of the first part */
    size_t n_pairs;
    const struct gguf_string **pair_names; /* [n_pairs] sorted, each the head of its pair */
    struct gguf_tensor *tensors;           /* [n_tensors] of all parts */
    size_t n_tensors;
    const struct gguf_string **tensor_names; /* [n_tensors] sorted, each the head of its tensor */
};

/* Reads metadata and tensor list of the one part in `g` and checks them. */
int gguf_parse(struct gguf *g, struct err *) WARN_UNUSED;

/* Sorts the names that stand first in each of `count` records of `stride` bytes; ERR_FORMAT names
 * one that occurs twice. *out is the caller's (free). */
int gguf_index(const void *records, size_t count, size_t stride, const char *what,
               const struct gguf_string ***out, struct err *) WARN_UNUSED;
/* The record of that name, or NULL. */
const void *gguf_lookup(const struct gguf_string **sorted, size_t count, const char *name);

/* Bytes of one value of a scalar type; 0 for strings, arrays and unknown types. */
size_t gguf_type_bytes(enum gguf_type);

#endif
