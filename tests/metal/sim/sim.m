/* The simulated framework's device, memory, libraries and pipelines. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysctl.h>
#include <unistd.h>

#include "private.h"

#include <IOKit/IOKitLib.h>

#define MAX_BUFFER ((size_t)1 << 30)
#define WORKING_SET ((uint64_t)8 << 30)
#define GPU_CORES 8

struct sim_control sim_control = {.fail_after = -1};
struct sim_counts sim_counts;

static const void **alive; /* buffers, for use after release */
static size_t n_alive, alive_capacity;

bool sim_violation(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sim_counts.violation, sizeof sim_counts.violation, format, arguments);
    va_end(arguments);
    sim_counts.violations++;
    return false;
}

bool sim_is_alive(const void *buffer)
{
    for (size_t i = 0; i < n_alive; i++)
        if (alive[i] == buffer)
            return true;
    return false;
}

static void born(const void *buffer)
{
    if (n_alive == alive_capacity) {
        alive_capacity = alive_capacity ? 2 * alive_capacity : 64;
        alive = realloc(alive, alive_capacity * sizeof *alive);
        if (!alive)
            abort();
    }
    alive[n_alive++] = buffer;
    sim_counts.buffers++;
}

static void died(const void *buffer)
{
    for (size_t i = 0; i < n_alive; i++) {
        if (alive[i] != buffer)
            continue;
        alive[i] = alive[--n_alive];
        sim_counts.buffers--;
        break;
    }
    if (n_alive == 0) {
        free(alive);
        alive = NULL;
        alive_capacity = 0;
    }
}

@implementation SimObject
- (id)init
{
    self = [super init];
    sim_counts.objects++;
    return self;
}

- (void)dealloc
{
    sim_counts.objects--;
    [super dealloc];
}
@end

@implementation SimBuffer
- (NSUInteger)length
{
    return length;
}

- (void *)contents
{
    return memory;
}

- (void)dealloc
{
    died(self);
    if (!wrapped) {
        memset(memory, 0xa5, length);
        munmap(memory, length);
    }
    [super dealloc];
}
@end

@implementation SimFunction
- (NSString *)name
{
    return name;
}

- (void)dealloc
{
    [name release];
    [super dealloc];
}
@end

@implementation SimPipeline
- (NSUInteger)threadExecutionWidth
{
    return sim_control.simd_width ? (NSUInteger)sim_control.simd_width : 32;
}

- (NSUInteger)maxTotalThreadsPerThreadgroup
{
    return (NSUInteger)function->threads; /* as [[max_total_threads_per_threadgroup]] says */
}

- (NSUInteger)staticThreadgroupMemoryLength
{
    return 0;
}
@end

@interface SimLibrary : SimObject <MTLLibrary> {
@public
    NSDictionary *macros;
}
@end

@implementation SimLibrary
- (id<MTLFunction>)newFunctionWithName:(NSString *)wanted
{
    NSString *weight = [macros objectForKey:@"GPU_WEIGHT_NAME"];
    bool typed = [macros objectForKey:@"GPU_TYPED"] != nil;
    const struct emulator_kernel *found = NULL;
    if (typed == (weight != nil))
        found = sim_function([wanted UTF8String], typed ? [weight UTF8String] : NULL);
    if (!found)
        return nil;
    SimFunction *f = [[SimFunction alloc] init];
    f->function = found;
    f->name = [wanted copy];
    return f;
}

- (void)dealloc
{
    [macros release];
    [super dealloc];
}
@end

@implementation MTLCompileOptions
- (id)init
{
    self = [super init];
    fast = YES; /* the default there */
    return self;
}

- (void)setPreprocessorMacros:(NSDictionary *)given
{
    [macros release];
    macros = [given copy];
}

- (void)setLanguageVersion:(MTLLanguageVersion)given
{
    version = given;
}

- (void)setFastMathEnabled:(BOOL)enabled
{
    fast = enabled;
}

- (void)dealloc
{
    [macros release];
    [super dealloc];
}
@end

@implementation MTLResidencySetDescriptor
@end

@interface SimResidencySet : SimObject <MTLResidencySet>
@end

@implementation SimResidencySet
- (void)addAllocation:(id)allocation
{
    if (!sim_is_alive(allocation))
        sim_violation("a residency set is given a buffer that was released");
}

- (void)removeAllocation:(id)allocation
{
    [self addAllocation:allocation];
}

- (void)commit
{
}

- (void)requestResidency
{
    sim_counts.resident = true;
}

- (void)endResidency
{
    sim_counts.resident = false;
}
@end

@interface SimDevice : SimObject <MTLDevice> {
@public
    NSUInteger allocated;
}
@end

static NSError *failure(NSString *text)
{
    return [NSError errorWithDomain:@"MTLLibraryErrorDomain"
                               code:3
                           userInfo:[NSDictionary dictionaryWithObject:text
                                                                forKey:NSLocalizedDescriptionKey]];
}

@implementation SimDevice
- (NSString *)name
{
    return @"Simulated M1";
}

