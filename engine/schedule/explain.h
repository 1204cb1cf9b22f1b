/* Why a prompt was not in the cache: where it leaves the nearest text that is, and what follows there. */
#ifndef HEARTH_EXPLAIN_H
#define HEARTH_EXPLAIN_H

#include "../engine.h"
#include "prefix.h"

/* Sets `diverges` and `cached` by what the index holds now behind `root`. */
void explain_look(struct engine_explain *, const struct prefix_index *, int block_tokens,
                  struct prefix_key root, const int32_t *prompt, int n_prompt);
/* Sets the rest; `found` tokens were in the cache in the end. */
void explain_finish(struct engine_explain *, const int32_t *prompt, int n_prompt, int found);

#endif
