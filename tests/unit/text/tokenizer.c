/* The tokenizer on vocabularies small enough to work out by hand. */
#include "tokenizer_tiny.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Pairs that show where text was cut: whatever may merge does. */
static const struct tiny_merge merges[] = {
    {"a", "a"},      {"aa", "aa"},   {"aaaa", "aaaa"}, {"b", "c"},   {"a", "bc"},     {"a", "b"},
    {" ", " "},      {"  ", "  "},   {" ", "a"},       {"1", "2"},   {"12", "3"},     {"123", "4"},
    {" ", "1"},      {"'", "s"},     {"'", "S"},       {"\n", "\n"}, {"!", "\n"},     {" ", "\n"},
    {"-", "a"},      {"!", "!"},     {"a", "'"},       {"\t", "a"},  {"\xc3", "\xa9"}, {"e", "\xcc"},
    {"e\xcc", "\x81"}, {"<", "|"},   {"a", "1"},       {"\r", "\n"}, {"'s", "a"},     {" ", "!"},
};

enum { N_MERGES = COUNT(merges), FIRST_SPECIAL = 256 + N_MERGES };

static const struct tiny_special specials[] = {
    {"<|end|>", TOKEN_CONTROL}, {"<|end|>+", TOKEN_USER_DEFINED}, {"<call>", TOKEN_USER_DEFINED},
    {"<unused>", TOKEN_UNUSED}, {"<unk>", TOKEN_UNKNOWN},         {"  \xc3\xa9", TOKEN_USER_DEFINED},
    {"<|en", TOKEN_CONTROL},    {"zz", TOKEN_CONTROL},
};

static struct tokenizer *tokenizer_for(const char *pre)
{
    return tiny_tokenizer(&(struct tiny_options){.pre = pre, .merges = merges, .n_merges = N_MERGES,
                                                 .specials = specials, .n_specials = COUNT(specials)});
}

/* The tokens' bytes with '|' between; special ones in braces. The caller frees it. */
static char *encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                    const char *origins, enum origin fallback)
{
    unsigned char origin[256];
    for (size_t i = 0; origins && i < length; i++) {
        origin[i] = (unsigned char)(origins[i] - '0');
    }
    int32_t *ids;
    size_t n;
    struct err err = {0};
    int code = tokenizer_encode(tokenizer, text, length, origins ? origin : NULL, fallback, &ids, &n, &err);
    cr_assert_eq(code, 0, "%s", err.text);
    char *out = calloc(1, 16 * (n + 1) + 2 * length);
    for (size_t i = 0; i < n; i++) {
        size_t size;
        const char *bytes = tokenizer_bytes(tokenizer, ids[i], &size);
        bool special = ids[i] >= FIRST_SPECIAL;
        char *end = out + strlen(out);
        sprintf(end, "%s%s%.*s%s", i ? "|" : "", special ? "{" : "", (int)size, bytes, special ? "}" : "");
    }
    free(ids);
    return out;
}

static void check(const struct tokenizer *tokenizer, const char *text, const char *origins,
                  enum origin fallback, const char *expected)
{
    char *got = encode(tokenizer, text, strlen(text), origins, fallback);
    cr_expect_str_eq(got, expected, "'%s' became '%s', not '%s'", text, got, expected);
    free(got);
}

Test(tokenizer, splits_as_the_model_was_trained)
{
    static const struct {
        const char *pre, *text, *expected;
    } cases[] = {
        {"qwen2", "", ""},
        {"qwen2", "1234", "1|2|3|4"},
        {"deepseek-r1-qwen", "1234 12", "1|2|3|4| |1|2"},
        {"smollm", "1234", "1|2|3|4"},
        {"llama-bpe", "1234", "123|4"},
        {"gpt2", "1234 1", "1234| 1"},
        {"gpt-2", "1234", "1234"},
        {"gpt2", "a1", "a|1"},
        {"qwen2", "a   a", "a|  | a"},
        {"gpt2", "a   a  ", "a|  | a|  "},
        {"qwen2", "   1", "  | |1"},
        {"smollm", "   1", "  | |1"},  /* the spaces end their text, and are one piece */
        {"smollm", "    1", "    |1"}, /* as here */
        {"gpt2", "    1", "  | | 1"},
        {"qwen2", "a's a'S", "a|'s| a|'S"},
        {"gpt2", "a's a'S", "a|'s| a|'|S"},
        {"qwen2", "'sa", "'s|a"},
        {"qwen2", "-a \n\n!\na", "-a| |\n\n|!\n|a"},
        {"gpt2", "-a \n\n!\na", "-|a| \n|\n|!|\n|a"},
        {"llama-bpe", "\ta\r\n", "\ta|\r\n"},
        {"gpt2", "\ta", "\t|a"},
        {"qwen2", "\xe2\x80\x83" "a", "\xe2|\x80|\x83|a"},
        {"qwen2", "!! !a", "!!| !|a"},
        {"gpt2", "\xe1\xa0\x8e!", "\xe1|\xa0|\x8e|!"}, /* U+180E is no space */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tokenizer *tokenizer = tokenizer_for(cases[i].pre);
        check(tokenizer, cases[i].text, NULL, ORIGIN_PLAIN, cases[i].expected);
        tokenizer_destroy(tokenizer);
    }
}

