/* Grammars at work: compiled ones, and the places where texts stand in them. */
#ifndef HEARTH_GRAMMAR_GRAMMAR_H
#define HEARTH_GRAMMAR_GRAMMAR_H

#include "../engine.h"
#include "build.h"
#include "trie.h"

/* Of the texts of a node. `trie` belongs to somebody else: only the functions of states look into it. One
 * reference is the caller's. */
int grammar_create(struct grammar **out, struct grammar_build *, int root, const struct trie *,
                   struct err *) WARN_UNUSED;
/* From a spec as engine_grammar takes it. */
int grammar_compile(struct grammar **out, const json_t *spec, const struct trie *, struct err *) WARN_UNUSED;
struct grammar *grammar_retain(struct grammar *); /* NULL is fine; engine_grammar_release gives it back */

/* Compiled grammars of one model, those used last. Any thread. */
struct grammar_cache;
int grammar_cache_create(struct grammar_cache **out, struct err *) WARN_UNUSED;
void grammar_cache_destroy(struct grammar_cache *); /* NULL is fine; grammars in use stay until they are released */
/* The vocabulary is looked at when the first grammar is wanted. A reference is the caller's. */
struct grammar_vocabulary {
    const struct tokenizer *tokenizer;
    int vocab;
    const int32_t *end_ids;
    int n_end_ids;
};
int grammar_cache_get(struct grammar_cache *, const struct grammar_vocabulary *, const json_t *spec,
                      struct grammar **out, struct err *) WARN_UNUSED;

/* ---- texts under way: for one thread at a time, the same for all texts of a grammar ---- */

struct grammar_state;
int grammar_state_create(struct grammar_state **out, struct grammar *, struct err *) WARN_UNUSED;
void grammar_state_destroy(struct grammar_state *); /* NULL is fine */

/* The text may end here; nothing may follow. */
bool grammar_state_may_end(const struct grammar_state *);
bool grammar_state_is_over(const struct grammar_state *);
/* The tokens that may follow, those that end a text included: bits of the vocabulary, valid until the next call for any text of the grammar. */
int grammar_state_mask(struct grammar_state *, const uint64_t **bits, struct err *) WARN_UNUSED;
/* The text goes on with these bytes. ERR_INVALID: they may not follow; ERR_LIMIT. The state is then of no use. */
int grammar_state_accept(struct grammar_state *, const char *bytes, size_t n, struct err *) WARN_UNUSED;

#endif
