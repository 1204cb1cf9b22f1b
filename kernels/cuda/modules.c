/* Modules and their functions, loaded when they are first needed: a model uses two or three of the weight
 * layouts. */
#include "driver.h"

static int load(struct cuda *c, int module, const void *cubin)
{
    return c->api.module_load(&c->module[module], cubin);
}

int cuda_function(struct cuda *c, enum gpu_program program, enum gpu_weight weight, struct cuda_function **out,
                  struct err *err)
{
    const struct gpu_program_info *info = &gpu_programs[program];
    int module = info->typed ? 1 + (int)weight : 0;
    struct cuda_function **function = &c->function[module][program];
    if (!*function) {
        if (!c->module[module]) {
            int rc = cuda_compile(c, module, load, err);
            if (rc < 0)
                return rc;
        }
        char name[96];
        snprintf(name, sizeof name, "%s%s%s", info->name, info->typed ? "_" : "",
                 info->typed ? gpu_weight_names[weight] : "");
        int error = c->api.module_function(function, c->module[module], name);
        if (error != 0) {
            *function = NULL;
            char what[128];
            snprintf(what, sizeof what, "finding kernel %s", name);
            return cuda_call_failed(c, error, what, err);
        }
    }
    *out = *function;
    return 0;
}

void cuda_unload(struct cuda *c)
{
    for (int i = 0; i <= GPU_WEIGHT_COUNT; i++)
        if (c->module[i])
            c->api.module_unload(c->module[i]);
}
