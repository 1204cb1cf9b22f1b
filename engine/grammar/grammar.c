/* Compiled grammars, their cache, and texts under way. */
#include "grammar.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "mask.h"

#define CACHE_MOST 32                    /* grammars */
#define CACHE_BYTES ((size_t)64 << 20)   /* of their automata */
#define SPEC_MAX ((size_t)1 << 20)       /* bytes of JSON */
#define MASKS_MOST ((size_t)4 << 20)     /* bytes of masks that a grammar keeps */
#define STACKS_KEPT 512                  /* readings of a text between two tokens */
#define FRAMES_SPARE 4096                /* old frames, before the others are collected */

struct grammar {
    atomic_int references;
    struct automaton *automaton;
    const struct trie *trie;
    struct masks *masks; /* the worker's: made with the first mask */
    uint64_t *bits;      /* likewise */
};

/* ---- compiled ones ---- */

int grammar_create(struct grammar **out, struct grammar_build *b, int root, const struct trie *t, struct err *err)
{
    *out = NULL;
    struct grammar *g = calloc(1, sizeof *g);
    if (!g) return err_set(err, ERR_NOMEM, "out of memory for a grammar");
    atomic_init(&g->references, 1);
    g->trie = t;
    int rc = automaton_create(&g->automaton, b, root, err);
    if (rc) {
        free(g);
        return rc;
    }
    *out = g;
    return 0;
}

int grammar_compile(struct grammar **out, const json_t *spec, const struct trie *t, struct err *err)
{
    struct grammar_build *b;
    *out = NULL;
    int rc = grammar_build_create(&b, err);
    if (rc) return rc;
    int root = grammar_spec(b, spec, 0);
    rc = grammar_failure(b, err);
    if (!rc) rc = grammar_create(out, b, root, t, err);
    grammar_build_destroy(b);
    return rc;
}

struct grammar *grammar_retain(struct grammar *g)
{
    if (g) atomic_fetch_add_explicit(&g->references, 1, memory_order_relaxed);
    return g;
}

void engine_grammar_release(struct grammar *g)
{
    if (!g || atomic_fetch_sub_explicit(&g->references, 1, memory_order_acq_rel) > 1) return;
    masks_destroy(g->masks);
    automaton_destroy(g->automaton);
    free(g->bits);
    free(g);
}

/* ---- the cache ---- */

struct cached {
    char *spec;
    struct grammar *grammar;
    size_t bytes;
    uint64_t used;
};

struct grammar_cache {
    pthread_mutex_t mutex; /* of all below; nothing is compiled under it, but the trie is made */
    struct trie *trie;
    struct cached entry[CACHE_MOST];
    int n;
    size_t bytes;
    uint64_t clock;
};

int grammar_cache_create(struct grammar_cache **out, struct err *err)
{
    struct grammar_cache *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c && !pthread_mutex_init(&c->mutex, NULL)) {
        *out = c;
        return 0;
    }
    free(c);
    return err_set(err, ERR_NOMEM, "out of memory for grammars");
}

static void drop(struct grammar_cache *c, int i)
{
    c->bytes -= c->entry[i].bytes;
    free(c->entry[i].spec);
    engine_grammar_release(c->entry[i].grammar);
    c->entry[i] = c->entry[--c->n];
}

