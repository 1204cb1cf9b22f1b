/* hearth inspect: what is in a model file. */
#include <string.h>

#include "cache.h"
#include "commands.h"
#include "session.h"
#include "text.h"

static void print_value(const json_t *value)
{
    const char *text = json_string_value(value);
    if (!text) {
        char *dumped = json_dumps(value, JSON_ENCODE_ANY);
        printf("%.100s%s\n", dumped ? dumped : "?", dumped && strlen(dumped) > 100 ? "…" : "");
        free(dumped);
        return;
    }
    size_t length = strcspn(text, "\n");
    bool whole = length <= 100 && text[length] == 0;
    size_t shown = length < 100 ? length : 100;
    while (shown > 0 && (text[shown] & 0xc0) == 0x80) /* no half characters */
        shown--;
    printf("%.*s%s\n", (int)shown, text, whole ? "" : "…");
}

static void print_tensor(const json_t *tensor)
{
    char bytes[16];
    text_bytes((uint64_t)json_integer_value(json_object_get(tensor, "bytes")), bytes);
    printf("  %-32s %-6s %8s ", json_string_value(json_object_get(tensor, "name")),
           json_string_value(json_object_get(tensor, "type")), bytes);
    size_t i;
    json_t *extent;
    json_array_foreach (json_object_get(tensor, "shape"), i, extent)
        printf("%s%lld", i ? " x " : " ", (long long)json_integer_value(extent));
    putchar('\n');
}

/* How many tensors there are of each type, and how many bytes. */
static int print_types(const json_t *tensors)
{
    json_t *types = json_object(), *tensor, *sum;
    size_t i;
    const char *type;
    json_array_foreach (tensors, i, tensor) {
        type = json_string_value(json_object_get(tensor, "type"));
        json_t *before = json_object_get(types, type);
        json_int_t bytes = json_integer_value(json_object_get(tensor, "bytes"));
        json_t *after = json_pack("[I,I]", json_integer_value(json_array_get(before, 0)) + 1,
                                  json_integer_value(json_array_get(before, 1)) + bytes);
        if (json_object_set_new(types, type, after) != 0) {
            json_decref(types);
            return -1;
        }
    }
    json_object_foreach (types, type, sum) {
        char bytes[16];
        text_bytes((uint64_t)json_integer_value(json_array_get(sum, 1)), bytes);
        printf("  %-8s %6lld tensors  %8s\n", type, (long long)json_integer_value(json_array_get(sum, 0)),
               bytes);
    }
    json_decref(types);
    return 0;
}

static int print_text(const json_t *report)
{
    const json_t *tensors = json_object_get(report, "tensors");
    printf("%s: GGUF version %lld, %lld file(s)\n\nmetadata\n",
           json_string_value(json_object_get(report, "path")),
           (long long)json_integer_value(json_object_get(report, "version")),
           (long long)json_integer_value(json_object_get(report, "files")));
    const char *key;
    json_t *value, *tensor;
    json_object_foreach (json_object_get(report, "metadata"), key, value) {
        printf("  %-44s ", key);
        print_value(value);
    }
    printf("\ntensors (%zu; innermost extent first)\n", json_array_size(tensors));
    size_t i;
    json_array_foreach (tensors, i, tensor)
        print_tensor(tensor);
    printf("\ntypes\n");
    return print_types(tensors);
}

int command_inspect(const struct options *o)
{
    struct err e;
    char *directory = NULL, *path = NULL;
    json_t *report = NULL;
    int status = session_cache(o, &directory, &e);
    if (status == 0)
        status = cache_resolve(o->arguments[0], directory, &path, NULL, &e);
    if (status == 0)
        status = engine_inspect(path, &report, &e);
    if (status == 0) {
        int printed =
            option_flag(o, OPTION_JSON) ? json_dumpf(report, stdout, JSON_INDENT(2)) : print_text(report);
        if (printed < 0)
            status = err_set(&e, ERR_IO, "the report cannot be written");
        else if (option_flag(o, OPTION_JSON))
            putchar('\n');
    }
    json_decref(report);
    free(path);
    free(directory);
    return status < 0 ? text_fail(&e) : 0;
}
