/* KV blocks in files: what was written comes back, and nothing else is believed, removed or waited for. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../engine/engine.h"
#include "../../../engine/log.h"
#include "../../../engine/schedule/store_files.h"

enum {
    TOKENS = 4, BYTES = 1000, BIG = 1 << 20,
    FILE_BYTES = sizeof(struct store_header) + TOKENS * sizeof(int32_t) + BYTES
};

static char directory[64];
static struct store *store;
static struct err err;

static void open_store(uint64_t bytes)
{
    cr_assert_eq(store_open(&store, directory, bytes, &err), 0, "%s", err.text);
}

static void setup(void)
{
    log_set_level(LOG_ERROR);
    snprintf(directory, sizeof directory, "/tmp/hearth-store-%d", (int)getpid());
    open_store(1 << 20);
}

static char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void teardown(void)
{
    store_close(store);
    DIR *list = opendir(directory);
    for (struct dirent *e; list && (e = readdir(list));) {
        if (unlink(path_of(e->d_name)) != 0) rmdir(path_of(e->d_name));
    }
    if (list) closedir(list);
    rmdir(directory);
}

TestSuite(store, .init = setup, .fini = teardown, .timeout = 60);

static int32_t tokens[TOKENS] = {1, 2, 3, 4};
static size_t size = BYTES; /* of K and V */
static unsigned char out[BIG];

static struct store_block block(int parent, int key)
{
    return (struct store_block){
        .parent = {(uint64_t)parent, 77}, .key = {(uint64_t)key, 77},
        .tokens = tokens, .n_tokens = TOKENS, .position = key,
        .bytes = size, .model = "a model",
    };
}

static void write_block(struct store *s, int parent, int key)
{
    struct store_block b = block(parent, key);
    unsigned char *room;
    while (!(room = store_room(s, size))) usleep(100);
    for (size_t i = 0; i < size; i++) room[i] = (unsigned char)((size_t)key * 31 + i);
    store_write(s, &b, room);
}

static void write_chain(int first, int last)
{
    for (int i = first; i <= last; i++) write_block(store, i - 1, i);
}

/* What was given is on the disk afterwards. */
static void reopen(uint64_t bytes)
{
    store_close(store);
    open_store(bytes);
}

static bool reads(int parent, int key)
{
    struct store_block b = block(parent, key);
    memset(out, 0, sizeof out);
    if (store_read(store, &b, out, &err)) return false;
    for (size_t i = 0; i < size; i++) {
        if (out[i] != (unsigned char)((size_t)key * 31 + i)) return false;
    }
    return true;
}

static char *name_of(int parent, int key)
{
    static char name[STORE_NAME];
    struct store_block b = block(parent, key);
    store_name(name, b.parent, b.key);
    return name;
}

static bool is_there(const char *name)
{
    struct stat about;
    return lstat(path_of(name), &about) == 0;
}

static uint64_t bytes_there(void)
{
    uint64_t bytes = 0;
    struct stat about;
    DIR *list = opendir(directory);
    for (struct dirent *e; (e = readdir(list));) {
        if (e->d_name[0] != '.' && stat(path_of(e->d_name), &about) == 0) bytes += (uint64_t)about.st_size;
    }
    closedir(list);
    return bytes;
}

static void put_file(const char *name, const void *data, size_t length)
{
    FILE *f = fopen(path_of(name), "wb");
    cr_assert(f);
    cr_assert_eq(fwrite(data, 1, length, f), length);
    fclose(f);
}

Test(store, gives_back_what_it_got)
{
    cr_expect_not(reads(0, 1));
    write_chain(1, 20);
    reopen(1 << 20);
    for (int i = 1; i <= 20; i++) cr_expect(reads(i - 1, i), "%s", err.text);
    struct store_block b = block(4, 5), other = block(3, 5);
    cr_expect(store_has(store, b.parent, b.key));
    cr_expect(store_touch(store, b.parent, b.key));
    cr_expect_not(store_has(store, other.parent, other.key));
    cr_expect_not(store_touch(store, other.parent, other.key));
}

Test(store, is_for_its_owner_alone)
{
    struct stat about;
    write_chain(1, 1);
    reopen(1 << 20);
    cr_assert_eq(stat(directory, &about), 0);
    cr_expect_eq(about.st_mode & 0777, 0700);
    cr_assert_eq(stat(path_of(name_of(0, 1)), &about), 0);
    cr_expect_eq(about.st_mode & 0777, 0600);
}

