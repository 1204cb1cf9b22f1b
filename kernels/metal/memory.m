/* Memory of the Metal driver. Everything is shared with the host. Wrapped tensors wait until the first
 * submit: then those whose pages touch get one buffer together, and each tensor is an offset into it. */
#include "metal.h"

static struct metal_buffer *buffer_of(id<MTLBuffer> buffer)
{
    struct metal_buffer *b = calloc(1, sizeof *b);
    if (b)
        b->buffer = buffer;
    return b;
}

static void drop_buffer(struct metal *m, struct metal_buffer *b)
{
    if (--b->users > 0)
        return;
    for (struct metal_buffer **at = &m->wrapped; *at; at = &(*at)->next) {
        if (*at == b) {
            *at = b->next;
            break;
        }
    }
    metal_residency_remove(m, b->buffer);
    [b->buffer release];
    free(b);
}

int metal_alloc(void *state, size_t bytes, struct gpu_memory **out, struct err *err)
{
    struct metal *m = state;
    if (m->lost.code)
        return err_set(err, m->lost.code, "%s", m->lost.text);
    if (bytes > m->max_buffer - METAL_ALIGNMENT)
        return err_set(err, ERR_NOMEM, "metal: %zu bytes are more than one buffer may have (%zu)", bytes,
                       m->max_buffer);
    size_t whole =
        bytes ? (bytes + METAL_ALIGNMENT - 1) / METAL_ALIGNMENT * METAL_ALIGNMENT : METAL_ALIGNMENT;
    struct gpu_memory *memory = calloc(1, sizeof *memory);
    id<MTLBuffer> buffer = [m->device newBufferWithLength:whole
                                                  options:MTLResourceStorageModeShared]; /* zeroed */
    if (memory && buffer)
        memory->buffer = buffer_of(buffer);
    if (!memory || !memory->buffer) {
        [buffer release];
        free(memory);
        return err_set(err, ERR_NOMEM, "metal: no %zu bytes of memory (%zu in use, %zu recommended)", bytes,
                       (size_t)[m->device currentAllocatedSize],
                       (size_t)[m->device recommendedMaxWorkingSetSize]);
    }
    memory->buffer->users = 1;
    memory->bytes = whole;
    metal_residency_add(m, buffer);
    *out = memory;
    return 0;
}

int metal_wrap(void *state, const void *data, size_t bytes, struct gpu_memory **out, size_t *offset,
               struct err *err)
{
    struct metal *m = state;
    if (bytes == 0 || bytes > m->max_buffer - 2 * m->page)
        return err_set(err, ERR_NOMEM, "metal: a tensor of %zu bytes does not fit one buffer (%zu)", bytes,
                       m->max_buffer);
    struct gpu_memory *memory = calloc(1, sizeof *memory);
    if (!memory)
        return err_set(err, ERR_NOMEM, "out of memory for a wrapped tensor");
    memory->data = data;
    memory->bytes = bytes;
    memory->next = m->unsealed;
    m->unsealed = memory;
    *out = memory;
    *offset = 0;
    return 0;
}

void metal_free(void *state, struct gpu_memory *memory)
{
    struct metal *m = state;
    if (!memory)
        return;
    if (memory->buffer)
        drop_buffer(m, memory->buffer);
    for (struct gpu_memory **at = &m->unsealed; *at; at = &(*at)->next) {
        if (*at == memory) {
            *at = memory->next;
            break;
        }
    }
    free(memory);
}

static void attach(struct gpu_memory *memory, struct metal_buffer *b)
{
    memory->buffer = b;
    memory->base = (size_t)(memory->data - b->begin);
    b->users++;
}

static int by_address(const void *a, const void *b)
{
    const struct gpu_memory *const *x = a, *const *y = b;
    return ((*x)->data > (*y)->data) - ((*x)->data < (*y)->data);
}

static const unsigned char *page_down(const struct metal *m, const unsigned char *p)
{
    return p - (uintptr_t)p % m->page;
}

static const unsigned char *page_up(const struct metal *m, const unsigned char *p)
{
    return page_down(m, p + m->page - 1);
}

/* One buffer for the first tensors of `list` (sorted by address); *n tells how many. */
static int seal_some(struct metal *m, struct gpu_memory **list, int *n, struct err *err)
{
    const unsigned char *begin = page_down(m, list[0]->data),
                        *end = page_up(m, list[0]->data + list[0]->bytes);
    int taken = 1;
    for (; taken < *n && page_down(m, list[taken]->data) <= end; taken++) {
        const unsigned char *next = page_up(m, list[taken]->data + list[taken]->bytes);
        if ((size_t)(next - begin) > m->max_buffer)
            break;
        if (next > end)
            end = next;
    }
    struct metal_buffer *b = NULL;
    for (b = m->wrapped; b; b = b->next)
        if (b->begin <= begin && b->end >= end)
            break;
    if (!b) {
        id<MTLBuffer> buffer = [m->device newBufferWithBytesNoCopy:(void *)begin
                                                            length:(NSUInteger)(end - begin)
                                                           options:MTLResourceStorageModeShared
                                                       deallocator:nil];
        b = buffer ? buffer_of(buffer) : NULL;
        if (!b) {
            [buffer release];
            return err_set(err, ERR_NOMEM, "metal: %zu bytes of the model file cannot be given to the GPU",
                           (size_t)(end - begin));
        }
        b->begin = begin;
        b->end = end;
        b->next = m->wrapped;
        m->wrapped = b;
        metal_residency_add(m, buffer);
    }
    for (int i = 0; i < taken; i++)
        attach(list[i], b);
    *n = taken;
    return 0;
}

int metal_seal(struct metal *m, struct err *err)
{
    int n = 0, done = 0, rc = 0;
    for (struct gpu_memory *memory = m->unsealed; memory; memory = memory->next)
        n++;
    if (n == 0)
        return 0;
    struct gpu_memory **list = calloc((size_t)n, sizeof *list);
    if (!list)
        return err_set(err, ERR_NOMEM, "out of memory for %d wrapped tensors", n);
    for (struct gpu_memory *memory = m->unsealed; memory; memory = memory->next)
        list[done++] = memory;
    qsort(list, (size_t)n, sizeof *list, by_address);
    for (done = 0; done < n && rc == 0;) {
        int some = n - done;
        rc = seal_some(m, list + done, &some, err);
        if (rc == 0)
            done += some;
    }
    m->unsealed = NULL;
    for (int i = done; i < n; i++) { /* what could not be wrapped waits for another attempt */
        list[i]->next = m->unsealed;
        m->unsealed = list[i];
    }
    free(list);
    return rc;
}
