/* The archive of responses: one connection, one transaction a call, a write-ahead log. */
#include "archive.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define APPLICATION_ID "1751478132" /* "heat" as big-endian bytes: tells our files from others' */
#define SCHEMA_VERSION "1"

enum { BUSY_MS = 5000, DAY_MS = 24 * 60 * 60 * 1000 };

struct archive {
    sqlite3 *db;
    uv_mutex_t mutex;
    uint64_t bytes;
    int days;
};

/* `used` is in milliseconds since 1970. The order of responses in a conversation is that of their chain. */
static const char schema[] =
    "PRAGMA application_id = " APPLICATION_ID ";"
    "PRAGMA user_version = " SCHEMA_VERSION ";"
    "CREATE TABLE conversations(id INTEGER PRIMARY KEY, used INTEGER NOT NULL);"
    "CREATE INDEX conversations_used ON conversations(used);"
    "CREATE TABLE responses(id TEXT PRIMARY KEY, previous TEXT, conversation INTEGER NOT NULL,"
    " input TEXT NOT NULL, response TEXT NOT NULL);"
    "CREATE INDEX responses_conversation ON responses(conversation);";

static int failed(const struct archive *archive, struct err *err)
{
    int code = sqlite3_errcode(archive->db) == SQLITE_NOMEM ? ERR_NOMEM : ERR_IO;
    return err_set(err, code, "the response store: %s", sqlite3_errmsg(archive->db));
}

static int run(struct archive *archive, const char *sql, struct err *err)
{
    return sqlite3_exec(archive->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(archive, err);
}

static int prepare(struct archive *archive, sqlite3_stmt **out, const char *sql, struct err *err)
{
    return sqlite3_prepare_v2(archive->db, sql, -1, out, NULL) == SQLITE_OK ? 0 : failed(archive, err);
}

/* Runs a statement that gives at most one number; without a row *out stays. Binds are kept from the caller. */
static int step_number(struct archive *archive, sqlite3_stmt *statement, int64_t *out, struct err *err)
{
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW && out)
        *out = sqlite3_column_int64(statement, 0);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return failed(archive, err);
    return 0;
}

/* A statement with one number in and one out. */
static int number(struct archive *archive, const char *sql, int64_t argument, int64_t *out, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = prepare(archive, &statement, sql, err);
    if (code == 0 && sqlite3_bind_parameter_count(statement) > 0)
        sqlite3_bind_int64(statement, 1, argument);
    if (code == 0)
        code = step_number(archive, statement, out, err);
    sqlite3_finalize(statement);
    return code;
}

/* The same with a text in. */
static int number_of(struct archive *archive, const char *sql, const char *argument, int64_t *out, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = prepare(archive, &statement, sql, err);
    if (code == 0 && sqlite3_bind_text(statement, 1, argument, -1, SQLITE_STATIC) != SQLITE_OK)
        code = failed(archive, err);
    if (code == 0)
        code = step_number(archive, statement, out, err);
    sqlite3_finalize(statement);
    return code;
}

/* ---- opening ---- */

/* SQLite gives its log and index beside the file the file's own mode. */
static int make_private(const char *path, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat status;
    if (fd < 0)
        return err_set(err, ERR_IO, "cannot open the response store %.200s: %s", path, strerror(errno));
    int code = 0;
    if (fstat(fd, &status) || !S_ISREG(status.st_mode))
        code = err_set(err, ERR_INVALID, "the response store %.200s is no regular file", path);
    else if ((status.st_mode & 077) && fchmod(fd, 0600))
        code = err_set(err, ERR_IO, "cannot make the response store %.200s private: %s", path, strerror(errno));
    close(fd);
    return code;
}

static int begin(struct archive *archive, struct err *err)
{
    return run(archive, "BEGIN IMMEDIATE", err);
}

