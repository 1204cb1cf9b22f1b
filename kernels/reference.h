/* Internals of the reference device: its scratch, threads, and the operators that have files of their own. */
#ifndef HEARTH_REFERENCE_H
#define HEARTH_REFERENCE_H

#include "cpu/pool.h"
#include "host.h"

struct reference_scratch {
    float *memory;
    size_t capacity; /* floats */
};

struct reference {
    struct pool *pool;
    int threads;
    int int8_rows;
    struct reference_scratch *own; /* [threads] a decoded row, scores */
    struct reference_scratch x;    /* a matmul's input, quantised */
    const struct command *command; /* being run */
    double seconds[OPERATOR_COUNT];
};

/* At least `count` floats in `s`; what was there is lost. */
int reference_reserve(struct reference_scratch *s, size_t count, struct err *) WARN_UNUSED;
/* Runs `work` on all threads, each with `count` floats of its own. */
int reference_run(struct reference *, void (*work)(void *, int), size_t count, struct err *) WARN_UNUSED;
float reference_dot(const float *a, const float *b, size_t n);

/* reference_kv.c */
int reference_rope_kv(struct reference *, const struct command *, struct err *) WARN_UNUSED;
int reference_attention(struct reference *, const struct command *, struct err *) WARN_UNUSED;
void reference_kv_copy(const struct command *);

#endif
