/* hearth.cache of an answer: how much of a prompt was cached, and where it parts from the nearest cached text. */
#ifndef HEARTH_API_EXPLAIN_H
#define HEARTH_API_EXPLAIN_H

#include <jansson.h>

#include "../../engine/engine.h"

/* A new object; event->explain is there. NULL without memory. */
json_t *api_explain(const struct model *, const struct engine_event *);

#endif
