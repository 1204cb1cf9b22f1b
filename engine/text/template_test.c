/* Tests: what may stand behind "is", and in select and its kin. */
#include <string.h>

#include "template_builtin.h"

#define KIND_TEST(name, condition)                                                                  \
    static int name(struct run *run, struct value self, const struct args *args, struct value *out) \
    {                                                                                               \
        (void)run;                                                                                  \
        (void)args;                                                                                 \
        *out = value_bool(condition);                                                               \
        return 0;                                                                                   \
    }
KIND_TEST(test_defined, self.kind != VALUE_UNDEFINED)
KIND_TEST(test_undefined, self.kind == VALUE_UNDEFINED)
KIND_TEST(test_none, self.kind == VALUE_NONE)
KIND_TEST(test_boolean, self.kind == VALUE_BOOL)
KIND_TEST(test_true, self.kind == VALUE_BOOL && self.boolean)
KIND_TEST(test_false, self.kind == VALUE_BOOL && !self.boolean)
KIND_TEST(test_integer, self.kind == VALUE_INT)
KIND_TEST(test_float, self.kind == VALUE_FLOAT)
KIND_TEST(test_number, value_is_number(self))
KIND_TEST(test_string, self.kind == VALUE_STRING)
KIND_TEST(test_mapping, self.kind == VALUE_DICT)
KIND_TEST(test_iterable, self.kind == VALUE_STRING || self.kind == VALUE_SEQ || self.kind == VALUE_DICT ||
                             self.kind == VALUE_UNDEFINED || self.kind == VALUE_LOOP)
KIND_TEST(test_sequence, self.kind == VALUE_STRING || self.kind == VALUE_DICT ||
                             self.kind == VALUE_UNDEFINED ||
                             (self.kind == VALUE_SEQ && self.seq->form <= SEQ_RANGE))
KIND_TEST(test_callable, self.kind == VALUE_MACRO || self.kind == VALUE_BUILTIN || self.kind == VALUE_METHOD)

/* Identity, which for None and booleans is equality, and for the rest the same object. */
static int test_sameas(struct run *run, struct value self, const struct args *args, struct value *out)
{
    struct value other = args->v[0];
    bool same = self.kind == other.kind;
    if (same && self.kind <= VALUE_FLOAT) {
        int rc = value_equal(run, self, other, &same);
        if (rc)
            return rc;
    } else if (same) {
        same = self.str == other.str;
    }
    *out = value_bool(same);
    return 0;
}

static int remainder_is(struct run *run, struct value self, struct value divisor, int64_t wanted,
                        struct value *out)
{
    struct value rest;
    bool equal = false;
    int rc = value_arithmetic(run, '%', self, divisor, &rest);
    if (rc == 0)
        rc = value_equal(run, rest, value_int(wanted), &equal);
    *out = value_bool(equal);
    return rc;
}

static int test_odd(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return remainder_is(run, self, value_int(2), 1, out);
}

static int test_even(struct run *run, struct value self, const struct args *args, struct value *out)
{
    (void)args;
    return remainder_is(run, self, value_int(2), 0, out);
}

static int test_divisibleby(struct run *run, struct value self, const struct args *args, struct value *out)
{
    return remainder_is(run, self, args->v[0], 0, out);
}

static int test_in(struct run *run, struct value self, const struct args *args, struct value *out)
{
    bool found;
    int rc = value_contains(run, args->v[0], self, &found);
    *out = value_bool(found);
    return rc;
}

static int test_eq(struct run *run, struct value self, const struct args *args, struct value *out)
{
    bool equal;
    int rc = value_equal(run, self, args->v[0], &equal);
    *out = value_bool(equal);
    return rc;
}

static int test_ne(struct run *run, struct value self, const struct args *args, struct value *out)
{
    int rc = test_eq(run, self, args, out);
    out->boolean = !out->boolean;
    return rc;
}

#define ORDER_TEST(name, condition)                                                                 \
    static int name(struct run *run, struct value self, const struct args *args, struct value *out) \
    {                                                                                               \
        int order = 0;                                                                              \
        int rc = value_compare(run, self, args->v[0], &order);                                      \
        *out = value_bool(condition);                                                               \
        return rc;                                                                                  \
    }
ORDER_TEST(test_gt, order > 0)
ORDER_TEST(test_ge, order >= 0)
ORDER_TEST(test_lt, order < 0)
ORDER_TEST(test_le, order <= 0)

static const struct builtin tests[] = {
    {"defined", test_defined, "", 0, 0},     {"undefined", test_undefined, "", 0, 0},
    {"none", test_none, "", 0, 0},           {"boolean", test_boolean, "", 0, 0},
    {"true", test_true, "", 0, 0},           {"false", test_false, "", 0, 0},
    {"integer", test_integer, "", 0, 0},     {"float", test_float, "", 0, 0},
    {"number", test_number, "", 0, 0},       {"string", test_string, "", 0, 0},
    {"mapping", test_mapping, "", 0, 0},     {"iterable", test_iterable, "", 0, 0},
    {"sequence", test_sequence, "", 0, 0},   {"callable", test_callable, "", 0, 0},
    {"sameas", test_sameas, "other ", 1, 0}, {"odd", test_odd, "", 0, 0},
    {"even", test_even, "", 0, 0},           {"divisibleby", test_divisibleby, "num ", 1, 0},
    {"in", test_in, "seq ", 1, 0},           {"eq", test_eq, "other ", 1, 0},
    {"equalto", test_eq, "other ", 1, 0},    {"==", test_eq, "other ", 1, 0},
    {"ne", test_ne, "other ", 1, 0},         {"!=", test_ne, "other ", 1, 0},
    {"gt", test_gt, "other ", 1, 0},         {"greaterthan", test_gt, "other ", 1, 0},
    {">", test_gt, "other ", 1, 0},          {"ge", test_ge, "other ", 1, 0},
    {">=", test_ge, "other ", 1, 0},         {"lt", test_lt, "other ", 1, 0},
    {"lessthan", test_lt, "other ", 1, 0},   {"<", test_lt, "other ", 1, 0},
    {"le", test_le, "other ", 1, 0},         {"<=", test_le, "other ", 1, 0},
};

const struct builtin *builtin_test(const char *name, size_t length)
{
    return builtin_find(tests, sizeof tests / sizeof *tests, name, length);
}
