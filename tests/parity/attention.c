/* Parity of the operators on the KV cache. */
#include <math.h>

#include "parity.h"

enum { BLOCK_TOKENS = 16, SEQUENCES = 4, TABLE = 48 }; /* a table reaches 768 positions */

struct heads {
    int n, kv, dim;
};

static const struct heads shapes[] = {
    {14, 2,  64 },
    {9,  3,  64 },
    {8,  8,  128},
    {6,  2,  80 },
    {4,  1,  256},
    {12, 12, 32 },
    {5,  1,  96 },
    {16, 2,  128},
    {3,  3,  24 },
};
#define N_SHAPES ((int)(sizeof shapes / sizeof *shapes))

static size_t row_width(const struct heads *h)
{
    return (size_t)(h->n + 2 * h->kv) * (size_t)h->dim;
}

static struct pair frequencies(struct parity *p, int rope_dim)
{
    float table[256];
    for (int i = 0; i < rope_dim / 2; i++) {
        double exact = pow(10000, -2.0 * i / rope_dim);
        table[2 * i] = (float)exact;
        table[2 * i + 1] = (float)(exact - (double)table[2 * i]);
    }
    return pair_buffer(p, DTYPE_F32, (size_t)rope_dim, table);
}

/* Slots of different tokens, in any order. */
static void random_slots(int32_t *slot, int rows, int blocks)
{
    int n = blocks * BLOCK_TOKENS, at = random_below(n);
    for (int r = 0; r < rows; r++, at = (at + 7) % n) /* 7 has no factor in common with 16 */
        slot[r] = at;
}

void parity_rope_kv(struct parity *p, enum dtype type)
{
    (void)type;
    for (int i = 0; i < 2 * N_SHAPES; i++) {
        const struct heads *h = &shapes[i % N_SHAPES];
        int rows = row_counts[i % N_ROWS], blocks = 9 + (i & 1) * 2; /* n is odd times 16 */
        int32_t position[130], slot[130];
        for (int r = 0; r < rows; r++)
            position[r] = r % 5 == 4 ? 100000 + random_below(30000) : random_below(5000);
        position[0] = 0;
        random_slots(slot, rows, blocks);
        struct rope_kv_args args = {.rows = rows, .n_heads = h->n, .n_kv_heads = h->kv, .head_dim = h->dim,
                                    .rope_dim = i >= N_SHAPES ? h->dim / 2 : h->dim, .style = i % 2,
                                    .block_tokens = BLOCK_TOKENS, .magnitude = i % 3 ? 1.0f : 1.13f};
        struct pair qkv = pair_random(p, (size_t)rows * row_width(h)),
                    at = pair_buffer(p, DTYPE_I32, (size_t)rows, position);
        struct pair to = pair_buffer(p, DTYPE_I32, (size_t)rows, slot), table = frequencies(p, args.rope_dim);
        struct pair kv = pair_kv(p, (size_t)(blocks * 2 * h->kv * BLOCK_TOKENS * h->dim));
        case_begin(p);
        BOTH(d)
            device_rope_kv(p->commands[d], &args, qkv.on[d], at.on[d], to.on[d], table.on[d], kv.on[d]);
        if (case_run(p)) {
            case_compare(p, qkv, FLOAT32, "%d rows, %d/%d heads of %d: qkv", rows, h->n, h->kv, h->dim);
            case_compare(p, kv, HALF, "%d rows, %d/%d heads of %d: kv", rows, h->n, h->kv, h->dim);
        }
        case_end(p);
    }
}

/* Where rows stand: `chunk` rows of sequence 0 from `first` on, then single rows of all sequences; or with
 * `single` each row a sequence of its own. */
struct layout {
    int rows, chunk, first;
    bool single;
};

static const struct layout layouts[] = {
    {1, 0, 0, true},    {4, 0, 0, true},     {3, 3, 0, false},  {5, 2, 31, false},   {17, 17, 15, false},
    {17, 0, 0, true},   {64, 60, 100, false}, {130, 127, 1, false}, {9, 9, 600, false}, {33, 16, 303, false},
};
#define N_LAYOUTS ((int)(sizeof layouts / sizeof *layouts))

