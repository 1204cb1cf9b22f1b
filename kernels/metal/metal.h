/* The Metal driver's parts, private to metal/. Manual retain and release, no blocks: the files also
 * compile where there is neither (tests/metal). One thread calls everything, but for the heartbeat of
 * residency.m. */
#ifndef HEARTH_METAL_H
#define HEARTH_METAL_H

#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#include <pthread.h>

#include "../gpu/gpu.h"

enum { METAL_ARGS = 29, METAL_NULL = 30 }; /* buffer indexes beside the operands: as in compat_metal.h */
#define METAL_ALIGNMENT 256

/* ---- memory.m ---- */

/* One MTLBuffer: an allocation, or a range of host pages that tensors share. */
struct metal_buffer {
    id<MTLBuffer> buffer;
    int users;
    const unsigned char *begin, *end; /* wrapped pages; NULL of an allocation */
    struct metal_buffer *next;        /* wrapped ones are listed */
};

/* What a concurrent encoder has touched of an allocation since its last barrier. */
struct metal_hazards {
    uint64_t encoder;
    int n;
    struct {
        size_t begin, end;
        bool written;
    } range[8];
};

struct gpu_memory {
    struct metal_buffer *buffer; /* NULL: wrapped pages that have no buffer yet */
    size_t base;                 /* bytes into it */
    const unsigned char *data;   /* of wrapped memory */
    size_t bytes;
    struct metal_hazards hazards;
    struct gpu_memory *next;     /* waits for metal_seal */
};

/* MTLResidencySet's methods; declared here because SDKs before macOS 15 have not heard of it. */
@protocol MetalResidency
- (void)addAllocation:(id)allocation;
- (void)removeAllocation:(id)allocation;
- (void)commit;
- (void)requestResidency;
- (void)endResidency;
@end

/* Residency is kept warm for a while after the last request. NULL set: the system has none. */
struct metal_residency {
    id<MetalResidency, NSObject> set;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool started, stop, held, busy;
    int beats; /* left until it is given up */
};

/* ---- lists ---- */

struct metal_download {
    void *host;
    size_t offset, bytes; /* in the list's staging memory */
};

struct metal_command_buffer {
    id<MTLCommandBuffer> buffer;
    double predicted, op[OPERATOR_COUNT]; /* seconds */
    double groups[GPU_PROGRAM_COUNT];
    const char *first_stage, *last_stage;
    int first_layer, last_layer;
};

/* One submitted list. Its arrays stay allocated for the next. */
struct metal_list {
    uint64_t ticket; /* 0: free */
    struct metal_command_buffer *command;
    int n_commands, command_capacity;
    struct metal_download *download;
    int n_downloads, download_capacity;
    id<MTLBuffer> staging;
    size_t staging_bytes, staging_used;
};

struct metal_failure {
    uint64_t ticket;
    struct err err;
};

struct metal {
    id<MTLDevice> device;
    id<MTLCommandQueue> queue;
    id<MTLLibrary> library[GPU_WEIGHT_COUNT + 1]; /* the last: plain kernels */
    id<MTLComputePipelineState> pipeline[GPU_PROGRAM_COUNT][GPU_WEIGHT_COUNT];
    id<MTLBuffer> null; /* stands for absent operands */
    size_t page, max_buffer;
    struct metal_buffer *wrapped;
    struct gpu_memory *unsealed;
    struct metal_residency residency;
    struct metal_list list[GPU_IN_FLIGHT]; /* of ticket t: t % GPU_IN_FLIGHT */
    uint64_t submitted, finished;
    uint64_t encoders;                   /* numbers them for hazards */
    double seconds[GPU_PROGRAM_COUNT];   /* of one group, learned */
    double profile[OPERATOR_COUNT];
    struct metal_failure failure[8];     /* of lists that nobody has waited for yet */
    int failures;
    struct err lost;                     /* the device is gone: every later call says so */
};

int metal_alloc(void *state, size_t bytes, struct gpu_memory **, struct err *) WARN_UNUSED;
int metal_wrap(void *state, const void *data, size_t bytes, struct gpu_memory **, size_t *offset,
               struct err *) WARN_UNUSED;
void metal_free(void *state, struct gpu_memory *);
/* Gives all wrapped memory its buffers: tensors whose pages touch share one, as long as it may be. */
int metal_seal(struct metal *, struct err *) WARN_UNUSED;

/* ---- residency.m ---- */

void metal_residency_init(struct metal *);
void metal_residency_dispose(struct metal *);
void metal_residency_add(struct metal *, id<MTLBuffer>);
void metal_residency_remove(struct metal *, id<MTLBuffer>);
void metal_residency_hold(struct metal *);    /* work comes */
void metal_residency_release(struct metal *); /* nothing to do: given up after minutes, or under pressure */

/* ---- pipelines.m ---- */

int metal_pipeline(struct metal *, const struct gpu_step *, id<MTLComputePipelineState> *,
                   struct err *) WARN_UNUSED;

/* ---- encode.m ---- */

/* Encodes and commits the steps; `list` then holds what to wait for, also after a failure. */
int metal_encode(struct metal *, struct metal_list *, const struct gpu_step *, int n,
                 struct err *) WARN_UNUSED;
/* Learns from the time that a command buffer took. */
void metal_learn(struct metal *, const struct metal_command_buffer *, double seconds);

#endif
