/* Metadata and tensors of an open GGUF file by name, with their types checked. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_private.h"

static int compare_names(const struct gguf_string *a, const struct gguf_string *b)
{
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->bytes, b->bytes, shorter);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int by_name(const void *a, const void *b)
{
    return compare_names(*(const struct gguf_string *const *)a, *(const struct gguf_string *const *)b);
}

int gguf_index(const void *records, size_t count, size_t stride, const char *what,
               const struct gguf_string ***out, struct err *err)
{
    const struct gguf_string **sorted = malloc((count + 1) * sizeof *sorted);
    if (!sorted)
        return err_set(err, ERR_NOMEM, "no memory for an index of %zu names", count);
    for (size_t i = 0; i < count; i++)
        sorted[i] = (const struct gguf_string *)((const char *)records + i * stride);
    qsort(sorted, count, sizeof *sorted, by_name);
    for (size_t i = 1; i < count; i++)
        if (compare_names(sorted[i - 1], sorted[i]) == 0) {
            int rc = err_set(err, ERR_FORMAT, "%s %.*s occurs twice", what, SHOWN(*sorted[i]));
            free(sorted);
            return rc;
        }
    *out = sorted;
    return 0;
}

const void *gguf_lookup(const struct gguf_string **sorted, size_t count, const char *name)
{
    struct gguf_string wanted = {name, strlen(name)};
    const struct gguf_string *key = &wanted;
    const struct gguf_string **found = count ? bsearch(&key, sorted, count, sizeof *sorted, by_name) : NULL;
    return found ? *found : NULL;
}

uint32_t gguf_version(const struct gguf *g)
{
    return g->version;
}

int gguf_parts(const struct gguf *g)
{
    return g->n_parts;
}

size_t gguf_file_bytes(const struct gguf *g)
{
    size_t sum = 0;
    for (int i = 0; i < g->n_parts; i++)
        sum += g->parts[i].size;
    return sum;
}

size_t gguf_n_keys(const struct gguf *g)
{
    return g->n_pairs;
}

struct gguf_string gguf_key(const struct gguf *g, size_t i)
{
    REQUIRE(i < g->n_pairs);
    return g->pairs[i].name;
}

struct gguf_value gguf_value(const struct gguf *g, size_t i)
{
    REQUIRE(i < g->n_pairs);
    return g->pairs[i].value;
}

size_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, size_t i)
{
    REQUIRE(i < g->n_tensors);
    return &g->tensors[i];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    return gguf_lookup(g->tensor_names, g->n_tensors, name);
}

/* NULL and ERR_NOT_FOUND in err where there is no such key. */
static const struct gguf_value *find(const struct gguf *g, const char *key, struct err *err)
{
    const struct gguf_pair *pair = gguf_lookup(g->pair_names, g->n_pairs, key);
    if (!pair)
        err_set(err, ERR_NOT_FOUND, "key %s is missing", key);
    return pair ? &pair->value : NULL;
}

/* A non-negative integer of any width; false for other types and negative values. */
static bool as_uint(const struct gguf_value *v, uint64_t *out)
{
    uint8_t bytes[8] = {0};
    size_t size = gguf_type_bytes(v->type);
    memcpy(bytes, v->data, size);
    memcpy(out, bytes, sizeof bytes);
    switch (v->type) {
    case GGUF_U8: case GGUF_U16: case GGUF_U32: case GGUF_U64:
        return true;
    case GGUF_I8: case GGUF_I16: case GGUF_I32: case GGUF_I64:
        return bytes[size - 1] < 0x80;
    default:
        return false;
    }
}

int gguf_get_uint(const struct gguf *g, const char *key, uint64_t max, uint64_t *out, struct err *err)
{
    const struct gguf_value *v = find(g, key, err);
    if (!v)
        return ERR_NOT_FOUND;
    uint64_t value;
    if (!as_uint(v, &value))
        return err_set(err, ERR_FORMAT, "key %s is no non-negative integer", key);
    if (value > max)
        return err_set(err, ERR_FORMAT, "key %s is %" PRIu64 ", more than %" PRIu64, key, value, max);
    *out = value;
    return 0;
}

int gguf_get_float(const struct gguf *g, const char *key, double *out, struct err *err)
{
    const struct gguf_value *v = find(g, key, err);
    if (!v)
        return ERR_NOT_FOUND;
    double value;
    if (v->type == GGUF_F32) {
        float narrow;
        memcpy(&narrow, v->data, sizeof narrow);
        value = narrow;
    } else if (v->type == GGUF_F64) {
        memcpy(&value, v->data, sizeof value);
    } else {
        return err_set(err, ERR_FORMAT, "key %s is no floating-point number", key);
    }
    if (!isfinite(value))
        return err_set(err, ERR_FORMAT, "key %s is not finite", key);
    *out = value;
    return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *out, struct err *err)
{
    const struct gguf_value *v = find(g, key, err);
    if (!v)
        return ERR_NOT_FOUND;
    uint8_t byte;
    memcpy(&byte, v->data, 1);
    if (v->type != GGUF_BOOL || byte > 1)
        return err_set(err, ERR_FORMAT, "key %s is neither true nor false", key);
    *out = byte == 1;
    return 0;
}

int gguf_required(int rc, struct err *err)
{
    if (rc != ERR_NOT_FOUND)
        return rc;
    if (err)
        err->code = ERR_FORMAT;
    return ERR_FORMAT;
}

static struct gguf_string string_at(const void *data)
{
    uint64_t length;
    memcpy(&length, data, sizeof length);
    return (struct gguf_string){(const char *)data + sizeof length, (size_t)length};
}

int gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out, struct err *err)
{
    const struct gguf_value *v = find(g, key, err);
    if (!v)
        return ERR_NOT_FOUND;
    if (v->type != GGUF_STRING)
        return err_set(err, ERR_FORMAT, "key %s is no string", key);
    *out = string_at(v->data);
    return 0;
}

int gguf_get_array(const struct gguf *g, const char *key, enum gguf_type element, struct gguf_value *out,
                   struct err *err)
{
    static const char *const names[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string",
                                        "array", "u64", "i64", "f64"};
    const struct gguf_value *v = find(g, key, err);
    if (!v)
        return ERR_NOT_FOUND;
    if (v->type != GGUF_ARRAY)
        return err_set(err, ERR_FORMAT, "key %s is no array", key);
    if (v->element != element)
        return err_set(err, ERR_FORMAT, "key %s is an array of %s, wanted %s", key, names[v->element],
                       names[element]);
    *out = *v;
    return 0;
}

void gguf_array_strings(const struct gguf_value *v, struct gguf_string *out)
{
    REQUIRE(v->type == GGUF_ARRAY && v->element == GGUF_STRING);
    const char *at = v->data;
    for (uint64_t i = 0; i < v->length; i++) {
        out[i] = string_at(at);
        at = out[i].bytes + out[i].length;
    }
}
