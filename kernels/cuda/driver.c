/* An NVIDIA GPU as a driver of gpu.h: memory, copies and launches by the driver API. */
#include <string.h>

#include "../gpu/gpu_args.h"
#include "driver.h"

#define COPY_PINNED ((size_t)32 << 20) /* of one list; what is more is copied from where it is */
#define COPY_BY_KERNEL 65536           /* bytes at most */
#define COPY_THREADS 256               /* of a group of that kernel */
#define FEWEST 4                       /* steps that are worth a graph */
#define BANDWIDTH_PASSES 10

int cuda_error(struct cuda *c, int error, const char *what, struct err *err)
{
    const char *name = NULL, *text = NULL;
    if (c->api.error_name(error, &name) != 0 || !name)
        name = "an unknown error";
    if (c->api.error_text(error, &text) != 0 || !text)
        text = "the driver has no words for it";
    return err_set(err, ERR_DEVICE, "%s: %s failed with %s (%d): %s", c->name, what, name, error, text);
}

int cuda_call_failed(struct cuda *c, int error, const char *what, struct err *err)
{
    struct err text;
    int rc = cuda_error(c, error, what, &text);
    if (c->stream && !c->capturing && c->broken.code == 0 && c->api.stream_wait(c->stream) != 0)
        err_set(&c->broken, rc, "%s; the device must be opened again", text.text);
    return err_set(err, rc, "%s", c->broken.code ? c->broken.text : text.text);
}

/* Before every call: is there still a context? It becomes the thread's. */
static int enter(struct cuda *c, struct err *err)
{
    if (c->broken.code)
        return err_set(err, c->broken.code, "%s", c->broken.text);
    int error = c->api.context_set(c->context);
    return error == 0 ? 0 : cuda_error(c, error, "taking the context", err);
}

/* ---- memory ---- */

static void cuda_free(void *state, struct gpu_memory *memory)
{
    struct cuda *c = state;
    if (!memory)
        return;
    c->api.context_set(c->context);
    c->api.stream_wait(c->stream); /* its clearing may be queued */
    c->api.memory_free(memory->address);
    free(memory);
}

static int cuda_alloc(void *state, size_t bytes, struct gpu_memory **out, struct err *err)
{
    struct cuda *c = state;
    int rc = enter(c, err);
    if (rc < 0)
        return rc;
    struct gpu_memory *memory = malloc(sizeof *memory);
    if (!memory)
        return err_set(err, ERR_NOMEM, "out of memory");
    memory->bytes = bytes;
    int error = c->api.memory_alloc(&memory->address, bytes);
    if (error == CUDA_OUT_OF_MEMORY) {
        size_t left = 0, total = 0;
        c->api.memory_info(&left, &total);
        free(memory);
        return err_set(err, ERR_NOMEM, "%s has no room for %.1f MiB: %.1f of %.1f MiB are free", c->name,
                       (double)bytes / 1048576, (double)left / 1048576, (double)total / 1048576);
    }
    if (error != 0) {
        free(memory);
        return cuda_call_failed(c, error, "allocating memory", err);
    }
    error = c->api.memory_set(memory->address, 0, bytes, c->stream);
    if (error != 0) {
        rc = cuda_call_failed(c, error, "clearing memory", err);
        cuda_free(c, memory);
        return rc;
    }
    *out = memory;
    return 0;
}

/* ---- submitting ---- */

int cuda_launch_step(struct cuda *c, const struct gpu_step *step, bool after_dispatch, struct err *err)
{
    struct cuda_function *function = NULL;
    int rc = cuda_function(c, step->program, step->weight, &function, err);
    if (rc < 0)
        return rc;
    /* What a kernel has beyond the operands given is null. */
    uint64_t address[GPU_MAX_OPERANDS] = {0};
    void *parameter[1 + GPU_MAX_OPERANDS] = {(void *)step->args};
    for (uint32_t i = 0; i < GPU_MAX_OPERANDS; i++) {
        const struct gpu_operand *operand = &step->operand[i];
        if (i < step->n_operands && operand->memory)
            address[i] = operand->memory->address + operand->offset;
        parameter[1 + i] = &address[i];
    }
    struct cuda_launch_attribute overlap = {.id = CUDA_LAUNCH_DEPENDENT, .value.allowed = 1};
    const struct gpu_program_info *info = &gpu_programs[step->program];
    struct cuda_launch launch = {
        .grid = {step->grid[0], step->grid[1], step->grid[2]},
        .group = {(unsigned)info->threads, 1, 1},
        .stream = c->stream,
        .attribute = &overlap,
        .attributes = c->dependent && step->overlaps && after_dispatch,
    };
    int error = c->api.launch(&launch, function, parameter, NULL);
    if (error == 0)
        return 0;
    char what[160];
    snprintf(what, sizeof what, "launching %s (layer %d, %s)", info->name, step->layer,
             step->stage ? step->stage : "no stage");
    return cuda_call_failed(c, error, what, err);
}

