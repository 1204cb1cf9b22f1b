/* The simulated framework's queue, command buffers and encoders: recording, validation, execution. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "private.h"

#define MAX_BYTES 4096    /* of setBytes */

/* A recorded command. Buffers are not retained: one that dies before the command ran is a violation. */
struct sim_command {
    enum { SIM_DISPATCH, SIM_BARRIER, SIM_COPY, SIM_ENCODER } kind;
    const struct emulator_kernel *function;
    uint32_t grid[3];
    SimBuffer *buffer[SIM_BUFFERS]; /* SIM_BARRIER: the resources; SIM_COPY: from, to */
    size_t offset[SIM_BUFFERS], size;
    unsigned char bytes[MAX_BYTES];
};

/* What a dispatch of the running encoder touched, since the last barrier on that buffer. */
struct sim_access {
    SimBuffer *buffer;
    size_t begin, end;
    bool written;
    const char *by;
};

@class SimCompute, SimBlit;

@interface SimCommandBuffer : SimObject <MTLCommandBuffer> {
@public
    SimQueue *queue;
    SimObject *encoder; /* the open one */
    struct sim_command **command;
    size_t n, capacity;
    MTLCommandBufferStatus status;
    NSInteger code;
    char message[500];
    double start, end;
    struct sim_access *access;
    size_t n_access, access_capacity;
}
- (void)run;
- (void)fail:(NSInteger)code with:(const char *)text;
@end

@interface SimEncoder : SimObject <MTLCommandEncoder> {
@public
    SimCommandBuffer *commands;
    bool ended;
}
- (bool)isOpen:(const char *)what;
@end

@interface SimCompute : SimEncoder <MTLComputeCommandEncoder> {
@public
    const struct emulator_kernel *function;
    SimBuffer *buffer[SIM_BUFFERS];
    size_t offset[SIM_BUFFERS], bytes_length;
    int bytes_index;
    unsigned char bytes[MAX_BYTES];
    bool concurrent;
}
@end

@interface SimBlit : SimEncoder <MTLBlitCommandEncoder>
@end

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- encoders ---- */

@implementation SimEncoder
- (bool)isOpen:(const char *)what
{
    if (!ended && commands->status < MTLCommandBufferStatusCommitted)
        return true;
    [commands fail:MTLCommandBufferErrorInvalidResource with:what];
    return sim_violation("%s after the encoder had ended", what);
}

- (void)endEncoding
{
    if (![self isOpen:"endEncoding"])
        return;
    ended = true;
    commands->encoder = nil;
}

- (void)dealloc
{
    if (!ended)
        sim_violation("an encoder is released before endEncoding");
    [super dealloc];
}
@end

static struct sim_command *append(SimCommandBuffer *c, int kind)
{
    if (c->n == c->capacity) {
        c->capacity = c->capacity ? 2 * c->capacity : 64;
        c->command = realloc(c->command, c->capacity * sizeof *c->command);
        if (!c->command)
            abort();
    }
    struct sim_command *command = calloc(1, sizeof *command);
    if (!command)
        abort();
    command->kind = kind;
    return c->command[c->n++] = command;
}

