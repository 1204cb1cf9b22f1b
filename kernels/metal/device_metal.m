/* The Metal driver: Apple GPUs, one command queue, everything on the owning thread. */
#include "metal.h"

#include <IOKit/IOKitLib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_CORES 10
#define MAX_COMMAND_BUFFERS 256 /* of the queue; a first prefill is split finely */

static int gpu_cores(void)
{
    int cores = 0;
    io_service_t service = IOServiceGetMatchingService(MACH_PORT_NULL, IOServiceMatching("AGXAccelerator"));
    if (service) {
        NSNumber *count = (NSNumber *)IORegistryEntryCreateCFProperty(service, (CFStringRef)@"gpu-core-count",
                                                                      kCFAllocatorDefault, 0);
        cores = [count respondsToSelector:@selector(intValue)] ? [count intValue] : 0;
        [count release];
        IOObjectRelease(service);
    }
    return cores > 0 ? cores : DEFAULT_CORES;
}

static void metal_close(void *state)
{
    struct metal *m = state;
    @autoreleasepool {
        metal_residency_dispose(m);
        for (int i = 0; i < GPU_IN_FLIGHT; i++) {
            [m->list[i].staging release];
            free(m->list[i].command);
            free(m->list[i].download);
        }
        for (int i = 0; i < GPU_PROGRAM_COUNT; i++)
            for (int j = 0; j < GPU_WEIGHT_COUNT; j++)
                [m->pipeline[i][j] release];
        for (int i = 0; i <= GPU_WEIGHT_COUNT; i++)
            [m->library[i] release];
        [m->null release];
        [m->queue release];
        [m->device release];
    }
    free(m);
}

static int open_device(struct metal *m, struct gpu_facts *facts, struct err *err)
{
    m->device = MTLCreateSystemDefaultDevice();
    if (!m->device)
        return err_set(err, ERR_UNSUPPORTED, "metal: this machine has no GPU that Metal knows");
    const char *name = [[m->device name] UTF8String];
    if (![m->device supportsFamily:MTLGPUFamilyApple7])
        return err_set(err, ERR_UNSUPPORTED, "metal: %s is no Apple GPU; the kernels are made for those",
                       name);
    m->queue = [m->device newCommandQueueWithMaxCommandBufferCount:MAX_COMMAND_BUFFERS];
    m->null = [m->device newBufferWithLength:METAL_ALIGNMENT options:MTLResourceStorageModeShared];
    if (!m->queue || !m->null)
        return err_set(err, ERR_DEVICE, "metal: %s gives no command queue", name);
    m->max_buffer = [m->device maxBufferLength];
    m->page = (size_t)sysconf(_SC_PAGESIZE);
    metal_residency_init(m);
    *facts = (struct gpu_facts){.simd_width = 32, /* pipelines that differ are refused */
                                .cores = gpu_cores(),
                                .memory = [m->device recommendedMaxWorkingSetSize],
                                .unified = true};
    snprintf(facts->name, sizeof facts->name, "metal");
    snprintf(facts->description, sizeof facts->description, "%s, %d cores", name, facts->cores);
    return 0;
}

static int metal_open(void **state, const struct device_options *options, struct gpu_facts *facts,
                      struct err *err)
{
    (void)options;
    struct metal *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, ERR_NOMEM, "out of memory for the Metal device");
    int rc;
    @autoreleasepool {
        rc = open_device(m, facts, err);
    }
    if (rc < 0) {
        metal_close(m);
        return rc;
    }
    *state = m;
    return 0;
}

/* ---- the end of a list ---- */

static void remember(struct metal *m, const struct metal_list *list, const struct err *err)
{
    enum { MOST = sizeof m->failure / sizeof m->failure[0] };
    if (m->failures == MOST)
        memmove(m->failure, m->failure + 1, (size_t)--m->failures * sizeof m->failure[0]);
    m->failure[m->failures++] = (struct metal_failure){.ticket = list->ticket, .err = *err};
}

static void explain(struct metal *m, const struct metal_command_buffer *c, struct err *err)
{
    NSError *error = [c->buffer error];
    NSInteger code = [error code];
    const char *text = [[error localizedDescription] UTF8String];
    err_set(err, ERR_DEVICE, "metal: %s (from %s of layer %d to %s of layer %d)",
            text ? text : "the GPU failed", c->first_stage ? c->first_stage : "a copy", c->first_layer,
            c->last_stage ? c->last_stage : "a copy", c->last_layer);
    if (code == MTLCommandBufferErrorDeviceRemoved || code == MTLCommandBufferErrorAccessRevoked)
        m->lost = *err;
}

