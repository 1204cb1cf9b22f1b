/* The simulated framework refuses what Apple's validation refuses, and finds missing barriers. Used the way
 * the driver uses it, but wrongly; main returns how many of the mistakes went unnoticed. */
#import <Metal/Metal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../kernels/args.h"
#include "sim/sim.h"

static id<MTLDevice> gpu;
static id<MTLCommandQueue> queue;
static id<MTLComputePipelineState> gather, sample;
static id<MTLBuffer> a, b, c, empty;
static int unnoticed, checked;

/* The last violation must speak of `what`; NULL: there must be none. */
static void expect(const char *test, const char *what)
{
    checked++;
    if (what ? sim_counts.violations == 0 || !strstr(sim_counts.violation, what)
             : sim_counts.violations > 0) {
        printf("%s: %s\n", test, sim_counts.violations ? sim_counts.violation : "nothing was noticed");
        unnoticed++;
    }
    sim_counts.violations = 0;
}

static id<MTLComputePipelineState> pipeline(NSString *name, NSDictionary *macros)
{
    MTLCompileOptions *options = [[[MTLCompileOptions alloc] init] autorelease];
    [options setFastMathEnabled:NO];
    [options setLanguageVersion:MTLLanguageVersion3_0];
    [options setPreprocessorMacros:macros];
    NSError *error = nil;
    id<MTLLibrary> library = [[gpu newLibraryWithSource:@"source" options:options error:&error] autorelease];
    id<MTLFunction> function = [[library newFunctionWithName:name] autorelease];
    return function ? [gpu newComputePipelineStateWithFunction:function error:&error] : nil;
}

static void bind_buffers(id<MTLComputeCommandEncoder> e, id<MTLBuffer> from, id<MTLBuffer> to)
{
    struct gather_args args = {.rows = 1, .width = 256};
    [e setComputePipelineState:gather];
    [e setBuffer:from offset:0 atIndex:0];
    [e setBuffer:c offset:0 atIndex:1];
    [e setBuffer:to offset:0 atIndex:2];
    [e setBytes:&args length:sizeof args atIndex:29];
    [e setBuffer:empty offset:0 atIndex:30];
}

static void dispatch(id<MTLComputeCommandEncoder> e, NSUInteger groups, NSUInteger threads)
{
    [e dispatchThreadgroups:MTLSizeMake(groups, 1, 1) threadsPerThreadgroup:MTLSizeMake(threads, 1, 1)];
}

