/* What a device implements, behind device.h. Private to kernels/. */
#ifndef HEARTH_BACKEND_H
#define HEARTH_BACKEND_H

#include <stdatomic.h>

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
        struct add_scaled_args add_scaled;
        struct kv_copy_args kv_copy;
        struct sample_args sample;
    } args;
    struct buffer *buffer[OPERATOR_MAX_BUFFERS]; /* in the order of kernels.def; NULL where optional */
    /* A copy (device_upload, device_download) has op OPERATOR_COUNT and buffer[0] alone. */
    enum { COPY_NONE, COPY_IN, COPY_OUT } copy;
    size_t first, count; /* elements of a copy */
    void *host;          /* COPY_IN: the recorder's own copy; COPY_OUT: the caller's memory */
    int layer;
    const char *stage;
};

/* How operator `op` uses its operand `i`; ACCESS_NONE beyond the last. */
enum access { ACCESS_NONE, ACCESS_IN, ACCESS_OUT, ACCESS_INOUT, ACCESS_OPT, ACCESS_WEIGHT, ACCESS_OPTWEIGHT,
              ACCESS_KVIN, ACCESS_KVOUT };
enum access operand_access(enum operator op, int i);
const char *operand_name(enum operator op, int i);

struct buffer {
    struct device *device;
    struct buffer *parent; /* of a view; then memory is the parent's */
    enum dtype dtype;
    size_t count;         /* elements */
    size_t first;         /* of a view: its first element in the parent */
    size_t bytes;         /* of device memory; 0 for a view */
    size_t rows, columns; /* of a weight; 0 otherwise */
    size_t views;         /* alive */
    const void *source;   /* a weight that is not filled yet: its data; NULL otherwise */
    size_t filled;        /* rows of them that were taken over */
    bool scratch;         /* lives within one submit */
    bool copied;          /* a weight whose source is no longer read */
    void *memory;         /* the backend's. CPU devices: plain memory, of a view where it begins; a packed weight */
    size_t offset;        /* GPU devices: bytes into memory where this buffer begins (a view's is the sum) */
    unsigned layout;      /* GPU devices: enum gpu_weight of a weight */
};

/* Every function runs on the device's owning thread. Operands are already checked. */
struct backend {
    int (*open)(struct device *, const struct device_options *, struct err *);
    void (*close)(struct device *);
    int (*alloc)(struct buffer *, struct err *);                              /* zeroed; sets memory, bytes */
    int (*weight)(struct buffer *, const void *data, unsigned use, struct err *); /* sets memory, bytes, copied */
    /* NULL: weight does all at once; else it may leave the data to this, rows [filled, filled + rows) at a time,
     * a multiple of fill_rows but for the last. */
    void (*fill)(struct buffer *, size_t rows);
    size_t fill_rows;
    size_t (*weight_bytes)(enum dtype, size_t rows, size_t columns, unsigned use); /* NULL: as in the file */
    void (*free)(struct buffer *);
    int (*read)(struct buffer *, size_t first, size_t count, void *out, struct err *);
    int (*write)(struct buffer *, size_t first, size_t count, const void *in, struct err *);
    /* Views: sets memory and offset from the parent's. */
    void (*view)(struct buffer *);
    /* Queues or runs the commands. *ticket names them to wait. whole: see commands_run. The list stays
     * unchanged until that wait. */
    int (*submit)(struct device *, const struct command *, int n, bool whole, uint64_t *ticket, struct err *);
    int (*wait)(struct device *, uint64_t ticket, struct err *);
    void (*idle)(struct device *);
    double (*bandwidth)(struct device *, size_t bytes);
    double (*int8_rate)(struct device *);               /* NULL: no int8, or not measured */
    void (*profile)(struct device *, double *seconds);  /* per operator; NULL: profile_add is called instead */
};

struct device {
    const struct backend *backend;
    struct device_info info;
    struct commands *commands[COMMANDS_IN_FLIGHT];
    size_t buffers; /* alive */
    struct profile profile;
    bool profiling; /* commands are to be added to it */
    _Atomic(const char *) stage; /* of the command that computes now; NULL: none, or nobody tells */
    atomic_int op, layer;
    void *state;    /* the backend's */
};

extern const struct backend backend_cpu;       /* cpu/: tuned, int8 activations */
extern const struct backend backend_reference; /* reference.c: plain C, f32 activations, f32 KV */

/* The thread that computes on the host begins a command; NULL: there are no more. For device_place. */
static inline void device_enter(struct device *device, const struct command *c)
{
    if (c) {
        atomic_store_explicit(&device->op, (int)c->op, memory_order_relaxed);
        atomic_store_explicit(&device->layer, c->layer, memory_order_relaxed);
    }
    atomic_store_explicit(&device->stage, c ? c->stage : NULL, memory_order_relaxed);
}

/* Adds a command that ran to the device's profile; `waiting`: how much of `seconds` thread 0 was idle.
 * Operands are read, so only for devices that compute in the host's memory. */
void profile_add(struct device *, const struct command *, double seconds, double waiting);

/* Instruction-set independent parts of the CPU devices. */
float f16_to_f32(uint16_t);
uint16_t f32_to_f16(float); /* round to nearest even */

/* cos and sin of each rotated pair of a position, magnitude applied: cs[rope_dim/2][2]. */
void rope_angles(const struct rope_kv_args *, int position, const float *frequency, float *cs);

/* The sample operator on the host: logits, allowed, parameters and ids as in kernels.def. `scratch` holds
 * 2 * vocab floats. Used by the CPU devices. */
void sample_rows(const struct sample_args *, const float *logits, const int32_t *allowed, const int32_t *parameters,
                 int32_t *ids, float *scratch);

#endif
