/* The parity table: every operator of kernels.def, for every weight type, on every device of this build
 * against the reference device. A plain program, so that it runs where there is no test framework. */
#ifndef HEARTH_TEST_PARITY_H
#define HEARTH_TEST_PARITY_H

#include "../../kernels/backend.h"
#include "../support/random_data.h"

/* How a result is computed, which decides how far it may be from the reference. */
enum arithmetic { EXACT, FLOAT32, HALF, GPU_INT8, CPU_INT8, CPU_INT15 };

/* One operand on both devices. */
struct pair {
    struct buffer *on[2];
};

enum { TESTED, REFERENCE };
#define CASE_BUFFERS 64

struct parity {
    const char *name;         /* of the device under test, as printed */
    struct device *device[2]; /* [REFERENCE] imitates the roundings that device_info tells */
    struct commands *commands[2];
    bool wide;                /* more cases: HEARTH_TEST_LONG=1 */
    enum operator op;
    /* What a case made, freed by its end. */
    struct pair pairs[CASE_BUFFERS];
    void *memory[CASE_BUFFERS];
    int n_pairs, n_memory;
    /* The worst of all cases so far, and the first failure. */
    int cases;
    double max, rms, max_bound, rms_bound;
    char failure[320];
};

#define BOTH(i) for (int i = TESTED; i <= REFERENCE; i++)

/* A buffer with the same contents on both; data NULL: a pattern that no result has, with a guard behind
 * that nothing may touch. Everything a case makes is freed by case_end. */
struct pair pair_buffer(struct parity *, enum dtype, size_t count, const void *data);
struct pair pair_scratch(struct parity *, enum dtype, size_t count); /* lives within one submit */
struct pair pair_random(struct parity *, size_t count);           /* F32 */
struct pair pair_kv(struct parity *, size_t count);               /* random, of the device's KV type */
struct pair pair_weight(struct parity *, enum dtype, size_t rows, size_t columns);
extern const struct pair nothing; /* an optional operand that is absent */

void case_begin(struct parity *);
/* Runs what was recorded on both; false after a failure. */
bool case_run(struct parity *);
/* Compares a buffer on both, guards included; the text says which case this is. */
void case_compare(struct parity *, struct pair, enum arithmetic, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void case_fail(struct parity *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void case_end(struct parity *);

bool is_gpu(const struct parity *);
/* How a matmul of so many rows with that weight is computed. */
enum arithmetic matmul_arithmetic(const struct parity *, enum dtype, int rows, bool precise);

/* The row counts that every operator is run with. */
#define N_ROWS 7
extern const int row_counts[N_ROWS];

/* One test per operator: a line in kernels.def without its function here does not link. `type` is that of
 * the weight, DTYPE_I32 where there is none. */
#define OPERATOR(name, ...) void parity_##name(struct parity *, enum dtype type);
#include "../../kernels/kernels.def"
#undef OPERATOR
/* A layer, whose operators a device may fuse. */
void parity_layer(struct parity *, enum dtype type);

#endif
