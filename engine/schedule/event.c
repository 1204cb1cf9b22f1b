/* Events and lists of them. */
#include "event.h"

#include <string.h>

struct event *event_create(size_t text, size_t tokens, size_t tops, size_t wants, struct engine_top **top,
                           float **want)
{
    size_t token_bytes = tokens * sizeof(struct engine_token); /* all counts are bounded by the context */
    size_t top_bytes = tops * sizeof(struct engine_top), want_bytes = wants * sizeof(float);
    struct event *e = malloc(sizeof *e + token_bytes + top_bytes + want_bytes + text + 1);
    if (!e) return NULL;
    memset(e, 0, sizeof *e + token_bytes);
    char *room = (char *)(e + 1);
    struct engine_token *token = (struct engine_token *)room;
    *top = (struct engine_top *)(room + token_bytes);
    *want = (float *)(room + token_bytes + top_bytes);
    char *bytes = room + token_bytes + top_bytes + want_bytes;
    bytes[text] = 0;
    e->event.text = bytes;
    e->event.length = text;
    e->event.tokens = token;
    e->event.n_tokens = tokens;
    return e;
}

int event_tops(const struct engine_top *top, int n)
{
    while (n > 0 && top[n - 1].id < 0) n--;
    return n;
}

void engine_event_free(struct engine_event *event)
{
    free(event);
}

void event_list_add(struct event_list *list, struct event *e)
{
    e->next = NULL;
    *(list->last ? &list->last->next : &list->first) = e;
    list->last = e;
}

void event_list_append(struct event_list *list, struct event_list *from)
{
    if (!from->first) return;
    *(list->last ? &list->last->next : &list->first) = from->first;
    list->last = from->last;
    from->first = from->last = NULL;
}

struct event *event_list_take(struct event_list *list)
{
    struct event *e = list->first;
    if (!e) return NULL;
    list->first = e->next;
    if (!list->first) list->last = NULL;
    return e;
}

void event_list_free(struct event_list *list)
{
    for (struct event *e; (e = event_list_take(list));) engine_event_free(&e->event);
}

void event_list_cancel(struct event_list *list, uint64_t id)
{
    struct event_list kept = {0};
    for (struct event *e; (e = event_list_take(list));) {
        struct engine_event *event = &e->event;
        if (event->id != id) {
            event_list_add(&kept, e);
        } else if (event->last || event->kind == ENGINE_FAILED) {
            event->kind = ENGINE_DONE;
            event->finish = FINISH_CANCELLED;
            event->choice = 0;
            event->last = true;
            event_list_add(&kept, e);
        } else {
            engine_event_free(event);
        }
    }
    *list = kept;
}
