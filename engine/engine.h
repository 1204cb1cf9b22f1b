/* The engine: text in, tokens out. All that server/ and cli/ know of engine/.
 *
 * Two things with different lives: a runtime (struct engine: device, worker thread, memory
 * budget) and the models loaded into it (struct model: weights, tokenizer, template). Requests
 * name a model and live by id. Token ids and typed parameters go in; events come out.
 *
 * Threads: engine_submit, engine_cancel, engine_credit, engine_render, engine_tokenize, engine_detokenize,
 * engine_status and engine_slots may be called from any thread. engine_poll is for one thread at a time, and so
 * are, together, engine_load, engine_measure and engine_unload, at any time: requests go on meanwhile.
 * The rest is for the thread that owns the engine. */
#ifndef HEARTH_ENGINE_H
#define HEARTH_ENGINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../kernels/err.h"

struct engine;
struct model;

/* ---- runtime ---- */

/* Tokens drafted from the text's own past, and checked several at once: the output stays the same. Where steps
 * are queued ahead, and on GPUs, whose rows depend on their neighbours, nothing is drafted. */
enum engine_speculate {
    SPECULATE_AUTO,  /* where it pays, as measured */
    SPECULATE_OFF,
    SPECULATE_ALWAYS /* whatever it costs */
};

struct engine_options {
    const char *device;  /* a name of kernels/device.h; NULL: "auto" */
    const char *isa;     /* NULL, or an instruction set to force (kernels/device.h) */
    const char *activations; /* "f32", "int8": of matmuls of few rows on a GPU; NULL or "auto": its choice */
    const char *kv_type; /* "f16", "q8_0": of the KV cache; NULL: the device's own */
    int threads;         /* 0: physical cores */
    int in_flight;       /* steps under way at once, 1 or 2; 0: two where the device runs beside the host */
    bool unchecked;      /* serve from a GPU without the short check when a model is loaded */
    int parallel;        /* sequences that may run at once; 0: 8 */
    int queue;           /* requests that may wait; 0: 256 */
    int context;         /* tokens of KV cache for all sequences together; 0: chosen from the
                          * model's context and the machine's memory */
    int step_tokens;     /* rows of one step at most; 0: 512 */
    uint64_t memory;     /* bytes that models, KV and caches may take together, as engine_budget tells them;
                          * 0: memory_share, or where that is 0 too as the machine allows */
    double memory_share; /* of the machine's, the container's or the GPU's memory, up to 1 */
    double max_itl;      /* seconds between two tokens of a stream that others' prompts may cause; 0: four
                          * times what one stream takes on an empty context */
    enum engine_speculate speculate;
    const char *cache_directory; /* long prefixes are kept here too, and found again after a restart; NULL: in
                          * memory only */
    uint64_t cache_bytes; /* that they may take there; 0: 4 GiB */
    void (*wake)(void *user); /* called from the worker when engine_poll has something; may be NULL;
                               * must only signal (uv_async_send) */
    void *wake_user;
};

/* Opens the device and starts the worker. *out is the caller's, freed by engine_close. */
int engine_open(struct engine **out, const struct engine_options *, struct err *) WARN_UNUSED;
/* Cancels what runs, stops the worker, frees models and device. NULL is fine. */
void engine_close(struct engine *);

/* The memory that all models together may take, with KV and caches: whoever loads several shares it out among
 * them with the members `memory` and `kv_bytes` of struct model_options. */
struct engine_budget {
    uint64_t bytes;
    uint64_t available;  /* to this process, when the engine was opened */
    bool given;          /* by the options */
    bool own;            /* a device's own memory, not the host's */
};
void engine_budget(const struct engine *, struct engine_budget *out);

/* ---- models ---- */

/* A LoRA adapter: a GGUF file, and the scale that requests give it which say nothing else. */
struct engine_adapter {
    const char *path;
    float scale;
};

struct model_options {
    const char *name;    /* the name it is served under; NULL: the file's general.name or its base name */
    int context;         /* longest sequence; 0: the model's own. Larger than the model's: ERR_INVALID */
    uint64_t memory;     /* bytes that it may take; 0: any number. ERR_NOMEM tells how many are missing */
    uint64_t kv_bytes;   /* of these, that its KV cache takes at most; 0: as there is free memory */
    const struct engine_adapter *adapters; /* in the order of their numbers; on CPUs alone */
    size_t n_adapters;   /* at most 16 */
    const char *const *warm; /* NULL, or texts up to a NULL, for engine_warm; one that fails is logged */
};

