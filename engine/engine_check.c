/* The door to check/: a file and a text become a comparison. */
#include <stdlib.h>
#include <string.h>

#include "check/check.h"
#include "engine_private.h"

#define TOKENS_MAX (1 << 16)

static const char own_prompt[] = "A blacksmith heats the iron until it glows, counts to 7, then strikes it "
                                 "twice; sparks fly over the stone floor.";

int engine_check(const struct engine_options *options, const struct engine_check *check,
                 struct engine_check_result *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    if (check->tokens < 0 || check->tokens > TOKENS_MAX)
        return err_set(err, ERR_INVALID, "the number of tokens must be between 0 and %d", TOKENS_MAX);
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, ERR_NOMEM, "out of memory for a model");
    struct ids prompt = {0};
    enum activations activations = ACTIVATIONS_AUTO;
    const char *text = check->prompt ? check->prompt : own_prompt;
    enum dtype kv_type = 0;
    int rc = engine_choose_activations(options->activations, &activations, err);
    if (rc == 0)
        rc = engine_choose_kv_type(options->kv_type, &kv_type, err);
    if (rc == 0)
        rc = gguf_open(&m->gguf, check->path, err);
    if (rc == 0)
        rc = model_read_tokenizer(m, err);
    if (rc == 0)
        rc = engine_tokenize(m, text, strlen(text), TOKENIZE_BOS, &prompt, err);
    if (rc == 0 && (prompt.n == 0 || prompt.n > TOKENS_MAX))
        rc = err_set(err, ERR_INVALID, "the prompt has %zu tokens; 1 to %d are possible", prompt.n,
                     TOKENS_MAX);
    if (rc == 0) {
        struct check_options o = {
            .device = {.name = options->device, .isa = options->isa, .threads = options->threads,
                       .activations = activations, .kv_type = kv_type},
            .gguf = m->gguf,
            .prompt = prompt.ids,
            .n_prompt = (int)prompt.n,
            .tokens = check->tokens,
            .row = check->row,
            .user = check->user,
        };
        rc = check_run(&o, out, err);
    }
    free(prompt.ids);
    model_free(m);
    return rc;
}
