/* random-model OUT [options]: a model of a real one's size with random weights, written as fast as the disk
 * takes it, for benchmarks on machines that have no models. It answers nonsense in finite numbers. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "../../kernels/device.h"
#include "gguf_writer.h"
#include "tiny_model.h"
#include "tiny_vocab.h"

enum { MAX_TENSORS = 512, ALIGNMENT = 32, CHUNK_BLOCKS = 1 << 14, BLOCK_ROOM = 256, THREADS_MAX = 64 };

/* Sizes of the Qwen 2.5 family. */
static const struct shape {
    const char *name;
    int layers, width, heads, kv_heads, head_dim, ff, vocab;
    bool tied;
} shapes[] = {
    {"0.5b", 24, 896, 14, 2, 64, 4864, 151936, true},
    {"1.5b", 28, 1536, 12, 2, 128, 8960, 151936, true},
    {"7b", 28, 3584, 28, 4, 128, 18944, 152064, false},
};

struct tensor {
    char name[64];
    size_t columns, rows;
    enum dtype dtype; /* F32: a vector */
    float center, spread;
    uint64_t offset, bytes;
};

struct writer {
    struct tensor tensor[MAX_TENSORS];
    int n;
    uint64_t data; /* where in the file the tensors begin */
    int fd;
    atomic_size_t next_block[MAX_TENSORS];
    atomic_int failure; /* errno of the first */
};

/* SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), of a counter. */
static inline uint64_t random_bits(uint64_t counter)
{
    uint64_t z = counter * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint16_t half_bits(float value)
{
    uint16_t half;
    REQUIRE(dtype_from_f32(DTYPE_F16, &value, 1, &half) == 0);
    return half;
}

/* What is random in a block of a quantised type, and where its scales stand: of weights that are then `spread`
 * times the scale, for uniform bits. */
struct block_form {
    float spread;
    size_t scale;
    float minimum; /* of Q4_K: its second scale, in units of the first, centres the weights */
};

static bool block_form(enum dtype dtype, struct block_form *f)
{
    switch (dtype) {
    case DTYPE_Q8_0: *f = (struct block_form){73.6f, 0, 0}; return true;
    case DTYPE_Q5_0: *f = (struct block_form){9.2f, 0, 0}; return true;
    case DTYPE_Q4_0: *f = (struct block_form){4.6f, 0, 0}; return true;
    case DTYPE_Q4_K: *f = (struct block_form){257, 0, 7.5f}; return true;
    case DTYPE_Q6_K: *f = (struct block_form){1367, 208, 0}; return true;
    default: return false;
    }
}

/* `n` blocks of weights of spread 1/sqrt(columns), so that activations keep their size. */
static void fill_blocks(const struct tensor *t, uint64_t counter, size_t n, unsigned char *out)
{
    float spread = 1 / sqrtf((float)t->columns);
    struct block_form form;
    if (block_form(t->dtype, &form)) {
        size_t bytes = dtype_block_bytes(t->dtype);
        uint16_t scale = half_bits(spread / form.spread), minimum = half_bits(spread / form.spread * form.minimum);
        for (size_t b = 0; b < n; b++, out += bytes) {
            for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) { /* a few bytes more, into what comes next */
                uint64_t bits = random_bits(counter++);
                memcpy(out + i, &bits, sizeof bits);
            }
            memcpy(out + form.scale, &scale, sizeof scale);
            if (minimum)
                memcpy(out + form.scale + sizeof scale, &minimum, sizeof minimum);
        }
        return;
    }
    switch (t->dtype) {
    case DTYPE_F16: {
        uint16_t exponent = half_bits(spread / 1.5f) & 0x7c00; /* one exponent, any sign and mantissa */
        for (size_t i = 0; i < n; i++) {
            uint16_t half = (uint16_t)((random_bits(counter++) & 0x83ff) | exponent);
            memcpy(out + i * sizeof half, &half, sizeof half);
        }
        break;
    }
    default:
        for (size_t i = 0; i < n; i++) {
            float unit = (float)(random_bits(counter++) >> 40) * 0x1p-23f - 1;
            float value = t->center + t->spread * unit;
            memcpy(out + i * sizeof value, &value, sizeof value);
        }
    }
}

