/* The models hearth knows by name (catalogue.def). */
#ifndef HEARTH_CLI_CATALOGUE_H
#define HEARTH_CLI_CATALOGUE_H

#include <stddef.h>
#include <stdint.h>

#include "../engine/engine.h"

struct catalogue_model {
    const char *name, *repository, *file;
    int parts;
    uint64_t bytes;
    const char *sha256; /* "": not pinned */
    const char *licence;
    struct sampling_defaults sampling;
};

struct catalogue_package {
    const char *model, *requirement, *member;
};

const struct catalogue_model *catalogue_at(size_t i);   /* NULL at the end */
const struct catalogue_model *catalogue_find(const char *name); /* NULL: no such name */
/* The model that has a file of this base name; NULL where none has. */
const struct catalogue_model *catalogue_find_file(const char *path);
/* The i-th package that a model's bytes are in; NULL at the end. */
const struct catalogue_package *catalogue_package(const struct catalogue_model *, size_t i);
/* The name of part 1 … parts, malloc'd, the caller's; NULL without memory. */
char *catalogue_file(const struct catalogue_model *, int part);

/* The machine's memory, or what the container may use of it. 0: unknown. */
uint64_t catalogue_memory(void);
/* Whether a model of that size runs well in `memory`: 0 no, 1 with little room, 2 yes. */
int catalogue_fits(uint64_t bytes, uint64_t memory);

#endif
