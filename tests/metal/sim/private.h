/* What the files of the simulated framework share. */
#ifndef HEARTH_TEST_SIM_PRIVATE_H
#define HEARTH_TEST_SIM_PRIVATE_H

#import <Metal/Metal.h>

#include "../../../kernels/emulator/emulator.h"
#include "run.h"
#include "sim.h"

/* Notes a use that Apple's validation would stop at; always returns false. */
bool sim_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

@interface SimObject : NSObject
@end

@interface SimBuffer : SimObject <MTLBuffer> {
@public
    char *memory;
    NSUInteger length;
    bool wrapped;
}
@end

/* Is this a buffer that has not been released? */
bool sim_is_alive(const void *buffer);

@interface SimFunction : SimObject <MTLFunction> {
@public
    const struct emulator_kernel *function;
    NSString *name;
}
@end

@interface SimPipeline : SimObject <MTLComputePipelineState> {
@public
    const struct emulator_kernel *function;
}
@end

@interface SimQueue : SimObject <MTLCommandQueue> {
@public
    NSMutableArray *committed; /* not yet run */
    NSUInteger most, open;
}
@end

#endif
