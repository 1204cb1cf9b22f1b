/* The text stream: what may be sent, when, and which tokens that releases. */
#include "../../../engine/text/stream.h"

#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define STOPS(...) (const char *const[]){__VA_ARGS__}, COUNT(((const char *const[]){__VA_ARGS__}))
#define REPLACEMENT "\xef\xbf\xbd"

static struct text_stream *stream_with(const char *const *stop, size_t n_stop)
{
    struct text_stream *stream = NULL;
    struct err err = {0};
    cr_assert_eq(text_stream_create(&stream, stop, n_stop, &err), 0, "%s", err.text);
    return stream;
}

/* Pushes one token, or flushes where `token` is NULL. */
static void step(struct text_stream *stream, const char *token, int code, const char *expected, size_t n)
{
    const char *text;
    size_t length, released;
    int got = token ? text_stream_push(stream, token, strlen(token), &text, &length, &released, NULL)
                    : text_stream_flush(stream, &text, &length, &released, NULL);
    const char *name = token ? token : "(flush)";
    cr_expect_eq(got, code, "'%s' returned %d", name, got);
    cr_expect(length == strlen(expected) && memcmp(text, expected, length) == 0,
              "'%s' gave '%.*s', not '%s'", name, (int)length, text, expected);
    cr_expect_eq(released, n, "'%s' released %zu, not %zu", name, released, n);
}

Test(stream, passes_text_through)
{
    struct text_stream *stream = stream_with(NULL, 0);
    step(stream, "Hello", 0, "Hello", 1);
    step(stream, "", 0, "", 1);
    step(stream, " w\xc3\xb6rld", 0, " w\xc3\xb6rld", 1);
    step(stream, NULL, 0, "", 0);
    text_stream_destroy(stream);
    text_stream_destroy(NULL);
}

Test(stream, holds_back_half_characters)
{
    struct text_stream *stream = stream_with(NULL, 0);
    step(stream, "a\xf0\x9f", 0, "a", 0); /* the token does not end in what was sent */
    step(stream, "\x99", 0, "", 0);
    step(stream, "", 0, "", 0);
    step(stream, "\x82" "b\xe2", 0, "\xf0\x9f\x99\x82" "b", 3);
    step(stream, "\x82", 0, "", 0);
    step(stream, NULL, 0, REPLACEMENT, 2);
    text_stream_destroy(stream);
}

