/* Error codes and messages, shared by every room.
 *
 * A function that can fail returns 0 or one of the negative codes below and, when its
 * `struct err *` is not NULL, leaves there one sentence for a person. Such functions are
 * marked WARN_UNUSED. A broken invariant of our own is no error: REQUIRE aborts with file
 * and line. Input from outside never reaches a REQUIRE. */
#ifndef HEARTH_ERR_H
#define HEARTH_ERR_H

#include <stdio.h>
#include <stdlib.h>

#define ERR_LIST(X)                                                                        \
    X(INVALID, -1, "invalid argument")        /* the caller's value is wrong              */ \
    X(NOMEM, -2, "out of memory")             /* host memory, device memory or the budget */ \
    X(IO, -3, "input/output error")           /* the system refused: text has strerror    */ \
    X(FORMAT, -4, "malformed data")           /* a file or a text breaks its own format   */ \
    X(UNSUPPORTED, -5, "not supported")       /* well formed, but not known here          */ \
    X(NOT_FOUND, -6, "not found")                                                            \
    X(BUSY, -7, "queue full")                 /* try again later                          */ \
    X(TOO_LONG, -8, "context length exceeded")                                               \
    X(IN_FLIGHT, -9, "range is in flight")    /* queued commands still touch that memory  */ \
    X(DEVICE, -10, "device error")            /* the device failed or gave nonsense       */ \
    X(DRAINING, -11, "shutting down")                                                        \
    X(LIMIT, -12, "limit exceeded")           /* depth, steps or size bound of an interpreter */ \
    X(DEADLINE, -13, "deadline out of reach")

enum err_code {
    ERR_OK = 0,
#define X(name, value, text) ERR_##name = value,
    ERR_LIST(X)
#undef X
};

struct err {
    int code;       /* 0 or an enum err_code */
    char text[320]; /* one sentence, no newline, valid UTF-8 */
};

#define WARN_UNUSED __attribute__((warn_unused_result))

/* Sets *e (which may be NULL) and returns `code`, so that a function can `return err_set(…)`.
 * Bytes of `format`'s arguments that are not valid UTF-8 are replaced by '?'. */
int err_set(struct err *e, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The code's name in words ("queue full"); never NULL. */
const char *err_name(int code);

#define REQUIRE(condition)                                                                   \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                         \
        }                                                                                    \
    } while (0)

#endif
