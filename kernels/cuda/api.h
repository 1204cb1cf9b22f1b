/* The few calls of NVIDIA's driver API (libcuda) and of its runtime compiler (NVRTC) that hearth uses,
 * found at run time: neither headers nor libraries are needed to build, nor on machines without a GPU.
 * HEARTH_LIBCUDA and HEARTH_LIBNVRTC name other files to open (tests; unusual installations). */
#ifndef HEARTH_CUDA_API_H
#define HEARTH_CUDA_API_H

#include <stddef.h>
#include <stdint.h>

#include "../err.h"

struct cuda_context;
struct cuda_stream;
struct cuda_event;
struct cuda_module;
struct cuda_function;
struct cuda_graph;
struct cuda_executable; /* an instantiated graph */
struct cuda_link;
struct nvrtc_program;

/* Values of the driver's ABI. */
enum {
    CUDA_OUT_OF_MEMORY = 2,
    CUDA_NO_DEVICE = 100,
    CUDA_MULTIPROCESSORS = 16, /* device attributes */
    CUDA_CAPABILITY_MAJOR = 75,
    CUDA_CAPABILITY_MINOR = 76,
    CUDA_STREAM_NON_BLOCKING = 1,
    CUDA_EVENT_DISABLE_TIMING = 2,
    CUDA_CAPTURE_THREAD_LOCAL = 1,
    CUDA_LAUNCH_DEPENDENT = 6, /* attribute: programmatic stream serialization */
    CUDA_JIT_ERROR_LOG = 5,    /* options of the linker */
    CUDA_JIT_ERROR_LOG_BYTES = 6,
    CUDA_JIT_INPUT_PTX = 1,
};

struct cuda_launch_attribute {
    int id;
    char unused[4];
    union {
        char bytes[64];
        int allowed;
        uint64_t alignment;
    } value;
};
_Static_assert(sizeof(struct cuda_launch_attribute) == 72, "CUlaunchAttribute");

struct cuda_launch {
    unsigned grid[3], group[3];
    unsigned shared_bytes;
    struct cuda_stream *stream;
    struct cuda_launch_attribute *attribute;
    unsigned attributes;
};
_Static_assert(sizeof(struct cuda_launch) == 56, "CUlaunchConfig");

