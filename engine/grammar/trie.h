/* The texts of a vocabulary as a trie, nodes in depth-first order: a subtree is a run of nodes, and its tokens
 * are a run of ids. Immutable: made once per model. */
#ifndef HEARTH_GRAMMAR_TRIE_H
#define HEARTH_GRAMMAR_TRIE_H

#include "../text/tokenizer.h"

#define TRIE_DEPTH_MAX 255 /* bytes of a token; longer ones are left out */

struct trie {
    int n_nodes;
    unsigned char *byte;  /* [n_nodes]; node 0 is the empty text */
    unsigned char *depth; /* [n_nodes] */
    unsigned char *height; /* [n_nodes] bytes to the furthest node below */
    int32_t *end;         /* [n_nodes] the node behind its subtree */
    int32_t *token;       /* [n_nodes + 1] where its tokens begin in `id`; they end where the next node's begin */
    int32_t *id;          /* [n_tokens] */
    int n_tokens;
    int vocab;            /* ids are below it */
    int32_t *end_id;      /* [n_end_ids] tokens that end a text; none of them is in the trie */
    int n_end_ids;
    const struct tokenizer *tokenizer;
};

/* Of the tokens that may be generated and are no end of a text. `vocab`: of the model, at least the tokenizer's.
 * The tokenizer outlives the trie. */
int trie_create(struct trie **out, const struct tokenizer *, int vocab, const int32_t *end_ids, int n_end_ids,
                struct err *) WARN_UNUSED;
void trie_destroy(struct trie *); /* NULL is fine */

#endif
