/* Prefixes that are computed before anybody asks for them. */
#include <stdlib.h>
#include <string.h>

#include "engine_private.h"
#include "log.h"

struct pinning {
    struct runner *runner;
    const struct engine_scale *scales;
    size_t n_scales;
    const int32_t *ids;
    int n;
};

static int pin(void *argument, struct device *device, struct err *err)
{
    struct pinning *p = argument;
    (void)device;
    return runner_pin(p->runner, p->scales, p->n_scales, p->ids, p->n, err);
}

/* A conversation of a system message and something of the user's, as ids. */
static int render(const struct model *m, const char *system, const char *user, struct rendered *out,
                  struct err *err)
{
    json_t *input = json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "messages", "role", "system", "content", system,
                              "role", "user", "content", user);
    if (!input) return err_set(err, ERR_INVALID, "the text is not UTF-8");
    int rc = engine_render(m, input, out, err);
    json_decref(input);
    return rc;
}

int engine_warm(struct engine *e, struct model *m, const char *system, struct err *err)
{
    struct rendered a = {0}, b = {0};
    int rc = render(m, system, "A", &a, err);
    if (!rc) rc = render(m, system, "B", &b, err);
    if (rc) goto done;
    /* Where two conversations part, the user begins; only whole blocks are shared. */
    size_t n = 0, block = (size_t)runner_facts(m->runner)->block_tokens;
    while (n < a.ids.n && n < b.ids.n && a.ids.ids[n] == b.ids.ids[n]) n++;
    n -= n % block;
    if (n == 0) {
        rc = err_set(err, ERR_INVALID, "fewer than %zu tokens are not worth keeping", block);
        goto done;
    }
    struct engine_scale scales[ADAPTERS_MAX];
    size_t n_scales = adapters_scales(&m->adapters, scales);
    struct engine_request q = {.model = m, .prompt = a.ids.ids, .n_prompt = n, .scales = scales, .n_scales = n_scales,
                               .sampling = {.top_p = 1,
                               .repetition_penalty = 1}, .priority = TURN_PRIORITIES, .warm = true};
    uint64_t id;
    rc = engine_submit(e, &q, &id, err);
    if (rc) goto done;
    struct pinning p = {m->runner, scales, n_scales, a.ids.ids, (int)n};
    rc = worker_call(e->worker, pin, &p, err);
    if (!rc) log_info("warming a prefix of %zu tokens", n);

done:
    engine_rendered_free(&a);
    engine_rendered_free(&b);
    return rc;
}
