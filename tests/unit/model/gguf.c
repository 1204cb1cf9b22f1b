/* GGUF files, whole and hostile: each wrong file is refused with a message that names what is wrong. */
#include "../../../engine/model/gguf.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../support/gguf_writer.h"
#include "../../support/tiny_model.h"

static struct gguf_writer w;
static struct gguf *g;
static struct err err;

static void cleanup(void)
{
    gguf_close(g);
    free(w.bytes);
    g = NULL;
    w = (struct gguf_writer){0};
}

TestSuite(gguf, .fini = cleanup);

static int open_written(void)
{
    err = (struct err){0};
    return gguf_open_memory(&g, w.bytes, w.length, &err);
}

/* Opens what was written and expects `code` and a message with `words`. */
static void expect_refused(int code, const char *words)
{
    int rc = open_written();
    cr_assert_eq(rc, code, "%d, wanted %d: %s", rc, code, err.text);
    cr_assert(strstr(err.text, words), "\"%s\" lacks \"%s\"", err.text, words);
}

static const uint64_t shape_32x2[] = {32, 2};

/* One F32 tensor of 32 x 2 at `offset`, its data behind it. */
static void put_one_tensor(const uint64_t *shape, uint32_t type, uint64_t offset)
{
    gguf_put_header(&w, 3, 1, 0);
    gguf_put_tensor(&w, "t", 2, shape, type, offset);
    gguf_put_padding(&w, 32);
    for (int i = 0; i < 64; i++)
        gguf_put(&w, &(float){(float)i}, 4);
}

Test(gguf, reads_what_was_written)
{
    gguf_put_header(&w, 2, 1, 8);
    gguf_put_key_uint(&w, "uint", 7);
    gguf_put_key_float(&w, "float", 0.5f);
    gguf_put_key_bool(&w, "bool", true);
    gguf_put_key_string(&w, "string", "text");
    gguf_put_key(&w, "negative", GGUF_I16);
    gguf_put(&w, &(int16_t){-3}, 2);
    gguf_put_key(&w, "wide", GGUF_I64);
    gguf_put_u64(&w, 1ull << 40);
    gguf_put_key_array(&w, "array", GGUF_STRING, 2);
    gguf_put_string(&w, "a");
    gguf_put_string(&w, "");
    gguf_put_key(&w, "nan", GGUF_F64);
    gguf_put(&w, &(double){NAN}, 8);
    gguf_put_tensor(&w, "t", 2, shape_32x2, 0, 0);
    gguf_put_padding(&w, 32);
    for (int i = 0; i < 64; i++)
        gguf_put(&w, &(float){(float)i}, 4);
    cr_assert_eq(open_written(), 0, "%s", err.text);

    uint64_t u = 0;
    double d = 0;
    bool b = false;
    struct gguf_string s = {0}, strings[2];
    struct gguf_value v;
    cr_assert_eq(gguf_version(g), 2);
    cr_assert_eq(gguf_n_keys(g), 8);
    cr_assert_eq(gguf_file_bytes(g), w.length);
    cr_assert(gguf_get_uint(g, "uint", 7, &u, &err) == 0 && u == 7);
    cr_assert_eq(gguf_get_uint(g, "uint", 6, &u, &err), ERR_FORMAT);
    cr_assert(gguf_get_uint(g, "wide", UINT64_MAX, &u, &err) == 0 && u == 1ull << 40);
    cr_assert_eq(gguf_get_uint(g, "negative", UINT64_MAX, &u, &err), ERR_FORMAT);
    cr_assert_eq(gguf_get_uint(g, "string", UINT64_MAX, &u, &err), ERR_FORMAT);
    cr_assert_eq(gguf_get_uint(g, "absent", UINT64_MAX, &u, &err), ERR_NOT_FOUND);
    cr_assert(strstr(err.text, "absent"));
    cr_assert(gguf_get_float(g, "float", &d, &err) == 0 && d == 0.5);
    cr_assert_eq(gguf_get_float(g, "nan", &d, &err), ERR_FORMAT);
    cr_assert(gguf_get_bool(g, "bool", &b, &err) == 0 && b);
    cr_assert(gguf_get_string(g, "string", &s, &err) == 0 && s.length == 4 && !memcmp(s.bytes, "text", 4));
    cr_assert_eq(gguf_get_array(g, "array", GGUF_I32, &v, &err), ERR_FORMAT);
    cr_assert(gguf_get_array(g, "array", GGUF_STRING, &v, &err) == 0 && v.length == 2);
    gguf_array_strings(&v, strings);
    cr_assert(strings[0].length == 1 && strings[0].bytes[0] == 'a' && strings[1].length == 0);
    const struct gguf_tensor *t = gguf_find_tensor(g, "t");
    cr_assert(t && t->bytes == 256 && t->shape[0] == 32 && t->shape[1] == 2 && t->shape[2] == 1);
    float last;
    memcpy(&last, (const char *)t->data + 252, 4);
    cr_assert_eq(last, 63);
    cr_assert_null(gguf_find_tensor(g, "tt"));
}

