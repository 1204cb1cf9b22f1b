/* Libraries and pipelines of the Metal driver, made when they are first needed: the plain kernels, and the
 * typed ones once per weight layout. */
#include "metal.h"

static const char *library_name(int which)
{
    return which == GPU_WEIGHT_COUNT ? "plain" : gpu_weight_names[which];
}

/* The first line of what the compiler says. */
static int compile_failed(struct err *err, int which, NSError *error)
{
    const char *text = error ? [[error localizedDescription] UTF8String] : "no reason given";
    return err_set(err, ERR_DEVICE, "metal: the %s kernels do not compile: %.*s", library_name(which), 200,
                   text ? text : "");
}

static MTLCompileOptions *new_options(int which)
{
    MTLCompileOptions *options = [[MTLCompileOptions alloc] init];
    NSMutableDictionary *macros = [NSMutableDictionary dictionary];
    if (which < GPU_WEIGHT_COUNT) {
        [macros setObject:@"1" forKey:@"GPU_TYPED"];
        [macros setObject:[NSString stringWithUTF8String:gpu_weight_names[which]] forKey:@"GPU_WEIGHT_NAME"];
    }
    [options setPreprocessorMacros:macros];
    [options setLanguageVersion:MTLLanguageVersion3_0];
    /* Infinities mask and results are compared with the CPU's: never the relaxed math that is the default. */
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations" /* its successor needs macOS 15 */
#endif
    [options setFastMathEnabled:NO];
#if defined(__clang__)
#pragma clang diagnostic pop
#endif
    return options;
}

static int open_library(struct metal *m, int which, struct err *err)
{
    if (m->library[which])
        return 0;
    MTLCompileOptions *options = new_options(which);
    NSError *error = nil;
    m->library[which] = [m->device newLibraryWithSource:[NSString stringWithUTF8String:gpu_source]
                                                options:options
                                                  error:&error];
    [options release];
    return m->library[which] ? 0 : compile_failed(err, which, error);
}

static int open_pipeline(struct metal *m, const struct gpu_program_info *program, int which,
                         id<MTLComputePipelineState> *out, struct err *err)
{
    char name[96];
    snprintf(name, sizeof name, program->typed ? "%s_%s" : "%s", program->name,
             program->typed ? library_name(which) : "");
    int rc = open_library(m, which, err);
    if (rc < 0)
        return rc;
    id<MTLFunction> function = [m->library[which] newFunctionWithName:[NSString stringWithUTF8String:name]];
    if (!function)
        return err_set(err, ERR_DEVICE, "metal: the library has no kernel %s", name);
    NSError *error = nil;
    id<MTLComputePipelineState> pipeline = [m->device newComputePipelineStateWithFunction:function
                                                                                    error:&error];
    [function release];
    if (!pipeline)
        return compile_failed(err, which, error);
    int width = (int)[pipeline threadExecutionWidth], threads = (int)[pipeline maxTotalThreadsPerThreadgroup];
    if (width == 32 && threads >= program->threads) {
        *out = pipeline;
        return 0;
    }
    [pipeline release];
    if (width != 32)
        return err_set(err, ERR_UNSUPPORTED,
                       "metal: this GPU runs %s %d lanes together; the kernels are made for 32", name, width);
    return err_set(err, ERR_UNSUPPORTED,
                   "metal: this GPU runs at most %d threads of %s in a group, which wants %d", threads, name,
                   program->threads);
}

int metal_pipeline(struct metal *m, const struct gpu_step *step, id<MTLComputePipelineState> *out,
                   struct err *err)
{
    const struct gpu_program_info *program = &gpu_programs[step->program];
    int which = program->typed ? (int)step->weight : GPU_WEIGHT_COUNT;
    id<MTLComputePipelineState> *slot = &m->pipeline[step->program][program->typed ? which : 0];
    int rc = *slot ? 0 : open_pipeline(m, program, which, slot, err);
    *out = *slot;
    return rc;
}
