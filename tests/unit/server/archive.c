/* The archive of responses: what goes in comes out, in the order of its conversation, until it is deleted, too old or
 * too much. */
#include "../../../server/api/archive.h"

#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[96];
static struct err err;

static void begin(void)
{
    strcpy(folder, "/tmp/hearth-archive-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/responses", folder);
}

static void end(void)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 3; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
    rmdir(folder);
}

static struct archive *open_archive(uint64_t bytes, int days)
{
    struct archive *archive = NULL;
    cr_assert_eq(archive_open(&archive, path, bytes, days, &err), 0, "%s", err.text);
    return archive;
}

static int put(struct archive *archive, const char *id, const char *previous, const char *text)
{
    json_t *input = json_pack("[{s:s}]", "ask", text);
    json_t *response = json_pack("{s:s, s:[{s:s}]}", "id", id, "output", "answer", text);
    int code = archive_put(archive, id, previous, input, response, &err);
    json_decref(input);
    json_decref(response);
    return code;
}

static void expect_history(struct archive *archive, const char *id, const char *wanted)
{
    json_t *items = NULL;
    cr_assert_eq(archive_history(archive, id, &items, &err), 0, "%s", err.text);
    char *got = json_dumps(items, JSON_COMPACT);
    cr_expect_str_eq(got, wanted);
    free(got);
    json_decref(items);
}

static bool has(struct archive *archive, const char *id)
{
    json_t *response = NULL, *input = NULL;
    int code = archive_get(archive, id, &response, &input, &err);
    cr_assert(code == 0 || code == ERR_NOT_FOUND, "%s", err.text);
    json_decref(response);
    json_decref(input);
    return code == 0;
}

TestSuite(archive, .init = begin, .fini = end);

Test(archive, conversations_branch)
{
    struct archive *archive = open_archive(0, 0);
    cr_expect_eq(put(archive, "a", NULL, "1"), 0);
    cr_expect_eq(put(archive, "b", "a", "2"), 0);
    cr_expect_eq(put(archive, "c", "a", "3"), 0);
    expect_history(archive, "b", "[{\"ask\":\"1\"},{\"answer\":\"1\"},{\"ask\":\"2\"},{\"answer\":\"2\"}]");
    expect_history(archive, "c", "[{\"ask\":\"1\"},{\"answer\":\"1\"},{\"ask\":\"3\"},{\"answer\":\"3\"}]");
    archive_close(archive);
    archive = open_archive(0, 0);
    cr_expect(has(archive, "a") && has(archive, "b") && !has(archive, "d"));
    archive_close(archive);
}

Test(archive, deleted_ones_break_the_chain)
{
    struct archive *archive = open_archive(0, 0);
    json_t *items;
    cr_expect_eq(put(archive, "a", NULL, "1"), 0);
    cr_expect_eq(put(archive, "b", "a", "2"), 0);
    cr_expect_eq(archive_delete(archive, "a", &err), 0);
    cr_expect_eq(archive_delete(archive, "a", &err), ERR_NOT_FOUND);
    cr_expect_eq(archive_history(archive, "b", &items, &err), ERR_NOT_FOUND);
    cr_expect_eq(put(archive, "c", "a", "3"), ERR_NOT_FOUND);
    cr_expect(has(archive, "b") && !has(archive, "c"));
    archive_close(archive);
}

Test(archive, nothing_is_kept_twice)
{
    struct archive *archive = open_archive(0, 0);
    cr_expect_eq(put(archive, "a", NULL, "1"), 0);
    cr_expect_eq(put(archive, "a", NULL, "2"), ERR_IO);
    expect_history(archive, "a", "[{\"ask\":\"1\"},{\"answer\":\"1\"}]");
    archive_close(archive);
}

Test(archive, the_conversation_used_longest_ago_goes_first)
{
    struct archive *archive = open_archive(400000, 0);
    char *text = malloc(30001), id[16];
    memset(text, 'x', 30000);
    text[30000] = '\0';
    cr_expect_eq(put(archive, "first", NULL, text), 0);
    cr_expect_eq(put(archive, "second", NULL, text), 0);
    for (int i = 0; i < 8; i++) {
        usleep(2000); /* use is told apart by the millisecond */
        snprintf(id, sizeof id, "first%d", i);
        cr_expect_eq(put(archive, id, i > 0 ? (char[]){'f', 'i', 'r', 's', 't', (char)('0' + i - 1), 0} : "first", "x"), 0);
        snprintf(id, sizeof id, "other%d", i);
        cr_expect_eq(put(archive, id, NULL, text), 0);
    }
    cr_expect(has(archive, "first") && has(archive, "other7"));
    cr_expect(!has(archive, "second") && !has(archive, "other0"));
    struct stat status;
    cr_assert_eq(stat(path, &status), 0);
    cr_expect_leq(status.st_size, 600000);

    char *huge = malloc(500001);
    memset(huge, 'y', 500000);
    huge[500000] = '\0';
    cr_expect_eq(put(archive, "huge", NULL, huge), ERR_LIMIT);
    cr_expect(!has(archive, "huge") && has(archive, "other7"), "a refused one leaves everything as it was");
    free(huge);
    free(text);
    archive_close(archive);
}

static void age(int days)
{
    sqlite3 *db;
    char sql[128];
    snprintf(sql, sizeof sql, "UPDATE conversations SET used = used - %lld", days * 86400000LL);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

Test(archive, old_ones_go)
{
    struct archive *archive = open_archive(0, 30);
    cr_expect_eq(put(archive, "a", NULL, "1"), 0);
    age(29);
    cr_expect_eq(put(archive, "b", NULL, "2"), 0);
    cr_expect(has(archive, "a"));
    age(2);
    cr_expect_eq(put(archive, "c", NULL, "3"), 0);
    cr_expect(!has(archive, "a") && has(archive, "b"));
    archive_close(archive);
}

Test(archive, only_the_owner_reads_it)
{
    archive_close(open_archive(0, 0));
    cr_assert_eq(chmod(path, 0644), 0);
    struct archive *archive = open_archive(0, 0);
    struct stat status;
    cr_assert_eq(stat(path, &status), 0);
    cr_expect_eq(status.st_mode & 0777, 0600);
    archive_close(archive);
}

Test(archive, foreign_files_are_left_alone)
{
    struct archive *archive;
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 500; i++)
        fputs("no database at all\n", file);
    fclose(file);
    cr_expect_eq(archive_open(&archive, path, 0, 0, &err), ERR_FORMAT);
    cr_expect(strstr(err.text, path));
    cr_expect_eq(archive_open(&archive, folder, 0, 0, &err), ERR_IO);
}

Test(archive, a_conversation_that_is_too_long_is_refused)
{
    struct archive *archive = open_archive(0, 0);
    char id[16] = "", previous[16];
    json_t *items;
    sqlite3 *db;
    cr_expect_eq(put(archive, "0", NULL, "x"), 0);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL), SQLITE_OK);
    for (int i = 1; i <= ARCHIVE_MAX_TURNS; i++) {
        char sql[160];
        snprintf(previous, sizeof previous, "%d", i - 1);
        snprintf(id, sizeof id, "%d", i);
        snprintf(sql, sizeof sql, "INSERT INTO responses SELECT '%s', '%s', conversation, input, response FROM responses "
                                  "WHERE id = '0'", id, previous);
        cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    }
    cr_assert_eq(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    cr_expect_eq(archive_history(archive, id, &items, &err), ERR_LIMIT);
    cr_assert_eq(archive_history(archive, previous, &items, &err), 0, "%s", err.text);
    json_decref(items);
    archive_close(archive);
}