Test(gguf, truncated_at_every_byte)
{
    unsigned char *whole;
    size_t size;
    struct tiny_model_options o = {.layers = 1, .width = 32, .ff = 32, .heads = 2, .matrix = DTYPE_Q4_0,
                                   .embedding = DTYPE_Q4_0};
    cr_assert_eq(tiny_model_bytes(&o, 0, &whole, &size, &err), 0, "%s", err.text);
    for (size_t n = 0; n < size; n++) {
        unsigned char *cut = malloc(n ? n : 1); /* of that size, so that the sanitizer sees a read beyond */
        cr_assert(cut);
        memcpy(cut, whole, n);
        struct gguf *none = NULL;
        int rc = gguf_open_memory(&none, cut, n, &err);
        cr_assert(rc == ERR_FORMAT && err.text[0], "%zu of %zu bytes: %d", n, size, rc);
        free(cut);
    }
    cr_assert_eq(gguf_open_memory(&g, whole, size, &err), 0, "%s", err.text);
    gguf_close(g);
    g = NULL;
    free(whole);
}

Test(gguf, bad_magic_version_endianness)
{
    gguf_put(&w, "GGML....", 8);
    expect_refused(ERR_FORMAT, "not a GGUF file");
    w.length = 0;
    gguf_put_header(&w, 1, 0, 0);
    expect_refused(ERR_UNSUPPORTED, "version 1");
    w.length = 0;
    gguf_put_header(&w, 4, 0, 0);
    expect_refused(ERR_UNSUPPORTED, "version 4");
    w.length = 0;
    gguf_put_header(&w, __builtin_bswap32(3), 0, 0);
    expect_refused(ERR_UNSUPPORTED, "big-endian");
    w.length = 0;
    gguf_put(&w, "version https://git-lfs.github.com/spec/v1\n", 43);
    expect_refused(ERR_FORMAT, "Git LFS");
}

Test(gguf, enormous_counts_allocate_nothing)
{
    gguf_put_header(&w, 3, UINT64_MAX, 0);
    expect_refused(ERR_FORMAT, "tensors");
    w.length = 0;
    gguf_put_header(&w, 3, 0, UINT64_MAX);
    expect_refused(ERR_FORMAT, "keys");
    w.length = 0;
    gguf_put_header(&w, 3, 0, 1);
    gguf_put_key_array(&w, "a", GGUF_U64, UINT64_MAX / 8 + 2); /* times 8 it wraps to 8 */
    gguf_put_u64(&w, 0);
    expect_refused(ERR_FORMAT, "array of key a");
    w.length = 0;
    gguf_put_header(&w, 3, 0, 1);
    gguf_put_key_array(&w, "a", GGUF_STRING, UINT64_MAX);
    gguf_put_u64(&w, 0);
    expect_refused(ERR_FORMAT, "array of key a");
    w.length = 0;
    gguf_put_header(&w, 3, 0, 1);
    gguf_put_u64(&w, UINT64_MAX);
    gguf_put_u64(&w, 0);
    expect_refused(ERR_FORMAT, "metadata");
}

Test(gguf, wrong_types)
{
    gguf_put_header(&w, 3, 0, 1);
    gguf_put_key(&w, "k", 13);
    gguf_put_u64(&w, 0);
    expect_refused(ERR_FORMAT, "unknown type 13");
    w.length = 0;
    gguf_put_header(&w, 3, 0, 1);
    gguf_put_key_array(&w, "k", GGUF_ARRAY, 1);
    gguf_put_u64(&w, 0);
    expect_refused(ERR_UNSUPPORTED, "array of arrays");
    w.length = 0;
    gguf_put_header(&w, 3, 0, 1);
    gguf_put_key_array(&w, "k", 99, 1);
    gguf_put_u64(&w, 0);
    expect_refused(ERR_FORMAT, "unknown type 99");
}

