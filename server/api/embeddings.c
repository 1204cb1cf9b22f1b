/* The parameters of embeddings. */
#include "embeddings.h"

#include <string.h>

int api_read_encoding(struct api_request *request, const json_t *value, struct api_error *error)
{
    const char *name = json_string_value(value);
    if (!name || (strcmp(name, "float") != 0 && strcmp(name, "base64") != 0))
        return api_error_set(error, 400, name ? "invalid_value" : "invalid_type", "encoding_format",
                             "'encoding_format' must be \"float\" or \"base64\".");
    request->base64 = strcmp(name, "base64") == 0;
    return 0;
}

int api_read_pooling(struct api_request *request, const json_t *value, struct api_error *error)
{
    static const char *const names[] = {
        [ENGINE_POOL_MEAN] = "mean", [ENGINE_POOL_CLS] = "cls", [ENGINE_POOL_LAST] = "last"};
    const char *given = json_string_value(value);
    for (size_t i = ENGINE_POOL_MEAN; given && i < sizeof names / sizeof *names; i++) {
        if (strcmp(given, names[i]) != 0)
            continue;
        request->pooling = (enum engine_pooling)i;
        return 0;
    }
    return api_error_set(error, 400, given ? "invalid_value" : "invalid_type", "pooling",
                         "'pooling' must be \"mean\", \"last\" or \"cls\".");
}

int api_prepare_embeddings(struct api_request *request, const struct model *model, struct api_error *error)
{
    const struct model_info *info = engine_model_info(model);
    if (request->dimensions > info->width)
        return api_error_set(error, 400, "invalid_value", "dimensions",
                             "'dimensions' must not be above %d, the width of the model.", info->width);
    if (!request->pooling)
        request->pooling = info->pooling ? info->pooling : ENGINE_POOL_MEAN;
    return 0;
}
