/* Downloads against a small hub in this process: digests, resuming, redirects, broken lines, refusals. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../cli/fetch.h"
#include "../../../cli/partial.h"
#include "../../../cli/sha256.h"
#include "../../../cli/text.h"

enum { SIZE = 300000, BREAK_AT = 100000 };

/* What the hub does, and what it saw. */
static struct {
    int listener, port;
    bool no_digest, wrong_digest, no_ranges;
    int breaks;                /* bodies to break off after BREAK_AT bytes */
    _Atomic int bodies, ranged; /* answered requests for a body; those with a range */
    char body[SIZE], digest[65];
} hub;

static char directory[32], url[64];
static struct catalogue_model model;
static struct fetch_options options;
static struct err e;

static void answer(int fd)
{
    char request[4096] = "", head[512];
    size_t n = 0;
    while (n < sizeof request - 1 && !strstr(request, "\r\n\r\n")) {
        ssize_t got = read(fd, request + n, sizeof request - 1 - n);
        if (got <= 0)
            return;
        n += (size_t)got;
    }
    bool only_head = strncmp(request, "HEAD", 4) == 0, storage = strstr(request, " /storage ") != NULL;
    if (!storage) {
        char linked[128] = "";
        if (!hub.no_digest)
            snprintf(linked, sizeof linked, "X-Linked-ETag: \"%s\"\r\nX-Linked-Size: %d\r\n",
                     hub.wrong_digest ? model.repository : hub.digest, SIZE);
        snprintf(head, sizeof head, "HTTP/1.1 302 Found\r\nLocation: /storage\r\n%sContent-Length: 0\r\n"
                                    "Connection: close\r\n\r\n", linked);
        cr_assert_eq(write(fd, head, strlen(head)), (ssize_t)strlen(head));
        return;
    }
    const char *range = strstr(request, "Range: bytes=");
    size_t from = range && !hub.no_ranges ? strtoul(range + 13, NULL, 10) : 0;
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nContent-Range: bytes %zu-%d/%d\r\n"
                                "Connection: close\r\n\r\n",
             from ? "206 Partial Content" : "200 OK", SIZE - from, from, SIZE - 1, SIZE);
    cr_assert_eq(write(fd, head, strlen(head)), (ssize_t)strlen(head));
    if (only_head)
        return;
    hub.bodies++;
    hub.ranged += from > 0;
    size_t to = hub.breaks > 0 && from < BREAK_AT ? BREAK_AT : SIZE;
    hub.breaks -= to < SIZE;
    for (ssize_t sent; from < to && (sent = write(fd, hub.body + from, to - from)) > 0;)
        from += (size_t)sent;
}

static void *serve(void *unused)
{
    for (int fd; (fd = accept(hub.listener, NULL, NULL)) >= 0; close(fd))
        answer(fd);
    return unused;
}

