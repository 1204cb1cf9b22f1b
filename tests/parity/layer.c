/* Parity of a whole layer in one list, as a model records it: what a device fuses, leaves out or keeps in
 * other forms must not show in what comes out. */
#include <math.h>

#include "parity.h"

enum { HEADS = 6, KV_HEADS = 2, DIM = 64, FF = 512, VOCAB = 70, BLOCK_TOKENS = 16, BLOCKS = 40, TABLE = 20,
       Q_WIDTH = HEADS * DIM, KV_WIDTH = KV_HEADS * DIM, QKV_WIDTH = Q_WIDTH + 2 * KV_WIDTH };

struct layer {
    int rows, width;
    bool single, biased;
    struct pair ids, sampled, position, sequence, slot, table, frequency, allowed, parameters; /* inputs */
    struct pair embedding, norm, q, k, v, bias, o, ffn_norm, gate, up, down;                   /* weights */
    struct pair x, h, qkv, attn, gate_up, act, logits, kv, out;
};

static struct pair ints(struct parity *p, size_t n, int first, int step, int limit)
{
    int32_t values[130 * TABLE];
    for (size_t i = 0; i < n; i++)
        values[i] = (first + (int)i * step) % limit;
    return pair_buffer(p, DTYPE_I32, n, values);
}

/* Row r of a chunk is at position r + 5; single rows each have their sequence and own blocks. */
static void make_inputs(struct parity *p, struct layer *l)
{
    size_t rows = (size_t)l->rows;
    float table[DIM];
    for (int i = 0; i < DIM / 2; i++) {
        double exact = pow(10000, -2.0 * i / DIM);
        table[2 * i] = (float)exact;
        table[2 * i + 1] = (float)(exact - (double)table[2 * i]);
    }
    l->ids = ints(p, rows, 3, 5, VOCAB);
    l->sampled = ints(p, 4, 1, 1, VOCAB);
    l->frequency = pair_buffer(p, DTYPE_F32, DIM, table);
    if (l->single) { /* row r: position 17 of a sequence whose second block is its own */
        l->position = ints(p, rows, 17, 0, 100);
        l->sequence = ints(p, rows, 0, 1, 1000);
        l->slot = ints(p, rows, BLOCK_TOKENS + 1, BLOCK_TOKENS, BLOCKS * BLOCK_TOKENS);
        int32_t blocks[17 * TABLE];
        for (int r = 0; r < l->rows; r++)
            for (int i = 0; i < TABLE; i++)
                blocks[r * TABLE + i] = i == 1 ? r + 1 : 30 + (r + i) % 10;
        l->table = pair_buffer(p, DTYPE_I32, rows * TABLE, blocks);
    } else {
        l->position = ints(p, rows, 5, 1, 1000);
        l->sequence = ints(p, rows, 0, 0, 1);
        l->slot = ints(p, rows, 5, 1, 1000);
        l->table = ints(p, TABLE, 0, 1, BLOCKS);
    }
}

/* Weights of a norm after which a matmul's results are about 1: with larger ones attention would look at one
 * key alone, and any rounding could choose another. */
static struct pair norm_weights(struct parity *p, size_t width, enum dtype type)
{
    enum { SAMPLE = 4096 };
    float decoded[SAMPLE], gain[288];
    uint8_t *data = random_weight(type, SAMPLE);
    double squares = 0;
    dtype_to_f32(type, data, SAMPLE, decoded);
    free(data);
    for (int i = 0; i < SAMPLE; i++)
        squares += (double)decoded[i] * (double)decoded[i];
    for (size_t i = 0; i < width; i++)
        gain[i] = (1 + 0.3f * random_normal()) / (float)sqrt(squares / SAMPLE * (double)width);
    return pair_buffer(p, DTYPE_F32, width, gain);
}

static void make_layer(struct parity *p, struct layer *l, enum dtype type)
{
    size_t rows = (size_t)l->rows, width = (size_t)l->width;
    make_inputs(p, l);
    l->embedding = pair_weight(p, type, VOCAB, width);
    l->norm = norm_weights(p, width, type);
    l->q = pair_weight(p, type, Q_WIDTH, width);
    l->k = pair_weight(p, type, KV_WIDTH, width);
    l->v = pair_weight(p, dtype_block(type) == 32 ? DTYPE_F16 : type, KV_WIDTH, width);
    l->bias = l->biased ? pair_random(p, QKV_WIDTH) : nothing;
    l->o = pair_weight(p, Q_WIDTH % dtype_block(type) ? DTYPE_Q8_0 : type, width, Q_WIDTH);
    l->ffn_norm = norm_weights(p, width, type);
    l->gate = pair_weight(p, type, FF, width);
    l->up = pair_weight(p, type, FF, width);
    l->down = pair_weight(p, type, width, FF);
    l->x = pair_scratch(p, DTYPE_F32, rows * width);
    l->h = pair_scratch(p, DTYPE_F32, rows * width);
    l->qkv = pair_scratch(p, DTYPE_F32, rows * QKV_WIDTH);
    l->attn = pair_scratch(p, DTYPE_F32, rows * Q_WIDTH);
    l->gate_up = pair_scratch(p, DTYPE_F32, rows * 2 * FF);
    l->act = pair_scratch(p, DTYPE_F32, rows * FF);
    l->kv = pair_kv(p, (size_t)(BLOCKS * 2 * KV_HEADS * BLOCK_TOKENS * DIM));
    l->out = pair_buffer(p, DTYPE_F32, rows * VOCAB, NULL);
}

