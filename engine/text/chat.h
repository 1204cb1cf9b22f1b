/* From the API's conversation to the context of a chat template. */
#ifndef HEARTH_CHAT_H
#define HEARTH_CHAT_H

#include <jansson.h>

#include <stdbool.h>

#include "../engine.h"
#include "template.h"

/* `input` is an object with "messages" and, if wanted, "tools", "documents",
 * "add_generation_prompt" (default true) and "chat_template_kwargs"; other members are ignored and
 * `input` stays as it is. In the copies of the messages content parts are joined to one string,
 * the role "developer" becomes "system", an assistant's missing content "", and a tool call's
 * arguments, where they are a string, the object written in it. `bos` and `eos` (NULL: none) are
 * the variables bos_token and eos_token. *context is the caller's: json_decref.
 * ERR_INVALID names what is wrong: messages[3].content. */
int chat_context(const json_t *input, const char *bos, const char *eos, json_t **context,
                 struct err *) WARN_UNUSED;

/* What the source of a chat template tells of its model. */
enum engine_calls chat_calls(const char *source);
bool chat_thinks(const char *source);

/* For templates that know no tools: describes those of `context`, as chat_context makes it, in the system message,
 * and writes calls and results of the messages as text. */
int chat_describe_tools(json_t *context, struct err *err) WARN_UNUSED;

/* The last message, an assistant's, is to be continued. Before rendering: prepares the context; *ending, the
 * caller's (free), is what the prompt must end with, or NULL where the message says nothing yet. */
int chat_continue(json_t *context, char **ending, struct err *err) WARN_UNUSED;
/* After it: cuts off what the template puts behind the message. */
int chat_cut(struct template_output *, const char *ending, struct err *err) WARN_UNUSED;

#endif
