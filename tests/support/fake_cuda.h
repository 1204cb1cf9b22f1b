/* A stand-in for libcuda and NVRTC: memory is the host's, kernels add the first int of their arguments to
 * the first int of their first operand (copy_words copies), and nothing runs before somebody waits for it,
 * as on a real card. Any call can be made to fail. */
#ifndef HEARTH_FAKE_CUDA_H
#define HEARTH_FAKE_CUDA_H

#include <stdbool.h>
#include <stddef.h>

struct fake_cuda {
    int cards, major, minor, version;
    size_t memory;       /* bytes of the card */
    bool no_ptx;         /* the linker refuses, as an old driver does newer PTX */
    bool loads_ptx;      /* modules may be PTX */
    const char *fail;    /* the call that fails, or NULL */
    int fail_at;         /* at its n-th time from now, 0 the next; 700 to 799 stay */
    int fail_code;
    int live;            /* objects, allocations */
    size_t in_use;       /* bytes of the card */
    int launches, dependent, graphs, replays, compiled;
    char options[512];   /* of the last NVRTC compilation */
    char target[16];     /* of the last PTX: "sm_90" */
    bool waits;          /* it has the instructions of dependent launch */
};
extern struct fake_cuda fake_cuda;

int fake_cuda_calls(const char *symbol); /* so far */
void fake_cuda_reset(void);

#endif
