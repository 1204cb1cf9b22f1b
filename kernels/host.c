/* What the devices that compute on the host share: memory, copies, angles. */
#include "host.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define MAPPED_BYTES ((size_t)1 << 20) /* from this size on buffers are mapped */

void *host_memory(size_t bytes)
{
    void *memory;
    bool large = bytes >= 2 * HUGE_PAGE;
    if (posix_memalign(&memory, large ? HUGE_PAGE : 64, bytes ? bytes : 64))
        return NULL;
#if defined(MADV_HUGEPAGE)
    if (large)
        madvise(memory, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* no harm where it is refused */
#endif
    return memory;
}

/* Large buffers come from the system, zeroed, a page when it is first touched: of a KV cache made for long
 * contexts only what was used takes memory. */
int host_alloc(struct buffer *b, struct err *err)
{
    size_t bytes = dtype_bytes(b->dtype, b->count); /* checked by the caller */
    if (bytes >= MAPPED_BYTES) {
        void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        b->memory = mapped == MAP_FAILED ? NULL : mapped;
    } else if ((b->memory = host_memory(bytes)) != NULL) {
        memset(b->memory, 0, bytes);
    }
    if (!b->memory)
        return err_set(err, ERR_NOMEM, "out of memory for a buffer of %zu bytes", bytes);
    b->bytes = bytes;
    return 0;
}

void host_free(struct buffer *b)
{
    if (b->bytes >= MAPPED_BYTES)
        munmap(b->memory, b->bytes);
    else
        free(b->memory);
}

static char *element(const struct buffer *b, size_t i)
{
    return (char *)b->memory + dtype_bytes(b->dtype, i);
}

void host_view(struct buffer *b)
{
    b->memory = element(b->parent, b->first);
}

int host_read(struct buffer *b, size_t first, size_t count, void *out, struct err *err)
{
    (void)err;
    memcpy(out, element(b, first), dtype_bytes(b->dtype, count));
    return 0;
}

int host_write(struct buffer *b, size_t first, size_t count, const void *in, struct err *err)
{
    (void)err;
    memcpy(element(b, first), in, dtype_bytes(b->dtype, count));
    return 0;
}

int host_wait(struct device *device, uint64_t ticket, struct err *err)
{
    (void)device, (void)ticket, (void)err;
    return 0;
}

void host_copy(const struct command *c)
{
    const struct buffer *b = c->buffer[0];
    size_t bytes = dtype_bytes(b->dtype, c->count);
    if (c->copy == COPY_IN)
        memcpy(element(b, c->first), c->host, bytes);
    else
        memcpy(c->host, element(b, c->first), bytes);
}

void host_store_q8(const float *x, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i += 32, x += 32) {
        float v[32], peak = 0;
        for (int k = 0; k < 32; k++) {
            v[k] = fminf(fmaxf(x[k], -65504), 65504);
            peak = fmaxf(peak, fabsf(v[k]));
        }
        uint16_t d = f32_to_f16(peak / 127);
        float inverse = d ? 127 / peak : 0; /* finite: f16 is 0 long before */
        memcpy(out, &d, sizeof d);
        out += sizeof d;
        for (int k = 0; k < 32; k++)
            *out++ = (uint8_t)(int8_t)rintf(v[k] * inverse);
    }
}

int32_t host_token(const struct command *c, int r)
{
    int32_t id = ((const int32_t *)c->buffer[0]->memory)[r];
    if (id < 0) {
        size_t chosen = (size_t)(-1 - (int64_t)id);
        REQUIRE(chosen < c->buffer[1]->count);
        id = ((const int32_t *)c->buffer[1]->memory)[chosen];
        if (id == -1) /* none was found: see struct embed_args */
            id = 0;
    }
    REQUIRE(id >= 0 && id < c->args.embed.vocab);
    return id;
}

void rope_angles(const struct rope_kv_args *a, int position, const float *frequency, float *cs)
{
    for (int i = 0; i < a->rope_dim / 2; i++) {
        double angle = position * ((double)frequency[2 * i] + (double)frequency[2 * i + 1]);
        cs[2 * i] = (float)(cos(angle) * (double)a->magnitude);
        cs[2 * i + 1] = (float)(sin(angle) * (double)a->magnitude);
    }
}

double host_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