/* Commits where code is 0; whatever fails leaves everything as it was. */
static int end(struct archive *archive, int code, struct err *err)
{
    if (code == 0)
        code = run(archive, "COMMIT", err);
    if (code != 0 && !sqlite3_get_autocommit(archive->db))
        sqlite3_exec(archive->db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

static int make_schema(struct archive *archive, const char *path, struct err *err)
{
    int64_t application = 0, version = 0, tables = 0;
    int code = begin(archive, err);
    if (code == 0)
        code = number(archive, "PRAGMA application_id", 0, &application, err);
    if (code == 0)
        code = number(archive, "PRAGMA user_version", 0, &version, err);
    if (code == 0)
        code = number(archive, "SELECT count(*) FROM sqlite_master", 0, &tables, err);
    if (code == 0 && application == 0 && tables == 0)
        code = run(archive, schema, err);
    else if (code == 0 && (application != atoll(APPLICATION_ID) || version != atoll(SCHEMA_VERSION)))
        code = err_set(err, ERR_FORMAT, "%.200s is no response store of this version", path);
    return end(archive, code, err);
}

int archive_open(struct archive **out, const char *path, uint64_t bytes, int days, struct err *err)
{
    int code = make_private(path, err);
    if (code)
        return code;
    struct archive *archive = calloc(1, sizeof *archive);
    if (!archive)
        return err_set(err, ERR_NOMEM, "out of memory");
    if (uv_mutex_init(&archive->mutex)) {
        free(archive);
        return err_set(err, ERR_NOMEM, "cannot make a mutex");
    }
    archive->bytes = bytes;
    archive->days = days;
    if (sqlite3_open_v2(path, &archive->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        code = archive->db ? failed(archive, err) : err_set(err, ERR_NOMEM, "out of memory");
    if (code == 0)
        sqlite3_busy_timeout(archive->db, BUSY_MS);
    /* FULL: a commit is on the disk when it returns. */
    if (code == 0)
        code = run(archive, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                          "PRAGMA journal_size_limit = 4194304; PRAGMA trusted_schema = OFF;", err);
    if (code == 0)
        code = make_schema(archive, path, err);
    if (code) {
        if (code == ERR_IO && archive->db && sqlite3_errcode(archive->db) == SQLITE_NOTADB)
            code = err_set(err, ERR_FORMAT, "%.200s is no response store", path);
        archive_close(archive);
        return code;
    }
    *out = archive;
    return 0;
}

void archive_close(struct archive *archive)
{
    if (!archive)
        return;
    sqlite3_close(archive->db);
    uv_mutex_destroy(&archive->mutex);
    free(archive);
}

/* ---- writing ---- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The conversation that `previous` is of, or a new one; used now. */
static int use_conversation(struct archive *archive, const char *previous, int64_t *conversation, struct err *err)
{
    *conversation = 0;
    int code = 0;
    if (previous)
        code = number_of(archive, "SELECT conversation FROM responses WHERE id = ?", previous, conversation, err);
    if (code)
        return code;
    if (previous && *conversation == 0)
        return err_set(err, ERR_NOT_FOUND, "Response '%.80s' is not in the store any more.", previous);
    sqlite3_stmt *statement = NULL;
    code = prepare(archive, &statement, "REPLACE INTO conversations(id, used) VALUES(?, ?)", err);
    if (code == 0) {
        if (*conversation)
            sqlite3_bind_int64(statement, 1, *conversation);
        sqlite3_bind_int64(statement, 2, now_ms());
        code = step_number(archive, statement, NULL, err);
    }
    sqlite3_finalize(statement);
    *conversation = sqlite3_last_insert_rowid(archive->db);
    return code;
}

static int drop_conversation(struct archive *archive, int64_t conversation, struct err *err)
{
    int code = number(archive, "DELETE FROM responses WHERE conversation = ?", conversation, NULL, err);
    return code ? code : number(archive, "DELETE FROM conversations WHERE id = ?", conversation, NULL, err);
}

static int used_bytes(struct archive *archive, int64_t *out, struct err *err)
{
    int64_t pages = 0, unused = 0, size = 0;
    int code = number(archive, "PRAGMA page_count", 0, &pages, err);
    if (code == 0)
        code = number(archive, "PRAGMA freelist_count", 0, &unused, err);
    if (code == 0)
        code = number(archive, "PRAGMA page_size", 0, &size, err);
    *out = (pages - unused) * size;
    return code;
}

/* What is too old goes, then what is too much; never the conversation `kept`. */
static int make_room(struct archive *archive, int64_t kept, struct err *err)
{
    int64_t before = now_ms() - (int64_t)archive->days * DAY_MS;
    for (;;) {
        int64_t oldest = 0, bytes = 0;
        int code = 0;
        if (archive->days > 0)
            code = number(archive, "SELECT id FROM conversations WHERE used < ? ORDER BY used LIMIT 1", before,
                          &oldest, err);
        if (code == 0 && oldest == 0 && archive->bytes > 0) {
            code = used_bytes(archive, &bytes, err);
            if (code == 0 && bytes > 0 && (uint64_t)bytes > archive->bytes) {
                code = number(archive, "SELECT id FROM conversations WHERE id != ? ORDER BY used LIMIT 1", kept,
                              &oldest, err);
                if (code == 0 && oldest == 0)
                    return err_set(err, ERR_LIMIT, "The conversation is larger than the response store may be; send "
                                                   "\"store\": false.");
            }
        }
        if (code || oldest == 0)
            return code;
        code = drop_conversation(archive, oldest, err);
        if (code)
            return code;
    }
}

static int insert(struct archive *archive, const char *id, const char *previous, int64_t conversation,
                  const char *input, const char *response, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = prepare(archive, &statement, "INSERT INTO responses(id, previous, conversation, input, response) "
                                          "VALUES(?, ?, ?, ?, ?)", err);
    if (code == 0) {
        int bound = sqlite3_bind_text(statement, 1, id, -1, SQLITE_STATIC);
        if (previous)
            bound |= sqlite3_bind_text(statement, 2, previous, -1, SQLITE_STATIC);
        bound |= sqlite3_bind_int64(statement, 3, conversation);
        bound |= sqlite3_bind_text64(statement, 4, input, strlen(input), SQLITE_STATIC, SQLITE_UTF8);
        bound |= sqlite3_bind_text64(statement, 5, response, strlen(response), SQLITE_STATIC, SQLITE_UTF8);
        code = bound ? failed(archive, err) : step_number(archive, statement, NULL, err);
    }
    sqlite3_finalize(statement);
    return code;
}

int archive_put(struct archive *archive, const char *id, const char *previous, const json_t *input,
                const json_t *response, struct err *err)
{
    char *input_text = json_dumps(input, JSON_COMPACT), *response_text = json_dumps(response, JSON_COMPACT);
    int64_t conversation = 0;
    int code;
    if (!input_text || !response_text) {
        code = err_set(err, ERR_NOMEM, "out of memory");
        goto done;
    }
    uv_mutex_lock(&archive->mutex);
    code = begin(archive, err);
    if (code == 0) {
        code = use_conversation(archive, previous, &conversation, err);
        if (code == 0)
            code = insert(archive, id, previous, conversation, input_text, response_text, err);
        if (code == 0)
            code = make_room(archive, conversation, err);
        code = end(archive, code, err);
    }
    uv_mutex_unlock(&archive->mutex);
done:
    free(input_text);
    free(response_text);
    return code;
}

static const char delete_sql[] = "DELETE FROM responses WHERE id = ?";
static const char delete_empty_sql[] =
    "DELETE FROM conversations WHERE NOT EXISTS (SELECT 1 FROM responses WHERE conversation = conversations.id) "
    "AND id = ?";

int archive_delete(struct archive *archive, const char *id, struct err *err)
{
    int64_t conversation = 0;
    uv_mutex_lock(&archive->mutex);
    int code = begin(archive, err);
    if (code == 0) {
        code = number_of(archive, "SELECT conversation FROM responses WHERE id = ?", id, &conversation, err);
        if (code == 0 && conversation == 0)
            code = err_set(err, ERR_NOT_FOUND, "Response with id '%.80s' not found.", id);
        if (code == 0)
            code = number_of(archive, delete_sql, id, NULL, err);
        if (code == 0)
            code = number(archive, delete_empty_sql, conversation, NULL, err);
        code = end(archive, code, err);
    }
    uv_mutex_unlock(&archive->mutex);
    return code;
}

/* ---- reading ---- */

static json_t *column_json(sqlite3_stmt *statement, int column)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    int length = sqlite3_column_bytes(statement, column);
    return text ? json_loadb(text, (size_t)length, JSON_ALLOW_NUL, NULL) : NULL;
}

/* The row of an id: its previous id (the caller's, may be NULL), input and response. */
static int read_row(struct archive *archive, const char *id, char **previous, json_t **input, json_t **response,
                    struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = prepare(archive, &statement, "SELECT previous, input, response FROM responses WHERE id = ?", err);
    if (code == 0 && sqlite3_bind_text(statement, 1, id, -1, SQLITE_STATIC) != SQLITE_OK)
        code = failed(archive, err);
    int step = code == 0 ? sqlite3_step(statement) : SQLITE_ERROR;
    if (code == 0 && step == SQLITE_DONE)
        code = err_set(err, ERR_NOT_FOUND, "Response with id '%.80s' not found.", id);
    else if (code == 0 && step != SQLITE_ROW)
        code = failed(archive, err);
    if (code == 0) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        *previous = text ? strdup(text) : NULL;
        *input = column_json(statement, 1);
        *response = column_json(statement, 2);
        if (!*input || !*response || (text && !*previous)) {
            free(*previous);
            json_decref(*input);
            json_decref(*response);
            code = err_set(err, ERR_FORMAT, "the response store: response '%.80s' is damaged", id);
        }
    }
    sqlite3_finalize(statement);
    return code;
}

int archive_get(struct archive *archive, const char *id, json_t **response, json_t **input, struct err *err)
{
    char *previous;
    json_t *items, *object;
    uv_mutex_lock(&archive->mutex);
    int code = read_row(archive, id, &previous, &items, &object, err);
    uv_mutex_unlock(&archive->mutex);
    if (code)
        return code;
    free(previous);
    if (input)
        *input = items;
    else
        json_decref(items);
    if (response)
        *response = object;
    else
        json_decref(object);
    return 0;
}

/* Newest first: turns[0] is the response itself. Takes the references. */
static int join(json_t *turns, json_t **items)
{
    json_t *all = json_array();
    int bad = !all;
    for (size_t i = json_array_size(turns); !bad && i-- > 0;)
        bad = json_array_extend(all, json_array_get(turns, i));
    json_decref(turns);
    if (bad) {
        json_decref(all);
        return -1;
    }
    *items = all;
    return 0;
}

static int read_chain(struct archive *archive, const char *id, json_t *turns, struct err *err)
{
    char *at = strdup(id);
    int code = at ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    while (code == 0 && at) {
        char *previous = NULL;
        json_t *input = NULL, *response = NULL;
        if (json_array_size(turns) >= ARCHIVE_MAX_TURNS) {
            code = err_set(err, ERR_LIMIT, "The conversation has more than %d responses.", ARCHIVE_MAX_TURNS);
            break;
        }
        code = read_row(archive, at, &previous, &input, &response, err);
        if (code)
            break;
        if (json_array_extend(input, json_object_get(response, "output")) || json_array_append(turns, input))
            code = err_set(err, ERR_NOMEM, "out of memory");
        json_decref(input);
        json_decref(response);
        free(at);
        at = previous;
    }
    free(at);
    return code;
}

int archive_history(struct archive *archive, const char *id, json_t **items, struct err *err)
{
    json_t *turns = json_array();
    if (!turns)
        return err_set(err, ERR_NOMEM, "out of memory");
    uv_mutex_lock(&archive->mutex);
    int code = run(archive, "BEGIN", err);
    if (code == 0)
        code = end(archive, read_chain(archive, id, turns, err), err);
    uv_mutex_unlock(&archive->mutex);
    if (code) {
        json_decref(turns);
        return code;
    }
    return join(turns, items) ? err_set(err, ERR_NOMEM, "out of memory") : 0;
}
