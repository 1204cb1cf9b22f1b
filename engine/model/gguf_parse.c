/* Reads one GGUF file: header, metadata, tensor list. Nothing is believed before it is checked:
 * counts against what the remaining bytes could hold, sizes with overflow checks, offsets against
 * the file's end and each other. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_private.h"

enum {
    MIN_PAIR_BYTES = 8 + 1 + 4 + 1,         /* name length, name, type, value */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* name length, name, dimensions, one of them, type, offset */
    MAX_NAME = 65535,
    MIN_ALIGNMENT = 8,
    DEFAULT_ALIGNMENT = 32,
    MAX_ALIGNMENT = 65536,
};

struct reader {
    const unsigned char *data;
    size_t size, at;
};

static bool take(struct reader *r, uint64_t bytes, const void **out)
{
    if (bytes > r->size - r->at)
        return false;
    *out = r->data + r->at;
    r->at += (size_t)bytes;
    return true;
}

static bool take_u32(struct reader *r, uint32_t *out)
{
    const void *from;
    if (!take(r, sizeof *out, &from))
        return false;
    memcpy(out, from, sizeof *out);
    return true;
}

static bool take_u64(struct reader *r, uint64_t *out)
{
    const void *from;
    if (!take(r, sizeof *out, &from))
        return false;
    memcpy(out, from, sizeof *out);
    return true;
}

static bool take_string(struct reader *r, struct gguf_string *out)
{
    uint64_t length;
    const void *from;
    if (!take_u64(r, &length) || !take(r, length, &from))
        return false;
    *out = (struct gguf_string){from, (size_t)length};
    return true;
}

size_t gguf_type_bytes(enum gguf_type type)
{
    switch (type) {
    case GGUF_U8: case GGUF_I8: case GGUF_BOOL: return 1;
    case GGUF_U16: case GGUF_I16: return 2;
    case GGUF_U32: case GGUF_I32: case GGUF_F32: return 4;
    case GGUF_U64: case GGUF_I64: case GGUF_F64: return 8;
    case GGUF_STRING: case GGUF_ARRAY: break;
    }
    return 0;
}

static int cut_short(const char *what, struct err *err)
{
    return err_set(err, ERR_FORMAT, "the file ends inside its %s", what);
}

static int read_header(struct reader *r, uint32_t *version, uint64_t *n_tensors, uint64_t *n_pairs,
                       struct err *err)
{
    static const char lfs[] = "version https://git-lfs";
    if (r->size >= sizeof lfs - 1 && memcmp(r->data, lfs, sizeof lfs - 1) == 0)
        return err_set(err, ERR_FORMAT, "a Git LFS pointer in the model file's place: fetch the file itself");
    const void *magic;
    if (!take(r, 4, &magic) || memcmp(magic, "GGUF", 4) != 0)
        return err_set(err, ERR_FORMAT, "not a GGUF file");
    if (!take_u32(r, version))
        return cut_short("header", err);
    uint32_t swapped = __builtin_bswap32(*version);
    if (*version > 0xffff && swapped >= 1 && swapped <= 0xffff)
        return err_set(err, ERR_UNSUPPORTED, "a big-endian GGUF file; only little-endian ones can be read");
    if (*version == 1)
        return err_set(err, ERR_UNSUPPORTED, "GGUF version 1 is too old: convert the file to version 3");
    if (*version != 2 && *version != 3)
        return err_set(err, ERR_UNSUPPORTED, "GGUF version %" PRIu32 " is not known (2 and 3 are)", *version);
    if (!take_u64(r, n_tensors) || !take_u64(r, n_pairs))
        return cut_short("header", err);
    size_t left = r->size - r->at;
    if (*n_pairs > left / MIN_PAIR_BYTES)
        return err_set(err, ERR_FORMAT, "%" PRIu64 " metadata keys do not fit into the file", *n_pairs);
    if (*n_tensors > left / MIN_TENSOR_BYTES)
        return err_set(err, ERR_FORMAT, "%" PRIu64 " tensors do not fit into the file", *n_tensors);
    return 0;
}

static int array_too_long(const struct gguf_pair *pair, struct err *err)
{
    return err_set(err, ERR_FORMAT, "the array of key %.*s reaches beyond the file", SHOWN(pair->name));
}

