/* From the API's conversation to the context of a chat template. */
#ifndef HEARTH_CHAT_H
#define HEARTH_CHAT_H

#include <jansson.h>

#include "../../kernels/err.h"

/* `input` is an object with "messages" and, if wanted, "tools", "documents",
 * "add_generation_prompt" (default true) and "chat_template_kwargs"; other members are ignored and
 * `input` stays as it is. In the copies of the messages content parts are joined to one string,
 * the role "developer" becomes "system", an assistant's missing content "", and a tool call's
 * arguments, where they are a string, the object written in it. `bos` and `eos` (NULL: none) are
 * the variables bos_token and eos_token. *context is the caller's: json_decref.
 * ERR_INVALID names what is wrong: messages[3].content. */
int chat_context(const json_t *input, const char *bos, const char *eos, json_t **context,
                 struct err *) WARN_UNUSED;

#endif
