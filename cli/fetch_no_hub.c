/* In place of fetch_hub.c in a build without libcurl. */
#include "fetch.h"

int fetch_from_hub(const struct catalogue_model *m, const struct fetch_options *o, struct err *e)
{
    (void)m;
    return err_set(e, ERR_UNSUPPORTED, "%s: this build cannot download (it was built without libcurl)", o->hub);
}
