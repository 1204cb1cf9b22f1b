/* GET /slots: what runs and what waits. */
#ifndef HEARTH_API_SLOTS_H
#define HEARTH_API_SLOTS_H

#include "internal.h"

/* {"state","running","waiting","slots":[{"id","state","prompt_tokens",…}…]}, the oldest first; never a word
 * of any prompt. NULL only without memory. The caller's. */
json_t *slots_json(struct api *);

#endif
