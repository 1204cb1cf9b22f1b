/* Parity of the operators that read weights. */
#include "parity.h"

/* A type that has blocks of at most 32, for the segments beside the one under test. */
static enum dtype other_type(int i)
{
    static const enum dtype types[] = {DTYPE_Q8_0, DTYPE_F16, DTYPE_Q4_0, DTYPE_F32, DTYPE_Q5_1};
    return types[i % 5];
}

void parity_embed(struct parity *p, enum dtype type)
{
    int block = (int)dtype_block(type);
    for (int i = 0; i < N_ROWS; i++) {
        int rows = row_counts[i], vocab = 19 + i, width = block == 256 ? 256 * (1 + i % 3) : 32 * (1 + 2 * i);
        int32_t ids[130], sampled[5];
        for (int r = 0; r < rows; r++)
            ids[r] = random_below(3) ? random_below(vocab) : -1 - random_below(5);
        for (int s = 0; s < 5; s++)
            sampled[s] = random_below(vocab);
        struct embed_args args = {rows, width, vocab};
        struct pair id = pair_buffer(p, DTYPE_I32, (size_t)rows, ids),
                    chosen = pair_buffer(p, DTYPE_I32, 5, sampled);
        struct pair table = pair_weight(p, type, (size_t)vocab, (size_t)width);
        struct pair x = pair_buffer(p, DTYPE_F32, (size_t)(rows * width), NULL);
        case_begin(p);
        BOTH(d)
            device_embed(p->commands[d], &args, id.on[d], chosen.on[d], table.on[d], x.on[d]);
        if (case_run(p))
            case_compare(p, x, FLOAT32, "%d rows of %d", rows, width);
        case_end(p);
    }
}

/* out: rows of the weights; those beyond the first are of other types. */
struct shape {
    int rows, in, out[3];
    bool bias, precise;
    int add; /* 0: nothing; 1: a buffer of its own; 2: y itself */
};

static void run_matmul(struct parity *p, enum dtype type, const struct shape *s, int i)
{
    int total = s->out[0] + s->out[1] + s->out[2];
    size_t n = (size_t)s->rows * (size_t)total;
    struct matmul_args args = {s->rows, s->in, {s->out[0], s->out[1], s->out[2]}, s->precise};
    struct pair x = pair_random(p, (size_t)s->rows * (size_t)s->in), w[3] = {{{NULL}}};
    struct pair bias = s->bias ? pair_random(p, (size_t)total) : nothing;
    struct pair y = s->add == 2 ? pair_random(p, n) : pair_buffer(p, DTYPE_F32, n, NULL);
    struct pair add = s->add == 2 ? y : s->add == 1 ? pair_random(p, n) : nothing;
    enum arithmetic arithmetic = FLOAT32;
    for (int k = 0; k < 3 && s->out[k]; k++) {
        enum dtype t = k == 0 ? type : other_type(i + k);
        enum arithmetic a = matmul_arithmetic(p, t, s->rows, s->precise);
        arithmetic = a > arithmetic ? a : arithmetic;
        w[k] = pair_weight(p, t, (size_t)s->out[k], (size_t)s->in);
    }
    case_begin(p);
    BOTH(d)
    device_matmul(p->commands[d], &args, x.on[d], w[0].on[d], w[1].on[d], w[2].on[d], bias.on[d], add.on[d],
                  y.on[d]);
    if (case_run(p))
        case_compare(p, y, arithmetic, "%d rows, %d to %d+%d+%d%s%s", s->rows, s->in, s->out[0], s->out[1],
                     s->out[2], s->bias ? ", bias" : "",
                     s->add == 2 ? ", residual"
                     : s->add    ? ", add"
                                 : "");
    case_end(p);
}

void parity_matmul(struct parity *p, enum dtype type)
{
    /* in: in blocks of 256, or in blocks of 32 for types with small blocks */
    static const struct shape shapes[] = {
        {1,   2, {67},         false, false, 0},
        {1,   5, {48, 17, 30}, true,  true,  0},
        {1,   3, {256},        true,  false, 2},
        {2,   3, {33, 16, 16}, true,  false, 0},
        {2,   4, {129},        false, true,  1},
        {3,   2, {64},         false, false, 2},
        {4,   3, {70, 70},     false, false, 0},
        {5,   3, {51},         true,  true,  1},
        {5,   2, {96, 32, 32}, true,  true,  0},
        {17,  3, {67, 5},      true,  false, 1},
        {17,  2, {128},        false, true,  2},
        {64,  2, {33},         false, false, 2},
        {130, 1, {70},         false, false, 0},
        {130, 2, {32, 16, 17}, true,  true,  0},
    };
    static const struct shape wide[] = {
        {1,   19, {4099},          false, false, 0},
        {4,   14, {896},           true,  true,  2},
        {8,   7,  {1025},          false, false, 0},
        {130, 14, {301, 130, 131}, true,  true,  0},
        {513, 3,  {259},           false, false, 2},
    };
    int unit = dtype_block(type) == 256 ? 256 : 32;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct shape s = shapes[i];
        s.in *= unit == 32 && i % 2 ? 3 * unit : unit;
        run_matmul(p, type, &s, (int)i);
    }
    for (size_t i = 0; i < sizeof wide / sizeof *wide && p->wide; i++) {
        struct shape s = wide[i];
        s.in *= 256;
        run_matmul(p, type, &s, (int)i);
    }
}
