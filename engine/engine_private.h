/* Members of the runtime and of a model, for engine*.c. */
#ifndef HEARTH_ENGINE_PRIVATE_H
#define HEARTH_ENGINE_PRIVATE_H

#include "engine.h"
#include "grammar/grammar.h"
#include "schedule/worker.h"
#include "text/template.h"

#define CONTEXT_MAX (1 << 24) /* tokens; keeps every product of sizes in range */

struct adapter_list {
    struct gguf *file[ADAPTERS_MAX];
    struct adapter *adapter[ADAPTERS_MAX];
    struct prefix_key key[ADAPTERS_MAX]; /* of what is in them */
    float scale[ADAPTERS_MAX];
    int n;
};

struct engine {
    struct engine_options options; /* its texts: only while opening */
    struct store *store;           /* NULL: no disk */
    struct worker *worker;
    struct model *models;          /* by `next`, owned */
    struct engine_budget budget;
};

/* The tokens around a gap, and those before the names of a project and of a file in it. */
enum fim_mark { FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, FIM_PROJECT, FIM_FILE, FIM_PAD, FIM_COUNT };

/* Constant once loaded: any thread may read it. */
struct model {
    struct engine *engine;
    struct model *next;
    struct gguf *gguf;
    struct adapter_list adapters;
    struct tokenizer *tokenizer;
    struct template *template;     /* NULL: none, and template_err tells why */
    struct err template_err;
    struct runner *runner;
    struct grammar_cache *grammars;
    struct model_info info;        /* its strings are owned */
    int32_t fim[FIM_COUNT];        /* -1: none */
    int32_t ending;                /* what an embedding's text ends with; -1: nothing */
    char *bos, *eos;               /* their texts, "" for none */
};

/* Opens and checks the files that the options name, or none. *list is empty after a failure. */
int adapters_open(struct adapter_list *, const struct gguf *model, const struct model_options *,
                  struct err *) WARN_UNUSED;
/* Sets `key` of each; reads the files. */
int adapters_digest(struct adapter_list *, struct err *) WARN_UNUSED;
/* Their own scales, as a request has them; returns how many. */
size_t adapters_scales(const struct adapter_list *, struct engine_scale out[ADAPTERS_MAX]);
void adapters_close(struct adapter_list *); /* they are on no device */

/* Sets the budget as the options say. */
int engine_choose_budget(struct engine *, struct err *) WARN_UNUSED;

/* "f32", "int8"; NULL: auto. */
int engine_choose_activations(const char *name, enum activations *out, struct err *err) WARN_UNUSED;

/* "f16", "q8_0"; NULL: 0, the device's own. */
int engine_choose_kv_type(const char *name, enum dtype *out, struct err *err) WARN_UNUSED;

/* What a file's metadata say, beside the tensors. */
int model_read_tokenizer(struct model *, struct err *) WARN_UNUSED;
int model_read_template(struct model *, struct err *) WARN_UNUSED;
int model_read_info(struct model *, const char *path, const char *name, struct err *) WARN_UNUSED;
/* *real: [tokenizer_size], false for padding. *end_ids: tokens that end a text. Both the caller's. */
int model_read_marks(struct model *, bool **real, int32_t **end_ids, int *n_end_ids,
                     struct err *) WARN_UNUSED;
void model_free(struct model *); /* all but the runner, which is gone */

#endif
