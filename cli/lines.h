/* JSON lines in, JSON lines out: what tokenize, render and logprobs have in common. */
#ifndef HEARTH_CLI_LINES_H
#define HEARTH_CLI_LINES_H

#include <jansson.h>

#include "../kernels/err.h"

/* Makes the answer to one line; *out is a new reference, given over. */
typedef int lines_answer(void *user, const json_t *in, json_t **out, struct err *);

/* Answers standard input line by line until its end. A line that fails is answered with
 * {"error":"…"}; the exit status is then 1. */
int lines_run(lines_answer *, void *user);

/* A new JSON array of ids; NULL without memory. */
json_t *lines_ids(const int32_t *ids, size_t n);

#endif
