/* A GPU as a backend of device.h: buffers on a driver's memory, weights in the layout that its kernels
 * read, commands planned into dispatches. One source for the emulator, CUDA and Metal. */
#include <string.h>

#include "layout.h"
#include "plan.h"

#define UPLOAD_BYTES ((size_t)16 << 20) /* of a weight at a time */

struct gpu {
    const struct gpu_driver *driver;
    void *state;
    struct gpu_facts facts;
    struct plan plan;
    uint64_t queued, done; /* tickets: the newest given out and waited for */
};

static int gpu_open(struct device *device, const struct gpu_driver *driver, const struct device_options *options,
                    struct err *err)
{
    if (options->kv_type && options->kv_type != DTYPE_F16)
        return err_set(err, ERR_UNSUPPORTED, "%s keeps K and V as F16: %s is for the CPU", options->name,
                       dtype_name(options->kv_type));
    struct gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu)
        return err_set(err, ERR_NOMEM, "out of memory for a GPU device");
    gpu->driver = driver;
    int rc = driver->open(&gpu->state, options, &gpu->facts, err);
    if (rc == 0 && gpu->facts.simd_width != 32) {
        rc = err_set(err, ERR_UNSUPPORTED, "%s runs %d lanes together; the kernels are made for 32",
                     gpu->facts.description, gpu->facts.simd_width);
        driver->close(gpu->state);
    }
    if (rc < 0) {
        free(gpu);
        return rc;
    }
    bool int8 = options->activations == ACTIVATIONS_INT8;
    if (int8 && !gpu->facts.int8_dot) {
        driver->close(gpu->state);
        free(gpu);
        return err_set(err, ERR_UNSUPPORTED, "%s has no 8-bit dot products: --activations f32", options->name);
    }
    gpu->plan = (struct plan){.driver = driver, .state = gpu->state, .facts = &gpu->facts, .int8 = int8};
    device->state = gpu;
    device->info = (struct device_info){.threads = 1, .kv_type = DTYPE_F16, .queued = true, .gpu = true,
                                        .int8_rows = int8 ? PLAN_INT8_ROWS : 0, .memory = gpu->facts.memory};
    memcpy(device->info.name, gpu->facts.name, sizeof device->info.name);
    memcpy(device->info.description, gpu->facts.description, sizeof device->info.description);
    return 0;
}

static void gpu_close(struct device *device)
{
    struct gpu *gpu = device->state;
    plan_free(&gpu->plan);
    gpu->driver->close(gpu->state);
    free(gpu);
}

static int gpu_alloc(struct buffer *b, struct err *err)
{
    struct gpu *gpu = b->device->state;
    struct gpu_memory *memory;
    b->bytes = b->count * dtype_block_bytes(b->dtype);
    int rc = gpu->driver->alloc(gpu->state, b->bytes ? b->bytes : 1, &memory, err);
    if (rc == 0)
        b->memory = memory;
    return rc;
}

static void gpu_view(struct buffer *b)
{
    b->memory = b->parent->memory;
    b->offset = b->parent->offset + b->first * dtype_block_bytes(b->dtype);
}

static int gpu_submit(struct device *device, const struct command *list, int n, bool whole, uint64_t *ticket,
                      struct err *err)
{
    struct gpu *gpu = device->state;
    gpu->plan.list.keep_all = whole;
    int rc = plan_commands(&gpu->plan, list, n, err);
    if (rc == 0)
        rc = gpu->driver->submit(gpu->state, gpu->plan.step, gpu->plan.n_steps, ticket, err);
    if (rc == 0)
        gpu->queued = *ticket;
    return rc;
}

static int gpu_wait(struct device *device, uint64_t ticket, struct err *err)
{
    struct gpu *gpu = device->state;
    int rc = gpu->driver->wait(gpu->state, ticket, err);
    gpu->done = ticket;
    if (gpu->done == gpu->queued)
        plan_collect(&gpu->plan);
    return rc;
}

/* One copy, waited for. */
static int copy(struct gpu *gpu, enum gpu_step_kind kind, struct gpu_memory *memory, size_t offset, size_t bytes,
                void *host, struct err *err)
{
    if (bytes == 0)
        return 0;
    struct gpu_step step = {.kind = kind, .op = OPERATOR_COUNT, .layer = -1, .stage = "copy", .n_operands = 1,
                            .operand = {{.memory = memory, .offset = offset, .bytes = bytes,
                                         .written = kind == GPU_UPLOAD, .name = "copy"}},
                            .host = host};
    uint64_t ticket;
    int rc = gpu->driver->submit(gpu->state, &step, 1, &ticket, err);
    return rc < 0 ? rc : gpu->driver->wait(gpu->state, ticket, err);
}

