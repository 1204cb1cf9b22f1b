/* Seeded numbers and weights for tests of the devices. */
#ifndef HEARTH_TEST_RANDOM_DATA_H
#define HEARTH_TEST_RANDOM_DATA_H

#include "../../kernels/device.h"

void random_seed(uint32_t seed);
uint32_t random_bits(void);
int random_below(int n);
float random_normal(void);
/* The caller's; with outliers. */
float *random_floats(size_t n);
/* Weights of any type: random bits, with factors that are sane numbers. The caller's. */
uint8_t *random_weight(enum dtype, size_t count);

#endif
