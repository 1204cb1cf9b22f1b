/* From a list of steps to committed command buffers. Dispatches of one encoder run concurrently; a barrier
 * stands only where a step touches what another has touched since the last one, and one of them writes.
 * Lists that would keep the GPU too long are split: macOS kills a command buffer that makes the screen
 * wait. */
#include <string.h>

#include "metal.h"

#define COMMAND_SECONDS 0.1     /* of one command buffer, as predicted */
#define FIRST_GUESS 20e-6       /* seconds of a group of threads, before anything was measured */
#define MAX_SHIFT 4.0           /* how far one measurement moves a guess */

struct encoding {
    struct metal *m;
    struct metal_list *list;
    id<MTLCommandBuffer> buffer; /* the open one; nil between two */
    id<MTLComputeCommandEncoder> compute;
    id<MTLBlitCommandEncoder> blit;
};

static struct metal_command_buffer *current(struct encoding *e)
{
    return &e->list->command[e->list->n_commands - 1];
}

static void end_encoder(struct encoding *e)
{
    [e->compute endEncoding];
    [e->blit endEncoding];
    e->compute = nil;
    e->blit = nil;
}

static void commit(struct encoding *e)
{
    end_encoder(e);
    if (e->buffer)
        [e->buffer commit];
    e->buffer = nil;
}

static int open_buffer(struct encoding *e, const struct gpu_step *step, struct err *err)
{
    struct metal_list *list = e->list;
    if (list->n_commands == list->command_capacity) {
        int capacity = list->command_capacity ? 2 * list->command_capacity : 4;
        void *more = realloc(list->command, (size_t)capacity * sizeof *list->command);
        if (!more)
            return err_set(err, ERR_NOMEM, "out of memory for %d command buffers", capacity);
        list->command = more;
        list->command_capacity = capacity;
    }
    e->buffer = [[e->m->queue commandBuffer] retain]; /* released by the wait */
    if (!e->buffer)
        return err_set(err, ERR_DEVICE, "metal: the queue gives no command buffer");
    list->command[list->n_commands++] = (struct metal_command_buffer){
        .buffer = e->buffer, .first_stage = step->stage, .first_layer = step->layer};
    return 0;
}

static double group_seconds(const struct metal *m, int program)
{
    return m->seconds[program] > 0 ? m->seconds[program] : FIRST_GUESS;
}

static double groups_of(const struct gpu_step *step)
{
    return (double)step->grid[0] * step->grid[1] * step->grid[2];
}