static int launch_profiled(struct cuda *c, const struct gpu_step *step, struct err *err)
{
    float milliseconds = 0;
    int error = c->api.event_record(c->begin, c->stream);
    int rc = error == 0 ? cuda_launch_step(c, step, false, err) : cuda_call_failed(c, error, "timing a kernel", err);
    if (rc < 0)
        return rc;
    if ((error = c->api.event_record(c->end, c->stream)) != 0 || (error = c->api.event_wait(c->end)) != 0
        || (error = c->api.event_elapsed(&milliseconds, c->begin, c->end)) != 0)
        return cuda_call_failed(c, error, "timing a kernel", err);
    if (step->op < OPERATOR_COUNT)
        c->seconds[step->op] += milliseconds * 1e-3;
    return 0;
}

static bool through_pinned(size_t used, const struct gpu_step *step)
{
    return used + step->operand[0].bytes <= COPY_PINNED;
}

static size_t align(size_t bytes)
{
    return (bytes + 255) & ~(size_t)255;
}

/* Page-locked memory of that size for a list. */
static int pin(struct cuda *c, struct cuda_list *list, size_t wanted, struct err *err)
{
    if (wanted <= list->pinned_bytes)
        return 0;
    wanted = wanted < 65536 ? 65536 : wanted + wanted / 2;
    if (list->pinned)
        c->api.pinned_free(list->pinned);
    list->pinned = NULL;
    list->pinned_bytes = 0;
    void *pinned;
    int error = c->api.pinned_alloc(&pinned, wanted, 0);
    if (error == CUDA_OUT_OF_MEMORY)
        return err_set(err, ERR_NOMEM, "%s: no %zu bytes of page-locked memory for copies", c->name, wanted);
    if (error != 0)
        return cuda_call_failed(c, error, "allocating page-locked memory", err);
    list->pinned = pinned;
    list->pinned_bytes = wanted;
    return 0;
}

/* Everything that can fail for want of something, before anything is queued: functions, a table of copies,
 * page-locked memory with what is copied in. */
static int prepare(struct cuda *c, struct cuda_list *list, const struct gpu_step *step, int n, struct err *err)
{
    struct cuda_function *function;
    size_t copies = 0, used = 0;
    int rc = cuda_function(c, GPU_copy_words, 0, &function, err);
    for (int i = 0; i < n && rc == 0; i++) {
        rc = step[i].kind == GPU_DISPATCH ? cuda_function(c, step[i].program, step[i].weight, &function, err) : 0;
        copies += step[i].kind != GPU_DISPATCH;
    }
    if (rc < 0)
        return rc;
    if (copies > list->capacity) {
        struct cuda_copy *more = realloc(list->copy, copies * sizeof *more);
        if (!more)
            return err_set(err, ERR_NOMEM, "out of memory");
        list->copy = more;
        list->capacity = copies;
    }
    list->copies = 0;
    for (int i = 0; i < n; i++) {
        if (step[i].kind == GPU_DISPATCH)
            continue;
        size_t bytes = through_pinned(used, &step[i]) ? step[i].operand[0].bytes : 0;
        void *host = step[i].kind == GPU_DOWNLOAD ? step[i].host : NULL;
        list->copy[list->copies++] = (struct cuda_copy){host, used, bytes};
        used += align(bytes);
    }
    rc = pin(c, list, used, err);
    const struct cuda_copy *copy = list->copy;
    for (int i = 0; i < n && rc == 0; i++) {
        if (step[i].kind == GPU_UPLOAD && copy->bytes)
            memcpy(list->pinned + copy->at, step[i].host, copy->bytes);
        copy += step[i].kind != GPU_DISPATCH;
    }
    return rc;
}

