/* Recorders and the operators' checks, between device.c, operators.c and commands.c. */
#ifndef HEARTH_COMMANDS_H
#define HEARTH_COMMANDS_H

#include "backend.h"

/* What a command touches of one operand, in its elements: [first, end). */
struct operand_span {
    size_t first, end; /* end 0: all of it, as data tells which part */
};

/* The spans of all operands of a command that is no copy; those of weights and absent ones are all zero. */
void command_spans(const struct command *, struct operand_span span[OPERATOR_MAX_BUFFERS]);
/* Element types, sizes and shapes of every operand. */
int command_check(const struct command *, struct err *) WARN_UNUSED;

/* What commands_info tells of it. */
void command_output(const struct command *, struct command_info *);

/* Whether recorded or submitted commands touch elements [first, first+count) of a buffer; `writes`: only
 * those that write there count. */
bool commands_touch(const struct buffer *, size_t first, size_t count, bool writes);
/* The same for any use at all of a buffer, also of a weight. */
bool commands_use(const struct buffer *);

int commands_open(struct device *, struct err *) WARN_UNUSED; /* makes the device's recorders */
void commands_close(struct device *);

#endif
