/* As much of Criterion as the kernels' tests need, for processors that an emulator plays: Criterion's own
 * sandbox does not run there. Tests run one after the other in one process; the first failure ends it. The
 * program takes the names of tests, or runs all. */
#ifndef HEARTH_TEST_CRITERION_H
#define HEARTH_TEST_CRITERION_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plain_suite {
    const char *name;
    void (*init)(void), (*fini)(void);
};

struct plain_test {
    const char *suite, *name;
    void (*run)(void);
    struct plain_test *next;
};

static struct plain_test *plain_first, **plain_last = &plain_first;
static struct plain_suite plain_suites[4];

#define TestSuite(suite, ...) \
    __attribute__((constructor)) static void suite_of_##suite(void) \
    { \
        for (struct plain_suite *s = plain_suites;; s++) \
            if (!s->name) { \
                *s = (struct plain_suite){#suite, __VA_ARGS__}; \
                return; \
            } \
    } \
    struct plain_suite

#define Test(suite_, name_, ...) \
    static void suite_##_##name_(void); \
    __attribute__((constructor)) static void add_##suite_##_##name_(void) \
    { \
        static struct plain_test test = {#suite_, #name_, suite_##_##name_, NULL}; \
        *plain_last = &test; \
        plain_last = &test.next; \
    } \
    static void suite_##_##name_(void)

#define cr_assert(condition, ...) \
    do { \
        if (!(condition)) { \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            printf(" " __VA_ARGS__); \
            printf("\n"); \
            exit(1); \
        } \
    } while (0)
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), ##__VA_ARGS__)
#define cr_assert_neq(a, b, ...) cr_assert((a) != (b), ##__VA_ARGS__)
#define cr_assert_lt(a, b, ...) cr_assert((a) < (b), ##__VA_ARGS__)
#define cr_assert_leq(a, b, ...) cr_assert((a) <= (b), ##__VA_ARGS__)
#define cr_assert_gt(a, b, ...) cr_assert((a) > (b), ##__VA_ARGS__)
#define cr_assert_geq(a, b, ...) cr_assert((a) >= (b), ##__VA_ARGS__)
#define cr_assert_float_eq(a, b, by, ...) cr_assert((a) - (b) <= (by) && (b) - (a) <= (by), ##__VA_ARGS__)
#define cr_assert_null(p, ...) cr_assert((p) == NULL, ##__VA_ARGS__)
#define cr_assert_not_null(p, ...) cr_assert((p) != NULL, ##__VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) cr_assert(!strcmp(a, b), ##__VA_ARGS__)
#define cr_assert_arr_eq(a, b, bytes, ...) cr_assert(!memcmp(a, b, bytes), ##__VA_ARGS__)
/* A failed expectation ends a test at once, too. */
#define cr_expect cr_assert
#define cr_expect_eq cr_assert_eq
#define cr_expect_neq cr_assert_neq
#define cr_expect_lt cr_assert_lt
#define cr_expect_leq cr_assert_leq
#define cr_expect_gt cr_assert_gt
#define cr_expect_geq cr_assert_geq
#define cr_expect_float_eq cr_assert_float_eq
#define cr_expect_null cr_assert_null
#define cr_expect_not_null cr_assert_not_null
#define cr_expect_str_eq cr_assert_str_eq
#define cr_expect_arr_eq cr_assert_arr_eq

int main(int argc, char **argv)
{
    int count = 0;
    for (const struct plain_test *t = plain_first; t; t = t->next) {
        const struct plain_suite *suite = NULL;
        bool wanted = argc < 2;
        for (int i = 1; i < argc; i++)
            wanted |= !strcmp(argv[i], t->name);
        if (!wanted)
            continue;
        count++;
        for (const struct plain_suite *s = plain_suites; s->name; s++)
            suite = !strcmp(s->name, t->suite) ? s : suite;
        if (suite && suite->init)
            suite->init();
        t->run();
        if (suite && suite->fini)
            suite->fini();
        printf("PASS %s %s\n", t->suite, t->name);
        fflush(stdout);
    }
    printf("%d tests passed\n", count);
    return count ? 0 : 1;
}

#endif
