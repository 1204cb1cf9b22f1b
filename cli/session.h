/* An engine with one model, opened as the options say: what run, bench, tokenize, render and logprobs
 * begin with; and what they share with serve. */
#ifndef HEARTH_CLI_SESSION_H
#define HEARTH_CLI_SESSION_H

#include "../engine/engine.h"
#include "catalogue.h"
#include "options.h"

/* One of several models. */
struct session_model {
    char *name;                          /* NULL: as the file says */
    char *path;
    const struct catalogue_model *known; /* NULL: not of the catalogue */
};
/* All that --model names: files, catalogue names (fetched first with --pull), folders of files. *out is the caller's,
 * for session_models_free. */
int session_models(const struct options *, struct session_model **out, size_t *n, struct err *) WARN_UNUSED;
/* The adapters of --lora; the caller's, session_adapters_free. */
int session_adapters(const struct options *, struct engine_adapter **out, size_t *n, struct err *e) WARN_UNUSED;
void session_adapters_free(struct engine_adapter *, size_t n);
void session_models_free(struct session_model *, size_t n);

/* The model file that --model names, the first of several, fetched first with --pull. *path is the caller's; *model
 * (which may be NULL) the catalogue's entry, or NULL. */
int session_model_path(const struct options *, char **path, const struct catalogue_model **model,
                       struct err *) WARN_UNUSED;
/* Fetches, or finds, a catalogue model. *path is the caller's. */
int session_fetch(const struct options *, const struct catalogue_model *, char **path,
                  struct err *) WARN_UNUSED;
int session_cache(const struct options *, char **directory, struct err *) WARN_UNUSED;

void session_engine_options(const struct options *, struct engine_options *);
/* The sampling values that were set; negative where none was. */
struct sampling_defaults session_defaults(const struct options *);
/* What a catalogue entry gives (NULL: nothing set). */
struct sampling_defaults session_catalogue_defaults(const struct catalogue_model *);

struct session {
    struct engine *engine;
    struct model *model;
    const struct catalogue_model *known; /* NULL: not of the catalogue */
};

/* `parallel`: sequences that will run at once. *out needs session_close in any case. */
int session_open(struct session *out, const struct options *, int parallel, struct err *) WARN_UNUSED;
void session_close(struct session *);
/* Sampling parameters in this order: options, the file, the catalogue, OpenAI's. */
struct sampling session_sampling(const struct session *, const struct options *);

#endif