/* Sampling defaults: a negative number (temperature, top_p, …) means "the file says nothing". */
struct sampling_defaults {
    double temperature, top_p, min_p, repetition_penalty;
    int top_k;
};

/* How the states of a text's tokens become one vector. The numbers are those of GGUF files. */
enum engine_pooling {
    ENGINE_POOL_NONE, /* of a file: it does not say */
    ENGINE_POOL_MEAN, /* of all tokens */
    ENGINE_POOL_CLS,  /* the first token's */
    ENGINE_POOL_LAST
};

/* How a model writes tool calls, by its chat template. */
enum engine_calls {
    ENGINE_CALLS_NONE,   /* it knows no tools: engine_render can describe them, with tags */
    ENGINE_CALLS_TAGGED, /* <tool_call>{"name": …, "arguments": {…}}</tool_call> */
    ENGINE_CALLS_BARE    /* {"name": …, "parameters": {…}} */
};

struct model_info {
    const char *name, *architecture, *path, *quantization; /* "Q4_K_M" from metadata, or the commonest type */
    const char *license;        /* general.license, or "" */
    int context_length;         /* of one sequence here */
    int context_trained;        /* of the file */
    int vocab;
    uint64_t parameters, file_bytes;
    uint64_t resident_bytes;    /* of weights, KV cache and all else that it takes while it is loaded */
    double load_seconds;
    bool has_template;
    enum engine_calls calls;
    bool thinks;                /* by its template: <think> blocks */
    int n_adapters;
    bool has_fim;               /* knows prefix/suffix/middle tokens */
    int width;                  /* of an embedding */
    enum engine_pooling pooling; /* of embeddings, as the file has it */
    struct sampling_defaults sampling; /* general.sampling.* */
    const char *chat_template;  /* its source; NULL: none */
    const char *bos, *eos;      /* texts of the tokens; "": none */
};

/* Loads a GGUF file (any part of a split one). The model belongs to the engine.
 * ERR_FORMAT and ERR_UNSUPPORTED name the key or tensor at fault. Blocks for the load; the worker takes a piece
 * of it between two steps of other models, whose streams go on. */
int engine_load(struct engine *, const char *path, const struct model_options *, struct model **out,
                struct err *) WARN_UNUSED;
/* Frees a model and all that it took. ERR_BUSY where it has requests; nobody must submit more, nor use the model
 * otherwise. What the prefix cache has of it is saved first, where there is a directory. */
int engine_unload(struct engine *, struct model *, struct err *) WARN_UNUSED;
/* What a file would take if it were loaded with these options, in bytes: kv_least has room for one conversation
 * worth the name, kv_most is what the KV cache takes where there is memory. */
struct model_needs {
    uint64_t fixed, kv_least, kv_most;
};
int engine_measure(struct engine *, const char *path, const struct model_options *, struct model_needs *out,
                   struct err *) WARN_UNUSED;
const struct model_info *engine_model_info(const struct model *);

/* Reads a file's metadata and tensor list into JSON, loading nothing:
 * {"path","version","files","metadata":{…},"tensors":[{"name","type","shape":[…],"bytes"}…]}.
 * Long arrays are {"type","length","first":[…]}. *out is the caller's. */
int engine_inspect(const char *path, json_t **out, struct err *) WARN_UNUSED;
/* What a model of this file would be, without loading it: {"architecture","quantization","license","parameters",
 * "chat_template" (or null),"tools" (its template knows them),"thinks","fim","sampling":{…}}; "sampling" has what the
 * file says of temperature, top_k, top_p, min_p and repetition_penalty. *out is the caller's. */
int engine_describe(const char *path, json_t **out, struct err *) WARN_UNUSED;

/* Computes what conversations with this system message begin with, in the background, and lets it go last when
 * the prefix cache needs room. ERR_INVALID: shorter than a block, or longer than the context. */
int engine_warm(struct engine *, struct model *, const char *system, struct err *) WARN_UNUSED;

/* ---- text ---- */

struct ids {
    int32_t *ids; /* malloc'd, the caller's: free(ids) */
    size_t n;
};

enum tokenize_flags {
    TOKENIZE_PLAIN = 0,
    TOKENIZE_SPECIAL = 1, /* recognise special tokens in the text */
    TOKENIZE_BOS = 2,     /* begin with BOS where the model wants one */
    TOKENIZE_EOS = 4      /* end with EOS where the model wants one: models made for embeddings do */
};
/* `text` is any bytes; invalid UTF-8 is tokenised byte by byte. ERR_LIMIT over 64 MiB. */
int engine_tokenize(const struct model *, const char *text, size_t length, unsigned flags,
                    struct ids *out, struct err *) WARN_UNUSED;