Test(tokenizer, merges_by_rank_and_then_from_the_left)
{
    struct tokenizer *tokenizer = tokenizer_for("gpt2");
    check(tokenizer, "aaa", NULL, ORIGIN_PLAIN, "aa|a");
    check(tokenizer, "aaaaaaa", NULL, ORIGIN_PLAIN, "aaaa|aa|a");
    check(tokenizer, "abc", NULL, ORIGIN_PLAIN, "abc");   /* "b c" comes before "a b" */
    check(tokenizer, "aabc", NULL, ORIGIN_PLAIN, "aa|bc");
    check(tokenizer, "abb", NULL, ORIGIN_PLAIN, "ab|b");
    tokenizer_destroy(tokenizer);
}

Test(tokenizer, llama_takes_whole_pieces)
{
    /* "x yz" alone never makes "xyz", because nothing makes "yz". */
    static const struct tiny_merge unreachable[] = {{"x", "y"}, {"y", "z"}, {"x", "yz"}};
    struct tiny_options options = {.pre = "gpt2", .merges = unreachable, .n_merges = 3};
    struct tokenizer *by_merges = tiny_tokenizer(&options);
    options.pre = "llama-bpe";
    struct tokenizer *whole = tiny_tokenizer(&options);
    check(by_merges, "xyz", NULL, ORIGIN_PLAIN, "xy|z");
    check(whole, "xyz", NULL, ORIGIN_PLAIN, "xyz");
    check(whole, "xyzx", NULL, ORIGIN_PLAIN, "xy|z|x");
    tokenizer_destroy(by_merges);
    tokenizer_destroy(whole);
}

Test(tokenizer, composes_where_the_model_wants_it)
{
    struct tokenizer *qwen = tokenizer_for("qwen2"), *llama = tokenizer_for("llama-bpe");
    check(qwen, "ae\xcc\x81", NULL, ORIGIN_PLAIN, "a|\xc3\xa9");
    check(llama, "e\xcc\x81", NULL, ORIGIN_PLAIN, "e|\xcc|\x81"); /* a mark is no letter: its own piece */
    /* Marks are put in order: dot below before circumflex, U+1EC7 in one character. */
    check(qwen, "e\xcc\x82\xcc\xa3", NULL, ORIGIN_PLAIN, "\xe1|\xbb|\x87");
    check(qwen, "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", NULL, ORIGIN_PLAIN, "\xed|\x95|\x9c");
    /* Special tokens are found before: '>' does not join the stroke that follows. */
    check(qwen, "<|end|>\xcc\xb8", NULL, ORIGIN_TEMPLATE, "{<|end|>}|\xcc|\xb8");
    check(qwen, ">\xcc\xb8", NULL, ORIGIN_TEMPLATE, "\xe2|\x89|\xaf");
    tokenizer_destroy(qwen);
    tokenizer_destroy(llama);
}

