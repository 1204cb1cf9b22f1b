/* From a pattern's tree to nodes: characters that no set of the pattern tells apart become one symbol, of which
 * there are at most 256, so that the automata over bytes serve for symbols; the deterministic one is multiplied by
 * a count of characters where lengths are bounded, and becomes a graph whose labels are sets of characters. */
#include "regex.h"

#include <string.h>

#include "dfa.h"

#define CUTS_MAX 40000
#define STATES_MAX 60000  /* of the graph */
#define PATTERN_WORK 500  /* steps that the smallest pattern takes, about */
#define SHARED_USES 8     /* a set that labels more edges becomes a rule */

struct regex_build {
    struct regex regex;
    struct regex_bounds bounds;
    struct nfa nfa;
    struct dfa dfa;
    uint32_t *cut;      /* [n_cuts] ascending: from one to the next, characters are of one symbol */
    int *symbol;        /* [n_cuts] */
    uint64_t *mark;     /* [n_cuts] a hash of the sets that they are in */
    int n_cuts, n_symbols;
    int levels;         /* of the copies of the automaton: 1, or 4 with anchors */
    int *label;         /* [n_symbols][n_symbols] nodes by first and last symbol; 0: not made yet */
};

static bool failed(const struct regex_build *x)
{
    return grammar_failure(x->regex.build, NULL) != 0;
}

static void nomem(struct regex_build *x)
{
    grammar_fail(x->regex.build, ERR_NOMEM, "out of memory for a pattern");
}

/* ---- symbols ---- */

