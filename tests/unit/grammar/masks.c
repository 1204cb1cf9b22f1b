/* Masks against brute force: a token may come next exactly if its bytes may. */
#include "../../../engine/text/tokenizer.h"
#include "texts.h"

#define WORDS 3000

static struct tokenizer *tokenizer;
static struct trie *trie;
static char pieces_room[1 << 18];
static struct text pieces[256 + WORDS + 4];
static int32_t types[256 + WORDS + 4];
static size_t n_pieces;
static int32_t end_id;
static struct err err;

/* A byte as GPT-2's alphabet writes it. */
static size_t put_byte(unsigned char byte, char *out)
{
    bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    unsigned c = byte, others = 0;
    for (unsigned b = 0; b < byte; b++) others += !((b >= 33 && b <= 126) || (b >= 161 && b != 173));
    if (!itself) c = 256 + others;
    if (c < 128) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3f));
    return 2;
}

static size_t room_used;

static void add_piece(const char *bytes, size_t n, int type)
{
    char *out = pieces_room + room_used;
    size_t length = 0;
    for (size_t i = 0; i < n; i++) {
        if (type == TOKEN_NORMAL) {
            length += put_byte((unsigned char)bytes[i], out + length);
        } else {
            out[length++] = bytes[i];
        }
    }
    for (size_t i = 0; i < n_pieces; i++) {
        if (pieces[i].length == length && !memcmp(pieces[i].bytes, out, length)) return;
    }
    room_used += length;
    types[n_pieces] = type;
    pieces[n_pieces++] = (struct text){out, length};
}

static void setup(void)
{
    static const char *const atoms[] = {"a", "b", "ab", "\"", "\"", "{", "}", ":", ",", " ", "[", "]", "0", "1", "-", ".",
                                        "true", "null", "\\", "n", "u", "e", "é", "\xc3", "😀", "x", "name", "\n", "!"};
    unsigned seed = 5;
    for (int byte = 0; byte < 256; byte++) add_piece((char[]){(char)byte}, 1, TOKEN_NORMAL);
    for (int i = 0; i < WORDS; i++) {
        char word[64];
        size_t n = 0;
        int parts = 2 + (int)((seed = seed * 1103515245 + 12345) >> 16 & 7);
        for (int j = 0; j < parts; j++) {
            seed = seed * 1103515245 + 12345;
            const char *atom = atoms[(seed >> 16) % (sizeof atoms / sizeof *atoms)];
            memcpy(word + n, atom, strlen(atom));
            n += strlen(atom);
        }
        add_piece(word, n, TOKEN_NORMAL);
    }
    add_piece("<call>", 6, TOKEN_USER_DEFINED);
    add_piece("<|hidden|>", 10, TOKEN_CONTROL);
    end_id = (int32_t)n_pieces;
    add_piece("<|end|>", 7, TOKEN_CONTROL);
    struct vocabulary v = {.pre = "gpt2", .pieces = pieces, .types = types, .n = n_pieces, .bos = -1};
    cr_assert_eq(tokenizer_create(&tokenizer, &v, &err), 0, "%s", err.text);
    cr_assert_eq(trie_create(&trie, tokenizer, (int)n_pieces + 10, &end_id, 1, &err), 0, "%s", err.text);
}

static void teardown(void)
{
    trie_destroy(trie);
    tokenizer_destroy(tokenizer);
}

TestSuite(masks, .init = setup, .fini = teardown, .timeout = 300);

static void check_mask(struct grammar *g, const char *text, size_t length, const uint64_t *bits)
{
    char whole[8192];
    memcpy(whole, text, length);
    for (int32_t id = 0; id < (int32_t)n_pieces + 10; id++) {
        size_t n = 0;
        const char *bytes = tokenizer_bytes(tokenizer, id, &n);
        bool wanted = false, got = bits[id / 64] >> id % 64 & 1;
        if (id == end_id) {
            wanted = fit(g, text, length) >= MAY_END;
        } else if (bytes && !tokenizer_is_hidden(tokenizer, id)) {
            memcpy(whole + length, bytes, n);
            wanted = fit(g, whole, length + n) != NO;
        }
        cr_assert_eq(got, wanted, "behind \"%.*s\": token %d \"%.*s\" %s", (int)length, text, id, (int)n,
                     bytes ? bytes : "", got ? "may come" : "may not come");
    }
}