static int queue_copy(struct cuda *c, const struct cuda_list *list, const struct gpu_step *step,
                      const struct cuda_copy *copy, struct err *err)
{
    const struct gpu_operand *operand = &step->operand[0];
    uint64_t address = operand->memory->address + operand->offset;
    void *host = copy->bytes ? list->pinned + copy->at : step->host;
    if (operand->bytes == 0)
        return 0;
    int error = step->kind == GPU_UPLOAD ? c->api.copy_in(address, host, operand->bytes, c->stream)
                                         : c->api.copy_out(host, address, operand->bytes, c->stream);
    if (error == 0)
        return 0;
    return cuda_call_failed(c, error, step->kind == GPU_UPLOAD ? "copying in" : "copying out", err);
}

const struct gpu_step *cuda_next_step(struct cuda_steps *steps, struct cuda_made *room)
{
    const struct gpu_step *step = steps->step++;
    steps->n--;
    if (step->kind == GPU_DISPATCH)
        return step;
    const struct cuda_copy *copy = steps->copy++;
    struct gpu_copy_args args = {.words = (int)(copy->bytes / sizeof(uint32_t))};
    room->pinned.address = (uint64_t)(uintptr_t)steps->pinned;
    room->pinned.bytes = copy->at + copy->bytes;
    struct gpu_operand host = {.memory = &room->pinned, .offset = copy->at, .bytes = copy->bytes};
    bool in = step->kind == GPU_UPLOAD;
    room->step = (struct gpu_step){
        .program = GPU_copy_words, .grid = {(uint32_t)(args.words + COPY_THREADS - 1) / COPY_THREADS, 1, 1},
        .n_operands = 2, .args_bytes = sizeof args, .overlaps = true, .op = step->op, .layer = step->layer,
        .stage = step->stage, .operand = {in ? host : step->operand[0], in ? step->operand[0] : host},
    };
    memcpy(room->step.args, &args, sizeof args);
    return &room->step;
}

/* May a kernel do the copy? */
static bool by_kernel(const struct gpu_step *step, const struct cuda_copy *copy)
{
    return copy->bytes > 0 && copy->bytes <= COPY_BY_KERNEL && copy->bytes % sizeof(uint32_t) == 0 &&
           step->operand[0].offset % sizeof(uint32_t) == 0;
}

static int queue_one(struct cuda *c, const struct cuda_list *list, const struct gpu_step *step,
                     const struct cuda_copy *copy, bool after_dispatch, struct err *err)
{
    if (step->kind != GPU_DISPATCH)
        return queue_copy(c, list, step, copy, err);
    return c->profiling ? launch_profiled(c, step, err) : cuda_launch_step(c, step, after_dispatch, err);
}

static int queue_steps(struct cuda *c, struct cuda_list *list, const struct gpu_step *step, int n, struct err *err)
{
    const struct cuda_copy *copy = list->copy;
    int rc = 0;
    for (int i = 0; i < n && rc == 0;) {
        struct cuda_steps run = {.step = &step[i], .pinned = list->pinned, .copy = copy};
        for (; i + run.n < n && !c->profiling; run.n++) {
            const struct gpu_step *s = &run.step[run.n];
            if (s->kind != GPU_DISPATCH && !by_kernel(s, copy))
                break;
            copy += s->kind != GPU_DISPATCH;
        }
        if (run.n >= FEWEST) {
            rc = cuda_launch_run(c, run, err);
            i += run.n;
            continue;
        }
        copy = run.copy;
        for (int end = i + (run.n ? run.n : 1), first = i; i < end && rc == 0; i++) {
            rc = queue_one(c, list, &step[i], copy, i > first && step[i - 1].kind == GPU_DISPATCH, err);
            copy += step[i].kind != GPU_DISPATCH;
        }
    }
    return rc;
}

