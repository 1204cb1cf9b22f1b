/* Small helpers for those who read members of JSON objects. */
#ifndef HEARTH_API_MEMBERS_H
#define HEARTH_API_MEMBERS_H

#include <jansson.h>

#include "errors.h"

/* NULL where it is absent or null. */
static inline json_t *member(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

/* NULL where it is no string. */
static inline const char *text_member(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static inline int invalid_member(struct api_error *error, const char *param, const char *wanted)
{
    return api_error_set(error, 400, "invalid_value", param, "'%s' must be %s.", param, wanted);
}

#endif