/* The bytes of a token (not always whole characters); NULL for ids outside. Special tokens give
 * their text. Valid as long as the model. */
const char *engine_token_bytes(const struct model *, int32_t id, size_t *length);

struct rendered {
    char *text;     /* malloc'd, NUL-terminated, the caller's */
    size_t length;
    struct ids ids; /* as the server uses them */
};
/* Renders a conversation with the model's chat template and tokenises it. `input` is an object:
 * "messages" (array; content string, null or array of text parts), optional "tools",
 * "add_generation_prompt" (default true), "chat_template_kwargs" and "describe_tools" (true: where the template
 * knows no tools, the system message describes them, and calls are text) and "continue_final_message" (true: the
 * prompt ends with the last message, an assistant's); others are ignored.
 * Control tokens are recognised in the template's own text only.
 * ERR_INVALID: the input (also the template's raise_exception, its text in err);
 * ERR_UNSUPPORTED: the model has no template, or one with unknown constructs; ERR_LIMIT. */
int engine_render(const struct model *, const json_t *input, struct rendered *out, struct err *) WARN_UNUSED;
/* The same with a template alone: text only. */
int engine_render_template(const char *source, const json_t *input, char **text, struct err *) WARN_UNUSED;
void engine_rendered_free(struct rendered *);

struct engine_gap_file {
    const char *name, *text;
};
/* A place to be filled in: what stands before and after it, and other files of the project. */
struct engine_gap {
    const char *prefix, *suffix;
    const struct engine_gap_file *files; /* the most important one last */
    size_t n_files;
};
/* Prompt ids that ask the model to fill in the middle. ERR_UNSUPPORTED where !has_fim, or where there are files and
 * the model knows none. Special tokens in the texts are not recognised. */
int engine_fim(const struct model *, const struct engine_gap *, struct ids *out, struct err *) WARN_UNUSED;

/* ---- structured output ---- */

/* Compiled for one model: immutable, counted by reference, for any thread. */
struct grammar;
/* `spec` is an object with a "type", texts to be generated:
 *   {"type":"json_schema","schema":…,"strict":bool}  {"type":"json_object"}  {"type":"gbnf","grammar":"…"}
 *   {"type":"regex","pattern":"…"} (all of the text matches)  {"type":"choice","choices":["a",…]}
 *   {"type":"literal","text":"…"}  {"type":"sequence","parts":[spec…]}  {"type":"any_of","specs":[spec…]}
 *   {"type":"repeat","of":spec,"min":n,"max":n or -1,"between":spec (optional)}
 *   {"type":"triggered","cases":[{"trigger":"<tool_call>","then":spec}…]}: free text; after each trigger in it
 *   comes what its spec says, then free text again.
 * Compiled grammars are kept for a while, so that the same spec is cheap again. *out is the caller's, as a
 * reference; NULL on errors. ERR_INVALID, ERR_UNSUPPORTED (names what is not known), ERR_LIMIT. Any thread. */
int engine_grammar(const struct model *, const json_t *spec, struct grammar **out, struct err *) WARN_UNUSED;
void engine_grammar_release(struct grammar *); /* NULL is fine */

/* ---- requests ---- */

struct logit_bias {
    int32_t id;
    float bias; /* -100 bans, 100 forces */
};

struct sampling {
    double temperature;         /* 0: greedy */
    int top_k;                  /* 0: off */
    double top_p, min_p;        /* 1 and 0: off */
    double presence_penalty, frequency_penalty; /* 0: off */
    double repetition_penalty;  /* 1: off; over prompt and output */
    int penalty_window;         /* the last so many tokens count for these three; 0: all */
    double dry_multiplier, dry_base; /* a token that goes on with a repetition of n tokens is less by
                                 * multiplier · base^(n - allowed_length). Multiplier 0: off */
    int dry_allowed_length;     /* repetitions shorter than that are free; at least 1 */
    int dry_window;             /* repetitions of the last so many tokens; 0: all */
    const char *const *dry_breakers; /* no repetition reaches across these texts, 512 bytes of them at most */
    size_t n_dry_breakers;
    double xtc_probability, xtc_threshold; /* how often, and above which probability; 0: off */
    uint64_t seed;              /* choice c draws from (seed, c, position) */
    const struct logit_bias *bias;
    size_t n_bias;
};

