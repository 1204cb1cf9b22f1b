/* The common half of every device: which there are, and their buffers. */
#include "device.h"

#include <string.h>

#include "commands.h"
#include "gpu/gpu.h"

/* What this build knows, in the order in which "auto" tries those that are worth it. */
static const struct {
    const char *name;
    const struct backend *backend;
    bool automatic;
} backends[] = {
#if defined HEARTH_METAL
    {"metal", &backend_metal, true},
#endif
#if defined HEARTH_CUDA
    {"cuda", &backend_cuda, true},
#endif
    {"cpu", &backend_cpu, true},
    {"reference", &backend_reference, false},
#if defined HEARTH_EMULATOR
    {"emulator", &backend_emulator, false},
#endif
};
#define N_BACKENDS (sizeof backends / sizeof *backends)

static int open_backend(struct device *device, const struct backend *backend,
                        const struct device_options *options, struct err *err)
{
    memset(&device->info, 0, sizeof device->info);
    device->backend = backend;
    return backend->open(device, options, err);
}

/* The first that opens. The last one tried is the CPU, whose error is the one to tell. */
static int open_automatic(struct device *device, const struct device_options *options, struct err *err)
{
    char passed_over[sizeof device->info.passed_over] = "";
    size_t at = 0;
    for (size_t i = 0; i < N_BACKENDS; i++) {
        struct device_options named = *options;
        named.name = backends[i].name;
        if (!backends[i].automatic)
            continue;
        struct err why = {0};
        int rc = open_backend(device, backends[i].backend, &named, &why);
        if (rc == 0) {
            memcpy(device->info.passed_over, passed_over, sizeof passed_over);
            return 0;
        }
        err_set(err, rc, "%s", why.text);
        if (at < sizeof passed_over)
            at += (size_t)snprintf(passed_over + at, sizeof passed_over - at, "%s%s: %s", at ? "; " : "",
                                   backends[i].name, why.text);
    }
    return ERR_UNSUPPORTED;
}

/* "cuda:1" is the backend "cuda", which reads the number itself. */
static const struct backend *find_backend(const char *name)
{
    size_t length = strncmp(name, "cuda:", 5) ? strlen(name) : 4;
    for (size_t i = 0; i < N_BACKENDS; i++)
        if (strlen(backends[i].name) == length && !memcmp(backends[i].name, name, length))
            return backends[i].backend;
    return NULL;
}

static int unknown_device(const char *name, struct err *err)
{
    char known[128] = "auto";
    for (size_t i = 0, at = 4; i < N_BACKENDS; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, ", %s", backends[i].name);
    return err_set(err, ERR_UNSUPPORTED, "no device \"%s\" in this build (known: %s)", name, known);
}

int device_open(struct device **out, const struct device_options *options, struct err *err)
{
    const char *name = options->name ? options->name : "auto";
    bool automatic = !strcmp(name, "auto");
    const struct backend *backend = automatic ? NULL : find_backend(name);
    if (!automatic && !backend)
        return unknown_device(name, err);
    struct device *device = calloc(1, sizeof *device);
    if (!device)
        return err_set(err, ERR_NOMEM, "out of memory for a device");
    int rc = commands_open(device, err);
    if (rc == 0)
        rc = automatic ? open_automatic(device, options, err) : open_backend(device, backend, options, err);
    if (rc < 0) {
        commands_close(device);
        free(device);
        return rc;
    }
    *out = device;
    return 0;
}

void device_close(struct device *device)
{
    if (!device)
        return;
    REQUIRE(device->buffers == 0);
    device->backend->close(device);
    commands_close(device);
    free(device);
}

const struct device_info *device_info(const struct device *device)
{
    return &device->info;
}

void device_place(const struct device *device, struct device_place *out)
{
    *out = (struct device_place){
        .op = (enum operator)atomic_load_explicit(&device->op, memory_order_relaxed),
        .layer = atomic_load_explicit(&device->layer, memory_order_relaxed),
        .stage = atomic_load_explicit(&device->stage, memory_order_relaxed),
    };
}

void device_idle(struct device *device)
{
    device->backend->idle(device);
}

double device_read_bandwidth(struct device *device, size_t bytes)
{
    return device->backend->bandwidth(device, bytes);
}

double device_int8_rate(struct device *device)
{
    return device->backend->int8_rate ? device->backend->int8_rate(device) : 0;
}

void device_profile(struct device *device, struct profile *out)
{
    if (device->backend->profile) {
        double seconds[OPERATOR_COUNT] = {0};
        device->backend->profile(device, seconds);
        for (int i = 0; i < OPERATOR_COUNT; i++)
            if (seconds[i] > 0)
                device->profile.row[device->profile.n++] =
                    (struct profile_row){.op = i, .seconds = seconds[i]};
    }
    *out = device->profile;
    memset(&device->profile, 0, sizeof device->profile);
    device->profiling = true;
}

static struct buffer *buffer_new(struct device *device, enum dtype dtype, size_t count)
{
    struct buffer *b = calloc(1, sizeof *b);
    if (b) {
        b->device = device;
        b->dtype = dtype;
        b->count = count;
    }
    return b;
}

static int create(struct device *device, enum dtype dtype, size_t count, bool scratch, struct buffer **out,
                  struct err *err)
{
    size_t bytes;
    REQUIRE(count % dtype_block(dtype) == 0);
    if (__builtin_mul_overflow(count / dtype_block(dtype), dtype_block_bytes(dtype), &bytes))
        return err_set(err, ERR_NOMEM, "a buffer of %zu elements is too large", count);
    struct buffer *b = buffer_new(device, dtype, count);
    if (!b)
        return err_set(err, ERR_NOMEM, "out of memory for a buffer");
    b->scratch = scratch;
    int rc = device->backend->alloc(b, err);
    if (rc < 0) {
        free(b);
        return rc;
    }
    device->buffers++;
    *out = b;
    return 0;
}

