/* Which rows make the next step. Knows nothing of requests, text or devices: it sees tasks, that is
 * sequences reduced to how many tokens they have, how many of them are in the KV cache, and
 * which KV blocks they hold. Steps under way count as done: the next ones run behind them.
 *
 * Prefixes: a task that is admitted, or about to compute a chunk, first shares the blocks that hold its next
 * tokens already; and when another task computes just these in the step being planned, it waits for them.
 *
 * Policy: tasks wait in a queue for their turn (turns.h) and are admitted, at most `parallel` of them, when
 * blocks for all their present tokens can be had; from then on they are as old as that. Those that had to stop
 * go on before new ones begin. Each running task with one token to go gets its row first;
 * the rest of the step is prefill, a quarter of it for the oldest prompt and the remainder
 * for those with the fewest tokens left, so that first tokens come early and the long ones
 * go on: whoever is passed becomes the oldest in time. Drafts take what prefill leaves, and only blocks that
 * nobody who runs is going to need next.
 * Output needs no reservation: when blocks run out, the youngest task gives its own back
 * and computes its tokens again later. The oldest can always go on, so nothing blocks forever. */
#ifndef HEARTH_SCHEDULER_H
#define HEARTH_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "kv_blocks.h"
#include "turns.h"

enum task_state {
    TASK_WAITING, /* for its turn, or to go on; then it may hold blocks */
    TASK_RUNNING,
    TASK_PAUSED /* its reader is slow: holds blocks, as long as nobody else needs them */
};

/* Owned by its sequence. Members below the line are the scheduler's. */
struct task {
    int n_tokens;       /* prompt and output so far, with a token that a step under way chooses; with none
                         * to go, the task waits for its next one */
    int n_computed;     /* of them in the KV cache; the step that computes the last gives the next */
    bool scored;        /* logits of every row are wanted */
    bool finds;         /* may share blocks that hold the beginning of its tokens */
    int drafts;         /* guessed tokens behind the last one, whose rows it takes where there is room */
    const int32_t *tokens; /* [n_tokens]; the last one may be unknown yet */
    struct kv_table kv;
    struct turn turn;
    /* ---- */
    enum task_state state;
    bool queued;        /* was not admitted yet */
    int rows;           /* in the step planned last */
    int promised;       /* blocks set aside for them */
    int n_reached;      /* the most that n_computed was */
    int n_found;        /* tokens that were never computed: others' blocks hold them */
    struct task *next, *previous; /* in order of age; in the queue, of turns */
};

struct scheduler_options {
    int parallel;   /* tasks of one step at most */
    int step_rows;  /* rows of one step at most; at least `parallel` */
    int score_rows; /* rows of scored prompts in one step at most */
    /* Asked before a task may run: false lets it, and those behind it, wait for a later step. May be NULL. It may
     * take free blocks, as long as they are free again when it returns. */
    bool (*ready)(void *user, struct task *);
    void *user;
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

/* A new task: it holds no blocks and waits for its turn. */
void scheduler_add(struct scheduler *, struct task *);
/* A task that need not wait, as old as `elder` and just behind it: the other choices of one request. n_computed is
 * what its blocks hold. */
void scheduler_add_behind(struct scheduler *, struct task *, struct task *elder);
/* Its blocks are given back. */
void scheduler_remove(struct scheduler *, struct task *);
void scheduler_pause(struct scheduler *, struct task *);
void scheduler_resume(struct scheduler *, struct task *);

/* What a step may take besides its rows of one token each, and what is paid for it, in any unit. */
struct plan_budget {
    double room;
    double row, output; /* of rows; of those whose logits are wanted, besides */
    double token;       /* of each token before a row */
};

/* Plans a step within the budget (with all that fits, where nobody else runs) and takes its blocks; an empty plan
 * where nothing can run. The oldest prompt has a row in it at least. The plan is valid until the next call.
 * Afterwards the caller adds task->rows to n_computed of each task in it; rows beyond n_tokens are of drafts, and
 * count as far as these turn out right. */
const struct plan *scheduler_plan(struct scheduler *, const struct plan_budget *);
/* Whether others wait for the steps' ends: the budget then holds also where nobody runs here. */
void scheduler_share(struct scheduler *, bool);

/* Those that wait for their turn, in its order: the one behind `t`, the first for NULL. */
const struct task *scheduler_queued(const struct scheduler *, const struct task *t);
int scheduler_running(const struct scheduler *);
/* Of those, with one token to go; *tokens: that are before these. */
int scheduler_streams(const struct scheduler *, double *tokens);
uint64_t scheduler_preemptions(const struct scheduler *); /* since creation */

#endif