static int gpu_read(struct buffer *b, size_t first, size_t count, void *out, struct err *err)
{
    size_t size = dtype_block_bytes(b->dtype);
    return copy(b->device->state, GPU_DOWNLOAD, b->memory, b->offset + first * size, count * size, out, err);
}

static int gpu_write(struct buffer *b, size_t first, size_t count, const void *in, struct err *err)
{
    size_t size = dtype_block_bytes(b->dtype);
    return copy(b->device->state, GPU_UPLOAD, b->memory, b->offset + first * size, count * size, (void *)in, err);
}

/* The file's bytes as they are. */
static int upload_raw(struct gpu *gpu, const struct buffer *b, const void *data, struct err *err)
{
    int rc = 0;
    for (size_t at = 0; at < b->bytes && rc == 0; at += UPLOAD_BYTES) {
        size_t bytes = b->bytes - at < UPLOAD_BYTES ? b->bytes - at : UPLOAD_BYTES;
        rc = copy(gpu, GPU_UPLOAD, b->memory, at, bytes, (char *)data + at, err);
    }
    return rc;
}

/* Rows converted and sent in pieces of bounded size. */
static int upload_converted(struct gpu *gpu, const struct buffer *b, const void *data, struct err *err)
{
    enum gpu_weight layout = plan_weight(b);
    size_t row_bytes = b->bytes / b->rows + 1, step = UPLOAD_BYTES / row_bytes + 1;
    unsigned char *piece = malloc(step * row_bytes);
    if (!piece)
        return err_set(err, ERR_NOMEM, "out of memory for a piece of a weight");
    int rc = 0;
    for (int plane = 0; plane < layout_planes(layout); plane++)
        for (size_t first = 0; first < b->rows && rc == 0; first += step) {
            size_t n = b->rows - first < step ? b->rows - first : step;
            struct layout_piece at = layout_piece(layout, plane, b->rows, b->columns, first, n);
            layout_convert(layout, plane, data, b->columns, first, n, piece);
            rc = copy(gpu, GPU_UPLOAD, b->memory, at.offset, at.bytes, piece, err);
        }
    free(piece);
    return rc;
}

static int gpu_weight(struct buffer *b, const void *data, unsigned use, struct err *err)
{
    struct gpu *gpu = b->device->state;
    struct gpu_memory *memory;
    (void)use; /* one layout serves lookups and products */
    enum gpu_weight layout = layout_choose(b->dtype, gpu->facts.unified);
    b->layout = layout;
    b->bytes = layout_bytes(layout, b->rows, b->columns);
    if (gpu->facts.unified) {
        int rc = gpu->driver->wrap(gpu->state, data, b->bytes, &memory, &b->offset, err);
        b->memory = rc == 0 ? memory : NULL;
        return rc;
    }
    int rc = gpu->driver->alloc(gpu->state, b->bytes, &memory, err);
    if (rc < 0)
        return rc;
    b->memory = memory;
    b->copied = true;
    rc = layout_planes(layout) == 1 ? upload_raw(gpu, b, data, err) : upload_converted(gpu, b, data, err);
    if (rc < 0)
        gpu->driver->free(gpu->state, memory);
    return rc;
}

static void gpu_free(struct buffer *b)
{
    struct gpu *gpu = b->device->state;
    if (!b->parent)
        gpu->driver->free(gpu->state, b->memory);
}

static void gpu_idle(struct device *device)
{
    struct gpu *gpu = device->state;
    gpu->driver->idle(gpu->state);
}

static double gpu_bandwidth(struct device *device, size_t bytes)
{
    struct gpu *gpu = device->state;
    return gpu->driver->bandwidth(gpu->state, bytes);
}

static void gpu_profile(struct device *device, double *seconds)
{
    struct gpu *gpu = device->state;
    gpu->driver->profile(gpu->state, seconds);
}

#define GPU_BACKEND(name)                                                                                      \
    static int open_##name(struct device *device, const struct device_options *options, struct err *err)      \
    {                                                                                                          \
        return gpu_open(device, &gpu_driver_##name, options, err);                                             \
    }                                                                                                          \
    const struct backend backend_##name = {                                                                    \
        .open = open_##name, .close = gpu_close, .alloc = gpu_alloc, .weight = gpu_weight, .free = gpu_free,   \
        .view = gpu_view, .read = gpu_read, .write = gpu_write, .submit = gpu_submit, .wait = gpu_wait,        \
        .idle = gpu_idle, .bandwidth = gpu_bandwidth, .profile = gpu_profile,                                  \
    }

#ifdef HEARTH_EMULATOR
GPU_BACKEND(emulator);
#endif
#ifdef HEARTH_CUDA
GPU_BACKEND(cuda);
#endif
#ifdef HEARTH_METAL
GPU_BACKEND(metal);
#endif