int buffer_create(struct device *device, enum dtype dtype, size_t count, struct buffer **out, struct err *err)
{
    return create(device, dtype, count, false, out, err);
}

int buffer_create_scratch(struct device *device, enum dtype dtype, size_t count, struct buffer **out,
                          struct err *err)
{
    return create(device, dtype, count, true, out, err);
}

static int check_range(const struct buffer *b, size_t first, size_t count, struct err *err)
{
    if (b->rows)
        return err_set(err, ERR_INVALID, "a weight cannot be read, written or viewed");
    if (first > b->count || count > b->count - first)
        return err_set(err, ERR_INVALID, "elements %zu to %zu of a buffer of %zu", first, first + count,
                       b->count);
    if (first % dtype_block(b->dtype) || count % dtype_block(b->dtype))
        return err_set(err, ERR_INVALID, "elements %zu to %zu are no whole blocks of %s", first,
                       first + count, dtype_name(b->dtype));
    return 0;
}

/* A view of a view is one of the buffer below, so that two of them can be compared. */
int buffer_view(struct buffer *parent, size_t first, size_t count, struct buffer **out, struct err *err)
{
    int rc = check_range(parent, first, count, err);
    if (rc < 0)
        return rc;
    struct buffer *b = buffer_new(parent->device, parent->dtype, count);
    if (!b)
        return err_set(err, ERR_NOMEM, "out of memory for a view");
    b->parent = parent->parent ? parent->parent : parent;
    b->first = parent->first + first;
    b->scratch = parent->scratch;
    b->parent->views++;
    b->device->buffers++;
    b->device->backend->view(b);
    *out = b;
    return 0;
}

int device_weight_begin(struct device *device, enum dtype dtype, size_t rows, size_t columns,
                        const void *data, unsigned use, struct buffer **out, struct err *err)
{
    REQUIRE(dtype_is_weight(dtype) && rows && columns && columns % dtype_block(dtype) == 0);
    struct buffer *b = buffer_new(device, dtype, rows * columns);
    if (!b)
        return err_set(err, ERR_NOMEM, "out of memory for a weight");
    b->rows = rows;
    b->columns = columns;
    int rc = device->backend->weight(b, data, use, err);
    if (rc < 0) {
        free(b);
        return rc;
    }
    device->buffers++;
    *out = b;
    return 0;
}

bool weight_fill(struct buffer *b, size_t *bytes)
{
    size_t row = dtype_bytes(b->dtype, b->columns), left = b->rows - b->filled;
    if (!b->source) { /* it was taken over at once */
        *bytes = left * row;
        return true;
    }
    size_t unit = b->device->backend->fill_rows, rows = *bytes / row / unit * unit;
    rows = rows < unit ? unit : rows;
    rows = rows < left ? rows : left;
    b->device->backend->fill(b, rows);
    b->filled += rows;
    *bytes = rows * row;
    if (b->filled == b->rows)
        b->source = NULL;
    return !b->source;
}

int device_weight_create(struct device *device, enum dtype dtype, size_t rows, size_t columns,
                         const void *data, unsigned use, struct buffer **out, struct err *err)
{
    int rc = device_weight_begin(device, dtype, rows, columns, data, use, out, err);
    size_t all = SIZE_MAX;
    if (rc == 0)
        REQUIRE(weight_fill(*out, &all));
    return rc;
}

size_t device_weight_bytes(const struct device *device, enum dtype dtype, size_t rows, size_t columns, unsigned use)
{
    const struct backend *backend = device->backend;
    return backend->weight_bytes ? backend->weight_bytes(dtype, rows, columns, use)
                                 : dtype_bytes(dtype, rows * columns);
}

bool weight_is_copy(const struct buffer *b)
{
    return b->copied;
}

void buffer_free(struct buffer *b)
{
    if (!b)
        return;
    REQUIRE(b->views == 0 && !commands_use(b));
    b->device->buffers--;
    if (b->parent)
        b->parent->views--;
    else
        b->device->backend->free(b);
    free(b);
}

enum dtype buffer_dtype(const struct buffer *b)
{
    return b->dtype;
}

size_t buffer_count(const struct buffer *b)
{
    return b->count;
}

size_t buffer_bytes(const struct buffer *b)
{
    return b->bytes;
}

int buffer_read(struct buffer *b, size_t first, size_t count, void *out, struct err *err)
{
    int rc = check_range(b, first, count, err);
    if (rc < 0)
        return rc;
    if (commands_touch(b, first, count, true))
        return err_set(err, ERR_IN_FLIGHT,
                       "elements %zu to %zu of a buffer cannot be read: queued commands write "
                       "there",
                       first, first + count);
    return b->device->backend->read(b, first, count, out, err);
}

int buffer_write(struct buffer *b, size_t first, size_t count, const void *in, struct err *err)
{
    int rc = check_range(b, first, count, err);
    if (rc < 0)
        return rc;
    if (commands_touch(b, first, count, false))
        return err_set(err, ERR_IN_FLIGHT,
                       "elements %zu to %zu of a buffer cannot be written: queued commands touch "
                       "them",
                       first, first + count);
    return b->device->backend->write(b, first, count, in, err);
}