static void set_up(void)
{
    static const int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    hub.listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(hub.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    cr_assert_eq(bind(hub.listener, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(hub.listener, 8), 0);
    cr_assert_eq(getsockname(hub.listener, (struct sockaddr *)&address, &length), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, serve, NULL), 0);
    pthread_detach(thread);

    struct sha256 hash;
    for (int i = 0; i < SIZE; i++)
        hub.body[i] = (char)(i * 7 + i / 251);
    sha256_begin(&hash);
    sha256_add(&hash, hub.body, SIZE);
    sha256_end(&hash, hub.digest);

    strcpy(directory, "/tmp/hearth-fetch-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    setenv("HOME", directory, 1);
    setenv("no_proxy", "127.0.0.1", 1);
    model = (struct catalogue_model){
        .name = "test", .file = "test.gguf", .parts = 1, .sha256 = "", .licence = "none",
        .repository = "org/0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"};
    options = (struct fetch_options){.source = "hub", .hub = url, .directory = directory};
}

static void tear_down(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(fetch, .init = set_up, .fini = tear_down, .timeout = 30);

static void expect_file(const char *name, bool there)
{
    char path[128], *bytes;
    size_t length;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    cr_assert_eq(access(path, F_OK) == 0, there, "%s", name);
    if (!there)
        return;
    cr_assert_eq(text_read_file(path, SIZE, &bytes, &length, &e), 0, "%s", e.text);
    cr_assert(length == SIZE && memcmp(bytes, hub.body, SIZE) == 0, "%s has other bytes", name);
    free(bytes);
}

static void expect_fetched(void)
{
    char *path;
    cr_assert_eq(fetch_model(&model, &options, &path, &e), 0, "%s", e.text);
    free(path);
    expect_file(model.file, true);
    expect_file("test.gguf.part", false);
}

static void write_part(const char *bytes, size_t length)
{
    char path[128];
    snprintf(path, sizeof path, "%s/test.gguf.part", directory);
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, length, file) == length && fclose(file) == 0);
}

Test(fetch, checked_against_the_digest_of_the_hub)
{
    expect_fetched();
    cr_assert_eq(hub.bodies, 1);
    expect_fetched();
    cr_assert_eq(hub.bodies, 1, "fetched again although it is there");
}

Test(fetch, resumes_what_was_left)
{
    write_part(hub.body, 123456);
    expect_fetched();
    cr_assert_eq(hub.ranged, 1);
}

Test(fetch, goes_on_after_a_broken_line)
{
    hub.breaks = 1;
    expect_fetched();
    cr_assert_eq(hub.bodies, 2);
    cr_assert_eq(hub.ranged, 1);
}

Test(fetch, starts_again_where_ranges_are_ignored)
{
    hub.no_ranges = true;
    write_part(hub.body, 5000);
    expect_fetched();
}

Test(fetch, a_complete_part_needs_no_body)
{
    write_part(hub.body, SIZE);
    expect_fetched();
    cr_assert_eq(hub.bodies, 0);
}

Test(fetch, pinned)
{
    model.sha256 = hub.digest;
    model.bytes = SIZE;
    hub.no_digest = true;
    expect_fetched();
}

static void expect_failure(int code, const char *message)
{
    char *path = NULL;
    cr_assert_eq(fetch_model(&model, &options, &path, &e), code, "%s", e.text);
    cr_assert_not_null(strstr(e.text, message), "%s", e.text);
    cr_assert_null(path);
    expect_file("test.gguf", false);
}

Test(fetch, another_file_is_refused_and_removed)
{
    static char zeros[64 + 1] = "0000000000000000000000000000000000000000000000000000000000000000";
    model.sha256 = zeros;
    model.bytes = SIZE;
    expect_failure(ERR_FORMAT, "another file than expected");
    expect_file("test.gguf.part", false);
}

Test(fetch, a_longer_file_is_refused)
{
    model.sha256 = hub.digest;
    model.bytes = SIZE - 1;
    expect_failure(ERR_FORMAT, "longer than expected");
}

Test(fetch, a_bad_start_is_noticed)
{
    char other[1000] = {1};
    write_part(other, sizeof other);
    expect_failure(ERR_FORMAT, "another file than expected");
    expect_fetched();
}

Test(fetch, no_digest_no_download)
{
    hub.no_digest = true;
    expect_failure(ERR_UNSUPPORTED, "no digest");
    hub.no_digest = false;
    hub.wrong_digest = true;
    expect_failure(ERR_FORMAT, "another file than expected");
    cr_assert_eq(hub.bodies, 1);
}

Test(fetch, unreachable)
{
    close(hub.listener);
    shutdown(hub.listener, SHUT_RDWR);
    options.hub = "http://127.0.0.1:1";
    expect_failure(ERR_IO, "http://127.0.0.1:1/org/");
}

Test(fetch, in_no_package)
{
    options.source = "pip";
    expect_failure(ERR_NOT_FOUND, "in no Python package");
}