static int read_array(struct reader *r, const struct gguf_pair *pair, struct gguf_value *v, struct err *err)
{
    uint32_t element;
    if (!take_u32(r, &element) || !take_u64(r, &v->length))
        return cut_short("metadata", err);
    if (element == GGUF_ARRAY)
        return err_set(err, ERR_UNSUPPORTED, "key %.*s is an array of arrays", SHOWN(pair->name));
    if (element > GGUF_F64)
        return err_set(err, ERR_FORMAT, "key %.*s has elements of unknown type %" PRIu32, SHOWN(pair->name),
                       element);
    v->element = element;
    v->data = r->data + r->at;
    if (element == GGUF_STRING) {
        for (uint64_t i = 0; i < v->length; i++) {
            struct gguf_string s;
            if (!take_string(r, &s))
                return array_too_long(pair, err);
        }
        return 0;
    }
    uint64_t bytes;
    const void *from;
    if (__builtin_mul_overflow(v->length, gguf_type_bytes(v->element), &bytes) || !take(r, bytes, &from))
        return array_too_long(pair, err);
    return 0;
}

static int read_pair(struct reader *r, struct gguf_pair *pair, struct err *err)
{
    uint32_t type;
    if (!take_string(r, &pair->name) || !take_u32(r, &type))
        return cut_short("metadata", err);
    if (pair->name.length == 0 || pair->name.length > MAX_NAME)
        return err_set(err, ERR_FORMAT, "a metadata key of %zu bytes", pair->name.length);
    if (type > GGUF_F64)
        return err_set(err, ERR_FORMAT, "key %.*s has the unknown type %" PRIu32, SHOWN(pair->name), type);
    struct gguf_value *v = &pair->value;
    v->type = type;
    if (type == GGUF_ARRAY)
        return read_array(r, pair, v, err);
    v->data = r->data + r->at;
    const void *from;
    struct gguf_string s;
    if (type == GGUF_STRING ? !take_string(r, &s) : !take(r, gguf_type_bytes(v->type), &from))
        return err_set(err, ERR_FORMAT, "the file ends inside key %.*s", SHOWN(pair->name));
    return 0;
}