Test(store, wants_the_same_tokens_and_size)
{
    write_chain(1, 2);
    reopen(1 << 20);
    int32_t others[TOKENS] = {1, 2, 3, 5};
    struct store_block b = block(0, 1), c = block(1, 2);
    b.tokens = others;
    cr_expect_eq(store_read(store, &b, out, &err), ERR_FORMAT);
    c.bytes = BYTES - 4;
    cr_expect_eq(store_read(store, &c, out, &err), ERR_FORMAT);
}

/* Each byte of a file counts, and a file that is wrong goes. */
Test(store, notices_every_damage)
{
    unsigned char whole[FILE_BYTES];
    write_chain(1, 1);
    reopen(1 << 20);
    char *name = name_of(0, 1);
    FILE *f = fopen(path_of(name), "rb");
    cr_assert(f);
    cr_assert_eq(fread(whole, 1, sizeof whole, f), sizeof whole);
    cr_expect_eq(fgetc(f), EOF);
    fclose(f);
    for (size_t i = 0; i < sizeof whole; i++) {
        whole[i] ^= 16;
        put_file(name, whole, sizeof whole);
        cr_expect_not(reads(0, 1), "byte %zu", i);
        /* without the first eight bytes, it might be anybody's */
        cr_expect_eq(is_there(name), i < 8, "byte %zu", i);
        whole[i] ^= 16;
    }
    for (size_t length = 0; length < sizeof whole; length += 1 + length / 16) {
        put_file(name, whole, length);
        cr_expect_not(reads(0, 1), "length %zu", length);
    }
    unsigned char longer[FILE_BYTES + 1] = {0};
    memcpy(longer, whole, sizeof whole);
    put_file(name, longer, sizeof longer);
    cr_expect_not(reads(0, 1));
    put_file(name, whole, sizeof whole);
    cr_expect(reads(0, 1));
}

Test(store, another_block_under_its_name_is_not_believed)
{
    write_chain(1, 2);
    reopen(1 << 20);
    char from[512];
    snprintf(from, sizeof from, "%s", path_of(name_of(1, 2)));
    cr_assert_eq(rename(from, path_of(name_of(0, 1))), 0);
    cr_expect_not(reads(0, 1));
}

Test(store, leaves_alone_what_is_not_its_own)
{
    char text[2000];
    memset(text, 'x', sizeof text);
    put_file("notes.txt", text, sizeof text);
    put_file(name_of(0, 1), text, sizeof text);
    cr_assert_eq(mkdir(path_of(name_of(0, 2)), 0700), 0);
    cr_assert_eq(mkfifo(path_of(name_of(0, 3)), 0600), 0);
    cr_assert_eq(symlink("/etc/passwd", path_of(name_of(0, 4))), 0);
    for (int i = 1; i <= 4; i++) cr_expect_not(reads(0, i), "%d", i); /* and none of them hangs */
    write_chain(10, 40);
    reopen(4 * FILE_BYTES); /* evicts */
    cr_expect(is_there("notes.txt"));
    for (int i = 2; i <= 4; i++) cr_expect(is_there(name_of(0, i)), "%d", i);
    size_t files;
    uint64_t bytes;
    cr_assert_eq(engine_cache_clear(directory, &files, &bytes, &err), 0);
    cr_expect(is_there("notes.txt"));
}

Test(store, stays_within_its_size)
{
    reopen(10 * FILE_BYTES);
    write_chain(1, 100);
    reopen(10 * FILE_BYTES);
    cr_expect_leq(bytes_there(), 10 * FILE_BYTES);
    cr_expect_geq(bytes_there(), 5 * FILE_BYTES);
    reopen(3 * FILE_BYTES);
    cr_expect_leq(bytes_there(), 3 * FILE_BYTES);
}

/* Of two texts the one used last stays, and of the other its beginning. */
Test(store, evicts_what_was_used_longest_ago_from_its_end)
{
    write_chain(1, 8); /* 0 <- 1 <- … <- 8 */
    store_close(store);
    usleep(20000);
    open_store(1 << 20);
    write_chain(101, 108);
    store_close(store);
    usleep(20000);
    open_store(1 << 20);
    struct store_block last = block(7, 8);
    cr_assert(store_touch(store, last.parent, last.key));
    reopen(12 * FILE_BYTES);
    for (int i = 1; i <= 8; i++) cr_expect(reads(i - 1, i), "%d", i);
    int left = 0;
    while (left < 8 && reads(100 + left, 101 + left)) left++;
    cr_expect_eq(left, 4);
    for (int i = left; i < 8; i++) cr_expect_not(is_there(name_of(100 + i, 101 + i)), "%d", i);
}

/* Names that lead in a circle must not lead the eviction there. */
Test(store, survives_circles)
{
    write_block(store, 1, 2);
    write_block(store, 2, 1);
    write_block(store, 3, 3);
    reopen(1);
    cr_expect_eq(bytes_there(), 0);
}

