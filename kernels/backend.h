/* What a device implements, behind device.h. Private to kernels/. */
#ifndef HEARTH_BACKEND_H
#define HEARTH_BACKEND_H

#include "device.h"

#define OPERATOR_MAX_BUFFERS 7

struct command {
    enum operator op;
    union {
        struct embed_args embed;
        struct rms_norm_args rms_norm;
        struct matmul_args matmul;
        struct rope_kv_args rope_kv;
        struct attention_args attention;
        struct swiglu_args swiglu;
        struct gather_args gather;
        struct kv_copy_args kv_copy;
    } args;
    struct buffer *buffer[OPERATOR_MAX_BUFFERS]; /* in the order of kernels.def; NULL where optional */
};

struct buffer {
    struct device *device;
    enum dtype dtype;
    size_t count;         /* elements */
    size_t bytes;         /* of device memory */
    size_t rows, columns; /* of a weight; 0 otherwise */
    bool in_flight;       /* recorded or submitted commands touch it */
    bool copied;          /* a weight whose source is no longer read */
    void *memory;         /* the backend's: plain memory of `count` elements, or a packed weight */
};

/* Every function runs on the device's owning thread. Operands are already checked. */
struct backend {
    int (*open)(struct device *, const struct device_options *, struct err *);
    void (*close)(struct device *);
    int (*alloc)(struct buffer *, struct err *);                              /* zeroed; sets memory, bytes */
    int (*weight)(struct buffer *, const void *data, unsigned use, struct err *); /* sets memory, bytes, copied */
    void (*free)(struct buffer *);
    void (*read)(struct buffer *, size_t first, size_t count, void *out);
    void (*write)(struct buffer *, size_t first, size_t count, const void *in);
    int (*submit)(struct device *, const struct command *, int n, struct err *);
    int (*wait)(struct device *, struct err *);
    void (*idle)(struct device *);
    double (*bandwidth)(struct device *, size_t bytes);
    void (*profile)(struct device *, double *seconds);
};

struct device {
    const struct backend *backend;
    struct device_info info;
    struct commands *commands;
    size_t buffers; /* alive */
    void *state;    /* the backend's */
};

extern const struct backend backend_cpu;       /* cpu/: tuned, int8 activations */
extern const struct backend backend_reference; /* reference.c: plain C, f32 activations, f32 KV */

/* Instruction-set independent parts of the CPU devices. */
float f16_to_f32(uint16_t);
uint16_t f32_to_f16(float); /* round to nearest even */

/* cos and sin of each rotated pair of a position, magnitude applied: cs[rope_dim/2][2]. */
void rope_angles(const struct rope_kv_args *, int position, const float *factors, float *cs);

#endif
