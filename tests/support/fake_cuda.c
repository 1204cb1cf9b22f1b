/* The calls of kernels/cuda/api.h without a card. */
#include <string.h>

#include "fake_cuda_private.h"

struct fake_cuda fake_cuda;

static const char *const symbols[] = {
#define X(member, symbol, parameters) #symbol,
    CUDA_CALLS(X) NVRTC_CALLS(X)
#undef X
};
#define SYMBOLS (sizeof symbols / sizeof *symbols)
static int calls[SYMBOLS];
static int sticky;

struct work {
    enum { COPY, SET, KERNEL } kind;
    void *to;
    const void *from;
    size_t bytes;
    int value;
};

struct works {
    struct work *work;
    size_t n, capacity;
};

struct cuda_stream {
    struct works queue;
    size_t done; /* of the queue */
    bool capturing;
    struct works captured;
};

struct cuda_event {
    struct cuda_stream *stream;
    size_t at; /* of its queue */
};

struct cuda_graph {
    struct works works;
};

struct cuda_executable {
    struct works works;
};

struct cuda_module {
    struct cuda_function *functions;
};

struct cuda_function {
    struct cuda_function *next;
    bool copies;
};

struct cuda_link {
    char cubin[16];
};

void fake_cuda_reset(void)
{
    memset(calls, 0, sizeof calls);
    sticky = 0;
    fake_cuda = (struct fake_cuda){.cards = 1, .major = 9, .minor = 0, .version = 13000, .memory = (size_t)1 << 34};
}

int fake_cuda_calls(const char *symbol)
{
    for (size_t i = 0; i < SYMBOLS; i++)
        if (strcmp(symbols[i], symbol) == 0)
            return calls[i];
    return -1;
}

int fake_cuda_count(const char *symbol)
{
    for (size_t i = 0; i < SYMBOLS; i++)
        if (strcmp(symbols[i], symbol) == 0)
            calls[i]++;
    if (fake_cuda.fail && strcmp(fake_cuda.fail, symbol) == 0 && fake_cuda.fail_at-- == 0) {
        sticky = fake_cuda.fail_code / 100 == 7 ? fake_cuda.fail_code : 0;
        fake_cuda.fail = NULL;
        return fake_cuda.fail_code;
    }
    return sticky;
}

void *fake_cuda_make(size_t bytes)
{
    fake_cuda.live++;
    return calloc(1, bytes);
}

void fake_cuda_unmake(void *object)
{
    fake_cuda.live--;
    free(object);
}

/* ---- work ---- */

static void add(struct works *works, const struct work *work)
{
    if (works->n == works->capacity) {
        works->capacity = works->capacity ? 2 * works->capacity : 64;
        works->work = realloc(works->work, works->capacity * sizeof *works->work);
    }
    works->work[works->n++] = *work;
}

static void queue(struct cuda_stream *stream, const struct work *work)
{
    add(stream->capturing ? &stream->captured : &stream->queue, work);
}

static void run_until(struct cuda_stream *stream, size_t end)
{
    for (; stream->done < end; stream->done++) {
        const struct work *work = &stream->queue.work[stream->done];
        int old;
        if (work->kind == COPY) {
            memcpy(work->to, work->from, work->bytes);
        } else if (work->kind == SET) {
            memset(work->to, work->value, work->bytes);
        } else if (work->to) {
            memcpy(&old, work->to, sizeof old);
            old += work->value;
            memcpy(work->to, &old, sizeof old);
        }
    }
}

int cuLaunchKernelEx(const struct cuda_launch *launch, struct cuda_function *function, void **parameters,
                     void **extra)
{
    COUNT;
    (void)extra;
    struct work work = {.kind = KERNEL};
    if (!function || !launch->grid[0] || !launch->grid[1] || !launch->grid[2] || launch->group[0] % 32)
        return 1;
    memcpy(&work.value, parameters[0], sizeof work.value);
    memcpy(&work.to, parameters[1], sizeof work.to);
    if (function->copies) {
        work.kind = COPY;
        work.from = work.to;
        work.bytes = (size_t)work.value * sizeof(int);
        memcpy(&work.to, parameters[2], sizeof work.to);
    }
    fake_cuda.launches++;
    if (launch->attributes && launch->attribute->id == CUDA_LAUNCH_DEPENDENT && launch->attribute->value.allowed)
        fake_cuda.dependent++;
    queue(launch->stream, &work);
    return 0;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, struct cuda_stream *stream)
{
    COUNT;
    queue(stream, &(struct work){COPY, (void *)(uintptr_t)to, from, bytes, 0});
    return 0;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, struct cuda_stream *stream)
{
    COUNT;
    queue(stream, &(struct work){COPY, to, (void *)(uintptr_t)from, bytes, 0});
    return 0;
}