/* Opens what the step needs: a new command buffer where the open one is full, an encoder of its kind. */
static int prepare(struct encoding *e, const struct gpu_step *step, struct err *err)
{
    double seconds = step->kind == GPU_DISPATCH ? groups_of(step) * group_seconds(e->m, step->program) : 0;
    if (e->buffer && seconds > 0 && current(e)->predicted > 0 &&
        current(e)->predicted + seconds > COMMAND_SECONDS)
        commit(e);
    if (!e->buffer) {
        int rc = open_buffer(e, step, err);
        if (rc < 0)
            return rc;
    }
    if (step->kind == GPU_DISPATCH ? e->blit != nil : e->compute != nil)
        end_encoder(e);
    if (step->kind == GPU_DISPATCH && !e->compute) {
        e->compute = [e->buffer computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
        e->m->encoders++;
    } else if (step->kind != GPU_DISPATCH && !e->blit) {
        e->blit = [e->buffer blitCommandEncoder];
    }
    if (!e->compute && !e->blit)
        return err_set(err, ERR_DEVICE, "metal: the command buffer gives no encoder");
    struct metal_command_buffer *c = current(e);
    c->last_stage = step->stage;
    c->last_layer = step->layer;
    c->predicted += seconds;
    if (step->kind == GPU_DISPATCH) {
        c->groups[step->program] += groups_of(step);
        c->op[step->op < OPERATOR_COUNT ? step->op : 0] += seconds;
    }
    return 0;
}

/* ---- barriers ---- */

static bool conflicts(const struct metal *m, const struct gpu_operand *o)
{
    const struct metal_hazards *h = &o->memory->hazards;
    if (h->encoder != m->encoders)
        return false;
    for (int i = 0; i < h->n; i++)
        if ((o->written || h->range[i].written) && o->offset < h->range[i].end &&
            h->range[i].begin < o->offset + o->bytes)
            return true;
    return false;
}

static void note(const struct metal *m, const struct gpu_operand *o)
{
    enum { MOST = sizeof o->memory->hazards.range / sizeof o->memory->hazards.range[0] };
    struct metal_hazards *h = &o->memory->hazards;
    size_t begin = o->offset, end = o->offset + o->bytes;
    bool written = o->written;
    if (h->encoder != m->encoders)
        h->n = 0;
    h->encoder = m->encoders;
    for (int i = 0; i < h->n; i++)
        if (h->range[i].written >= written && h->range[i].begin <= begin && end <= h->range[i].end)
            return;
    if (h->n == MOST) { /* too many to tell apart: one range that covers them all, as if written */
        for (int i = 0; i < h->n; i++) {
            begin = h->range[i].begin < begin ? h->range[i].begin : begin;
            end = h->range[i].end > end ? h->range[i].end : end;
        }
        written = true;
        h->n = 0;
    }
    h->range[h->n].begin = begin;
    h->range[h->n].end = end;
    h->range[h->n++].written = written;
}

static bool is_tracked(const struct gpu_operand *o)
{
    return o->memory && !o->memory->data; /* wrapped pages are never written */
}

static void order(struct encoding *e, const struct gpu_step *step)
{
    id<MTLResource> resource[GPU_MAX_OPERANDS];
    NSUInteger n = 0;
    for (uint32_t i = 0; i < step->n_operands; i++) {
        const struct gpu_operand *o = &step->operand[i];
        if (!is_tracked(o) || !conflicts(e->m, o))
            continue;
        o->memory->hazards.n = 0; /* a second operand in this memory finds it done */
        resource[n++] = o->memory->buffer->buffer;
    }
    if (n)
        [e->compute memoryBarrierWithResources:resource count:n];
    for (uint32_t i = 0; i < step->n_operands; i++)
        if (is_tracked(&step->operand[i]))
            note(e->m, &step->operand[i]);
}

/* ---- steps ---- */

static int dispatch(struct encoding *e, const struct gpu_step *step, struct err *err)
{
    id<MTLComputePipelineState> pipeline;
    int rc = metal_pipeline(e->m, step, &pipeline, err);
    if (rc == 0)
        rc = prepare(e, step, err);
    if (rc < 0)
        return rc;
    order(e, step);
    [e->compute setComputePipelineState:pipeline];
    for (uint32_t i = 0; i < step->n_operands; i++) {
        const struct gpu_operand *o = &step->operand[i];
        id<MTLBuffer> buffer = o->memory ? o->memory->buffer->buffer : e->m->null;
        [e->compute setBuffer:buffer offset:o->memory ? o->memory->base + o->offset : 0 atIndex:i];
    }
    [e->compute setBytes:step->args length:step->args_bytes ? step->args_bytes : 4 atIndex:METAL_ARGS];
    [e->compute setBuffer:e->m->null offset:0 atIndex:METAL_NULL];
    [e->compute dispatchThreadgroups:MTLSizeMake(step->grid[0], step->grid[1], step->grid[2])
               threadsPerThreadgroup:MTLSizeMake((NSUInteger)gpu_programs[step->program].threads, 1, 1)];
    return 0;
}

static size_t staged(size_t bytes) /* a copy's share of the staging memory */
{
    return (bytes + 8 + METAL_ALIGNMENT - 1) / METAL_ALIGNMENT * METAL_ALIGNMENT;
}

/* Blits want multiples of 4 bytes. What is none is written by the host, once everything before is over. */
static void upload_now(struct encoding *e, const struct gpu_step *step)
{
    const struct gpu_operand *o = &step->operand[0];
    commit(e);
    for (int i = 0; i < GPU_IN_FLIGHT; i++)
        for (int j = 0; j < e->m->list[i].n_commands; j++)
            [e->m->list[i].command[j].buffer waitUntilCompleted];
    memcpy((char *)[o->memory->buffer->buffer contents] + o->memory->base + o->offset, step->host, o->bytes);
}

static int upload(struct encoding *e, const struct gpu_step *step, struct err *err)
{
    const struct gpu_operand *o = &step->operand[0];
    if (o->offset % 4 || o->bytes % 4) {
        upload_now(e, step);
        return 0;
    }
    int rc = prepare(e, step, err);
    if (rc < 0)
        return rc;
    size_t at = e->list->staging_used;
    e->list->staging_used += staged(o->bytes);
    memcpy((char *)[e->list->staging contents] + at, step->host, o->bytes);
    [e->blit copyFromBuffer:e->list->staging
               sourceOffset:at
                   toBuffer:o->memory->buffer->buffer
          destinationOffset:o->memory->base + o->offset
                       size:o->bytes];
    return 0;
}

static int download(struct encoding *e, const struct gpu_step *step, struct err *err)
{
    const struct gpu_operand *o = &step->operand[0];
    struct metal_list *list = e->list;
    int rc = prepare(e, step, err);
    if (rc < 0)
        return rc;
    size_t at = list->staging_used, from = o->memory->base + o->offset, skip = from % 4;
    list->staging_used += staged(o->bytes);
    [e->blit copyFromBuffer:o->memory->buffer->buffer
               sourceOffset:from - skip
                   toBuffer:list->staging
          destinationOffset:at
                       size:(skip + o->bytes + 3) / 4 * 4]; /* allocations are multiples of it too */
    list->download[list->n_downloads++] =
        (struct metal_download){.host = step->host, .offset = at + skip, .bytes = o->bytes};
    return 0;
}

/* Staging memory and the list of downloads for all copies of the list. */
static int reserve(struct metal *m, struct metal_list *list, const struct gpu_step *step, int n,
                   struct err *err)
{
    size_t bytes = 0;
    int downloads = 0;
    for (int i = 0; i < n; i++) {
        if (step[i].kind != GPU_DISPATCH)
            bytes += staged(step[i].operand[0].bytes);
        downloads += step[i].kind == GPU_DOWNLOAD;
    }
    if (downloads > list->download_capacity) {
        void *more = realloc(list->download, (size_t)downloads * sizeof *list->download);
        if (!more)
            return err_set(err, ERR_NOMEM, "out of memory for %d downloads", downloads);
        list->download = more;
        list->download_capacity = downloads;
    }
    if (bytes > list->staging_bytes) {
        [list->staging release];
        list->staging_bytes = 0;
        list->staging = [m->device newBufferWithLength:bytes options:MTLResourceStorageModeShared];
        if (!list->staging)
            return err_set(err, ERR_NOMEM, "metal: no %zu bytes for copies", bytes);
        list->staging_bytes = bytes;
    }
    return 0;
}

int metal_encode(struct metal *m, struct metal_list *list, const struct gpu_step *step, int n,
                 struct err *err)
{
    struct encoding e = {.m = m, .list = list};
    list->n_commands = list->n_downloads = 0;
    list->staging_used = 0;
    int rc = reserve(m, list, step, n, err);
    for (int i = 0; i < n && rc == 0; i++) /* so that nothing runs where a pipeline is missing */
        if (step[i].kind == GPU_DISPATCH)
            rc = metal_pipeline(m, &step[i], &(id<MTLComputePipelineState>){nil}, err);
    for (int i = 0; i < n && rc == 0; i++)
        rc = step[i].kind == GPU_DISPATCH ? dispatch(&e, &step[i], err)
             : step[i].kind == GPU_UPLOAD ? upload(&e, &step[i], err)
                                          : download(&e, &step[i], err);
    commit(&e);
    return rc;
}

void metal_learn(struct metal *m, const struct metal_command_buffer *c, double seconds)
{
    double predicted = 0; /* by what was learned since it was encoded, too */
    for (int i = 0; i < GPU_PROGRAM_COUNT; i++)
        predicted += c->groups[i] * group_seconds(m, i);
    if (predicted <= 0 || seconds <= 0)
        return;
    double shift = seconds / predicted;
    shift = shift > MAX_SHIFT ? MAX_SHIFT : shift < 1 / MAX_SHIFT ? 1 / MAX_SHIFT : shift;
    for (int i = 0; i < GPU_PROGRAM_COUNT; i++) {
        double share = c->groups[i] * group_seconds(m, i) / predicted;
        if (share > 0) /* who took most of the time is moved most */
            m->seconds[i] = group_seconds(m, i) * (1 + share * (shift - 1));
    }
    for (int i = 0; i < OPERATOR_COUNT; i++)
        m->profile[i] += seconds * c->op[i] / c->predicted;
}
