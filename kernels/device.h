/* A device: memory with element types, and commands over it. All that engine/ knows of kernels/.
 *
 * One thread owns a device and everything made from it (design: the worker); no call here is
 * thread-safe. Commands are recorded, then submitted, then waited for; between recording a command
 * and the end of that wait the byte ranges it touches are in flight: buffer_read refuses what it
 * writes, buffer_write what it reads or writes, with ERR_IN_FLIGHT. Copies in and out that must not
 * wait are commands themselves (device_upload, device_download). No function gives out a pointer to
 * device memory. Element types and sizes of every operand are checked when a command is recorded; the
 * first failure makes commands_submit fail with the operator's and the buffer's name. */
#ifndef HEARTH_DEVICE_H
#define HEARTH_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "args.h"
#include "err.h"

enum dtype {
#define X(name, gguf, block, bytes) DTYPE_##name,
#include "dtype.def"
#undef X
    DTYPE_COUNT
};

const char *dtype_name(enum dtype);           /* "Q4_K" */
int dtype_from_gguf(uint32_t gguf);           /* enum dtype, or -1 where unknown */
size_t dtype_block(enum dtype);               /* elements per block */
size_t dtype_block_bytes(enum dtype);
size_t dtype_bytes(enum dtype, size_t count); /* of `count` elements, a multiple of the block */
bool dtype_is_weight(enum dtype);             /* may be a matmul or embed weight: all but I32 */

/* Decodes `count` elements (a multiple of the block) of GGUF data at `src` to f32. Plain C; the
 * definition of every type that the devices are tested against. */
void dtype_to_f32(enum dtype, const void *src, size_t count, float *dst);
/* Encodes f32 to F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 by round-to-nearest; ERR_UNSUPPORTED
 * for the others. For tests and made-up models. */
int dtype_from_f32(enum dtype, const float *src, size_t count, void *dst) WARN_UNUSED;

struct device;
struct buffer;
struct commands;

enum activations { ACTIVATIONS_AUTO, ACTIVATIONS_F32, ACTIVATIONS_INT8 };

struct device_options {
    const char *name; /* "auto", "cpu" (tuned, int8 activations), "reference" (plain C, f32 activations),
                       * "cuda" or "cuda:N", "metal", "emulator" (the GPU kernels, run and checked on the CPU:
                       * HEARTH_EMULATOR=unified lets it use weights in place, as Metal does;
                       * HEARTH_EMULATOR_RACES=0 leaves out the search for races, which halves its speed) */
    int threads;      /* compute threads of a CPU device; 0: physical cores, cgroup limits respected */
    const char *isa;  /* NULL: the best found; else a lower one forced: "avx512amx", "avx512vnni", "avx2", "i8mm",
                       * "neon", "scalar" */
    enum activations activations; /* of matmuls of few rows on a GPU. AUTO: F32 on every GPU */
    /* Element type of KV buffers. 0: F16 (F32 on the reference device). Q8_0 (head_dim a multiple of 32) is
     * for the CPU and the reference device, F32 for the reference device alone. */
    enum dtype kv_type;
    /* The reference device alone: imitates another device's roundings, for comparisons. */
    int int8_rows;      /* matmuls of up to this many rows quantise x to int8 per 32 elements */
};

/* Opens a device; *out is the caller's, freed by device_close after all its buffers.
 * ERR_UNSUPPORTED: no such device in this build or on this machine. */
int device_open(struct device **out, const struct device_options *, struct err *) WARN_UNUSED;
void device_close(struct device *); /* NULL is fine */

struct device_info {
    char name[32];        /* "cpu" */
    char description[128]; /* "AVX-512 VNNI, 2 threads" */
    char passed_over[192]; /* of "auto": why it is not one of those that go before; "" where none does */
    int threads;
    enum dtype kv_type;   /* element type of KV buffers here */
    int int8_rows;        /* matmuls of up to this many rows see x as int8 per 32 elements (d = max|x| / 127,
                           * nearest even); 0: never. The CPU device has its own scheme and says 0 */
    bool queued;          /* runs beside the host: steps may be queued before their predecessors end */
    bool gpu;             /* worth a check before it is served from */
    size_t memory;        /* bytes of its own that it may use; 0: the host's memory */
};
const struct device_info *device_info(const struct device *);