/* An adapter of the request's model, by its number, and its scale: finite, at most 1,000 either way. */
struct engine_scale {
    int adapter;
    float scale; /* 0: not at work */
};

/* Token ids whose log-probability is wanted after a prompt position. */
struct want {
    const int32_t *ids;
    size_t n;
};

/* A bound on a <think> block: a choice that has not closed it after `budget` tokens gets `end` next. */
struct engine_thinking {
    int budget;
    int32_t open;    /* the token that a choice must begin with to think at all; -1: the prompt has opened the block */
    int32_t close;   /* the token that closes it */
    int32_t end[16]; /* has `close` in it */
    int n_end;       /* 0: no bound */
};

struct engine_request { /* everything is copied by engine_submit */
    struct model *model;
    const int32_t *prompt; /* at least one id, all inside the vocabulary */
    size_t n_prompt;
    struct sampling sampling;
    const char *const *stop; /* UTF-8 strings, not empty */
    size_t n_stop;
    const struct engine_scale *scales; /* [n_scales] of different adapters; others are not at work */
    size_t n_scales;
    struct grammar *grammar; /* what every choice's text is to be, of this model; NULL: anything. The request
                              * takes a reference of its own */
    int choices;             /* n; 0 means 1 */
    int max_tokens;          /* per choice; -1: to the end of the context; 0: none (scoring) */
    bool ignore_eos;
    struct engine_thinking thinking;
    bool logprobs;           /* events carry them, with n_top alternatives */
    int n_top;               /* 0 … 128 */
    bool prompt_logprobs;    /* ENGINE_PROMPT events for the prompt's tokens too */
    const struct want *want; /* NULL, or n_prompt entries; needs prompt_logprobs */
    int credit;              /* ENGINE_TEXT events that may be undelivered; 0: no bound.
                              * engine_credit returns them; at zero the choice waits */
    double deadline;         /* seconds on CLOCK_MONOTONIC; 0: none. It fails with ERR_DEADLINE at once when
                              * even its first token would come later */
    uint64_t owner;          /* whoever asks: owners share the turns of those who wait */
    int priority;            /* lower goes first, as engine/schedule/turns.h has it */
    bool tells_place;        /* ENGINE_QUEUED events while it waits for its turn */
    bool no_cache;           /* neither reads the prefix cache nor leaves anything there */
    const char *cache_salt;  /* shares prefixes only with requests of the same salt; NULL: "" */
    bool explain_cache;      /* ENGINE_DONE tells where the prompt left what is cached */
    bool warm;               /* computes the prompt for the cache alone: max_tokens is 0, no event comes */
    enum engine_pooling embed; /* the prompt's embedding is wanted and nothing else: max_tokens is 0. Only the last
                              * token's uses the prefix cache */
    void *user;
};

/* ERR_TOO_LONG: prompt (and max_tokens ≥ 1) do not fit the context; text in OpenAI's wording.
 * ERR_BUSY: queue full. ERR_DRAINING. ERR_INVALID: ids or parameters out of range. */
int engine_submit(struct engine *, const struct engine_request *, uint64_t *id, struct err *) WARN_UNUSED;
/* Ends a request within one step, in any phase; its only further event is ENGINE_DONE with
 * FINISH_CANCELLED. Unknown ids are ignored. */
void engine_cancel(struct engine *, uint64_t id);
void engine_credit(struct engine *, uint64_t id, int events);

struct engine_top {
    int32_t id;
    float logprob;
};

struct engine_token {
    int32_t id;
    float logprob;                /* of the model's distribution (temperature 1, no penalties) */
    const struct engine_top *top; /* n_top, most likely first */
    int n_top;
    const float *want;            /* as many as asked for after this position, else NULL */
};

enum finish { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_DEADLINE };

/* Where a prompt left the nearest text that was cached when its turn came, and what both say there. Others' texts
 * count by whole blocks only and are not shown. */
#define ENGINE_EXPLAIN_TOKENS 12
struct engine_explain {
    int diverges;                           /* position of the first token that differs */
    int n_before, n_prompt, n_cached;
    int32_t before[ENGINE_EXPLAIN_TOKENS];  /* the last tokens that are the same */
    int32_t prompt[ENGINE_EXPLAIN_TOKENS];  /* from there on; none: the prompt ends */
    int32_t cached[ENGINE_EXPLAIN_TOKENS];  /* likewise; none: nothing of this owner is cached there */
};

