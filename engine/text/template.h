/* Chat templates: an interpreter for the Jinja subset that models use. Strict about what it does
 * not know, bounded in depth, steps and output. A compiled template is immutable: any number of
 * threads may render it at once. */
#ifndef HEARTH_TEMPLATE_H
#define HEARTH_TEMPLATE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kernels/err.h"

struct template;

/* ERR_FORMAT: a syntax error, with its line. ERR_UNSUPPORTED: a construct, filter, test, method or
 * function that is not known, with its name and line. ERR_LIMIT: nested too deeply. */
int template_compile(struct template **out, const char *source, size_t length, struct err *) WARN_UNUSED;
void template_destroy(struct template *); /* NULL is fine */

struct template_output {
    char *text;            /* malloc'd, NUL-terminated, the caller's */
    unsigned char *origin; /* [length] enum origin of tokenizer.h, malloc'd, the caller's */
    size_t length;
};

/* Renders with the members of `context` (an object: messages, tools, add_generation_prompt,
 * bos_token, …) as variables. Text that is literal in the template, or a member of `context`
 * other than messages, tools and documents, has ORIGIN_TEMPLATE; strings inside messages whose role is
 * assistant or tool have ORIGIN_HISTORY; all others inside messages, tools and documents ORIGIN_PLAIN.
 * Origins survive every string operation byte by byte.
 * Members of `context`'s chat_template_kwargs (an object) are variables too, where there is no other of
 * that name; they come from clients, so their strings have ORIGIN_PLAIN.
 * ERR_INVALID: raise_exception (its text) or an operation the values do not allow; ERR_LIMIT. */
int template_render(const struct template *, const json_t *context, struct template_output *,
                    struct err *) WARN_UNUSED;

#endif
