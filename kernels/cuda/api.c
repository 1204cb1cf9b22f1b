/* Opens NVIDIA's libraries. They are never closed: the driver keeps threads and exit handlers of its own. */
#include "api.h"

#include <dlfcn.h>
#include <string.h>

/* Fills the function pointers that stand one after the other at `calls`; the name of the first missing
 * symbol, or NULL. */
static const char *find(void *library, void *calls, const char *const *symbol, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *call = dlsym(library, symbol[i]);
        if (!call)
            return symbol[i];
        memcpy((char *)calls + i * sizeof call, &call, sizeof call);
    }
    return NULL;
}

int cuda_api_load(struct cuda_api *api, struct err *err)
{
#define X(member, symbol, parameters) #symbol,
    static const char *const symbols[] = {CUDA_CALLS(X)};
#undef X
    const char *name = getenv("HEARTH_LIBCUDA");
    void *library = dlopen(name ? name : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(err, ERR_UNSUPPORTED, "no CUDA: NVIDIA's driver is not installed (%s)", dlerror());
    const char *missing = find(library, api, symbols, sizeof symbols / sizeof *symbols);
    if (missing)
        return err_set(err, ERR_UNSUPPORTED,
                       "NVIDIA's driver is too old: %s is missing; version 525 (CUDA 12) or later is needed",
                       missing);
    return 0;
}

int nvrtc_api_load(struct nvrtc_api *api, struct err *err)
{
#define X(member, symbol, parameters) #symbol,
    static const char *const symbols[] = {NVRTC_CALLS(X)};
#undef X
    static const char *const files[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2",
                                        "/usr/local/cuda/lib64/libnvrtc.so"};
    const char *name = getenv("HEARTH_LIBNVRTC");
    void *library = name ? dlopen(name, RTLD_NOW | RTLD_LOCAL) : NULL;
    for (size_t i = 0; !name && !library && i < sizeof files / sizeof *files; i++)
        library = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(err, ERR_UNSUPPORTED, "NVRTC (libnvrtc.so.13, 12 or 11.2) is not installed");
    const char *missing = find(library, api, symbols, sizeof symbols / sizeof *symbols);
    if (missing)
        return err_set(err, ERR_UNSUPPORTED, "NVRTC is too old: %s is missing; version 11.2 or later is needed",
                       missing);
    return 0;
}
