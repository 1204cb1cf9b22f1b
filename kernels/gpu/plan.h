/* From recorded commands to dispatches: the same for every GPU driver.
 *
 * plan.c walks the commands, recognises neighbours that one kernel can do together, and calls the
 * encoders below; an encoder knows its kernels' arguments and grids and appends steps. A result
 * that nobody reads any more need not be written (recorded_needed); a result may also exist in other
 * forms (16-bit rows for the matrix units, 8-bit blocks) that an encoder leaves for a later one. */
#ifndef HEARTH_PLAN_H
#define HEARTH_PLAN_H

#include "../lifetime.h"
#include "gpu.h"

/* Forms of F32 rows [rows][width], width a multiple of 32:
 *   FORM_HALF  half_t h[rows][width], x = h * scale, saturated; scale is a power of two known to the plan
 *   FORM_INT8  signed char q[rows][width], then float d[rows][width/32]; x = q * d[i/32],
 *              d = max|x| / 127, q to nearest even */
enum plan_form { FORM_HALF, FORM_INT8, FORM_COUNT };
#define PLAN_INT8_ROWS 4 /* rows of a matmul up to which int8 activations are used, where they are asked for */

struct plan_scratch { /* device memory of the plan's own, kept from step to step */
    struct gpu_memory *memory;
    size_t bytes;
};

/* HALF: inputs of a matmul; HALF_RESULT: what a matmul leaves for the next. INT8_A: attention's rows;
 * INT8_B: those of the FFN. */
enum { SCRATCH_HALF, SCRATCH_HALF_RESULT, SCRATCH_INT8_A, SCRATCH_INT8_B, SCRATCH_PARTIAL, SCRATCH_ROPE,
       SCRATCH_COUNT };

struct plan {
    const struct gpu_driver *driver;
    void *state;                 /* the driver's */
    const struct gpu_facts *facts;
    bool int8;                   /* quantise activations of decode steps to 8 bits */
    struct plan_scratch scratch[SCRATCH_COUNT];
    struct gpu_memory *retired[2 * SCRATCH_COUNT * 32]; /* outgrown, perhaps still in use by queued lists */
    int n_retired;
    struct recorded list;        /* being planned */
    struct gpu_step *step;
    int n_steps, capacity;
    struct { /* forms that are valid at this point of the list */
        const struct buffer *of;
        struct gpu_operand operand;
        float scale;
        bool fresh; /* put by the commands being encoded */
    } form[FORM_COUNT];
    struct {             /* the newest table of angles, while that step is still in the list: encode_attention.c */
        int step;
        int checked;     /* steps before this one leave it valid */
    } rope;
    struct err err;              /* the first failure; encoders go on regardless */
};

/* Plans a list. The steps stay in p->step until the next call. */
int plan_commands(struct plan *, const struct command *, int n, struct err *) WARN_UNUSED;
/* Frees outgrown scratch; when nothing is queued. */
void plan_collect(struct plan *);
void plan_free(struct plan *);

/* ---- for encoders ---- */

/* Appends a dispatch with its arguments copied; operands follow in the order of the kernel's BUFs.
 * Never NULL: after a failure a dummy is returned. */
struct gpu_step *plan_dispatch(struct plan *, int command, enum gpu_program, const void *args, size_t args_bytes,
                               uint32_t grid_x, uint32_t grid_y, uint32_t grid_z);
void plan_in(struct gpu_step *, const struct buffer *, const char *name);  /* NULL buffer: absent */
void plan_out(struct gpu_step *, const struct buffer *, const char *name);
void plan_operand(struct gpu_step *, const struct gpu_operand *, bool written, const char *name);
/* Scratch of at least `bytes`, as an operand; grows when it must. */
struct gpu_operand plan_scratch(struct plan *, int which, size_t bytes);

/* Forms: put after the dispatch that writes it; get returns NULL where there is none. plan.c drops
 * a form when its buffer is written again or its scratch is given out again. */
void plan_put_form(struct plan *, enum plan_form, const struct buffer *of, const struct gpu_operand *, float scale);
const struct gpu_operand *plan_get_form(const struct plan *, enum plan_form, const struct buffer *of, float *scale);

enum gpu_weight plan_weight(const struct buffer *); /* the layout of a weight buffer */

/* ---- encoders ---- */

/* encode_matmul.c. One matmul with what stands around it; -1 where a neighbour is absent or must run by
 * itself. `norm`: index of the rms_norm whose y is this matmul's x and is needed by nobody else;
 * `swiglu`: index of the swiglu that alone reads this matmul's y (gate_up). `act_needed`: also write
 * the f32 form of the result. Returns false, having appended nothing, where no kernel does this
 * combination; the planner then asks for less. */
struct matmul_group {
    int norm, matmul, swiglu;
    bool result_needed; /* the F32 form of the result is read by others than matmuls that take a form */
};
bool encode_matmul(struct plan *, const struct matmul_group *);
/* Does encode_matmul take FORM_INT8 / FORM_HALF of its x for this many rows and this weight? */
bool matmul_takes(const struct plan *, enum plan_form, const struct command *matmul);
void encode_embed(struct plan *, int command);

/* encode_attention.c. rope: index of the rope_kv that writes this attention's qkv and may be done inside
 * (every row its own sequence), or -1. */
void encode_rope(struct plan *, int command);
bool encode_attention(struct plan *, int rope, int attention, bool result_needed);

/* encode_rows.c */
void encode_rms_norm(struct plan *, int command);
void encode_swiglu(struct plan *, int command);
void encode_gather(struct plan *, int command);
void encode_add_scaled(struct plan *, int command);
void encode_kv_copy(struct plan *, int command);
void encode_sample(struct plan *, int command);

#endif
