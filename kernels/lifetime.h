/* Which recorded commands read which results: what may be run as one, and what need not be written.
 * Private to kernels/. */
#ifndef HEARTH_LIFETIME_H
#define HEARTH_LIFETIME_H

#include "backend.h"

/* A list of commands, or a part of one that runs by itself. */
struct recorded {
    const struct command *command;
    int n;
    bool keep_all; /* every result is looked at: nothing is joined away */
};

bool command_writes(const struct command *, const struct buffer *b);
/* Is the result of command `i` in `b` read by anybody but command `consumer` (-1: nobody is excepted)
 * before it is overwritten, or does it outlive the list? */
bool recorded_needed(const struct recorded *, int i, const struct buffer *b, int consumer);
/* The next command after `i` that reads b before it is written again, or -1. */
int recorded_reader(const struct recorded *, int i, const struct buffer *b);
bool recorded_is(const struct recorded *, int i, enum operator op);

/* A norm of whole rows whose result only the matmul after it reads. */
bool recorded_norm_joins(const struct recorded *, int norm);
/* A matmul whose whole result only the SwiGLU after it reads. */
bool recorded_swiglu_joins(const struct recorded *, int matmul);

#endif