Test(gguf, duplicates)
{
    gguf_put_header(&w, 3, 0, 3);
    gguf_put_key_uint(&w, "first", 1);
    gguf_put_key_uint(&w, "second", 1);
    gguf_put_key_uint(&w, "first", 2);
    expect_refused(ERR_FORMAT, "key first occurs twice");
    w.length = 0;
    gguf_put_header(&w, 3, 2, 0);
    gguf_put_tensor(&w, "t", 1, shape_32x2, 0, 0);
    gguf_put_tensor(&w, "t", 1, shape_32x2, 0, 128);
    gguf_put_padding(&w, 32);
    for (int i = 0; i < 64; i++)
        gguf_put_u32(&w, 0);
    expect_refused(ERR_FORMAT, "tensor t occurs twice");
}

Test(gguf, alignment)
{
    static const uint32_t bad[] = {0, 1, 3, 48, 1u << 31};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        w.length = 0;
        gguf_put_header(&w, 3, 0, 1);
        gguf_put_key_uint(&w, "general.alignment", bad[i]);
        expect_refused(ERR_FORMAT, "general.alignment");
    }
    w.length = 0;
    gguf_put_header(&w, 3, 1, 1);
    gguf_put_key_uint(&w, "general.alignment", 4096);
    gguf_put_tensor(&w, "t", 2, shape_32x2, 0, 0);
    gguf_put_padding(&w, 4096);
    for (int i = 0; i < 64; i++)
        gguf_put_u32(&w, 0);
    cr_assert_eq(open_written(), 0, "%s", err.text);
}

Test(gguf, shapes)
{
    put_one_tensor((const uint64_t[]){1ull << 33, 1ull << 33}, 0, 0);
    expect_refused(ERR_FORMAT, "tensor t");
    w.length = 0;
    put_one_tensor((const uint64_t[]){1ull << 31, 1ull << 31}, 0, 0); /* 2^62 elements of 4 bytes */
    expect_refused(ERR_FORMAT, "overflows");
    w.length = 0;
    put_one_tensor((const uint64_t[]){32, 0}, 0, 0);
    expect_refused(ERR_FORMAT, "impossible shape");
    w.length = 0;
    put_one_tensor((const uint64_t[]){33, 1}, 2, 0);
    expect_refused(ERR_FORMAT, "no multiple of Q4_0's 32");
    static const uint32_t dims[] = {0, 5, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        w.length = 0;
        gguf_put_header(&w, 3, 1, 0);
        gguf_put_string(&w, "t");
        gguf_put_u32(&w, dims[i]);
        for (int n = 0; n < 16; n++)
            gguf_put_u64(&w, 1);
        expect_refused(ERR_FORMAT, "dimensions");
    }
}

Test(gguf, offsets)
{
    put_one_tensor(shape_32x2, 0, 256);
    expect_refused(ERR_FORMAT, "beyond the file");
    w.length = 0;
    put_one_tensor(shape_32x2, 0, UINT64_MAX - 31);
    expect_refused(ERR_FORMAT, "beyond the file");
    w.length = 0;
    put_one_tensor(shape_32x2, 0, 4);
    expect_refused(ERR_FORMAT, "offset 4");
    w.length = 0;
    gguf_put_header(&w, 3, 2, 0);
    gguf_put_tensor(&w, "long", 2, shape_32x2, 0, 0);
    gguf_put_tensor(&w, "inside", 1, shape_32x2, 0, 128);
    gguf_put_padding(&w, 32);
    for (int i = 0; i < 64; i++)
        gguf_put_u32(&w, 0);
    expect_refused(ERR_FORMAT, "overlap");
}

Test(gguf, unknown_quantisations_are_named)
{
    put_one_tensor(shape_32x2, 16, 0);
    expect_refused(ERR_UNSUPPORTED, "IQ2_XXS");
    w.length = 0;
    put_one_tensor(shape_32x2, 77, 0);
    expect_refused(ERR_UNSUPPORTED, "unknown type 77");
    w.length = 0;
    put_one_tensor(shape_32x2, UINT32_MAX, 0);
    expect_refused(ERR_UNSUPPORTED, "unknown type");
}

