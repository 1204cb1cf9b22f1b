/* Where model files lie: our own cache folder, and the caches of other programs. */
#ifndef HEARTH_CLI_CACHE_H
#define HEARTH_CLI_CACHE_H

#include "catalogue.h"

/* `given` (--cache, HEARTH_CACHE) or $XDG_CACHE_HOME/hearth/models, ~/.cache/hearth/models (macOS:
 * ~/Library/Caches/hearth/models). *out is the caller's. ERR_NOT_FOUND where there is no home. */
int cache_directory(const char *given, char **out, struct err *) WARN_UNUSED;
/* The path of a model's first part where all its parts are here, in `directory` or in the cache of
 * Hugging Face, Ollama or LM Studio; NULL otherwise. The caller's. */
char *cache_find(const struct catalogue_model *, const char *directory);
/* A MODEL argument, a path or a catalogue name, to a file's path (*path, the caller's).
 * *model (which may be NULL) gets the catalogue's entry, or NULL. ERR_NOT_FOUND says what to do. */
int cache_resolve(const char *argument, const char *directory, char **path,
                  const struct catalogue_model **model, struct err *) WARN_UNUSED;

#endif
