/* Numbers within bounds and of steps, digit by digit: a graph whose states know whether what is written still
 * equals the beginning of a bound, and the remainder by the step. */
#include "schema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    INTEGER_DIGITS = 18, /* where no bound says more: what 64 bits hold */
    WHOLE_DIGITS = 15,   /* of numbers, likewise: what doubles hold */
    FRACTION_DIGITS = 10,
    MAX_STEP = 1000,
    MAX_EDGES = 20000,
};

/* ---- decimals ---- */

bool decimal_read(const json_t *number, struct decimal *out)
{
    char text[64];
    int scale = 0, n = 0;
    long exponent = 0;
    bool point = false;
    if (json_is_integer(number)) {
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(number));
    } else {
        double value = json_real_value(number);
        for (int precision = 15; precision <= 17; precision++) {
            snprintf(text, sizeof text, "%.*e", precision - 1, value);
            if (strtod(text, NULL) == value)
                break;
        }
    }
    *out = (struct decimal){.negative = text[0] == '-'};
    for (const char *c = text; *c; c++) {
        if (*c == 'e') {
            exponent = strtol(c + 1, NULL, 10);
            break;
        }
        if (*c == '.' || *c == ',')
            point = true;
        if (*c < '0' || *c > '9')
            continue;
        scale += point;
        if (n > 0 || *c != '0')
            out->digits[n++] = (char)(*c - '0');
    }
    while (n > 0 && out->digits[n - 1] == 0) {
        n--;
        scale--;
    }
    scale -= (int)exponent;
    if (n == 0) {
        *out = (struct decimal){0};
        return true;
    }
    if (scale < 0) { /* zeros before the point */
        if (n - scale > DECIMAL_DIGITS - 2)
            return false;
        n -= scale;
        scale = 0;
    }
    out->n = n;
    out->scale = scale;
    return scale <= DECIMAL_DIGITS / 2;
}

/* The digit worth 10^power. */
static int digit_at(const struct decimal *d, int power)
{
    int at = d->n - 1 - (power + d->scale);
    return at >= 0 && at < d->n ? d->digits[at] : 0;
}

static int whole_digits(const struct decimal *d)
{
    return d->n - d->scale > 1 ? d->n - d->scale : 1;
}

static int compare_sizes(const struct decimal *a, const struct decimal *b)
{
    int high = whole_digits(a) > whole_digits(b) ? whole_digits(a) : whole_digits(b);
    int low = a->scale > b->scale ? a->scale : b->scale;
    for (int power = high - 1; power >= -low; power--) {
        int difference = digit_at(a, power) - digit_at(b, power);
        if (difference)
            return difference;
    }
    return 0;
}

int decimal_compare(const struct decimal *a, const struct decimal *b)
{
    bool a_negative = a->negative && a->n > 0, b_negative = b->negative && b->n > 0;
    if (a_negative != b_negative)
        return a_negative ? -1 : 1;
    return a_negative ? compare_sizes(b, a) : compare_sizes(a, b);
}

/* ---- steps ---- */