Test(tokenizer, origins_decide_on_special_tokens)
{
    struct tokenizer *tokenizer = tokenizer_for("gpt2");
    check(tokenizer, "a<|end|>a", NULL, ORIGIN_TEMPLATE, "a|{<|end|>}|a");
    check(tokenizer, "a<|end|>a", NULL, ORIGIN_HISTORY, "a|<||e|n|d|||>|a");
    check(tokenizer, "a<|end|>a", NULL, ORIGIN_PLAIN, "a|<||e|n|d|||>|a");
    check(tokenizer, "<call>", NULL, ORIGIN_HISTORY, "{<call>}");
    check(tokenizer, "<call>", NULL, ORIGIN_PLAIN, "<|c|a|l|l|>");
    check(tokenizer, "<call><call>", "000000000000", ORIGIN_PLAIN, "{<call>}|{<call>}");
    check(tokenizer, "<call><call>", "010101222222", ORIGIN_TEMPLATE, "{<call>}|<|c|a|l|l|>");
    check(tokenizer, "<call>", "000002", ORIGIN_TEMPLATE, "<|c|a|l|l|>");
    check(tokenizer, "<call>", "200000", ORIGIN_TEMPLATE, "<|c|a|l|l|>");
    check(tokenizer, "<|end|>", "0000001", ORIGIN_TEMPLATE, "{<|en}|d|||>");
    check(tokenizer, "<|end|>+", NULL, ORIGIN_TEMPLATE, "{<|end|>+}"); /* the longest */
    check(tokenizer, "<|end|>+", NULL, ORIGIN_HISTORY, "{<|end|>+}");
    check(tokenizer, "<|end|>+", "00000002", ORIGIN_TEMPLATE, "{<|end|>}|+");
    check(tokenizer, "<|end|", NULL, ORIGIN_TEMPLATE, "{<|en}|d||");
    check(tokenizer, "zzz", NULL, ORIGIN_TEMPLATE, "{zz}|z");
    check(tokenizer, "<<call>", NULL, ORIGIN_TEMPLATE, "<|{<call>}");
    check(tokenizer, "<unused><unk>", NULL, ORIGIN_TEMPLATE, "<|u|n|u|s|e|d|>|<|u|n|k|>");
    check(tokenizer, "   \xc3\xa9", NULL, ORIGIN_TEMPLATE, " |{  \xc3\xa9}");
    tokenizer_destroy(tokenizer);
}

Test(tokenizer, bytes_that_are_no_utf8_stand_alone)
{
    struct tokenizer *tokenizer = tokenizer_for("qwen2");
    check(tokenizer, "aa\xff" "aa", NULL, ORIGIN_PLAIN, "aa|\xff|aa");
    check(tokenizer, "\xc3\xc3\xa9\xe2\x82", NULL, ORIGIN_PLAIN, "\xc3|\xc3\xa9|\xe2|\x82");
    check(tokenizer, "\xed\xa0\x80\xf4\x90\x80\x80\xc0\x80", NULL, ORIGIN_PLAIN,
          "\xed|\xa0|\x80|\xf4|\x90|\x80|\x80|\xc0|\x80");
    check(tokenizer, "\xff<call>\xff", NULL, ORIGIN_TEMPLATE, "\xff|{<call>}|\xff");
    char *got = encode(tokenizer, "a\0a", 3, NULL, ORIGIN_PLAIN);
    cr_expect_str_eq(got, "a||a");
    free(got);
    tokenizer_destroy(tokenizer);
}

Test(tokenizer, a_byte_without_a_token_leaves_no_trace)
{
    struct tokenizer *tokenizer = tiny_tokenizer(&(struct tiny_options){.pre = "gpt2", .no_byte_ff = true});
    check(tokenizer, "a\xff" "b", NULL, ORIGIN_PLAIN, "a|b");
    tokenizer_destroy(tokenizer);
}

Test(tokenizer, answers_about_tokens)
{
    struct tiny_options options = {.pre = "qwen2", .merges = merges, .n_merges = N_MERGES,
                                   .specials = specials, .n_specials = COUNT(specials)};
    struct tiny_vocabulary tiny = tiny_vocabulary(&options);
    tiny.vocabulary.bos = FIRST_SPECIAL;
    tiny.vocabulary.add_bos = true;
    struct tokenizer *tokenizer;
    cr_assert_eq(tokenizer_create(&tokenizer, &tiny.vocabulary, NULL), 0);
    free(tiny.memory);
    size_t length;
    for (int id = 0; id < 256; id++) {
        const char *bytes = tokenizer_bytes(tokenizer, id, &length);
        cr_expect(length == 1 && (unsigned char)*bytes == id, "byte %d", id);
        cr_expect_not(tokenizer_is_hidden(tokenizer, id));
    }
    cr_expect_eq(tokenizer_size(tokenizer), FIRST_SPECIAL + COUNT(specials));
    cr_expect_eq(tokenizer_find(tokenizer, "<|end|>"), FIRST_SPECIAL);
    cr_expect_eq(tokenizer_find(tokenizer, " a"), 264);
    cr_expect_eq(tokenizer_find(tokenizer, "none"), -1);
    cr_expect_eq(tokenizer_find(tokenizer, ""), -1);
    cr_expect_eq(tokenizer_bos(tokenizer), FIRST_SPECIAL);
    cr_expect(tokenizer_adds_bos(tokenizer));
    const bool hidden[] = {true, false, false, true, true};
    for (int i = 0; i < (int)COUNT(hidden); i++) {
        cr_expect_eq(tokenizer_is_hidden(tokenizer, FIRST_SPECIAL + i), hidden[i], "special %d", i);
    }
    cr_expect(tokenizer_is_hidden(tokenizer, -1));
    cr_expect(tokenizer_is_hidden(tokenizer, 100000));
    cr_expect_null(tokenizer_bytes(tokenizer, -1, &length));
    cr_expect_null(tokenizer_bytes(tokenizer, (int32_t)tokenizer_size(tokenizer), &length));
    tokenizer_destroy(tokenizer);
    tokenizer_destroy(NULL);
}

