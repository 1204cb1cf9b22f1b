/* Unicode normalization form C. utf8proc decomposes and composes; the reordering of marks is done here
 * because utf8proc's takes quadratic time on a megabyte of them. */
#include "tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>

/* Characters below do not change, are no marks, and do not combine with what stands before them. */
#define FIRST_MARK 0x300
#define FIRST_MARK_BYTE 0xcc /* of its UTF-8 */

#define MAX_DECOMPOSITION 32

static int reserve(void **memory, size_t *capacity, size_t n, size_t size, struct err *err)
{
    if (n <= *capacity) {
        return 0;
    }
    size_t wanted = n + n / 2;
    void *grown = realloc(*memory, wanted * size);
    if (!grown) {
        return err_set(err, ERR_NOMEM, "out of memory while normalizing text");
    }
    *memory = grown;
    *capacity = wanted;
    return 0;
}

static int combining_class(int32_t point)
{
    return point < FIRST_MARK ? 0 : utf8proc_get_property(point)->combining_class;
}

/* Stable counting sort of one run of marks by combining class. */
static int order_run(int32_t *run, size_t n, struct err *err)
{
    size_t place[257] = {0};
    bool ordered = true;
    for (size_t i = 0; i < n; i++) {
        place[combining_class(run[i]) + 1]++;
        ordered = ordered && (i == 0 || combining_class(run[i - 1]) <= combining_class(run[i]));
    }
    if (ordered) {
        return 0;
    }
    int32_t *copy = malloc(n * sizeof *copy);
    if (!copy) {
        return err_set(err, ERR_NOMEM, "out of memory while normalizing text");
    }
    memcpy(copy, run, n * sizeof *copy);
    for (int c = 1; c < 257; c++) {
        place[c] += place[c - 1];
    }
    for (size_t i = 0; i < n; i++) {
        run[place[combining_class(copy[i])]++] = copy[i];
    }
    free(copy);
    return 0;
}

static int order_marks(int32_t *points, size_t n, struct err *err)
{
    int code = 0;
    for (size_t start = 0, end; code == 0 && start < n; start = end + 1) {
        for (end = start; end < n && combining_class(points[end]); end++) {
        }
        if (end - start > 1) {
            code = order_run(points + start, end - start, err);
        }
    }
    return code;
}

static int append(struct compose_scratch *scratch, const char *bytes, size_t n, struct err *err)
{
    int code = reserve((void **)&scratch->bytes, &scratch->bytes_capacity, scratch->n_bytes + n, 1, err);
    if (code == 0) {
        memcpy(scratch->bytes + scratch->n_bytes, bytes, n);
        scratch->n_bytes += n;
    }
    return code;
}

/* Normalizes text that may begin with any character; all others are at least FIRST_MARK. */
static int compose_group(struct text in, struct compose_scratch *scratch, struct err *err)
{
    size_t n = 0;
    int boundary = 0, code;
    for (size_t at = 0; at < in.length;) {
        int32_t point;
        at += (size_t)utf8proc_iterate((const unsigned char *)in.bytes + at,
                                       (utf8proc_ssize_t)(in.length - at), &point);
        code = reserve((void **)&scratch->points, &scratch->points_capacity, n + MAX_DECOMPOSITION,
                       sizeof *scratch->points, err);
        if (code < 0) {
            return code;
        }
        utf8proc_ssize_t wrote = utf8proc_decompose_char(point, scratch->points + n, MAX_DECOMPOSITION,
                                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE, &boundary);
        REQUIRE(wrote >= 0 && wrote <= MAX_DECOMPOSITION); /* Unicode's longest is 4 */
        n += (size_t)wrote;
    }
    code = order_marks(scratch->points, n, err);
    if (code < 0) {
        return code;
    }
    utf8proc_ssize_t composed = utf8proc_normalize_utf32(scratch->points, (utf8proc_ssize_t)n,
                                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t i = 0; code == 0 && i < composed; i++) {
        unsigned char utf8[4];
        utf8proc_ssize_t length = utf8proc_encode_char(scratch->points[i], utf8);
        code = append(scratch, (const char *)utf8, (size_t)length, err);
    }
    return code;
}

/* Begins a character from FIRST_MARK on. */
static bool is_high(char byte)
{
    return (unsigned char)byte >= FIRST_MARK_BYTE;
}

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

static bool may_change(struct text in)
{
    for (size_t i = 0; i < in.length; i++) {
        if (is_high(in.bytes[i])) {
            return true;
        }
    }
    return false;
}

int text_compose(struct text in, struct compose_scratch *scratch, struct text *out, struct err *err)
{
    if (!may_change(in)) {
        *out = in;
        return 0;
    }
    scratch->n_bytes = 0;
    int code = 0;
    for (size_t start = 0, end; code == 0 && start < in.length; start = end) {
        for (end = start + 1; end < in.length && is_continuation(in.bytes[end]); end++) {
        }
        size_t first = end;
        while (end < in.length && (is_high(in.bytes[end]) || is_continuation(in.bytes[end]))) {
            end++;
        }
        bool single = end == first && !is_high(in.bytes[start]);
        struct text group = {in.bytes + start, end - start};
        code = single ? append(scratch, group.bytes, group.length, err) : compose_group(group, scratch, err);
    }
    *out = (struct text){scratch->bytes, scratch->n_bytes};
    return code;
}

void compose_scratch_dispose(struct compose_scratch *scratch)
{
    free(scratch->points);
    free(scratch->bytes);
}
