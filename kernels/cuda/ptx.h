/* PTX that nvcc made when hearth was built, for compute capability 8.0; what later ones add is in it as
 * comments (compat_cuda.h). The list is empty where there was no nvcc. Written by gpu/flatten.py. */
#ifndef HEARTH_CUDA_PTX_H
#define HEARTH_CUDA_PTX_H

#include <stddef.h>

#define CUDA_PTX_ARCH 80

struct cuda_ptx {
    const char *module; /* "plain" or the name of a weight layout; NULL ends the list */
    const char *text;
    size_t bytes;       /* of the text and its final 0 */
};
extern const struct cuda_ptx cuda_ptx[];

#endif
