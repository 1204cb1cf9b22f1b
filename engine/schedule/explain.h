/* Why a prompt was not in the cache: where it leaves the nearest text that is, and what follows there. Of texts of
 * others it tells no more than usage does: which whole blocks were there. */
#ifndef HEARTH_EXPLAIN_H
#define HEARTH_EXPLAIN_H

#include "../engine.h"
#include "kv_blocks.h"

/* Sets `diverges` and `cached` by what the index holds now of the text with this root and owner. */
void explain_look(struct engine_explain *, const struct prefix_index *, int block_tokens,
                  const struct kv_table *, const int32_t *prompt, int n_prompt);
/* Sets the rest; `found` tokens were in the cache in the end. */
void explain_finish(struct engine_explain *, const int32_t *prompt, int n_prompt, int found);

#endif
