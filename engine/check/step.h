/* One step of the model, recorded on two devices and run there a part at a time. */
#ifndef HEARTH_CHECK_STEP_H
#define HEARTH_CHECK_STEP_H

#include "../model/forward.h"
#include "measure.h"

enum { CHECK_BLOCK_TOKENS = 32 };

/* A device with the model on it. */
struct check_side {
    struct device *device;
    const struct weights *weights;
    struct weights *own_weights;   /* NULL where the weights are somebody else's */
    struct device *own_device;     /* likewise */
    struct forward *forward;
};

/* Opens a device and puts the model on it. In any case *out needs check_side_close. */
int check_side_open(struct check_side *out, const struct device_options *, struct gguf *,
                    struct err *) WARN_UNUSED;
/* The forward pass of one sequence of up to `context` tokens. */
int check_side_prepare(struct check_side *, int context, struct err *) WARN_UNUSED;
void check_side_close(struct check_side *);

/* The rows of one sequence as a batch. Its KV blocks lie in descending order and none is block 0, so
 * that reading them by position or by a table that never came shows. */
struct check_rows {
    int32_t *token, *position, *sequence, *slot; /* [context] */
    int32_t *table;
    int32_t output;
    struct batch batch;
};
int check_rows_create(struct check_rows *out, int context, struct err *) WARN_UNUSED;
void check_rows_dispose(struct check_rows *);
/* Rows first … first + n - 1 with these tokens; the logits of the last one are wanted. */
const struct batch *check_rows_set(struct check_rows *, const int32_t *tokens, int first, int n);

/* A step recorded on both sides, and what the reference computed. */
struct check_step {
    struct check_side *tested, *reference;
    struct commands *tested_commands, *reference_commands;
    int rows;                  /* of the step */
    int n;                     /* commands */
    struct command_info *info; /* [n] of the tested side */
    float **values;            /* [n] the reference's results [rows][width]; NULL: none */
};

/* Records the step. In any case *out needs check_step_dispose. */
int check_step_record(struct check_step *out, struct check_side *tested, struct check_side *reference,
                      const struct batch *, struct err *) WARN_UNUSED;
void check_step_dispose(struct check_step *);

/* The commands that belong together: those before the layers, each layer, those after. The first command
 * behind the group that begins at `first`. */
int check_step_group(const struct check_step *, int first);
/* Runs commands [first, end) on the reference and keeps all results. */
int check_step_trace(struct check_step *, int first, int end, struct err *) WARN_UNUSED;
/* The last command before `end` with a result that the reference computed, or -1. */
int check_step_last(const struct check_step *, int end);

/* On the tested device: runs [first, end) as served, and measures the result of the last operator. */
int check_step_fused(struct check_step *, int first, int end, struct check_error *, struct err *) WARN_UNUSED;
/* Runs command i alone, with every result written, and measures its own. */
int check_step_alone(struct check_step *, int i, struct check_error *, struct err *) WARN_UNUSED;
/* Replaces the tested device's result of command i by the reference's. */
int check_step_feed(struct check_step *, int i, struct err *) WARN_UNUSED;

/* "Q/K/V", or the operator's name where the recording gave none. */
const char *check_step_stage(const struct check_step *, int i);

#endif
