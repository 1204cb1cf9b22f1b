/* The logger: one write per line, so that lines of several threads never mix. */
#include "log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int threshold = LOG_INFO;

static const char *const names[] = {"error", "warning", "info", "debug"};

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, level);
}

int log_level_parse(const char *text)
{
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++) {
        if (!strcmp(text, names[i])) return i;
    }
    return -1;
}

static size_t put_time(char *line, size_t size)
{
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!gmtime_r(&now.tv_sec, &parts)) return 0;
    size_t n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &parts);
    int more = snprintf(line + n, size - n, ".%03ldZ ", now.tv_nsec / 1000000);
    return more > 0 ? n + (size_t)more : n;
}

void log_write(enum log_level level, const char *format, ...)
{
    if ((int)level > atomic_load_explicit(&threshold, memory_order_relaxed)) return;
    char line[1024];
    size_t n = isatty(STDERR_FILENO) ? 0 : put_time(line, sizeof line);
    n += (size_t)snprintf(line + n, sizeof line - n, "%s: ", names[level]);

    va_list list;
    va_start(list, format);
    int length = vsnprintf(line + n, sizeof line - n - 1, format, list);
    va_end(list);
    if (length < 0) return;
    n += (size_t)length < sizeof line - n - 1 ? (size_t)length : sizeof line - n - 2;
    for (size_t i = 0; i < n; i++) { /* a message with a line break would forge a second line */
        if (line[i] == '\n' || line[i] == '\r') line[i] = ' ';
    }
    line[n++] = '\n';
    /* A pipe whose reader has stalled would block the caller; poll promises room for a whole line. */
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) == 0) return;
    ssize_t written = write(STDERR_FILENO, line, n);
    (void)written; /* nowhere to complain */
}