static int compare_cuts(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int find_cut(const struct regex_build *x, uint32_t c)
{
    int low = 0, high = x->n_cuts;
    while (low < high) {
        int middle = (low + high) / 2;
        if (x->cut[middle] < c) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void find_cuts(struct regex_build *x)
{
    const struct regex *r = &x->regex;
    size_t n = 0;
    x->cut = malloc((2 * r->n_ranges + 2) * sizeof *x->cut);
    if (!x->cut) {
        nomem(x);
        return;
    }
    x->cut[n++] = 0;
    for (size_t i = 0; i < r->n_ranges; i++) {
        x->cut[n++] = r->range[i].first;
        x->cut[n++] = r->range[i].last + 1;
    }
    qsort(x->cut, n, sizeof *x->cut, compare_cuts);
    for (size_t i = 0; i < n; i++) {
        if (x->n_cuts == 0 || x->cut[i] != x->cut[x->n_cuts - 1]) x->cut[x->n_cuts++] = x->cut[i];
    }
    if (x->n_cuts > CUTS_MAX) grammar_fail(r->build, ERR_LIMIT, "the pattern has too many ranges of characters");
}

static void find_symbols(struct regex_build *x)
{
    const struct regex *r = &x->regex;
    x->mark = calloc((size_t)x->n_cuts, sizeof *x->mark);
    x->symbol = malloc((size_t)x->n_cuts * sizeof *x->symbol);
    if (!x->mark || !x->symbol) {
        nomem(x);
        return;
    }
    for (size_t s = 0; s < r->n_sets; s++) {
        uint64_t own = (s + 1) * 0x9e3779b97f4a7c15u;
        own = (own ^ own >> 31) * 0xbf58476d1ce4e5b9u;
        for (size_t i = r->set[s].first; i < r->set[s].first + r->set[s].n; i++) {
            for (int c = find_cut(x, r->range[i].first); x->cut[c] <= r->range[i].last; c++) {
                x->mark[c] += own ^ own >> 29;
                if (c + 1 == x->n_cuts) break;
            }
        }
    }
    uint64_t known[256];
    for (int c = 0; c < x->n_cuts; c++) {
        int s = 0;
        while (s < x->n_symbols && known[s] != x->mark[c]) s++;
        if (s == 256) {
            grammar_fail(r->build, ERR_LIMIT, "the pattern has too many sets of characters");
            return;
        }
        if (s == x->n_symbols) known[x->n_symbols++] = x->mark[c];
        x->symbol[c] = s;
    }
}

/* ---- the automaton ---- */

/* With anchors there are four copies of it, by what of the text is behind: nothing; some; all, of some; all, of
 * nothing. The edges of characters go from the first two to the second, ^ stays where nothing is behind, $ goes
 * to where all is. */
enum { AT_BEGIN, AMID, AT_END, OF_NOTHING };

static int32_t level_state(const struct regex_build *x, int32_t state, int level)
{
    return 2 + state * x->levels + level;
}

static int32_t add_state(struct regex_build *x)
{
    int32_t first = (x->nfa.n_states - 2) / x->levels;
    for (int i = 0; i < x->levels; i++) nfa_add_state(&x->nfa);
    return failed(x) ? 0 : first;
}

static void add_empty(struct regex_build *x, int32_t from, int32_t to)
{
    for (int i = 0; i < x->levels; i++) nfa_add_empty(&x->nfa, level_state(x, from, i), level_state(x, to, i));
}

static void add_anchor(struct regex_build *x, bool begin, int32_t from, int32_t to)
{
    static const int end[] = {OF_NOTHING, AT_END, AT_END, OF_NOTHING};
    for (int i = 0; i < 4; i++) {
        if (begin && (i == AMID || i == AT_END)) continue;
        nfa_add_empty(&x->nfa, level_state(x, from, i), level_state(x, to, begin ? i : end[i]));
    }
}

static void add_set(struct regex_build *x, int set, int32_t from, int32_t to)
{
    const struct regex *r = &x->regex;
    bool in[257] = {false};
    for (size_t i = r->set[set].first; i < r->set[set].first + r->set[set].n; i++) {
        for (int c = find_cut(x, r->range[i].first); c < x->n_cuts && x->cut[c] <= r->range[i].last; c++) {
            in[x->symbol[c]] = true;
        }
    }
    for (int first = 0, last; first < 256; first = last + 1) {
        last = first;
        if (!in[first]) continue;
        while (in[last + 1]) last++;
        int goes = x->levels == 1 ? 0 : AMID;
        for (int i = 0; i <= goes; i++) {
            nfa_add_bytes(&x->nfa, level_state(x, from, i), level_state(x, to, goes), first, last);
        }
    }
}

static void add_tree(struct regex_build *x, int node, int32_t from, int32_t to);

static void add_repeat(struct regex_build *x, const struct regex_node *n, int32_t from, int32_t to)
{
    for (int i = 0; i < n->min && !failed(x); i++) {
        int32_t next = add_state(x);
        add_tree(x, n->a, from, next);
        from = next;
    }
    if (n->max < 0) {
        int32_t loop = add_state(x);
        add_empty(x, from, loop);
        add_tree(x, n->a, loop, loop);
        from = loop;
    }
    for (int i = n->min; i < n->max && !failed(x); i++) {
        int32_t next = add_state(x);
        add_empty(x, from, to);
        add_tree(x, n->a, from, next);
        from = next;
    }
    add_empty(x, from, to);
}

/* Chains are as long as the pattern, and lean to the left: only what hangs on them takes recursion. */
static void add_tree(struct regex_build *x, int node, int32_t from, int32_t to)
{
    const struct regex_node *n = &x->regex.node[node];
    while (!failed(x) && (n->kind == REGEX_SEQUENCE || n->kind == REGEX_EITHER)) {
        if (n->kind == REGEX_SEQUENCE) {
            int32_t middle = add_state(x);
            add_tree(x, n->b, middle, to);
            to = middle;
        } else {
            add_tree(x, n->b, from, to);
        }
        n = &x->regex.node[n->a];
    }
    if (failed(x)) return;
    switch (n->kind) {
    case REGEX_EMPTY:
        add_empty(x, from, to);
        return;
    case REGEX_SET:
        add_set(x, n->a, from, to);
        return;
    case REGEX_BEGIN:
    case REGEX_END:
        add_anchor(x, n->kind == REGEX_BEGIN, from, to);
        return;
    case REGEX_REPEAT:
        add_repeat(x, n, from, to);
        return;
    default:
        return;
    }
}

static void add_all(struct regex_build *x, int root, int everything)
{
    nfa_clear(&x->nfa);
    int32_t from = add_state(x), to = add_state(x);
    nfa_add_empty(&x->nfa, NFA_START, level_state(x, from, 0));
    for (int i = 0; i < x->levels; i++) nfa_add_empty(&x->nfa, level_state(x, to, i), NFA_FINAL);
    if (x->bounds.search) { /* anything before and behind */
        int32_t first = add_state(x), last = add_state(x);
        add_set(x, everything, from, from);
        add_set(x, everything, to, to);
        add_empty(x, from, first);
        add_empty(x, last, to);
        from = first;
        to = last;
    }
    add_tree(x, root, from, to);
    dfa_of(&x->dfa, &x->nfa);
}

/* ---- the graph ---- */

/* The characters that JSON does not take as they are. */
static size_t add_escapes(struct grammar_build *b, const struct code_range *range, size_t n, int *out)
{
    static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    size_t n_out = 0;
    for (uint32_t c = 0; c <= '\\'; c++) {
        bool in = false;
        for (size_t i = 0; i < n; i++) in |= range[i].first <= c && c <= range[i].last;
        if (!in || (c >= 0x20 && c != '"' && c != '\\')) continue;
        const char *letter = c ? strchr(letters, (int)c) : NULL;
        char text[8];
        if (letter) snprintf(text, sizeof text, "\\%c", letter[1]);
        else snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
        out[n_out++] = grammar_bytes(b, text, strlen(text));
    }
    return n_out;
}

static int label_of(struct regex_build *x, int first, int last)
{
    struct grammar_build *b = x->regex.build;
    int *kept = &x->label[first * x->n_symbols + last];
    if (*kept) return *kept;
    struct range_list plain = {0};
    int node[40];
    size_t n = 0;
    for (int c = 0; c < x->n_cuts; c++) {
        if (x->symbol[c] < first || x->symbol[c] > last) continue;
        range_list_add(&plain, x->cut[c], (c + 1 < x->n_cuts ? x->cut[c + 1] : 0x110000) - 1);
    }
    if (plain.failed) {
        nomem(x);
    } else if (!x->bounds.json) {
        node[n++] = grammar_set(b, plain.range, plain.n, false);
    } else {
        n = add_escapes(b, plain.range, plain.n, node);
        /* All but the ranges and all that is escaped, taken away from everything. */
        size_t n_plain = plain.n;
        uint32_t next = 0;
        struct range_list others = {0};
        range_list_add(&others, 0, 0x1f);
        range_list_add(&others, '"', '"');
        range_list_add(&others, '\\', '\\');
        for (size_t i = 0; i < n_plain; i++) {
            if (plain.range[i].first > next) range_list_add(&others, next, plain.range[i].first - 1);
            next = plain.range[i].last + 1;
        }
        if (next <= 0x10ffff) range_list_add(&others, next, 0x10ffff);
        if (others.failed) nomem(x);
        else node[n++] = grammar_set(b, others.range, others.n, true);
        free(others.range);
    }
    free(plain.range);
    int made = failed(x) ? 0 : grammar_any(b, node, n);
    return *kept = x->dfa.n_edges > SHARED_USES || x->bounds.max_chars > SHARED_USES ? grammar_share(b, made) : made;
}

/* The automaton's states, times the counts from 0 to `counts` - 1, the last of which also stands for more. */
static int graph_of(struct regex_build *x, int counts)
{
    const struct dfa *d = &x->dfa;
    size_t n = d->n_states * (size_t)counts, n_edges = 0;
    if (n > STATES_MAX || d->n_edges * (size_t)counts > 4 * STATES_MAX) {
        return grammar_fail(x->regex.build, ERR_LIMIT, "the pattern and its bounds are too large");
    }
    struct graph_edge *edge = malloc((d->n_edges * (size_t)counts + 1) * sizeof *edge);
    bool *final = calloc(n, sizeof *final);
    int node = 0, min = x->bounds.min_chars;
    if (!edge || !final) nomem(x);
    for (int count = 0; count < counts && !failed(x); count++) {
        int to = count + 1 < counts ? count + 1 : x->bounds.max_chars < 0 ? count : -1;
        for (size_t s = 0; s < d->n_states && !failed(x); s++) {
            final[(size_t)count * d->n_states + s] = d->state[s].final && count >= min;
            for (uint32_t i = d->state[s].edge; i < d->state[s + 1].edge && to >= 0; i++) {
                edge[n_edges++] = (struct graph_edge){
                    (int)(s + (size_t)count * d->n_states), d->edge[i].to + to * (int)d->n_states,
                    label_of(x, d->edge[i].first, d->edge[i].last)};
            }
        }
    }
    if (!failed(x)) node = grammar_graph(x->regex.build, (int)n, edge, n_edges, final);
    free(edge);
    free(final);
    return node;
}

int grammar_regex(struct grammar_build *b, const char *pattern, size_t length, struct regex_bounds bounds)
{
    struct regex_build x = {.regex = {.build = b, .pattern = pattern, .length = length}, .bounds = bounds};
    int node = 0;
    if (grammar_failure(b, NULL)) return 0;
    if (bounds.max_chars > STATES_MAX || bounds.min_chars > STATES_MAX) {
        return grammar_fail(b, ERR_LIMIT, "a bound of more than %d characters is too large", STATES_MAX);
    }
    nodes_work(b, PATTERN_WORK + length);
    nfa_init(&x.nfa, b);
    int root = regex_parse(&x.regex), everything = regex_add_set(&x.regex, NULL, 0, true);
    x.levels = x.regex.anchored ? 4 : 1;
    if (!failed(&x)) find_cuts(&x);
    if (!failed(&x)) find_symbols(&x);
    if (!failed(&x)) add_all(&x, root, everything);
    x.label = calloc((size_t)x.n_symbols * (size_t)x.n_symbols + 1, sizeof *x.label);
    if (!x.label) nomem(&x);
    int counts = bounds.max_chars >= 0 ? bounds.max_chars + 1 : bounds.min_chars + 1;
    if (!failed(&x)) node = graph_of(&x, counts);
    regex_dispose(&x.regex);
    nfa_dispose(&x.nfa);
    dfa_dispose(&x.dfa);
    free(x.cut);
    free(x.symbol);
    free(x.mark);
    free(x.label);
    return node;
}