static int64_t scaled(const struct decimal *d, int scale)
{
    int64_t value = 0;
    for (int power = whole_digits(d) - 1; power >= -scale; power--) {
        if (value > INT64_MAX / 16)
            return INT64_MAX;
        value = value * 10 + digit_at(d, power);
    }
    return value;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The smallest number, times 10^scale, that is a multiple of every step; 0: too large. */
static int64_t common_step(const struct number_bounds *bounds, int scale)
{
    int64_t step = 1;
    bool any = false;
    for (int i = 0; i < bounds->n_steps + bounds->integer; i++) {
        struct decimal one = {.n = 1, .digits = {1}};
        int64_t other = scaled(i < bounds->n_steps ? &bounds->step[i] : &one, scale);
        if (!any)
            step = other;
        else if (__builtin_mul_overflow(step / common_divisor(step, other), other, &step))
            return 0;
        any = true;
    }
    return step;
}

/* ---- the graph ---- */

struct digits { /* of numbers without their sign, between low and high */
    struct schema *s;
    struct decimal low, high;
    bool low_open, high_open;
    bool dry;                /* nothing is written: is there a number? */
    bool endless;            /* high is only as far as we go */
    bool whole;              /* no fraction */
    int n_whole, n_fraction; /* digits at most */
    int64_t step;            /* times 10^n_fraction */
    int *memo;               /* states; -1: dead end, -2: not known */
    int64_t n_rests;
    struct graph_edge *edges;
    bool *final;
    size_t n_edges, n_states, room;
};

/* Places of the next digit: whole digits by their power, the point, then the fraction's. */
static int place_of(const struct digits *d, int power, bool behind_point)
{
    return d->n_whole - 1 - power + (behind_point ? 1 : 0);
}

static int64_t power_of_ten(int n)
{
    int64_t value = 1;
    for (; n > 0; n--)
        value *= 10;
    return value;
}

/* What the digits so far must be known by, when so many are still to come, for the step. */
static int64_t rest_size(const struct digits *d, int to_come)
{
    return to_come > INTEGER_DIGITS ? d->step / common_divisor(d->step, power_of_ten(INTEGER_DIGITS))
                                    : d->step / common_divisor(d->step, power_of_ten(to_come));
}

static bool zeros_from(const struct decimal *d, int power)
{
    for (; power >= -d->scale; power--) {
        if (digit_at(d, power) != 0)
            return false;
    }
    return true;
}

/* Whether the number may end before the digit of `power`: as if zeros followed. */
static bool may_end(const struct digits *d, int power, bool low, bool high, int64_t rest)
{
    if (low && (d->low_open || !zeros_from(&d->low, power)))
        return false;
    if (high && d->high_open && zeros_from(&d->high, power))
        return false;
    return rest % rest_size(d, power + 1 + d->n_fraction) == 0;
}

static int new_state(struct digits *d, bool final)
{
    if (d->n_states >= d->room || !schema_step(d->s, 1)) {
        grammar_fail(d->s->build, ERR_LIMIT, "multipleOf with these bounds needs too many states");
        return -1;
    }
    d->final[d->n_states] = final;
    return (int)d->n_states++;
}

static void add_edge(struct digits *d, int from, int to, int node)
{
    if (d->n_edges >= MAX_EDGES) {
        grammar_fail(d->s->build, ERR_LIMIT, "multipleOf with these bounds needs too many states");
        return;
    }
    d->edges[d->n_edges++] = (struct graph_edge){from, to, node};
}

/* Nodes for edges. */
static int text_node(struct digits *d, const char *text)
{
    return d->dry ? 0 : grammar_bytes(d->s->build, text, strlen(text));
}

static int digit_node(struct digits *d, int first, int last)
{
    return d->dry ? 0 : grammar_byte(d->s->build, (unsigned char)('0' + first), (unsigned char)('0' + last));
}

static int any_digits(struct digits *d, int min, int max)
{
    return d->dry ? 0 : grammar_repeat(d->s->build, digit_node(d, 0, 9), min, max);
}

static int walk(struct digits *d, int power, bool behind_point, bool low, bool high, int64_t rest,
                bool first);

/* Edges for the digits that may follow, those with the same state behind them together. */
static bool add_digits(struct digits *d, int from, int power, bool low, bool high, int64_t rest, bool first)
{
    int least = low ? digit_at(&d->low, power) : 0, most = high ? digit_at(&d->high, power) : 9;
    if (first && least == 0 && power > 0)
        least = 1;
    int run = -1, run_begins = 0;
    bool any = false;
    for (int digit = least; digit <= most + 1; digit++) {
        int to = -1;
        if (digit <= most) {
            bool still_low = low && digit == digit_at(&d->low, power),
                 still_high = high && digit == digit_at(&d->high, power);
            int64_t size = rest_size(d, power + d->n_fraction);
            to = walk(d, power - 1, power < 0, still_low, still_high, (rest * 10 + digit) % size, false);
        }
        if (to == run)
            continue;
        if (run >= 0) {
            add_edge(d, from, run, digit_node(d, run_begins, digit - 1));
            any = true;
        }
        run = to;
        run_begins = digit;
    }
    return any;
}

/* The state before the digit of `power`; -1: no number comes of it. Behind the point at least one digit
 * comes. */
static int walk(struct digits *d, int power, bool behind_point, bool low, bool high, int64_t rest, bool first)
{
    if (!schema_step(d->s, 1))
        return -1;
    int64_t at = ((int64_t)place_of(d, power, behind_point) * 4 + low * 2 + high) * d->n_rests + rest;
    int *known = first ? NULL : &d->memo[at];
    if (known && *known != -2)
        return *known;
    bool begins_fraction = behind_point && power == -1;
    bool final = power < 0 && !begins_fraction && may_end(d, power, low, high, rest);
    int state = new_state(d, final);
    if (state < 0)
        return -1;
    bool alive = final;
    bool free = !low && !high && d->step == 1;
    if (power < -d->n_fraction) {
        /* the end */
    } else if (free && power >= 0 && !first) { /* any digits */
        int end = walk(d, -1, false, false, false, 0, false);
        if (end >= 0)
            add_edge(d, state, end, any_digits(d, power + 1, power + 1));
        alive = end >= 0;
    } else if (free && power < 0 && behind_point) {
        int end = new_state(d, true);
        if (end >= 0)
            add_edge(d, state, end, any_digits(d, 1, power + 1 + d->n_fraction));
        alive = true;
    } else if (power < 0 && !behind_point) {
        int to = d->whole ? -1 : walk(d, power, true, low, high, rest, false);
        if (to >= 0) {
            add_edge(d, state, to, text_node(d, "."));
            alive = true;
        }
    } else {
        alive |= add_digits(d, state, power, low, high, rest, first);
    }
    if (known)
        *known = alive ? state : -1;
    return alive ? state : -1;
}

/* All lengths from the start, state 0. Returns whether there is any number. */
static bool walk_lengths(struct digits *d)
{
    bool any = false;
    for (int n = 1; n <= d->n_whole; n++) {
        int low_digits = whole_digits(&d->low), high_digits = whole_digits(&d->high);
        if (n < low_digits || n > high_digits)
            continue;
        bool low = n == low_digits && (d->low.n > 0 || d->low_open), high = n == high_digits && !d->endless;
        int to = walk(d, n - 1, false, low, high, 0, true);
        if (to >= 0)
            add_edge(d, 0, to, text_node(d, ""));
        any |= to >= 0;
    }
    return any;
}

/* Numbers from low to high, by their sizes, without sign. Returns whether there are any. */
static bool write_digits(struct digits *d, int *node)
{
    struct schema *s = d->s;
    d->dry = !node;
    if (compare_sizes(&d->low, &d->high) > 0)
        return false;
    size_t n_memo = (size_t)(d->n_whole + d->n_fraction + 3) * 4 * (size_t)d->n_rests;
    d->room = MAX_EDGES;
    d->memo = malloc(n_memo * sizeof *d->memo);
    d->edges = malloc(MAX_EDGES * sizeof *d->edges);
    d->final = malloc(d->room * sizeof *d->final);
    bool any = false;
    if (d->memo && d->edges && d->final) {
        for (size_t i = 0; i < n_memo; i++)
            d->memo[i] = -2;
        new_state(d, false);
        any = walk_lengths(d) && !grammar_failure(s->build, NULL);
        if (any && node)
            *node = grammar_graph(s->build, (int)d->n_states, d->edges, d->n_edges, d->final);
    } else {
        grammar_fail(s->build, ERR_NOMEM, "out of memory in a JSON Schema");
    }
    free(d->memo);
    free(d->edges);
    free(d->final);
    return any;
}

static struct decimal all_nines(int n)
{
    struct decimal nines = {.n = n};
    memset(nines.digits, 9, (size_t)n);
    return nines;
}

/* How many digits there are, and the step; false: an error. */
static bool choose_digits(struct digits *d, const struct number_bounds *bounds)
{
    int reach = 1, scale = 0, step_scale = 0;
    for (int i = 0; i < 2; i++) {
        const struct decimal *bound = i ? &bounds->upper : &bounds->lower;
        if (!(i ? bounds->has_upper : bounds->has_lower))
            continue;
        reach = whole_digits(bound) > reach ? whole_digits(bound) : reach;
        scale = bound->scale > scale ? bound->scale : scale;
    }
    for (int i = 0; i < bounds->n_steps; i++)
        step_scale = bounds->step[i].scale > step_scale ? bounds->step[i].scale : step_scale;
    bool stepped = bounds->n_steps > 0 || bounds->integer;
    int usual = FRACTION_DIGITS < WHOLE_DIGITS - reach ? FRACTION_DIGITS : WHOLE_DIGITS - reach;
    d->n_fraction = stepped || scale > usual ? scale : usual;
    d->n_fraction = step_scale > d->n_fraction ? step_scale : d->n_fraction;
    int64_t unit = d->n_fraction <= INTEGER_DIGITS ? power_of_ten(d->n_fraction) : 0;
    d->step = !stepped ? 1 : unit ? common_step(bounds, d->n_fraction) : 0;
    d->whole = stepped && unit && d->step % unit == 0;
    if (d->whole) { /* what is behind the point is no matter, but for the bounds' own digits */
        d->step /= unit;
        d->n_fraction = 0;
    }
    if (d->step <= 0 || d->step > MAX_STEP) {
        grammar_fail(d->s->build, ERR_LIMIT,
                     "JSON Schema: this multipleOf is not supported, alone or with the bounds: "
                     "the step is too large or too fine");
        return false;
    }
    d->n_rests = d->step;
    int usual_whole = d->whole ? INTEGER_DIGITS : WHOLE_DIGITS;
    d->n_whole = reach + 1 > usual_whole ? reach + 1 : usual_whole;
    return true;
}

/* Both signs; node NULL: only whether there is a number. */
static bool write_number(struct schema *s, const struct number_bounds *bounds, int *node)
{
    struct digits plus = {.s = s}, minus;
    if (!choose_digits(&plus, bounds))
        return false;
    minus = plus;
    const struct decimal zero = {0}, farthest = all_nines(plus.n_whole);
    bool negative_upper = bounds->has_upper && bounds->upper.negative;
    bool positive_lower = bounds->has_lower && !bounds->lower.negative;
    plus.low = positive_lower ? bounds->lower : zero;
    plus.low_open = positive_lower && bounds->lower_open;
    plus.high = bounds->has_upper ? bounds->upper : farthest;
    plus.high_open = bounds->has_upper && bounds->upper_open;
    plus.endless = !bounds->has_upper;
    minus.low = negative_upper ? bounds->upper : zero; /* zero has no sign */
    minus.low_open = !negative_upper || bounds->upper_open;
    minus.high = bounds->has_lower ? bounds->lower : farthest;
    minus.high_open = bounds->has_lower && bounds->lower_open;
    minus.endless = !bounds->has_lower;

    int parts[2], n = 0, magnitude = 0;
    if (!negative_upper && write_digits(&plus, node ? &parts[n] : NULL))
        n++;
    if (!positive_lower && write_digits(&minus, node ? &magnitude : NULL)) {
        if (node)
            parts[n] = grammar_sequence(s->build, (int[]){grammar_bytes(s->build, "-", 1), magnitude}, 2);
        n++;
    }
    if (node)
        *node = n == 1 ? parts[0] : grammar_any(s->build, parts, (size_t)n);
    return n > 0;
}

static bool is_free(const struct number_bounds *bounds)
{
    return !bounds->has_lower && !bounds->has_upper && bounds->n_steps == 0;
}

bool schema_number_possible(struct schema *s, const struct number_bounds *bounds)
{
    /* Without a bound on one side there is room for a multiple of every step. */
    return !bounds->has_lower || !bounds->has_upper || write_number(s, bounds, NULL);
}

int schema_number(struct schema *s, const struct number_bounds *bounds)
{
    int node = 0;
    if (is_free(bounds))
        return bounds->integer ? grammar_json_integer(s->build) : grammar_json_number(s->build);
    write_number(s, bounds, &node);
    return node;
}

static bool is_multiple(const struct decimal *value, const struct decimal *step)
{
    int scale = value->scale > step->scale ? value->scale : step->scale;
    int64_t size = scaled(step, scale), rest = 0;
    if (size == INT64_MAX || size > INT64_MAX / 16)
        return compare_sizes(value, step) == 0 || value->n == 0;
    for (int power = whole_digits(value) - 1; power >= -scale; power--)
        rest = (rest * 10 + digit_at(value, power)) % size;
    return rest == 0;
}

bool schema_number_holds(const struct number_bounds *bounds, const json_t *number)
{
    struct decimal value;
    if (!decimal_read(number, &value))
        return is_free(bounds) && !bounds->integer;
    int lower = bounds->has_lower ? decimal_compare(&value, &bounds->lower) : 1;
    int upper = bounds->has_upper ? decimal_compare(&value, &bounds->upper) : -1;
    bool holds = (lower > 0 || (lower == 0 && !bounds->lower_open)) &&
                 (upper < 0 || (upper == 0 && !bounds->upper_open));
    for (int i = 0; i < bounds->n_steps && holds; i++)
        holds = is_multiple(&value, &bounds->step[i]);
    return holds && (!bounds->integer || value.scale == 0);
}
