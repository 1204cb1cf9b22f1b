/* From options to a loaded model. */
#include "session.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache.h"
#include "fetch.h"
#include "text.h"

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

/* The next of a list with commas, without blanks around it; the caller's. *at moves behind it. A file whose own name
 * has commas stands alone. */
static char *next_argument(const char **at)
{
    size_t length = access(*at, F_OK) == 0 ? strlen(*at) : strcspn(*at, ",");
    const char *first = *at, *last = first + length;
    *at = last + (*last == ',');
    while (first < last && *first == ' ')
        first++;
    while (last > first && last[-1] == ' ')
        last--;
    return strndup(first, (size_t)(last - first));
}

static int no_model(struct err *e)
{
    return err_set(e, ERR_INVALID,
                   "no model given: -m MODEL, a GGUF file or a name that `hearth models list` shows");
}

static int resolve(const struct options *o, const char *argument, char **path, const struct catalogue_model **model,
                   struct err *e)
{
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

int session_model_path(const struct options *o, char **path, const struct catalogue_model **model,
                       struct err *e)
{
    const char *list = option_text(o, OPTION_MODEL);
    if (!list)
        return no_model(e);
    char *argument = next_argument(&list);
    int status = argument ? resolve(o, argument, path, model, e) : err_set(e, ERR_NOMEM, "no memory for a name");
    free(argument);
    return status;
}

/* ---- several ---- */

struct models {
    struct session_model *list;
    size_t n;
};

/* Takes the path. The name: the catalogue's, else of the file, without what tells its type and its part. */
static int add_model(struct models *m, char *path, const struct catalogue_model *known, struct err *e)
{
    struct session_model *grown = path ? realloc(m->list, (m->n + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(path);
        return err_set(e, ERR_NOMEM, "no memory for the list of models");
    }
    m->list = grown;
    const char *base = text_base_name(path);
    size_t length = strlen(base), part = strlen("-00001-of-00001");
    if (length > 5 && strcasecmp(base + length - 5, ".gguf") == 0)
        length -= 5;
    if (length > part && strncmp(base + length - part, "-00001-of-", 10) == 0)
        length -= part;
    char *name = known ? strdup(known->name) : strndup(base, length);
    m->list[m->n++] = (struct session_model){name, path, known};
    return name ? 0 : err_set(e, ERR_NOMEM, "no memory for a name");
}

/* A model's file in a folder: of several parts the first, and none that belongs to another model. */
static int is_model_file(const struct dirent *entry)
{
    const char *name = entry->d_name, *of = strstr(name, "-of-");
    size_t length = strlen(name);
    if (length <= 5 || strcasecmp(name + length - 5, ".gguf") != 0 || *name == '.' || strncmp(name, "mmproj", 6) == 0)
        return 0;
    return !of || of - name < 6 || strncmp(of - 6, "-00001", 6) == 0 || strspn(of - 5, "0123456789") != 5;
}

static int add_folder(struct models *m, const char *folder, struct err *e)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, is_model_file, alphasort), status = 0;
    if (n < 0)
        return err_set(e, ERR_IO, "%s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *path = status == 0 ? text_from("%s/%s", folder, entries[i]->d_name) : NULL;
        if (status == 0)
            status = add_model(m, path, path ? catalogue_find_file(path) : NULL, e);
        free(entries[i]);
    }
    free(entries);
    return status < 0 || n > 0 ? status : err_set(e, ERR_NOT_FOUND, "%s: no GGUF files are there", folder);
}

static int check_names(const struct models *m, struct err *e)
{
    for (size_t i = 0; i < m->n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(m->list[i].name, m->list[k].name) == 0)
                return err_set(e, ERR_INVALID, "%s and %s would both be served as %s", m->list[k].path,
                               m->list[i].path, m->list[i].name);
    return 0;
}

int session_models(const struct options *o, struct session_model **out, size_t *n, struct err *e)
{
    const char *list = option_text(o, OPTION_MODEL), *name = option_text(o, OPTION_NAME);
    struct models m = {0};
    bool folder = false;
    int status = list && *list ? 0 : no_model(e);
    while (status == 0 && *list) {
        struct stat about;
        const struct catalogue_model *known = NULL;
        char *argument = next_argument(&list), *path = NULL;
        bool here = argument && stat(argument, &about) == 0 && S_ISDIR(about.st_mode);
        folder |= here;
        if (!argument)
            status = err_set(e, ERR_NOMEM, "no memory for a name");
        else
            status = here ? add_folder(&m, argument, e) : resolve(o, argument, &path, &known, e);
        if (status == 0 && !here)
            status = add_model(&m, path, known, e);
        free(argument);
    }
    if (status == 0 && m.n > 1 && name)
        status = err_set(e, ERR_INVALID, "name: there are %zu models, which have their own", m.n);
    if (status == 0)
        status = check_names(&m, e);
    if (status == 0 && m.n == 1 && (name || !(folder || m.list[0].known))) {
        free(m.list[0].name);
        m.list[0].name = name ? strdup(name) : NULL;
    }
    if (status < 0) {
        session_models_free(m.list, m.n);
        return status;
    }
    *out = m.list;
    *n = m.n;
    return 0;
}

void session_models_free(struct session_model *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(list[i].name);
        free(list[i].path);
    }
    free(list);
}

/* ---- adapters ---- */

/* FILE, or FILE=SCALE. */
static int read_adapter(char *argument, struct engine_adapter *out, struct err *e)
{
    char *equals = strrchr(argument, '='), *end = NULL;
    double scale = equals ? strtod(equals + 1, &end) : 1;
    if (equals && access(argument, F_OK) != 0) {
        if (end == equals + 1 || *end || !(scale >= -1000 && scale <= 1000))
            return err_set(e, ERR_INVALID, "lora: '%s' is no scale from -1000 to 1000", equals + 1);
        *equals = 0;
    } else {
        scale = 1;
    }
    *out = (struct engine_adapter){argument, (float)scale};
    return 0;
}

int session_adapters(const struct options *o, struct engine_adapter **out, size_t *n, struct err *e)
{
    const char *list = option_text(o, OPTION_LORA);
    struct engine_adapter *adapters = NULL;
    size_t count = 0;
    int status = 0;
    while (status == 0 && list && *list) {
        char *argument = next_argument(&list);
        struct engine_adapter *grown = argument ? realloc(adapters, (count + 1) * sizeof *grown) : NULL;
        adapters = grown ? grown : adapters;
        status = grown ? read_adapter(argument, &adapters[count], e) : err_set(e, ERR_NOMEM, "no memory for a list");
        if (status < 0)
            free(argument);
        else
            count++;
    }
    if (status < 0) {
        session_adapters_free(adapters, count);
        return status;
    }
    *out = adapters;
    *n = count;
    return 0;
}

void session_adapters_free(struct engine_adapter *adapters, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free((char *)adapters[i].path);
    free(adapters);
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