enum engine_event_kind {
    ENGINE_PROMPT, /* `tokens`: prompt tokens in order with logprobs (the first has NAN), in one or
                    * more events; `want`/`top` of entry i belong to position i: what follows it */
    ENGINE_TEXT,   /* `text`: whole characters, stop strings cut off, possibly empty; `tokens`: those
                    * that end in it */
    ENGINE_EMBEDDING, /* `embedding` of the prompt, which is no unit vector */
    ENGINE_DONE,   /* one choice is over (cancelled: the whole request, once, choice 0) */
    ENGINE_FAILED, /* the request is over; err tells */
    ENGINE_QUEUED  /* it waits: `ahead` of it so many requests, for about queue_seconds; once a second at most */
};

struct engine_event {
    enum engine_event_kind kind;
    uint64_t id;
    void *user;
    int choice;
    const char *text; /* NUL-terminated, valid UTF-8 */
    size_t length;
    const struct engine_token *tokens; /* TEXT: only ids unless logprobs were asked for */
    size_t n_tokens;
    const float *embedding; /* EMBEDDING: [width of the model], finite */
    enum finish finish;
    bool last;        /* DONE: the request's last choice; no further event will come */
    int stop;         /* DONE: which of the request's stop strings ended it, by its place; -1: none of them */
    int prompt_tokens, cached_tokens; /* DONE; cached: of the prompt, what the prefix cache had */
    const struct engine_explain *explain; /* DONE, where it was asked for and the cache may be read; else NULL */
    int completion_tokens;            /* DONE: of this choice, the end token not counted */
    double queue_seconds, prefill_seconds, decode_seconds; /* DONE */
    int ahead;                        /* QUEUED */
    struct err err;                   /* FAILED */
};

/* The next event, or NULL. The caller's: engine_event_free. The model outlives it. */
struct engine_event *engine_poll(struct engine *);
void engine_event_free(struct engine_event *);
/* Blocks until engine_poll has something or `seconds` passed; for programs without a loop.
 * Returns false on time-out. */
bool engine_wait(struct engine *, double seconds);

/* Refuses new requests with ERR_DRAINING from now on; what runs goes on. */
void engine_drain(struct engine *);

/* Times by size: count[i] of those up to engine_bounds[i] and above the bound before, the last of the rest. */
#define ENGINE_BUCKETS 17
extern const double engine_bounds[ENGINE_BUCKETS - 1]; /* seconds */
struct engine_histogram {
    uint64_t count[ENGINE_BUCKETS];
    double sum; /* seconds */
};
int engine_bucket(double seconds);

struct engine_status {
    int running, waiting;       /* sequences; requests */
    int kv_blocks, kv_blocks_used;
    int kv_blocks_cached;       /* of those that are not used: hold prefixes that may be found */
    uint64_t requests, prompt_tokens, completion_tokens, cancelled;
    uint64_t preempted;         /* sequences that gave their blocks back to go on later */
    uint64_t steps;
    uint64_t steps_ahead;       /* steps that were queued before their predecessor had ended */
    uint64_t drafted_tokens, accepted_tokens; /* by speculation */
    struct engine_histogram step_time;
    double step_seconds;        /* age of the step in progress, 0 when idle; sleep of the machine not counted */
    int step_rows;              /* of the newest step */
    const char *step_operator, *step_stage; /* what it is in; NULL: idle, or the device does not tell */
    int step_layer;             /* -1: outside the layers */
    double begins_seconds;      /* until a request that comes now would begin, by the speed measured */
    double ends_seconds;        /* between two ends of requests, likewise */
    const char *device;         /* description */
};
/* A snapshot, from any thread, at no cost to the worker. */
void engine_status(const struct engine *, struct engine_status *);

enum engine_slot_state {
    ENGINE_SLOT_WAITING,   /* for its turn */
    ENGINE_SLOT_PREFILL,
    ENGINE_SLOT_DECODE,
    ENGINE_SLOT_PAUSED,    /* its reader is slow */
    ENGINE_SLOT_PREEMPTED, /* goes on when there are blocks again */
};
struct engine_slot {
    uint64_t id;
    void *user;
    enum engine_slot_state state;
    int prompt_tokens, computed_tokens; /* computed: prompt and output in the KV cache, of the furthest choice */
    int cached_tokens;                  /* of the prompt, what the prefix cache had */
    int generated_tokens;               /* of all choices */
    int choices, max_tokens, priority;  /* as asked for */
    uint64_t owner;
    double age;                         /* seconds since engine_submit */
};
/* The oldest `room` requests that are not over; returns how many there are. From any thread, at no cost to the
 * worker, also while a step does not return. */
