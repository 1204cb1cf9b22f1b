/* hearth serve: options into server_options. */
#include <ctype.h>
#include <string.h>

#include "../engine/log.h"
#include "commands.h"
#include "session.h"
#include "text.h"
#ifdef HEARTH_SERVER
#include <sys/stat.h>

#include "../server/server.h"

/* The key from --api-key or --api-key-file; NULL: none wanted. The caller's. */
static int read_key(const struct options *o, char **key, struct err *e)
{
    const char *given = option_text(o, OPTION_API_KEY), *path = option_text(o, OPTION_API_KEY_FILE);
    *key = NULL;
    if (given && path)
        return err_set(e, ERR_INVALID, "api-key and api-key-file: only one of the two can be");
    int status = 0;
    if (given)
        *key = strdup(given);
    else if (path)
        status = text_read_file(path, 4096, key, NULL, e);
    if (status < 0 || (!given && !path))
        return status;
    if (!*key)
        return err_set(e, ERR_NOMEM, "no memory for the key");
    (*key)[strcspn(*key, "\r\n")] = 0;
    struct stat about;
    if (path && stat(path, &about) == 0 && about.st_mode & (S_IRGRP | S_IROTH))
        log_warning("%s can be read by other users", path);
    if (**key)
        return 0;
    free(*key);
    *key = NULL;
    return err_set(e, ERR_INVALID, "the API key is empty");
}

enum { WARM_MOST = 1 << 20 }; /* bytes of a system prompt */

static void free_texts(char **texts)
{
    for (char **text = texts; text && *text; text++)
        free(*text);
    free(texts);
}

/* The texts of all files in the list, with a NULL behind them; NULL for none. */
static int read_warm(const char *list, char ***out, struct err *e)
{
    size_t n = 1;
    *out = NULL;
    for (const char *at = list; at && *at; at++)
        n += *at == ',';
    if (!list || !*list)
        return 0;
    *out = calloc(n + 1, sizeof **out);
    int status = *out ? 0 : err_set(e, ERR_NOMEM, "no memory for %zu texts", n);
    for (size_t i = 0; status == 0 && i < n; i++, list += *list == ',') {
        size_t length = strcspn(list, ",");
        char *path = strndup(list, length);
        status = path ? text_read_file(path, WARM_MOST, &(*out)[i], NULL, e)
                      : err_set(e, ERR_NOMEM, "no memory for a path");
        free(path);
        list += length;
        size_t end = status == 0 ? strlen((*out)[i]) : 0; /* an editor's, not the prompt's */
        if (end > 0 && (*out)[i][end - 1] == '\n')
            (*out)[i][end - 1] = 0;
    }
    if (status < 0) {
        free_texts(*out);
        *out = NULL;
    }
    return status;
}

/* --memory: bytes, or with % a share. */
static int read_memory(const struct options *o, struct engine_options *out, struct err *e)
{
    static const char units[] = "KMGT";
    const char *text = option_text(o, OPTION_MEMORY);
    char *end = NULL;
    double value = text ? strtod(text, &end) : 0, factor = 1;
    if (!text)
        return 0;
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    bool share = *end == '%';
    for (const char *at = units; unit && at <= unit; at++)
        factor *= 1024;
    if (end == text || !(value > 0) || end[unit || share] || (share ? value > 100 : value * factor > 1e18))
        return err_set(e, ERR_INVALID, "memory: '%s' is neither bytes (K, M, G and T may follow) nor 1%% to 100%%",
                       text);
    if (share)
        out->memory_share = value / 100;
    else
        out->memory = (uint64_t)(value * factor);
    return 0;
}

static int list_models(const struct session_model *models, size_t n, struct shelf_model **out, struct err *e)
{
    *out = calloc(n, sizeof **out);
    if (!*out)
        return err_set(e, ERR_NOMEM, "no memory for %zu models", n);
    for (size_t i = 0; i < n; i++)
        (*out)[i] = (struct shelf_model){models[i].name, models[i].path, session_catalogue_defaults(models[i].known)};
    return 0;
}

int command_serve(const struct options *o)
{
    struct err e;
    struct server_options server = {
        .host = option_text(o, OPTION_HOST),
        .port = (int)option_integer(o, OPTION_PORT),
        .cors_origin = option_text(o, OPTION_CORS),
        .store = option_text(o, OPTION_STORE),
        .store_bytes = (uint64_t)option_integer(o, OPTION_STORE_SIZE),
        .store_days = (int)option_integer(o, OPTION_STORE_DAYS),
        .max_connections = (int)option_integer(o, OPTION_MAX_CONNECTIONS),
        .max_body = (size_t)option_integer(o, OPTION_MAX_BODY),
        .drain_seconds = option_number(o, OPTION_DRAIN_SECONDS, 0),
        .watchdog_seconds = option_number(o, OPTION_WATCHDOG_SECONDS, 60),
        .idle_exit_seconds = option_number(o, OPTION_IDLE_EXIT, 0),
        .defaults = session_defaults(o),
    };
    const char *backend = option_text(o, OPTION_POLL_BACKEND);
    server.select_backend = backend && strcmp(backend, "select") == 0;
    session_engine_options(o, &server.engine);

    char *key = NULL, **warm = NULL;
    struct session_model *models = NULL;
    struct shelf_model *served = NULL;
    struct engine_adapter *adapters = NULL;
    size_t n = 0, n_adapters = 0;
    int status = read_key(o, &key, &e);
    if (status == 0)
        status = read_memory(o, &server.engine, &e);
    if (status == 0)
        status = read_warm(option_text(o, OPTION_WARM), &warm, &e);
    if (status == 0)
        status = session_models(o, &models, &n, &e);
    if (status == 0)
        status = session_adapters(o, &adapters, &n_adapters, &e);
    if (status == 0 && n_adapters > 0 && n > 1)
        status = err_set(&e, ERR_INVALID, "lora: adapters are for a single model, and there are %zu", n);
    if (status == 0)
        status = list_models(models, n, &served, &e);
    if (status == 0) {
        server.api_key = key;
        server.models = served;
        server.n_models = n;
        server.model_idle_seconds = option_number(o, OPTION_MODEL_IDLE, 0);
        server.model.context = (int)option_integer(o, OPTION_CTX);
        server.model.adapters = adapters;
        server.model.n_adapters = n_adapters;
        server.model.warm = (const char *const *)warm;
        if (o->file)
            log_info("configuration from %s", o->file);
        status = server_run(&server, &e);
    }
    free_texts(warm);
    free(served);
    session_models_free(models, n);
    session_adapters_free(adapters, n_adapters);
    free(key);
    return status < 0 ? text_fail(&e) : 0;
}
#else

int command_serve(const struct options *o)
{
    (void)o;
    struct err e;
    err_set(&e, ERR_UNSUPPORTED,
            "this build has no server: libmicrohttpd and libuv were missing, or it was configured "
            "with -Dserver=disabled");
    return text_fail(&e);
}
#endif