void grammar_cache_destroy(struct grammar_cache *c)
{
    if (!c) return;
    while (c->n > 0) drop(c, c->n - 1);
    trie_destroy(c->trie);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

static struct grammar *find(struct grammar_cache *c, const char *spec)
{
    for (int i = 0; i < c->n; i++) {
        if (strcmp(c->entry[i].spec, spec)) continue;
        c->entry[i].used = ++c->clock;
        return grammar_retain(c->entry[i].grammar);
    }
    return NULL;
}

/* Takes over the spec. What was used longest ago goes where there is no room. */
static void keep(struct grammar_cache *c, char *spec, struct grammar *g)
{
    size_t bytes = automaton_bytes(g->automaton) + strlen(spec);
    while (c->n > 0 && (c->n == CACHE_MOST || c->bytes + bytes > CACHE_BYTES)) {
        int oldest = 0;
        for (int i = 1; i < c->n; i++) oldest = c->entry[i].used < c->entry[oldest].used ? i : oldest;
        drop(c, oldest);
    }
    c->entry[c->n++] = (struct cached){spec, grammar_retain(g), bytes, ++c->clock};
    c->bytes += bytes;
}

int grammar_cache_get(struct grammar_cache *c, const struct grammar_vocabulary *v, const json_t *spec,
                      struct grammar **out, struct err *err)
{
    *out = NULL;
    char *text = json_dumps(spec, JSON_COMPACT | JSON_ENCODE_ANY); /* in the order of the members, which counts */
    if (!text) return err_set(err, ERR_INVALID, "the grammar is nested too deep");
    if (strlen(text) > SPEC_MAX) {
        free(text);
        return err_set(err, ERR_LIMIT, "a grammar of more than %zu bytes is too large", SPEC_MAX);
    }
    pthread_mutex_lock(&c->mutex);
    int rc = c->trie ? 0 : trie_create(&c->trie, v->tokenizer, v->vocab, v->end_ids, v->n_end_ids, err);
    *out = rc ? NULL : find(c, text);
    pthread_mutex_unlock(&c->mutex);
    if (!rc && !*out) {
        rc = grammar_compile(out, spec, c->trie, err);
        if (!rc) {
            pthread_mutex_lock(&c->mutex);
            keep(c, text, *out);
            pthread_mutex_unlock(&c->mutex);
            return 0;
        }
    }
    free(text);
    return rc;
}

/* ---- texts under way ---- */

struct grammar_state {
    struct grammar *grammar;
    struct stacks stacks;
    struct stack_set set, next;
    int collected; /* frames that were left when the others were collected last */
};

int grammar_state_create(struct grammar_state **out, struct grammar *g, struct err *err)
{
    *out = NULL;
    struct grammar_state *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, ERR_NOMEM, "out of memory for the state of a grammar");
    s->grammar = grammar_retain(g);
    stacks_init(&s->stacks, g->automaton);
    int rc = stacks_begin(&s->stacks, &s->set, g->automaton->start[0], err);
    if (rc) {
        grammar_state_destroy(s);
        return rc;
    }
    *out = s;
    return 0;
}

void grammar_state_destroy(struct grammar_state *s)
{
    if (!s) return;
    stacks_dispose(&s->stacks);
    stack_set_dispose(&s->set);
    stack_set_dispose(&s->next);
    engine_grammar_release(s->grammar);
    free(s);
}

bool grammar_state_may_end(const struct grammar_state *s)
{
    return s->set.pops;
}

bool grammar_state_is_over(const struct grammar_state *s)
{
    return s->set.n == 0;
}

int grammar_state_mask(struct grammar_state *s, const uint64_t **bits, struct err *err)
{
    struct grammar *g = s->grammar;
    if (!g->masks) {
        size_t words = ((size_t)g->trie->vocab + 63) / 64;
        if (!g->bits) g->bits = malloc(words * sizeof *g->bits);
        if (!g->bits) return err_set(err, ERR_NOMEM, "out of memory for the masks of a grammar");
        int rc = masks_create(&g->masks, g->automaton, g->trie, MASKS_MOST, err);
        if (rc) return rc;
    }
    *bits = g->bits;
    int rc = masks_of(g->masks, &s->stacks, &s->set, g->bits, err);
    for (int i = 0; i < g->trie->n_end_ids && s->set.pops; i++) {
        g->bits[g->trie->end_id[i] / 64] |= (uint64_t)1 << g->trie->end_id[i] % 64;
    }
    return rc;
}

int grammar_state_accept(struct grammar_state *s, const char *bytes, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        int rc = stacks_advance(&s->stacks, &s->set, (unsigned char)bytes[i], &s->next, err);
        if (rc) return rc;
        struct stack_set set = s->set;
        s->set = s->next;
        s->next = set;
        if (s->set.n == 0 && !s->set.pops) return err_set(err, ERR_INVALID, "the text does not fit the grammar");
    }
    /* Fewer readings are fewer texts that may come, and each of them can be ended. */
    if (s->set.n > STACKS_KEPT) s->set.n = STACKS_KEPT;
    if (s->stacks.n < 2 * s->collected + FRAMES_SPARE) return 0;
    int rc = stacks_collect(&s->stacks, &s->set, err);
    s->collected = s->stacks.n;
    return rc;
}
