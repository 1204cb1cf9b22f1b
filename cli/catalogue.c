/* Look-ups in the table of known models, and what fits this machine. */
#include "catalogue.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#include "text.h"

/* What Qwen publishes for all 2.5 models. */
#define QWEN 0.7, 0.8, 20, 1.05

static const struct catalogue_model models[] = {
#define MODEL(...) MODEL_ROW(__VA_ARGS__)
#define MODEL_ROW(name, repository, file, parts, bytes, sha256, licence, temperature, top_p, top_k, \
                  repetition) \
    {name, repository, file, parts, bytes, sha256, licence, {temperature, top_p, -1, repetition, top_k}},
#define PACKAGE(...)
#include "catalogue.def"
#undef MODEL
#undef PACKAGE
};

static const struct catalogue_package packages[] = {
#define MODEL(...)
#define PACKAGE(model, requirement, member) {model, requirement, member},
#include "catalogue.def"
#undef MODEL
#undef PACKAGE
};

enum { N_MODELS = sizeof models / sizeof *models, N_PACKAGES = sizeof packages / sizeof *packages };

const struct catalogue_model *catalogue_at(size_t i)
{
    return i < N_MODELS ? &models[i] : NULL;
}

const struct catalogue_model *catalogue_find(const char *name)
{
    for (size_t i = 0; i < N_MODELS; i++)
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    return NULL;
}

const struct catalogue_model *catalogue_find_file(const char *path)
{
    const char *base = text_base_name(path);
    for (size_t i = 0; i < N_MODELS; i++)
        if (strcmp(models[i].file, base) == 0)
            return &models[i];
    return NULL;
}

const struct catalogue_package *catalogue_package(const struct catalogue_model *model, size_t i)
{
    for (size_t at = 0; at < N_PACKAGES; at++)
        if (strcmp(packages[at].model, model->name) == 0 && i-- == 0)
            return &packages[at];
    return NULL;
}

char *catalogue_file(const struct catalogue_model *model, int part)
{
    const char *mark = strstr(model->file, "-00001-of-");
    if (model->parts == 1 || !mark)
        return strdup(model->file);
    return text_from("%.*s-%05d%s", (int)(mark - model->file), model->file, part, mark + 6);
}

uint64_t catalogue_memory(void)
{
    uint64_t memory = 0;
#ifdef __APPLE__
    size_t size = sizeof memory;
    if (sysctlbyname("hw.memsize", &memory, &size, NULL, 0) != 0)
        memory = 0;
#else
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        memory = (uint64_t)pages * (uint64_t)page;
    FILE *file = fopen("/sys/fs/cgroup/memory.max", "r");
    unsigned long long limit;
    if (file && fscanf(file, "%llu", &limit) == 1 && (memory == 0 || limit < memory))
        memory = limit;
    if (file)
        fclose(file);
#endif
    return memory;
}

int catalogue_fits(uint64_t bytes, uint64_t memory)
{
    /* Weights, a KV cache that grows with the model, and the program with its system. */
    uint64_t need = bytes + bytes / 4 + 700000000u;
    return need > memory ? 0 : need > memory / 4 * 3 ? 1 : 2;
}
