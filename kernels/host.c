/* What the devices that compute on the host share: memory, copies, angles. */
#include "host.h"

#include <math.h>
#include <string.h>
#include <time.h>

void *host_memory(size_t bytes)
{
    void *memory;
    return posix_memalign(&memory, 64, bytes ? bytes : 64) ? NULL : memory;
}

int host_alloc(struct buffer *b, struct err *err)
{
    size_t bytes = b->count * dtype_block_bytes(b->dtype); /* checked by the caller */
    b->memory = host_memory(bytes);
    if (!b->memory)
        return err_set(err, ERR_NOMEM, "out of memory for a buffer of %zu bytes", bytes);
    memset(b->memory, 0, bytes);
    b->bytes = bytes;
    return 0;
}

static char *element(const struct buffer *b, size_t i)
{
    return (char *)b->memory + i * dtype_block_bytes(b->dtype);
}

void host_view(struct buffer *b)
{
    b->memory = element(b->parent, b->first);
}

int host_read(struct buffer *b, size_t first, size_t count, void *out, struct err *err)
{
    (void)err;
    memcpy(out, element(b, first), count * dtype_block_bytes(b->dtype));
    return 0;
}

int host_write(struct buffer *b, size_t first, size_t count, const void *in, struct err *err)
{
    (void)err;
    memcpy(element(b, first), in, count * dtype_block_bytes(b->dtype));
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
    size_t bytes = c->count * dtype_block_bytes(b->dtype);
    if (c->copy == COPY_IN)
        memcpy(element(b, c->first), c->host, bytes);
    else
        memcpy(c->host, element(b, c->first), bytes);
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
