/* Arena, strings and containers of the template interpreter. Questions about values are in
 * template_compare.c. */
#include "template_value.h"

#include <stdarg.h>
#include <string.h>

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    max_align_t data[];
};

enum { CHUNK = 32 << 10 };

void *arena_alloc(struct arena *arena, size_t count, size_t size, struct err *err)
{
    size_t want;
    if (__builtin_mul_overflow(count, size, &want) || want > arena->limit) {
        err_set(err, ERR_LIMIT, "the chat template needs more memory than it may have");
        return NULL;
    }
    want = (want + 15) & ~(size_t)15;
    struct arena_chunk *head = arena->head;
    if (head && head->size - head->used >= want) {
        void *p = (char *)head->data + head->used;
        head->used += want;
        return p;
    }
    size_t room = want > CHUNK / 4 ? want : CHUNK;
    if (room > arena->limit - arena->total) {
        err_set(err, ERR_LIMIT, "the chat template needs more memory than it may have");
        return NULL;
    }
    struct arena_chunk *chunk = malloc(sizeof *chunk + room);
    if (!chunk) {
        err_set(err, ERR_NOMEM, "out of memory in a chat template");
        return NULL;
    }
    chunk->size = room;
    chunk->used = want;
    arena->total += room;
    /* A big thing gets a chunk of its own behind the one that still has room. */
    if (head && room != CHUNK) {
        chunk->next = head->next;
        head->next = chunk;
    } else {
        chunk->next = head;
        arena->head = chunk;
    }
    return chunk->data;
}

void arena_free(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->head, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    arena->head = NULL;
    arena->total = 0;
}

int run_error(struct run *run, int code, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(run->err, code, "chat template, line %d: %s", run->line, text);
}

int run_step(struct run *run, size_t bytes)
{
    run->steps += 1 + bytes / 32;
    if (run->steps > RUN_STEPS)
        return run_error(run, ERR_LIMIT, "more than %d steps", RUN_STEPS);
    return 0;
}

void *run_alloc(struct run *run, size_t count, size_t size)
{
    return arena_alloc(&run->arena, count, size, run->err);
}

/* ---- strings ---- */

/* The uniform runs of origins are shared by all strings of one origin: as long as the longest. */
static int ensure_uniform(struct run *run, size_t length)
{
    if (length <= run->uniform_length && run->uniform_length)
        return 0;
    size_t size = run->uniform_length * 2 > length ? run->uniform_length * 2 : length;
    if (size < 1024)
        size = 1024;
    unsigned char *bytes = run_alloc(run, size, ORIGIN_PLAIN + 1);
    if (!bytes)
        return arena_failed(run->err);
    for (int i = 0; i <= ORIGIN_PLAIN; i++) {
        memset(bytes + (size_t)i * size, i, size);
        run->uniform[i] = bytes + (size_t)i * size;
    }
    run->uniform_length = size;
    return 0;
}

int value_text(struct run *run, const char *bytes, size_t length, enum origin origin, struct value *out)
{
    int rc = ensure_uniform(run, length);
    if (rc)
        return rc;
    struct str *str = run_alloc(run, 1, sizeof *str);
    if (!str)
        return arena_failed(run->err);
    *str = (struct str){.bytes = bytes, .origin = run->uniform[origin], .length = length, .chars = SIZE_MAX};
    *out = (struct value){.kind = VALUE_STRING, .origin = (uint8_t)origin, .str = str};
    return 0;
}

int value_slice(struct run *run, struct value string, size_t from, size_t to, struct value *out)
{
    const struct str *whole = string.str;
    if (from == 0 && to == whole->length) {
        *out = string;
        return 0;
    }
    struct str *str = run_alloc(run, 1, sizeof *str);
    if (!str)
        return arena_failed(run->err);
    *str = (struct str){.bytes = whole->bytes + from,
                        .origin = whole->origin + from,
                        .length = to - from,
                        .chars = whole->chars == whole->length ? to - from : SIZE_MAX};
    *out = (struct value){.kind = VALUE_STRING, .origin = string.origin, .str = str};
    return 0;
}

static int reserve(struct run *run, size_t length)
{
    if (length > RUN_OUTPUT - run->length)
        return run_error(run, ERR_LIMIT, "more than %d MiB of text", RUN_OUTPUT >> 20);
    size_t want = run->length + length + 1;
    if (want <= run->capacity)
        return 0;
    size_t capacity = run->capacity * 2 > want ? run->capacity * 2 : want;
    if (capacity < 4096)
        capacity = 4096;
    char *text = realloc(run->text, capacity);
    if (!text)
        return run_error(run, ERR_NOMEM, "out of memory");
    run->text = text;
    unsigned char *origin = realloc(run->origin, capacity);
    if (!origin)
        return run_error(run, ERR_NOMEM, "out of memory");
    run->origin = origin;
    run->capacity = capacity;
    return 0;
}

