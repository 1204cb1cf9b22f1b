/* hearth render: conversations to prompts, as text or as ids. */
#include "commands.h"
#include "lines.h"
#include "session.h"
#include "text.h"

struct rendering {
    struct session session; /* no model where there is a source */
    char *source;           /* of --template; owned */
    bool ids;
};

static int answer(void *user, const json_t *in, json_t **out, struct err *e)
{
    const struct rendering *r = user;
    struct rendered rendered = {0};
    int status;
    if (!json_is_object(in))
        return err_set(e, ERR_INVALID, "a line must be a JSON object with \"messages\"");
    if (r->source) {
        char *text;
        status = engine_render_template(r->source, in, &text, e);
        if (status < 0)
            return status;
        *out = json_string(text);
        free(text);
    } else {
        status = engine_render(r->session.model, in, &rendered, e);
        if (status < 0)
            return status;
        *out = r->ids ? lines_ids(rendered.ids.ids, rendered.ids.n)
                      : json_stringn(rendered.text, rendered.length);
        engine_rendered_free(&rendered);
    }
    return *out ? 0 : err_set(e, ERR_NOMEM, "no memory for the answer");
}

int command_render(const struct options *o)
{
    struct err e;
    struct rendering r = {.ids = option_flag(o, OPTION_IDS)};
    const char *path = option_text(o, OPTION_TEMPLATE);
    int status;
    if (path && r.ids)
        status = err_set(&e, ERR_INVALID, "--ids needs a model's tokenizer: -m MODEL instead of --template");
    else if (path)
        status = text_read_file(path, 1 << 20, &r.source, NULL, &e);
    else
        status = session_open(&r.session, o, 1, &e);
    status = status < 0 ? text_fail(&e) : lines_run(answer, &r);
    session_close(&r.session);
    free(r.source);
    return status;
}