static id<MTLComputeCommandEncoder> open_encoder(id<MTLCommandBuffer> command)
{
    return [command computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
}

static void finish(id<MTLCommandBuffer> command, id<MTLCommandEncoder> e)
{
    [e endEncoding];
    [command commit];
    [command waitUntilCompleted];
}

static void check_dispatches(void)
{
    id<MTLCommandBuffer> command = [queue commandBuffer];
    id<MTLComputeCommandEncoder> e = open_encoder(command);
    bind_buffers(e, a, b);
    dispatch(e, 1, 256);
    finish(command, e);
    expect("a correct dispatch", NULL);
    if ([command status] != MTLCommandBufferStatusCompleted || ((float *)[b contents])[255] != 255)
        unnoticed++;

    command = [queue commandBuffer];
    e = open_encoder(command);
    dispatch(e, 1, 256);
    finish(command, e);
    expect("no pipeline", "without a pipeline");

    command = [queue commandBuffer];
    e = open_encoder(command);
    bind_buffers(e, a, b);
    dispatch(e, 1, 100);
    finish(command, e);
    expect("threads of a group", "100 threads");
    if ([command status] != MTLCommandBufferStatusError || ![command error])
        unnoticed++;

    command = [queue commandBuffer];
    e = open_encoder(command);
    bind_buffers(e, a, b);
    [e setBuffer:nil offset:0 atIndex:1];
    dispatch(e, 1, 256);
    finish(command, e);
    expect("no buffer", "no buffer at index 1");

    command = [queue commandBuffer];
    e = open_encoder(command);
    bind_buffers(e, a, b);
    [e setBytes:"1234" length:4 atIndex:29];
    dispatch(e, 0, 256);
    finish(command, e);
    expect("few arguments", "4 bytes of arguments");

    static char much[5000];
    command = [queue commandBuffer];
    e = open_encoder(command);
    [e setBytes:much length:sizeof much atIndex:29];
    finish(command, e);
    expect("large arguments", "5000 bytes");

    command = [queue commandBuffer];
    e = open_encoder(command);
    [e setBuffer:a offset:2 atIndex:0];
    finish(command, e);
    expect("odd offset", "offset 2");

    command = [queue commandBuffer];
    e = open_encoder(command);
    [e setBuffer:a offset:[a length] atIndex:0];
    finish(command, e);
    expect("offset at the end", "offset 1024");
}

static void check_order(void)
{
    id<MTLBuffer> order[][4] = {{a, b, b, a}, {a, b, a, b}}; /* read after written, written twice */
    for (int i = 0; i < 2; i++) {
        for (int barrier = 0; barrier < 2; barrier++) {
            id<MTLCommandBuffer> command = [queue commandBuffer];
            id<MTLComputeCommandEncoder> e = open_encoder(command);
            bind_buffers(e, order[i][0], order[i][1]);
            dispatch(e, 1, 256);
            id<MTLResource> all[] = {a, b};
            if (barrier)
                [e memoryBarrierWithResources:all count:2];
            bind_buffers(e, order[i][2], order[i][3]);
            dispatch(e, 1, 256);
            finish(command, e);
            expect("order", barrier ? NULL : "without a barrier after gather");
        }
    }
    id<MTLCommandBuffer> command = [queue commandBuffer];
    id<MTLComputeCommandEncoder> e = open_encoder(command);
    bind_buffers(e, a, b);
    dispatch(e, 1, 256);
    [e memoryBarrierWithResources:(id<MTLResource>[]){a} count:1];
    bind_buffers(e, b, a);
    dispatch(e, 1, 256);
    finish(command, e);
    expect("a barrier on another resource", "reads bytes 0 to 1024 at index 0 without a barrier");
}

static void check_life(void)
{
    id<MTLCommandBuffer> command = [queue commandBuffer];
    id<MTLComputeCommandEncoder> e = open_encoder(command);
    open_encoder(command);
    expect("two encoders", "another is open");
    finish(command, e);
    sim_counts.violations = 0;

    command = [queue commandBuffer];
    e = open_encoder(command);
    [command commit];
    expect("commit with an open encoder", "open encoder");
    [e endEncoding];
    expect("an encoder after commit", "after the encoder had ended");
    [command commit];
    expect("commit twice", "commit twice");
    [command waitUntilCompleted];

    command = [queue commandBuffer];
    [command waitUntilCompleted];
    expect("wait before commit", "before commit");

    id<MTLBuffer> gone = [gpu newBufferWithLength:1024 options:MTLResourceStorageModeShared];
    command = [queue commandBuffer];
    e = open_encoder(command);
    bind_buffers(e, gone, b);
    dispatch(e, 1, 256);
    [e endEncoding];
    [gone release];
    [command commit];
    [command waitUntilCompleted];
    expect("a released buffer", "was released before it ran");
}

static void check_memory(void)
{
    NSUInteger page = (NSUInteger)sysconf(_SC_PAGESIZE);
    char *host = (char *)[a contents]; /* mapped by the page */
    [gpu newBufferWithBytesNoCopy:host + 16 length:page options:0 deallocator:nil];
    expect("an odd address", "not whole pages");
    [gpu newBufferWithBytesNoCopy:host length:page / 2 options:0 deallocator:nil];
    expect("an odd length", "not whole pages");
    [gpu newBufferWithBytesNoCopy:(void *)page length:page options:0 deallocator:nil];
    expect("pages that are not there", "not all mapped");
    [gpu newBufferWithLength:0 options:0];
    expect("no bytes", "newBufferWithLength: 0");

    id<MTLCommandBuffer> command = [queue commandBuffer];
    id<MTLBlitCommandEncoder> blit = [command blitCommandEncoder];
    [blit copyFromBuffer:a sourceOffset:0 toBuffer:b destinationOffset:0 size:6];
    expect("an odd copy", "no multiple of 4");
    [blit copyFromBuffer:a sourceOffset:4 toBuffer:b destinationOffset:0 size:1024];
    expect("a copy over the end", "outside");
    finish(command, blit);

    MTLCompileOptions *options = [[[MTLCompileOptions alloc] init] autorelease];
    NSError *error = nil;
    [gpu newLibraryWithSource:@"source" options:options error:&error];
    expect("relaxed math", "relaxed math");
    if (pipeline(@"no_such_kernel", nil) || pipeline(@"embed_F16", nil))
        unnoticed++;
}

int main(void)
{
    @autoreleasepool {
        gpu = MTLCreateSystemDefaultDevice();
        queue = [gpu newCommandQueueWithMaxCommandBufferCount:64];
        gather = pipeline(@"gather", nil);
        sample = pipeline(@"embed_F16", [NSDictionary dictionaryWithObjectsAndKeys:@"1", @"GPU_TYPED", @"F16",
                                                                                  @"GPU_WEIGHT_NAME", nil]);
        a = [gpu newBufferWithLength:1024 options:MTLResourceStorageModeShared];
        b = [gpu newBufferWithLength:1024 options:MTLResourceStorageModeShared];
        c = [gpu newBufferWithLength:16 options:MTLResourceStorageModeShared];
        empty = [gpu newBufferWithLength:256 options:MTLResourceStorageModeShared];
        if (!gather || !sample)
            return 1;
        for (int i = 0; i < 256; i++)
            ((float *)[a contents])[i] = (float)i;
        check_dispatches();
        check_order();
        check_life();
        check_memory();
    }
    printf("%d checks, %d unnoticed\n", checked, unnoticed);
    return unnoticed ? 1 : 0;
}