static int cuda_submit(void *state, const struct gpu_step *step, int n, uint64_t *ticket, struct err *err)
{
    struct cuda *c = state;
    int rc = enter(c, err);
    if (rc < 0)
        return rc;
    /* The first free list: the fewer take turns, the fewer graphs differ in nothing but its address. */
    struct cuda_list *list = c->list;
    while (list->ticket)
        REQUIRE(++list < c->list + GPU_IN_FLIGHT);
    rc = prepare(c, list, step, n, err);
    if (rc < 0)
        return rc;
    rc = queue_steps(c, list, step, n, err);
    if (rc == 0) {
        int error = c->api.event_record(list->end, c->stream);
        if (error != 0)
            rc = cuda_call_failed(c, error, "marking the end of a step", err);
    }
    if (rc < 0) /* and what was queued before has ended */
        return rc;
    list->ticket = *ticket = ++c->ticket;
    return 0;
}

/* The oldest list that is queued, NULL if none is. */
static struct cuda_list *first_queued(struct cuda *c)
{
    struct cuda_list *first = NULL;
    for (struct cuda_list *list = c->list; list < c->list + GPU_IN_FLIGHT; list++)
        if (list->ticket && (!first || list->ticket < first->ticket))
            first = list;
    return first;
}

/* The event is not one of those that let the thread sleep: waking takes longer than a decode step leaves
 * between its kernels' end and the next. */
static int cuda_wait(void *state, uint64_t ticket, struct err *err)
{
    struct cuda *c = state;
    int rc = enter(c, err);
    for (struct cuda_list *list; (list = first_queued(c)) && list->ticket <= ticket; list->ticket = 0) {
        int error = rc == 0 ? c->api.event_wait(list->end) : 0;
        if (error != 0)
            rc = cuda_call_failed(c, error, "a step", err);
        for (size_t i = 0; rc == 0 && i < list->copies; i++) {
            const struct cuda_copy *copy = &list->copy[i];
            if (copy->host && copy->bytes)
                memcpy(copy->host, list->pinned + copy->at, copy->bytes);
        }
    }
    return rc;
}

static void cuda_idle(void *state)
{
    (void)state; /* nothing of ours spins */
}

/* ---- measuring ---- */

static double cuda_bandwidth(void *state, size_t bytes)
{
    struct cuda *c = state;
    struct gpu_memory *data = NULL, *sum = NULL;
    double best = 0;
    size_t most = (size_t)INT32_MAX / 2 * 16;
    bytes = (bytes < most ? bytes : most) / 16 * 16;
    if (bytes == 0 || cuda_alloc(c, bytes, &data, NULL) < 0 || cuda_alloc(c, 256, &sum, NULL) < 0)
        goto end;
    struct gpu_bandwidth_args args = {.vectors = (int)(bytes / 16), .groups = c->cores * 8};
    struct gpu_step step = {
        .program = GPU_read_bandwidth, .grid = {(uint32_t)args.groups, 1, 1}, .n_operands = 2,
        .args_bytes = sizeof args, .layer = -1, .stage = "bandwidth",
        .operand = {{.memory = data, .bytes = bytes}, {.memory = sum, .bytes = 256, .written = true}},
    };
    memcpy(step.args, &args, sizeof args);
    for (int pass = 0; pass < BANDWIDTH_PASSES; pass++) {
        float milliseconds = 0;
        if (c->api.event_record(c->begin, c->stream) != 0 || cuda_launch_step(c, &step, false, NULL) < 0
            || c->api.event_record(c->end, c->stream) != 0 || c->api.event_wait(c->end) != 0
            || c->api.event_elapsed(&milliseconds, c->begin, c->end) != 0)
            break;
        double rate = milliseconds > 0 ? (double)bytes / (milliseconds * 1e-3) : 0;
        best = rate > best ? rate : best;
    }
end:
    cuda_free(c, data);
    cuda_free(c, sum);
    return best;
}

/* From the first call on kernels are launched one by one, each timed. */
static void cuda_profile(void *state, double *seconds)
{
    struct cuda *c = state;
    c->profiling = true;
    memcpy(seconds, c->seconds, sizeof c->seconds);
    memset(c->seconds, 0, sizeof c->seconds);
}

const struct gpu_driver gpu_driver_cuda = {
    .open = cuda_open,
    .close = cuda_close,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .submit = cuda_submit,
    .wait = cuda_wait,
    .idle = cuda_idle,
    .bandwidth = cuda_bandwidth,
    .profile = cuda_profile,
};