int run_add(struct run *run, const char *bytes, size_t length, enum origin origin)
{
    int rc = reserve(run, length);
    if (rc)
        return rc;
    memcpy(run->text + run->length, bytes, length);
    memset(run->origin + run->length, origin, length);
    run->length += length;
    return 0;
}

int run_add_part(struct run *run, const struct str *str, size_t from, size_t to)
{
    size_t length = to - from;
    if (length == 0)
        return 0;
    int rc = reserve(run, length);
    if (rc == 0)
        rc = run_step(run, length);
    if (rc)
        return rc;
    memcpy(run->text + run->length, str->bytes + from, length);
    memcpy(run->origin + run->length, str->origin + from, length);
    run->length += length;
    return 0;
}

int run_add_str(struct run *run, const struct str *str)
{
    return run_add_part(run, str, 0, str->length);
}

int run_take(struct run *run, size_t mark, struct value *out)
{
    size_t length = run->length - mark;
    int rc = run_step(run, length);
    if (rc)
        return rc;
    struct str *str = run_alloc(run, 1, sizeof *str);
    char *bytes = str ? run_alloc(run, length ? length : 1, 2) : NULL;
    if (!bytes)
        return arena_failed(run->err);
    unsigned char *origin = (unsigned char *)bytes + length;
    uint8_t worst = ORIGIN_TEMPLATE;
    if (length) {
        memcpy(bytes, run->text + mark, length);
        memcpy(origin, run->origin + mark, length);
        if (memchr(origin, ORIGIN_PLAIN, length))
            worst = ORIGIN_PLAIN;
        else if (memchr(origin, ORIGIN_HISTORY, length))
            worst = ORIGIN_HISTORY;
    }
    *str = (struct str){.bytes = bytes, .origin = origin, .length = length, .chars = SIZE_MAX};
    run->length = mark;
    *out = (struct value){.kind = VALUE_STRING, .origin = worst, .str = str};
    return 0;
}

/* ---- containers ---- */

int value_seq(struct run *run, enum seq_form form, size_t n, struct value *out)
{
    struct seq *seq = run_alloc(run, 1, sizeof *seq);
    struct value *items = seq ? run_alloc(run, n ? n : 1, sizeof *items) : NULL;
    if (!items)
        return arena_failed(run->err);
    *seq = (struct seq){.form = form, .n = n, .items = items};
    *out = (struct value){.kind = VALUE_SEQ, .seq = seq};
    return 0;
}

int value_dict(struct run *run, size_t capacity, struct value *out)
{
    struct dict *dict = run_alloc(run, 1, sizeof *dict);
    struct pair *pairs = dict ? run_alloc(run, capacity ? capacity : 1, sizeof *pairs) : NULL;
    if (!pairs)
        return arena_failed(run->err);
    *dict = (struct dict){.capacity = capacity ? capacity : 1, .pairs = pairs};
    *out = (struct value){.kind = VALUE_DICT, .dict = dict};
    return 0;
}

int dict_get_text(struct run *run, const struct dict *dict, const char *key, size_t length,
                  struct value **found)
{
    *found = NULL;
    for (size_t i = 0; i < dict->n; i++) {
        const struct value *k = &dict->pairs[i].key;
        if (k->kind == VALUE_STRING && k->str->length == length && memcmp(k->str->bytes, key, length) == 0) {
            *found = &dict->pairs[i].value;
            return run_step(run, i * 8);
        }
    }
    return run_step(run, dict->n * 8);
}

int dict_get(struct run *run, const struct dict *dict, struct value key, struct value **found)
{
    if (key.kind == VALUE_STRING)
        return dict_get_text(run, dict, key.str->bytes, key.str->length, found);
    *found = NULL;
    if (key.kind == VALUE_DICT || (key.kind == VALUE_SEQ && key.seq->form == SEQ_LIST))
        return run_error(run, ERR_INVALID, "unhashable type: '%s'", value_type(key));
    for (size_t i = 0; i < dict->n; i++) {
        bool equal;
        int rc = value_equal(run, dict->pairs[i].key, key, &equal);
        if (rc)
            return rc;
        if (equal) {
            *found = &dict->pairs[i].value;
            return 0;
        }
    }
    return 0;
}

int dict_set(struct run *run, struct dict *dict, struct value key, struct value value)
{
    struct value *found;
    int rc = dict_get(run, dict, key, &found);
    if (rc)
        return rc;
    if (found) {
        *found = value;
        return 0;
    }
    if (dict->n == dict->capacity) {
        struct pair *pairs = run_alloc(run, dict->capacity * 2, sizeof *pairs);
        if (!pairs)
            return arena_failed(run->err);
        memcpy(pairs, dict->pairs, dict->n * sizeof *pairs);
        dict->pairs = pairs;
        dict->capacity *= 2;
    }
    dict->pairs[dict->n++] = (struct pair){.key = key, .value = value};
    return 0;
}