/* Names of the types that GGUF files may have and hearth does not compute with. */
static const char *foreign_type(uint32_t type)
{
    static const char *const names[] = {
        [4] = "Q4_2", [5] = "Q4_3", [9] = "Q8_1", [15] = "Q8_K", [16] = "IQ2_XXS", [17] = "IQ2_XS",
        [18] = "IQ3_XXS", [19] = "IQ1_S", [21] = "IQ3_S", [22] = "IQ2_S", [24] = "I8", [25] = "I16",
        [27] = "I64", [28] = "F64", [29] = "IQ1_M", [31] = "Q4_0_4_4", [32] = "Q4_0_4_8", [33] = "Q4_0_8_8",
        [34] = "TQ1_0", [35] = "TQ2_0", [36] = "IQ4_NL_4_4", [37] = "IQ4_NL_4_8", [38] = "IQ4_NL_8_8",
        [39] = "MXFP4",
    };
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

static int tensor_type(struct gguf_tensor *t, uint32_t type, struct err *err)
{
    int dtype = dtype_from_gguf(type);
    if (dtype >= 0) {
        t->dtype = dtype;
        return 0;
    }
    const char *name = foreign_type(type);
    if (name)
        return err_set(err, ERR_UNSUPPORTED, "tensor %.*s has the type %s, which is not supported",
                       SHOWN(t->name), name);
    return err_set(err, ERR_UNSUPPORTED, "tensor %.*s has the unknown type %" PRIu32, SHOWN(t->name), type);
}

static int tensor_size(struct gguf_tensor *t, struct err *err)
{
    size_t count = 1;
    for (int d = 0; d < t->n_dims; d++)
        if (t->shape[d] == 0 || __builtin_mul_overflow(count, t->shape[d], &count))
            return err_set(err, ERR_FORMAT, "tensor %.*s has an impossible shape: dimension %d is %" PRIu64,
                           SHOWN(t->name), d, t->shape[d]);
    size_t block = dtype_block(t->dtype);
    if (t->shape[0] % block != 0)
        return err_set(err, ERR_FORMAT, "tensor %.*s has rows of %" PRIu64 ", no multiple of %s's %zu",
                       SHOWN(t->name), t->shape[0], dtype_name(t->dtype), block);
    if (__builtin_mul_overflow(count / block, dtype_block_bytes(t->dtype), &t->bytes))
        return err_set(err, ERR_FORMAT, "the size of tensor %.*s overflows", SHOWN(t->name));
    return 0;
}

/* The offset is kept beside the tensor until the data section's start is known. */
static int read_tensor(struct reader *r, struct gguf_tensor *t, uint64_t *offset, struct err *err)
{
    uint32_t n_dims, type;
    if (!take_string(r, &t->name) || !take_u32(r, &n_dims))
        return cut_short("tensor list", err);
    if (t->name.length == 0 || t->name.length > MAX_NAME)
        return err_set(err, ERR_FORMAT, "a tensor name of %zu bytes", t->name.length);
    if (n_dims < 1 || n_dims > 4)
        return err_set(err, ERR_FORMAT, "tensor %.*s has %" PRIu32 " dimensions", SHOWN(t->name), n_dims);
    t->n_dims = (int)n_dims;
    for (int d = 0; d < 4; d++) {
        t->shape[d] = 1;
        if (d < t->n_dims && !take_u64(r, &t->shape[d]))
            return cut_short("tensor list", err);
    }
    if (!take_u32(r, &type) || !take_u64(r, offset))
        return cut_short("tensor list", err);
    int rc = tensor_type(t, type, err);
    return rc ? rc : tensor_size(t, err);
}

static int read_alignment(const struct gguf *g, uint64_t *out, struct err *err)
{
    int rc = gguf_get_uint(g, "general.alignment", UINT64_MAX, out, err);
    if (rc == ERR_NOT_FOUND) {
        *out = DEFAULT_ALIGNMENT;
        return 0;
    }
    if (rc)
        return rc;
    if (*out < MIN_ALIGNMENT || *out > MAX_ALIGNMENT || (*out & (*out - 1)) != 0)
        return err_set(err, ERR_FORMAT, "general.alignment is %" PRIu64 ", no power of two from %d to %d",
                       *out, MIN_ALIGNMENT, MAX_ALIGNMENT);
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a;
    const struct gguf_tensor *y = *(const struct gguf_tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

static int check_overlap(const struct gguf *g, struct err *err)
{
    const struct gguf_tensor **sorted = malloc(g->n_tensors * sizeof *sorted);
    if (!sorted)
        return err_set(err, ERR_NOMEM, "no memory for a list of %zu tensors", g->n_tensors);
    for (size_t i = 0; i < g->n_tensors; i++)
        sorted[i] = &g->tensors[i];
    qsort(sorted, g->n_tensors, sizeof *sorted, by_data);
    int rc = 0;
    for (size_t i = 1; i < g->n_tensors && rc == 0; i++) {
        const struct gguf_tensor *before = sorted[i - 1], *t = sorted[i];
        if ((const unsigned char *)before->data + before->bytes > (const unsigned char *)t->data)
            rc = err_set(err, ERR_FORMAT, "the data of tensors %.*s and %.*s overlap", SHOWN(before->name),
                         SHOWN(t->name));
    }
    free(sorted);
    return rc;
}

/* Turns the offsets, relative to the data section at the next aligned position, into pointers. */
static int place_tensors(struct gguf *g, const struct reader *r, const uint64_t *offset, struct err *err)
{
    uint64_t alignment;
    int rc = read_alignment(g, &alignment, err);
    if (rc)
        return rc;
    if (g->n_tensors == 0)
        return 0;
    size_t padding = (size_t)(-r->at & (alignment - 1));
    if (padding > r->size - r->at)
        return cut_short("tensor list", err);
    size_t start = r->at + padding;
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        if (offset[i] & (alignment - 1))
            return err_set(err, ERR_FORMAT, "tensor %.*s is at offset %" PRIu64 ", no multiple of %" PRIu64,
                           SHOWN(t->name), offset[i], alignment);
        if (offset[i] > r->size - start || t->bytes > r->size - start - offset[i])
            return err_set(err, ERR_FORMAT, "tensor %.*s reaches beyond the file (incomplete download?)",
                           SHOWN(t->name));
        t->data = r->data + start + offset[i];
    }
    return check_overlap(g, err);
}

int gguf_parse(struct gguf *g, struct err *err)
{
    struct reader r = {.data = g->parts[0].data, .size = g->parts[0].size};
    uint64_t n_tensors = 0, n_pairs = 0;
    int rc = read_header(&r, &g->version, &n_tensors, &n_pairs, err);
    if (rc)
        return rc;
    g->pairs = calloc(n_pairs + 1, sizeof *g->pairs);
    g->tensors = calloc(n_tensors + 1, sizeof *g->tensors);
    uint64_t *offset = malloc((n_tensors + 1) * sizeof *offset);
    if (!g->pairs || !g->tensors || !offset) {
        rc = err_set(err, ERR_NOMEM, "no memory for %" PRIu64 " keys and %" PRIu64 " tensors", n_pairs,
                     n_tensors);
        goto done;
    }
    for (; g->n_pairs < n_pairs; g->n_pairs++)
        if ((rc = read_pair(&r, &g->pairs[g->n_pairs], err)) != 0)
            goto done;
    if ((rc = gguf_index(g->pairs, g->n_pairs, sizeof *g->pairs, "key", &g->pair_names, err)) != 0)
        goto done;
    for (; g->n_tensors < n_tensors; g->n_tensors++)
        if ((rc = read_tensor(&r, &g->tensors[g->n_tensors], &offset[g->n_tensors], err)) != 0)
            goto done;
    rc = place_tensors(g, &r, offset, err);
done:
    free(offset);
    return rc;
}