int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, struct cuda_stream *stream)
{
    COUNT;
    queue(stream, &(struct work){SET, (void *)(uintptr_t)to, NULL, bytes, value});
    return 0;
}

int cuStreamSynchronize(struct cuda_stream *stream)
{
    COUNT;
    if (stream->capturing)
        return 900;
    run_until(stream, stream->queue.n);
    return 0;
}

int cuEventRecord(struct cuda_event *event, struct cuda_stream *stream)
{
    COUNT;
    event->stream = stream;
    event->at = stream->queue.n;
    return 0;
}

int cuEventSynchronize(struct cuda_event *event)
{
    COUNT;
    if (event->stream)
        run_until(event->stream, event->at);
    return 0;
}

int cuEventElapsedTime(float *milliseconds, struct cuda_event *begin, struct cuda_event *end)
{
    COUNT;
    (void)begin, (void)end;
    *milliseconds = 1;
    return 0;
}

/* ---- graphs ---- */

int cuStreamBeginCapture_v2(struct cuda_stream *stream, int mode)
{
    COUNT;
    (void)mode;
    stream->capturing = true;
    return 0;
}

int cuStreamEndCapture(struct cuda_stream *stream, struct cuda_graph **graph)
{
    int rc = fake_cuda_count(__func__);
    stream->capturing = false;
    if (rc == 0) {
        *graph = fake_cuda_make(sizeof **graph);
        (*graph)->works = stream->captured;
    } else {
        free(stream->captured.work);
    }
    stream->captured = (struct works){0};
    return rc;
}

int cuGraphInstantiateWithFlags(struct cuda_executable **executable, struct cuda_graph *graph,
                                unsigned long long flags)
{
    COUNT;
    (void)flags;
    *executable = fake_cuda_make(sizeof **executable);
    for (size_t i = 0; i < graph->works.n; i++)
        add(&(*executable)->works, &graph->works.work[i]);
    fake_cuda.graphs++;
    return 0;
}

int cuGraphDestroy(struct cuda_graph *graph)
{
    int rc = fake_cuda_count(__func__);
    free(graph->works.work);
    fake_cuda_unmake(graph);
    return rc;
}

int cuGraphLaunch(struct cuda_executable *executable, struct cuda_stream *stream)
{
    COUNT;
    for (size_t i = 0; i < executable->works.n; i++)
        queue(stream, &executable->works.work[i]);
    fake_cuda.replays++;
    return 0;
}

int cuGraphExecDestroy(struct cuda_executable *executable)
{
    int rc = fake_cuda_count(__func__);
    free(executable->works.work);
    fake_cuda_unmake(executable);
    fake_cuda.graphs--;
    return rc;
}

/* ---- the card ---- */

int cuInit(unsigned flags)
{
    COUNT;
    return flags || !fake_cuda.cards ? CUDA_NO_DEVICE : 0;
}

int cuDriverGetVersion(int *version)
{
    COUNT;
    *version = fake_cuda.version;
    return 0;
}

int cuGetErrorName(int error, const char **name)
{
    *name = error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_FAKE";
    return 0;
}

int cuGetErrorString(int error, const char **text)
{
    *text = error == 700 ? "an illegal memory access was encountered" : "made up";
    return 0;
}

int cuDeviceGetCount(int *n)
{
    COUNT;
    *n = fake_cuda.cards;
    return 0;
}

int cuDeviceGet(int *device, int ordinal)
{
    COUNT;
    *device = ordinal;
    return 0;
}

int cuDeviceGetName(char *name, int length, int device)
{
    COUNT;
    (void)device;
    strncpy(name, "Paper GPU", (size_t)length - 1);
    name[length - 1] = 0;
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    COUNT;
    (void)device;
    *value = attribute == CUDA_CAPABILITY_MAJOR   ? fake_cuda.major
             : attribute == CUDA_CAPABILITY_MINOR ? fake_cuda.minor
                                                  : 4;
    return 0;
}

int cuDevicePrimaryCtxRetain(struct cuda_context **context, int device)
{
    static char one;
    COUNT;
    (void)device;
    fake_cuda.live++;
    *context = (struct cuda_context *)&one;
    return 0;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    int rc = fake_cuda_count(__func__);
    (void)device;
    fake_cuda.live--;
    return rc;
}

int cuCtxSetCurrent(struct cuda_context *context)
{
    COUNT;
    return context ? 0 : 1;
}