int engine_slots(struct engine *, struct engine_slot *out, int room);

/* ---- prefixes on the disk ---- */

/* A text that a cache directory holds. */
struct engine_cache_entry {
    char model[64];
    uint64_t tokens;
    uint64_t bytes; /* without what it shares with entries before it */
    double age;     /* seconds since it was used last */
};
/* The one used last comes first; *out is the caller's (free). A directory that is not there holds none. */
int engine_cache_list(const char *directory, struct engine_cache_entry **out, size_t *n, struct err *) WARN_UNUSED;
/* Removes all of them; servers that use the directory go on. */
int engine_cache_clear(const char *directory, size_t *files, uint64_t *bytes, struct err *) WARN_UNUSED;

/* ---- measuring (for `bench`; the engine must be idle) ---- */

struct engine_bench {
    int prompt;     /* tokens of prefill, 0: none */
    int generate;   /* decode steps after it */
    int batch;      /* sequences decoded together */
    int context;    /* tokens already in the KV cache before timing decode */
    int repetitions;
    bool profile;   /* instead of tokens per second: where the time goes */
};
/* One operator in one stage, per prefill of the prompt or per decode step. */
struct engine_profile_row {
    const char *op, *stage; /* stage NULL: all of them together, and only `seconds` is known */
    double calls, seconds;
    double bytes;           /* of weights and KV that it reads */
    double operations;      /* 2 x multiply-accumulate */
    bool int8;              /* of bytes: int8_rate is their limit */
};
#define ENGINE_PROFILE_ROWS 32
struct engine_profile {
    struct engine_profile_row row[ENGINE_PROFILE_ROWS]; /* the longest first */
    int n;
    double seconds; /* of the whole; what the rows do not have is the host's */
    double waiting; /* within the rows: idle at the barriers, as the first thread saw it */
};
struct engine_bench_result {
    double prefill_tps, prefill_tps_min, prefill_tps_max; /* tokens per second: median, worst, best */
    double decode_tps, decode_tps_min, decode_tps_max;    /* all sequences together */
    double weight_bytes; /* bytes of weights one decode step reads */
    double kv_bytes;     /* bytes of KV one decode step reads on average */
    double bandwidth;    /* bytes per second of plain reading, measured in the same run */
    struct engine_profile prefill, decode;
    double int8_rate;    /* int8 operations per second of the device's kernel in cache; 0: not measured */
};
int engine_bench_run(struct engine *, struct model *, const struct engine_bench *,
                     struct engine_bench_result *, struct err *) WARN_UNUSED;

/* Bytes of this process in memory; 0 where the system does not tell. */
struct engine_memory {
    uint64_t resident, anonymous; /* now; anonymous: not of files */
    uint64_t peak;                /* of resident */
};
void engine_memory(struct engine_memory *);

/* ---- checking (for `check`) ---- */

/* One stage of one pass, compared with the reference device. Errors are relative to the root mean square of
 * the reference's row; the largest of all layers. */
struct engine_check_row {
    const char *pass, *stage;
    int compared;             /* results */
    int worst_layer;          /* -1: outside the layers */
    double max, max_bound, rms, rms_bound;
    bool ok;
};
struct engine_check_result {
    bool ok;
    char failure[320];        /* the first divergence: "layer 3, attention: max 0.8, bound 0.01" */
    char device[32], description[128];
    int prompt_tokens;
    int tokens, agreed, close; /* greedy ones; close: another token, below the margin */
    double margin;            /* of the reference's best logit, from which on tokens must agree */
};
struct engine_check {
    const char *path;         /* a GGUF file */
    const char *prompt;       /* NULL: a text of its own */
    int tokens;               /* greedy tokens after it */
    /* Called as soon as a stage is compared; device and prompt_tokens of the result are set. May be NULL. */
    void (*row)(void *user, const struct engine_check_result *, const struct engine_check_row *);
    void *user;
};
/* Runs the prompt and the tokens through the options' device and the reference device, on the calling
 * thread. 0: compared, out->ok tells; else it could not run. */
int engine_check(const struct engine_options *, const struct engine_check *, struct engine_check_result *out,
                 struct err *) WARN_UNUSED;

#endif