Test(store, removes_what_a_killed_writer_left)
{
    put_file(STORE_PARTIAL "1-1", "hearthKV and a bit", 18);
    put_file(STORE_PARTIAL "2-2", "", 0);
    int held = open(path_of(STORE_PARTIAL "2-2"), O_RDONLY);
    cr_assert_eq(flock(held, LOCK_EX), 0);
    reopen(1 << 20);
    cr_expect_not(is_there(STORE_PARTIAL "1-1"));
    cr_expect(is_there(STORE_PARTIAL "2-2"), "somebody writes it");
    close(held);
    reopen(1 << 20);
    cr_expect_not(is_there(STORE_PARTIAL "2-2"));
}

/* Killed at any moment, and opened again. */
Test(store, kill_leaves_it_sound)
{
    size = BIG; /* writing takes its time */
    for (int round = 0; round < 50; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct store *s;
            if (store_open(&s, directory, 8 * BIG, &err)) _exit(1);
            for (int i = 1;; i++) write_block(s, round * 1000 + i - 1, round * 1000 + i);
        }
        usleep(1000 + (useconds_t)round * 200);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        reopen(8 * BIG);
        cr_expect_leq(bytes_there(), 8 * BIG);
        DIR *list = opendir(directory);
        for (struct dirent *e; (e = readdir(list));) {
            unsigned parent, key;
            if (e->d_name[0] == '.') continue;
            int fields = sscanf(e->d_name, "000000000000004d%16x-000000000000004d%16x.kv", &parent, &key);
            cr_assert_eq(fields, 2, "%s", e->d_name);
            cr_expect(reads((int)parent, (int)key), "%s", e->d_name);
        }
        closedir(list);
    }
}

static void *write_many(void *argument)
{
    struct store *s = argument;
    for (int i = 1; i <= 300; i++) write_block(s, i - 1, i);
    return NULL;
}

Test(store, several_share_a_directory)
{
    struct store *other;
    pthread_t one, two;
    cr_assert_eq(store_open(&other, directory, 1 << 20, &err), 0);
    pthread_create(&one, NULL, write_many, store);
    pthread_create(&two, NULL, write_many, other);
    for (int i = 0; i < 300; i++) {
        struct store_block b = block(i, i + 1);
        int rc = store_read(store, &b, out, &err);
        cr_expect(rc == 0 || rc == ERR_NOT_FOUND, "%s", err.text);
    }
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    store_close(other);
    reopen(1 << 20);
    for (int i = 1; i <= 300; i++) cr_expect(reads(i - 1, i), "%d", i);
    cr_expect_eq(bytes_there(), 300 * FILE_BYTES);
}

Test(store, goes_on_without_its_directory)
{
    cr_assert_eq(rmdir(directory), 0);
    write_chain(1, 1);
    for (int i = 0; i < 5000 && !store_failed(store); i++) usleep(1000);
    cr_expect(store_failed(store));
    cr_expect_null(store_room(store, BYTES));
    cr_expect_not(reads(0, 1));
}

Test(store, refuses_what_is_no_directory)
{
    struct store *none;
    cr_expect_eq(store_open(&none, "/dev/null", 1 << 20, &err), ERR_IO);
    cr_expect_eq(store_open(&none, "/dev/null/below", 1 << 20, &err), ERR_IO);
    cr_expect_null(none);
}

Test(store, lists_texts_and_clears)
{
    struct engine_cache_entry *entry;
    size_t n, files;
    uint64_t bytes;
    write_chain(1, 8);
    write_block(store, 5, 106); /* shares the first five */
    reopen(1 << 20);
    cr_assert_eq(engine_cache_list(directory, &entry, &n, &err), 0, "%s", err.text);
    cr_expect_eq(n, 2);
    cr_expect_eq(entry[0].tokens + entry[1].tokens, (8 + 1) * TOKENS + (106 + 1) * TOKENS);
    cr_expect_eq(entry[0].bytes + entry[1].bytes, 9 * FILE_BYTES);
    cr_expect_str_eq(entry[0].model, "a model");
    cr_expect_lt(entry[0].age, 60);
    free(entry);
    cr_assert_eq(engine_cache_clear(directory, &files, &bytes, &err), 0);
    cr_expect_eq(files, 9);
    cr_expect_eq(bytes, 9 * FILE_BYTES);
    cr_expect_eq(bytes_there(), 0);
    cr_assert_eq(engine_cache_list(directory, &entry, &n, &err), 0);
    cr_expect_eq(n, 0);
    free(entry);
    cr_assert_eq(engine_cache_list("/tmp/hearth-there-is-no-such-folder", &entry, &n, &err), 0);
    cr_expect_eq(n, 0);
    free(entry);
}
