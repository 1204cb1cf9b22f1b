/* Functions that a model may call: the request's tools and tool_choice, and what they make of the text: how it is
 * read (pieces.h) and, by grammar, how it must be written. */
#ifndef HEARTH_API_TOOLS_H
#define HEARTH_API_TOOLS_H

#include "request.h"

int api_read_tools(struct api_request *, json_t *, struct api_error *) WARN_UNUSED;
/* Tools of another API as chat has them, kept by the request; NULL with *error. make_tool makes one of them, a new
 * reference, or NULL with *error. */
json_t *api_translate_tools(struct api_request *, const json_t *value,
                            json_t *(*make_tool)(const json_t *tool, size_t index, struct api_error *),
                            struct api_error *);
/* none, auto, required, a function's name, or a subset of the tools. */
int api_read_tool_choice(struct api_request *, json_t *, struct api_error *) WARN_UNUSED;
/* The older form of both in OpenAI's chat, read after them: functions and function_call become tools of which one
 * call may be made. */
int api_read_functions(struct api_request *, const json_t *, struct api_error *) WARN_UNUSED;
int api_read_function_call(struct api_request *, const json_t *, struct api_error *) WARN_UNUSED;
/* Once all parameters are read: which functions may be called. */
int api_check_tools(struct api_request *, struct api_error *) WARN_UNUSED;

/* Sets request->pieces, and request->grammar_spec to what calls, reasoning and the spec given make together.
 * `prompt` is the rendered one: it tells whether reasoning has begun. Any thread. */
int api_prepare_tools(struct api_request *, const struct model *, const char *prompt, size_t length,
                      struct api_error *) WARN_UNUSED;

/* Sets request->thinking, once request->pieces is. */
int api_prepare_thinking(struct api_request *, const struct model *, struct api_error *) WARN_UNUSED;

#endif