static void invalid(SimCommandBuffer *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void invalid(SimCommandBuffer *c, const char *format, ...)
{
    char text[sizeof c->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sim_violation("%s", text);
    [c fail:MTLCommandBufferErrorInvalidResource with:text];
}

@implementation SimCompute
- (void)setComputePipelineState:(id<MTLComputePipelineState>)state
{
    if ([self isOpen:"setComputePipelineState"])
        function = ((SimPipeline *)state)->function;
}

- (void)setBuffer:(id<MTLBuffer>)given offset:(NSUInteger)at atIndex:(NSUInteger)index
{
    if (![self isOpen:"setBuffer"])
        return;
    if (index >= SIM_BUFFERS) {
        invalid(commands, "setBuffer: index %lu", (unsigned long)index);
        return;
    }
    if (given && (at >= [given length] || at % 4))
        invalid(commands, "setBuffer: offset %lu of %lu bytes at index %lu: outside, or no multiple of 4",
                (unsigned long)at, (unsigned long)[given length], (unsigned long)index);
    buffer[index] = (SimBuffer *)given;
    offset[index] = at;
}

- (void)setBytes:(const void *)given length:(NSUInteger)length atIndex:(NSUInteger)index
{
    if (![self isOpen:"setBytes"])
        return;
    if (length == 0 || length > MAX_BYTES || index >= SIM_BUFFERS) {
        invalid(commands, "setBytes: %lu bytes at index %lu; at most %d", (unsigned long)length,
                (unsigned long)index, MAX_BYTES);
        return;
    }
    memcpy(bytes, given, length);
    bytes_length = length;
    bytes_index = (int)index;
}

- (void)dispatchThreadgroups:(MTLSize)groups threadsPerThreadgroup:(MTLSize)threads
{
    if (![self isOpen:"dispatchThreadgroups"])
        return;
    if (!function) {
        invalid(commands, "dispatchThreadgroups without a pipeline");
        return;
    }
    const char *name = function->name;
    NSUInteger in_group = threads.width * threads.height * threads.depth;
    if (in_group == 0 || in_group % 32 || in_group != (NSUInteger)function->threads)
        invalid(commands, "%s: %lu threads in a group; it was compiled for %d", name, (unsigned long)in_group,
                function->threads);
    if (groups.width == 0 || groups.height == 0 || groups.depth == 0)
        invalid(commands, "%s: a grid without groups", name);
    if (bytes_length < function->args_bytes)
        invalid(commands, "%s: %zu bytes of arguments; it wants %zu", name, bytes_length,
                function->args_bytes);
    for (int i = 0; i < function->operands; i++)
        if (!buffer[i])
            invalid(commands, "%s: no buffer at index %d", name, i);
    struct sim_command *command = append(commands, SIM_DISPATCH);
    command->function = function;
    command->grid[0] = (uint32_t)groups.width;
    command->grid[1] = (uint32_t)groups.height;
    command->grid[2] = (uint32_t)groups.depth;
    memcpy(command->buffer, buffer, sizeof buffer);
    memcpy(command->offset, offset, sizeof offset);
    memcpy(command->bytes, bytes, bytes_length);
    command->size = concurrent;
}

- (void)memoryBarrierWithResources:(const id<MTLResource> *)resources count:(NSUInteger)count
{
    if (![self isOpen:"memoryBarrierWithResources"])
        return;
    sim_counts.barriers++;
    for (NSUInteger i = 0; i < count; i += SIM_BUFFERS) {
        struct sim_command *command = append(commands, SIM_BARRIER);
        for (NSUInteger j = 0; j < SIM_BUFFERS && i + j < count; j++)
            command->buffer[j] = (SimBuffer *)resources[i + j];
    }
}
@end

@implementation SimBlit
- (void)copyFromBuffer:(id<MTLBuffer>)source
          sourceOffset:(NSUInteger)source_offset
              toBuffer:(id<MTLBuffer>)destination
     destinationOffset:(NSUInteger)destination_offset
                  size:(NSUInteger)size
{
    if (![self isOpen:"copyFromBuffer"])
        return;
    if (!source || !destination || size == 0 || source_offset % 4 || destination_offset % 4 || size % 4 ||
        source_offset > [source length] || size > [source length] - source_offset ||
        destination_offset > [destination length] || size > [destination length] - destination_offset) {
        invalid(commands, "copyFromBuffer: %lu bytes from %lu to %lu: outside, or no multiple of 4",
                (unsigned long)size, (unsigned long)source_offset, (unsigned long)destination_offset);
        return;
    }
    struct sim_command *command = append(commands, SIM_COPY);
    command->buffer[0] = (SimBuffer *)source;
    command->buffer[1] = (SimBuffer *)destination;
    command->offset[0] = source_offset;
    command->offset[1] = destination_offset;
    command->size = size;
}
@end

/* ---- execution ---- */

static void note(SimCommandBuffer *c, const struct sim_access *access)
{
    if (c->n_access == c->access_capacity) {
        c->access_capacity = c->access_capacity ? 2 * c->access_capacity : 64;
        c->access = realloc(c->access, c->access_capacity * sizeof *c->access);
        if (!c->access)
            abort();
    }
    c->access[c->n_access++] = *access;
}

/* Does the dispatch touch what another touched that no barrier ended, and one of them wrote? */
static void check_order(SimCommandBuffer *c, const struct sim_command *command,
                        const struct sim_argument *argument)
{
    size_t before = c->n_access;
    for (int i = 0; i < 2 * command->function->operands; i++) {
        bool written = i % 2;
        const struct sim_range *range = written ? &argument[i / 2].written : &argument[i / 2].read;
        size_t at = command->offset[i / 2];
        struct sim_access now = {command->buffer[i / 2], at + range->begin, at + range->end, written,
                                 command->function->name};
        if (range->end == 0)
            continue;
        for (size_t j = 0; j < before && command->size; j++) {
            const struct sim_access *other = &c->access[j];
            if (other->buffer == now.buffer && other->begin < now.end && now.begin < other->end &&
                (other->written || written)) {
                invalid(c, "%s %s bytes %zu to %zu at index %d without a barrier after %s, which %s there",
                        now.by, written ? "writes" : "reads", now.begin, now.end, i / 2, other->by,
                        other->written ? "writes" : "reads");
                return;
            }
        }
        note(c, &now);
    }
}

static void end_accesses(SimCommandBuffer *c, const struct sim_command *barrier)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n_access; i++) {
        bool ended = false;
        for (int j = 0; j < SIM_BUFFERS && !ended; j++)
            ended = barrier->buffer[j] == c->access[i].buffer;
        if (!ended)
            c->access[kept++] = c->access[i];
    }
    c->n_access = kept;
}

