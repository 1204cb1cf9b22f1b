/* The index: every three tokens in a row lead, by their hash, to the last place where they ended, and each
 * place to the one before it. Of the candidates the longest match wins, then the latest. */
#include "speculate.h"

#include <stdlib.h>

#define LEAST 3        /* tokens that match at least */
#define ENOUGH 32      /* longer matches are not told apart */
#define CANDIDATES 16  /* places looked at */
#define WORTH 1.1      /* tokens per cost that drafts must promise, against one without */
#define FRESHNESS 0.12 /* weight of the newest draft in its record */
#define PATIENCE 64    /* chances let pass at most before drafts are tried again */
#define UNKNOWN 4.0    /* rows that a step of one costs besides its own, until steps were measured */
#define CHEAPEST 0.02  /* price at least: measurements vary */
#define STEP_FRESHNESS 0.25

void speculation_dispose(struct speculation *s)
{
    free(s->head);
    free(s->previous);
    *s = (struct speculation){.disabled = true};
}

/* ---- the index ---- */

static uint32_t hash(const struct speculation *s, const int32_t *three)
{
    uint64_t h = 0;
    for (int i = 0; i < LEAST; i++) h = (h + (uint32_t)three[i] + 1) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> (64 - s->bits));
}

/* Room for n tokens and half as many again; all are indexed anew. */
static bool grow(struct speculation *s, int n)
{
    int capacity = n + n / 2 + 256, bits = 9;
    while (1 << bits < capacity) bits++;
    int32_t *head = malloc(((size_t)1 << bits) * sizeof *head);
    int32_t *previous = malloc((size_t)capacity * sizeof *previous);
    if (!head || !previous) {
        free(head);
        free(previous);
        return false;
    }
    free(s->head);
    free(s->previous);
    s->head = head;
    s->previous = previous;
    s->bits = bits;
    s->capacity = capacity;
    s->n_indexed = 0;
    for (int i = 0; i < 1 << bits; i++) head[i] = -1;
    return true;
}

/* What ends at the last token is left out: it is what the others are compared with. */
static bool bring_up_to_date(struct speculation *s, const int32_t *tokens, int n)
{
    if (n > s->capacity && !grow(s, n)) {
        speculation_dispose(s);
        return false;
    }
    for (int i = s->n_indexed < LEAST - 1 ? LEAST - 1 : s->n_indexed; i < n - 1; i++) {
        int32_t *head = &s->head[hash(s, tokens + i - LEAST + 1)];
        s->previous[i] = *head;
        *head = i;
    }
    s->n_indexed = n - 1;
    return true;
}

/* Where the longest match of the last tokens ends; -1: nowhere. */
static int find(const struct speculation *s, const int32_t *tokens, int n, int *length)
{
    int best = -1, at = s->head[hash(s, tokens + n - LEAST)];
    *length = LEAST - 1;
    for (int i = 0; at >= 0 && i < CANDIDATES && *length < ENOUGH; i++, at = s->previous[at]) {
        int same = 0;
        while (same < ENOUGH && same <= at && tokens[at - same] == tokens[n - 1 - same]) same++;
        if (same <= *length) continue;
        best = at;
        *length = same;
    }
    return best;
}

/* ---- how many ---- */

/* As many as give the most tokens for their cost, as far as they give more than a step without drafts. */
static int worthwhile(double rate, int most, double price)
{
    double tokens = 1, chance = 1, best = WORTH;
    int count = 0;
    for (int k = 1; k <= most; k++) {
        chance *= rate;
        tokens += chance;
        double gain = tokens / (1 + price * k);
        if (gain < best) continue;
        best = gain;
        count = k;
    }
    return count;
}

static void begin(struct speculation *s)
{
    static const double first[3] = {0.5, 0.7, 0.9};
    for (int i = 0; i < 3; i++) s->record[i] = (struct speculation_record){.rate = first[i], .distance = 1};
    s->began = true;
}

/* Where drafts do not pay, one is tried now and then, ever more rarely. */
static int count_drafts(struct speculation_record *record, int most, double price)
{
    int count = worthwhile(record->rate, most, price);
    if (count == 0 && ++record->wait > record->distance) count = 1;
    if (count > 0) record->wait = 0;
    return count;
}

int speculation_draft(struct speculation *s, const int32_t *tokens, int n, int most, double price,
                      int32_t *out)
{
    if (s->disabled || most <= 0 || n <= LEAST || !bring_up_to_date(s, tokens, n)) return 0;
    if (!s->began) begin(s);
    int length, at = find(s, tokens, n, &length);
    if (at < 0) return 0;
    s->last = length < 5 ? 0 : length < 12 ? 1 : 2;
    int count = count_drafts(&s->record[s->last], most < SPECULATE_MOST ? most : SPECULATE_MOST, price);
    /* behind the last token a text that repeats itself goes on as drafted */
    for (int i = 0; i < count; i++) out[i] = at + 1 + i < n ? tokens[at + 1 + i] : out[at + 1 + i - n];
    return count;
}

void speculation_learn(struct speculation *s, int tried, int right)
{
    struct speculation_record *record = &s->record[s->last];
    if (tried <= 0) return;
    for (int i = 0; i < right; i++) record->rate += FRESHNESS * (1 - record->rate);
    if (right < tried) record->rate -= FRESHNESS * record->rate;
    if (right == 0 && record->distance < PATIENCE) record->distance *= 2;
    if (right > 0 && record->distance > 1) record->distance /= record->distance > 2 ? 4 : 2;
}

/* ---- what rows cost ---- */

static void blend(double *value, double measured)
{
    *value = *value != 0 ? *value + STEP_FRESHNESS * (measured - *value) : measured;
}

void speculation_cost_learn(struct speculation_cost *c, int streams, int drafts, double seconds)
{
    if (streams != c->streams) c->step = 0;
    c->streams = streams;
    if (drafts == 0) {
        blend(&c->step, seconds);
    } else if (c->step > 0) {
        blend(&c->row, (seconds - c->step) / drafts);
    }
}

double speculation_price(const struct speculation_cost *c, int streams)
{
    if (streams != c->streams || c->step == 0 || c->row == 0) return streams / (UNKNOWN + streams);
    double price = c->row * streams / c->step;
    return price > CHEAPEST ? price : CHEAPEST;
}
