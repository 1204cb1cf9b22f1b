/* NVRTC of the fake libcuda: what it makes of any source is code that the fake takes. */
#include <string.h>

#include "fake_cuda_private.h"

struct nvrtc_program {
    int unused;
};

int nvrtcVersion(int *major, int *minor)
{
    COUNT;
    *major = 12;
    *minor = 4;
    return 0;
}

int nvrtcGetNumSupportedArchs(int *n)
{
    COUNT;
    *n = 3;
    return 0;
}

int nvrtcGetSupportedArchs(int *archs)
{
    COUNT;
    memcpy(archs, (int[]){75, 80, 90}, 3 * sizeof *archs);
    return 0;
}

int nvrtcCreateProgram(struct nvrtc_program **program, const char *source, const char *name, int n,
                       const char *const *headers, const char *const *names)
{
    COUNT;
    (void)name, (void)n, (void)headers, (void)names;
    if (!strstr(source, "KERNEL"))
        return 1;
    *program = fake_cuda_make(sizeof **program);
    return 0;
}

int nvrtcDestroyProgram(struct nvrtc_program **program)
{
    int rc = fake_cuda_count(__func__);
    fake_cuda_unmake(*program);
    return rc;
}

int nvrtcCompileProgram(struct nvrtc_program *program, int n, const char *const *options)
{
    COUNT;
    (void)program;
    *fake_cuda.options = 0;
    for (int i = 0; i < n; i++) {
        strncat(fake_cuda.options, options[i], sizeof fake_cuda.options - strlen(fake_cuda.options) - 1);
        strncat(fake_cuda.options, " ", sizeof fake_cuda.options - strlen(fake_cuda.options) - 1);
    }
    fake_cuda.compiled++;
    return 0;
}

int nvrtcGetProgramLogSize(struct nvrtc_program *program, size_t *bytes)
{
    COUNT;
    (void)program;
    *bytes = 16;
    return 0;
}

int nvrtcGetProgramLog(struct nvrtc_program *program, char *log)
{
    COUNT;
    (void)program;
    strcpy(log, "line 1: nonsense");
    return 0;
}

static int size_of_code(struct nvrtc_program *program, size_t *bytes)
{
    (void)program;
    *bytes = 16;
    return 0;
}

static int give_code(struct nvrtc_program *program, char *code)
{
    (void)program;
    memset(code, 0, 16);
    memcpy(code, "code", 4);
    return 0;
}

int nvrtcGetCUBINSize(struct nvrtc_program *program, size_t *bytes)
{
    COUNT;
    return size_of_code(program, bytes);
}

int nvrtcGetCUBIN(struct nvrtc_program *program, char *cubin)
{
    COUNT;
    return give_code(program, cubin);
}

int nvrtcGetPTXSize(struct nvrtc_program *program, size_t *bytes)
{
    COUNT;
    return size_of_code(program, bytes);
}

int nvrtcGetPTX(struct nvrtc_program *program, char *ptx)
{
    COUNT;
    return give_code(program, ptx);
}
