/* The adapters of a model: their files, and what stands for them in the prefix cache's keys. */
#include <string.h>

#include "engine_private.h"
#include "schedule/tier.h"

static int open_one(struct adapter_list *list, const struct gguf *model, const char *path, struct err *err)
{
    struct err why;
    struct gguf **file = &list->file[list->n];
    int rc = gguf_open(file, path, err);
    if (rc) return rc;
    rc = adapter_read(&list->adapter[list->n], *file, model, &why);
    if (rc) {
        gguf_close(*file);
        return err_set(err, rc, "LoRA adapter %s: %s", path, why.text);
    }
    list->n++;
    return 0;
}

int adapters_open(struct adapter_list *list, const struct gguf *model, const struct model_options *o,
                  struct err *err)
{
    int rc = 0;
    *list = (struct adapter_list){0};
    if (o->n_adapters > ADAPTERS_MAX) {
        return err_set(err, ERR_INVALID, "%zu LoRA adapters: a model takes %d at most", o->n_adapters, ADAPTERS_MAX);
    }
    for (size_t i = 0; i < o->n_adapters && !rc; i++) {
        list->scale[i] = o->adapters[i].scale;
        rc = open_one(list, model, o->adapters[i].path, err);
    }
    if (rc) adapters_close(list);
    return rc;
}

int adapters_digest(struct adapter_list *list, struct err *err)
{
    int rc = 0;
    for (int i = 0; i < list->n && !rc; i++) {
        double alpha = adapter_alpha(list->adapter[i]);
        rc = gguf_unchanged(list->file[i], err);
        if (!rc) list->key[i] = prefix_root_behind(tier_digest(list->file[i]), &alpha, sizeof alpha);
    }
    return rc;
}

size_t adapters_scales(const struct adapter_list *list, struct engine_scale out[ADAPTERS_MAX])
{
    for (int i = 0; i < list->n; i++) out[i] = (struct engine_scale){i, list->scale[i]};
    return (size_t)list->n;
}

void adapters_close(struct adapter_list *list)
{
    for (int i = 0; i < list->n; i++) {
        adapter_free(list->adapter[i]);
        gguf_close(list->file[i]);
    }
    list->n = 0;
}