/* Lets the CPU threads of the device sleep until the next submit. The worker calls it when it
 * has nothing to do; without it they spin a short while, then sleep by themselves. */
void device_idle(struct device *);

/* Bytes per second of a read-only pass over `bytes` of memory by all threads: what decode can
 * reach at most. For benchmarks. */
double device_read_bandwidth(struct device *, size_t bytes);

/* A zeroed buffer of `count` elements, whole blocks of the type. *out is the caller's (buffer_free).
 * ERR_NOMEM. */
int buffer_create(struct device *, enum dtype, size_t count, struct buffer **out, struct err *) WARN_UNUSED;

/* The same for values that live only within one submit: what one submit leaves there, the next must
 * not read. A device may then skip writing what nobody reads. */
int buffer_create_scratch(struct device *, enum dtype, size_t count, struct buffer **out, struct err *) WARN_UNUSED;

/* Elements [first, first+count) of `parent` as a buffer: the same memory, in flight together. *out is
 * the caller's and freed before the parent. */
int buffer_view(struct buffer *parent, size_t first, size_t count, struct buffer **out, struct err *) WARN_UNUSED;

/* A weight matrix [rows][columns] of GGUF data at `data`, which stays valid and unchanged as
 * long as the buffer lives (a mapped file) but may be given back to the system once
 * weight_is_copy says so. The device may repack it. columns is a multiple of the type's
 * block. `use` tells how it will be used, so that only that layout is made. */
enum weight_use { WEIGHT_MATMUL = 1, WEIGHT_EMBED = 2 }; /* or both, for tied embeddings */
int device_weight_create(struct device *, enum dtype, size_t rows, size_t columns, const void *data,
                         unsigned use, struct buffer **out, struct err *) WARN_UNUSED;
/* The same in pieces, for one who has other work to do in between: afterwards weight_fill takes about *bytes of
 * `data` at a time, sets *bytes to what it took, and returns true when it has the last. Until then the buffer can
 * only be freed. */
int device_weight_begin(struct device *, enum dtype, size_t rows, size_t columns, const void *data,
                        unsigned use, struct buffer **out, struct err *) WARN_UNUSED;
bool weight_fill(struct buffer *, size_t *bytes) WARN_UNUSED;
bool weight_is_copy(const struct buffer *); /* true: `data` is no longer read */
/* What such a weight will take, of the device's memory or, where `data` is used in place, of the host's. */
size_t device_weight_bytes(const struct device *, enum dtype, size_t rows, size_t columns, unsigned use);

void buffer_free(struct buffer *); /* NULL is fine; not while in flight */
enum dtype buffer_dtype(const struct buffer *);
size_t buffer_count(const struct buffer *); /* elements */
size_t buffer_bytes(const struct buffer *); /* what it takes of the device's memory */

/* Copies elements [first, first+count) out of or into a buffer that is no weight, at once.
 * ERR_IN_FLIGHT while commands touch that range (see above); ERR_INVALID beyond the end, or inside a block. */
int buffer_read(struct buffer *, size_t first, size_t count, void *out, struct err *) WARN_UNUSED;
int buffer_write(struct buffer *, size_t first, size_t count, const void *in, struct err *) WARN_UNUSED;

/* Recording. commands_begin returns an empty recorder of the device's (never NULL; at most
 * COMMANDS_IN_FLIGHT are recorded or submitted at a time), the encoders below append to it. */
#define COMMANDS_IN_FLIGHT 3
struct commands *commands_begin(struct device *);
/* Starts everything recorded, in order, each command seeing the results of those before it, also of
 * recorders submitted earlier. After a failure the recorder is free again and nothing runs. */
