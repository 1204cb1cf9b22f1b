/* The CUDA driver's parts. Private to kernels/cuda/.
 *
 * Work goes to one stream in the order of the lists. What a kernel did wrong shows in a later call and
 * spoils the context for good: `broken` then answers every call until the device is closed. */
#ifndef HEARTH_CUDA_DRIVER_H
#define HEARTH_CUDA_DRIVER_H

#include "../gpu/gpu.h"
#include "api.h"

struct gpu_memory {
    uint64_t address;
    size_t bytes;
};

/* A list that was submitted, or a free place for one. */
struct cuda_list {
    uint64_t ticket; /* 0: free */
    struct cuda_event *end;
    unsigned char *pinned; /* page-locked memory that copies go through; the card sees it at this address */
    size_t pinned_bytes;
    struct cuda_copy { /* those that do, in the order of the list */
        void *host;    /* of a download; NULL: of an upload, whose bytes are there */
        size_t at, bytes; /* in pinned; none where a copy does not go through it */
    } *copy;
    size_t copies, capacity;
};

/* Runs of dispatches by what they do (graph.c). */
struct cuda_run {
    uint64_t hash[2];
    uint64_t used; /* when, in submitted runs; 0: an empty place */
    struct cuda_executable *executable;
    bool refused; /* capture failed: launched one by one for good */
};
#define CUDA_RUNS 256  /* remembered */
#define CUDA_GRAPHS 64 /* of them instantiated */

struct cuda {
    struct cuda_api api;
    char name[32]; /* "cuda:1", for messages */
    int device, arch, version; /* compute capability as 90; of the driver, as 13000 */
    int cores;
    bool dependent; /* has dependent launch */
    struct cuda_context *context;
    struct cuda_stream *stream;
    bool capturing; /* launches go into a graph */
    struct err broken;

    struct cuda_module *module[1 + GPU_WEIGHT_COUNT]; /* plain, then by weight */
    struct cuda_function *function[1 + GPU_WEIGHT_COUNT][GPU_PROGRAM_COUNT];

    uint64_t ticket; /* of the newest list */
    struct cuda_list list[GPU_IN_FLIGHT];

    struct cuda_run run[CUDA_RUNS];
    uint64_t runs;
    int graphs;
    unsigned char *key; /* what a run is hashed from */
    size_t key_bytes;

    struct cuda_event *begin, *end; /* timed */
    bool profiling;
    double seconds[OPERATOR_COUNT];
};

/* Opening and closing (open.c). */
int cuda_open(void **state, const struct device_options *, struct gpu_facts *, struct err *) WARN_UNUSED;
void cuda_close(void *state);

/* Sets *err to ERR_DEVICE with the driver's name and words for its error, after `what` failed. */
int cuda_error(struct cuda *, int error, const char *what, struct err *);
/* The same for a call that may report what an earlier kernel did: waits for the end of all that is queued,
 * and so finds out whether the context is lost. */
int cuda_call_failed(struct cuda *, int error, const char *what, struct err *);

/* The kernel's function, its module loaded, and compiled if need be (modules.c). */
int cuda_function(struct cuda *, enum gpu_program, enum gpu_weight, struct cuda_function **, struct err *);
void cuda_unload(struct cuda *);

/* Compiled code for this card, from the cache, the embedded PTX or NVRTC (compile.c): calls use(c, module,
 * cubin) with it; 0 when that took it. `module` as in struct cuda. */
int cuda_compile(struct cuda *, int module, int (*use)(struct cuda *, int module, const void *cubin), struct err *);
const char *cuda_module_name(int module); /* "plain", "Q8_0_split" */

/* Files of compiled code (cache.c). A file that is missing, cut or damaged reads as NULL. */
struct cuda_cache_key {
    uint64_t hash[2];
    const char *module;
};
void *cuda_cache_read(const struct cuda_cache_key *, size_t *bytes); /* freed by the caller */
void cuda_cache_write(const struct cuda_cache_key *, const void *cubin, size_t bytes);

/* Launches one dispatch; `after_dispatch`: the stream's last work is one (driver.c). */
int cuda_launch_step(struct cuda *, const struct gpu_step *, bool after_dispatch, struct err *);

/* Steps of a list that follow each other: dispatches, and copies that kernels do. */
struct cuda_steps {
    const struct gpu_step *step;
    int n;
    unsigned char *pinned;
    const struct cuda_copy *copy; /* of its first copy */
};
/* The next of them as a dispatch: itself, or one made in *room (driver.c). */
struct cuda_made {
    struct gpu_step step;
    struct gpu_memory pinned;
};
const struct gpu_step *cuda_next_step(struct cuda_steps *, struct cuda_made *room);
/* Launches all of them, whose functions are loaded; as a graph where they come again (graph.c). */
int cuda_launch_run(struct cuda *, struct cuda_steps, struct err *);
void cuda_drop_graphs(struct cuda *);

#endif