/* Texts of random tokens that may come; some masks on the way are checked, the others only used. */
static void wander(const char *spec, int texts, int every)
{
    json_t *parsed = json_loads(spec, 0, NULL);
    struct grammar *g;
    cr_assert_not_null(parsed, "%s", spec);
    cr_assert_eq(grammar_compile(&g, parsed, trie, &err), 0, "%s", err.text);
    json_decref(parsed);
    unsigned seed = 3;
    for (int t = 0; t < texts; t++) {
        struct grammar_state *s;
        char text[4096];
        size_t length = 0;
        cr_assert_eq(grammar_state_create(&s, g, &err), 0);
        for (int step = 0; step < 60 && !grammar_state_is_over(s) && length < 2000; step++) {
            const uint64_t *bits;
            cr_assert_eq(grammar_state_mask(s, &bits, &err), 0, "%s", err.text);
            if ((step + t) % every == 0) check_mask(g, text, length, bits);
            int32_t id = (int32_t)((seed = seed * 1103515245 + 12345) >> 8) % (int32_t)n_pieces, tries = 0;
            while (!(bits[id / 64] >> id % 64 & 1)) {
                id = (id + 1) % (int32_t)n_pieces;
                cr_assert_lt(tries++, (int32_t)n_pieces, "nothing may come behind \"%.*s\"", (int)length, text);
            }
            if (id == end_id) break;
            size_t n;
            const char *bytes = tokenizer_bytes(tokenizer, id, &n);
            cr_assert_eq(grammar_state_accept(s, bytes, n, &err), 0, "%s", err.text);
            memcpy(text + length, bytes, n);
            length += n;
        }
        grammar_state_destroy(s);
    }
    engine_grammar_release(g);
}

Test(masks, json)
{
    wander("{\"type\":\"json_object\"}", 12, 7);
}

Test(masks, bounded_strings)
{
    wander("{\"type\":\"regex\",\"pattern\":\"\\\"[ab\\\\\\\\n]{0,40}\\\"( [ab]{3,9}){0,4}\"}", 12, 5);
    wander("{\"type\":\"regex\",\"pattern\":\".{10,30}x?\"}", 6, 3);
}

/* Several readings of one text, ends in the middle of tokens, rules within rules. */
Test(masks, ambiguous)
{
    wander("{\"type\":\"gbnf\",\"grammar\":\"root ::= (a | b)+ \\\"!\\\"\\na ::= \\\"x\\\" [a-z]* \\\" \\\" a? | c\\n"
           "b ::= \\\"x\\\" [a-m]* (\\\" \\\" | b)\\nc ::= \\\"[\\\" root? \\\"]\\\" | [0-9]+\\n\"}", 15, 4);
    wander("{\"type\":\"gbnf\",\"grammar\":\"root ::= \\\"a\\\" root \\\"b\\\" | \\\"a\\\" root \\\"x\\\" | \\\"1\\\" | "
           "[ab]* \\\"0\\\"\"}", 15, 4);
}

Test(masks, triggered)
{
    wander("{\"type\":\"triggered\",\"cases\":[{\"trigger\":\"<call>\",\"then\":{\"type\":\"json_object\"}},{\"trigger\":"
           "\"ab\",\"then\":{\"type\":\"choice\",\"choices\":[\"1\",\"\\\"\",\" a\",\" ab\"]}}]}", 12, 6);
}

Test(masks, choices)
{
    wander("{\"type\":\"choice\",\"choices\":[\"a\",\"ab\",\"abab\",\"é\",\"true\",\"truename\",\"nullé!\"]}", 10, 1);
}

/* The vocabulary is looked at once; the same spec is the same grammar. */
Test(masks, cache)
{
    struct grammar_cache *c;
    struct grammar *first, *again, *other;
    struct grammar_vocabulary v = {tokenizer, (int)n_pieces, &end_id, 1};
    cr_assert_eq(grammar_cache_create(&c, &err), 0);
    json_t *spec = json_pack("{s:s,s:s}", "type", "regex", "pattern", "a+");
    cr_assert_eq(grammar_cache_get(c, &v, spec, &first, &err), 0, "%s", err.text);
    cr_assert_eq(grammar_cache_get(c, &v, spec, &again, &err), 0);
    cr_expect_eq(first, again);
    for (int i = 0; i < 200; i++) {
        char pattern[16];
        snprintf(pattern, sizeof pattern, "a{%d}", i + 1);
        json_object_set_new(spec, "pattern", json_string(pattern));
        cr_assert_eq(grammar_cache_get(c, &v, spec, &other, &err), 0, "%s", err.text);
        cr_expect_neq(other, first);
        engine_grammar_release(other);
    }
    json_decref(spec);
    grammar_cache_destroy(c);
    cr_expect_eq(fit(first, "aa", 2), MAY_END, "whoever has a grammar keeps it");
    engine_grammar_release(first);
    engine_grammar_release(again);
}
