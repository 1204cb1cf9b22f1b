/* Arithmetic with Python's rules: floor division, the sign of %, true division, and + and * on
 * strings and lists. Integers have 64 bits; what does not fit is an error. */
#include <math.h>
#include <string.h>

#include "template_builtin.h"

static int overflow(struct run *run)
{
    return run_error(run, ERR_INVALID, "an integer beyond 64 bits");
}

static int integer_power(struct run *run, int64_t base, int64_t exponent, struct value *out)
{
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return overflow(run);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base))
            return overflow(run);
    }
    *out = value_int(result);
    return 0;
}

/* a // b and a % b for reals. */
static void real_divide(double a, double b, double *quotient, double *remainder)
{
    double r = fmod(a, b), q = (a - r) / b;
    if (r != 0 && (b < 0) != (r < 0)) {
        r += b;
        q -= 1;
    }
    if (r == 0)
        r = copysign(0.0, b);
    double whole = floor(q);
    *quotient = q == 0 ? copysign(0.0, a / b) : q - whole > 0.5 ? whole + 1 : whole;
    *remainder = r;
}

static int integers(struct run *run, int op, int64_t a, int64_t b, struct value *out)
{
    int64_t r = 0;
    bool over = false;
    switch (op) {
    case '+':
        over = __builtin_add_overflow(a, b, &r);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case '*':
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case '/':
        *out = value_real((double)a / (double)b);
        return 0;
    case OP_FLOOR_DIVIDE:
        if (b == -1) {
            over = __builtin_sub_overflow((int64_t)0, a, &r);
            break;
        }
        r = a / b - (a % b != 0 && (a < 0) != (b < 0));
        break;
    case '%':
        r = b == -1 ? 0 : a % b;
        r += r != 0 && (r < 0) != (b < 0) ? b : 0;
        break;
    default:
        if (b >= 0)
            return integer_power(run, a, b, out);
        *out = value_real(pow((double)a, (double)b));
        return 0;
    }
    *out = value_int(r);
    return over ? overflow(run) : 0;
}

static int numbers(struct run *run, int op, struct value a, struct value b, struct value *out)
{
    int64_t i, j;
    double x = value_as_real(a), y = value_as_real(b), quotient, remainder;
    if (y == 0 && (op == '/' || op == '%' || op == OP_FLOOR_DIVIDE))
        return run_error(run, ERR_INVALID, "division by zero");
    if (op == OP_POWER && x == 0 && y < 0)
        return run_error(run, ERR_INVALID, "0 cannot be raised to a negative power");
    if (value_as_int(a, &i) && value_as_int(b, &j))
        return integers(run, op, i, j, out);
    switch (op) {
    case '+':
        x += y;
        break;
    case '-':
        x -= y;
        break;
    case '*':
        x *= y;
        break;
    case '/':
        x /= y;
        break;
    case OP_POWER:
        if (x < 0 && y != floor(y))
            return run_error(run, ERR_UNSUPPORTED, "complex numbers");
        x = pow(x, y);
        if (isinf(x) && isfinite(value_as_real(a)) && isfinite(y))
            return run_error(run, ERR_INVALID, "numerical result out of range");
        break;
    default:
        real_divide(x, y, &quotient, &remainder);
        x = op == '%' ? remainder : quotient;
    }
    *out = value_real(x);
    return 0;
}

static int add_lists(struct run *run, struct value a, struct value b, struct value *out)
{
    int rc = run_step(run, a.seq->n + b.seq->n);
    if (rc == 0)
        rc = value_seq(run, a.seq->form, a.seq->n + b.seq->n, out);
    if (rc)
        return rc;
    memcpy(out->seq->items, a.seq->items, a.seq->n * sizeof *a.seq->items);
    memcpy(out->seq->items + a.seq->n, b.seq->items, b.seq->n * sizeof *b.seq->items);
    return 0;
}

static int repeat(struct run *run, struct value v, int64_t times, struct value *out)
{
    if (times < 0)
        times = 0;
    size_t n = v.kind == VALUE_STRING ? v.str->length : v.seq->n, all;
    if (__builtin_mul_overflow(n, (size_t)times, &all) || all > RUN_OUTPUT)
        return run_error(run, ERR_LIMIT, "more than %d MiB of text", RUN_OUTPUT >> 20);
    if (n == 0)
        times = 0;
    int rc = run_step(run, all);
    if (v.kind == VALUE_STRING) {
        size_t mark = run_mark(run);
        for (int64_t i = 0; rc == 0 && i < times; i++)
            rc = run_add_str(run, v.str);
        return rc ? rc : run_take(run, mark, out);
    }
    if (rc == 0)
        rc = value_seq(run, v.seq->form, all, out);
    for (int64_t i = 0; rc == 0 && i < times; i++)
        memcpy(out->seq->items + (size_t)i * n, v.seq->items, n * sizeof *v.seq->items);
    return rc;
}

static bool is_list(struct value v)
{
    return v.kind == VALUE_SEQ && v.seq->form <= SEQ_TUPLE;
}

static int operate(struct run *run, int op, struct value a, struct value b, struct value *out)
{
    int64_t times;
    if (value_is_number(a) && value_is_number(b))
        return numbers(run, op, a, b, out);
    if (op == '%' && a.kind == VALUE_STRING) {
        if (b.kind == VALUE_SEQ && b.seq->form == SEQ_TUPLE)
            return text_percent(run, a, b.seq->items, b.seq->n, false, out);
        /* What has subscripts may be left unused, as if it were a mapping. */
        bool mapping = b.kind == VALUE_DICT || b.kind == VALUE_UNDEFINED ||
                       (b.kind == VALUE_SEQ && b.seq->form <= SEQ_RANGE);
        return text_percent(run, a, &b, 1, mapping, out);
    }
    if (a.kind == VALUE_UNDEFINED || b.kind == VALUE_UNDEFINED)
        return run_undefined(run, a.kind == VALUE_UNDEFINED ? a : b);
    if (op == '+' && a.kind == VALUE_STRING && b.kind == VALUE_STRING) {
        const struct value both[] = {a, b};
        struct value nothing;
        int rc = value_text(run, "", 0, ORIGIN_TEMPLATE, &nothing);
        return rc ? rc : text_join(run, nothing, both, 2, true, out);
    }
    if (op == '+' && is_list(a) && is_list(b) && a.seq->form == b.seq->form)
        return add_lists(run, a, b, out);
    if (op == '*' && (a.kind == VALUE_STRING || is_list(a)) && value_as_int(b, &times))
        return repeat(run, a, times, out);
    if (op == '*' && (b.kind == VALUE_STRING || is_list(b)) && value_as_int(a, &times))
        return repeat(run, b, times, out);
    const char *sign = op == OP_FLOOR_DIVIDE ? "//" : op == OP_POWER ? "**" : (const char[]){(char)op, 0};
    return run_error(run, ERR_INVALID, "unsupported operand types for %s: '%s' and '%s'", sign, value_type(a),
                     value_type(b));
}

int value_arithmetic(struct run *run, int op, struct value a, struct value b, struct value *out)
{
    uint8_t origin = origin_worse(a.origin, b.origin);
    int rc = operate(run, op, a, b, out);
    if (rc == 0 && out->kind != VALUE_STRING)
        out->origin = origin;
    return rc;
}