static void place_rows(const struct layout *l, int32_t *position, int32_t *sequence)
{
    static const int at[] = {0, 15, 16, 17, 31, 700, 64, 255, 512, 1, 767, 300};
    for (int r = 0; r < l->rows; r++) {
        sequence[r] = l->single ? r : r < l->chunk ? 0 : r % SEQUENCES;
        position[r] = r < l->chunk ? l->first + r : at[random_below(12)];
    }
    if (l->single && l->rows == 1)
        position[0] = 767;
}

static void run_attention(struct parity *p, const struct heads *h, const struct layout *l)
{
    enum { BLOCKS = 61 };
    int sequences = l->single ? l->rows : SEQUENCES;
    int32_t position[130], sequence[130], table[17 * TABLE];
    place_rows(l, position, sequence);
    for (int i = 0; i < sequences * TABLE; i++)
        table[i] = random_below(BLOCKS);
    int context = 0;
    for (int r = 0; r < l->rows; r++)
        context = position[r] >= context ? position[r] + 1 : context;
    struct attention_args args = {.rows = l->rows,
                                  .n_heads = h->n,
                                  .n_kv_heads = h->kv,
                                  .head_dim = h->dim,
                                  .q_stride = (int)row_width(h),
                                  .block_tokens = BLOCK_TOKENS,
                                  .table_stride = TABLE,
                                  .scale = 1 / sqrtf((float)h->dim),
                                  .context = (context + 255) / 256 * 256,
                                  .single = l->single};
    struct pair qkv = pair_random(p, (size_t)l->rows * row_width(h));
    struct pair at = pair_buffer(p, DTYPE_I32, (size_t)l->rows, position);
    struct pair of = pair_buffer(p, DTYPE_I32, (size_t)l->rows, sequence);
    struct pair blocks = pair_buffer(p, DTYPE_I32, (size_t)(sequences * TABLE), table);
    struct pair kv = pair_kv(p, (size_t)(BLOCKS * 2 * h->kv * BLOCK_TOKENS * h->dim));
    struct pair out = pair_buffer(p, DTYPE_F32, (size_t)(l->rows * h->n * h->dim), NULL);
    case_begin(p);
    BOTH(d)
    device_attention(p->commands[d], &args, qkv.on[d], at.on[d], of.on[d], blocks.on[d], kv.on[d], out.on[d]);
    if (case_run(p))
        case_compare(p, out, is_gpu(p) && !l->single && l->rows > 8 ? HALF : FLOAT32,
                     "%d rows (chunk of %d), %d/%d heads of %d", l->rows, l->chunk, h->n, h->kv, h->dim);
    case_end(p);
}

void parity_attention(struct parity *p, enum dtype type)
{
    (void)type;
    for (int i = 0; i < N_SHAPES; i++)
        for (int k = 0; k < N_LAYOUTS; k++)
            if (p->wide || (i + k) % 3 == 0)
                run_attention(p, &shapes[i], &layouts[k]);
}

/* Copies that build on each other, and onto themselves. */
void parity_kv_copy(struct parity *p, enum dtype type)
{
    static const int pairs[][8] = {{1, 3}, {0, 2, 2, 4}, {5, 6, 6, 5, 1, 1}, {0, 1, 1, 2, 2, 3, 3, 4}};
    (void)type;
    for (int i = 0; i < 2 * N_SHAPES; i++) {
        const struct heads *h = &shapes[i % N_SHAPES];
        int n = 1 + i % 4, block = 2 * h->kv * BLOCK_TOKENS * h->dim;
        struct kv_copy_args args = {n == 3 ? 3 : n, block};
        struct pair list = pair_buffer(p, DTYPE_I32, (size_t)(2 * n), pairs[n - 1]),
                    kv = pair_kv(p, (size_t)(7 * block));
        case_begin(p);
        BOTH(d)
            device_kv_copy(p->commands[d], &args, list.on[d], kv.on[d]);
        if (case_run(p))
            case_compare(p, kv, EXACT, "%d pairs of %d", n, block);
        case_end(p);
    }
}