/* A directory of its own for each test that needs files. */
static char directory[] = "/tmp/hearth-gguf-XXXXXX";
static char path[4096];

static const char *in_directory(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void make_directory(void)
{
    cr_assert(mkdtemp(directory));
}

static void remove_directory(void)
{
    static const char *const names[] = {"m", "m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                        "m-00003-of-00003.gguf", "n-00001-of-00002.gguf",
                                        "n-00002-of-00002.gguf"};
    cleanup();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(in_directory(names[i]));
    rmdir(directory);
}

TestSuite(gguf_files, .init = make_directory, .fini = remove_directory);

Test(gguf_files, what_is_no_file)
{
    cr_assert_eq(gguf_open(&g, in_directory("absent"), &err), ERR_NOT_FOUND);
    cr_assert(strstr(err.text, "absent"));
    cr_assert_eq(gguf_open(&g, directory, &err), ERR_IO);
    cr_assert_eq(mkfifo(in_directory("m"), 0600), 0);
    cr_assert_eq(gguf_open(&g, path, &err), ERR_IO);
    unlink(path);
    fclose(fopen(path, "w"));
    cr_assert_eq(gguf_open(&g, path, &err), ERR_FORMAT);
    cr_assert(strstr(err.text, "empty"));
}

Test(gguf_files, split_opens_by_any_part)
{
    struct tiny_model_options o = {.parts = 3};
    cr_assert_eq(tiny_model_write(&o, in_directory("m"), &err), 0, "%s", err.text);
    for (int i = 1; i <= 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "m-0000%d-of-00003.gguf", i);
        cr_assert_eq(gguf_open(&g, in_directory(name), &err), 0, "%s", err.text);
        cr_assert_eq(gguf_parts(g), 3);
        cr_assert(gguf_find_tensor(g, "token_embd.weight") && gguf_find_tensor(g, "output_norm.weight"));
        struct gguf_string architecture;
        cr_assert_eq(gguf_get_string(g, "general.architecture", &architecture, &err), 0);
        gguf_close(g);
        g = NULL;
    }
}

Test(gguf_files, split_with_wrong_parts)
{
    struct tiny_model_options three = {.parts = 3}, two = {.parts = 2};
    char from[4096];
    cr_assert_eq(tiny_model_write(&three, in_directory("m"), &err), 0, "%s", err.text);
    cr_assert_eq(tiny_model_write(&two, in_directory("n"), &err), 0, "%s", err.text);

    snprintf(from, sizeof from, "%s/m-00002-of-00003.gguf", directory);
    cr_assert_eq(rename(from, in_directory("m")), 0);
    cr_assert_eq(gguf_open(&g, path, &err), ERR_FORMAT);
    cr_assert(strstr(err.text, "-00002-of-00003.gguf"), "%s", err.text);
    cr_assert_eq(gguf_open(&g, in_directory("m-00001-of-00003.gguf"), &err), ERR_NOT_FOUND);
    cr_assert(strstr(err.text, "m-00002-of-00003.gguf"), "%s", err.text);

    snprintf(from, sizeof from, "%s/n-00002-of-00002.gguf", directory);
    cr_assert_eq(rename(from, in_directory("m-00002-of-00003.gguf")), 0);
    cr_assert_eq(gguf_open(&g, in_directory("m-00001-of-00003.gguf"), &err), ERR_FORMAT);
    cr_assert(strstr(err.text, "part 2 of 2"), "%s", err.text);
}

Test(gguf_files, a_part_from_memory_is_refused)
{
    struct tiny_model_options o = {.parts = 2};
    cr_assert_eq(tiny_model_bytes(&o, 0, &w.bytes, &w.length, &err), 0, "%s", err.text);
    expect_refused(ERR_UNSUPPORTED, "split");
}

Test(gguf_files, notices_a_shortened_file)
{
    struct tiny_model_options o = {0};
    cr_assert_eq(tiny_model_write(&o, in_directory("m"), &err), 0, "%s", err.text);
    cr_assert_eq(gguf_open(&g, path, &err), 0, "%s", err.text);
    cr_assert_eq(gguf_unchanged(g, &err), 0);
    cr_assert_eq(truncate(path, 5000), 0);
    cr_assert_eq(gguf_unchanged(g, &err), ERR_IO);
    cr_assert(strstr(err.text, "changed"));
}