int commands_submit(struct commands *, struct err *) WARN_UNUSED;
/* Waits for the end of what was submitted; its ranges and the recorder are then free again. Recorders
 * are waited for in the order they were submitted. */
int commands_wait(struct commands *, struct err *) WARN_UNUSED;
/* Gives back a recorder that was not submitted. */
void commands_drop(struct commands *);

/* Copies in and out as commands. Upload: `data` is copied before it returns. Download: `out` is filled
 * when commands_wait returns and stays valid until then. */
void device_upload(struct commands *, struct buffer *, size_t first, size_t count, const void *data);
void device_download(struct commands *, struct buffer *, size_t first, size_t count, void *out);

/* Names what is recorded next, for messages, profiles and `hearth check`. `stage` is a literal. */
void commands_stage(struct commands *, int layer, const char *stage);

/* The operators. device_NAME(commands, args, buffers…) for each line of kernels.def, for example
 *   void device_rms_norm(struct commands *, const struct rms_norm_args *,
 *                        struct buffer *x, struct buffer *weight, struct buffer *y);
 * Args are copied. Errors are kept for commands_submit. */
enum operator {
#define OPERATOR(name, ...) OPERATOR_##name,
#include "kernels.def"
#undef OPERATOR
    OPERATOR_COUNT
};
const char *operator_name(enum operator);

/* What a device is computing. From any thread, also while a command does not return. */
struct device_place {
    enum operator op;
    int layer;         /* -1: outside the layers */
    const char *stage; /* NULL: nothing, or the device does not tell */
};
void device_place(const struct device *, struct device_place *);

/* For `hearth check`: what was recorded, and running it a part at a time. */
struct command_info {
    enum operator op;       /* OPERATOR_COUNT: a copy */
    int layer;              /* -1 outside the layers */
    const char *stage;
    struct buffer *output;  /* what it writes; of rope_kv the qkv rows */
    size_t rows, stride, offset, width; /* of the values written, in elements of `output` */
};
int commands_count(const struct commands *);
void commands_info(const struct commands *, int i, struct command_info *);
/* Runs commands [first, first+n) alone, waits, and leaves every operand readable. `whole`: also scratch
 * results are all written. The recorder stays recorded: drop it in the end. */
int commands_run(struct commands *, int first, int n, bool whole, struct err *) WARN_UNUSED;

#define IN(type, name) struct buffer *name
#define OUT(type, name) struct buffer *name
#define INOUT(type, name) struct buffer *name
#define OPT(type, name) struct buffer *name
#define WEIGHT(name) struct buffer *name
#define OPTWEIGHT(name) struct buffer *name
#define KVIN(name) struct buffer *name
#define KVOUT(name) struct buffer *name
#define OPERATOR(name, ...) \
    void device_##name(struct commands *, const struct name##_args *, __VA_ARGS__);
#include "kernels.def"
#undef OPERATOR
#undef IN
#undef OUT
#undef INOUT
#undef OPT
#undef WEIGHT
#undef OPTWEIGHT
#undef KVIN
#undef KVOUT

/* Where time went since the last call, for `bench --profile`. The first call starts the measuring, which on a
 * GPU may take the steps that follow apart and so slow them. */
#define PROFILE_ROWS 32
struct profile_row {
    enum operator op;   /* OPERATOR_COUNT: copies */
    const char *stage;  /* NULL: all stages together, and only `seconds` is known */
    long calls;
    double seconds;
    double bytes;       /* of weights and KV that it has to read */
    double operations;  /* 2 x multiply-accumulate */
    bool int8;          /* of bytes; device_int8_rate is their limit */
};
struct profile {
    struct profile_row row[PROFILE_ROWS];
    int n;
    double waiting; /* of all rows: seconds in which thread 0 had nothing left to do of an operator */
};
void device_profile(struct device *, struct profile *out);

/* int8 operations (2 x multiply-accumulate) per second that all threads reach with the kernel of 4-bit
 * weights over data in the first cache; 0 where nothing measures it. For benchmarks. */
double device_int8_rate(struct device *);

#endif
