/* From one row of logits to one token. Pure functions of their arguments. */
#ifndef HEARTH_SAMPLER_H
#define HEARTH_SAMPLER_H

#include "../engine.h"

/* What the penalties see: how often each token occurred. Owned by a sequence. */
struct token_counts;
int token_counts_create(struct token_counts **out, struct err *) WARN_UNUSED;
void token_counts_destroy(struct token_counts *);
int token_counts_copy(struct token_counts **out, const struct token_counts *, struct err *) WARN_UNUSED;
/* prompt tokens count for the repetition penalty only (OpenAI's penalties see the output). */
int token_counts_add(struct token_counts *, int32_t id, bool prompt, struct err *) WARN_UNUSED;
/* One that was added is out of the penalties' window. */
void token_counts_remove(struct token_counts *, int32_t id, bool prompt);

/* What a sequence has behind it, as far as the sampling parameters want to know. */
struct sampler_past {
    const struct token_counts *counts; /* of the penalties' window; NULL: they are off */
    const int32_t *tokens;             /* [n] prompt and output, inside the vocabulary */
    int n;
    int unbroken;                      /* the last so many of them have no sequence breaker */
};

struct sampler; /* scratch for one vocabulary: owned by the worker */
/* Both are copied. allowed[vocab]: may be generated; false for padding and for hidden tokens that are
 * no end token. real[vocab]: counts in log-probabilities; false for padding only, so that the
 * figures compare with those of other programs, which normalise over control tokens too. */
int sampler_create(struct sampler **out, int vocab, const bool *allowed, const bool *real,
                   struct err *) WARN_UNUSED;
void sampler_destroy(struct sampler *);

/* Log-probabilities of the model's own distribution over the real tokens, before any parameter;
 * the `n_top` most likely into top (ties: lower id first; id -1 where there are fewer). The logprob
 * of `chosen` is returned, NAN where the logits are not finite. */
float sampler_logprobs(struct sampler *, const float *logits, int32_t chosen, struct engine_top *top,
                       int n_top);
/* The log-probability of each of ids[n] likewise. */
void sampler_want(struct sampler *, const float *logits, const int32_t *ids, size_t n, float *out);

/* Chooses a token of those whose bits are in may[(vocab + 63) / 64] (NULL: any); below a temperature of 1e-5 the
 * likeliest. The random number is Philox4x32-10
 * (Salmon et al., SC 2011) keyed on (seed, choice, position): no state. Order: bias, penalties, DRY,
 * temperature, top_k, top_p, min_p, XTC (which goes by the probabilities of the tokens left by then, and does nothing
 * where the likeliest is asked for).
 * Returns the id, or ERR_DEVICE where an allowed logit is NaN or infinite, or none is left, ERR_UNSUPPORTED where
 * none may be, ERR_NOMEM. A past of NULL is empty. */
int32_t sampler_choose(struct sampler *, const float *logits, const uint64_t *may, const struct sampling *,
                       const struct sampler_past *, int choice, int64_t position, struct err *);

#endif
