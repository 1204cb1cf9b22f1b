/* The engine of the race programs. */
#include "race_engine.h"

#include <unistd.h>

#include "../../engine/log.h"
#include "../support/tiny_model.h"

static void check(int rc, const struct err *err)
{
    if (!rc) return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

void race_engine_open(struct race_engine *r, struct engine_options options, int argc, char **argv)
{
    struct err err = {0};
    struct tiny_model_options tiny = {.seed = 1};
    log_set_level(LOG_ERROR);
    snprintf(r->path, sizeof r->path, "/tmp/hearth-race-%d.gguf", (int)getpid());
    check(tiny_model_write(&tiny, r->path, &err), &err);
    options.device = argc > 1 ? argv[1] : "reference";
    options.threads = 2;
    options.in_flight = 2;
    check(engine_open(&r->engine, &options, &err), &err);
    check(engine_load(r->engine, r->path, NULL, &r->model, &err), &err);
}

void race_engine_close(struct race_engine *r)
{
    engine_close(r->engine);
    unlink(r->path);
}

unsigned race_random(unsigned *state, unsigned below)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % below;
}
