/* Drafts: guesses at the next tokens of a text, taken from its own past. Where its last tokens stood before,
 * what followed there may follow again. Knows tokens only, and changes nothing in what is generated: whoever
 * takes a draft computes its rows and compares. */
#ifndef HEARTH_SPECULATE_H
#define HEARTH_SPECULATE_H

#include <stdbool.h>
#include <stdint.h>

#define SPECULATE_MOST 7 /* drafts at a time */

/* How drafts fared that were found by a match of about one length. */
struct speculation_record {
    double rate;        /* of drafts that were right, the ones before them being right */
    int wait, distance; /* chances let pass since the last draft; to let pass while drafts do not pay */
};

/* Of one text. All zero is a new one; memory is taken with the first draft, and where there is none, no
 * drafts are made. */
struct speculation {
    int32_t *head;     /* [1 << bits] the last place where three tokens of this hash ended; -1: none */
    int32_t *previous; /* [capacity] for each place the one before it of the same hash */
    int bits, capacity, n_indexed;
    bool began, disabled;
    struct speculation_record record[3];
    int last;          /* record of the drafts made last */
};

void speculation_dispose(struct speculation *);

/* Drafts at most `most` tokens behind the n known ones into `out`, as many as pay; often none. `price`: what a
 * row costs, as a share of what a stream's token costs without drafts. `tokens` grows from call to call and
 * never changes; `out` may lie right behind them. */
int speculation_draft(struct speculation *, const int32_t *tokens, int n, int most, double price,
                      int32_t *out);
/* Of the drafts made last, `tried` were computed and the first `right` of them were right. */
void speculation_learn(struct speculation *, int tried, int right);

/* What rows of drafts cost, learned from how long steps take. All zero: nothing known. */
struct speculation_cost {
    int streams;
    double step; /* seconds of a step of so many streams without drafts, lately */
    double row;  /* seconds that a draft adds, lately */
};
/* A step of streams and nothing else took `seconds`. */
void speculation_cost_learn(struct speculation_cost *, int streams, int drafts, double seconds);
double speculation_price(const struct speculation_cost *, int streams);

#endif