static void dispatch(SimCommandBuffer *c, const struct sim_command *command)
{
    struct sim_argument argument[SIM_BUFFERS] = {{0}};
    int operands = command->function->operands;
    SimBuffer *null = command->buffer[SIM_BUFFERS - 1];
    for (int i = 0; i < operands; i++) {
        SimBuffer *buffer = command->buffer[i];
        if (!sim_is_alive(buffer)) {
            invalid(c, "%s: the buffer at index %d was released before it ran", command->function->name, i);
            return;
        }
        if (buffer == null) /* as IS_NULL of compat_metal.h tells */
            continue;
        argument[i].memory = buffer->memory + command->offset[i];
        argument[i].bytes = buffer->length - command->offset[i];
        argument[i].read_only = buffer->wrapped;
    }
    sim_counts.dispatches++;
    char text[300];
    if (!sim_run(command->function, command->grid, command->bytes, argument, text, sizeof text))
        invalid(c, "%s", text);
    else
        check_order(c, command, argument);
}

static void copy(SimCommandBuffer *c, const struct sim_command *command)
{
    SimBuffer *from = command->buffer[0], *to = command->buffer[1];
    if (!sim_is_alive(from) || !sim_is_alive(to))
        invalid(c, "copyFromBuffer: a buffer was released before it ran");
    else
        memmove(to->memory + command->offset[1], from->memory + command->offset[0], command->size);
}

@implementation SimCommandBuffer
- (void)fail:(NSInteger)given with:(const char *)text
{
    if (code)
        return;
    code = given;
    snprintf(message, sizeof message, "%s", text);
}

