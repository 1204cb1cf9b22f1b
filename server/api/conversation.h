/* Builds the messages of a chat from APIs that cut a conversation otherwise: runs of text, reasoning, calls and
 * their results, in order. Once memory runs out it stays `failed`. */
#ifndef HEARTH_API_CONVERSATION_H
#define HEARTH_API_CONVERSATION_H

#include <jansson.h>
#include <stdbool.h>

struct conversation {
    json_t *messages; /* the owner's; NULL at first */
    json_t *open;     /* the last of them, while it may grow */
    bool failed;
};

/* A new message of this role, unless the open one is of it and has nothing but reasoning. */
void conversation_begin(struct conversation *, const char *role);
/* What follows goes to the open message, or to a new one where none of the role is open. */
void conversation_text(struct conversation *, const char *role, const json_t *text);
void conversation_reasoning(struct conversation *, const char *text);
/* The reference to arguments (a string or an object) is taken. */
void conversation_call(struct conversation *, const char *id, const char *name, json_t *arguments);
/* What a call gave: runs of text as in `texts` (an array of strings), after `prefix`. */
void conversation_result(struct conversation *, const char *id, const char *prefix, const json_t *texts);
/* Ends the open message. One that has only reasoning is dropped: what it led to was not kept. */
void conversation_close(struct conversation *);

#endif