static bool write_at(int fd, const unsigned char *bytes, size_t n, uint64_t offset)
{
    while (n > 0) {
        ssize_t written = pwrite(fd, bytes, n, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes += written;
        n -= (size_t)written;
        offset += (uint64_t)written;
    }
    return true;
}

static void *write_tensors(void *argument)
{
    struct writer *w = argument;
    unsigned char *chunk = malloc((size_t)CHUNK_BLOCKS * BLOCK_ROOM);
    REQUIRE(chunk);
    for (int i = 0; i < w->n && !w->failure; i++) {
        const struct tensor *t = &w->tensor[i];
        size_t block = dtype_block(t->dtype), bytes = dtype_block_bytes(t->dtype);
        size_t blocks = t->columns / block * t->rows;
        for (;;) {
            size_t first = atomic_fetch_add(&w->next_block[i], CHUNK_BLOCKS);
            if (first >= blocks || w->failure)
                break;
            size_t n = blocks - first < CHUNK_BLOCKS ? blocks - first : CHUNK_BLOCKS;
            fill_blocks(t, ((uint64_t)i << 40) + first * 32, n, chunk);
            if (!write_at(w->fd, chunk, n * bytes, w->data + t->offset + first * bytes))
                w->failure = errno ? errno : EIO;
        }
    }
    free(chunk);
    return NULL;
}

static void add(struct writer *w, int layer, const char *name, int columns, int rows, enum dtype type,
                float center, float spread)
{
    REQUIRE(w->n < MAX_TENSORS);
    struct tensor *t = &w->tensor[w->n++];
    *t = (struct tensor){.columns = (size_t)columns, .rows = (size_t)rows, .dtype = type, .center = center,
                         .spread = spread};
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%d.%s", layer, name);
    t->bytes = t->columns / dtype_block(type) * dtype_block_bytes(type) * t->rows;
    if (w->n > 1) {
        uint64_t end = t[-1].offset + t[-1].bytes;
        t->offset = (end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
}

/* Which types a file has: one, or the mixture that is named after most of its blocks. */
struct mixture {
    const char *name;
    enum dtype most, more; /* more: of the head, and of V and down in half of the layers */
};
static const struct mixture mixtures[] = {
    {"Q8_0", DTYPE_Q8_0, DTYPE_Q8_0}, {"Q5_0", DTYPE_Q5_0, DTYPE_Q5_0}, {"Q4_0", DTYPE_Q4_0, DTYPE_Q4_0},
    {"F16", DTYPE_F16, DTYPE_F16}, {"Q4_K_M", DTYPE_Q4_K, DTYPE_Q6_K},
};

/* Rows that are no whole superblocks have a type of blocks of 32. */
static enum dtype fitting(enum dtype type, int columns)
{
    if (columns % (int)dtype_block(type) == 0)
        return type;
    return type == DTYPE_Q6_K ? DTYPE_Q8_0 : DTYPE_Q5_0;
}

static bool has_more(const struct shape *s, int layer)
{
    int eighth = s->layers / 8;
    return layer < eighth || layer >= 7 * s->layers / 8 || (layer - eighth) % 3 == 2;
}

static void add_tensors(struct writer *w, const struct shape *s, const struct mixture *m)
{
    enum dtype type = fitting(m->most, s->width), head = fitting(m->more, s->width);
    int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    add(w, -1, "token_embd.weight", s->width, s->vocab, s->tied ? head : type, 0, 0);
    for (int l = 0; l < s->layers; l++) {
        enum dtype v = has_more(s, l) ? head : type, down = fitting(has_more(s, l) ? m->more : m->most, s->ff);
        add(w, l, "attn_norm.weight", s->width, 1, DTYPE_F32, 1, 0.1f);
        add(w, l, "attn_q.weight", s->width, q, type, 0, 0);
        add(w, l, "attn_k.weight", s->width, kv, type, 0, 0);
        add(w, l, "attn_v.weight", s->width, kv, v, 0, 0);
        add(w, l, "attn_q.bias", q, 1, DTYPE_F32, 0, 0.1f);
        add(w, l, "attn_k.bias", kv, 1, DTYPE_F32, 0, 0.1f);
        add(w, l, "attn_v.bias", kv, 1, DTYPE_F32, 0, 0.1f);
        add(w, l, "attn_output.weight", q, s->width, type, 0, 0);
        add(w, l, "ffn_norm.weight", s->width, 1, DTYPE_F32, 1, 0.1f);
        add(w, l, "ffn_gate.weight", s->width, s->ff, type, 0, 0);
        add(w, l, "ffn_up.weight", s->width, s->ff, type, 0, 0);
        add(w, l, "ffn_down.weight", s->ff, s->width, down, 0, 0);
    }
    add(w, -1, "output_norm.weight", s->width, 1, DTYPE_F32, 1, 0.1f);
    if (!s->tied)
        add(w, -1, "output.weight", s->width, s->vocab, head, 0, 0);
}

static void put_head(struct gguf_writer *out, const struct writer *w, const struct shape *s)
{
    static const uint32_t numbers[] = {
#define X(name, gguf, block, size) [DTYPE_##name] = gguf,
#include "../../kernels/dtype.def"
#undef X
    };
    struct gguf_writer metadata = {0};
    char name[32];
    int keys = 10;
    snprintf(name, sizeof name, "random %s", s->name);
    gguf_put_key_string(&metadata, "general.architecture", "qwen2");
    gguf_put_key_string(&metadata, "general.name", name);
    gguf_put_key_uint(&metadata, "qwen2.block_count", (uint32_t)s->layers);
    gguf_put_key_uint(&metadata, "qwen2.context_length", 32768);
    gguf_put_key_uint(&metadata, "qwen2.embedding_length", (uint32_t)s->width);
    gguf_put_key_uint(&metadata, "qwen2.feed_forward_length", (uint32_t)s->ff);
    gguf_put_key_uint(&metadata, "qwen2.attention.head_count", (uint32_t)s->heads);
    gguf_put_key_uint(&metadata, "qwen2.attention.head_count_kv", (uint32_t)s->kv_heads);
    gguf_put_key_float(&metadata, "qwen2.rope.freq_base", 1e6f);
    gguf_put_key_float(&metadata, "qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
    tiny_vocab_put(&metadata, s->vocab, NULL, NULL, NULL, &keys);
    gguf_put_header(out, 3, (uint64_t)w->n, (uint64_t)keys);
    gguf_put(out, metadata.bytes, metadata.length);
    free(metadata.bytes);
    for (int i = 0; i < w->n; i++) {
        const struct tensor *t = &w->tensor[i];
        gguf_put_tensor(out, t->name, t->rows > 1 ? 2 : 1, (const uint64_t[]){t->columns, t->rows},
                        numbers[t->dtype], t->offset);
    }
    gguf_put_padding(out, ALIGNMENT);
}

/* 0 or an errno. */
static int write_file(struct writer *w, const struct shape *s, const char *path, int n_threads)
{
    struct gguf_writer head = {0};
    pthread_t thread[THREADS_MAX];
    int started = 0;
    put_head(&head, w, s);
    w->data = head.length;
    w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (w->fd < 0 || !write_at(w->fd, head.bytes, head.length, 0))
        w->failure = errno ? errno : EIO;
    while (!w->failure && started < n_threads &&
           pthread_create(&thread[started], NULL, write_tensors, w) == 0)
        started++;
    if (!w->failure && started == 0)
        write_tensors(w);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    free(head.bytes);
    if (w->fd >= 0 && close(w->fd) != 0 && !w->failure)
        w->failure = errno;
    return w->failure;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"shape", required_argument, NULL, 's'}, {"type", required_argument, NULL, 't'}, {0}};
    static struct writer w;
    const struct shape *shape = &shapes[0];
    const struct mixture *mixture = &mixtures[0], *end = mixtures + sizeof mixtures / sizeof *mixtures;
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 's')
            for (shape = shapes; shape < shapes + 3 && strcmp(shape->name, optarg) != 0; shape++) {}
        else if (c == 't')
            for (mixture = mixtures; mixture < end && strcmp(mixture->name, optarg) != 0; mixture++) {}
        else
            return 2;
    }
    if (optind != argc - 1 || shape == shapes + 3 || mixture == end) {
        fprintf(stderr, "usage: random-model OUT [--shape 0.5b|1.5b|7b] [--type Q8_0|Q5_0|Q4_0|F16|Q4_K_M]\n");
        return 2;
    }
    add_tensors(&w, shape, mixture);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int threads = cores < 1 ? 1 : cores > THREADS_MAX ? THREADS_MAX : (int)cores;
    int failure = write_file(&w, shape, argv[optind], threads);
    if (failure)
        fprintf(stderr, "random-model: %s: %s\n", argv[optind], strerror(failure));
    return failure ? 1 : 0;
}
