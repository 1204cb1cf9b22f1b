/* All kernels, as one module: the plain ones, or with GPU_TYPED those of one weight layout
 * (GPU_WEIGHT_NAME). */
#include "compat.h"

#include "../args.h"

#include "gpu_args.h"

#include "forms.h"

#include "weight_k.h"

#ifdef GPU_TYPED
#include "embed.h"
#include "matmul.h"
#include "matvec.h"
#else
#include "attention.h"
#include "bandwidth.h"
#include "matmul_rows.h"
#include "norm.h"
#include "prefill.h"
#include "rope.h"
#include "rows.h"
#include "sample.h"
#endif
