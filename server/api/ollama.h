/* Ollama's API for clients that speak only that: /api/chat and /api/generate as a chat or a text, and what it tells of
 * models. Shapes are those of Ollama's documentation and of its official clients' types. */
#ifndef HEARTH_API_OLLAMA_H
#define HEARTH_API_OLLAMA_H

#include "../http/http.h"
#include "request.h"
#include "shelf.h"

struct api;

/* The version of Ollama whose API this is: clients ask for it to know what they may use. */
#define OLLAMA_VERSION "0.12.11"

/* ---- requests: for request.c; any thread. Each takes the value of a parameter ---- */

int ollama_read_messages(struct api_request *, json_t *value, struct api_error *) WARN_UNUSED;
/* true, false, or how much. */
int ollama_read_think(struct api_request *, const json_t *value, struct api_error *) WARN_UNUSED;
/* Seconds, or a duration as Go writes them: "1h30m". */
int ollama_read_keep_alive(struct api_request *, const json_t *value, struct api_error *) WARN_UNUSED;
/* "json" or a schema as a response_format; *format is NULL where it asks for nothing. */
int ollama_read_format(struct api_request *, json_t *value, json_t **format, struct api_error *) WARN_UNUSED;
/* When every parameter is read: makes request->messages or request->prompts, or neither: then only its model is meant,
 * which is loaded or unloaded. */
int ollama_finish(struct api_request *, struct api_error *) WARN_UNUSED;

/* ---- answers; NULL only without memory ---- */

/* What a model is called here: with a tag, ":latest" where its name has none. */
json_t *ollama_name_json(const char *name);
/* RFC 3339 with nanoseconds, in UTC. `when`: nanoseconds since 1970. */
enum { OLLAMA_TIME = 40 };
void ollama_time(char out[OLLAMA_TIME], int64_t when);
int64_t ollama_now(void);
/* To a request without messages or prompt. */
json_t *ollama_residence_json(const struct api_request *, const char *name);
/* {"error":"…"} */
json_t *ollama_error_json(const struct api_error *);

/* ---- models ---- */

json_t *ollama_running_json(const struct api *);
/* /api/tags and /api/show: they read files, so that no model need be loaded. */
void ollama_tags(struct api *, struct http_request *);
void ollama_show(struct api *, struct http_request *);

#endif