Test(stream, replaces_what_is_no_utf8_by_maximal_subparts)
{
    static const struct {
        const char *bytes, *expected;
    } cases[] = {
        {"\x80", REPLACEMENT},
        {"\xff" "a", REPLACEMENT "a"},
        {"\xc3(", REPLACEMENT "("},
        {"\xe2\x82" "a", REPLACEMENT "a"},
        {"\xf0\x9f\x99\xf0\x9f\x99\x82", REPLACEMENT "\xf0\x9f\x99\x82"},
        {"\xc0\x80", REPLACEMENT REPLACEMENT},                       /* overlong */
        {"\xe0\x80\x80", REPLACEMENT REPLACEMENT REPLACEMENT},       /* overlong */
        {"\xed\xa0\x80", REPLACEMENT REPLACEMENT REPLACEMENT},       /* a surrogate */
        {"\xf4\x90\x80\x80", REPLACEMENT REPLACEMENT REPLACEMENT REPLACEMENT},
        {"\xf5", REPLACEMENT},
        {"\xed\x9f\xbf\xf4\x8f\xbf\xbf", "\xed\x9f\xbf\xf4\x8f\xbf\xbf"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct text_stream *stream = stream_with(NULL, 0);
        step(stream, cases[i].bytes, 0, cases[i].expected, 1);
        text_stream_destroy(stream);
    }
}

Test(stream, finds_stop_strings_across_tokens)
{
    struct text_stream *stream = stream_with(STOPS("\n\nUser:", "###"));
    step(stream, "Hi\n", 0, "Hi", 0);
    step(stream, "\n", 0, "", 0);
    step(stream, "Us", 0, "", 0);
    step(stream, "e", 0, "", 0);
    step(stream, "d up", 0, "\n\nUsed up", 5);
    step(stream, "#", 0, "", 0);
    step(stream, "#!##", 0, "##!", 1);
    step(stream, "#\n", 1, "", 1); /* "#!##" has text before the stop, the last token begins inside it */
    step(stream, "more", 1, "", 0);
    step(stream, NULL, 0, "", 0);
    text_stream_destroy(stream);
}

Test(stream, stops_inside_one_token)
{
    struct text_stream *stream = stream_with(STOPS("b"));
    step(stream, "aXbc", 1, "aX", 1);
    text_stream_destroy(stream);
    stream = stream_with(STOPS("b"));
    step(stream, "bc", 1, "", 0); /* begins with the stop: never sent */
    text_stream_destroy(stream);
}

Test(stream, takes_the_first_stop_to_be_complete_and_of_those_the_longest)
{
    struct text_stream *stream = stream_with(STOPS("abcd", "bc", "c"));
    step(stream, "xabcd", 1, "xa", 1);
    cr_expect_eq(text_stream_stop(stream), 1);
    text_stream_destroy(stream);
    stream = stream_with(STOPS("aab", "b"));
    cr_expect_eq(text_stream_stop(stream), -1);
    step(stream, "aaab", 1, "a", 1);
    cr_expect_eq(text_stream_stop(stream), 0);
    text_stream_destroy(stream);
}

Test(stream, gives_back_what_only_looked_like_a_stop)
{
    struct text_stream *stream = stream_with(STOPS("aaab"));
    step(stream, "aaa", 0, "", 0);
    step(stream, "a", 0, "a", 0);
    step(stream, "a", 0, "a", 0);
    step(stream, "c", 0, "aaac", 4);
    step(stream, "aa", 0, "", 0);
    step(stream, NULL, 0, "aa", 1);
    text_stream_destroy(stream);
}

Test(stream, a_stop_string_may_hold_any_character)
{
    struct text_stream *stream = stream_with(STOPS("\xe3\x80\x82", REPLACEMENT));
    step(stream, "\xe6\x97", 0, "", 0);
    step(stream, "\xa5\xe3\x80", 0, "\xe6\x97\xa5", 1);
    step(stream, "\x82", 1, "", 1);
    text_stream_destroy(stream);
    stream = stream_with(STOPS("x", REPLACEMENT));
    step(stream, "a\xe3", 0, "a", 0);
    step(stream, "b", 1, "", 1); /* only now is the half character known to be none */
    text_stream_destroy(stream);
}

Test(stream, a_token_between_a_broken_character_and_a_stop)
{
    struct text_stream *stream = stream_with(STOPS("stop"));
    step(stream, "\xe3\x80", 0, "", 0);
    step(stream, "st", 0, REPLACEMENT, 1);
    step(stream, "op", 1, "", 0);
    text_stream_destroy(stream);
}

Test(stream, refuses_bad_stop_strings)
{
    struct text_stream *stream = NULL;
    cr_expect_eq(text_stream_create(&stream, STOPS("fine", "\xe3\x80"), NULL), ERR_INVALID);
    size_t huge = (size_t)2 << 20;
    char *stop = malloc(huge + 1);
    memset(stop, 'x', huge);
    stop[huge] = '\0';
    cr_expect_eq(text_stream_create(&stream, STOPS(stop), NULL), ERR_LIMIT);
    cr_expect_null(stream);
    free(stop);
    stream = stream_with(STOPS("", ""));
    step(stream, "an empty stop string is none", 0, "an empty stop string is none", 1);
    text_stream_destroy(stream);
}

/* The longest end of `text` that a stop string begins with, whole stop strings included. */
static size_t held_back(const char *text, size_t length, const char *const *stop, size_t n_stop)
{
    size_t longest = 0;
    for (size_t i = 0; i < n_stop; i++) {
        for (size_t n = strlen(stop[i]); n > longest; n--) {
            if (n <= length && memcmp(text + length - n, stop[i], n) == 0) {
                longest = n;
            }
        }
    }
    return longest;
}

Test(stream, agrees_with_looking_at_the_whole_text)
{
    srand(3);
    for (int round = 0; round < 3000; round++) {
        char stops[4][8] = {{0}};
        const char *stop[4];
        size_t n_stop = (size_t)rand() % 5, n = 0, n_sent = 0;
        size_t begins[64], ends[64], n_tokens = 0, n_released = 0;
        for (size_t i = 0; i < n_stop; i++) {
            for (int j = 0, m = 1 + rand() % 6; j < m; j++) {
                stops[i][j] = "ab"[rand() % 2];
            }
            stop[i] = stops[i];
        }
        struct text_stream *stream = stream_with(stop, n_stop);
        char whole[512], sent[512];
        bool found = false;
        while (!found && n_tokens < 40) {
            char token[8];
            size_t m = (size_t)rand() % 6, cut = 0;
            begins[n_tokens] = n;
            for (size_t i = 0; i < m; i++) {
                token[i] = whole[n + i] = "aabbc"[rand() % 5];
            }
            for (size_t i = 0; i < m && !found; i++) {
                for (size_t s = 0; s < n_stop; s++) {
                    size_t size = strlen(stop[s]), end = n + i + 1;
                    if (end >= size && memcmp(whole + end - size, stop[s], size) == 0) {
                        cut = !found || end - size < cut ? end - size : cut;
                        found = true;
                    }
                }
            }
            n += m;
            ends[n_tokens++] = n;
            size_t limit = found ? cut : n - held_back(whole, n, stop, n_stop), release = 0;
            while (n_released + release < n_tokens &&
                   (found ? begins[n_released + release] < cut : ends[n_released + release] <= limit)) {
                release++;
            }
            const char *text;
            size_t length, released;
            cr_assert_eq(text_stream_push(stream, token, m, &text, &length, &released, NULL), found);
            memcpy(sent + n_sent, text, length);
            n_sent += length;
            n_released += release;
            cr_assert_eq(n_sent, limit);
            cr_assert_eq(released, release);
        }
        cr_assert_eq(memcmp(sent, whole, n_sent), 0);
        text_stream_destroy(stream);
    }
}

static double seconds_for(struct text_stream *stream, size_t n)
{
    clock_t start = clock();
    for (size_t i = 0; i < n; i++) {
        const char *text;
        size_t length, released;
        cr_assert_eq(text_stream_push(stream, "aaa", 3, &text, &length, &released, NULL), 0);
    }
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

Test(stream, many_and_long_stop_strings_cost_little)
{
    double seconds[2];
    for (int large = 0; large < 2; large++) {
        size_t size = large ? 80000 : 10000, n_stop = large ? 800 : 100;
        char *longest = malloc(size + 1), (*many)[1000] = malloc(n_stop * sizeof *many);
        const char **stop = malloc((n_stop + 1) * sizeof *stop);
        memset(longest, 'a', size);
        strcpy(longest + size - 1, "b");
        for (size_t i = 0; i < n_stop; i++) {
            memset(many[i], 'a', i);
            strcpy(many[i] + i, "c");
            stop[i] = many[i];
        }
        stop[n_stop] = longest;
        struct text_stream *stream = stream_with(stop, n_stop + 1);
        seconds[large] = seconds_for(stream, 4 * size);
        text_stream_destroy(stream);
        free(longest);
        free(many);
        free(stop);
    }
    cr_expect(seconds[1] <= 20 * seconds[0] + 0.05, "%.3f s, and %.3f s for eight times as much", seconds[0],
              seconds[1]);
}
