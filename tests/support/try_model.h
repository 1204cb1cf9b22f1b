/* Opens bytes as a model and runs one step of it: what the mutation test and the fuzzer share. */
#ifndef HEARTH_TRY_MODEL_H
#define HEARTH_TRY_MODEL_H

#include "../../kernels/device.h"

enum try_result { TRY_REFUSED, TRY_RAN };

/* `err` has the reason of a refusal; a refusal without one is a broken invariant. */
enum try_result try_model(struct device *, const void *bytes, size_t size, struct err *);

#endif
