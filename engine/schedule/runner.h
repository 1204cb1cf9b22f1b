/* One loaded model at work: its weights, KV cache, scheduler and live requests. Everything here runs
 * on the worker thread, which owns the device; what runner_facts gives is constant. */
#ifndef HEARTH_RUNNER_H
#define HEARTH_RUNNER_H

#include "../model/forward.h"
#include "../text/tokenizer.h"
#include "sequence.h"

struct runner;

struct runner_options {
    struct gguf *gguf;                  /* outlives the runner */
    const char *name;                   /* of the model, for people */
    struct store *store;                /* outlives the runner; NULL: prefixes are kept in memory only */
    const struct tokenizer *tokenizer;  /* outlives the runner */
    const bool *real;                   /* [n_real] false for padding of the vocabulary; copied */
    int n_real;
    const int32_t *end_ids;             /* copied */
    int n_end_ids;
    int parallel, step_tokens;
    double max_itl;                     /* seconds between two tokens of a stream; 0: chosen */
    int in_flight;                      /* steps under way at once: 1, 2; 0: as suits the device */
    enum engine_speculate speculate;
    bool unchecked;                     /* no short check of a GPU */
    int kv_tokens;                      /* of all sequences together; 0: chosen */
    uint64_t kv_bytes;                  /* that these may take at most; 0: as the machine's memory allows */
    struct adapter *const *adapters;    /* [n_adapters] for the runner to put on the device; they outlive it */
    const struct prefix_key *adapter_keys; /* [n_adapters] as long */
    int n_adapters;
    int context;                        /* of one sequence; 0: the model's own */
};

/* A runner is made in parts, so that the steps of others go on in between. The options must stay until
 * runner_open; after a failure of any part comes runner_destroy. */
int runner_create(struct runner **out, struct device *, const struct runner_options *,
                  struct err *) WARN_UNUSED;
/* Loads about so many bytes more of the weights; *done: they are all there. */
int runner_load(struct runner *, size_t bytes, bool *done, struct err *) WARN_UNUSED;
/* As weights_next; on any thread. */
const struct gguf_tensor *runner_next(const struct runner *);
/* Chooses the sizes, logs them, and makes what lies in the host's memory. On any thread. */
int runner_prepare(struct runner *, struct err *) WARN_UNUSED;
/* Makes the KV cache and the rest of what lies on the device, after a check of a GPU. */
int runner_open(struct runner *, struct err *) WARN_UNUSED;
/* Frees what lies on the device: all requests are released, the last steps end. */
void runner_close(struct runner *);
/* Frees the rest: on any thread if it was closed. NULL is fine. */
void runner_destroy(struct runner *);

/* What a model would take with these options, nothing being loaded. On any thread. */
struct runner_needs {
    uint64_t fixed;    /* all but the KV cache */
    uint64_t kv_least; /* for one conversation worth the name */
    uint64_t kv_most;  /* what it takes where there is room */
};
int runner_measure(const struct device *, const struct runner_options *, struct runner_needs *out,
                   struct err *) WARN_UNUSED;

struct runner_facts {
    const struct hyperparameters *hyper;
    struct request_limits limits;
    uint64_t parameters, weight_bytes, kv_bytes;
    uint64_t other_bytes; /* of what else it takes while it is loaded */
    int kv_blocks, block_tokens, step_rows;
};
const struct runner_facts *runner_facts(const struct runner *);

/* Takes over a request; its events go to `out` from now on. */
void runner_add(struct runner *, struct request *, double now, struct event_list *out);
void runner_cancel(struct request *, double now, struct event_list *out); /* nothing if it is over */
void runner_credit(struct request *, int events);
/* Ends what is past its deadline. Returns the next deadline, 0 for none. */
double runner_expire(struct runner *, double now, struct event_list *out);
/* Tells those who asked for it their places in the queue, once a second where they have changed. */
void runner_report(struct runner *, double now, struct event_list *out);

struct runner_counts {
    uint64_t prompt_tokens, completion_tokens;
    uint64_t steps_ahead; /* begun while another was under way */
    uint64_t drafted_tokens, accepted_tokens;
    atomic_int *rows;     /* gets those of the step that begins; may be NULL */
};
/* Begins a step of the model, or ends one; where the device does both at once, the next step begins while one
 * is under way. `others`: steps of other runners go in between. `bound`: seconds that the step may take because of
 * streams elsewhere; 0: any. False where nothing can run. */
bool runner_step(struct runner *, bool others, double bound, struct event_list *out, struct runner_counts *);
/* Ends all steps under way. */
void runner_settle(struct runner *, struct event_list *out, struct runner_counts *);
bool runner_is_busy(const struct runner *); /* has requests, or steps under way */
/* Seconds between two tokens of its streams that others may cause, and that its own steps of them take; both 0
 * where it has no streams now, or knows too little. */
void runner_patience(const struct runner *, double *limit, double *step);
/* Saves a part of what the prefix cache holds, when there is nothing else to do. Seconds until the next call can
 * do something; negative: there is nothing to save. */
double runner_save(struct runner *);
/* The full blocks of ids[n], computed with these scales, go last when room is needed in the prefix cache. */
int runner_pin(struct runner *, const struct engine_scale *, size_t n_scales, const int32_t *ids, int n,
               struct err *) WARN_UNUSED;
/* Takes the requests that are over out of the runner: a list by `next`. */
struct request *runner_reap(struct runner *);
/* Frees such a request, at once or when the steps under way have ended. */
void runner_release(struct request *);

struct runner_load {
    int running, waiting; /* sequences; requests */
    int blocks_used, blocks_cached;
    uint64_t preempted;
    double begins, ends; /* seconds until a new request would begin; between two ends */
};
/* Adds what the runner has at present, and notes at each request how far it is. */
void runner_observe(const struct runner *, struct runner_load *);

/* engine_bench_run on an idle runner. */
int runner_bench(struct runner *, const struct engine_bench *, struct engine_bench_result *,
                 struct err *) WARN_UNUSED;

double clock_seconds(void); /* CLOCK_MONOTONIC */

#endif
