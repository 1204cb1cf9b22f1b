/* What is counted on the loop's side, and /metrics. */
#ifndef HEARTH_API_METRICS_H
#define HEARTH_API_METRICS_H

#include "../../engine/engine.h"
#include "../http/http.h"

struct api;
struct part;

enum { METRICS_STATUSES = 24 };

struct metrics {
    int64_t started; /* Unix time */
    struct engine_histogram first_token, between_tokens, queue;
    uint64_t prompt_tokens, cached_tokens; /* of requests that ended */
    uint64_t ended[FINISH_DEADLINE + 1];   /* choices, by enum finish; FINISH_NONE: failed requests */
    struct {
        int status;
        uint64_t count;
    } answers[METRICS_STATUSES];
};

/* An answer with this status begins. */
void metrics_answer(struct metrics *, int status);
/* An event, before anything else is done with it. */
void metrics_event(struct metrics *, struct part *, const struct engine_event *);

/* GET /metrics, in Prometheus' text format. */
void metrics_reply(struct api *, struct http_request *);

#endif
