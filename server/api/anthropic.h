/* Anthropic's /v1/messages: its parameters as those of a chat, its errors and models. Shapes and events are those of the
 * official SDKs' types. */
#ifndef HEARTH_API_ANTHROPIC_H
#define HEARTH_API_ANTHROPIC_H

#include "request.h"

/* For request.c; any thread. Each takes the value of a parameter. */
int anthropic_read_messages(struct api_request *, json_t *value, struct api_error *) WARN_UNUSED;
/* A string or text blocks; goes before the messages, whichever is read first. */
int anthropic_read_system(struct api_request *, json_t *value, struct api_error *) WARN_UNUSED;
int anthropic_read_thinking(struct api_request *, const json_t *value, struct api_error *) WARN_UNUSED;
int anthropic_read_metadata(struct api_request *, const json_t *value, struct api_error *) WARN_UNUSED;
/* As chat has it, kept by the request; NULL with *error. */
json_t *anthropic_tools(struct api_request *, const json_t *value, struct api_error *);
json_t *anthropic_tool_choice(struct api_request *, const json_t *value, struct api_error *);
/* Of 'output_config': its format as a response_format; *format is NULL where none is given. */
int anthropic_read_output(struct api_request *, const json_t *value, json_t **format, struct api_error *) WARN_UNUSED;
/* When every parameter is read: makes request->messages. */
int anthropic_messages(struct api_request *, struct api_error *) WARN_UNUSED;

/* A model as OpenAI's list has it, in Anthropic's shape; the list likewise. Takes the reference. */
json_t *anthropic_model_json(json_t *model);
json_t *anthropic_model_list_json(json_t *list);
/* {"type":"error","error":{"type","message"},"request_id"}; NULL only without memory. */
json_t *anthropic_error_json(const struct api_error *, const char *request_id);

#endif
