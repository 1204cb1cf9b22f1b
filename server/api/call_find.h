/* Tool calls in the text of a model. */
#ifndef HEARTH_API_CALL_FIND_H
#define HEARTH_API_CALL_FIND_H

#include "call_scan.h"
#include "pieces.h"

struct call_rules {
    enum call_syntax calls;
    const json_t *tools;
    bool line_start; /* nothing but blanks is before the place in its line */
    bool in_fence;   /* it is in a code block */
    bool final;      /* no more text will come */
};
/* A call that begins at a place. */
struct call_opening {
    size_t object;         /* where its "{" is, from that place */
    struct call_scan scan; /* from the object on */
    bool tagged, fenced;
};
/* Whether a call begins at `text`; SCAN_MORE: not to be told yet. */
enum scan call_find(const struct call_rules *, const char *text, size_t length, struct call_opening *);

/* Parts of a call that call_find has found; `object` is its "{". New references, NULL without memory. */
json_t *call_name(const char *object, const struct call_scan *);
/* The arguments as JSON text of an object, also out of the string that some models make of it; NULL, too, where they
 * are none. Not for those that stream. */
json_t *call_arguments(const char *object, const struct call_scan *);
/* Whether the arguments, not all there perhaps, can be given as they come. */
bool call_streams(const char *object, const struct call_scan *);

/* Whether the text begins with the marker; SCAN_MORE: it ends within it. */
enum scan call_marker(const char *text, size_t length, const char *marker);
/* How many blanks it begins with. */
size_t call_blanks(const char *text, size_t length);

#endif
