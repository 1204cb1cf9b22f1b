/* Events on their way from the worker to engine_poll. */
#ifndef HEARTH_EVENT_H
#define HEARTH_EVENT_H

#include "../engine.h"

/* One allocation holds the event and everything it points to. */
struct event {
    struct engine_event event; /* first: engine_event_free gets a pointer to it */
    struct event *next;
    struct engine_explain explain; /* what event.explain points to */
};

struct event_list {
    struct event *first, *last;
};

/* Room for `text` bytes and a NUL, tokens, alternatives and wanted log-probabilities. The pointers
 * of the event are set; *top and *want are the room for the last two. NULL: out of memory. */
struct event *event_create(size_t text, size_t tokens, size_t tops, size_t wants, struct engine_top **top,
                           float **want);
/* How many of n alternatives there are: a small vocabulary may have fewer than were asked for. */
int event_tops(const struct engine_top *, int n);
void event_list_add(struct event_list *, struct event *);
void event_list_append(struct event_list *, struct event_list *from); /* `from` is empty afterwards */
struct event *event_list_take(struct event_list *);                   /* the first, or NULL */
void event_list_free(struct event_list *);

/* Removes a request's events; one that ends it stays and tells FINISH_CANCELLED. */
void event_list_cancel(struct event_list *, uint64_t id);

#endif
