/* Compares a device with the reference device on the commands that serve: after every layer, after every
 * operator, and in the tokens that come out. Behind engine_check and the check when a model is loaded. */
#ifndef HEARTH_CHECK_H
#define HEARTH_CHECK_H

#include "../engine.h"
#include "../model/forward.h"

struct check_options {
    struct device_options device;
    struct gguf *gguf;
    struct gguf *reference_gguf; /* what the reference reads; NULL: the same */
    const int32_t *prompt;       /* [n_prompt] at least one, all inside the vocabulary */
    int n_prompt;
    int tokens;                  /* greedy ones after the prompt */
    /* NULL, or called with every line of the report. */
    void (*row)(void *user, const struct engine_check_result *, const struct engine_check_row *);
    void *user;
};

/* 0 where everything was compared or something diverges: out->ok tells. */
int check_run(const struct check_options *, struct engine_check_result *out, struct err *) WARN_UNUSED;

/* The short form for a device that is about to be served from: three layers, a small prompt, one token
 * and some rows of the head. ERR_DEVICE names the stage that computes wrongly. */
int check_start(struct device *, const struct weights *, struct gguf *, struct err *) WARN_UNUSED;

#endif