static void refuse(const struct vocabulary *vocabulary, int code, const char *word)
{
    struct tokenizer *tokenizer = NULL;
    struct err err = {0};
    cr_expect_eq(tokenizer_create(&tokenizer, vocabulary, &err), code, "%s: %s", word, err.text);
    cr_expect(strstr(err.text, word), "'%s' does not say '%s'", err.text, word);
}

Test(tokenizer, refuses_vocabularies_that_contradict_themselves)
{
    struct tiny_options options = {.pre = "gpt2", .merges = merges, .n_merges = 6,
                                   .specials = specials, .n_specials = 3};
    struct tiny_vocabulary tiny = tiny_vocabulary(&options);
    struct vocabulary bad = tiny.vocabulary;
    bad.pre = "nonsense";
    refuse(&bad, ERR_UNSUPPORTED, "nonsense");
    bad.pre = NULL;
    refuse(&bad, ERR_UNSUPPORTED, "none");
    bad = tiny.vocabulary;
    bad.n = 0;
    refuse(&bad, ERR_FORMAT, "not possible");
    bad.n = 257;
    refuse(&bad, ERR_FORMAT, "merge 1");
    bad = tiny.vocabulary;
    bad.bos = (int32_t)bad.n;
    refuse(&bad, ERR_FORMAT, "first token");

    struct text *pieces = (struct text *)tiny.vocabulary.pieces;
    struct text *parts = (struct text *)tiny.vocabulary.merges;
    int32_t *types = (int32_t *)tiny.vocabulary.types;
    struct text piece = pieces[65], part = parts[2];
    static const char *const wrong_pieces[] = {"B", "a b", "\xff", "\xe4\xb8\xad", "\xc5\x84"};
    for (size_t i = 0; i < COUNT(wrong_pieces); i++) {
        pieces[65] = (struct text){wrong_pieces[i], strlen(wrong_pieces[i])};
        refuse(&tiny.vocabulary, ERR_FORMAT, i ? "token 65 is not written" : "repeats token 65");
    }
    pieces[65] = piece;
    static const char *const wrong_merges[] = {"",      " ",      "ab",   "a ",       " a",
                                               "a a a", "a none", "a  a", "<|end|> +"};
    for (size_t i = 0; i < COUNT(wrong_merges); i++) {
        parts[2] = (struct text){wrong_merges[i], strlen(wrong_merges[i])};
        refuse(&tiny.vocabulary, ERR_FORMAT, "merge 2");
    }
    parts[2] = part;
    types[7] = 0;
    refuse(&tiny.vocabulary, ERR_FORMAT, "token 7");
    types[7] = 7;
    refuse(&tiny.vocabulary, ERR_FORMAT, "token 7");
    types[7] = TOKEN_NORMAL;
    char endless[600];
    memset(endless, 'x', sizeof endless);
    pieces[tiny.vocabulary.n - 1] = (struct text){endless, sizeof endless};
    refuse(&tiny.vocabulary, ERR_FORMAT, "longer than");
    free(tiny.memory);
}

Test(tokenizer, refuses_text_over_the_limit)
{
    struct tokenizer *tokenizer = tokenizer_for("qwen2");
    int32_t *ids;
    size_t n;
    cr_expect_eq(tokenizer_encode(tokenizer, "x", ((size_t)64 << 20) + 1, NULL, ORIGIN_PLAIN, &ids, &n, NULL),
                 ERR_LIMIT);
    tokenizer_destroy(tokenizer);
}

/* Merging as its definition says, in quadratic time. */
static size_t merge_slowly(const struct tiny_merge *ranks, size_t n_ranks, char tokens[][64], size_t n)
{
    for (size_t rank = 0; rank < n_ranks; rank++) {
        for (size_t i = 0; i + 1 < n; i++) {
            if (strcmp(tokens[i], ranks[rank].left) == 0 && strcmp(tokens[i + 1], ranks[rank].right) == 0) {
                strcat(tokens[i], tokens[i + 1]);
                memmove(tokens + i + 1, tokens + i + 2, (n - i - 2) * sizeof *tokens);
                n--;
                rank = (size_t)-1; /* an earlier rank may be possible again */
                break;
            }
        }
    }
    return n;
}

