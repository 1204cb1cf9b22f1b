/* Which tokens may come next. A walk of the vocabulary's trie from a place in the grammar decides every token;
 * what it finds is kept by the frames that it looked at, so that most masks are put together from what is there:
 * first that of the top frame alone, then of what goes on in the frame below it where the top one may end, and so
 * on. Belongs to one grammar and is for one thread at a time. */
#ifndef HEARTH_GRAMMAR_MASK_H
#define HEARTH_GRAMMAR_MASK_H

#include "stacks.h"
#include "trie.h"

struct masks;

/* Both outlive it. `most`: bytes that it may keep. */
int masks_create(struct masks **out, const struct automaton *, const struct trie *, size_t most,
                 struct err *) WARN_UNUSED;
void masks_destroy(struct masks *); /* NULL is fine */
size_t masks_bytes(const struct masks *);

/* Sets bits[(vocab + 63) / 64] for the tokens that may come at a set of stacks, clears the others. */
int masks_of(struct masks *, const struct stacks *, const struct stack_set *, uint64_t *bits,
             struct err *) WARN_UNUSED;

#endif