static void record_layer(struct parity *p, const struct layer *l, int d, bool precise)
{
    struct commands *c = p->commands[d];
    int rows = l->rows, width = l->width;
    struct embed_args embed = {rows, width, VOCAB};
    struct rms_norm_args norm = {rows, 1, width, width, 0, width, 0, 1e-6f};
    struct matmul_args qkv = {rows, width, {Q_WIDTH, KV_WIDTH, KV_WIDTH}, precise};
    struct rope_kv_args rope = {.rows = rows,
                                .n_heads = HEADS,
                                .n_kv_heads = KV_HEADS,
                                .head_dim = DIM,
                                .rope_dim = DIM,
                                .block_tokens = BLOCK_TOKENS,
                                .magnitude = 1};
    struct attention_args attention = {.rows = rows,
                                       .n_heads = HEADS,
                                       .n_kv_heads = KV_HEADS,
                                       .head_dim = DIM,
                                       .q_stride = QKV_WIDTH,
                                       .block_tokens = BLOCK_TOKENS,
                                       .table_stride = TABLE,
                                       .scale = 0.125f,
                                       .context = 256,
                                       .single = l->single};
    struct matmul_args o = {rows, Q_WIDTH, {width}, precise}, gate_up = {rows, width, {FF, FF}, precise};
    struct swiglu_args swiglu = {rows, FF};
    struct matmul_args down = {rows, FF, {width}, precise}, logits = {rows, width, {VOCAB}, precise};
    device_embed(c, &embed, l->ids.on[d], l->sampled.on[d], l->embedding.on[d], l->x.on[d]);
    device_rms_norm(c, &norm, l->x.on[d], l->norm.on[d], l->h.on[d]);
    device_matmul(c, &qkv, l->h.on[d], l->q.on[d], l->k.on[d], l->v.on[d], l->bias.on[d], NULL, l->qkv.on[d]);
    device_rope_kv(c, &rope, l->qkv.on[d], l->position.on[d], l->slot.on[d], l->frequency.on[d], l->kv.on[d]);
    device_attention(c, &attention, l->qkv.on[d], l->position.on[d], l->sequence.on[d], l->table.on[d],
                     l->kv.on[d], l->attn.on[d]);
    device_matmul(c, &o, l->attn.on[d], l->o.on[d], NULL, NULL, NULL, l->x.on[d], l->x.on[d]);
    device_rms_norm(c, &norm, l->x.on[d], l->ffn_norm.on[d], l->h.on[d]);
    device_matmul(c, &gate_up, l->h.on[d], l->gate.on[d], l->up.on[d], NULL, NULL, NULL, l->gate_up.on[d]);
    device_swiglu(c, &swiglu, l->gate_up.on[d], l->act.on[d]);
    device_matmul(c, &down, l->act.on[d], l->down.on[d], NULL, NULL, NULL, l->x.on[d], l->x.on[d]);
    device_rms_norm(c, &norm, l->x.on[d], l->norm.on[d], l->x.on[d]);
    device_matmul(c, &logits, l->x.on[d], l->embedding.on[d], NULL, NULL, NULL, NULL, l->out.on[d]);
}

/* Types with small blocks have a width that is no multiple of 256. */
void parity_layer(struct parity *p, enum dtype type)
{
    static const struct {
        int rows;
        bool single;
    } cases[] = {{1, true}, {2, true}, {4, true}, {5, false}, {17, true}, {70, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layer l = {.rows = cases[i].rows, .single = cases[i].single, .biased = i % 2,
                          .width = dtype_block(type) == 256 ? 256 : 288};
        bool precise = i % 3 == 0;
        enum arithmetic arithmetic = matmul_arithmetic(p, type, l.rows, precise);
        if (is_gpu(p) && device_info(p->device[TESTED])->int8_rows)
            arithmetic = GPU_INT8;
        make_layer(p, &l, type);
        case_begin(p);
        BOTH(d)
            record_layer(p, &l, d, precise);
        if (case_run(p)) {
            case_compare(p, l.out, arithmetic, "%d %s rows: logits", l.rows, l.single ? "single" : "chunked");
            case_compare(p, l.kv, arithmetic, "%d %s rows: kv", l.rows, l.single ? "single" : "chunked");
        }
        case_end(p);
    }
}
