/* The nearest cached text: full blocks as far as they are found, then the owner's block behind them that goes
 * along longest. */
#include "explain.h"

#include <string.h>

void explain_look(struct engine_explain *x, const struct prefix_index *index, int block_tokens,
                  const struct kv_table *t, const int32_t *prompt, int n_prompt)
{
    int at = 0, same;
    struct prefix_key key = t->root;
    while (at + block_tokens <= n_prompt && prefix_find(index, key, prompt + at) >= 0) {
        key = prefix_extend(key, prompt + at, block_tokens);
        at += block_tokens;
    }
    int32_t block = prefix_nearest(index, key, t->owner, prompt + at, n_prompt - at, &same);
    x->diverges = at + same;
    x->n_cached = 0;
    for (int from = same; block >= 0 && x->n_cached < ENGINE_EXPLAIN_TOKENS; from = 0) {
        struct prefix_entry e = prefix_entry(index, block);
        for (int i = from; i < block_tokens && x->n_cached < ENGINE_EXPLAIN_TOKENS; i++) {
            x->cached[x->n_cached++] = e.tokens[i];
        }
        block = prefix_nearest(index, e.key, t->owner, NULL, 0, &same);
    }
}

void explain_finish(struct engine_explain *x, const int32_t *prompt, int n_prompt, int found)
{
    if (found > x->diverges) { /* others computed more of it meanwhile */
        x->diverges = found;
        x->n_cached = 0;
    }
    int left = n_prompt - x->diverges, most = ENGINE_EXPLAIN_TOKENS;
    x->n_before = x->diverges < most ? x->diverges : most;
    x->n_prompt = left < most ? left : most;
    memcpy(x->before, prompt + x->diverges - x->n_before, (size_t)x->n_before * sizeof *prompt);
    memcpy(x->prompt, prompt + x->diverges, (size_t)x->n_prompt * sizeof *prompt);
}