Test(tokenizer, agrees_with_merging_by_definition)
{
    srand(7);
    for (int round = 0; round < 30; round++) {
        char names[33][64] = {"a", "b", "c"}, joined[64];
        struct tiny_merge ranks[N_MERGES];
        size_t n_names = 3, n_ranks = 0;
        for (int tries = 0; tries < 200 && n_names < COUNT(names); tries++) {
            const char *left = names[(size_t)rand() % n_names], *right = names[(size_t)rand() % n_names];
            bool known = strlen(left) + strlen(right) > 30;
            snprintf(joined, sizeof joined, "%.31s%.31s", left, right);
            for (size_t i = 0; i < n_names; i++) {
                known = known || strcmp(names[i], joined) == 0;
            }
            if (!known) {
                ranks[n_ranks++] = (struct tiny_merge){left, right};
                strcpy(names[n_names++], joined);
            }
        }
        struct tokenizer *tokenizer =
            tiny_tokenizer(&(struct tiny_options){.pre = "gpt2", .merges = ranks, .n_merges = n_ranks});
        for (int word = 0; word < 40; word++) {
            char text[101] = "", tokens[100][64] = {{0}}, expected[256] = "";
            size_t n = 1 + (size_t)rand() % 100;
            for (size_t i = 0; i < n; i++) {
                text[i] = tokens[i][0] = "abc"[rand() % 3];
            }
            n = merge_slowly(ranks, n_ranks, tokens, n);
            for (size_t i = 0; i < n; i++) {
                strcat(strcat(expected, i ? "|" : ""), tokens[i]);
            }
            check(tokenizer, text, NULL, ORIGIN_PLAIN, expected);
        }
        tokenizer_destroy(tokenizer);
    }
}

static double seconds_for(const struct tokenizer *tokenizer, const char *text, size_t length)
{
    double best = 1e9;
    for (int i = 0; i < 2; i++) {
        int32_t *ids;
        size_t n;
        clock_t start = clock();
        cr_assert_eq(tokenizer_encode(tokenizer, text, length, NULL, ORIGIN_TEMPLATE, &ids, &n, NULL), 0);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        best = seconds < best ? seconds : best;
        free(ids);
    }
    return best;
}

Test(tokenizer, takes_near_linear_time_on_a_megabyte)
{
    static const struct {
        const char *name, *unit;
    } cases[] = {
        {"a word", "a"},       {"letters", "abcaab"},  {"spaces", " "},         {"newlines", "\n"},
        {"digits", "1"},       {"symbols", "!-"},      {"half a special", "<|en"}, {"no UTF-8", "\xff" "a"},
        {"marks", "\xcc\x81\xcc\xa3"}, {"syllables", "\xe1\x84\x92\xe1\x85\xa1"}, {"quotes", "'"},
    };
    static const char *const pres[] = {"qwen2", "smollm"};
    size_t large = (size_t)1 << 20, small = large / 8;
    char *text = malloc(large);
    for (size_t p = 0; p < COUNT(pres); p++) {
        struct tokenizer *tokenizer = tokenizer_for(pres[p]);
        for (size_t i = 0; i < COUNT(cases); i++) {
            size_t unit = strlen(cases[i].unit);
            for (size_t at = 0; at < large; at++) {
                text[at] = cases[i].unit[at % unit];
            }
            double once = seconds_for(tokenizer, text, small);
            double eight = seconds_for(tokenizer, text, large);
            cr_expect(eight <= 20 * once + 0.05, "%s, %s: %.3f s, and %.3f s for eight times as much",
                      pres[p], cases[i].name, once, eight);
        }
        tokenizer_destroy(tokenizer);
    }
    free(text);
}

static void *encode_often(void *tokenizer)
{
    for (int i = 0; i < 200; i++) {
        check(tokenizer, "aaa <|end|>e\xcc\x81 1234 ", NULL, ORIGIN_TEMPLATE,
              "aa|a| |{<|end|>}|\xc3\xa9| |1|2|3|4| ");
    }
    return NULL;
}

Test(tokenizer, serves_many_threads_at_once)
{
    struct tokenizer *tokenizer = tokenizer_for("qwen2");
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT(threads); i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, encode_often, tokenizer), 0);
    }
    for (size_t i = 0; i < COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    tokenizer_destroy(tokenizer);
}