/* ---- memory and objects ---- */

int cuMemGetInfo_v2(size_t *left, size_t *total)
{
    COUNT;
    *left = fake_cuda.memory - fake_cuda.in_use;
    *total = fake_cuda.memory;
    return 0;
}

int cuMemAlloc_v2(uint64_t *address, size_t bytes)
{
    COUNT;
    if (bytes == 0)
        return 1;
    if (bytes > fake_cuda.memory - fake_cuda.in_use)
        return CUDA_OUT_OF_MEMORY;
    size_t *memory = malloc(16 + bytes);
    *memory = bytes;
    memset(memory + 2, 0xa5, bytes);
    fake_cuda.live++;
    fake_cuda.in_use += bytes;
    *address = (uint64_t)(uintptr_t)(memory + 2);
    return 0;
}

int cuMemFree_v2(uint64_t address)
{
    int rc = fake_cuda_count(__func__);
    size_t *memory = (size_t *)(uintptr_t)address - 2;
    fake_cuda.in_use -= *memory;
    fake_cuda_unmake(memory);
    return rc;
}

int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    COUNT;
    (void)flags;
    *memory = fake_cuda_make(bytes);
    return 0;
}

int cuMemFreeHost(void *memory)
{
    int rc = fake_cuda_count(__func__);
    fake_cuda_unmake(memory);
    return rc;
}

int cuStreamCreate(struct cuda_stream **stream, unsigned flags)
{
    COUNT;
    (void)flags;
    *stream = fake_cuda_make(sizeof **stream);
    return 0;
}

int cuStreamDestroy_v2(struct cuda_stream *stream)
{
    int rc = fake_cuda_count(__func__);
    free(stream->queue.work);
    free(stream->captured.work);
    fake_cuda_unmake(stream);
    return rc;
}

int cuEventCreate(struct cuda_event **event, unsigned flags)
{
    COUNT;
    (void)flags;
    *event = fake_cuda_make(sizeof **event);
    return 0;
}

int cuEventDestroy_v2(struct cuda_event *event)
{
    int rc = fake_cuda_count(__func__);
    fake_cuda_unmake(event);
    return rc;
}

/* ---- code ---- */

int cuModuleLoadData(struct cuda_module **module, const void *cubin)
{
    COUNT;
    if (memcmp(cubin, "code", 4) != 0 && !(fake_cuda.loads_ptx && strstr(cubin, ".target sm_")))
        return 200;
    *module = fake_cuda_make(sizeof **module);
    return 0;
}

int cuModuleUnload(struct cuda_module *module)
{
    int rc = fake_cuda_count(__func__);
    for (struct cuda_function *next; module->functions; module->functions = next) {
        next = module->functions->next;
        free(module->functions);
    }
    fake_cuda_unmake(module);
    return rc;
}

int cuModuleGetFunction(struct cuda_function **function, struct cuda_module *module, const char *name)
{
    COUNT;
    *function = calloc(1, sizeof **function);
    (*function)->copies = strcmp(name, "copy_words") == 0;
    (*function)->next = module->functions;
    module->functions = *function;
    return 0;
}

int cuLinkCreate_v2(unsigned n, int *options, void **values, struct cuda_link **link)
{
    COUNT;
    (void)n, (void)options, (void)values;
    *link = fake_cuda_make(sizeof **link);
    return 0;
}

int cuLinkAddData_v2(struct cuda_link *link, int type, void *data, size_t bytes, const char *name, unsigned n,
                     int *options, void **values)
{
    COUNT;
    (void)name, (void)n, (void)options, (void)values;
    if (fake_cuda.no_ptx)
        return 222;
    if (type != CUDA_JIT_INPUT_PTX || ((char *)data)[bytes - 1] != 0)
        return 1;
    const char *target = strstr(data, ".target ");
    if (target)
        sscanf(target, ".target %15s", fake_cuda.target);
    const char *wait = strstr(data, "griddepcontrol.wait");
    fake_cuda.waits = wait && wait[-1] == ' ' && wait[-2] != '0'; /* no comment before it */
    memcpy(link->cubin, "code", 4);
    return 0;
}

int cuLinkComplete(struct cuda_link *link, void **cubin, size_t *bytes)
{
    COUNT;
    fake_cuda.compiled++;
    *cubin = link->cubin;
    *bytes = sizeof link->cubin;
    return 0;
}

int cuLinkDestroy(struct cuda_link *link)
{
    int rc = fake_cuda_count(__func__);
    fake_cuda_unmake(link);
    return rc;
}
