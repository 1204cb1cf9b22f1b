/* DRY ("don't repeat yourself", as oobabooga/text-generation-webui pull request 5677 describes it): where the last
 * tokens stood before, what followed them there becomes less likely, the more the longer the repetition is. */
#ifndef HEARTH_DRY_H
#define HEARTH_DRY_H

#include "sampler.h"

#define DRY_BREAKER_BYTES 512 /* of all texts that break a repetition together */
#define DRY_WORDS (DRY_BREAKER_BYTES / 64)

/* Texts that no repetition reaches across, made for one request and not changed afterwards. */
struct dry_breakers;
/* ERR_INVALID: an empty text, or more bytes than DRY_BREAKER_BYTES. */
int dry_breakers_create(struct dry_breakers **out, const char *const *text, size_t n, struct err *) WARN_UNUSED;
void dry_breakers_destroy(struct dry_breakers *); /* NULL is fine */

/* How far a text is behind its last breaker. All zero at its beginning. */
struct dry_place {
    uint64_t state[DRY_WORDS]; /* which beginnings of breakers it ends with */
    int unbroken;              /* its last tokens behind the one that ended a breaker */
};
void dry_advance(struct dry_place *, const struct dry_breakers *, const char *bytes, size_t n_bytes);

/* Scratch of a sampler; all zero is empty. */
struct dry_room {
    int32_t *match;  /* [capacity] */
    int32_t *repeat; /* [vocab] zero between two uses */
    size_t capacity;
};
void dry_room_dispose(struct dry_room *);
/* Takes its penalty from value[vocab] of each token that would go on with a repetition. Time and memory are linear
 * in the tokens looked at. */
int dry_apply(struct dry_room *, float *value, int vocab, const struct sampling *, const struct sampler_past *,
              struct err *) WARN_UNUSED;

#endif
