/* The split patterns by `tokenizer.ggml.pre`, run by PCRE2: compiled to machine code where the system
 * permits that, interpreted elsewhere. */
#include "tokenizer_parts.h"

#include <string.h>

/* Unicode's White_Space, spelt out because PCRE2's \s also holds U+180E. */
#define SPACES                                                                                       \
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define SPACE "[" SPACES "]"
#define SUFFIXES "'s|'t|'re|'ve|'m|'ll|'d"
#define SYMBOLS "[^" SPACES "\\p{L}\\p{N}]+"

/* Spaces leave their last one to the word that follows. */
#define SPACE_RUN SPACE "+(?![^" SPACES "])|" SPACE "+"

#define GPT2 SUFFIXES "| ?\\p{L}+| ?\\p{N}+| ?" SYMBOLS "|" SPACE_RUN

/* Digits are cut out first, one by one, and what lies between them is split as for GPT-2: there a run of
 * spaces before a digit is at the end of its text. */
#define SMOLLM "\\p{N}|" SUFFIXES "| ?\\p{L}+| ?" SYMBOLS "|" SPACE "+(?![^" SPACES "\\p{N}])|" SPACE "+"

#define CL100K(digits)                                                                              \
    "(?i:" SUFFIXES ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?" SYMBOLS "[\\r\\n]*|"            \
    SPACE "*[\\r\\n]+|" SPACE_RUN

static const struct rule {
    const char *pre, *pattern;
    bool compose, whole_pieces;
} rules[] = {
    {"qwen2", CL100K("\\p{N}"), true, false},
    {"deepseek-r1-qwen", CL100K("\\p{N}"), true, false},
    {"llama-bpe", CL100K("\\p{N}{1,3}"), false, true},
    {"smollm", SMOLLM, false, false},
    {"gpt2", GPT2, false, false},
    {"gpt-2", GPT2, false, false}, /* what converters write into files */
};

static const struct rule *find_rule(const char *pre)
{
    for (size_t i = 0; pre && i < sizeof rules / sizeof *rules; i++) {
        if (strcmp(rules[i].pre, pre) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

int text_split_init(struct text_split *split, const char *pre, struct err *err)
{
    const struct rule *rule = find_rule(pre);
    if (!rule) {
        return err_set(err, ERR_UNSUPPORTED, "tokenizer.ggml.pre '%s' is not supported",
                       pre ? pre : "(none)");
    }
    int problem;
    PCRE2_SIZE at;
    split->pattern = pcre2_compile((PCRE2_SPTR)rule->pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_ANCHORED, &problem, &at, NULL);
    split->limits = pcre2_match_context_create(NULL);
    if (!split->pattern || !split->limits) {
        return err_set(err, ERR_NOMEM, "out of memory for the split pattern '%s'", pre);
    }
    /* Each byte of a run of spaces may be one step back, and runs may be as long as a text. */
    pcre2_set_match_limit(split->limits, UINT32_MAX);
    pcre2_set_depth_limit(split->limits, UINT32_MAX);
    /* Hardened systems refuse executable memory: pcre2_match then interprets. */
    (void)pcre2_jit_compile(split->pattern, PCRE2_JIT_COMPLETE);
    split->compose = rule->compose;
    split->whole_pieces = rule->whole_pieces;
    return 0;
}

void text_split_dispose(struct text_split *split)
{
    pcre2_code_free(split->pattern);
    pcre2_match_context_free(split->limits);
}

int64_t text_split_next(const struct text_split *split, pcre2_match_data *match, struct text text,
                        size_t start, struct err *err)
{
    int found = pcre2_match(split->pattern, (PCRE2_SPTR)text.bytes, text.length, start, PCRE2_NO_UTF_CHECK,
                            match, split->limits);
    if (found == PCRE2_ERROR_NOMEMORY || found == PCRE2_ERROR_HEAPLIMIT) {
        return err_set(err, ERR_NOMEM, "out of memory while splitting text");
    }
    size_t end = found > 0 ? pcre2_get_ovector_pointer(match)[1] : start;
    if (end <= start) {
        return err_set(err, ERR_LIMIT, "text could not be split at byte %zu (PCRE2 error %d)", start, found);
    }
    return (int64_t)end;
}