- (SimEncoder *)open:(Class)class
{
    if (encoder || status >= MTLCommandBufferStatusCommitted)
        invalid(self, "an encoder is opened while another is open, or after commit");
    SimEncoder *e = [[[class alloc] init] autorelease];
    e->commands = self;
    encoder = e;
    append(self, SIM_ENCODER); /* Metal orders encoders by what they touch */
    return e;
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)type
{
    SimCompute *e = (SimCompute *)[self open:[SimCompute class]];
    e->concurrent = type == MTLDispatchTypeConcurrent;
    return e;
}

- (id<MTLBlitCommandEncoder>)blitCommandEncoder
{
    return (SimBlit *)[self open:[SimBlit class]];
}

- (void)commit
{
    if (encoder || status >= MTLCommandBufferStatusCommitted)
        invalid(self, "commit twice, or with an open encoder");
    if (status >= MTLCommandBufferStatusCommitted)
        return;
    status = MTLCommandBufferStatusCommitted;
    sim_counts.command_buffers++;
    [queue->committed addObject:self];
}

- (void)run
{
    start = now();
    double slow = 0;
    if (sim_control.fail_after >= 0 && sim_control.fail_after-- == 0)
        [self fail:sim_control.fail_code with:"planted failure"];
    for (size_t i = 0; i < n && code == 0; i++) {
        if (command[i]->kind == SIM_ENCODER)
            n_access = 0;
        else if (command[i]->kind == SIM_BARRIER)
            end_accesses(self, command[i]);
        else if (command[i]->kind == SIM_COPY)
            copy(self, command[i]);
        else
            dispatch(self, command[i]);
        slow += command[i]->kind == SIM_DISPATCH ? sim_control.slow : 0;
    }
    end = slow > 0 ? start + slow : now();
    if (end - start > sim_counts.longest)
        sim_counts.longest = end - start;
    status = code ? MTLCommandBufferStatusError : MTLCommandBufferStatusCompleted;
    queue->open--;
}

- (void)waitUntilCompleted
{
    if (status < MTLCommandBufferStatusCommitted)
        invalid(self, "waitUntilCompleted before commit");
    while (status == MTLCommandBufferStatusCommitted) {
        SimCommandBuffer *oldest = [[queue->committed objectAtIndex:0] retain];
        [queue->committed removeObjectAtIndex:0];
        [oldest run];
        [oldest release];
    }
}

- (MTLCommandBufferStatus)status
{
    return status;
}

- (NSError *)error
{
    if (!code)
        return nil;
    NSDictionary *info = [NSDictionary dictionaryWithObject:[NSString stringWithUTF8String:message]
                                                     forKey:NSLocalizedDescriptionKey];
    return [NSError errorWithDomain:@"MTLCommandBufferErrorDomain" code:code userInfo:info];
}

- (CFTimeInterval)GPUStartTime
{
    return start;
}

- (CFTimeInterval)GPUEndTime
{
    return end;
}

- (void)dealloc
{
    if (status < MTLCommandBufferStatusCommitted)
        queue->open--;
    for (size_t i = 0; i < n; i++)
        free(command[i]);
    free(command);
    free(access);
    [super dealloc];
}
@end

@implementation SimQueue
- (id)init
{
    self = [super init];
    committed = [[NSMutableArray alloc] init];
    return self;
}

- (id<MTLCommandBuffer>)commandBuffer
{
    while (open >= most && [committed count]) /* as Metal: blocks until one has ended */
        [[committed lastObject] waitUntilCompleted];
    if (open >= most) {
        sim_violation("%lu command buffers are open and none is committed: the queue would block for ever",
                      (unsigned long)open);
        return nil;
    }
    SimCommandBuffer *c = [[[SimCommandBuffer alloc] init] autorelease];
    c->queue = self;
    open++;
    return c;
}

- (void)addResidencySet:(id<MTLResidencySet>)set
{
    if (!set)
        sim_violation("addResidencySet: nil");
}

- (void)dealloc
{
    if ([committed count])
        sim_violation("a queue is released with work in it");
    [committed release];
    [super dealloc];
}
@end
