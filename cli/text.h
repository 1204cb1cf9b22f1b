/* Small helpers with strings and paths that several subcommands need. */
#ifndef HEARTH_CLI_TEXT_H
#define HEARTH_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../kernels/err.h"

/* Formats into malloc'd memory, the caller's; NULL when there is none. */
char *text_from(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "491 MB", "4.7 GB" into out[16]: decimal units, as download pages show them. */
void text_bytes(uint64_t bytes, char *out);
/* A value of the environment; NULL where it is absent or empty. */
const char *text_environment(const char *name);
/* The whole of a small file, NUL-terminated, the caller's. ERR_IO, ERR_LIMIT over `most` bytes. */
int text_read_file(const char *path, size_t most, char **out, size_t *length, struct err *) WARN_UNUSED;
/* mkdir -p. */
int text_make_directories(const char *path, struct err *) WARN_UNUSED;
/* The part after the last '/'. */
const char *text_base_name(const char *path);
/* Says "hearth: …" on standard error and returns 1, an exit status. */
int text_fail(const struct err *);

#endif
