/* A device that fails now and then: the requests of that step fail with its words, later ones are answered. The
 * linker puts the function below before the device's own. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../../engine/log.h"
#include "../../../kernels/device.h"
#include "../../support/answers.h"
#include "../../support/tiny_model.h"

int __real_commands_wait(struct commands *, struct err *);
int __wrap_commands_wait(struct commands *, struct err *);

static atomic_int good_steps = -1; /* before one that fails; negative: all are good */

int __wrap_commands_wait(struct commands *c, struct err *err)
{
    int rc = __real_commands_wait(c, err);
    if (good_steps < 0 || good_steps-- > 0) return rc;
    return err_set(err, ERR_DEVICE, "the device stumbled");
}

static struct err err;

static struct answer *ask(struct engine *engine, struct model *model, uint64_t seed, int max_tokens)
{
    static const int32_t prompt[] = {5, 90, 33, 61, 7};
    struct engine_request q = answer_request(model, prompt, 5, max_tokens);
    q.ignore_eos = true;
    q.sampling.temperature = 1;
    q.sampling.seed = seed;
    struct answer *a = answer_create();
    answer_submit(a, engine, q);
    return a;
}

static void run(int in_flight)
{
    char path[64];
    struct engine *engine;
    struct model *model;
    snprintf(path, sizeof path, "/tmp/hearth-stumble-%d.gguf", (int)getpid());
    struct tiny_model_options tiny = {.seed = 5};
    struct engine_options options = {.device = "reference", .threads = 1, .in_flight = in_flight, .parallel = 2};
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
    cr_assert_eq(engine_load(engine, path, NULL, &model, &err), 0, "%s", err.text);
    unlink(path);

    struct answer *good = ask(engine, model, 1, 20);
    cr_assert(answer_wait(good, engine, 60));
    for (int steps = 0; steps < 12; steps++) {
        good_steps = steps;
        struct answer *a = ask(engine, model, 2, 400), *b = ask(engine, model, 3, 400);
        cr_assert(answer_wait(a, engine, 60));
        cr_assert(answer_wait(b, engine, 60));
        cr_expect(a->failed || b->failed, "after %d good steps", steps);
        const struct answer *failed = a->failed ? a : b;
        cr_expect_eq(failed->end.err.code, ERR_DEVICE);
        cr_expect_str_eq(failed->end.err.text, "the device stumbled");
        free(a);
        free(b);
        struct answer *after = ask(engine, model, 1, 20);
        cr_assert(answer_wait(after, engine, 60));
        cr_expect_arr_eq(after->choice[0].ids, good->choice[0].ids, 20 * sizeof(int32_t));
        free(after);
    }
    struct engine_status status;
    engine_status(engine, &status);
    cr_expect_eq(status.kv_blocks_used, 0);
    free(good);
    good_steps = 2;
    free(ask(engine, model, 4, 400)); /* closing with a failure under way */
    engine_close(engine);
    good_steps = -1;
}

Test(device_errors, one_step_at_a_time, .timeout = 120)
{
    log_set_level(LOG_WARNING);
    run(1);
}

Test(device_errors, steps_queued, .timeout = 120)
{
    log_set_level(LOG_WARNING);
    run(2);
}