- (BOOL)supportsFamily:(MTLGPUFamily)family
{
    return family == MTLGPUFamilyApple7 && !sim_control.no_apple_gpu;
}

- (NSUInteger)maxBufferLength
{
    return sim_control.max_buffer ? sim_control.max_buffer : MAX_BUFFER;
}

- (NSUInteger)currentAllocatedSize
{
    return allocated;
}

- (uint64_t)recommendedMaxWorkingSetSize
{
    return WORKING_SET;
}

- (BOOL)respondsToSelector:(SEL)selector
{
    if (sel_isEqual(selector, @selector(newResidencySetWithDescriptor:error:)) && sim_control.no_residency)
        return NO;
    return [super respondsToSelector:selector];
}

- (id<MTLCommandQueue>)newCommandQueueWithMaxCommandBufferCount:(NSUInteger)count
{
    SimQueue *queue = [[SimQueue alloc] init];
    queue->most = count;
    return queue;
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options
{
    if (length == 0 || length > [self maxBufferLength] || options != MTLResourceStorageModeShared) {
        sim_violation("newBufferWithLength: %lu bytes, options %lu", (unsigned long)length,
                      (unsigned long)options);
        return nil;
    }
    void *memory = sim_control.no_memory ? MAP_FAILED
                                         : mmap(NULL, length, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return nil;
    SimBuffer *buffer = [[SimBuffer alloc] init];
    buffer->memory = memory;
    buffer->length = length;
    allocated += length;
    born(buffer);
    return buffer;
}

- (id<MTLBuffer>)newBufferWithBytesNoCopy:(void *)pointer
                                   length:(NSUInteger)length
                                  options:(MTLResourceOptions)options
                              deallocator:(void *)none
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!pointer || (uintptr_t)pointer % page || length == 0 || length % page ||
        length > [self maxBufferLength] || options != MTLResourceStorageModeShared || none) {
        sim_violation("newBufferWithBytesNoCopy: %p, %lu bytes: not whole pages, or too long", pointer,
                      (unsigned long)length);
        return nil;
    }
    if (msync(pointer, length, MS_ASYNC) != 0) {
        sim_violation("newBufferWithBytesNoCopy: %p, %lu bytes: not all mapped", pointer,
                      (unsigned long)length);
        return nil;
    }
    if (sim_control.no_memory)
        return nil;
    SimBuffer *buffer = [[SimBuffer alloc] init];
    buffer->memory = pointer;
    buffer->length = length;
    buffer->wrapped = true;
    sim_counts.wrapped++;
    born(buffer);
    return buffer;
}

- (id<MTLLibrary>)newLibraryWithSource:(NSString *)source
                               options:(MTLCompileOptions *)options
                                 error:(NSError **)error
{
    if (sim_control.no_compile || [source length] == 0 || options->fast ||
        options->version < MTLLanguageVersion2_4) {
        if (options->fast)
            sim_violation("a library is compiled with relaxed math");
        *error = failure(@"program_source:1:1: error: the simulated compiler was told to fail");
        return nil;
    }
    SimLibrary *library = [[SimLibrary alloc] init];
    library->macros = [options->macros copy];
    sim_counts.libraries++;
    return library;
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)function
                                                             error:(NSError **)error
{
    if (!function) {
        sim_violation("a pipeline of no function");
        *error = failure(@"no function");
        return nil;
    }
    SimPipeline *pipeline = [[SimPipeline alloc] init];
    pipeline->function = ((SimFunction *)function)->function;
    return pipeline;
}

- (id<MTLResidencySet>)newResidencySetWithDescriptor:(MTLResidencySetDescriptor *)descriptor
                                               error:(NSError **)error
{
    (void)descriptor, (void)error;
    return [[SimResidencySet alloc] init];
}
@end

id<MTLDevice> MTLCreateSystemDefaultDevice(void)
{
    return [[SimDevice alloc] init];
}

/* ---- what else of macOS is asked ---- */

int sysctlbyname(const char *name, void *value, size_t *size, void *new_value, size_t new_size)
{
    (void)new_value, (void)new_size;
    if (strcmp(name, "kern.memorystatus_vm_pressure_level") != 0 || *size != sizeof(int))
        return -1;
    *(int *)value = sim_control.pressure ? 2 : 1;
    return 0;
}

CFMutableDictionaryRef IOServiceMatching(const char *name)
{
    return (CFMutableDictionaryRef)(uintptr_t)name;
}

io_service_t IOServiceGetMatchingService(unsigned int port, CFMutableDictionaryRef matching)
{
    (void)port;
    return strcmp((const char *)(uintptr_t)matching, "AGXAccelerator") == 0;
}

CFTypeRef IORegistryEntryCreateCFProperty(io_object_t entry, CFStringRef key, CFAllocatorRef allocator,
                                          IOOptionBits options)
{
    (void)entry, (void)allocator, (void)options;
    return [(id)key isEqualToString:@"gpu-core-count"] ? [[NSNumber alloc] initWithInt:GPU_CORES] : nil;
}

int IOObjectRelease(io_object_t object)
{
    (void)object;
    return 0;
}
