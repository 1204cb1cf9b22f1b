/* One tool call as JSON, perhaps not all there yet: where its parts are. */
#ifndef HEARTH_API_CALL_SCAN_H
#define HEARTH_API_CALL_SCAN_H

#include <stdbool.h>
#include <stddef.h>

enum scan { SCAN_NO, SCAN_MORE, SCAN_YES };

/* Follows JSON through strings and brackets, byte by byte. */
struct nesting {
    int depth;
    bool in_string, escaped;
};
void nesting_next(struct nesting *, char c);

struct call_scan {
    size_t name, name_end;           /* the string, with its quotes; name_end 0: not there yet */
    size_t arguments, arguments_end; /* the value; arguments 0: not there yet, arguments_end 0: not all */
    size_t end;                      /* of the object; 0: not there yet */
};
/* `text` begins with "{". SCAN_NO: no object with "name" and "arguments" or "parameters" begins so.
 * SCAN_MORE: it may be one, and *scan tells what is there. SCAN_YES: the object is complete. */
enum scan call_scan(const char *text, size_t length, struct call_scan *scan);

#endif
