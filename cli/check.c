/* hearth check: does this device compute what the reference computes? */
#include <string.h>

#include "commands.h"
#include "session.h"
#include "text.h"

enum { EXIT_DIVERGES = 1, EXIT_COULD_NOT_RUN = 2 };

struct printing {
    const char *model;
    const char *pass; /* the last one printed */
};

static void print_head(const struct printing *p, const struct engine_check_result *r)
{
    printf("%s: %s (%s) beside the plain C reference; a prompt of %d tokens\n"
           "Errors are relative to the root mean square of the reference's row. \"Every operator alone\": "
           "each gets\n"
           "the reference's input, so that no error is carried over.\n",
           p->model, r->device, r->description, r->prompt_tokens);
}

static void print_row(void *user, const struct engine_check_result *result, const struct engine_check_row *r)
{
    struct printing *p = user;
    char worst[16] = "";
    if (!p->pass)
        print_head(p, result);
    if (!p->pass || strcmp(p->pass, r->pass))
        printf("\n%-32s %8s %10s %9s %10s %9s  %s\n", r->pass, "compared", "max", "bound", "RMS", "bound",
               "worst layer");
    p->pass = r->pass;
    if (r->worst_layer >= 0)
        snprintf(worst, sizeof worst, "%d", r->worst_layer);
    printf("  %-30s %8d %10.2g %9.2g %10.2g %9.2g  %-11s  %s\n", r->stage, r->compared, r->max, r->max_bound,
           r->rms, r->rms_bound, worst, r->ok ? "ok" : "DIVERGES");
    fflush(stdout);
}

static int print_end(const struct engine_check_result *r)
{
    if (r->tokens) {
        printf("\n%d greedy tokens, the reference's fed back: %d agree", r->tokens, r->agreed);
        if (r->close)
            printf(", %d differ where the reference's best is less than %.3g ahead", r->close, r->margin);
        printf("\n");
    }
    printf(r->ok ? "\ncheck: passed\n" : "\ncheck: FAILED at %s\n", r->failure);
    return r->ok ? 0 : EXIT_DIVERGES;
}

int command_check_device(const struct options *o)
{
    struct err e;
    char *path = NULL;
    const struct catalogue_model *known = NULL;
    struct engine_options engine;
    struct engine_check_result result;
    int status = session_model_path(o, &path, &known, &e);
    session_engine_options(o, &engine);
    if (status == 0) {
        struct printing printing = {.model = known ? known->name : text_base_name(path)};
        struct engine_check check = {.path = path,
                                     .prompt = option_text(o, OPTION_TEXT),
                                     .tokens = (int)option_integer(o, OPTION_TOKENS),
                                     .row = print_row,
                                     .user = &printing};
        status = engine_check(&engine, &check, &result, &e);
    }
    free(path);
    if (status < 0) {
        text_fail(&e);
        return EXIT_COULD_NOT_RUN;
    }
    return print_end(&result);
}
