/* 256 bytes in GPT-2's alphabet, a few merges, and the special tokens of ChatML and FIM. */
#include "tiny_vocab.h"

#include <string.h>

#include "../../engine/text/tokenizer.h"
#include "tiny_model.h"

static const char chatml[] =
    "{%- for message in messages -%}\n"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

/* In the order of their ranks; SPACE is the alphabet's letter for a space. */
#define SPACE "\xc4\xa0"
static const char *const merges[][2] = {
    {SPACE, "t"}, {"h", "e"}, {SPACE, "a"}, {"i", "n"}, {"l", "l"}, {"o", "r"}, {SPACE, SPACE},
    {SPACE "t", "he"}, {"e", "r"}, {SPACE, "w"}, {"he", "ll"}, {"hell", "o"}, {SPACE "w", "or"}, {"l", "d"},
    {SPACE "wor", "ld"}, {"in", "g"},
};

static const struct {
    const char *text;
    enum token_type type;
} specials[] = {
    {"<|endoftext|>", TOKEN_CONTROL}, {"<|im_start|>", TOKEN_CONTROL}, {"<|im_end|>", TOKEN_CONTROL},
    {"<tool_call>", TOKEN_USER_DEFINED}, {"</tool_call>", TOKEN_USER_DEFINED},
    {"<|fim_prefix|>", TOKEN_CONTROL}, {"<|fim_middle|>", TOKEN_CONTROL}, {"<|fim_suffix|>", TOKEN_CONTROL},
    {"<|fim_pad|>", TOKEN_CONTROL}, {"<|repo_name|>", TOKEN_CONTROL}, {"<|file_sep|>", TOKEN_CONTROL},
    {"<think>", TOKEN_USER_DEFINED}, {"</think>", TOKEN_USER_DEFINED},
};

enum {
    N_BYTES = 256,
    N_MERGES = sizeof merges / sizeof *merges,
    N_SPECIALS = sizeof specials / sizeof *specials,
    N_TOKENS = N_BYTES + N_MERGES + N_SPECIALS,
    PIECE_SIZE = 32,
};

int tiny_model_tokens(void)
{
    return N_TOKENS;
}

static bool is_printable(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static enum token_type type_of(int id)
{
    if (id >= N_TOKENS)
        return TOKEN_UNUSED;
    return id < N_BYTES + N_MERGES ? TOKEN_NORMAL : specials[id - N_BYTES - N_MERGES].type;
}

static const char *piece(int id, char *out)
{
    if (id >= N_TOKENS) {
        snprintf(out, PIECE_SIZE, "[PAD%d]", id);
        return out;
    }
    if (id >= N_BYTES + N_MERGES)
        return specials[id - N_BYTES - N_MERGES].text;
    if (id >= N_BYTES) {
        snprintf(out, PIECE_SIZE, "%s%s", merges[id - N_BYTES][0], merges[id - N_BYTES][1]);
        return out;
    }
    int codepoint = id;
    if (!is_printable(id)) { /* the others are counted from U+0100 on */
        codepoint = 0x100;
        for (int byte = 0; byte < id; byte++)
            codepoint += !is_printable(byte);
    }
    if (codepoint < 0x80)
        snprintf(out, PIECE_SIZE, "%c", codepoint);
    else
        snprintf(out, PIECE_SIZE, "%c%c", 0xc0 | codepoint >> 6, 0x80 | (codepoint & 0x3f));
    return out;
}

int tiny_model_token(const char *wanted)
{
    char text[PIECE_SIZE];
    for (int id = 0; id < N_TOKENS; id++)
        if (strcmp(piece(id, text), wanted) == 0)
            return id;
    return -1;
}

static bool begin(const char *key, const char *without, int *keys)
{
    if (without && strcmp(key, without) == 0)
        return false;
    ++*keys;
    return true;
}

void tiny_vocab_put(struct gguf_writer *w, int listed, const char *pre, const char *chat_template,
                    const char *without, int *keys)
{
    char text[2 * PIECE_SIZE];
    if (begin("tokenizer.ggml.model", without, keys))
        gguf_put_key_string(w, "tokenizer.ggml.model", "gpt2");
    if (begin("tokenizer.ggml.pre", without, keys))
        gguf_put_key_string(w, "tokenizer.ggml.pre", pre ? pre : "qwen2");
    if (begin("tokenizer.ggml.tokens", without, keys)) {
        gguf_put_key_array(w, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)listed);
        for (int id = 0; id < listed; id++)
            gguf_put_string(w, piece(id, text));
    }
    if (begin("tokenizer.ggml.token_type", without, keys)) {
        gguf_put_key_array(w, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)listed);
        for (int id = 0; id < listed; id++)
            gguf_put_u32(w, type_of(id));
    }
    if (begin("tokenizer.ggml.merges", without, keys)) {
        gguf_put_key_array(w, "tokenizer.ggml.merges", GGUF_STRING, N_MERGES);
        for (int i = 0; i < N_MERGES; i++) {
            snprintf(text, sizeof text, "%s %s", merges[i][0], merges[i][1]);
            gguf_put_string(w, text);
        }
    }
    const struct {
        const char *key, *token;
    } ids[] = {
        {"tokenizer.ggml.eos_token_id", "<|im_end|>"},
        {"tokenizer.ggml.padding_token_id", "<|endoftext|>"},
        {"tokenizer.ggml.bos_token_id", "<|endoftext|>"},
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (begin(ids[i].key, without, keys))
            gguf_put_key_uint(w, ids[i].key, (uint32_t)tiny_model_token(ids[i].token));
    if (begin("tokenizer.ggml.add_bos_token", without, keys))
        gguf_put_key_bool(w, "tokenizer.ggml.add_bos_token", false);
    if (!chat_template)
        chat_template = chatml;
    if (*chat_template && begin("tokenizer.chat_template", without, keys))
        gguf_put_key_string(w, "tokenizer.chat_template", chat_template);
}
