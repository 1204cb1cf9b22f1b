/* What the GPU devices share: recorded commands become dispatches of portable kernels (plan.h), and a
 * driver (emulator, CUDA, Metal) executes them. Private to kernels/.
 *
 * A driver knows memory, dispatches and copies; it knows no operator. What it executes is the same
 * list on every driver, so what the emulator proves holds for the others. */
#ifndef HEARTH_GPU_H
#define HEARTH_GPU_H

#include "../backend.h"

/* How a weight lies in GPU memory: as in the file, or split into planes (layout.h). */
enum gpu_weight {
#define GPU_WEIGHT(name, dtype, split) GPU_WEIGHT_##name,
#include "weights.def"
#undef GPU_WEIGHT
    GPU_WEIGHT_COUNT
};

/* The kernels. Plain ones exist once, typed ones once per enum gpu_weight. */
enum gpu_program {
#define PROGRAM(name, threads) GPU_##name,
#define TYPED_PROGRAM(name, threads) GPU_##name,
#include "programs.def"
#undef PROGRAM
#undef TYPED_PROGRAM
    GPU_PROGRAM_COUNT
};

struct gpu_program_info {
    const char *name; /* "rms_norm"; the entry point of a typed one is name_WEIGHT: "matvec_Q8_0_split" */
    int threads;      /* of a group; a multiple of 32 */
    bool typed;
};
extern const struct gpu_program_info gpu_programs[GPU_PROGRAM_COUNT];
extern const char *const gpu_weight_names[GPU_WEIGHT_COUNT];

struct gpu_memory; /* one allocation or one wrapped range of host pages; the driver's */

#define GPU_MAX_OPERANDS 12
#define GPU_MAX_ARGS 128

/* One buffer argument; memory is NULL where an optional one is absent (kernels see a null pointer
 * or, where there is none, a dummy: arguments tell whether it is used). */
struct gpu_operand {
    struct gpu_memory *memory;
    size_t offset, bytes; /* the range that the kernel may touch */
    bool written;
    bool whole;           /* floats or halves that the kernel writes all of: the emulator sees to it */
    const char *name;     /* for messages */
};

enum gpu_step_kind { GPU_DISPATCH, GPU_UPLOAD, GPU_DOWNLOAD };

struct gpu_step {
    enum gpu_step_kind kind;
    /* GPU_DISPATCH */
    enum gpu_program program;
    enum gpu_weight weight;        /* of a typed program */
    uint32_t grid[3];              /* groups */
    uint32_t n_operands, args_bytes;
    unsigned char args[GPU_MAX_ARGS]; /* the kernel's argument struct */
    bool overlaps;                 /* a driver with dependent launch may start it before its predecessor
                                    * has ended: the kernel waits (DEPENDENCY_WAIT) before it reads results */
    bool launches_early;           /* … and that one before this one's own predecessors have
                                    * (DEPENDENCY_LAUNCH_EARLY) */
    enum operator op;              /* for messages and profiles */
    int layer;
    const char *stage;
    struct gpu_operand operand[GPU_MAX_OPERANDS]; /* copies use the first alone */
    /* GPU_UPLOAD: `host` was copied by the recorder and stays until the step list is over.
     * GPU_DOWNLOAD: `host` is filled when wait returns. */
    void *host;
};

struct gpu_facts {
    char name[32], description[128];
    int simd_width;      /* must be 32 */
    int cores;           /* multiprocessors: how many groups it takes to fill the GPU */
    size_t memory;       /* bytes that may be used: recommended working set, free memory; 0: unknown */
    bool unified;        /* weights are wrapped in place (wrap is there), never split into planes */
    bool int8_dot;       /* has 4-way integer dot products */
};

struct gpu_driver {
    int (*open)(void **state, const struct device_options *, struct gpu_facts *, struct err *);
    void (*close)(void *state);
    /* Zeroed memory, aligned to 256 bytes. ERR_NOMEM tells sizes. */
    int (*alloc)(void *state, size_t bytes, struct gpu_memory **out, struct err *);
    /* Makes host pages readable by the GPU without a copy; *offset is where `data` begins in the
     * result. NULL where the driver cannot. */
    int (*wrap)(void *state, const void *data, size_t bytes, struct gpu_memory **out, size_t *offset,
                struct err *);
    void (*free)(void *state, struct gpu_memory *); /* nothing that touches it is queued */
    /* Queues the steps: each sees the results of those before it. They are read before it returns,
     * except `host`. At most GPU_IN_FLIGHT lists are queued at a time. */
    int (*submit)(void *state, const struct gpu_step *, int n, uint64_t *ticket, struct err *);
    int (*wait)(void *state, uint64_t ticket, struct err *); /* of that list and all before it */
    void (*idle)(void *state);
    double (*bandwidth)(void *state, size_t bytes);
    void (*profile)(void *state, double *seconds);
};
#define GPU_IN_FLIGHT 4

extern const struct gpu_driver gpu_driver_emulator;
extern const struct gpu_driver gpu_driver_cuda;
extern const struct gpu_driver gpu_driver_metal;

extern const struct backend backend_emulator, backend_cuda, backend_metal;

/* The source of all kernels as one text (flatten.py): what NVRTC and Metal compile. GPU_TYPED and
 * GPU_WEIGHT_NAME select a module: plain kernels, or the typed ones of one weight layout. */
extern const char gpu_source[];

#endif
