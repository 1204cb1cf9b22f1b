/* SHA-256 (FIPS 180-4), to check downloads. */
#ifndef HEARTH_CLI_SHA256_H
#define HEARTH_CLI_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t length;          /* bytes so far */
    unsigned char block[64];  /* the last length % 64 of them */
};

void sha256_begin(struct sha256 *);
void sha256_add(struct sha256 *, const void *data, size_t length);
/* Writes 64 hexadecimal digits and a NUL to out[65]. */
void sha256_end(struct sha256 *, char *out);

#endif
