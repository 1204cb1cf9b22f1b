/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, SC 2011): random numbers that
 * are a pure function of what they are for. */
#ifndef HEARTH_PHILOX_H
#define HEARTH_PHILOX_H

#include <stdint.h>

/* counter[4] becomes four random words. */
static inline void philox4x32(uint32_t counter[4], uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * counter[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * counter[2];
        uint32_t c1 = counter[1], c3 = counter[3];
        counter[0] = (uint32_t)(b >> 32) ^ c1 ^ key0;
        counter[1] = (uint32_t)b;
        counter[2] = (uint32_t)(a >> 32) ^ c3 ^ key1;
        counter[3] = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

/* What a number is for: the token, and whether XTC is at work. */
enum philox_use { PHILOX_TOKEN, PHILOX_EXCLUDE };

/* Uniform in [0, 1) with 53 bits, for one position of one choice of a seeded request. */
static inline double philox_uniform_of(enum philox_use use, uint64_t seed, uint32_t choice, uint64_t position)
{
    uint32_t c[4] = {(uint32_t)position, (uint32_t)(position >> 32), choice, use};
    philox4x32(c, (uint32_t)seed, (uint32_t)(seed >> 32));
    return (double)(((uint64_t)c[0] << 21) ^ (c[1] >> 11)) * 0x1p-53;
}

static inline double philox_uniform(uint64_t seed, uint32_t choice, uint64_t position)
{
    return philox_uniform_of(PHILOX_TOKEN, seed, choice, position);
}

#endif
