/* From a choice's text, as it comes, to its pieces: content, reasoning and tool calls. What could still be the
 * beginning of a marker is held back; text that turns out to be none is content, to the last byte. The same text
 * gives the same pieces, however it is cut (only TEXT may be cut otherwise). */
#ifndef HEARTH_API_PIECES_H
#define HEARTH_API_PIECES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kernels/err.h"

enum block_kind { BLOCK_CONTENT, BLOCK_REASONING, BLOCK_CALL };
enum piece_kind { PIECE_BEGIN, PIECE_TEXT, PIECE_END };

/* Blocks follow each other: BEGIN, any number of TEXT, END. */
struct piece {
    enum piece_kind kind;
    enum block_kind block;
    const char *text; /* BEGIN of a call: the function's name. TEXT of a call: its arguments, as the model writes
                       * them. Not NUL-terminated; valid during the call of the sink */
    size_t length;
};
/* How a model writes calls. */
enum call_syntax {
    CALLS_NONE,
    CALLS_TAGGED, /* <tool_call>{"name": …, "arguments": {…}}</tool_call> */
    CALLS_BARE    /* {"name": …, "parameters": {…}} and nothing else */
};

struct pieces_options {
    enum call_syntax calls;
    const json_t *tools;  /* the request's functions; borrowed, outlives the reader. Needed with calls */
    bool one_call;        /* nothing is given after the first call */
    bool thinks;          /* a <think> block may come first */
    bool thinking;        /* the prompt has opened it already */
    int (*sink)(void *user, const struct piece *); /* gets the pieces; -1 (no memory) ends the reading */
    void *user;
};

struct pieces;
int pieces_create(struct pieces **out, const struct pieces_options *) WARN_UNUSED; /* -1: no memory */
void pieces_destroy(struct pieces *); /* NULL is fine */
/* -1: no memory, or the sink's. */
int pieces_feed(struct pieces *, const char *text, size_t length) WARN_UNUSED;
/* The text is over: gives what is held back and ends the block that is open. */
int pieces_end(struct pieces *) WARN_UNUSED;
/* Whether something is held back. */
bool pieces_holds(const struct pieces *);
/* Where the reasoning begins and ends in the text, in bytes and with its markers; -1: not yet. */
void pieces_reasoning(const struct pieces *, int64_t *begin, int64_t *end);

#endif
