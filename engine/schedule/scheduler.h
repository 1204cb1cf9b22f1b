/* Which rows make the next step. Knows nothing of requests, text or devices: it sees tasks, that is
 * sequences reduced to how many tokens they have, how many of them are in the KV cache, and
 * which KV blocks they hold. Steps under way count as done: the next ones run behind them.
 *
 * Policy: tasks are admitted in order of arrival, at most `parallel` of them, when blocks for all
 * their present tokens can be had. Each running task with one token to go gets its row first;
 * the rest of the step is prefill, a quarter of it for the oldest prompt and the remainder
 * for those with the fewest tokens left, so that first tokens come early and the long ones
 * go on. Output needs no reservation: when blocks run out, the youngest task gives its own back
 * and computes its tokens again later. The oldest can always go on, so nothing blocks forever. */
#ifndef HEARTH_SCHEDULER_H
#define HEARTH_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "kv_blocks.h"

enum task_state {
    TASK_WAITING, /* for its turn; may hold blocks */
    TASK_RUNNING,
    TASK_PAUSED /* its reader is slow: holds blocks, as long as nobody else needs them */
};

/* Owned by its sequence. Members below the line are the scheduler's. */
struct task {
    int n_tokens;       /* prompt and output so far, with a token that a step under way chooses; with none
                         * to go, the task waits for its next one */
    int n_computed;     /* of them in the KV cache; the step that computes the last gives the next */
    bool scored;        /* logits of every row are wanted */
    struct kv_table kv;
    /* ---- */
    enum task_state state;
    int rows;           /* in the step planned last */
    int promised;       /* blocks set aside for them */
    struct task *next, *previous; /* in order of age */
};

struct scheduler_options {
    int parallel;   /* tasks of one step at most */
    int step_rows;  /* rows of one step at most; at least `parallel` */
    int score_rows; /* rows of scored prompts in one step at most */
};

struct plan {
    struct task **task; /* [n_tasks], oldest first; each has rows > 0 */
    int n_tasks, n_rows;
    struct kv_copies copies; /* to be made before the step's rows are computed */
};

struct scheduler;
/* `kv` must outlive the scheduler. */
int scheduler_create(struct scheduler **out, const struct scheduler_options *, struct kv_blocks *kv,
                     struct err *) WARN_UNUSED;
void scheduler_destroy(struct scheduler *); /* NULL is fine; no tasks are left */

/* A new task, younger than all others. n_computed is what its blocks hold. */
void scheduler_add(struct scheduler *, struct task *);
/* The same, but as old as `elder`, just behind it: the other choices of one request. */
void scheduler_add_behind(struct scheduler *, struct task *, struct task *elder);
/* Its blocks are given back. */
void scheduler_remove(struct scheduler *, struct task *);
void scheduler_pause(struct scheduler *, struct task *);
void scheduler_resume(struct scheduler *, struct task *);

/* Plans a step and takes its blocks; an empty plan where nothing can run. The plan is valid until the
 * next call. Afterwards the caller adds task->rows to n_computed of each task in it. */
const struct plan *scheduler_plan(struct scheduler *);

int scheduler_running(const struct scheduler *);
uint64_t scheduler_preemptions(const struct scheduler *); /* since creation */

#endif
