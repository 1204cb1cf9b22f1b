/* From options to a loaded model. */
#include "session.h"

#include <string.h>

#include "cache.h"
#include "fetch.h"

int session_cache(const struct options *o, char **directory, struct err *e)
{
    return cache_directory(option_text(o, OPTION_CACHE), directory, e);
}

int session_fetch(const struct options *o, const struct catalogue_model *model, char **path, struct err *e)
{
    char *directory;
    int status = session_cache(o, &directory, e);
    if (status < 0)
        return status;
    struct fetch_options options = {
        .source = option_text(o, OPTION_SOURCE), .hub = option_text(o, OPTION_HUB), .directory = directory};
    status = fetch_model(model, &options, path, e);
    free(directory);
    return status;
}

int session_model_path(const struct options *o, char **path, const struct catalogue_model **model,
                       struct err *e)
{
    const char *argument = option_text(o, OPTION_MODEL);
    if (!argument)
        return err_set(e, ERR_INVALID,
                       "no model given: -m MODEL, a GGUF file or a name that `hearth models list` shows");
    char *directory;
    int status = session_cache(o, &directory, e);
    if (status < 0)
        return status;
    status = cache_resolve(argument, directory, path, model, e);
    free(directory);
    const struct catalogue_model *known = catalogue_find(argument);
    if (status == ERR_NOT_FOUND && known && option_flag(o, OPTION_PULL))
        status = session_fetch(o, known, path, e);
    return status;
}

void session_engine_options(const struct options *o, struct engine_options *out)
{
    *out = (struct engine_options){
        .device = option_text(o, OPTION_DEVICE),
        .isa = option_text(o, OPTION_ISA),
        .activations = option_text(o, OPTION_ACTIVATIONS),
        .kv_type = option_text(o, OPTION_KV_TYPE),
        .threads = (int)option_integer(o, OPTION_THREADS),
        .unchecked = option_text(o, OPTION_CHECK) && !strcmp(option_text(o, OPTION_CHECK), "off"),
        .max_itl = option_number(o, OPTION_MAX_ITL, 0) / 1000,
        .speculate = option_text(o, OPTION_SPECULATE) && !strcmp(option_text(o, OPTION_SPECULATE), "off")
                         ? SPECULATE_OFF : SPECULATE_AUTO,
        .cache_directory = option_text(o, OPTION_CACHE_DIR),
        .cache_bytes = (uint64_t)option_integer(o, OPTION_CACHE_SIZE),
        .parallel = (int)option_integer(o, OPTION_PARALLEL),
        .queue = (int)option_integer(o, OPTION_QUEUE),
    };
}

struct sampling_defaults session_defaults(const struct options *o)
{
    return (struct sampling_defaults){
        .temperature = option_number(o, OPTION_TEMPERATURE, -1),
        .top_p = option_number(o, OPTION_TOP_P, -1),
        .min_p = option_number(o, OPTION_MIN_P, -1),
        .repetition_penalty = option_number(o, OPTION_REPETITION_PENALTY, -1),
        .top_k = option_is_set(o, OPTION_TOP_K) ? (int)option_integer(o, OPTION_TOP_K) : -1,
    };
}

struct sampling_defaults session_catalogue_defaults(const struct catalogue_model *model)
{
    return model ? model->sampling : (struct sampling_defaults){-1, -1, -1, -1, -1};
}

int session_open(struct session *s, const struct options *o, int parallel, struct err *e)
{
    *s = (struct session){0};
    char *path = NULL;
    int status = session_model_path(o, &path, &s->known, e);
    if (status < 0)
        return status;
    struct engine_options engine;
    session_engine_options(o, &engine);
    engine.parallel = parallel;
    struct model_options model = {.name = s->known ? s->known->name : NULL,
                                  .context = (int)option_integer(o, OPTION_CTX)};
    status = engine_open(&s->engine, &engine, e);
    if (status == 0)
        status = engine_load(s->engine, path, &model, &s->model, e);
    free(path);
    return status;
}

void session_close(struct session *s)
{
    engine_close(s->engine);
    *s = (struct session){0};
}

struct sampling session_sampling(const struct session *s, const struct options *o)
{
    struct sampling_defaults sources[] = {session_defaults(o),
                                          engine_model_info(s->model)->sampling,
                                          session_catalogue_defaults(s->known),
                                          {1, 1, 0, 1, 0}};
    struct sampling out = {
        .temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1, .top_k = -1};
    for (int i = 0; i < 4; i++) {
        const struct sampling_defaults *from = &sources[i];
        out.temperature = out.temperature < 0 ? from->temperature : out.temperature;
        out.top_p = out.top_p < 0 ? from->top_p : out.top_p;
        out.min_p = out.min_p < 0 ? from->min_p : out.min_p;
        out.repetition_penalty =
            out.repetition_penalty < 0 ? from->repetition_penalty : out.repetition_penalty;
        out.top_k = out.top_k < 0 ? from->top_k : out.top_k;
    }
    return out;
}
