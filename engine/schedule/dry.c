/* Repetitions are found by the Z-algorithm (Gusfield 1997) over the tokens in reverse; breakers by Shift-And
 * (Baeza-Yates and Gonnet, Commun. ACM 35(10), 1992), all of them in one row of bits. */
#include "dry.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PENALTY_MOST 1e30 /* logits stay finite */

struct dry_breakers {
    int words;
    uint64_t first[DRY_WORDS], last[DRY_WORDS]; /* bits of the texts' first and last bytes */
    uint64_t is[256][DRY_WORDS];                /* bits where this byte stands */
};

static void set_bit(uint64_t *bits, size_t i)
{
    bits[i / 64] |= (uint64_t)1 << i % 64;
}

int dry_breakers_create(struct dry_breakers **out, const char *const *text, size_t n, struct err *err)
{
    *out = NULL;
    size_t at = 0;
    struct dry_breakers *b = calloc(1, sizeof *b);
    if (!b) return err_set(err, ERR_NOMEM, "out of memory for sequence breakers");
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(text[i]);
        if (length == 0 || length > DRY_BREAKER_BYTES - at) {
            free(b);
            return err_set(err, ERR_INVALID, "sequence breakers must have at least 1 byte, and %d together at most",
                           DRY_BREAKER_BYTES);
        }
        set_bit(b->first, at);
        for (size_t j = 0; j < length; j++) set_bit(b->is[(unsigned char)text[i][j]], at++);
        set_bit(b->last, at - 1);
    }
    b->words = (int)((at + 63) / 64);
    *out = b;
    return 0;
}

void dry_breakers_destroy(struct dry_breakers *b)
{
    free(b);
}

void dry_advance(struct dry_place *p, const struct dry_breakers *b, const char *bytes, size_t n_bytes)
{
    bool broken = false;
    for (size_t i = 0; i < n_bytes; i++) {
        uint64_t carry = 0;
        const uint64_t *is = b->is[(unsigned char)bytes[i]];
        for (int j = 0; j < b->words; j++) {
            uint64_t state = p->state[j];
            p->state[j] = (state << 1 | carry | b->first[j]) & is[j];
            carry = state >> 63;
            broken |= (p->state[j] & b->last[j]) != 0;
        }
    }
    p->unbroken = broken ? 0 : p->unbroken + 1;
}

void dry_room_dispose(struct dry_room *room)
{
    free(room->match);
    free(room->repeat);
    *room = (struct dry_room){0};
}

static int make_room(struct dry_room *room, size_t n, int vocab, struct err *err)
{
    if (!room->repeat) room->repeat = calloc((size_t)vocab, sizeof *room->repeat);
    if (room->repeat && n > room->capacity) {
        size_t capacity = n + n / 2;
        int32_t *match = realloc(room->match, capacity * sizeof *match);
        if (!match) return err_set(err, ERR_NOMEM, "out of memory for the sampler");
        room->match = match;
        room->capacity = capacity;
    }
    return room->repeat ? 0 : err_set(err, ERR_NOMEM, "out of memory for the sampler");
}

/* match[i]: how many tokens that end i before the last one are those that end with the last one. */
static void find_matches(int32_t *match, const int32_t *last, int n)
{
    for (int i = 1, left = 0, right = 0; i < n; i++) {
        int same = 0;
        if (i < right) same = match[i - left] < right - i ? match[i - left] : right - i;
        while (i + same < n && last[-same] == last[-i - same]) same++;
        match[i] = same;
        if (i + same > right) {
            left = i;
            right = i + same;
        }
    }
}

int dry_apply(struct dry_room *room, float *value, int vocab, const struct sampling *p,
              const struct sampler_past *past, struct err *err)
{
    int n = p->dry_window > 0 && p->dry_window < past->n ? p->dry_window : past->n;
    if (n <= p->dry_allowed_length || past->unbroken < p->dry_allowed_length) return 0;
    int rc = make_room(room, (size_t)n, vocab, err);
    if (rc) return rc;
    const int32_t *last = past->tokens + past->n - 1;
    find_matches(room->match, last, n);
    for (int i = 1; i < n; i++) {
        int32_t next = last[1 - i], length = room->match[i] < past->unbroken ? room->match[i] : past->unbroken;
        if (room->repeat[next] < length) room->repeat[next] = length;
    }
    for (int i = 1; i < n; i++) {
        int32_t next = last[1 - i], length = room->repeat[next];
        room->repeat[next] = 0;
        if (length < p->dry_allowed_length) continue;
        double penalty = p->dry_multiplier * pow(p->dry_base, length - p->dry_allowed_length);
        value[next] -= (float)(penalty < PENALTY_MOST ? penalty : PENALTY_MOST);
    }
    return 0;
}