/* Waits for the oldest list and keeps its failure for who asks for it. */
static void finish_oldest(struct metal *m)
{
    struct metal_list *list = &m->list[++m->finished % GPU_IN_FLIGHT];
    struct err err = {0};
    for (int i = 0; i < list->n_commands; i++) {
        struct metal_command_buffer *c = &list->command[i];
        [c->buffer waitUntilCompleted];
        bool good = [c->buffer status] == MTLCommandBufferStatusCompleted;
        if (!good && err.code == 0) /* the first: what follows it computes on nothing */
            explain(m, c, &err);
        if (good)
            metal_learn(m, c, [c->buffer GPUEndTime] - [c->buffer GPUStartTime]);
        [c->buffer release];
    }
    if (err.code)
        remember(m, list, &err);
    for (int i = 0; i < list->n_downloads && err.code == 0; i++) {
        const struct metal_download *d = &list->download[i];
        memcpy(d->host, (const char *)[list->staging contents] + d->offset, d->bytes);
    }
    list->n_commands = list->n_downloads = 0;
    list->ticket = 0;
}

static int metal_wait(void *state, uint64_t ticket, struct err *err)
{
    struct metal *m = state;
    @autoreleasepool {
        while (m->finished < ticket)
            finish_oldest(m);
    }
    for (int i = 0; i < m->failures; i++) {
        struct metal_failure failure = m->failure[i];
        if (failure.ticket != ticket)
            continue;
        memmove(m->failure + i, m->failure + i + 1, (size_t)(--m->failures - i) * sizeof m->failure[0]);
        return err_set(err, failure.err.code, "%s", failure.err.text);
    }
    return 0;
}

static int submit(struct metal *m, const struct gpu_step *step, int n, uint64_t *ticket, struct err *err)
{
    while (m->submitted - m->finished >= GPU_IN_FLIGHT)
        finish_oldest(m);
    int rc = metal_seal(m, err);
    if (rc < 0)
        return rc;
    metal_residency_hold(m);
    struct metal_list *list = &m->list[(m->submitted + 1) % GPU_IN_FLIGHT];
    rc = metal_encode(m, list, step, n, err);
    list->ticket = ++m->submitted;
    if (rc < 0) { /* what was committed before the failure ends first; its results are nobody's */
        list->n_downloads = 0;
        struct err unused;
        if (metal_wait(m, list->ticket, &unused) < 0 && m->lost.code)
            rc = err_set(err, m->lost.code, "%s", m->lost.text);
        return rc;
    }
    *ticket = list->ticket;
    return 0;
}

static int metal_submit(void *state, const struct gpu_step *step, int n, uint64_t *ticket, struct err *err)
{
    struct metal *m = state;
    if (m->lost.code)
        return err_set(err, m->lost.code, "%s", m->lost.text);
    int rc;
    @autoreleasepool {
        rc = submit(m, step, n, ticket, err);
    }
    return rc;
}

static void metal_idle(void *state)
{
    metal_residency_release(state);
}

/* Half of the bytes copied to the other half: read once, written once. */
static double metal_bandwidth(void *state, size_t bytes)
{
    struct metal *m = state;
    size_t half = bytes / 2 < m->max_buffer / 2 ? bytes / 2 / 4096 * 4096 : m->max_buffer / 2 / 4096 * 4096;
    double best = 0;
    if (half == 0 || m->lost.code)
        return 0;
    @autoreleasepool {
        id<MTLBuffer> buffer = [m->device newBufferWithLength:2 * half options:MTLResourceStorageModeShared];
        for (int i = 0; i < 4 && buffer; i++) {
            id<MTLCommandBuffer> command = [m->queue commandBuffer];
            id<MTLBlitCommandEncoder> blit = [command blitCommandEncoder];
            [blit copyFromBuffer:buffer sourceOffset:0 toBuffer:buffer destinationOffset:half size:half];
            [blit endEncoding];
            [command commit];
            [command waitUntilCompleted];
            double seconds = [command GPUEndTime] - [command GPUStartTime];
            if ([command status] == MTLCommandBufferStatusCompleted && seconds > 0 &&
                2.0 * half / seconds > best)
                best = 2.0 * (double)half / seconds;
        }
        [buffer release];
    }
    return best;
}

/* By the share that each operator was predicted to have of its command buffer: the GPU's clock is read
 * once for each of those. */
static void metal_profile(void *state, double *seconds)
{
    struct metal *m = state;
    memcpy(seconds, m->profile, sizeof m->profile);
    memset(m->profile, 0, sizeof m->profile);
}

const struct gpu_driver gpu_driver_metal = {
    .open = metal_open,
    .close = metal_close,
    .alloc = metal_alloc,
    .wrap = metal_wrap,
    .free = metal_free,
    .submit = metal_submit,
    .wait = metal_wait,
    .idle = metal_idle,
    .bandwidth = metal_bandwidth,
    .profile = metal_profile,
};
