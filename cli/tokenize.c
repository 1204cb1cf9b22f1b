/* hearth tokenize: strings to token ids. */
#include "commands.h"
#include "lines.h"
#include "session.h"
#include "text.h"

struct tokenizing {
    struct session session;
    unsigned flags;
};

static int answer(void *user, const json_t *in, json_t **out, struct err *e)
{
    const struct tokenizing *t = user;
    if (!json_is_string(in))
        return err_set(e, ERR_INVALID, "a line must be a JSON string");
    struct ids ids;
    int status =
        engine_tokenize(t->session.model, json_string_value(in), json_string_length(in), t->flags, &ids, e);
    if (status < 0)
        return status;
    *out = lines_ids(ids.ids, ids.n);
    free(ids.ids);
    return *out ? 0 : err_set(e, ERR_NOMEM, "no memory for the ids");
}

int command_tokenize(const struct options *o)
{
    struct err e;
    struct tokenizing t = {.flags = option_flag(o, OPTION_PLAIN) ? TOKENIZE_PLAIN : TOKENIZE_SPECIAL};
    int status = session_open(&t.session, o, 1, &e) < 0 ? text_fail(&e) : lines_run(answer, &t);
    session_close(&t.session);
    return status;
}
