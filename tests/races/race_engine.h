/* What the race programs share: an engine on a tiny model, without a test library, because Criterion
 * itself does not run under the thread sanitizer. */
#ifndef HEARTH_RACE_ENGINE_H
#define HEARTH_RACE_ENGINE_H

#include "../support/answers.h"

struct race_engine {
    struct engine *engine;
    struct model *model;
    char path[64];
};

/* Exits with a message on failure. The device is the program's first argument, or "reference". */
void race_engine_open(struct race_engine *, struct engine_options, int argc, char **argv);
void race_engine_close(struct race_engine *);

/* A small pseudo-random number; *state belongs to one thread. */
unsigned race_random(unsigned *state, unsigned below);

#endif
