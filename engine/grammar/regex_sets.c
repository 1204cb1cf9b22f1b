/* Sets of characters. Categories are of Unicode as utf8proc has it, found once for all. */
#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

#include "regex.h"

void range_list_add(struct range_list *l, uint32_t first, uint32_t last)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity * 2 + 16;
        struct code_range *grown = realloc(l->range, capacity * sizeof *grown);
        if (!grown) {
            l->failed = true;
            return;
        }
        l->range = grown;
        l->capacity = capacity;
    }
    l->range[l->n++] = (struct code_range){first, last};
}

bool range_list_add_class(struct range_list *l, char letter)
{
    switch (letter) {
    case 'd':
        range_list_add(l, '0', '9');
        return true;
    case 'D':
        range_list_add(l, 0, '0' - 1);
        range_list_add(l, '9' + 1, 0x10ffff);
        return true;
    case 'w':
        range_list_add(l, '0', '9');
        range_list_add(l, 'A', 'Z');
        range_list_add(l, '_', '_');
        range_list_add(l, 'a', 'z');
        return true;
    case 'W':
        range_list_add(l, 0, '0' - 1);
        range_list_add(l, '9' + 1, 'A' - 1);
        range_list_add(l, 'Z' + 1, '_' - 1);
        range_list_add(l, '_' + 1, 'a' - 1);
        range_list_add(l, 'z' + 1, 0x10ffff);
        return true;
    case 's':
        range_list_add(l, '\t', '\r');
        range_list_add(l, ' ', ' ');
        return true;
    case 'S':
        range_list_add(l, 0, '\t' - 1);
        range_list_add(l, '\r' + 1, ' ' - 1);
        range_list_add(l, ' ' + 1, 0x10ffff);
        return true;
    default:
        return false;
    }
}

/* ---- categories ---- */

#define RUNS_MAX 6000

static struct run {
    uint32_t first;
    char name[2];
} runs[RUNS_MAX]; /* ascending; each ends where the next begins */
static int n_runs;

static void find_runs(void)
{
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        const char *name = utf8proc_category_string((utf8proc_int32_t)c);
        if (n_runs > 0 && !memcmp(runs[n_runs - 1].name, name, 2)) continue;
        if (n_runs == RUNS_MAX) return;
        runs[n_runs].first = c;
        memcpy(runs[n_runs++].name, name, 2);
    }
}

bool range_list_add_category(struct range_list *l, const char *name, bool negated)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_runs);
    bool known = false;
    for (int i = 0; i < n_runs; i++) {
        bool in = runs[i].name[0] == name[0] && (!name[1] || runs[i].name[1] == name[1]);
        known |= in;
        if (in != negated) range_list_add(l, runs[i].first, (i + 1 < n_runs ? runs[i + 1].first : 0x110000) - 1);
    }
    return known;
}

/* ---- sets ---- */

static int compare(const void *a, const void *b)
{
    const struct code_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

static bool put(struct regex *r, uint32_t first, uint32_t last)
{
    if (r->n_ranges == r->range_capacity) {
        size_t capacity = r->range_capacity * 2 + 64;
        struct code_range *grown = capacity < (1 << 20) ? realloc(r->range, capacity * sizeof *grown) : NULL;
        if (!grown) {
            grammar_fail(r->build, ERR_LIMIT, "the pattern is too large");
            return false;
        }
        r->range = grown;
        r->range_capacity = capacity;
    }
    r->range[r->n_ranges++] = (struct code_range){first, last};
    return true;
}

/* An equal set is the same one. */
static int find_set(struct regex *r, struct regex_set set)
{
    for (size_t i = 0; i < r->n_sets; i++) {
        if (r->set[i].n != set.n) continue;
        const struct code_range *a = r->range + r->set[i].first, *b = r->range + set.first;
        if (set.n > 0 && memcmp(a, b, set.n * sizeof *a)) continue;
        r->n_ranges = set.first;
        return (int)i;
    }
    if (r->n_sets == r->set_capacity) {
        size_t capacity = r->set_capacity * 2 + 16;
        struct regex_set *grown = capacity < 1000 ? realloc(r->set, capacity * sizeof *grown) : NULL;
        if (!grown) return grammar_fail(r->build, ERR_LIMIT, "the pattern has too many sets of characters");
        r->set = grown;
        r->set_capacity = capacity;
    }
    r->set[r->n_sets] = set;
    return (int)r->n_sets++;
}

int regex_add_set(struct regex *r, const struct code_range *ranges, size_t n, bool negated)
{
    struct code_range *sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted) return grammar_fail(r->build, ERR_NOMEM, "out of memory for a pattern");
    if (n > 0) memcpy(sorted, ranges, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare);
    size_t first = r->n_ranges;
    uint32_t next = 0; /* behind what is in so far */
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        struct code_range s = sorted[i];
        if (negated) {
            if (s.first > next) ok = put(r, next, s.first - 1);
        } else if (r->n_ranges > first && s.first <= next) {
            if (s.last + 1 > next) r->range[r->n_ranges - 1].last = s.last;
        } else {
            ok = put(r, s.first, s.last);
        }
        if (s.last + 1 > next) next = s.last + 1;
    }
    if (ok && negated && next <= 0x10ffff) ok = put(r, next, 0x10ffff);
    free(sorted);
    return ok ? find_set(r, (struct regex_set){first, r->n_ranges - first}) : 0;
}
