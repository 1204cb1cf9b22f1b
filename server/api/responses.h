/* OpenAI's /v1/responses: its parameters as those of a chat, the responses kept from earlier requests, and the
 * routes beside the one that creates them. Shapes and events are those of the official SDKs' types. */
#ifndef HEARTH_API_RESPONSES_H
#define HEARTH_API_RESPONSES_H

#include "../http/http.h"
#include "request.h"
#include "archive.h"

struct api;

/* ---- input: for request.c; any thread ---- */

/* Checks the items of 'input' and keeps them in request->input, each as it is stored and listed. */
int responses_read_input(struct api_request *, json_t *value, struct api_error *) WARN_UNUSED;
/* The value of a parameter as chat has it, kept by the request; NULL with *error. */
json_t *responses_tools(struct api_request *, const json_t *value, struct api_error *);
json_t *responses_tool_choice(struct api_request *, const json_t *value, struct api_error *);
/* Of 'text': its format; *format is NULL where none is given. */
int responses_read_text(struct api_request *, const json_t *value, json_t **format, struct api_error *) WARN_UNUSED;
int responses_read_reasoning(struct api_request *, const json_t *value, struct api_error *) WARN_UNUSED;
int responses_read_include(struct api_request *, const json_t *value, struct api_error *) WARN_UNUSED;
int responses_read_metadata(struct api_request *, json_t *value, struct api_error *) WARN_UNUSED;
/* Makes request->messages of instructions, the items before (may be NULL) and the input's. */
int responses_messages(struct api_request *, const json_t *history, struct api_error *) WARN_UNUSED;
/* Gives those of the input's items an id that have none, made of the response's. -1: no memory. */
int responses_name_items(struct api_request *, const char *id) WARN_UNUSED;

/* ---- with the store, which may be NULL: off ---- */

/* For a request that continues: reads what it refers to, then as responses_messages. Any thread; reads the disk. */
int responses_continue(struct api_request *, struct archive *, struct api_error *) WARN_UNUSED;
/* Everything under /responses/: a response, its input_items, cancel. */
void responses_route(struct api *, struct http_request *, const char *rest);

#endif