/* X(member, symbol, parameters); all return 0 or an error. */
#define CUDA_CALLS(X)                                                                                          \
    X(init, cuInit, (unsigned flags))                                                                          \
    X(driver_version, cuDriverGetVersion, (int *version))                                                      \
    X(error_name, cuGetErrorName, (int error, const char **name))                                              \
    X(error_text, cuGetErrorString, (int error, const char **text))                                            \
    X(device_count, cuDeviceGetCount, (int *count))                                                            \
    X(device_get, cuDeviceGet, (int *device, int ordinal))                                                     \
    X(device_name, cuDeviceGetName, (char *name, int length, int device))                                      \
    X(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, int device))                         \
    X(context_retain, cuDevicePrimaryCtxRetain, (struct cuda_context **, int device))                          \
    X(context_release, cuDevicePrimaryCtxRelease_v2, (int device))                                             \
    X(context_set, cuCtxSetCurrent, (struct cuda_context *))                                                   \
    X(memory_info, cuMemGetInfo_v2, (size_t *free, size_t *total))                                             \
    X(memory_alloc, cuMemAlloc_v2, (uint64_t *address, size_t bytes))                                          \
    X(memory_free, cuMemFree_v2, (uint64_t address))                                                           \
    X(memory_set, cuMemsetD8Async, (uint64_t address, unsigned char value, size_t bytes, struct cuda_stream *)) \
    X(copy_in, cuMemcpyHtoDAsync_v2, (uint64_t to, const void *from, size_t bytes, struct cuda_stream *))      \
    X(copy_out, cuMemcpyDtoHAsync_v2, (void *to, uint64_t from, size_t bytes, struct cuda_stream *))           \
    X(pinned_alloc, cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags))                             \
    X(pinned_free, cuMemFreeHost, (void *memory))                                                              \
    X(stream_create, cuStreamCreate, (struct cuda_stream **, unsigned flags))                                  \
    X(stream_destroy, cuStreamDestroy_v2, (struct cuda_stream *))                                              \
    X(stream_wait, cuStreamSynchronize, (struct cuda_stream *))                                                \
    X(capture_begin, cuStreamBeginCapture_v2, (struct cuda_stream *, int mode))                                \
    X(capture_end, cuStreamEndCapture, (struct cuda_stream *, struct cuda_graph **))                           \
    X(event_create, cuEventCreate, (struct cuda_event **, unsigned flags))                                     \
    X(event_destroy, cuEventDestroy_v2, (struct cuda_event *))                                                 \
    X(event_record, cuEventRecord, (struct cuda_event *, struct cuda_stream *))                                \
    X(event_wait, cuEventSynchronize, (struct cuda_event *))                                                   \
    X(event_elapsed, cuEventElapsedTime, (float *milliseconds, struct cuda_event *, struct cuda_event *))      \
    X(graph_instantiate, cuGraphInstantiateWithFlags,                                                          \
      (struct cuda_executable **, struct cuda_graph *, unsigned long long flags))                              \
    X(graph_destroy, cuGraphDestroy, (struct cuda_graph *))                                                    \
    X(executable_launch, cuGraphLaunch, (struct cuda_executable *, struct cuda_stream *))                      \
    X(executable_destroy, cuGraphExecDestroy, (struct cuda_executable *))                                      \
    X(module_load, cuModuleLoadData, (struct cuda_module **, const void *cubin))                               \
    X(module_unload, cuModuleUnload, (struct cuda_module *))                                                   \
    X(module_function, cuModuleGetFunction, (struct cuda_function **, struct cuda_module *, const char *name)) \
    X(link_create, cuLinkCreate_v2, (unsigned n, int *options, void **values, struct cuda_link **))            \
    X(link_add, cuLinkAddData_v2,                                                                              \
      (struct cuda_link *, int type, void *data, size_t bytes, const char *name, unsigned n, int *options,     \
       void **values))                                                                                         \
    X(link_complete, cuLinkComplete, (struct cuda_link *, void **cubin, size_t *bytes))                        \
    X(link_destroy, cuLinkDestroy, (struct cuda_link *))                                                       \
    X(launch, cuLaunchKernelEx,                                                                                \
      (const struct cuda_launch *, struct cuda_function *, void **parameters, void **extra))

#define NVRTC_CALLS(X)                                                                                         \
    X(version, nvrtcVersion, (int *major, int *minor))                                                         \
    X(arch_count, nvrtcGetNumSupportedArchs, (int *count))                                                     \
    X(archs, nvrtcGetSupportedArchs, (int *archs))                                                             \
    X(create, nvrtcCreateProgram,                                                                              \
      (struct nvrtc_program **, const char *source, const char *name, int n, const char *const *headers,       \
       const char *const *names))                                                                              \
    X(destroy, nvrtcDestroyProgram, (struct nvrtc_program **))                                                 \
    X(compile, nvrtcCompileProgram, (struct nvrtc_program *, int n, const char *const *options))               \
    X(log_bytes, nvrtcGetProgramLogSize, (struct nvrtc_program *, size_t *bytes))                              \
    X(log, nvrtcGetProgramLog, (struct nvrtc_program *, char *log))                                            \
    X(cubin_bytes, nvrtcGetCUBINSize, (struct nvrtc_program *, size_t *bytes))                                 \
    X(cubin, nvrtcGetCUBIN, (struct nvrtc_program *, char *cubin))                                             \
    X(ptx_bytes, nvrtcGetPTXSize, (struct nvrtc_program *, size_t *bytes))                                     \
    X(ptx, nvrtcGetPTX, (struct nvrtc_program *, char *ptx))

struct cuda_api {
#define X(member, symbol, parameters) int(*member) parameters;
    CUDA_CALLS(X)
#undef X
};

struct nvrtc_api {
#define X(member, symbol, parameters) int(*member) parameters;
    NVRTC_CALLS(X)
#undef X
};

/* ERR_UNSUPPORTED where the library is missing or too old; the message says what to install. */
int cuda_api_load(struct cuda_api *, struct err *) WARN_UNUSED;
int nvrtc_api_load(struct nvrtc_api *, struct err *) WARN_UNUSED;

#endif
