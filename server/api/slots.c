/* The view of what runs. The engine's slots name our parts, which live until their last event is handled. */
#include "slots.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "job.h"

enum { SLOTS_MAX = 4096 };

static json_t *slot_json(const struct engine_slot *slot)
{
    static const char *const states[] = {
        [ENGINE_SLOT_WAITING] = "waiting", [ENGINE_SLOT_PREFILL] = "prefill",
        [ENGINE_SLOT_DECODE] = "decode",   [ENGINE_SLOT_PAUSED] = "paused",
        [ENGINE_SLOT_PREEMPTED] = "preempted",
    };
    const struct part *part = slot->user; /* NULL: prefilled for the cache, by ourselves */
    const struct job *job = part ? part->job : NULL;
    char owner[17];
    snprintf(owner, sizeof owner, "%016" PRIx64, slot->owner);
    return json_pack("{s:s, s:s*, s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:b, s:f}", "id",
                     job ? job->id : "warm", "model", job ? job->asked->name : NULL, "prompt", job ? (int)(part - job->parts) : 0, "state",
                     states[slot->state], "prompt_tokens", slot->prompt_tokens, "cached_tokens",
                     slot->cached_tokens, "computed_tokens", slot->computed_tokens, "generated_tokens",
                     slot->generated_tokens, "max_tokens", slot->max_tokens, "choices", slot->choices,
                     "priority", slot->priority, "owner", owner, "stream", job && job->request.stream,
                     "age_seconds", round(slot->age * 1e3) / 1e3);
}

json_t *slots_json(struct api *api)
{
    struct engine_status status = {0};
    struct engine_slot *slots = NULL;
    int n = 0;
    if (api->engine) {
        engine_status(api->engine, &status);
        slots = malloc(SLOTS_MAX * sizeof *slots);
        if (!slots)
            return NULL;
        n = engine_slots(api->engine, slots, SLOTS_MAX);
    }
    json_t *list = json_array(), *object = NULL;
    int failed = !list;
    for (int i = 0; !failed && i < n && i < SLOTS_MAX; i++)
        failed = json_array_append_new(list, slot_json(&slots[i]));
    free(slots);
    if (!failed)
        object = json_pack("{s:s, s:i, s:i, s:O}", "state", api_state_name(api_state(api)), "running",
                           status.running, "waiting", status.waiting, "slots", list);
    json_decref(list);
    return object;
}
